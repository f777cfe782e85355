"""The outbox: events on their way to 160, in order for each order number, never dropped.

An event waits while an earlier one of its lane is not acked: pending, waiting for its next try, or dead. A dead event
parks its own lane only.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from his160.v1 import event_pb2

from sync.audit import Audit, as_json, masked
from sync.clock import Clock
from sync.redaction import without_personal
from sync.store import EventCounts, EventRow, EventState, NewEvent, Store, Transaction


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
    return lane_named(event.order_no, event.appointment_id, event.schedule_id, event.event_id)


def lane_named(order_no: str, appointment_id: str, schedule_id: str, event_id: str) -> str:
    """``lane_of`` an event with these."""
    if order_no:
        return lane_of_order(order_no)
    if appointment_id:
        return f"appointment:{appointment_id}"
    if schedule_id:
        return f"schedule:{schedule_id}"
    return f"event:{event_id}"


def lane_of_order(order_no: str) -> str:
    """The lane of an order's events."""
    return f"order:{order_no}"


def append(transaction: Transaction, event: event_pb2.Event, now: datetime) -> bool:
    """Puts an event into the outbox as part of a unit; False when its id is there already."""
    payload = event.SerializeToString(deterministic=True)
    return transaction.events.append(event.event_id, lane_of(event), payload, now) is not None


def append_all(transaction: Transaction, events: Iterable[event_pb2.Event], now: datetime) -> int:
    """Puts events in as part of a unit; the number of those that were not there. Cheaper than one by one."""
    wanted = [NewEvent(event.event_id, lane_of(event), event.SerializeToString(deterministic=True)) for event in events]
    return len(transaction.events.append_many(wanted, now))


def is_latest(transaction: Transaction, lane: str, payload: bytes) -> bool:
    """Whether the last event of the lane tells the very fact of this one: the same kind, of the same content."""
    row = transaction.events.latest_of(lane)
    if row is None:
        return False
    told, event = event_pb2.Event.FromString(row.payload), event_pb2.Event.FromString(payload)
    return (told.kind, told.appointment_after, told.schedule_after) == (
        event.kind,
        event.appointment_after,
        event.schedule_after,
    )


class Outbox:
    """The outbox in a store. Methods raise StoreError; then nothing was kept."""

    def __init__(
        self, store: Store, clock: Clock, *, backoff: Backoff = _EVENT_BACKOFF, audit: Audit | None = None
    ) -> None:
        self._store = store
        self._clock = clock
        self._backoff = backoff
        self._audit = audit or Audit(store, clock)
        self._listeners: list[Callable[[], None]] = []

    def over(self, store: Store) -> Outbox:
        """This outbox through another store before its own: the same events, the same listeners."""
        other = Outbox(store, self._clock, backoff=self._backoff, audit=self._audit)
        other._listeners = self._listeners
        return other

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Has the listener called after events have come in (or came back to life); returns how to unsubscribe."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def appended(self) -> None:
        """Tells the listeners. Called by whoever committed a unit with ``append`` in it."""
        for listener in tuple(self._listeners):
            listener()

    async def stamp(self) -> object | None:
        """``Store.stamp``: the same as before means that no event has come in, or back to life, since."""
        return await self._store.stamp()

    async def append(self, events: Iterable[event_pb2.Event]) -> int:
        """Puts events in, in one commit; the number of new ones."""
        wanted = list(events)
        now = self._clock()
        added = await self._store.write(lambda transaction: append_all(transaction, wanted, now))
        if added:
            self.appended()
        return added

    async def pending(self, limit: int) -> Sequence[event_pb2.Event]:
        """Events to send now, by sequence, at most one of each lane.

        No event ever waits for longer than the backoff's cap: one that is due later than that was put there by a clock
        that has been set back since, and leaves now.
        """
        now = self._clock()

        def unit(transaction: Transaction) -> Sequence[EventRow]:
            rows = transaction.events.pending(limit, now)
            if len(rows) < limit:
                late = transaction.events.due_after(limit - len(rows), now + self._backoff.cap)
                rows = sorted([*rows, *late], key=lambda row: row.sequence)
            return rows

        return [_event(row) for row in await self._store.read(unit)]

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
        if stored:
            self.appended()  # who waits for an acknowledgement hears of it; the next event of a lane may go

    async def list(self, state: EventState, limit: int = 200) -> Sequence[OutboxEvent]:
        """Events of a state by sequence, for people."""
        rows = await self._store.read(lambda transaction: transaction.events.listed(state, limit))
        return [_shown(row) for row in rows]

    async def retry(self, event_ids: Collection[str]) -> int:
        """Sends dead events again, with the same id; the number of them. A person's decision: it is in the audit."""
        now = self._clock()
        entry = self._audit.entry("outbox.retry", parameters=as_json(events=sorted(event_ids)))

        def unit(transaction: Transaction) -> int:
            dead = transaction.events.revive(event_ids, now)
            transaction.audit.append(replace(entry, result=f"{dead} events"), now)
            return dead

        revived = await self._store.write(unit)
        if revived:
            self.appended()
        return revived

    async def get(self, event_id: str) -> OutboxEvent | None:
        """One event, for people."""
        rows = await self._store.read(lambda transaction: transaction.events.get_many([event_id]))
        return _shown(rows[0]) if rows else None

    async def correct(self, event: event_pb2.Event, note: str) -> None:
        """Gives a dead event the content that a person wrote, and sends it again with the same id.

        The lane stays: what the event is about cannot be corrected, for the order of its lane hangs on it. Content (of
        free text its length) and note are in the audit. Raises ValueError for an event that is not dead, or that would
        change its lane.
        """
        now = self._clock()
        written = without_personal(event)
        written.sequence = 0  # the row's, not the event's
        payload = written.SerializeToString(deterministic=True)

        def unit(transaction: Transaction) -> None:
            rows = transaction.events.get_many([event.event_id])
            if not rows or rows[0].state is not EventState.DEAD:
                raise ValueError("only an event that was given up can be corrected")
            before = event_pb2.Event.FromString(rows[0].payload)
            if lane_of(written) != rows[0].lane or (written.site, written.kind) != (before.site, before.kind):
                raise ValueError("site, kind, order and session of an event cannot be corrected")
            transaction.events.correct(event.event_id, payload, now)
            said = as_json(event=event.event_id, note=note, before=masked(before), after=masked(written))
            entry = self._audit.entry(
                "outbox.correct",
                target=written.order_no or written.schedule_id,
                result="corrected",
                parameters=said,
                digest=hashlib.sha256(rows[0].payload + payload).digest(),
            )
            transaction.audit.append(entry, now)

        await self._store.write(unit)
        self.appended()

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
