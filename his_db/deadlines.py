"""Deadlines of many calls on one event loop, without a timer for each: nearly all calls end long before theirs.

A timer for each costs the loop more than the rest of a lane (its heap keeps cancelled ones). So deadlines that are
further away share a timer with all others of the same eighth of a second and pass up to so much later; near ones are
exact.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from functools import partial
from typing import Final, Generic, TypeVar

T = TypeVar("T", bound=Hashable)

_STEPS: Final = 8  # in a second
_NEAR: Final = 1.0  # seconds


class Deadlines(Generic[T]):
    """``passed`` is called in ``loop`` with what had not left in time. Instants are of one clock, in seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop, passed: Callable[[T], None]) -> None:
        self._loop = loop
        self._passed = passed
        self._steps: dict[int, set[T]] = {}

    def enter(self, item: T, at: float, *, now: float) -> Callable[[], None]:
        """Wait for ``at``; what is returned ends the waiting, in the loop, and may be called later than that."""
        if at - now < _NEAR:
            return self._loop.call_later(at - now, self._passed, item).cancel
        number = int(at * _STEPS) + 1
        step = self._steps.get(number)
        if step is None:
            step = self._steps[number] = set()
            self._loop.call_later(number / _STEPS - now, self._pass, number)
        step.add(item)
        return partial(step.discard, item)

    def _pass(self, number: int) -> None:
        for item in tuple(self._steps.pop(number)):
            self._passed(item)
