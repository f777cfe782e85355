"""A thread with one connection and the queue in front of it: how every SQL store runs its units.

The writing lane takes all units that wait and runs them as one transaction, each in a savepoint: a rush of commands
costs one fsync, not one each. What is special about a database is its ``Backend``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from sync.store import StoreClosed, StoreError, Transaction
from sync.store_transaction import SqlTransaction

_LOG = logging.getLogger("his160.sync.store")
_GROUP = 256  # most units in one commit: bounds how long the first of them waits


@dataclass(frozen=True, slots=True)
class Job:
    """A unit, and who waits for it."""

    unit: Callable[[Transaction], Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a job: exactly one of value and error."""

    job: Job
    value: Any = None
    error: BaseException | None = None

    def settle(self) -> None:
        """Tells the one who waits. In the job's event loop."""
        if self.job.future.done():  # the caller was cancelled; the unit stays done
            return
        if self.error is None:
            self.job.future.set_result(self.value)
        else:
            self.job.future.set_exception(self.error)


class GroupLost(Exception):
    """The database rolled the whole transaction back while one unit ran (full disk, I/O error). Cause: the error."""


class CommitLost(Exception):
    """The connection broke at COMMIT. ``mark`` lets the backend find out whether the commit was done."""

    def __init__(self, mark: str, outcomes: Sequence[Outcome]) -> None:
        super().__init__("the connection broke at COMMIT")
        self.mark = mark
        self.outcomes = outcomes


class Backend(Protocol):
    """One side, writing or reading, of one database. Its methods are called from one thread."""

    def repeats(self, error: BaseException) -> bool:
        """Whether a group that failed before COMMIT may run on a new connection: this one was broken all along."""

    def connect(self) -> Connection:
        """A new connection. Raises DBAPIError, StoreError."""

    def run(self, connection: Connection, jobs: Sequence[Job]) -> Sequence[Outcome]:
        """Runs the jobs, to the commit. Raises DBAPIError, GroupLost (nothing was kept), CommitLost."""

    def was_committed(self, mark: str) -> bool:
        """After CommitLost: whether it was done. Raises StoreError: it cannot be found out."""

    def typed(self, error: BaseException | None) -> StoreError:
        """The store's error for one of the driver."""


class Lane:
    """The thread. ``submit`` from an event loop, ``stop`` from another thread."""

    def __init__(self, name: str, backend: Backend) -> None:
        self._backend = backend
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._guard = threading.Lock()  # no job may slip in behind the end mark
        self._closed = False
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def submit(self, unit: Callable[[Transaction], Any]) -> Any:
        """What the unit returned. Raises what it raised, StoreError."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        with self._guard:
            if self._closed:
                raise StoreClosed("the state store is closed")
            self._queue.put(Job(unit, future, loop))
        return await future

    def stop(self) -> None:
        """Ends the thread after what waits."""
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

    def _take(self) -> tuple[list[Job], bool]:
        """Waits for one job and takes what else is there; False when the end mark came."""
        jobs: list[Job] = []
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

    def _outcomes(self, jobs: Sequence[Job], *, again: bool = False) -> Sequence[Outcome]:
        held = self._connection is not None
        try:
            return self._backend.run(self._connected(), jobs)
        except GroupLost as lost:
            self._disconnect()
            if len(jobs) > 1:  # one unit too large must not take the small ones with it
                return [outcome for job in jobs for outcome in self._outcomes([job])]
            return [Outcome(jobs[0], error=self._backend.typed(lost.__cause__))]
        except CommitLost as lost:
            self._disconnect()
            return self._after_lost_commit(lost, jobs)
        except Exception as error:  # noqa: BLE001 - border of the thread: who waits must get an answer, whatever it is
            self._disconnect()  # a new connection next time: this is how the store recovers by itself
            if held and not again and self._backend.repeats(error):
                return self._outcomes(jobs, again=True)
            return self._failed(error, jobs)

    def _after_lost_commit(self, lost: CommitLost, jobs: Sequence[Job]) -> Sequence[Outcome]:
        try:
            if self._backend.was_committed(lost.mark):
                return lost.outcomes
        except Exception as error:  # noqa: BLE001 - whatever the look failed of is the answer to those who wait
            return self._failed(error, jobs)
        return self._failed(lost.__cause__, jobs)

    def _failed(self, error: BaseException | None, jobs: Sequence[Job]) -> Sequence[Outcome]:
        failure = self._backend.typed(error)
        cause = type(getattr(error, "orig", None) or error).__name__
        _LOG.error("state store failed", extra={"error": cause, "detail": str(failure), "units": len(jobs)})
        return [Outcome(job, error=failure) for job in jobs]

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._backend.connect()
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                connection.close()


def run_unit(job: Job, transaction: SqlTransaction, typed: Callable[[BaseException | None], StoreError]) -> Outcome:
    """One unit; whatever it raises is its caller's."""
    try:
        return Outcome(job, job.unit(transaction))
    except DBAPIError as error:
        return Outcome(job, error=typed(error))
    except BaseException as error:  # noqa: BLE001 - border of the thread: whatever a unit raises belongs to its caller
        return Outcome(job, error=error)


def read_unit(job: Job, transaction: SqlTransaction, typed: Callable[[BaseException | None], StoreError]) -> Outcome:
    """As ``run_unit``; the database refuses changes itself, but entries of the audit have not reached it yet."""
    outcome = run_unit(job, transaction, typed)
    if not transaction.audit.waiting:
        return outcome
    transaction.audit.forget(0)
    return Outcome(job, error=StoreError("a read unit cannot write into the audit"))


def _settle(outcomes: Sequence[Outcome]) -> None:
    """Hands the outcomes to their event loops, one call for each loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Outcome]] = {}
    for outcome in outcomes:
        by_loop.setdefault(outcome.job.loop, []).append(outcome)
    for loop, settled in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_settle_all, settled)


def _settle_all(outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        outcome.settle()
