"""The shared store: tables in a PostgreSQL database (10 or newer), for two or more agents of one site.

One transaction writes at a time, across all agents: it holds an advisory lock from its first statement to its commit.
So a unit sees all units committed before it, as in SQLite, and a sequence is never committed before a smaller one: a
reader that goes by sequence cannot skip an event of a slower transaction. One commit serves all units that wait.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeVar, cast
from weakref import WeakSet

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from his_db.held_connection import HangGuard
from sync.clock import Clock
from sync.key_lock import Locks
from sync.lease_term import Renewals
from sync.store import StoreCorrupt, StoreError, StoreLocked, StoreUnavailable, Transaction
from sync.store_lane import CommitLost, Job, Lane, Outcome, read_unit, run_unit
from sync.store_lease_session import LeaseSession
from sync.store_order_locks import LockSession, SharedLocks
from sync.store_postgresql import ALONE, WRITER, connected, engine_for, is_lost, typed_error
from sync.store_revision import bring_up_to_date
from sync.store_transaction import SqlTransaction

T = TypeVar("T")
_LOG = logging.getLogger("his160.sync.store")
_PLACE: Final = "the PostgreSQL state store"
_LOST_COMMIT: Final = timedelta(seconds=30)  # how long to ask what became of a commit
_PAUSE: Final = timedelta(milliseconds=200)
_FIRST: Final = "SAVEPOINT unit"
_NEXT: Final = "RELEASE unit; SAVEPOINT unit"


class _Broken(StoreUnavailable):
    """The connection broke while a unit ran: nothing of its group was kept."""


class PostgresqlStore:
    """``Store`` in the database at ``url``: ``postgresql://user:password@host/database``, libpq's options behind ``?``.

    ``exclusive``: this process is an agent, one of several; its ``locks`` are theirs all. A tool has none.
    """

    def __init__(self, url: str, clock: Clock, *, exclusive: bool = True) -> None:
        self._guard = HangGuard("state")
        self._engine = engine_for(url, self._guard)
        try:
            self._identity = _prepare(self._engine, clock)
            session = LockSession(self._engine) if exclusive else None
        except BaseException:
            self._release()
            raise
        self._session = session
        self._lease_sessions: WeakSet[LeaseSession] = WeakSet()
        self._locks = SharedLocks(session) if session is not None else None
        self._writer = Lane("his160-store-write", _Writing(self._engine))
        self._reader = Lane("his160-store-read", _Reading(self._engine))

    @property
    def identity(self) -> str:
        return self._identity

    async def write(self, unit: Callable[[Transaction], T]) -> T:
        return cast(T, await self._writer.submit(unit))

    async def read(self, unit: Callable[[Transaction], T]) -> T:
        return cast(T, await self._reader.submit(unit))

    async def stamp(self) -> object | None:
        return None  # other agents commit, and the server tells for nothing less than a statement

    def locks(self) -> Locks:
        if self._locks is None:
            raise StoreError("a tool runs no commands: it has no locks")
        return self._locks

    def renewals(self) -> Renewals:
        session = LeaseSession(self._engine)
        self._lease_sessions.add(session)
        return session

    async def close(self) -> None:
        await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        for each in list(self._lease_sessions):
            each.close()
        self._reader.stop()
        self._writer.stop()
        if self._session is not None:
            self._session.stop()
        self._release()

    def _release(self) -> None:
        self._engine.dispose()
        self._guard.stop()


def _prepare(engine: Engine, clock: Clock) -> str:
    """The store's id. Raises StoreTooNew, StoreCorrupt, StoreLocked, StoreUnavailable."""
    try:
        with connected(engine) as connection:
            encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
            if encoding != "UTF8":
                raise StoreCorrupt(f"the database has the encoding {encoding}: make one with ENCODING 'UTF8'")
            connection.exec_driver_sql("BEGIN")
            connection.exec_driver_sql(f"SELECT {WRITER}")

            def before_upgrade(found: str, wanted: str) -> None:
                if not connection.exec_driver_sql(f"SELECT {ALONE}").scalar():
                    raise StoreLocked("an agent older than this program works on the state store: stop it first")
                revisions = {"from_revision": found, "to_revision": wanted}
                _LOG.warning("state store is upgraded in one transaction, without a copy", extra=revisions)

            identity = bring_up_to_date(connection, clock, place=_PLACE, before_upgrade=before_upgrade)
            connection.exec_driver_sql("COMMIT")
            return identity
    except DBAPIError as error:
        raise typed_error(error) from error


@dataclass(frozen=True, slots=True)
class _Writing:
    """``Backend``: all units of a group in one transaction, while no other agent writes."""

    engine: Engine

    def repeats(self, error: BaseException) -> bool:
        return isinstance(error, _Broken) or (isinstance(error, DBAPIError) and is_lost(error))

    def connect(self) -> Connection:
        return connected(self.engine)

    def run(self, connection: Connection, jobs: Sequence[Job]) -> Sequence[Outcome]:
        transaction = SqlTransaction.of(connection)
        connection.exec_driver_sql("BEGIN")
        mark = connection.exec_driver_sql(f"SELECT {WRITER}, txid_current()").one()[1]
        outcomes = self._units(connection, jobs, transaction)
        transaction.audit.seal()
        try:
            connection.exec_driver_sql("COMMIT")
        except DBAPIError as error:
            if not is_lost(error):
                raise
            raise CommitLost(str(mark), outcomes) from error
        return outcomes

    def _units(self, connection: Connection, jobs: Sequence[Job], transaction: SqlTransaction) -> Sequence[Outcome]:
        """Each in a savepoint of its own. What is one way to the server and back counts: a unit has few statements."""
        outcomes: list[Outcome] = []
        for job in jobs:
            connection.exec_driver_sql(_NEXT if outcomes else _FIRST, execution_options={"no_parameters": True})
            waiting = transaction.audit.waiting
            outcome = run_unit(job, transaction, typed_error)
            if connection.invalidated:  # whatever the unit made of it
                raise _Broken("the connection to the state store broke") from outcome.error
            if outcome.error is not None:
                connection.exec_driver_sql("ROLLBACK TO unit")
                transaction.audit.forget(waiting)
            outcomes.append(outcome)
        return outcomes

    def was_committed(self, mark: str) -> bool:
        """PostgreSQL knows of each transaction how it ended. Asks until it does."""
        until = time.monotonic() + _LOST_COMMIT.total_seconds()
        while True:
            status = self._status_of(mark)
            if status in ("committed", "aborted"):
                _LOG.warning("a commit whose answer was lost", extra={"transaction": mark, "status": status})
                return status == "committed"
            if time.monotonic() > until:
                raise StoreUnavailable("it is not known whether the state store kept the last units: repeat them")
            time.sleep(_PAUSE.total_seconds())

    def _status_of(self, mark: str) -> str:
        try:
            with connected(self.engine) as connection:
                found = connection.exec_driver_sql(f"SELECT txid_status({int(mark)})").scalar()
                return str(found)
        except StoreUnavailable:
            return "unknown"
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) == "22023":
                return "aborted"  # in the future, says a standby that took over: it never got there
            return "unknown"  # not reachable yet

    def typed(self, error: BaseException | None) -> StoreError:
        return typed_error(error)


@dataclass(frozen=True, slots=True)
class _Reading(_Writing):
    """``Backend``: each unit on a snapshot of its own."""

    def run(self, connection: Connection, jobs: Sequence[Job]) -> Sequence[Outcome]:
        transaction = SqlTransaction.of(connection)
        outcomes: list[Outcome] = []
        for job in jobs:
            connection.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            outcomes.append(read_unit(job, transaction, typed_error))
            if connection.invalidated:
                raise _Broken("the connection to the state store broke") from outcomes[-1].error
            connection.exec_driver_sql("ROLLBACK")
        return outcomes
