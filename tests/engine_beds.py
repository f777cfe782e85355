"""Test beds for engines: one real database each, with the same two tables, for the conformance and the live suite."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from his_db.engine import Engine, Fault, SourceSettings
from his_db.lane import Lane
from his_db.source import engine_for
from tests.servers import MariadbServer, PostgresqlServer, administrate, opted_in

GRACE = timedelta(seconds=5)
TABLES = """
CREATE TABLE patient (id INTEGER PRIMARY KEY, name VARCHAR(40), fee NUMERIC(10, 2), born DATE, seen TIMESTAMP);
CREATE TABLE slot (id INTEGER PRIMARY KEY, taken INTEGER NOT NULL CHECK (taken IN (0, 1)));
INSERT INTO slot VALUES (1, 0);
INSERT INTO slot VALUES (2, 0)
"""
# What a statement of each engine has to look like where they do not agree.
SLOW = {
    "sqlite": "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT max(n) FROM c",
    "postgresql": "SELECT pg_sleep(60)",
    "mysql": "SELECT SLEEP(60)",
    "mssql": "WITH c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT max(n) FROM c OPTION (MAXRECURSION 0)",
    "oracle": "SELECT count(*) FROM all_objects a, all_objects b, all_objects c, all_objects d",
}
_DIGITS = " UNION ALL ".join(f"SELECT {n}{{alias}}{{dual}}" for n in range(10))
_RECURSIVE = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 5000) SELECT n FROM c"


def numbers(engine: str) -> str:
    """A statement with 5,000 rows."""
    if engine in ("sqlite", "postgresql"):
        return _RECURSIVE
    digits = _DIGITS.format(alias=" AS d", dual=" FROM DUAL" if engine == "oracle" else "")
    tables = ", ".join(f"({digits}) {name}" for name in ("a", "b", "c"))
    return f"SELECT a.d + 10 * b.d + 100 * c.d AS n FROM {tables}, ({_half(engine)}) e"


def _half(engine: str) -> str:
    dual = " FROM DUAL" if engine == "oracle" else ""
    return " UNION ALL ".join(f"SELECT {n} AS d{dual}" for n in range(5))


def dual(engine: str) -> str:
    """What a SELECT without a table needs."""
    return " FROM DUAL" if engine == "oracle" else ""


def joined(engine: str, *parts: str) -> str:
    """Texts joined."""
    if engine == "mysql":
        return f"CONCAT({', '.join(parts)})"
    return (" + " if engine == "mssql" else " || ").join(parts)


@dataclass(frozen=True, slots=True)
class Bed:
    """One engine on a real database with TABLES in it. ``look`` runs SQL behind the engine's back and gives rows."""

    settings: SourceSettings
    look: Callable[[str], list[tuple[Any, ...]]]

    @property
    def one(self) -> str:
        """The smallest SELECT."""
        return "SELECT 1" + dual(self.settings.engine)

    def engine(self, **changes: Any) -> Engine:
        return engine_for(replace(self.settings, **changes))

    @asynccontextmanager
    async def lane(self, engine: Engine | None = None, **options: Any) -> AsyncIterator[Lane]:
        engine = engine or self.engine()
        lane = Lane("test", engine, **{"workers": 1, "queue_limit": 10, "read_only": True, **options})
        try:
            yield lane
        finally:
            await lane.close(GRACE)
            engine.dispose()


def sqlite_bed(path: Path) -> Bed:
    def look(sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            return connection.execute(sql).fetchall()

    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(TABLES)
    return Bed(SourceSettings(name="his", engine="sqlite", database=str(path)), look)


def postgresql_bed(server: PostgresqlServer, settings: SourceSettings) -> Bed:
    def look(sql: str) -> list[tuple[Any, ...]]:
        with server.connect(settings.database) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []

    look(TABLES)
    return Bed(settings, look)


def mariadb_bed(server: MariadbServer, settings: SourceSettings) -> Bed:
    def look(sql: str) -> list[tuple[Any, ...]]:
        with server.connect(settings.database) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    for statement in TABLES.replace("TIMESTAMP", "DATETIME(6)").split(";"):
        look(statement)
    return Bed(settings, look)


def opted_in_bed(engine: str, stack: ExitStack) -> Bed:
    """SQL Server or Oracle, when its url is given; else the test is skipped and says so."""
    settings = stack.enter_context(opted_in(engine))
    text = TABLES.replace("TIMESTAMP", "DATETIME2(6)") if engine == "mssql" else TABLES
    administrate(settings, text.strip().split(";\n"))
    return Bed(settings, lambda sql: administrate(settings, [sql]))


def opted_in_engines() -> list[str]:
    """Engines of the opt-in suite whose url is given."""
    return [engine for engine in ("mssql", "oracle") if os.environ.get(f"HIS160_TEST_{engine.upper()}_URL")]


def bed_of(engine: str, request: pytest.FixtureRequest) -> Bed:
    """A fresh bed of an engine."""
    if engine == "sqlite":
        return sqlite_bed(request.getfixturevalue("sqlite_path"))
    if engine == "postgresql":
        server = request.getfixturevalue("postgresql_server")
        return postgresql_bed(server, request.getfixturevalue("postgresql_database")())
    if engine == "mysql":
        server = request.getfixturevalue("mariadb_server")
        return mariadb_bed(server, request.getfixturevalue("mariadb_database")())
    stack = ExitStack()
    request.addfinalizer(stack.close)
    return opted_in_bed(engine, stack)


def fault_of(engine: Engine, work: Callable[[], object]) -> Fault:
    with pytest.raises(engine.driver_errors) as caught:
        work()
    return engine.classify(caught.value, sent=True)
