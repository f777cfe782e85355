"""The embedded store: one SQLite file in WAL mode, every commit synced (``synchronous=FULL``).

One thread writes. It takes all units that wait, runs each in a savepoint of one transaction and commits once: a rush of
commands costs one fsync, not one each. Another thread reads, on its own connection, and never waits for the writer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Engine, create_engine, select
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from sync.clock import Clock
from sync.store import (
    StoreClosed,
    StoreCorrupt,
    StoreError,
    StoreTooNew,
    StoreUnavailable,
    Transaction,
)
from sync.store_commands import SqlCommandTable
from sync.store_events import SqlEventTable
from sync.store_lock import StoreLock
from sync.store_rows import SqlRowTable
from sync.store_schema import METADATA, SCHEMA_VERSION, TABLES

T = TypeVar("T")
_LOG = logging.getLogger("his160.sync.store")
_GROUP = 256  # most units in one commit: bounds how long the first of them waits
_BUSY = timedelta(seconds=5)  # a tool for people may hold the write lock for a moment


@dataclass(frozen=True, slots=True)
class SqlTransaction:
    """``Transaction`` over one connection."""

    commands: SqlCommandTable
    events: SqlEventTable
    rows: SqlRowTable

    @classmethod
    def of(cls, connection: Connection) -> SqlTransaction:
        return cls(SqlCommandTable(connection), SqlEventTable(connection), SqlRowTable(connection))


@dataclass(frozen=True, slots=True)
class _Job:
    unit: Callable[[Transaction], Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


@dataclass(frozen=True, slots=True)
class _Outcome:
    job: _Job
    value: Any = None
    error: BaseException | None = None

    def settle(self) -> None:
        if self.job.future.done():  # the caller was cancelled; the unit stays done
            return
        if self.error is None:
            self.job.future.set_result(self.value)
        else:
            self.job.future.set_exception(self.error)


class _GroupLost(Exception):
    """SQLite rolled the whole transaction back while one unit ran (full disk, I/O error)."""


class SqliteStore:
    """``Store`` in the file at ``path``. ``max_pages`` limits the file's size (tests of a full disk); 0: no limit."""

    def __init__(
        self, path: Path, clock: Clock, *, exclusive: bool = True, max_pages: int = 0, busy: timedelta = _BUSY
    ) -> None:
        self._lock = StoreLock(path) if exclusive else None
        self._engine = _engine(path, max_pages, busy)
        try:
            _prepare(self._engine, path, clock)
        except BaseException:
            self._release()
            raise
        self._writer = _Lane("his160-store-write", self._engine, _write_group, read_only=False)
        self._reader = _Lane("his160-store-read", self._engine, _read_each, read_only=True)

    async def write(self, unit: Callable[[Transaction], T]) -> T:
        return cast(T, await self._writer.submit(unit))

    async def read(self, unit: Callable[[Transaction], T]) -> T:
        return cast(T, await self._reader.submit(unit))

    async def close(self) -> None:
        await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        self._reader.stop()
        self._writer.stop()
        self._release()

    def _release(self) -> None:
        self._engine.dispose()
        if self._lock is not None:
            self._lock.release()


def _engine(path: Path, max_pages: int, busy: timedelta) -> Engine:
    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            path, timeout=busy.total_seconds(), isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA journal_size_limit = 67108864")
            if max_pages:
                connection.execute(f"PRAGMA max_page_count = {max_pages:d}")
        except BaseException:
            connection.close()
            raise
        return connection

    # AUTOCOMMIT: BEGIN, SAVEPOINT and COMMIT are ours. hide_parameters: values never reach a log or an exception.
    return create_engine(
        "sqlite://", creator=connect, poolclass=NullPool, isolation_level="AUTOCOMMIT", hide_parameters=True
    )


def _prepare(engine: Engine, path: Path, clock: Clock) -> None:
    """Makes the tables in a new file; checks the version of an old one.

    Raises StoreTooNew, StoreCorrupt, StoreUnavailable.
    """
    try:
        if not path.exists():  # the file holds names of patients: only the agent's account reads it
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        with engine.connect() as connection:
            _create(connection, clock)
            version = connection.execute(select(METADATA.c.value).where(METADATA.c.name == "schema_version")).scalar()
    except OSError as error:
        raise StoreUnavailable(f"the state store cannot be opened: {error.strerror}") from error
    except DBAPIError as error:
        raise _typed(error) from error
    if version is None or not version.isdigit():
        raise StoreCorrupt(f"{path} says no schema version: it is not a state store of his160")
    if int(version) > SCHEMA_VERSION:
        raise StoreTooNew(
            f"{path} has schema version {version}, this agent knows {SCHEMA_VERSION}: install the newer agent again"
        )


def _create(connection: Connection, clock: Clock) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    try:
        tables = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars().all()
        if not tables:
            TABLES.create_all(connection, checkfirst=False)
            made = clock().isoformat(timespec="seconds")
            facts = [("schema_version", str(SCHEMA_VERSION)), ("created_time", made)]
            connection.execute(METADATA.insert(), [{"name": name, "value": value} for name, value in facts])
        elif "metadata" not in tables:
            raise StoreCorrupt("the file is a SQLite database of something else, not a state store of his160")
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        _roll_back(connection)
        raise


class _Lane:
    """One thread with one connection, and the queue in front of it."""

    def __init__(
        self,
        name: str,
        engine: Engine,
        run: Callable[[Connection, Sequence[_Job]], Sequence[_Outcome]],
        *,
        read_only: bool,
    ) -> None:
        self._engine = engine
        self._run = run
        self._read_only = read_only
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._guard = threading.Lock()  # no job may slip in behind the end mark
        self._closed = False
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def submit(self, unit: Callable[[Transaction], Any]) -> Any:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        with self._guard:
            if self._closed:
                raise StoreClosed("the state store is closed")
            self._queue.put(_Job(unit, future, loop))
        return await future

    def stop(self) -> None:
        with self._guard:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        more = True
        while more:
            jobs, more = self._take()
            if jobs:
                _settle(self._outcomes(jobs))
        self._disconnect()

    def _take(self) -> tuple[list[_Job], bool]:
        """Waits for one job and takes what else is there; False when the end mark came."""
        jobs: list[_Job] = []
        job = self._queue.get()
        while job is not None:
            jobs.append(job)
            if len(jobs) == _GROUP:
                return jobs, True
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                return jobs, True
        return jobs, False

    def _outcomes(self, jobs: Sequence[_Job]) -> Sequence[_Outcome]:
        try:
            return self._run(self._connected(), jobs)
        except _GroupLost as lost:
            self._disconnect()
            if len(jobs) > 1:  # one unit too large must not take the small ones with it
                return [outcome for job in jobs for outcome in self._outcomes([job])]
            return [_Outcome(jobs[0], error=_typed(lost.__cause__))]
        except DBAPIError as error:
            self._disconnect()  # a new connection next time: this is how the store recovers by itself
            failure = _typed(error)
            _LOG.error("state store failed", extra={"error": type(error.orig).__name__, "units": len(jobs)})
            return [_Outcome(job, error=failure) for job in jobs]

    def _connected(self) -> Connection:
        if self._connection is None:
            connection = self._engine.connect()
            if self._read_only:
                connection.exec_driver_sql("PRAGMA query_only = ON")
            self._connection = connection
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(DBAPIError):
                connection.close()


def _write_group(connection: Connection, jobs: Sequence[_Job]) -> Sequence[_Outcome]:
    """Runs the jobs in one transaction, each in a savepoint, and commits.

    Raises DBAPIError, _GroupLost: nothing was kept.
    """
    transaction = SqlTransaction.of(connection)
    outcomes: list[_Outcome] = []
    try:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        for job in jobs:
            connection.exec_driver_sql("SAVEPOINT unit")
            outcome = _run_unit(job, transaction)
            if outcome.error is not None:
                if not _in_transaction(connection):
                    raise _GroupLost from outcome.error
                connection.exec_driver_sql("ROLLBACK TO unit")
            connection.exec_driver_sql("RELEASE unit")
            outcomes.append(outcome)
        connection.exec_driver_sql("COMMIT")
    except DBAPIError:
        _roll_back(connection)
        raise
    return outcomes


def _read_each(connection: Connection, jobs: Sequence[_Job]) -> Sequence[_Outcome]:
    transaction = SqlTransaction.of(connection)
    outcomes: list[_Outcome] = []
    for job in jobs:
        connection.exec_driver_sql("BEGIN")
        outcomes.append(_run_unit(job, transaction))
        _roll_back(connection)
    return outcomes


def _run_unit(job: _Job, transaction: SqlTransaction) -> _Outcome:
    try:
        return _Outcome(job, job.unit(transaction))
    except DBAPIError as error:
        return _Outcome(job, error=_typed(error))
    except BaseException as error:  # noqa: BLE001 - border of the thread: whatever a unit raises belongs to its caller
        return _Outcome(job, error=error)


def _settle(outcomes: Sequence[_Outcome]) -> None:
    """Hands the outcomes to their event loops, one call for each loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Outcome]] = {}
    for outcome in outcomes:
        by_loop.setdefault(outcome.job.loop, []).append(outcome)
    for loop, settled in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_settle_all, settled)


def _settle_all(outcomes: Sequence[_Outcome]) -> None:
    for outcome in outcomes:
        outcome.settle()


def _in_transaction(connection: Connection) -> bool:
    driver = connection.connection.driver_connection
    return bool(getattr(driver, "in_transaction", False))


def _roll_back(connection: Connection) -> None:
    if _in_transaction(connection):
        with contextlib.suppress(DBAPIError):
            connection.exec_driver_sql("ROLLBACK")


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
