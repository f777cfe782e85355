"""Time as this room sees it: injected, so that tests need no sleep and a jump of the clock can be played."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]
"""The time now, aware, UTC."""

Wait = Callable[[asyncio.Event, timedelta], Awaitable[None]]
"""Returns when the event is set or the time has passed, whichever comes first."""


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
