"""The outbox as EventService shows it to a relay that dials in."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from his160.v1 import event_pb2

from agent.status import Counts
from sync.outbox import Outbox
from sync.store import CommandState, Store, Transaction

_LOOK_AGAIN: Final = timedelta(seconds=1)


class OutboxFeed:
    """Reads events of the outbox and acks them. Methods raise StoreError."""

    def __init__(self, outbox: Outbox, *, look_again: timedelta = _LOOK_AGAIN) -> None:
        """``look_again``: how long an event may stay unseen when the outbox tells nobody."""
        self._outbox = outbox
        self._look_again = look_again.total_seconds()
        self._changed = asyncio.Event()
        outbox.subscribe(self._wake)

    async def after(self, sequence: int, limit: int) -> Sequence[event_pb2.Event]:
        """Implements EventFeed."""
        return await self._outbox.read_after(sequence, limit)

    async def wait(self, sequence: int) -> None:
        """Implements EventFeed."""
        try:
            async with asyncio.timeout(self._look_again):
                await self._changed.wait()
        except TimeoutError:
            return

    async def ack(self, event_ids: Sequence[str]) -> int:
        """Implements EventFeed."""
        return await self._outbox.ack(event_ids)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


async def count(store: Store) -> Counts:
    """The figures of the store for the status. Raises StoreError."""

    def unit(work: Transaction) -> Counts:
        events, commands = work.events.counts(), work.commands.counts()
        unknown = commands.get(CommandState.UNKNOWN, 0)
        return Counts(events.pending, events.dead, unknown)

    return await store.read(unit)
