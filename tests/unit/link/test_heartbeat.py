from __future__ import annotations

from collections.abc import Callable

import pytest

from agent.link.errors import LinkBroken
from agent.link.heartbeat import Heartbeat
from agent.link.timing import Timing


class FakeTime:
    """A clock that goes on by sleeping; ``on_sleep`` sees the new time."""

    def __init__(self) -> None:
        self.time = 100.0
        self.on_sleep: Callable[[float], None] = lambda _: None
        self.timing = Timing(monotonic=lambda: self.time, sleep=self.sleep, random=lambda: 0.5)

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        self.on_sleep(self.time)


async def test_silence_is_death_at_dead_after() -> None:
    fake, pings = FakeTime(), list[float]()
    heartbeat = Heartbeat(15, lambda _: pings.append(fake.time - 100), fake.timing)
    with pytest.raises(LinkBroken) as caught:
        await heartbeat.run()
    assert caught.value.fault == "silent"
    assert fake.time == 115
    assert pings == [0, 5, 10]


async def test_every_frame_is_a_sign_of_life() -> None:
    fake, pings = FakeTime(), list[int]()
    heartbeat = Heartbeat(15, pings.append, fake.timing)
    fake.on_sleep = lambda now: heartbeat.heard() if now <= 1100 else None
    with pytest.raises(LinkBroken):
        await heartbeat.run()
    assert fake.time == 1115
    assert pings == list(range(1, 204))


async def test_a_peer_with_less_patience_hears_more_pings() -> None:
    fake, pings = FakeTime(), list[float]()
    heartbeat = Heartbeat(15, lambda _: pings.append(fake.time - 100), fake.timing)
    heartbeat.hurry(0)
    heartbeat.hurry(-3)
    heartbeat.hurry(60)
    heartbeat.hurry(6)
    with pytest.raises(LinkBroken):
        await heartbeat.run()
    assert pings == [0, 2, 4, 6, 8, 10, 12, 14]
    assert fake.time == 115


async def test_doubt_comes_before_death() -> None:
    fake = FakeTime()
    heartbeat = Heartbeat(15, lambda _: None, fake.timing)
    await fake.sleep(7.5)
    assert not heartbeat.in_doubt
    await fake.sleep(0.1)
    assert heartbeat.in_doubt
    heartbeat.heard()
    assert not heartbeat.in_doubt
