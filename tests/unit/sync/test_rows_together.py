"""Many rows are built at once: they are the changes that they are when built one by one, and no personal field stays."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from google.protobuf.message import Message
from his160.v1 import common_pb2

from his_db.access import HisAccess
from his_db.compiled_watch import CompiledWatch
from his_db.engine import SourceSettings
from his_db.generation import compile_generation
from his_db.mapping.load import load_mapping_set
from his_db.source import Source
from sync.capture import Batch, contents
from sync.captures.snapshot_diff import SnapshotDiff
from sync.clock import utc_now
from sync.outbox import Outbox
from sync.store import open_store
from sync.watcher import Watcher
from tests.bench.packs import ZONE

ROWS = 330
WATCH = """
schema = 1
watch = "orders"
subject = "appointment"
key = "appointment_id"
platform_operators = ["jk160"]
sql = "SELECT id, order_no, state, operator, patient_name, visit_date, fee, cancelled FROM reg"
fields = [
  { to = "appointment_id", column = "id" },
  { to = "order_no", column = "order_no" },
  { to = "state", column = "state" },
  { to = "operator_id", column = "operator" },
  { to = "patient_name", column = "patient_name" },
  { to = "visit_date", column = "visit_date", date = "%Y-%m-%d" },
  { to = "total_fen", column = "fee", money = "yuan" },
  { to = "cancel_time", column = "cancelled", datetime = "%Y-%m-%d %H:%M:%S" },
]
[[event]]
kind = "CANCELLED"
when = "state: BOOKED -> CANCELLED"
occurred = "cancel_time"
"""
"""The column of the name is personal: nobody may find it in a change, a row that is kept, or an event."""
TABLE = """
CREATE TABLE reg (id TEXT, order_no TEXT, state TEXT, operator TEXT, patient_name TEXT, visit_date TEXT, fee REAL,
  cancelled TEXT)
"""
UNSUPPORTED = 'schema = 1\noperation = "PaymentService.RefundPayment"\nkind = "unsupported"\nwhy = "窗口退费"\n'


@pytest.fixture
def his(tmp_path: Path) -> Path:
    (tmp_path / "mappings").mkdir()
    (tmp_path / "mappings" / "orders.toml").write_text(WATCH, encoding="utf-8")
    (tmp_path / "mappings" / "refund.toml").write_text(UNSUPPORTED, encoding="utf-8")
    path = tmp_path / "his.db"
    with closing(sqlite3.connect(path)) as his, his:
        his.execute(TABLE)
        his.executemany(
            "INSERT INTO reg VALUES (?, ?, 'BOOKED', 'jk160', ?, '2026-11-24', 25.5, NULL)",
            [(f"a{number}", f"T{number}", f"王{number}") for number in range(ROWS)],
        )
    return path


def change_all(path: Path) -> None:
    with closing(sqlite3.connect(path)) as his, his:
        his.execute("UPDATE reg SET state = 'CANCELLED', operator = NULL, cancelled = '2026-11-24 09:30:00'")


def spoil(path: Path) -> None:
    """A code that nobody knows, a day that is none, and a key that two different rows have."""
    with closing(sqlite3.connect(path)) as his, his:
        his.execute("UPDATE reg SET state = '?' WHERE id = 'a3'")
        his.execute("UPDATE reg SET visit_date = '2026-02-30' WHERE id = 'a140'")
        his.execute(
            "INSERT INTO reg SELECT id, order_no, 'BOOKED', '9', '', visit_date, 1, NULL FROM reg WHERE id = 'a7'"
        )


@asynccontextmanager
async def watching(folder: Path, store_name: str) -> AsyncIterator[tuple[SnapshotDiff, Watcher]]:
    mappings = load_mapping_set(folder / "mappings", sources={"his": "sqlite"}, timezone=ZONE)
    source = Source(SourceSettings(name="his", engine="sqlite", database=str(folder / "his.db")))
    store = open_store(folder / store_name, utc_now)
    try:
        access = HisAccess({"his": source}, compile_generation(mappings))
        diff = SnapshotDiff(access, store, "orders", clock=utc_now)
        yield diff, Watcher(diff, store, Outbox(store, utc_now), site="H1", clock=utc_now)
    finally:
        await store.close()
        await source.close()


def told(batch: Batch) -> object:
    changes = [change._replace(since=None) for change in batch.changes]
    return batch.rows, batch.unreadable, changes, [contents(change) for change in changes]


async def seen(folder: Path, store_name: str, *, spoiled: bool) -> object:
    async with watching(folder, store_name) as (diff, watcher):
        assert (await watcher.poll_once()).baseline
        change_all(folder / "his.db")
        if spoiled:
            spoil(folder / "his.db")
        batch = await diff.poll()
        for change in batch.changes:
            assert isinstance(change.after, common_pb2.Appointment)
            assert not change.after.patient_name
            assert "王".encode() not in (contents(change)[0] or b"") + (contents(change)[1] or b"")
            assert change.content == change.after.SerializeToString(deterministic=True)
        return told(batch)


def restore(path: Path) -> None:
    with closing(sqlite3.connect(path)) as his, his:
        his.execute("DELETE FROM reg WHERE operator = '9'")
        his.execute("UPDATE reg SET state = 'BOOKED', operator = 'jk160', cancelled = NULL, visit_date = '2026-11-24'")


@pytest.mark.parametrize("spoiled", [False, True])
async def test_the_same_changes_as_one_by_one(
    tmp_path: Path, his: Path, monkeypatch: pytest.MonkeyPatch, spoiled: bool
) -> None:
    together: list[int] = []
    build_all = CompiledWatch.build_all

    def counted(watch: CompiledWatch, rows: Sequence[tuple[object, ...]]) -> Sequence[Message] | None:
        found = build_all(watch, rows)
        together.append(len(found or ()))
        return found

    monkeypatch.setattr(CompiledWatch, "build_all", counted)
    found = await seen(tmp_path, "together.db", spoiled=spoiled)
    # 330 rows, a hundred at a time, twice; those among which one is not right, and the second look at it, apart.
    assert together.count(100) == (3 + 1 if spoiled else 6)
    restore(his)
    monkeypatch.setattr(CompiledWatch, "build_all", lambda *_: None)
    assert await seen(tmp_path, "apart.db", spoiled=spoiled) == found


async def test_events_and_rows_of_a_mass_change_hold_nothing_personal(tmp_path: Path, his: Path) -> None:
    async with watching(tmp_path, "state.db") as (_, watcher):
        await watcher.poll_once()
        change_all(his)
        assert (await watcher.poll_once()).events == ROWS
        assert (await watcher.poll_once()).events == 0
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("state.db*"))
    assert kept.count(b"T329")
    assert "王".encode() not in kept
    with closing(sqlite3.connect(tmp_path / "state.db")) as store:
        assert store.execute(
            "SELECT count(*), count(DISTINCT event_id), count(DISTINCT lane) FROM events"
        ).fetchone() == (
            ROWS,
            ROWS,
            ROWS,
        )
        assert store.execute("SELECT count(*) FROM events WHERE due IS NULL").fetchone() == (0,)
