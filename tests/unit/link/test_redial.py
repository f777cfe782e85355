from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.link.redial import Redial, RedialPolicy


def test_the_ceiling_doubles_up_to_the_cap() -> None:
    redial = Redial(RedialPolicy(), lambda: 1.0)
    assert [redial.delay() for _ in range(5)] == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert max(redial.delay() for _ in range(50)) == 30.0


def test_a_fresh_loss_is_dialled_within_a_second() -> None:
    redial = Redial(RedialPolicy(quick_attempts=20), lambda: 1.0)
    for _ in range(30):
        redial.delay()
    redial.established()
    redial.lost(stood=3600)
    delays = [redial.delay() for _ in range(20)]
    assert max(delays) == 1.0
    assert delays[0] == 0.1
    assert redial.delay() == 30.0, "the relay has been away for long: no hurry any more"


def test_a_relay_that_drops_at_once_is_not_hammered() -> None:
    redial = Redial(RedialPolicy(), lambda: 0.5)
    waits = []
    for _ in range(20):
        redial.established()
        redial.lost(stood=0.1)
        waits.append(redial.delay())
    assert waits[-1] == 0.5
    assert sum(waits) > 5


def test_later_is_later() -> None:
    assert Redial(RedialPolicy(), lambda: 0.0).later() == 15.0


@given(st.lists(st.sampled_from(["dial", "up", "lost"]), max_size=200), st.floats(0, 0.999))
def test_no_wait_is_ever_out_of_bounds(steps: list[str], chance: float) -> None:
    redial = Redial(RedialPolicy(), lambda: chance)
    for step in steps:
        if step == "dial":
            assert 0 <= redial.delay() <= 30
        elif step == "up":
            redial.established()
        else:
            redial.lost(10)
