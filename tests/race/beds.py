"""Databases with the tables of the late-commit race, and which rungs run in it on which engine."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pymysql

from his_db.engine import SourceSettings
from his_db.feed import FeedSpec
from tests.late_commits import ROWS_EACH, Connect, Dialect
from tests.servers import MariadbServer, PostgresqlServer

_NO_MARGIN = timedelta(0)
_TABLE = FeedSpec("change_table", "reg_change", "reg_id", "n")

START = "start"
"""The state of a row that nobody has changed."""

CASES = {
    ("postgresql", "xmin", "begin"): FeedSpec("xmin", "reg", "id"),
    ("postgresql", "xmin", "clock"): FeedSpec("xmin", "reg", "id"),
    ("postgresql", "cursor", "begin"): FeedSpec("cursor", "reg", "id", "stamp", margin=_NO_MARGIN),
    ("postgresql", "cursor", "clock"): FeedSpec("cursor", "reg", "id", "stamp", margin=_NO_MARGIN),
    ("postgresql", "change_table", "clock"): _TABLE,
    ("mysql", "cursor", "begin"): FeedSpec("cursor", "reg", "id", "stamp", margin=timedelta(seconds=1)),
    ("mysql", "cursor", "clock"): FeedSpec("cursor", "reg", "id", "stamp", margin=timedelta(seconds=1)),
    ("mysql", "binlog", "clock"): FeedSpec("binlog", "reg", "id"),
    ("mysql", "change_table", "clock"): _TABLE,
    ("sqlite", "change_table", "clock"): _TABLE,
}
"""Engine, rung and stamp (of the transaction's begin, or of the wall clock) → what the feed reads."""


@dataclass(slots=True)
class Bed:
    """A database with the race's tables. ``connect``: of writers. ``settings``: of the engine under test."""

    settings: SourceSettings
    connect: Connect
    dialects: Mapping[str, Dialect]

    def final(self) -> dict[int, str]:
        """The states that the table has now."""
        with closing(self.connect()) as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT id, state FROM reg")
            return {int(key): str(state) for key, state in cursor.fetchall()}


@contextmanager
def postgresql_bed(server: PostgresqlServer, rows: int) -> Iterator[Bed]:
    """Naive stamps, as a HIS has them: the hospital's wall clock, which is not the server's."""
    with server.database() as settings:

        def connect() -> Any:
            return psycopg.connect(
                host=settings.host, port=settings.port or 5432, user=settings.user, password=settings.password or None,
                dbname=settings.database, options="-c timezone=Asia/Shanghai",
            )  # fmt: skip

        stamps = {"begin": "now()", "clock": "clock_timestamp()"}
        dialects = {name: Dialect("%s", stamp, also=_also("%s")) for name, stamp in stamps.items()}
        yield _made(Bed(settings, connect, dialects), rows, "SERIAL PRIMARY KEY", "TIMESTAMP(6)")


@contextmanager
def mysql_bed(server: MariadbServer, rows: int) -> Iterator[Bed]:
    """MariaDB or MySQL; for the rung ``binlog`` one that writes a binary log."""
    with server.database() as settings:

        def connect() -> Any:
            return pymysql.connect(
                host=settings.host, port=settings.port or 3306, user=settings.user, password=settings.password,
                database=settings.database, autocommit=False, charset="utf8mb4", init_command="SET time_zone = '+08:00'",
            )  # fmt: skip

        dialects = {
            "begin": Dialect("%s", "@begun", "SET @begun = NOW(6)", _also("%s")),
            "clock": Dialect("%s", "NOW(6)", also=_also("%s")),
        }
        yield _made(Bed(settings, connect, dialects), rows, "BIGINT AUTO_INCREMENT PRIMARY KEY", "DATETIME(6)")


@contextmanager
def sqlite_bed(path: Path, rows: int) -> Iterator[Bed]:
    """A new file. One writer at a time, so no commit is late; stamps of a millisecond are shared by many."""
    settings = SourceSettings(name="his", engine="sqlite", database=str(path))
    with closing(sqlite3.connect(path)) as first:
        first.execute("PRAGMA journal_mode = WAL")  # as the sample HIS: readers and the writer do not wait

    def connect() -> Any:
        connection = sqlite3.connect(path, timeout=30)
        connection.execute("PRAGMA synchronous = OFF")  # nobody pulls this plug
        return connection

    now = "strftime('%Y-%m-%d %H:%M:%f', 'now')"
    dialects = {"clock": Dialect("?", now, "BEGIN IMMEDIATE", _also("?"), waits=False)}
    yield _made(Bed(settings, connect, dialects), rows, "INTEGER PRIMARY KEY AUTOINCREMENT", "TEXT")


def _also(mark: str) -> str:
    return f"INSERT INTO reg_change (reg_id) VALUES {', '.join([f'({mark})'] * ROWS_EACH)}"


def _made(bed: Bed, rows: int, number: str, stamp: str) -> Bed:
    with closing(bed.connect()) as connection:
        cursor = connection.cursor()
        cursor.execute(f"CREATE TABLE reg (id INTEGER PRIMARY KEY, state VARCHAR(20), stamp {stamp})")
        cursor.execute(f"CREATE TABLE reg_change (n {number}, reg_id INTEGER)")
        for first in range(0, rows, 500):
            keys = range(first, min(rows, first + 500))
            cursor.execute(f"INSERT INTO reg VALUES {', '.join(f'({key}, {START!r}, NULL)' for key in keys)}")
        connection.commit()
    return bed
