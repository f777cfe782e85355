"""The port to the agent's own durable state: command ledger, outbox, last known HIS rows.

Work is handed over as *units*: plain callables that get a ``Transaction`` and return a value. A unit sees all units
committed before it, is atomic, and may be run more than once before its one commit: it must touch nothing but the
transaction. When ``await write(unit)`` returns, the unit is on disk; when it raises, none of it is.

Implementations: ``sync/stores/*.py``, listed in ``sync/registry.py``; tables in ``sync/store_*.py``.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol, TypeVar, cast

from his160.v1 import reason_pb2

from sync.clock import Clock
from sync.registry import STORES, load

T = TypeVar("T")


class StoreError(Exception):
    """Base of the store's errors. The text holds no value of any row. Nothing of the unit was kept."""

    reason: reason_pb2.Reason.ValueType = reason_pb2.REASON_INTERNAL
    retry_after: timedelta | None = None


class StoreUnavailable(StoreError):
    """The disk is full, broken or busy. Nothing was kept; the store tries again by itself with the next unit."""

    # RESOURCE_EXHAUSTED with RetryInfo at the border: the caller sends the same again later.
    reason = reason_pb2.REASON_OVERLOADED
    retry_after = timedelta(seconds=5)


class StoreLocked(StoreError):
    """Another agent already works on this store."""


class StoreTooNew(StoreError):
    """The store was written by a newer version of the agent."""


class StoreCorrupt(StoreError):
    """The file is no store of this agent, or it is damaged. Restore it from the backup; do not delete it lightly."""


class StoreClosed(StoreError):
    """The store has been closed."""


class CommandState(enum.Enum):
    """How far a command has come. ``SENT`` found without a running command (after a crash) means ``UNKNOWN``."""

    SENT = "SENT"  # on disk before the HIS is asked
    DONE = "DONE"
    REJECTED = "REJECTED"  # the HIS said no; final
    UNKNOWN = "UNKNOWN"  # not known whether the HIS did it
    RETRYABLE = "RETRYABLE"  # certainly nothing happened; the same request may run again

    @property
    def is_open(self) -> bool:
        """Whether the HIS may or may not have done it."""
        return self in (CommandState.SENT, CommandState.UNKNOWN)


@dataclass(frozen=True, slots=True)
class CommandRow:
    """One command of the ledger.

    ``order_key`` is 160's order number, empty for a patient's record. ``natural_key`` is ``kind:value``, never a
    document number in clear. ``request`` is the request without personal data (with what the probe needs of it while
    the command is open), ``result`` the serialised answer of a DONE command. ``detail`` holds no personal data.
    ``finished_time``: when it ended; for UNKNOWN, since when the outcome is not known.
    """

    request_id: str
    operation: str
    payload_hash: bytes
    essence_hash: bytes
    order_key: str
    natural_key: str
    state: CommandState
    received_time: datetime
    sent_time: datetime
    attempt: int = 1
    probes: int = 0
    request: bytes = b""
    result: bytes = b""
    reason: int = 0
    detail: str = ""
    replay_of: str = ""
    mapping_revision: str = ""
    finished_time: datetime | None = None


class EventState(enum.Enum):
    """What became of an event of the outbox."""

    PENDING = "PENDING"
    ACKED = "ACKED"
    DEAD = "DEAD"  # refused for good; parks its lane until a person retries it


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event of the outbox. ``lane`` names what keeps its order; ``payload`` is a serialised his160 Event."""

    sequence: int
    event_id: str
    lane: str
    payload: bytes
    state: EventState
    attempts: int
    created_time: datetime
    next_time: datetime
    detail: str = ""
    finished_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class EventCounts:
    """``parked``: pending events that wait behind a dead one. ``oldest``: creation of the oldest pending event."""

    pending: int
    parked: int
    dead: int
    acked: int
    last_sequence: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class RowState:
    """Last known state of one HIS row. ``message`` is None for a row that is gone for good; its version lives on.

    ``changed_time``: when the agent saw the last change. ``absent``: the row is away, but nothing was made of it.
    """

    key: str
    version: int
    message: bytes | None
    changed_time: datetime
    absent: bool = False


@dataclass(frozen=True, slots=True)
class StreamRow:
    """A capture stream. Absent until its baseline is complete. ``cursor`` belongs to the strategy."""

    name: str
    baseline_time: datetime
    cursor: str = ""


class CommandTable(Protocol):
    """The ledger's rows."""

    def get(self, request_id: str) -> CommandRow | None: ...

    def put(self, row: CommandRow) -> None:
        """Inserts the row, or replaces the one with its request_id."""

    def open_of(self, order_key: str, natural_key: str) -> Sequence[CommandRow]:
        """Open rows of the order or of the natural key, oldest first. Empty keys match nothing."""

    def open(self, limit: int) -> Sequence[CommandRow]:
        """Open rows, those probed least first, then oldest first."""

    def done_by_natural_key(self, operation: str, natural_key: str) -> CommandRow | None:
        """The last DONE command of that operation and key that the HIS itself answered (no replay)."""

    def of_order(self, order_key: str) -> Sequence[CommandRow]:
        """All rows of an order, oldest first."""

    def listed(self, state: CommandState, limit: int) -> Sequence[CommandRow]:
        """Rows of a state, oldest first."""

    def interrupt_sent(self, now: datetime, detail: str) -> int:
        """Makes every SENT row UNKNOWN since ``now``; the number of them."""

    def counts(self) -> Mapping[CommandState, int]: ...

    def prune(self, before: datetime) -> int:
        """Deletes finished rows (never open ones) whose end lies before the time; the number of them."""


class EventTable(Protocol):
    """The outbox's rows."""

    def append(self, event_id: str, lane: str, payload: bytes, now: datetime) -> int | None:
        """The new row's sequence, or None when the event_id is there already (then nothing is changed)."""

    def pending(self, limit: int, now: datetime) -> Sequence[EventRow]:
        """Due events by sequence, at most one of each lane: the oldest one that is not acked."""

    def next_due(self) -> datetime | None:
        """When the next event that heads its lane is due; None when there is none."""

    def get_many(self, event_ids: Collection[str]) -> Sequence[EventRow]: ...

    def ack(self, event_ids: Collection[str], now: datetime) -> int:
        """The number of events that were not acked before."""

    def retry_later(self, event_id: str, next_time: datetime, detail: str) -> None: ...

    def bury(self, event_id: str, detail: str, now: datetime) -> None:
        """Makes a pending event DEAD."""

    def revive(self, event_ids: Collection[str], now: datetime) -> int:
        """Makes dead events pending and due; the number of them."""

    def after(self, sequence: int, limit: int) -> Sequence[EventRow]:
        """Events above the sequence that are not dead, by sequence."""

    def listed(self, state: EventState, limit: int) -> Sequence[EventRow]:
        """Events of a state by sequence."""

    def counts(self) -> EventCounts: ...

    def prune(self, before: datetime) -> int:
        """Deletes acked events whose ack lies before the time; the number of them."""


class RowTable(Protocol):
    """Last known HIS rows, by stream."""

    def stream(self, name: str) -> StreamRow | None: ...

    def put_stream(self, row: StreamRow) -> None: ...

    def get_many(self, stream: str, keys: Collection[str]) -> Mapping[str, RowState]: ...

    def all(self, stream: str) -> Sequence[RowState]:
        """Every row with a message. Tombstones are left out."""

    def put_many(self, stream: str, rows: Iterable[RowState]) -> None: ...

    def prune(self, before: datetime) -> int:
        """Deletes tombstones older than the time; the number of them."""


class Transaction(Protocol):
    """What a unit works on. In a read unit the changing methods raise StoreError."""

    @property
    def commands(self) -> CommandTable: ...

    @property
    def events(self) -> EventTable: ...

    @property
    def rows(self) -> RowTable: ...


class Store(Protocol):
    """The agent's durable state. Its methods are called from one event loop."""

    async def write(self, unit: Callable[[Transaction], T]) -> T:
        """Runs the unit and commits it (with others waiting) to disk.

        Raises what the unit raised (it alone is undone), StoreUnavailable when the commit failed, StoreClosed.
        Cancelling the caller does not take the unit back.
        """

    async def read(self, unit: Callable[[Transaction], T]) -> T:
        """Runs the unit on one snapshot of what is committed.

        Raises what the unit raised, StoreUnavailable, StoreClosed.
        """

    async def close(self) -> None:
        """Commits what waits, then frees the file and its lock. May be called twice."""


def open_store(path: Path | str, clock: Clock, *, kind: str = "sqlite", exclusive: bool = True) -> Store:
    """Opens the store, makes it when it is not there.

    ``exclusive``: this process is the agent; a second one is refused (StoreLocked). Tools for people pass False.
    Raises StoreLocked, StoreTooNew, StoreCorrupt, StoreUnavailable.
    """
    return cast(Store, load(STORES[kind])(Path(path), clock, exclusive=exclusive))
