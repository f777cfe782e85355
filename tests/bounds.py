"""How long tests wait: a bound that is too short for a busy machine is a failure that says nothing.

What must happen at all is waited for with ``PATIENCE``: it costs nothing while all goes well. What must happen soon is
measured and judged by ``in_time``, which knows how busy the machine is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

T = TypeVar("T")

PATIENCE: Final = 120.0
"""Seconds within which whatever must happen has happened, on a machine that does twenty other things."""

_LOOK: Final = 0.005  # seconds between two looks at what tells nobody when it is so
_SPIN: Final = 0.05  # seconds of processor time
_SPARE: Final = 2.0  # several processes take part in what is measured, each with its own wait for a processor


async def until(condition: Callable[[], bool]) -> None:
    """Let the event loop turn until it is so; raises TimeoutError after ``PATIENCE``."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(_LOOK)


async def until_found(look: Callable[[], Awaitable[T]]) -> T:
    """The first answer that is not empty; raises TimeoutError after ``PATIENCE``."""
    async with asyncio.timeout(PATIENCE):
        while not (found := await look()):
            await asyncio.sleep(_LOOK)
    return found


def in_time(seconds: float, limit: float) -> bool:
    """Whether ``seconds`` are within ``limit`` on a machine that does nothing else. Of one that is busy more is
    allowed, as a piece of work takes longer there than the processor worked on it."""
    return seconds < limit or seconds < limit * _SPARE * _stretch()


def _stretch() -> float:
    """Seconds on the clock for a second of the processor's work, 1 or more."""
    wall, worked = time.monotonic(), time.thread_time()
    while (done := time.thread_time() - worked) < _SPIN:
        pass
    return max(1.0, (time.monotonic() - wall) / done)
