"""Sessions with a shared state store in PostgreSQL: how they are opened, bounded, and what their errors mean."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from datetime import timedelta
from typing import Any, Final, cast

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from his_db.connect_deadline import ConnectTimeout, connect_within
from his_db.held_connection import HangGuard
from sync.store import StoreCorrupt, StoreError, StoreUnavailable

_CONNECT: Final = timedelta(seconds=8)
_PATIENCE: Final = timedelta(seconds=40)  # with one statement; longer than the server's own time-outs together
PATIENCE: Final = "his160_patience"  # execution option of a connection that has less

# Locks of the database are named by two numbers: "H160", and what it is for.
WRITER: Final = "pg_advisory_xact_lock(1211184688, 1)"
# Every agent shares this one for as long as it runs; who upgrades the tables must have it alone.
AT_WORK: Final = "pg_try_advisory_lock_shared(1211184688, 2)"
ALONE: Final = "pg_try_advisory_xact_lock(1211184688, 2)"

# Of a session. A process that is frozen, or a machine that is gone, in the middle of a transaction holds the writer's
# lock: the server itself ends such a session, so that the other agent need not wait for the dead one.
SESSION: Final = {
    "application_name": "his160",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "lock_timeout": "10s",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "8s",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
}
# Of libpq, against a server that is gone without a word.
_WIRE: Final = {
    "client_encoding": "utf8",
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "target_session_attrs": "read-write",
}


class _Wire:
    """A connection as ``HangGuard`` sees it: a server that neither answers nor times out is given up."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._closing = threading.Lock()
        self.busy_until = 0.0

    def abort(self) -> None:
        """Shuts the socket down: psycopg must not be closed while another thread is inside it."""
        with self._closing:
            if self._driver is None or self._driver.closed:
                return
            with contextlib.suppress(OSError, ValueError):
                wire = socket.socket(fileno=self._driver.fileno())
                try:
                    wire.shutdown(socket.SHUT_RDWR)
                finally:
                    wire.detach()  # the descriptor stays libpq's

    def release(self) -> None:
        """It is being closed: its descriptor may soon be somebody else's."""
        with self._closing:
            self._driver = None


def _guarded(engine: Engine, guard: HangGuard) -> Engine:
    """The engine, each statement of which ends within ``_PATIENCE``, one way or the other."""

    def opened(driver: Any, record: ConnectionPoolEntry) -> None:
        record.info["wire"] = wire = _Wire(driver)
        guard.add(wire)

    def closed(driver: Any, record: ConnectionPoolEntry) -> None:
        wire = record.info.pop("wire", None)
        if wire is not None:
            guard.remove(wire)
            wire.release()

    def begins(connection: Connection, *_: Any) -> None:
        patience = connection.get_execution_options().get(PATIENCE, _PATIENCE)
        connection.info["wire"].busy_until = time.monotonic() + patience.total_seconds()

    def ends(connection: Connection, *_: Any) -> None:
        connection.info["wire"].busy_until = 0.0

    def fails(context: ExceptionContext) -> None:
        if context.connection is not None and "wire" in context.connection.info:
            context.connection.info["wire"].busy_until = 0.0

    event.listen(engine, "connect", opened)
    event.listen(engine, "close", closed)
    event.listen(engine, "before_cursor_execute", begins)
    event.listen(engine, "after_cursor_execute", ends)
    event.listen(engine, "handle_error", fails)
    return engine


def engine_for(url: str, guard: HangGuard) -> Engine:
    """Raises StoreError for what is no address of a database; the text does not repeat it."""
    try:
        address = make_url(url).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError):
        raise StoreError("the url of the state store cannot be read") from None  # the cause holds the password
    if not address.database:
        raise StoreError("the url of the state store names no database")
    given = {name: value for name, value in address.query.items() if isinstance(value, str)}
    options = " ".join(f"-c {name}={value}" for name, value in SESSION.items())
    given["options"] = f"{options} {given.get('options', '')}".strip()
    # AUTOCOMMIT: BEGIN, SAVEPOINT and COMMIT are ours. hide_parameters: values never reach a log or an exception.
    engine = create_engine(
        address.set(query={**_WIRE, **given}), poolclass=NullPool, isolation_level="AUTOCOMMIT", hide_parameters=True
    )
    return _guarded(engine, guard)


def connected(engine: Engine) -> Connection:
    """A connection. Raises DBAPIError, StoreUnavailable (a server that accepts and says nothing)."""
    try:
        return cast(Connection, connect_within(_CONNECT.total_seconds(), engine.connect))
    except ConnectTimeout as error:
        raise StoreUnavailable(f"the state store cannot be reached: {error}") from error


def is_lost(error: DBAPIError) -> bool:
    """Whether the server may have done what it was last told, and nobody heard."""
    return error.connection_invalidated or not getattr(error.orig, "sqlstate", None)


def typed_error(error: BaseException | None) -> StoreError:
    """The store's error for one of the driver. Texts are the server's first line, which names no values, or a code."""
    if isinstance(error, StoreError):
        return error
    if not isinstance(error, DBAPIError):
        return StoreUnavailable("the state store lost a transaction")
    code = str(getattr(error.orig, "sqlstate", None) or "")
    if code in ("42P01", "42703", "XX001", "XX002"):  # a table or column is gone; damaged data, damaged index
        typed: StoreError = StoreCorrupt(f"the state store is damaged (SQLSTATE {code})")
    elif not code or code[:2] in _PASSING or code in _REFUSING:
        what = getattr(getattr(error.orig, "diag", None), "message_primary", None) or "no connection"
        typed = StoreUnavailable(f"the state store cannot be written or read: {what} (SQLSTATE {code or '-'})")
    else:
        typed = StoreError(f"the state store refused a unit (SQLSTATE {code})")
    typed.__cause__ = error
    return typed


# Connection, authorization, database unknown, rollback, resources (full disk), limits, not now, system, internal.
_PASSING: Final = frozenset({"08", "28", "3D", "40", "53", "54", "55", "57", "58"})
_REFUSING: Final = frozenset({"25006", "25P03", "42501"})  # read-only, ended because idle, no right
