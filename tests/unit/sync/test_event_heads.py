"""Which events may leave: against a picture that is made anew after every step, and at a million."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import StaticPool

from agent.memory import resident_bytes
from sync.delivery import Delivery
from sync.outbox import Outbox
from sync.sink import Outcome, Receipt
from sync.store import EventState, open_store
from sync.store_events import SqlEventTable
from sync.store_schema import TABLES

NOW = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
WAITING = int(os.environ.get("HIS160_QUEUED", "50000"))
LANES = "AB"


@dataclass(frozen=True)
class Row:
    """An event as the rules of the outbox know it."""

    name: str
    lane: str
    state: EventState
    next_time: datetime


@contextmanager
def table() -> Iterator[SqlEventTable]:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    with engine.connect() as connection:
        TABLES.create_all(connection)
        yield SqlEventTable(connection)
        connection.rollback()
    engine.dispose()


def heads(rows: Sequence[Row], now: datetime) -> list[str]:
    """By the rules: the first of a lane that is not acked, if it is pending and due."""
    found = []
    for row in rows:
        open_ones = [other for other in rows if other.lane == row.lane and other.state is not EventState.ACKED]
        if open_ones and open_ones[0] is row and row.state is EventState.PENDING and row.next_time <= now:
            found.append(row.name)
    return found


STEP = st.tuples(
    st.sampled_from(["append", "append", "ack", "later", "bury", "revive", "correct"]),
    st.integers(0, 7),
    st.sampled_from(LANES),
    st.integers(0, 3),
)


@settings(deadline=None, max_examples=50)
@given(st.lists(STEP, max_size=25))
def test_the_heads_of_lanes_are_always_right(steps: list[tuple[str, int, str, int]]) -> None:
    rows: list[Row] = []
    with table() as events:
        for number, (what, place, lane, seconds) in enumerate(steps):
            now = NOW + number * SECOND
            if what == "append":
                name = f"e{len(rows)}"
                events.append(name, lane, b"", now)
                rows.append(Row(name, lane, EventState.PENDING, now))
            elif place < len(rows):
                rows[place] = _done(events, what, rows[place], now, now + seconds * SECOND)
            later = now + 2 * SECOND
            for at in (now, later):
                assert [row.event_id for row in events.pending(100, at)] == heads(rows, at)
            future = {row.name: row for row in rows}
            due = [future[name].next_time for name in heads(rows, now + timedelta(days=1))]
            assert events.next_due() == min(due, default=None)
            counts = events.counts()
            dead = [row for row in rows if row.state is EventState.DEAD]
            pending = [row for row in rows if row.state is EventState.PENDING]
            parked = [r for r in pending if any(d.lane == r.lane and int(d.name[1:]) < int(r.name[1:]) for d in dead)]
            assert (counts.pending, counts.dead, counts.parked) == (len(pending), len(dead), len(parked))


def _done(events: SqlEventTable, what: str, row: Row, now: datetime, later: datetime) -> Row:
    if what == "ack":
        events.ack([row.name], now)
        return replace(row, state=EventState.ACKED)
    if what == "later" and row.state is EventState.PENDING:
        events.retry_later(row.name, later, "busy")
        return replace(row, next_time=later)
    if what == "bury" and row.state is EventState.PENDING:
        events.bury(row.name, "refused", now)
        return replace(row, state=EventState.DEAD)
    if what in ("revive", "correct") and row.state is EventState.DEAD:
        if what == "revive":
            events.revive([row.name], now)
        else:
            events.correct(row.name, b"x", now)
        return replace(row, state=EventState.PENDING, next_time=now)
    return row


def fill(path: Path, count: int, lanes: int, *, later: timedelta = timedelta(0)) -> None:
    """A store with many pending events, put in behind its back because that is quicker."""
    micro = int(NOW.timestamp() * 1_000_000)
    due = micro + int(later.total_seconds() * 1_000_000)
    rows = (
        (f"{n:032x}", f"order:{n % lanes}", b"\x0a\x20" + f"{n:032x}".encode() + b"\x12\x20" + b"x" * 32, micro, due,
         due if n < lanes else None)
        for n in range(count)
    )  # fmt: skip
    with closing(sqlite3.connect(path)) as connection:
        connection.executemany(
            "INSERT INTO events (event_id, lane, payload, state, attempts, created_time, next_time, detail, due)"
            " VALUES (?, ?, ?, 'PENDING', 0, ?, ?, '', ?)",
            rows,
        )
        connection.commit()


class Keeping:
    """A sink that stores everything."""

    name = "keeping"

    def __init__(self) -> None:
        self.ids: list[str] = []

    async def deliver(self, events: Sequence[object]) -> Sequence[Receipt]:
        ids = [event.event_id for event in events]  # type: ignore[attr-defined]
        self.ids += ids
        return [Receipt(event_id, Outcome.STORED) for event_id in ids]

    async def close(self) -> None:
        return


@pytest.mark.parametrize(
    ("lanes", "later"),
    [(WAITING, timedelta(0)), (10, timedelta(0)), (WAITING, timedelta(minutes=4)), (WAITING // 10, timedelta(0))],
    ids=["a lane each", "few lanes", "none due", "ten in a lane"],
)
async def test_many_queued_events_begin_to_leave_at_once(lanes: int, later: timedelta, tmp_path: Path) -> None:
    """However many wait, and however they are spread: what a look costs does not grow with them, nor does memory.

    The cost is counted in steps of SQLite's machine: a clock would count the neighbours on this computer.
    """
    path = tmp_path / "state.db"
    await open_store(path, lambda: NOW).close()
    fill(path, WAITING, lanes, later=later)
    before = resident_bytes()
    store = open_store(path, lambda: NOW)
    outbox, sink = Outbox(store, lambda: NOW), Keeping()
    delivery = Delivery(outbox, sink, clock=lambda: NOW)  # type: ignore[arg-type]
    for _ in range(5):
        await delivery.deliver_once()
        await outbox.next_due()
    assert len(sink.ids) == (0 if later else 5 * min(200, lanes))
    assert resident_bytes() - before < 20 * 1024 * 1024
    await store.close()
    for look in ("pending", "due_after", "next_due"):
        assert steps_of(path, look) < 20_000
    again = open_store(path, lambda: NOW)
    backlog = await again.read(lambda work: work.events.backlog())
    assert backlog.pending == WAITING - len(sink.ids)
    await again.close()


def steps_of(path: Path, look: str) -> int:
    """Instructions that SQLite runs for one look at the outbox, in thousands' accuracy."""
    count = 0

    def tick() -> int:
        nonlocal count
        count += 1
        return 0

    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        driver = _driver(connection)
        driver.set_progress_handler(tick, 1000)
        events = SqlEventTable(connection)
        if look == "pending":
            events.pending(200, NOW)
        elif look == "due_after":
            events.due_after(200, NOW + timedelta(minutes=5))
        else:
            events.next_due()
        driver.set_progress_handler(None, 0)
    engine.dispose()
    return count * 1000


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver
