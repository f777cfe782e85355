"""Rows captured into the outbox: a mass change in the HIS, seen by the capture and committed as events, beside raw SQLite.

Half the rows of a table become cancelled at a window in one transaction; then one poll: read, compare, build, rules,
origin, ids, one local transaction for each chunk. The figure is changed rows a second of that poll. Raw: the very rows
that the poll has left in the store (event and row state), inserted into empty tables of the same shape by
``executemany``, in chunks of the same size, with WAL and ``synchronous = FULL``; and the same with the watch's SELECT
before it, which is the least that anybody could do.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from agent.memory import settle
from his_db.access import HisAccess
from his_db.engine import SourceSettings
from his_db.generation import compile_generation
from his_db.mapping.load import load_mapping_set
from his_db.source import Source
from sync.captures.fed import FedDiff
from sync.clock import utc_now
from sync.outbox import Outbox
from sync.store import NewEvent, RowState, Transaction, open_store
from sync.watcher import Watcher
from tests.bench.figures import Figure, middle, paired
from tests.bench.packs import ZONE

GROUP: Final = "a mass change, from the HIS into the outbox (SQLite)"
CHUNK: Final = 500  # as the watcher's
_WATCH: Final = """
schema = 1
watch = "orders"
subject = "appointment"
key = "appointment_id"
platform_operators = ["jk160"]
sql = '''SELECT id, order_no, state, operator, patient, session, ticket, queue_no, dept, dept_name, doctor, doctor_name,
  visit_date, fee, cancelled FROM reg'''
fields = [
  { to = "appointment_id", column = "id" },
  { to = "order_no", column = "order_no" },
  { to = "state", column = "state" },
  { to = "operator_id", column = "operator" },
  { to = "patient_id", column = "patient" },
  { to = "schedule_id", column = "session" },
  { to = "slot_id", column = "ticket" },
  { to = "queue_no", column = "queue_no" },
  { to = "department_id", column = "dept" },
  { to = "department_name", column = "dept_name" },
  { to = "doctor_id", column = "doctor" },
  { to = "doctor_name", column = "doctor_name" },
  { to = "visit_date", column = "visit_date", date = "%Y-%m-%d" },
  { to = "total_fen", column = "fee", money = "yuan" },
  { to = "cancel_time", column = "cancelled", datetime = "%Y-%m-%d %H:%M:%S" },
]
[[event]]
kind = "CANCELLED"
when = "state: BOOKED -> CANCELLED"
occurred = "cancel_time"
"""
_UNSUPPORTED: Final = 'schema = 1\noperation = "PaymentService.RefundPayment"\nkind = "unsupported"\nwhy = "窗口退费"\n'
_TABLE: Final = """
CREATE TABLE reg (id TEXT PRIMARY KEY, order_no TEXT, state TEXT, operator TEXT, patient TEXT, session TEXT, ticket TEXT,
  queue_no INTEGER, dept TEXT, dept_name TEXT, doctor TEXT, doctor_name TEXT, visit_date TEXT, fee REAL, cancelled TEXT)
"""
_CANCEL: Final = (
    "UPDATE reg SET state = 'CANCELLED', operator = '0931', cancelled = '2026-11-24 09:30:00' WHERE rowid <= ?"
)
_SHAPES: Final = "SELECT sql FROM sqlite_master WHERE tbl_name IN ('events', 'his_rows') AND sql IS NOT NULL"


def measure(folder: Path, rows: int, rounds: int) -> list[Figure]:
    """``rows`` change, of twice as many, ``rounds`` times; raw and ours in turn."""
    folder.mkdir(parents=True)
    found: list[Mapping[str, float]] = []
    for number in range(rounds):
        place = folder / str(number)
        make(place, rows)
        captured = asyncio.run(capture(place, rows))
        raw, least = raw_inserts(place, rows)
        kept, work = asyncio.run(put(place, rows))
        found.append({**captured, "raw": raw, "least": least, "kept": kept, "kept work": work})
    rates = [one["captured"] for one in found]
    value, noise = middle(rates)
    bases = tuple(
        paired(name, rates, [one[key] for one in found])
        for name, key in (("raw SQLite inserts", "raw"), ("raw SELECT and inserts", "least"))
    )
    more = {
        "µs of processor a row": middle([one["processor"] for one in found])[0],
        "longest turn of the loop ms": middle([one["pause"] for one in found])[0],
    }
    whole = Figure(GROUP, "rows captured into the outbox", value, "rows/s", {"changes": rows}, bases, more, noise)
    rates = [one["kept"] for one in found]
    value, noise = middle(rates)
    base = (paired("raw SQLite inserts", rates, [one["raw"] for one in found]),)
    more = {"µs of processor a row": middle([one["kept work"] for one in found])[0]}
    return [whole, Figure(GROUP, "of it: into the store", value, "rows/s", {"changes": rows}, base, more, noise)]


def make(place: Path, rows: int) -> None:
    """An HIS with twice ``rows`` booked orders, and its mapping."""
    (place / "mappings").mkdir(parents=True)
    (place / "mappings" / "orders.toml").write_text(_WATCH, encoding="utf-8")
    (place / "mappings" / "refund.toml").write_text(_UNSUPPORTED, encoding="utf-8")
    with closing(sqlite3.connect(place / "his.db")) as his, his:
        his.execute(_TABLE)
        his.executemany(f"INSERT INTO reg VALUES ({', '.join('?' * 15)})", (_row(number) for number in range(2 * rows)))


def _row(number: int) -> tuple[Any, ...]:
    return (
        f"{number:032X}", f"T1604403{number:012d}", "BOOKED", "jk160", f"{number % 5000:032X}", f"{number % 400:032X}",
        f"{number + 7:032X}", number % 40 + 1, f"{number % 21:04d}", "心血管内科门诊", f"{number % 126:04d}", "张医生",
        "2026-11-24", 25.0, None,
    )  # fmt: skip


async def capture(place: Path, rows: int) -> dict[str, float]:
    """Changed rows a second of the poll that sees them, microseconds of processor for each, and the longest turn of
    the event loop in milliseconds of processor: for that long calls have to wait.

    Raises AssertionError when not each has made its event.
    """
    settings = SourceSettings(name="his", engine="sqlite", database=str(place / "his.db"))
    mappings = load_mapping_set(place / "mappings", sources={"his": "sqlite"}, timezone=ZONE)
    source = Source(settings)
    store = open_store(place / "state.db", utc_now)
    try:
        his = HisAccess({"his": source}, compile_generation(mappings))
        diff = FedDiff(his, store, "orders", clock=utc_now)
        watcher = Watcher(diff, store, Outbox(store, utc_now), site="440305160", clock=utc_now)
        await watcher.poll_once()
        settle()  # as the agent has, once it serves
        with closing(sqlite3.connect(place / "his.db")) as window, window:
            window.execute(_CANCEL, (rows,))
        gaps: list[float] = [0.0]
        ticking = asyncio.ensure_future(_tick(gaps))
        await asyncio.sleep(0)
        started, worked = time.perf_counter(), time.process_time()
        poll = await watcher.poll_once()
        taken, work = time.perf_counter() - started, time.process_time() - worked
        ticking.cancel()
        if poll.events != rows:
            raise AssertionError(f"{poll.events} events of {rows} changes")
        return {"captured": rows / taken, "processor": work / rows * 1e6, "pause": max(gaps) * 1000}
    finally:
        await store.close()
        await source.close()


async def put(place: Path, rows: int) -> tuple[float, float]:
    """Rows a second, and microseconds of processor for each: the same events and states into a fresh store, by units as
    the watcher's."""
    with closing(sqlite3.connect(place / "state.db")) as kept:
        found = kept.execute("SELECT event_id, lane, payload FROM events").fetchall()
        events = [NewEvent(*row) for row in found]
        found = kept.execute("SELECT key, version, message FROM his_rows WHERE version = 2").fetchall()
        states = [RowState(*row, utc_now()) for row in found]
    store = open_store(place / "kept.db", utc_now)
    try:
        started, worked = time.perf_counter(), time.process_time()
        for at in range(0, rows, CHUNK):

            def unit(work: Transaction, at: int = at) -> int:
                work.rows.put_many("orders", states[at : at + CHUNK])
                return len(work.events.append_many(events[at : at + CHUNK], utc_now()))

            if await store.write(unit) != min(CHUNK, rows - at):
                raise AssertionError("an event was not new")
        return rows / (time.perf_counter() - started), (time.process_time() - worked) / rows * 1e6
    finally:
        await store.close()


async def _tick(gaps: list[float]) -> None:
    """What each turn of the event loop works, in seconds of processor, until cancelled: a busy machine does not count."""
    while True:
        before = time.thread_time()
        await asyncio.sleep(0.001)
        gaps.append(time.thread_time() - before)


def raw_inserts(place: Path, rows: int) -> tuple[float, float]:
    """Rows a second: the rows that the capture has stored, inserted raw; and with the watch's own SELECT before."""
    with closing(sqlite3.connect(place / "state.db")) as kept:
        shapes = [str(sql) for (sql,) in kept.execute(_SHAPES)]
        events = kept.execute("SELECT * FROM events").fetchall()
        states = kept.execute("SELECT * FROM his_rows WHERE version = 2").fetchall()
    if len(events) != rows or len(states) != rows:
        raise AssertionError("the store does not hold what was captured")
    with closing(sqlite3.connect(place / "raw.db", isolation_level=None)) as raw:
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute("PRAGMA synchronous = FULL")
        for sql in shapes:
            raw.execute(sql)
        started = time.perf_counter()
        for at in range(0, rows, CHUNK):
            raw.execute("BEGIN IMMEDIATE")
            _insert(raw, "events", events[at : at + CHUNK])
            _insert(raw, "his_rows", states[at : at + CHUNK])
            raw.execute("COMMIT")
        inserting = time.perf_counter() - started
    started = time.perf_counter()
    with closing(sqlite3.connect(place / "his.db")) as his:
        known = dict.fromkeys(row[0] for row in his.execute("SELECT * FROM reg"))
    reading = time.perf_counter() - started
    if len(known) != 2 * rows:
        raise AssertionError("the HIS does not hold what was made")
    return rows / inserting, rows / (inserting + reading)


def _insert(raw: sqlite3.Connection, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
    raw.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
