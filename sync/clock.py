"""Time as this room sees it: injected, so that tests need no sleep and a jump of the clock can be played."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final
from weakref import WeakKeyDictionary

Clock = Callable[[], datetime]
"""The time now, aware, UTC."""

Wait = Callable[[asyncio.Event, timedelta], Awaitable[None]]
"""Returns when the event is set or the time has passed, whichever comes first. The event may be set either way."""


_STEPS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, dict[float, set[asyncio.Event]]]] = WeakKeyDictionary()
"""What waits in step, by the time of the loop at which its wait ends."""


def uptime() -> float:
    """Seconds since some beginning, which also pass while the process is frozen or the machine sleeps."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


def utc_now() -> datetime:
    """The machine's clock."""
    return datetime.now(UTC)


async def wait_for(event: asyncio.Event, limit: timedelta) -> None:
    """The real ``Wait``."""
    try:
        async with asyncio.timeout(limit.total_seconds()):
            await event.wait()
    except TimeoutError:
        return


async def wait_in_step(event: asyncio.Event, limit: timedelta) -> None:
    """A ``Wait`` that ends together with others of the same length (see ``in_step``), by one timer for all of them.

    When the time has passed it sets the event itself: clear it before the next look, as after any wake-up.
    """
    loop = asyncio.get_running_loop()
    end = in_step(loop.time(), limit.total_seconds())
    steps = _STEPS.setdefault(loop, {})
    waiting = steps.get(end)
    if waiting is None:
        waiting = steps[end] = set()
        loop.call_at(end, _end_step, steps, end)
    waiting.add(event)
    try:
        await event.wait()
    finally:
        waiting.discard(event)


def _end_step(steps: dict[float, set[asyncio.Event]], end: float) -> None:
    for event in steps.pop(end):
        event.set()


def in_step(now: float, seconds: float) -> float:
    """When a wait that begins now ends: at most an eighth of it early or late, at a time that others have too.

    Twenty watches of one rhythm then wake the process together; and what waits in turn with something short comes in
    the rhythm itself, not in the rhythm and that on top.
    """
    step = seconds / 4
    return round((now + seconds) / step) * step if step > 0 else now
