"""The watch while its HIS, the way there, or its own disk fail: nothing is missed, nothing is told that did not happen.

Real PostgreSQL and SQLite, a real proxy, a real small disk. docs/reliability.md says which cases these are.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from his160.v1 import event_pb2

from his_db.access import HisAccess
from his_db.engine import SourceSettings
from his_db.errors import HisError
from his_db.generation import compile_generation
from his_db.mapping.load import load_mapping_set
from his_db.source import Source
from sync.capture import CaptureSuspended
from sync.captures.fed import FedDiff
from sync.outbox import Outbox
from sync.store import StoreUnavailable
from sync.stores.sqlite import SqliteStore
from sync.watcher import Watcher
from tests.bounds import PATIENCE
from tests.integration.patterns import AN_OPERATION, Clock, watch_file
from tests.servers import PostgresqlServer, administrate
from tests.tcp_proxy import TcpProxy

ORDERS = range(1, 41)
FIELDS = {
    "appointment_id": "id",
    "order_no": "order_no",
    "state": "state",
    "patient_id": "id",
    "schedule_id": "id",
    "note": "note",
}
SQL = "SELECT id, order_no, state, note FROM reg"
RULES = ["CANCELLED: state: BOOKED|new -> CANCELLED"]
FEEDS = {
    "D": "",
    "xmin": '[[feed]]\nrung = "xmin"\ntable = "reg"\nkey = "id"\n',
    "cursor": '[[feed]]\nrung = "cursor"\ntable = "reg"\nkey = "id"\ncolumn = "stamp"\nmargin = "0s"\n',
}
QUICK = timedelta(milliseconds=200)


class Watched:
    """A watch on a table ``reg`` of a real HIS, and the events it makes."""

    def __init__(self, settings: SourceSettings, store: SqliteStore, folder: Path, feed: str = "D") -> None:
        self.clock = Clock()
        self.seconds = 0.0
        self.settings, self.store, self.folder = settings, store, folder
        (folder / "mappings").mkdir(exist_ok=True)
        (folder / "mappings" / "watch.toml").write_text(
            watch_file(SQL, FIELDS, RULES, more='reconcile = "1h"') + FEEDS[feed], encoding="utf-8"
        )
        (folder / "mappings" / "refund.toml").write_text(AN_OPERATION, encoding="utf-8")
        mappings = load_mapping_set(folder / "mappings", sources={"his": settings.engine}, timezone="Asia/Shanghai")
        self.source = Source(settings, None)
        self.his = HisAccess({"his": self.source}, compile_generation(mappings), clock=self.clock)
        self.outbox = Outbox(store, self.clock)
        self.capture = FedDiff(self.his, store, "orders", clock=self.clock, monotonic=lambda: self.seconds)
        self.watcher = Watcher(self.capture, store, self.outbox, site="H1", clock=self.clock)

    async def told(self) -> list[str]:
        events = await self.outbox.read_after(0, 1000)
        assert all(event.kind == event_pb2.EVENT_KIND_CANCELLED for event in events)
        return [event.order_no for event in events]

    async def until_told(self, count: int) -> list[str]:
        """Poll, as the watcher's loop does without its pauses, until so many events are there, and once more."""
        async with asyncio.timeout(PATIENCE):
            while len(await self.told()) < count:
                await self.watcher._step()
                await asyncio.sleep(0.01)
        await self.watcher._step()
        return await self.told()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "state.db", Clock())
    yield opened
    await opened.close()


@pytest.fixture(scope="module")
def tables(postgresql_module_database: SourceSettings) -> SourceSettings:
    """The database with the table, made once; ``table`` fills it anew."""
    columns = "id INTEGER PRIMARY KEY, order_no VARCHAR(20), state VARCHAR(20), note VARCHAR(40), stamp TIMESTAMP(6)"
    administrate(postgresql_module_database, [f"CREATE TABLE reg ({columns})"])
    return postgresql_module_database


@pytest.fixture
def connect(tables: SourceSettings, postgresql_server: PostgresqlServer) -> Iterator[Callable[[], psycopg.Connection]]:
    """A connection of the HIS's own program, with the table as it is before each test."""

    def connected() -> psycopg.Connection:
        return postgresql_server.connect(tables.database)

    with connected() as first:
        first.execute("TRUNCATE reg")
        first.cursor().executemany(
            "INSERT INTO reg VALUES (%s, %s, 'BOOKED', '', clock_timestamp() AT TIME ZONE 'Asia/Shanghai')",
            [(n, f"T{n}") for n in ORDERS],
        )
    yield connected
    with connected() as last:
        last.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.fixture
def window(connect: Callable[[], psycopg.Connection]) -> Iterator[psycopg.Connection]:
    with connect() as connection:
        yield connection


def cancel(window: psycopg.Connection, number: int) -> None:
    window.execute(
        "UPDATE reg SET state = 'CANCELLED', stamp = clock_timestamp() AT TIME ZONE 'Asia/Shanghai' WHERE id = %s",
        (number,),
    )


@asynccontextmanager
async def watched(
    settings: SourceSettings, store: SqliteStore, folder: Path, feed: str = "D"
) -> AsyncIterator[Watched]:
    made = Watched(settings, store, folder, feed)
    try:
        assert (await made.watcher.poll_once()).baseline
        yield made
    finally:
        await made.source.close()


@contextmanager
def through_proxy(server: PostgresqlServer, settings: SourceSettings) -> Iterator[tuple[TcpProxy, SourceSettings]]:
    with TcpProxy(server.wire) as proxy:
        yield (
            proxy,
            replace(
                settings,
                host="127.0.0.1",
                port=proxy.port,
                connect_timeout=QUICK,
                statement_timeout=QUICK,
                lock_timeout=QUICK,
                options={**settings.options, "sslmode": "disable", "gssencmode": "disable"},
            ),
        )


FAULTS: dict[str, Callable[[TcpProxy], None]] = {
    "cut": lambda proxy: proxy.cut(),
    "half-open": lambda proxy: proxy.stall("both"),
    "blackhole up": lambda proxy: proxy.stall("up"),
    "blackhole down": lambda proxy: proxy.stall("down"),
    "slow": lambda proxy: proxy.slow(1500),
    "corrupt up": lambda proxy: proxy.corrupt("up"),
    "corrupt down": lambda proxy: proxy.corrupt("down"),
}


@pytest.mark.parametrize(
    ("fault", "feed"), [*((fault, "D") for fault in FAULTS), ("cut", "xmin"), ("half-open", "xmin")]
)
async def test_a_way_to_the_his_that_fails(
    fault: str, feed: str, tables: SourceSettings, postgresql_server: PostgresqlServer, window: psycopg.Connection,
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Whatever the wire does, a poll ends in time, and what changed meanwhile is told once when it is well again."""
    monkeypatch.setattr(
        "his_db.engines.postgresql.HANG_MARGIN", QUICK
    )  # it is five seconds; waiting shows nothing more
    with through_proxy(postgresql_server, tables) as (proxy, settings):
        async with watched(settings, store, tmp_path, feed) as made:
            cancel(window, 1)
            assert await made.until_told(1) == ["T1"]
            FAULTS[fault](proxy)
            cancel(window, 2)
            async with asyncio.timeout(PATIENCE):
                await made.watcher._step()
            told = await made.told()
            assert told in (["T1"], ["T1", "T2"])  # a poll that came through all the same
            proxy.heal()
            cancel(window, 3)
            assert sorted(await made.until_told(3)) == ["T1", "T2", "T3"]
            assert made.watcher.status.state == "running"


@pytest.mark.parametrize("feed", FEEDS)
async def test_sessions_that_the_server_kills(
    feed: str, tables: SourceSettings, window: psycopg.Connection, store: SqliteStore, tmp_path: Path
) -> None:
    """An idle kill, a failover, a restart: all sessions are gone, and connecting is refused for a while."""
    async with watched(tables, store, tmp_path, feed) as made:
        cancel(window, 1)
        assert await made.until_told(1) == ["T1"]
        for number in (2, 3):
            window.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            cancel(window, number)
            assert sorted(await made.until_told(number)) == [f"T{n}" for n in range(1, number + 1)]
        assert made.watcher.status.state == "running"


async def test_a_lock_of_the_his_makes_us_wait_and_costs_nothing(
    tables: SourceSettings, window: psycopg.Connection, store: SqliteStore, tmp_path: Path
) -> None:
    """The HIS holds the table exclusively: our poll gives way; a cancellation committed with the lock is seen then."""
    async with watched(replace(tables, lock_timeout=QUICK, statement_timeout=QUICK), store, tmp_path) as made:
        window.execute("BEGIN")
        window.execute("LOCK TABLE reg IN ACCESS EXCLUSIVE MODE")
        cancel(window, 5)
        with pytest.raises(HisError):
            await made.watcher.poll_once()
        assert await made.told() == []
        window.execute("COMMIT")
        assert await made.until_told(1) == ["T5"]


@pytest.mark.parametrize("feed", ["D", "xmin"])
async def test_a_table_that_is_emptied_and_filled_again(
    feed: str, tables: SourceSettings, window: psycopg.Connection, store: SqliteStore, tmp_path: Path
) -> None:
    """TRUNCATE, an import: the stream stops and says so; when the rows are back only what really changed is told."""
    async with watched(tables, store, tmp_path, feed) as made:
        window.execute("CREATE TEMP TABLE kept AS SELECT * FROM reg")
        window.execute("TRUNCATE reg")
        made.seconds = 4000.0  # the reconciler's turn
        with pytest.raises(CaptureSuspended):
            await made.watcher.poll_once()
        assert await made.told() == []
        window.execute("UPDATE kept SET state = 'CANCELLED' WHERE id = 7")
        window.execute("INSERT INTO reg SELECT * FROM kept")
        assert await made.until_told(1) == ["T7"]


@pytest.mark.parametrize("feed", FEEDS)
async def test_a_mass_update_of_what_nobody_reads(
    feed: str, tables: SourceSettings, window: psycopg.Connection, store: SqliteStore, tmp_path: Path
) -> None:
    async with watched(tables, store, tmp_path, feed) as made:
        window.execute("UPDATE reg SET stamp = clock_timestamp() AT TIME ZONE 'Asia/Shanghai'")
        cancel(window, 9)
        assert await made.until_told(1) == ["T9"]
        assert made.watcher.status.changes - len(ORDERS) == 1


@pytest.mark.parametrize("feed", ["D", "xmin"])
async def test_a_his_that_was_restored_to_yesterday(
    feed: str, tables: SourceSettings, window: psycopg.Connection, store: SqliteStore, tmp_path: Path
) -> None:
    """States go backwards: no event says so, and what is cancelled again afterwards is told again, as a fact of its own."""
    async with watched(tables, store, tmp_path, feed) as made:
        window.execute("CREATE TEMP TABLE backup AS SELECT * FROM reg")
        cancel(window, 1)
        assert await made.until_told(1) == ["T1"]
        window.execute("BEGIN")
        window.execute("DELETE FROM reg")
        window.execute("INSERT INTO reg SELECT * FROM backup")
        window.execute("COMMIT")
        await made.watcher.poll_once()
        made.seconds = 4000.0
        await made.watcher.poll_once()
        assert await made.told() == ["T1"]
        assert made.watcher.status.strange == 1  # CANCELLED -> BOOKED is no way that an order goes
        cancel(window, 1)
        cancel(window, 2)
        assert sorted(await made.until_told(3)) == ["T1", "T1", "T2"]
        ids = {event.event_id for event in await made.outbox.read_after(0)}
        assert len(ids) == 3


async def test_a_column_that_goes_and_comes_back(
    tables: SourceSettings, window: psycopg.Connection, store: SqliteStore, tmp_path: Path
) -> None:
    """A HIS patch under a running watch: its stream fails aloud, keeps what it knows, and goes on when it can."""
    async with watched(tables, store, tmp_path) as made:
        window.execute("ALTER TABLE reg RENAME COLUMN state TO zt")
        window.execute("UPDATE reg SET zt = 'CANCELLED' WHERE id = 3")
        for _ in range(2):
            await made.watcher._step()
        assert made.watcher.status.state == "failing"
        assert made.watcher.status.last_error
        window.execute("ALTER TABLE reg RENAME COLUMN zt TO state")
        assert await made.until_told(1) == ["T3"]


async def test_stamps_that_lie_are_found_by_the_reconciler_and_counted(
    tables: SourceSettings, window: psycopg.Connection, store: SqliteStore, tmp_path: Path
) -> None:
    """A stamp that is NULL, set back, or not written at all: the cursor cannot see it, the window does."""
    async with watched(tables, store, tmp_path, "cursor") as made:
        window.execute("UPDATE reg SET state = 'CANCELLED', stamp = NULL WHERE id = 1")
        window.execute("UPDATE reg SET state = 'CANCELLED', stamp = '2020-01-01' WHERE id = 2")
        window.execute("UPDATE reg SET state = 'CANCELLED' WHERE id = 3")
        cancel(window, 4)
        assert await made.until_told(1) == ["T4"]
        made.seconds = 4000.0
        assert sorted(await made.until_told(4)) == ["T1", "T2", "T3", "T4"]
        assert made.watcher.status.missed == 3


async def test_one_stamp_for_many_rows_over_several_looks(
    tables: SourceSettings, connect: Callable[[], psycopg.Connection], store: SqliteStore, tmp_path: Path
) -> None:
    """Rows with the very same stamp, of transactions that were open together: one is committed before each look."""
    with ExitStack() as stack:
        writers = [stack.enter_context(connect()) for _ in range(3)]
        async with watched(tables, store, tmp_path, "cursor") as made:
            (stamp,) = writers[0].execute("SELECT clock_timestamp() AT TIME ZONE 'Asia/Shanghai'").fetchone() or (None,)
            for number, writer in enumerate(writers, 1):
                writer.execute("BEGIN")
                writer.execute("UPDATE reg SET state = 'CANCELLED', stamp = %s WHERE id = %s", (stamp, number))
            for count, writer in enumerate(writers, 1):
                writer.execute("COMMIT")
                assert len(await made.until_told(count)) == count
            assert made.watcher.status.missed == 0


async def test_a_key_that_changes_within_a_transaction(
    tables: SourceSettings, window: psycopg.Connection, store: SqliteStore, tmp_path: Path
) -> None:
    """The primary key is changed twice and the order cancelled, all in one transaction: one row, one fact."""
    async with watched(tables, store, tmp_path, "xmin") as made:
        window.execute("BEGIN")
        window.execute("UPDATE reg SET id = 900 WHERE id = 8")
        window.execute("UPDATE reg SET id = 901, state = 'CANCELLED' WHERE id = 900")
        window.execute("COMMIT")
        assert await made.until_told(1) == ["T8"]
        made.seconds = 4000.0
        await made.watcher.poll_once()
        await made.watcher.poll_once()
        assert await made.told() == ["T8"]


# -- SQLite: keys that the database takes for equal ---------------------------------------------------------------------


async def test_keys_that_differ_in_case_alone(store: SqliteStore, tmp_path: Path) -> None:
    """The HIS compares without case, we do not: two rows stay two rows, by window and by key."""
    path = tmp_path / "his.db"
    with closing(sqlite3.connect(path)) as his:
        his.execute("CREATE TABLE reg (id TEXT COLLATE NOCASE, order_no TEXT, state TEXT, note TEXT)")
        his.execute("CREATE TABLE changes (n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT)")
        his.executemany("INSERT INTO reg VALUES (?, ?, 'BOOKED', '')", [("a1", "T1"), ("A1", "T2"), ("b ", "T3")])
        his.commit()
        settings = SourceSettings(name="his", engine="sqlite", database=str(path))
        FEEDS["changes"] = '[[feed]]\nrung = "change_table"\ntable = "changes"\nkey = "id"\ncolumn = "n"\n'
        try:
            async with watched(settings, store, tmp_path, "changes") as made:
                assert made.watcher.status.rows == 3
                his.execute("UPDATE reg SET state = 'CANCELLED' WHERE order_no = 'T2'")
                his.execute("INSERT INTO changes (id) VALUES ('A1')")
                his.commit()
                assert await made.until_told(1) == ["T2"]
        finally:
            del FEEDS["changes"]


# -- our own disk -------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB. Needs root on Linux; elsewhere the limit on pages stands for it (test_stores)."""
    place = tmp_path / "disk"
    place.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("a tmpfs of our own needs root on Linux")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"mount is not allowed here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def sqlite_his(path: Path) -> SourceSettings:
    with closing(sqlite3.connect(path)) as his:
        his.execute("CREATE TABLE reg (id INTEGER PRIMARY KEY, order_no TEXT, state TEXT, note TEXT, stamp TEXT)")
        his.executemany("INSERT INTO reg VALUES (?, ?, 'BOOKED', '', '')", [(n, f"T{n}") for n in ORDERS])
        his.commit()
    return SourceSettings(name="his", engine="sqlite", database=str(path))


async def test_a_disk_that_is_full_and_has_room_again(small_disk: Path, tmp_path: Path) -> None:
    """Full at the enqueue and at the ack: capture and delivery wait, say so, lose nothing, and go on by themselves."""
    settings = sqlite_his(tmp_path / "his.db")
    store = SqliteStore(small_disk / "state.db", Clock())
    try:
        async with watched(settings, store, tmp_path) as made:
            with closing(sqlite3.connect(tmp_path / "his.db", isolation_level=None)) as his:
                his.execute("UPDATE reg SET state = 'CANCELLED' WHERE id = 1")
                assert await made.until_told(1) == ["T1"]
                ballast = small_disk / "ballast"
                _fill(ballast)
                his.execute(f"UPDATE reg SET state = 'CANCELLED', note = '{'x' * 4000}' WHERE id IN (2, 3)")
                with pytest.raises(StoreUnavailable):
                    await made.watcher.poll_once()
                await made.watcher._step()
                assert made.watcher.status.state == "failing"
                with pytest.raises(StoreUnavailable):
                    await _ack_all(made)
                assert await made.told() == ["T1"]  # what is there can be read
                ballast.unlink()
                assert sorted(await made.until_told(3)) == ["T1", "T2", "T3"]
                await made.outbox.ack(await made_ids(made))
                assert (await made.outbox.counts()).acked == 3
    finally:
        await store.close()


async def _ack_all(made: Watched) -> None:
    """Acknowledge again and again: a single ack may still find room in the pages that are there."""
    for _ in range(200):
        await made.outbox.ack(await made_ids(made))
        await made.store.write(lambda work: work.sequences.advance("ballast", 1))


async def made_ids(made: Watched) -> list[str]:
    return [event.event_id for event in await made.outbox.read_after(0, 1000)]


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as stream:
        for size in (65536, 4096, 512, 1):
            try:
                while True:
                    stream.write(b"\0" * size)
            except OSError:
                continue


@pytest.mark.parametrize("damage", ["cut", "zeros", "noise", "empty"])
async def test_the_tail_of_the_journal_is_torn(damage: str, tmp_path: Path) -> None:
    """A power cut in the middle of a write: what was committed before is there, and the lost end is captured again."""
    settings = sqlite_his(tmp_path / "his.db")
    first = tmp_path / "first"
    first.mkdir()
    store = SqliteStore(first / "state.db", Clock())
    async with watched(settings, store, tmp_path) as made:
        with closing(sqlite3.connect(tmp_path / "his.db", isolation_level=None)) as his:
            his.execute("UPDATE reg SET state = 'CANCELLED' WHERE id = 1")
            await made.until_told(1)
            kept = (first / "state.db-wal").stat().st_size
            his.execute("UPDATE reg SET state = 'CANCELLED' WHERE id = 2")
            assert await made.until_told(2) == ["T1", "T2"]
            second = tmp_path / "second"
            second.mkdir()
            for name in ("state.db", "state.db-wal"):  # as a disk would have them: no process has closed them
                (second / name).write_bytes((first / name).read_bytes())
    await store.close()
    wal = second / "state.db-wal"
    content = wal.read_bytes()
    assert len(content) > kept
    torn = {
        "cut": content[: kept + 100],
        "zeros": content[:kept] + bytes(2000),
        "noise": content[:kept] + os.urandom(2000),
        "empty": b"",
    }
    wal.write_bytes(torn[damage])
    again = SqliteStore(second / "state.db", Clock())
    try:
        made = Watched(settings, again, tmp_path)
        batch = await made.watcher.poll_once()
        if damage == "empty":  # the whole journal gone, which no torn write does: then the store knows less
            assert batch.baseline or sorted(await made.told()) == ["T1", "T2"]
        else:
            assert sorted(await made.told()) == ["T1", "T2"]
        await made.source.close()
    finally:
        await again.close()


async def test_every_commit_is_on_the_disk(tmp_path: Path) -> None:
    """What stands against a power cut: each commit waits for the disk. Dropped pages: ``test_power_cut.py``."""
    store = SqliteStore(tmp_path / "state.db", Clock())
    try:
        with store._engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    finally:
        await store.close()
