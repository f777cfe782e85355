"""Deadlines that share timers: never early, at most an eighth of a second late, near ones exact. Time is scripted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from his_db.deadlines import Deadlines


@dataclass
class Timer:
    at: float
    call: Callable[..., None]
    arguments: tuple[Any, ...]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class Loop:
    """``call_later`` of an event loop, and time that a test moves."""

    now: float = 0.0
    timers: list[Timer] = field(default_factory=list)

    def call_later(self, delay: float, call: Callable[..., None], *arguments: Any) -> Timer:
        timer = Timer(self.now + delay, call, arguments)
        self.timers.append(timer)
        return timer

    def run_until(self, end: float) -> None:
        while due := [timer for timer in self.timers if timer.at <= end]:
            timer = min(due, key=lambda item: item.at)
            self.timers.remove(timer)
            self.now = max(self.now, timer.at)
            if not timer.cancelled:
                timer.call(*timer.arguments)
        self.now = end


class Bench:
    def __init__(self, now: float = 0.0) -> None:
        self.loop = Loop(now)
        self.passed: list[tuple[str, float]] = []
        loop: Any = self.loop
        self.deadlines: Deadlines[str] = Deadlines(loop, lambda item: self.passed.append((item, self.loop.now)))

    def enter(self, item: str, at: float) -> Callable[[], None]:
        return self.deadlines.enter(item, at, now=self.loop.now)


@given(st.floats(0, 1e6), st.lists(st.floats(-1, 60), min_size=1, max_size=20))
def test_all_pass_and_none_too_early_or_too_late(now: float, waits: list[float]) -> None:
    bench = Bench(now)
    for at, wait in enumerate(waits):
        bench.enter(str(at), now + wait)
    bench.loop.run_until(now + 61)
    assert sorted(item for item, _ in bench.passed) == sorted(str(at) for at in range(len(waits)))
    for item, passed in bench.passed:
        late = passed - (now + waits[int(item)])
        assert -1e-6 <= late <= (1.0 if waits[int(item)] < 0 else 0.1251)


def test_far_ones_share_a_timer_and_near_ones_are_exact() -> None:
    bench = Bench()
    for at in range(100):
        bench.enter(f"far {at}", 10 + at / 1000)
    assert len(bench.loop.timers) == 1
    bench.enter("near", 0.3)
    bench.loop.run_until(1)
    assert bench.passed == [("near", pytest.approx(0.3))]


def test_who_has_left_does_not_pass() -> None:
    bench = Bench()
    leave = [bench.enter("far", 5.0), bench.enter("near", 0.5), bench.enter("other", 5.0)]
    leave[0]()
    leave[1]()
    bench.loop.run_until(6)
    assert [item for item, _ in bench.passed] == ["other"]
    for each in leave:
        each()  # late, and harmless


def test_one_that_leaves_because_another_passes() -> None:
    bench = Bench()
    leave: list[Callable[[], None]] = []
    loop: Any = bench.loop
    seen: list[str] = []

    def passed(item: str) -> None:
        seen.append(item)
        for each in leave:
            each()

    deadlines: Deadlines[str] = Deadlines(loop, passed)
    leave += [deadlines.enter("a", 5.0, now=0.0), deadlines.enter("b", 5.0, now=0.0)]
    bench.loop.run_until(6)
    assert sorted(seen) == ["a", "b"]  # both were due: whoever is told twice that a call ended does not mind
