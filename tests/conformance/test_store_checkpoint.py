"""The log of a SQLite store is brought into the file beside the commits."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from sync.clock import utc_now
from sync.store import NewEvent, open_store
from sync.store_checkpoint import Checkpoints
from tests.bounds import until

AT_ONCE = timedelta(0)
Connect = Callable[[], sqlite3.Connection]


@pytest.fixture
def connect(tmp_path: Path) -> Connect:
    """To a file with a table of one column."""

    def make() -> sqlite3.Connection:
        connection = sqlite3.connect(tmp_path / "some.db", isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        return connection

    with closing(make()) as first:
        first.execute("PRAGMA journal_mode = WAL")
        first.execute("CREATE TABLE t (a)")
    return make


@pytest.fixture
def writer(connect: Connect) -> Iterator[sqlite3.Connection]:
    with closing(connect()) as connection:
        yield connection


def write(writer: sqlite3.Connection, rows: int) -> int:
    """Rows that the connection has written in all."""
    writer.execute("BEGIN")
    writer.executemany("INSERT INTO t VALUES (?)", ((b"x" * 100,) for _ in range(rows)))
    writer.execute("COMMIT")
    return writer.total_changes


def in_file(path: Path) -> int:
    """Rows that the file itself has, without its log."""
    copy = path.with_name("copy.db")
    copy.write_bytes(path.read_bytes())
    with closing(sqlite3.connect(f"{copy.as_uri()}?immutable=1", uri=True)) as alone:
        return int(alone.execute("SELECT count(*) FROM t").fetchone()[0])


async def test_much_is_brought_in_and_little_is_not(
    tmp_path: Path, connect: Connect, writer: sqlite3.Connection
) -> None:
    path = tmp_path / "some.db"
    checkpoints = Checkpoints(connect, soon=AT_ONCE)
    try:
        checkpoints.wrote(write(writer, 499))
        assert (in_file(path), checkpoints.done) == (0, 0)
        checkpoints.wrote(write(writer, 1))
        await until(lambda: checkpoints.done == 1)
        assert in_file(path) == 500
        checkpoints.wrote(write(writer, 499))
        assert (in_file(path), checkpoints.done) == (500, 1)
        with closing(connect()) as again:  # the store has lost its connection: the new one counts from nothing
            checkpoints.wrote(write(again, 1))
            await until(lambda: checkpoints.done == 2)
        assert in_file(path) == 1000
    finally:
        checkpoints.stop()


async def test_a_disk_in_trouble_is_told_once_and_tried_again(
    tmp_path: Path, connect: Connect, writer: sqlite3.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    tries = 0

    def ill() -> sqlite3.Connection:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise sqlite3.OperationalError("disk I/O error")
        return connect()

    checkpoints = Checkpoints(ill, soon=AT_ONCE)
    try:
        for number in (1, 2, 3):
            checkpoints.wrote(write(writer, 500))
            await until(lambda number=number: tries == number)  # type: ignore[misc]
        await until(lambda: checkpoints.done == 1)
        assert in_file(tmp_path / "some.db") == 1500
    finally:
        checkpoints.stop()
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert told == ["the store's log cannot be brought in: OperationalError"]


async def test_stop_does_not_wait_for_its_turn(connect: Connect, writer: sqlite3.Connection) -> None:
    checkpoints = Checkpoints(connect, soon=timedelta(days=1))
    checkpoints.wrote(write(writer, 500))
    checkpoints.stop()
    assert checkpoints.done == 0


async def test_a_store_does_it_while_it_is_open(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = open_store(path, utc_now)
    try:
        before = path.stat().st_size
        events = [NewEvent(f"{number:032x}", f"order:T{number}", b"x" * 1000) for number in range(1000)]
        await store.write(lambda work: work.events.append_many(events, utc_now()))
        assert path.stat().st_size == before
        await until(lambda: path.stat().st_size > before + 1000 * 1000)
        assert len(await store.read(lambda work: work.events.pending(2000, utc_now()))) == 1000
    finally:
        await store.close()
