from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from agent.config import load_settings
from agent.link.errors import LinkBroken
from agent.link.heartbeat import Heartbeat
from agent.link.redial import RedialPolicy
from agent.link.session import SessionSettings
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


def test_what_issue_5_asks_for_is_the_default(tmp_path: Path) -> None:
    """Seen within 15 s, which the tests above count; dialled again within 1 s while the loss is fresh."""
    (tmp_path / "mappings").mkdir()
    config = tmp_path / "config.toml"
    source = 'source.his = { engine = "sqlite", database = "his.db" }'
    server = 'server = { enabled = true, insecure = true, listen = "127.0.0.1:0" }'
    config.write_text(
        f'site.code = "440305001"\nmapping.path = "mappings"\n{source}\n{server}\ndelivery.sink = "pull"\n',
        encoding="utf-8",
    )
    relay = load_settings(config, {}).relay
    assert relay.dead_after == timedelta(seconds=15)
    assert SessionSettings("s", "i", "v").dead_after == relay.dead_after
    assert relay.redial_first <= timedelta(seconds=RedialPolicy().quick_cap)
    assert RedialPolicy().quick_cap == 1.0
    assert RedialPolicy().quick_attempts >= 60
