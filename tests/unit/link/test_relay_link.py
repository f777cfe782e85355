from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest

from agent.handler import Identity
from agent.link.answering import RegistryAnswerer
from agent.link.channel import LinkTarget
from agent.link.errors import LinkBroken
from agent.link.relay_link import RelayLink, RelayLinks
from agent.link.session import SessionSettings
from agent.link.timing import Timing
from tests.bounds import PATIENCE
from tests.unit.link.bench import FakeDispatcher


class Dial:
    """A relay that cannot be reached, and a clock that goes on by sleeping."""

    def __init__(self, dials: int) -> None:
        self.left = dials
        self.time = 0.0
        self.at: list[float] = []
        self.link: RelayLink | None = None

    def __call__(self, target: LinkTarget) -> grpc.aio.Channel:
        self.at.append(self.time)
        self.left -= 1
        if self.left == 0:
            assert self.link is not None
            self.link.stop()
        raise LinkBroken("unreachable", "nobody there")

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


def link(dial: Dial) -> RelayLink:
    target = LinkTarget("relay.test:443", Path("ca"), Path("certificate"), Path("key"))
    timing = Timing(monotonic=lambda: dial.time, sleep=dial.sleep, random=lambda: 0.999)
    answerer = RegistryAnswerer(FakeDispatcher(), Identity("relay", "test"))
    made = RelayLink(target, lambda: SessionSettings("S", "a", "1"), answerer, timing=timing, dial=dial)
    dial.link = made
    return made


async def test_the_schedule_of_dials(caplog: pytest.LogCaptureFixture) -> None:
    dial = Dial(40)
    kept = link(dial)
    await kept.run()
    waits = [later - sooner for sooner, later in zip(dial.at, dial.at[1:], strict=False)]
    assert waits[0] < 0.1
    assert max(waits) < 30
    assert waits[-1] > 29
    assert (kept.state.dials, kept.state.failures, kept.state.last_fault) == (40, 40, "unreachable")
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1, "one line for a night"


async def test_a_stop_does_not_wait_for_the_next_dial() -> None:
    dial = Dial(0)

    async def sleep_for_ever(seconds: float) -> None:
        await asyncio.Event().wait()

    dial.sleep = sleep_for_ever  # type: ignore[method-assign]
    kept = link(dial)
    links = RelayLinks([kept])
    running = asyncio.create_task(links.run())
    while not dial.at:
        await asyncio.sleep(0)
    links.stop()
    async with asyncio.timeout(PATIENCE):
        await running
    assert links.connected() == []
    assert kept.channel is None


def test_options_and_names() -> None:
    target = LinkTarget("10.1.2.3:443", Path(), Path(), Path(), authority="relay.91160.com")
    options = dict(target.options())
    assert options["grpc.ssl_target_name_override"] == "relay.91160.com"
    assert options["grpc.enable_http_proxy"] == 0  # the environment's proxies are nobody's wish
    assert target.relay_name == "relay.91160.com"
    bare = LinkTarget("[::1]:443", Path(), Path(), Path())
    assert bare.relay_name == "::1"
    by = bare.by(4711)
    assert (by.address, by.authority, by.relay_name) == ("127.0.0.1:4711", "::1", "::1")
