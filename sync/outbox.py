"""The outbox: events on their way to 160, in order for each order number, never dropped.

An event waits while an earlier one of its lane is not acked: pending, waiting for its next try, or dead. A dead event
parks its own lane only.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from his160.v1 import event_pb2

from sync.clock import Clock
from sync.store import EventCounts, EventRow, EventState, Store, Transaction


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waiting times that double from ``first`` to ``cap``; ``full jitter``: evenly spread between 0 and that."""

    first: timedelta = timedelta(seconds=1)
    cap: timedelta = timedelta(seconds=30)

    def limit(self, attempts: int) -> timedelta:
        """The longest wait after this many failures (1 or more)."""
        return min(self.cap, self.first * (1 << min(attempts - 1, 30)))

    def jittered(self, attempts: int, chance: Callable[[], float] = random.random) -> timedelta:
        return self.limit(attempts) * chance()


_EVENT_BACKOFF = Backoff(first=timedelta(seconds=1), cap=timedelta(minutes=5))


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """An event of the outbox as people see it: the event and how far it has come."""

    event: event_pb2.Event
    state: EventState
    attempts: int
    created_time: datetime
    next_time: datetime
    detail: str


def lane_of(event: event_pb2.Event) -> str:
    """What keeps its order among events: the order, or the session, or nothing but itself."""
    if event.order_no:
        return f"order:{event.order_no}"
    if event.appointment_id:
        return f"appointment:{event.appointment_id}"
    if event.schedule_id:
        return f"schedule:{event.schedule_id}"
    return f"event:{event.event_id}"


def append(transaction: Transaction, event: event_pb2.Event, now: datetime) -> bool:
    """Puts an event into the outbox as part of a unit; False when its id is there already."""
    payload = event.SerializeToString(deterministic=True)
    return transaction.events.append(event.event_id, lane_of(event), payload, now) is not None


class Outbox:
    """The outbox in a store. Methods raise StoreError; then nothing was kept."""

    def __init__(self, store: Store, clock: Clock, *, backoff: Backoff = _EVENT_BACKOFF) -> None:
        self._store = store
        self._clock = clock
        self._backoff = backoff
        self._listeners: list[Callable[[], None]] = []

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Has the listener called after events have come in (or came back to life); returns how to unsubscribe."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def appended(self) -> None:
        """Tells the listeners. Called by whoever committed a unit with ``append`` in it."""
        for listener in tuple(self._listeners):
            listener()

    async def append(self, events: Iterable[event_pb2.Event]) -> int:
        """Puts events in, in one commit; the number of new ones."""
        wanted = list(events)
        now = self._clock()
        added = await self._store.write(lambda transaction: sum(append(transaction, event, now) for event in wanted))
        if added:
            self.appended()
        return added

    async def pending(self, limit: int) -> Sequence[event_pb2.Event]:
        """Events to send now, by sequence, at most one of each lane."""
        now = self._clock()
        rows = await self._store.read(lambda transaction: transaction.events.pending(limit, now))
        return [_event(row) for row in rows]

    async def next_due(self) -> datetime | None:
        """When the next event may be sent; None when there is none."""
        return await self._store.read(lambda transaction: transaction.events.next_due())

    async def ack(self, event_ids: Collection[str]) -> int:
        """The other side has stored them; the number of those that were open until now. Unknown ids are ignored."""
        now = self._clock()
        acked = await self._store.write(lambda transaction: transaction.events.ack(event_ids, now))
        if acked:
            self.appended()  # the next event of the lane may go
        return acked

    async def settle(
        self,
        stored: Collection[str],
        rejected: Iterable[tuple[str, str]],
        retried: Iterable[tuple[str, str, timedelta | None]],
    ) -> None:
        """Writes down the receipts of one batch in one commit.

        ``rejected``: id and detail; ``retried``: id, detail, and how long to wait (None: the backoff of its attempts).
        """
        now = self._clock()
        dead, later = list(rejected), list(retried)

        def unit(transaction: Transaction) -> None:
            events = transaction.events
            events.ack(stored, now)
            for event_id, detail in dead:
                events.bury(event_id, detail, now)
            attempts = {row.event_id: row.attempts for row in events.get_many([entry[0] for entry in later])}
            for event_id, detail, wait in later:
                pause = self._backoff.limit(attempts.get(event_id, 0) + 1) if wait is None else wait
                events.retry_later(event_id, now + min(pause, self._backoff.cap), detail)

        await self._store.write(unit)

    async def list(self, state: EventState, limit: int = 200) -> Sequence[OutboxEvent]:
        """Events of a state by sequence, for people."""
        rows = await self._store.read(lambda transaction: transaction.events.listed(state, limit))
        return [_shown(row) for row in rows]

    async def retry(self, event_ids: Collection[str]) -> int:
        """Sends dead events again, with the same id; the number of them."""
        now = self._clock()
        revived = await self._store.write(lambda transaction: transaction.events.revive(event_ids, now))
        if revived:
            self.appended()
        return revived

    async def read_after(self, sequence: int, limit: int = 100) -> Sequence[event_pb2.Event]:
        """Events above a sequence that are kept and not dead, for a relay that dials in."""
        rows = await self._store.read(lambda transaction: transaction.events.after(sequence, limit))
        return [_event(row) for row in rows]

    async def counts(self) -> EventCounts:
        return await self._store.read(lambda transaction: transaction.events.counts())

    async def prune(self, keep: timedelta = timedelta(days=30)) -> int:
        """Deletes events acked longer ago than ``keep``. Nothing else is ever deleted."""
        before = self._clock() - keep
        return await self._store.write(lambda transaction: transaction.events.prune(before))


def _event(row: EventRow) -> event_pb2.Event:
    event = event_pb2.Event.FromString(row.payload)
    event.sequence = row.sequence
    return event


def _shown(row: EventRow) -> OutboxEvent:
    return OutboxEvent(_event(row), row.state, row.attempts, row.created_time, row.next_time, row.detail)
