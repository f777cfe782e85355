"""SQLite: ``PRAGMA data_version``, which changes with every commit of another connection, looked at every 50 ms."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from his_db.document.finding import Words
from his_db.engine import Fault

if TYPE_CHECKING:
    from his_db.engines.sqlite import SqliteEngine

_SIGNAL: Final = "file"
_EVERY: Final = 0.05


class DataVersion:
    """See ``his_db.wake.Wake``. There is one signal, ``file``: something was committed to it."""

    def problem(self, signal: str) -> Words | None:
        """See the port."""
        if signal == _SIGNAL:
            return None
        return Words('of SQLite there is one signal, "file"', "SQLite 只有一种信号：“file”")

    def open(self, engine: SqliteEngine, signals: Collection[str]) -> WatchedFile:
        """See the port."""
        return WatchedFile(engine, signals)


class WatchedFile:
    """See ``his_db.wake.WakeSession``."""

    def __init__(self, engine: SqliteEngine, signals: Collection[str]) -> None:
        self._engine = engine
        self._signals = signals
        self._session = engine.open(read_only=True)
        self._stopping = threading.Event()
        self._version = self._look(-1)

    def heard(self, limit: float) -> Collection[str]:
        """See the port. Raises OSError when the file was replaced: the connection would go on with the old one."""
        until = time.monotonic() + limit
        while not self._stopping.wait(_EVERY) and time.monotonic() < until:
            if not self._session.ping():
                raise OSError("the file was moved away or replaced")
            version = self._look(self._version)
            if version != self._version:
                self._version = version
                return self._signals
        return ()

    def abort(self) -> None:
        """See the port."""
        self._stopping.set()

    def close(self) -> None:
        """See the port."""
        self._session.close()

    def _look(self, otherwise: int) -> int:
        """The version; ``otherwise`` when a writer is just committing, which the next look will see."""
        try:
            return int(self._session.run("PRAGMA data_version", {}, max_rows=1).rows[0][0])
        except sqlite3.OperationalError as error:
            if self._engine.classify(error, sent=True) is not Fault.LOCK_TIMEOUT:
                raise
            return otherwise
