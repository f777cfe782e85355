"""The outbox as EventService shows it to a relay that dials in."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from his160.v1 import event_pb2

from agent.status import Counts
from sync.outbox import Outbox
from sync.store import CommandState, Store, Transaction


class OutboxFeed:
    """Reads events of the outbox and acks them. Methods raise StoreError."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._changed = asyncio.Event()
        outbox.subscribe(self._wake)

    def change(self) -> asyncio.Event:
        """Implements EventFeed."""
        return self._changed

    async def after(self, sequence: int, limit: int) -> Sequence[event_pb2.Event]:
        """Implements EventFeed."""
        return await self._outbox.read_after(sequence, limit)

    async def ack(self, event_ids: Sequence[str]) -> int:
        """Implements EventFeed."""
        return await self._outbox.ack(event_ids)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


async def count(store: Store) -> Counts:
    """The figures of the store for the status. Raises StoreError."""

    def unit(work: Transaction) -> Counts:
        events, commands = work.events.backlog(), work.commands.counts()
        unknown = commands.get(CommandState.UNKNOWN, 0)
        refunds = {state.value: count for state, count in work.refunds.counts().items()}
        return Counts(events.pending, events.dead, unknown, refunds, work.trades.unconfirmed())

    return await store.read(unit)
