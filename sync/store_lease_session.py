"""The connection on which a lease in PostgreSQL is renewed: it waits for no other writer, and not for the disk.

A renewal changes one row that nobody else changes while it counts, so it needs no lock of the writers; ``take`` checks
in its own statement that none has come in between. A renewal that a crash of the server forgets is one that was not
made: the term runs out sooner there than its holder believes, and no commit without it goes through.
"""

from __future__ import annotations

import contextlib
import threading
from datetime import timedelta
from typing import Final

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from sync.store import StoreClosed
from sync.store_leases import SqlLeaseTable
from sync.store_postgresql import PATIENCE, connected, typed_error

_QUICK: Final = "SET synchronous_commit = off"


class LeaseSession:
    """``Renewals``. Connects with the first renewal, and anew after a failure."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._busy = threading.Lock()
        self._closed = False

    def renew(self, name: str, term: int, span: timedelta) -> bool:
        with self._busy:
            if self._closed:
                raise StoreClosed("the state store is closed")
            try:
                return SqlLeaseTable(self._connected(span)).renew(name, term, span)
            except SQLAlchemyError as error:
                self._disconnect()
                raise typed_error(error) from error

    def close(self) -> None:
        """Waits for a renewal that is under way."""
        with self._busy:
            self._closed = True
            self._disconnect()

    def _connected(self, span: timedelta) -> Connection:
        """What hangs must end while there is time for another one."""
        if self._connection is None:
            self._connection = connected(self._engine).execution_options(**{PATIENCE: span / 3})
            milliseconds = span // timedelta(milliseconds=3)
            self._connection.exec_driver_sql(f"{_QUICK}; SET statement_timeout = {milliseconds}")
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                connection.close()
