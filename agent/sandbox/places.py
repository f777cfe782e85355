"""The calls that an agent works on at once, as its Settings say: one too many waits here, in the order of arrival."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agent.precedence import places


class Places:
    """``limit`` 0: no limit was said. For one event loop."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._waiting: dict[bool, deque[asyncio.Future[None]]] = {True: deque(), False: deque()}

    @asynccontextmanager
    async def one(self, *, urgent: bool) -> AsyncIterator[None]:
        """A place, as soon as there is one. Urgent calls go before the others, and may take the last places."""
        await self._take(urgent)
        try:
            yield
        finally:
            self._taken -= 1
            self._hand_on()

    async def _take(self, urgent: bool) -> None:
        if not self._limit or (not self._waiting[urgent] and self._is_free(urgent)):
            self._taken += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[urgent].append(turn)
        try:
            await turn  # whoever hands it on counts the place as taken
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._taken -= 1
                self._hand_on()
            raise

    def _is_free(self, urgent: bool) -> bool:
        return self._taken < places(self._limit, urgent=urgent)

    def _hand_on(self) -> None:
        for urgent in (True, False):
            waiting = self._waiting[urgent]
            while waiting and self._is_free(urgent):
                turn = waiting.popleft()
                if not turn.done():
                    self._taken += 1
                    turn.set_result(None)
