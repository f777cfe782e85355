from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent.config import RelaySettings
from agent.link.session import SessionSettings
from agent.link.wiring import relay_links
from tests.unit.link.bench import FakeDispatcher

RELAY = RelaySettings(
    enabled=True,
    addresses=("10.0.0.1:443", "10.0.0.2:443"),
    certificate=Path("agent.pem"),
    key=Path("agent.key"),
    ca=Path("ca.pem"),
    authority="relay.example.com",
    http_proxy="",
    redial_first=timedelta(seconds=0.1),
    redial_most=timedelta(seconds=30),
    dead_after=timedelta(seconds=15),
    calls=32,
)


def said() -> SessionSettings:
    return SessionSettings("S", "a", "1")


async def test_one_link_for_each_address() -> None:
    links = relay_links(RELAY, said, FakeDispatcher())
    assert [link.address for link in links.links] == ["10.0.0.1:443", "10.0.0.2:443"]
    assert links.connected() == []


async def test_switched_off_and_incomplete() -> None:
    assert relay_links(replace(RELAY, enabled=False), said, FakeDispatcher()).links == ()
    with pytest.raises(ValueError, match="certificate files"):
        relay_links(replace(RELAY, key=None), said, FakeDispatcher())
