"""The embedded store: one SQLite file in WAL mode, every commit synced (``synchronous=FULL``).

One thread writes, another reads on its own connection and never waits for the writer (``sync/store_lane.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from sync.clock import Clock
from sync.key_lock import KeyLocks, Locks
from sync.lease_term import Renewals
from sync.store import (
    StoreCorrupt,
    StoreError,
    StoreLocked,
    StoreUnavailable,
    Transaction,
)
from sync.store_backup import copy_store
from sync.store_checkpoint import IN_A_COMMIT, Checkpoints
from sync.store_lane import GroupLost, Job, Lane, Outcome, read_unit, run_unit
from sync.store_lock import StoreLock
from sync.store_prepared import tell
from sync.store_revision import bring_up_to_date
from sync.store_transaction import SqlTransaction

T = TypeVar("T")
_LOG = logging.getLogger("his160.sync.store")
_BUSY = timedelta(seconds=5)  # a tool for people may hold the write lock for a moment


class SqliteStore:
    """``Store`` in the file at ``path``. ``max_pages`` limits the file's size (tests of a full disk); 0: no limit."""

    def __init__(
        self, path: Path | str, clock: Clock, *, exclusive: bool = True, max_pages: int = 0, busy: timedelta = _BUSY
    ) -> None:
        path = Path(path)
        self._lock = StoreLock(path) if exclusive else None
        connect = partial(_connect, path, max_pages, busy)
        self._engine = _engine(connect)
        try:
            self._identity = _prepare(self._engine, path, clock, locked=exclusive)
        except BaseException:
            self._release()
            raise
        self._locks = KeyLocks()  # the one agent of the file has them all
        self._checkpoints = Checkpoints(connect)
        self._writer = Lane("his160-store-write", _Writing(self._engine, self._checkpoints.wrote))
        self._reader = Lane("his160-store-read", _Reading(self._engine))

    @property
    def identity(self) -> str:
        return self._identity

    async def write(self, unit: Callable[[Transaction], T]) -> T:
        return cast(T, await self._writer.submit(unit))

    async def read(self, unit: Callable[[Transaction], T]) -> T:
        return cast(T, await self._reader.submit(unit))

    async def stamp(self) -> object | None:
        return cast(object, await self._reader.submit(_stamp))

    def locks(self) -> Locks:
        return self._locks

    def renewals(self) -> Renewals:
        raise StoreError("the one agent of a file needs no lease")

    async def close(self) -> None:
        await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        self._reader.stop()
        self._writer.stop()
        self._checkpoints.stop()
        self._release()

    def _release(self) -> None:
        self._engine.dispose()
        if self._lock is not None:
            self._lock.release()


def _connect(path: Path, max_pages: int, busy: timedelta) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=busy.total_seconds(), isolation_level=None, check_same_thread=False, cached_statements=256
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        connection.execute(f"PRAGMA wal_autocheckpoint = {IN_A_COMMIT:d}")
        if max_pages:
            connection.execute(f"PRAGMA max_page_count = {max_pages:d}")
    except BaseException:
        connection.close()
        raise
    return connection


def _engine(connect: Callable[[], sqlite3.Connection]) -> Engine:
    # AUTOCOMMIT: BEGIN, SAVEPOINT and COMMIT are ours. hide_parameters: values never reach a log or an exception.
    return create_engine(
        "sqlite://", creator=connect, poolclass=NullPool, isolation_level="AUTOCOMMIT", hide_parameters=True
    )


def _prepare(engine: Engine, path: Path, clock: Clock, *, locked: bool) -> str:
    """Makes the tables in a new file, upgrades those of an old one; the store's id.

    ``locked``: this process holds the store's lock.

    Raises StoreTooNew, StoreCorrupt, StoreLocked, StoreUnavailable.
    """
    try:
        if not path.exists():  # the file holds names of patients: only the agent's account reads it
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        with engine.connect() as connection, ExitStack() as stack:

            def before_upgrade(found: str, wanted: str) -> None:
                if not locked:
                    stack.callback(_lock_for_upgrade(path).release)
                _keep_copy(path, found, wanted)

            connection.exec_driver_sql("BEGIN IMMEDIATE")  # also makes SQLite's DDL part of the transaction
            try:
                identity = bring_up_to_date(connection, clock, place=str(path), before_upgrade=before_upgrade)
                connection.exec_driver_sql("COMMIT")
                return identity
            except BaseException:
                _roll_back(connection)
                raise
    except OSError as error:
        raise StoreUnavailable(f"the state store cannot be opened: {error.strerror}") from error
    except DBAPIError as error:
        raise _typed(error) from error


def _lock_for_upgrade(path: Path) -> StoreLock:
    """Raises StoreLocked: an agent that knows the old tables still works on them."""
    try:
        return StoreLock(path)
    except StoreLocked as error:
        raise StoreLocked(f"{error}; it is older than this program: restart it, it upgrades the store then") from error


def _keep_copy(path: Path, found: str, wanted: str) -> None:
    copy = path.with_name(f"{path.name}.before-{wanted}")
    copy_store(path, copy)
    revisions = {"from_revision": found, "to_revision": wanted}
    _LOG.warning("state store is upgraded, a copy is kept", extra={"copy": copy.name, **revisions})


@dataclass(frozen=True, slots=True)
class _Writing:
    """``Backend``: all units of a group in one transaction. ``wrote``: see ``Checkpoints``."""

    engine: Engine
    wrote: Callable[[int], None]

    def repeats(self, error: BaseException) -> bool:
        return False  # a file does not come and go

    def connect(self) -> Connection:
        return self.engine.connect()

    def run(self, connection: Connection, jobs: Sequence[Job]) -> Sequence[Outcome]:
        transaction = SqlTransaction.of(connection)
        outcomes: list[Outcome] = []
        try:
            tell(connection, "BEGIN IMMEDIATE")
            for job in jobs:
                tell(connection, "SAVEPOINT unit")
                waiting = transaction.audit.waiting
                outcome = run_unit(job, transaction, _typed)
                if outcome.error is not None:
                    if not _in_transaction(connection):
                        raise GroupLost from outcome.error
                    tell(connection, "ROLLBACK TO unit")
                    transaction.audit.forget(waiting)
                tell(connection, "RELEASE unit")
                outcomes.append(outcome)
            transaction.audit.seal()
            tell(connection, "COMMIT")
        except DBAPIError:
            _roll_back(connection)
            raise
        self.wrote(_driver(connection).total_changes)
        return outcomes

    def was_committed(self, mark: str) -> bool:
        raise AssertionError("unreachable: a file has no connection that breaks")

    def typed(self, error: BaseException | None) -> StoreError:
        return _typed(error)


@dataclass(frozen=True, slots=True)
class _Reading(_Writing):
    """``Backend``: each unit on a snapshot of its own."""

    wrote: Callable[[int], None] = lambda _: None

    def connect(self) -> Connection:
        connection = self.engine.connect()
        connection.exec_driver_sql("PRAGMA query_only = ON")
        return connection

    def run(self, connection: Connection, jobs: Sequence[Job]) -> Sequence[Outcome]:
        transaction = SqlTransaction.of(connection)
        outcomes: list[Outcome] = []
        for job in jobs:
            if job.unit is _stamp:
                outcomes.append(Outcome(job, _data_version(connection)))
                continue
            tell(connection, "BEGIN")
            outcomes.append(read_unit(job, transaction, _typed))
            _roll_back(connection)
        return outcomes


def _stamp(_: Transaction) -> None:
    """Stands in the queue where a unit would: what it asks for needs no transaction."""


def _data_version(connection: Connection) -> tuple[object, int]:
    """The number changes with every commit of another connection than this one, which never commits anything."""
    driver = _driver(connection)
    try:
        (version,) = driver.execute("PRAGMA data_version").fetchone()
    except sqlite3.Error as error:
        raise StoreUnavailable(f"the state store cannot be read: {error}") from error
    return driver, version


def _driver(connection: Connection) -> sqlite3.Connection:
    return cast(sqlite3.Connection, connection.connection.driver_connection)


def _in_transaction(connection: Connection) -> bool:
    return bool(getattr(_driver(connection), "in_transaction", False))


def _roll_back(connection: Connection) -> None:
    if _in_transaction(connection):
        with contextlib.suppress(DBAPIError):
            tell(connection, "ROLLBACK")


def _typed(error: BaseException | None) -> StoreError:
    """The store's error for one of the driver. SQLite's texts name columns and causes, never values."""
    if isinstance(error, StoreError):
        return error
    if not isinstance(error, DBAPIError):
        return StoreUnavailable("the state store lost a transaction")
    text = str(error.orig)
    if isinstance(error, OperationalError):
        typed: StoreError = StoreUnavailable(f"the state store cannot be written or read: {text}")
    elif isinstance(error.orig, sqlite3.DatabaseError) and not isinstance(error.orig, sqlite3.IntegrityError):
        typed = StoreCorrupt(f"the state store is damaged: {text}")
    else:
        typed = StoreError(f"the state store refused a unit: {text}")
    typed.__cause__ = error
    return typed
