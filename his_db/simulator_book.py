"""The book of a simulator: a SQLite file that outlives every kill of the agent, and of the simulator itself."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

_REQUESTS: Final = """
CREATE TABLE IF NOT EXISTS request (
  n INTEGER PRIMARY KEY, at TEXT NOT NULL, label TEXT NOT NULL, number TEXT NOT NULL, fault TEXT NOT NULL,
  status INTEGER NOT NULL
)
"""


class Book:
    """Thread-safe: one connection, one transaction at a time. `schema`: CREATE TABLE IF NOT EXISTS statements."""

    def __init__(self, path: Path, schema: Sequence[str]) -> None:
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        for statement in (_REQUESTS, *schema):
            self._db.execute(statement)

    @contextmanager
    def change(self) -> Iterator[Book]:
        """One durable transaction; undone when the block raises."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def run(self, sql: str, *values: Any) -> int:
        """One statement; how many rows it changed."""
        with self._lock:
            return self._db.execute(sql, values).rowcount

    def one(self, sql: str, *values: Any) -> dict[str, Any] | None:
        """The first row."""
        with self._lock:
            row = self._db.execute(sql, values).fetchone()
        return None if row is None else dict(row)

    def all(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        """All rows."""
        with self._lock:
            return [dict(row) for row in self._db.execute(sql, values).fetchall()]

    def insert(self, table: str, values: Mapping[str, Any]) -> None:
        """One row. `table` and the names are ours, never a request's."""
        names = ", ".join(values)
        places = ", ".join("?" for _ in values)
        self.run(f"INSERT INTO {table} ({names}) VALUES ({places})", *values.values())  # noqa: S608 - names are ours

    def dump(self) -> dict[str, list[dict[str, Any]]]:
        """Everything, by table."""
        with self._lock:
            tables = self.all("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
            return {row["name"]: self.all(f"SELECT * FROM {row['name']}") for row in tables}  # noqa: S608 - as above

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()
