"""Waits that end together, and with them the polls of watches that have the same rhythm."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from sync.clock import in_step, wait_in_step
from tests.bounds import PATIENCE


@pytest.mark.parametrize("seconds", [0.5, 1.0, 30.0])
@pytest.mark.parametrize("now", [0.0, 12.3, 98765.4321])
def test_a_wait_is_an_eighth_early_or_late_at_most(now: float, seconds: float) -> None:
    assert abs(in_step(now, seconds) - now - seconds) <= seconds / 8 + 1e-6


def test_what_begins_at_nearly_one_time_ends_at_one_time_and_stays_together() -> None:
    """Twenty polls of three milliseconds each, one after the other, and then the wait for the next."""
    ends = {in_step(77.0 + number * 0.003, 1.0) for number in range(20)}
    assert len(ends) == 1
    (first,) = ends
    assert {in_step(first + number * 0.003, 1.0) for number in range(20)} == {first + 1.0}


def test_nothing_to_wait_for() -> None:
    assert in_step(5.0, 0.0) == 5.0


async def test_it_ends_with_the_time_or_the_event() -> None:
    event = asyncio.Event()
    await asyncio.wait_for(wait_in_step(event, timedelta(milliseconds=1)), PATIENCE)
    event.set()
    await asyncio.wait_for(wait_in_step(event, timedelta(hours=1)), PATIENCE)


async def test_waits_that_end_together_share_a_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    timers: list[float] = []
    call_at = loop.call_at

    def counted(when: float, *rest: Any, **more: Any) -> asyncio.TimerHandle:
        timers.append(when)
        return call_at(when, *rest, **more)

    monkeypatch.setattr(loop, "call_at", counted)
    monkeypatch.setattr(loop, "time", lambda: 77.0)  # so all of them begin at one time
    events = [asyncio.Event() for _ in range(20)]
    waits = [asyncio.create_task(wait_in_step(event, timedelta(seconds=1))) for event in events]
    await asyncio.sleep(0)
    assert timers == [78.0]
    events[0].set()
    await waits[0]
    assert not any(wait.done() for wait in waits[1:])  # a wake-up is of one alone
    waits[1].cancel()
    monkeypatch.setattr(loop, "time", lambda: 78.0)
    await asyncio.gather(*waits[2:])
    assert waits[1].cancelled()
    assert timers == [78.0]
