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
from typing import NamedTuple, Protocol, TypeVar, cast

from his160.v1 import reason_pb2

from sync.audit_archive import ArchivePack
from sync.audit_chain import Anchor, AuditEntry, AuditRow
from sync.clock import Clock
from sync.key_lock import Locks
from sync.lease_term import LeaseTable, Renewals
from sync.money_book import PaymentNoticeTable, RefundTable, SequenceTable, SettlementTable, TradeTable
from sync.notice import NoticeRow, SubjectRow
from sync.registry import STORES, load
from sync.report_book import ReportTable
from sync.watch_control import WatchControlTable

T = TypeVar("T")
PRUNED_AT_ONCE = 2000
"""Rows of a table deleted in one unit: commands must not wait behind the broom."""


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


class LeaseLost(StoreError):
    """The work belongs to the agent that has the lease of the site, and that is another one now. Nothing was kept."""

    reason = reason_pb2.REASON_HIS_BUSY
    retry_after = timedelta(seconds=2)


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
    ``finished_time``: when it ended; for UNKNOWN, since when the outcome is not known. ``parent``: request_id of the
    command that this row is a step of, named by ``step``; empty for a command of its own, and then ``step`` names the
    saga that it runs as, empty for a single statement.
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
    parent: str = ""
    step: str = ""


@dataclass(frozen=True, slots=True)
class CommandFilter:
    """Which rows of the ledger: all that is given must hold. ``states`` empty: any. ``operation`` may be the part
    behind the service. ``since`` and ``until`` are of the time a row was received. ``steps``: with those of sagas."""

    states: frozenset[CommandState] = frozenset()
    order_key: str = ""
    operation: str = ""
    since: datetime | None = None
    until: datetime | None = None
    steps: bool = False
    limit: int = 50


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


class NewEvent(NamedTuple):
    """An event that is to go into the outbox."""

    event_id: str
    lane: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is on its way. ``oldest``: creation of the oldest pending event."""

    pending: int
    dead: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class EventCounts:
    """``parked``: pending events that wait behind a dead one. ``oldest``: creation of the oldest pending event."""

    pending: int
    parked: int
    dead: int
    acked: int
    last_sequence: int
    oldest: datetime | None


class RowState(NamedTuple):
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
        """Open commands of the order or of the natural key, oldest first, no steps. Empty keys match nothing."""

    def open(self, limit: int) -> Sequence[CommandRow]:
        """Open commands, those probed least first, then oldest first; no steps: they belong to an open command."""

    def done_by_natural_key(self, operation: str, natural_key: str) -> CommandRow | None:
        """The last DONE command of that operation and key that the HIS itself answered (no replay, no step)."""

    def of_order(self, order_key: str) -> Sequence[CommandRow]:
        """All rows of an order, steps among them, oldest first."""

    def steps_of(self, request_id: str) -> Sequence[CommandRow]:
        """The steps of a command, of all its attempts, oldest first."""

    def has_natural_key(self, natural_key: str) -> bool:
        """Whether any row has the number."""

    def of_natural_keys(self, natural_keys: Collection[str]) -> Sequence[CommandRow]:
        """All rows with one of the numbers, steps among them, oldest first."""

    def listed(self, state: CommandState, limit: int) -> Sequence[CommandRow]:
        """Commands of a state, oldest first; no steps."""

    def search(self, wanted: CommandFilter) -> Sequence[CommandRow]:
        """Rows that a person looks for, the newest of them, oldest first."""

    def interrupt_sent(self, now: datetime, detail: str) -> int:
        """Makes every SENT row UNKNOWN since ``now``; the number of them."""

    def counts(self) -> Mapping[CommandState, int]:
        """Commands by state; steps are not counted."""

    def prune(self, before: datetime, limit: int = PRUNED_AT_ONCE) -> int:
        """Deletes finished commands (never open ones) whose end lies before the time, with their steps; how many."""


class EventTable(Protocol):
    """The outbox's rows."""

    def append(self, event_id: str, lane: str, payload: bytes, now: datetime) -> int | None:
        """The new row's sequence, or None when the event_id is there already (then nothing is changed)."""

    def append_many(self, events: Sequence[NewEvent], now: datetime) -> Collection[str]:
        """Puts in those whose event_id is not there yet, in their order; the ids of these."""

    def pending(self, limit: int, now: datetime) -> Sequence[EventRow]:
        """Due events, at most one of each lane: its oldest that is not acked. Those due for longest, by sequence."""

    def due_after(self, limit: int, time: datetime) -> Sequence[EventRow]:
        """Events that head their lane and are due later than the time."""

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

    def correct(self, event_id: str, payload: bytes, now: datetime) -> bool:
        """Gives a dead event another content and makes it pending and due; False when it is not dead."""

    def latest_of(self, lane: str) -> EventRow | None:
        """The newest event of a lane, whatever its state."""

    def of_lane(self, lane: str, limit: int) -> Sequence[EventRow]:
        """The newest events of a lane, by sequence."""

    def created(self, since: datetime, until: datetime, limit: int) -> Sequence[EventRow]:
        """Events of a span of time, by sequence. Looks at every event."""

    def after(self, sequence: int, limit: int) -> Sequence[EventRow]:
        """Events above the sequence that are not dead, by sequence."""

    def listed(self, state: EventState, limit: int) -> Sequence[EventRow]:
        """Events of a state by sequence."""

    def backlog(self) -> Backlog:
        """Costs what is on its way, however much was acked."""

    def counts(self) -> EventCounts:
        """Looks at every event."""

    def prune(self, before: datetime, limit: int = PRUNED_AT_ONCE) -> int:
        """Deletes acked events whose ack lies before the time, at most ``limit``; the number of them."""


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


class AuditTable(Protocol):
    """The audit chain: rows are added at its end and never changed. See ``sync/audit_chain.py``."""

    def append(self, entry: AuditEntry, time: datetime) -> None:
        """Puts the entry into the chain when the unit's transaction ends: only later units see it."""

    def after(self, sequence: int, limit: int) -> Sequence[AuditRow]:
        """Rows above the sequence, oldest first."""

    def newest(self, limit: int, *, action: str = "", target: str = "", actor: str = "") -> Sequence[AuditRow]:
        """The last rows, oldest first; only those whose action begins so, of that target, of that actor."""

    def head(self) -> Anchor:
        """The last row, as written down apart from it."""

    def pruned(self) -> Anchor:
        """The last row that was moved into the archive because of its age."""

    def prune(self, before: datetime, limit: int = PRUNED_AT_ONCE) -> int:
        """Moves the beginning of the chain up to the first row that is young into the archive, at most ``limit`` rows;
        how many."""

    def archived(self, sequence: int) -> ArchivePack | None:
        """The pack that holds the row behind ``sequence``, or the first one behind it; None: there is none."""

    def dropped(self) -> Anchor:
        """The last row that is in the archive no more, because of its age."""

    def drop(self, before: datetime, limit: int = PRUNED_AT_ONCE) -> int:
        """Deletes the beginning of the archive, as far as all of a pack is older, ``limit`` rows or a little more."""


class NoticeTable(Protocol):
    """What windows have told, and the orders and sessions it is about."""

    def get(self, request_id: str) -> NoticeRow | None: ...

    def add(self, notice: NoticeRow, subjects: Sequence[SubjectRow]) -> None:
        """Inserts both."""

    def subjects(self, request_id: str) -> Sequence[SubjectRow]: ...

    def open_of(self, subject: str) -> Sequence[SubjectRow]:
        """Those of an order or session that the HIS does not show yet, oldest first."""

    def open_among(self, subjects: Collection[str]) -> Collection[str]:
        """Those of the orders and sessions for which ``open_of`` finds something."""

    def open(self, limit: int) -> Sequence[SubjectRow]:
        """All that the HIS does not show yet, oldest first."""

    def settle(self, subject: SubjectRow) -> None:
        """Keeps its event, when it was seen, and whether it was given up."""

    def prune(self, before: datetime) -> int:
        """Deletes notices older than the time that wait for nothing; the number of them."""


class Transaction(Protocol):
    """What a unit works on. In a read unit the changing methods raise StoreError."""

    @property
    def commands(self) -> CommandTable: ...

    @property
    def events(self) -> EventTable: ...

    @property
    def rows(self) -> RowTable: ...

    @property
    def settlements(self) -> SettlementTable: ...

    @property
    def refunds(self) -> RefundTable: ...

    @property
    def trades(self) -> TradeTable: ...

    @property
    def payment_notices(self) -> PaymentNoticeTable: ...

    @property
    def sequences(self) -> SequenceTable: ...

    @property
    def notices(self) -> NoticeTable: ...

    @property
    def leases(self) -> LeaseTable: ...

    @property
    def audit(self) -> AuditTable: ...

    @property
    def watch_controls(self) -> WatchControlTable: ...

    @property
    def reports(self) -> ReportTable: ...


class Store(Protocol):
    """The agent's durable state. Its methods are called from one event loop."""

    @property
    def identity(self) -> str:
        """Lasting id, given when the store was made; a copy has the same."""

    async def write(self, unit: Callable[[Transaction], T]) -> T:
        """Runs the unit and commits it (with others waiting) to disk.

        Raises what the unit raised (it alone is undone), StoreUnavailable when the commit failed, StoreClosed.
        Cancelling the caller does not take the unit back.
        """

    async def read(self, unit: Callable[[Transaction], T]) -> T:
        """Runs the unit on one snapshot of what is committed.

        Raises what the unit raised, StoreUnavailable, StoreClosed.
        """

    async def stamp(self) -> object | None:
        """Equal to an earlier one only when nobody, in any process, has committed anything since; None: cannot be told.

        Costs far less than a unit, for who looks again and again. Raises StoreUnavailable, StoreClosed.
        """

    def locks(self) -> Locks:
        """Locks by name among all agents that work on the store. Raises StoreError for a store opened by a tool."""

    def renewals(self) -> Renewals:
        """A way to renew leases that waits for no writer. Raises StoreError for a store that has one agent only."""

    async def close(self) -> None:
        """Commits what waits, then frees the file and its lock. May be called twice."""


def open_store(place: Path | str, clock: Clock, *, exclusive: bool = True) -> Store:
    """Opens the store at a path (SQLite) or a url (``postgresql://…``), makes it when it is not there.

    ``exclusive``: this process is an agent; a second one on a file is refused (StoreLocked). Tools for people pass
    False. Raises StoreLocked, StoreTooNew, StoreCorrupt, StoreUnavailable.
    """
    kind = "postgresql" if str(place).startswith("postgresql://") else "sqlite"
    return cast(Store, load(STORES[kind])(place, clock, exclusive=exclusive))
