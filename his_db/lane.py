"""A lane: a few threads, each holding one connection, behind one bounded queue.

Drivers block, so a call leaves the event loop for a lane thread and comes back by one wake-up of the loop (several
results share a wake-up). A session stays with its thread for life: no checkout, no pool, no ``begin`` for reads.

Why a break *before* COMMIT is safe, and only a break *at* COMMIT is not: every database here makes the changes of a
transaction durable only when it has read COMMIT, and undoes the transaction when it loses the client before. Until
this module hands COMMIT to the driver the server cannot have it; so when BEGIN or any statement fails, whatever the
driver says, nothing stays changed: HisUnavailable, and the caller may send the same again. Once COMMIT was handed
over, a missing answer says nothing (it may have died on the way there or on the way back): OutcomeUnknown. An
error that the server *answers* to COMMIT (a deferred constraint, a serialization failure) is a rollback and is told
as what it is. One exception: a procedure that commits by itself (mapping ``commits = "procedure"`` or ``"unknown"``)
can have committed before anything that breaks later; ``transact(may_commit_inside=True)`` therefore turns every
failure that the procedure can have met half way into OutcomeUnknown.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, NoReturn, TypeVar

from his160.v1 import reason_pb2

from his_db.breaker import Breaker
from his_db.engine import Engine, Fault, Session
from his_db.errors import (
    DeadlinePassed,
    HisBusy,
    HisError,
    HisRefused,
    HisUnavailable,
    MappingMismatch,
    OutcomeUnknown,
    Overloaded,
)

T = TypeVar("T")

_BUSY_RETRY: Final = {
    Fault.DEADLOCK: timedelta(milliseconds=200),
    Fault.LOCK_TIMEOUT: timedelta(seconds=1),
    Fault.TIMEOUT: timedelta(seconds=2),
}
_MISMATCHES: Final = frozenset({Fault.RIGHTS, Fault.SCHEMA, Fault.SYNTAX, Fault.DATA, Fault.READ_ONLY})
_BROKEN: Final = frozenset({Fault.CONNECT, Fault.LOST})
# Faults that a server reports before it runs a procedure's body: nothing can have been committed inside.
_BEFORE_BODY: Final = frozenset({Fault.CONNECT, Fault.RIGHTS, Fault.SCHEMA, Fault.SYNTAX, Fault.READ_ONLY})
# Faults that, as the answer to COMMIT, prove that the server rolled back.
_ROLLED_BACK: Final = _MISMATCHES | {Fault.CONSTRAINT, Fault.DEADLOCK, Fault.LOCK_TIMEOUT}
_ABORT_GRACE: Final = 2.0  # seconds a thread gets to come back after its connection was broken under it
_RESEND: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class LaneStats:
    """A snapshot of one lane. Times in seconds; ``faults`` counts by Fault value, ``refused`` what never was sent."""

    name: str
    workers: int
    queued: int
    busy: int
    open_sessions: int
    calls: int
    refused: int
    faults: Mapping[str, int]
    mean_seconds: float
    mean_wait_seconds: float


class _Mailbox:
    """Carries results to one event loop. Results that come together share one wake-up of the loop."""

    __slots__ = ("_done", "_scheduled", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._done: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._scheduled = False

    def post(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        """From a lane thread. Safe without a lock: the flag is cleared before emptying, and set after appending."""
        self._done.append((future, result, error))
        if not self._scheduled:
            self._scheduled = True
            try:
                self.loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:
                self._done.clear()  # the loop is closed: nobody waits any more

    def _deliver(self) -> None:
        self._scheduled = False
        done = self._done
        while done:
            future, result, error = done.popleft()
            if future.done():
                continue  # the caller went away
            if error is None:
                future.set_result(result)
            elif isinstance(error, StopIteration):  # a future refuses it: it would end the awaiting generator
                future.set_exception(HisRefused(reason_pb2.REASON_INTERNAL, "StopIteration in a lane's work"))
            else:
                future.set_exception(error)


class _Job:
    """One call. ``taken`` is decided under the lane's lock: by a thread (it runs) or by the caller (it is dropped)."""

    __slots__ = ("autocommit", "deadline", "future", "inside", "mailbox", "queued_at", "taken", "work", "write")

    def __init__(
        self,
        work: Callable[[Session], Any],
        mailbox: _Mailbox,
        *,
        deadline: float | None,
        queued_at: float,
        write: bool,
        inside: bool,
        autocommit: bool,
    ) -> None:
        self.work = work
        self.mailbox = mailbox
        self.future: asyncio.Future[Any] = mailbox.loop.create_future()
        self.deadline = deadline
        self.queued_at = queued_at
        self.write = write
        self.inside = inside
        self.autocommit = autocommit
        self.taken = False


class Lane:
    """See the module. ``clock`` gives seconds; every ``deadline`` is a time of that clock.

    Threads start with the first call and connect with their first job; ``close`` ends them. One lane may serve
    several event loops.
    """

    def __init__(
        self,
        name: str,
        engine: Engine,
        *,
        workers: int,
        queue_limit: int,
        read_only: bool,
        clock: Callable[[], float] = time.monotonic,
        statement_timeout: timedelta | None = None,
        idle_check_after: timedelta = timedelta(seconds=30),
        breaker: Breaker | None = None,
        source: str = "",
    ) -> None:
        if workers < 1 or queue_limit < 1:
            raise ValueError(f"lane {name}: workers and queue_limit must be at least 1")
        self.name = name
        self.engine = engine
        self.read_only = read_only
        self.queue_limit = queue_limit
        self.clock = clock
        self.statement_timeout = statement_timeout
        self.idle_check_after = idle_check_after.total_seconds()
        self.breaker = breaker or Breaker(clock=clock)
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._queued = 0
        self._refused = 0
        self._started = False
        self._closing = False
        self._mailbox: _Mailbox | None = None
        self._workers = [_Worker(self, f"his160-{source or engine.name}-{name}-{n}") for n in range(1, workers + 1)]

    async def run(self, work: Callable[[Session], T], *, deadline: float | None = None) -> T:
        """Read: ``work`` runs in autocommit on a held session. Called a second time when an idle connection was lost.

        Raises Overloaded (queue full), DeadlinePassed (before or while it ran; the statement then runs to its own
        time-out), HisUnavailable, HisBusy, HisRefused, MappingMismatch, and whatever else ``work`` raises by itself.
        """
        return await self._call(work, deadline, write=False, inside=False, autocommit=False)

    async def transact(
        self,
        work: Callable[[Session], T],
        *,
        deadline: float | None = None,
        may_commit_inside: bool = False,
        autocommit: bool = False,
    ) -> T:
        """Write: begin, ``work``, commit; rolled back on any exception. ``deadline`` bounds the waiting only.

        ``may_commit_inside``: ``work`` calls a procedure that may commit by itself. ``autocommit`` (implies it): no
        transaction is opened at all, for procedures that certainly commit themselves (PostgreSQL forbids a COMMIT
        inside a caller's transaction); there is then nothing to roll back.
        A cancelled caller never interrupts a running write: it runs to its end and commits; a queued one is dropped.
        Raises like ``run`` (a wait too long is Overloaded, not DeadlinePassed), and OutcomeUnknown.
        """
        if self.read_only:
            raise MappingMismatch(f"lane {self.name} is read-only: a write was given to it")
        return await self._call(
            work, deadline, write=True, inside=may_commit_inside or autocommit, autocommit=autocommit
        )

    async def _call(
        self, work: Callable[[Session], T], deadline: float | None, *, write: bool, inside: bool, autocommit: bool
    ) -> T:
        loop = asyncio.get_running_loop()
        mailbox = self._mailbox
        if mailbox is None or mailbox.loop is not loop:
            mailbox = self._mailbox = _Mailbox(loop)
        now = self.clock()
        if deadline is not None and now >= deadline:
            raise self._refuse(self._late(write))
        job = _Job(
            work, mailbox, deadline=deadline, queued_at=now, write=write, inside=inside, autocommit=autocommit
        )
        self._enqueue(job)
        if deadline is None:
            try:
                result: T = await job.future
                return result
            except asyncio.CancelledError:
                self._drop(job)
                raise
        timer = loop.call_later(deadline - now, self._expire, job)
        try:
            result = await job.future
            return result
        except asyncio.CancelledError:
            self._drop(job)
            raise
        finally:
            timer.cancel()

    def _enqueue(self, job: _Job) -> None:
        with self._lock:
            if self._closing:
                raise HisUnavailable(f"lane {self.name} is closed", retry_after=_RESEND)
            if self._queued >= self.queue_limit:
                self._refused += 1
                raise Overloaded(f"lane {self.name}: {self.queue_limit} calls are waiting", retry_after=_RESEND)
            self._queued += 1
            if not self._started:
                self._started = True
                for worker in self._workers:
                    worker.start()
        self._queue.put(job)

    def _drop(self, job: _Job) -> bool:
        """Take a queued job out of the count; False when a thread already runs it."""
        with self._lock:
            if job.taken:
                return False
            job.taken = True
            self._queued -= 1
            return True

    def _take(self, job: _Job) -> bool:
        return self._drop(job)

    def _expire(self, job: _Job) -> None:
        """The caller's deadline passed (in the loop). A running write is left alone: its outcome must be told."""
        queued = self._drop(job)
        if (queued or not job.write) and not job.future.done():
            job.future.set_exception(self._refuse(self._late(job.write)) if queued else self._late(False))

    def _late(self, write: bool) -> HisError:
        if write:
            return Overloaded(f"lane {self.name}: the deadline passed before it was sent", retry_after=_RESEND)
        return DeadlinePassed(f"lane {self.name}: the deadline passed")

    def _refuse(self, error: HisError) -> HisError:
        with self._lock:
            self._refused += 1
        return error

    def stats(self) -> LaneStats:
        """A snapshot; cheap enough for a metrics scrape."""
        workers = self._workers
        calls = sum(worker.calls for worker in workers)
        faults: Counter[str] = Counter()
        for worker in workers:
            faults.update(dict(worker.faults))
        return LaneStats(
            name=self.name,
            workers=len(workers),
            queued=self._queued,
            busy=sum(worker.busy for worker in workers),
            open_sessions=sum(worker.session is not None for worker in workers),
            calls=calls,
            refused=self._refused,
            faults=faults,
            mean_seconds=sum(worker.seconds for worker in workers) / calls if calls else 0.0,
            mean_wait_seconds=sum(worker.waited for worker in workers) / calls if calls else 0.0,
        )

    async def close(self, grace: timedelta) -> None:
        """Refuse new and queued calls, let running ones end within ``grace``, then break their connections.

        A write broken here before its COMMIT is rolled back by the server and answered HisUnavailable.
        """
        with self._lock:
            self._closing = True
            started, self._started = self._started, False
        if not started:
            return
        while True:
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                break
            if job is not None and self._take(job):
                job.mailbox.post(job.future, None, HisUnavailable(f"lane {self.name} is closed", retry_after=_RESEND))
        for _ in self._workers:
            self._queue.put(None)
        await asyncio.to_thread(self._join, grace.total_seconds())

    def _join(self, grace: float) -> None:
        end = time.monotonic() + grace
        for worker in self._workers:
            worker.thread.join(max(0.0, end - time.monotonic()))
        late = [worker for worker in self._workers if worker.thread.is_alive()]
        for worker in late:
            session = worker.session
            if session is not None:
                session.abort()
        for worker in late:
            worker.thread.join(_ABORT_GRACE)


class _Worker:
    """One thread of a lane and the one session it owns. Its counters are written by this thread only."""

    def __init__(self, lane: Lane, name: str) -> None:
        self.lane = lane
        self.engine = lane.engine
        self.session: Session | None = None
        self.thread = threading.Thread(target=self._loop, name=name, daemon=False)
        self.busy = False
        self.calls = 0
        self.seconds = 0.0
        self.waited = 0.0
        self.faults: Counter[str] = Counter()
        self._used_at = 0.0

    def start(self) -> None:
        self.thread.start()

    def _loop(self) -> None:
        lane, clock = self.lane, self.lane.clock
        get = lane._queue.get
        try:
            while (job := get()) is not None:
                if not lane._take(job):
                    continue
                started = clock()
                if job.deadline is not None and started >= job.deadline:
                    job.mailbox.post(job.future, None, lane._refuse(lane._late(job.write)))
                    continue
                self.busy = True
                result: Any = None
                error: BaseException | None = None
                try:
                    result = self._write(job) if job.write else self._read(job)
                except BaseException as raised:  # the border: a thread must outlive whatever its work raises
                    error = raised
                ended = clock()
                self.calls += 1
                self.seconds += ended - started
                self.waited += started - job.queued_at
                self._used_at = ended
                self.busy = False
                job.mailbox.post(job.future, result, error)
                del job, result, error  # while waiting for the next job, do not keep this one's rows alive
        finally:
            self._discard()

    def _read(self, job: _Job) -> Any:
        session, held = self._acquire()
        try:
            return job.work(session)
        except HisError:
            self._check(session)
            raise
        except Exception as error:
            fault = self._note(error)
            self._check(session, fault)
            late = job.deadline is not None and self.lane.clock() >= job.deadline
            # Only a connection that had been lying idle is worth a second try; a statement that breaks a fresh
            # connection would break the next one too.
            if fault not in _BROKEN or not held or late:
                self._raise(error, fault)
        session, _ = self._acquire()
        try:
            return job.work(session)
        except HisError:
            self._check(session)
            raise
        except Exception as error:
            fault = self._note(error)
            self._check(session, fault)
            self._raise(error, fault)

    def _write(self, job: _Job) -> Any:
        session = self._acquire()[0] if job.autocommit else self._begin()
        try:
            result = job.work(session)
        except HisError:
            self._undo(session, job)
            raise
        except Exception as error:
            fault = self._note(error)
            self._undo(session, job, fault)
            if job.inside and fault not in _BEFORE_BODY:
                raise OutcomeUnknown(
                    f"a procedure that may commit by itself failed: {self._tell(error, fault)}"
                ) from None
            self._raise(error, fault)
        except BaseException:  # a thread's SystemExit: still never leave a transaction open
            self._undo(session, job)
            raise
        if not job.autocommit:
            self._commit(session, job)
        return result

    def _begin(self) -> Session:
        """A session in a new transaction. An idle connection that turns out dead is replaced once: nothing was sent."""
        session, held = self._acquire()
        try:
            session.begin()
            return session
        except Exception as error:
            fault = self._note(error)
            self._check(session, fault)
            if fault not in _BROKEN or not held:
                self._discard()  # the state of a session whose BEGIN failed is not worth guessing
                self._raise(error, fault)
        session, _ = self._acquire()
        try:
            session.begin()
            return session
        except Exception as error:
            fault = self._note(error)
            self._discard()
            self._raise(error, fault)

    def _commit(self, session: Session, job: _Job) -> None:
        try:
            session.commit()
        except Exception as error:
            fault = self._note(error)
            self._undo(session, job, fault)
            if fault in _ROLLED_BACK and not job.inside:
                self._raise(error, fault)
            self._discard()
            raise OutcomeUnknown(f"COMMIT was sent and not confirmed: {self._tell(error, fault)}") from None

    def _undo(self, session: Session, job: _Job, fault: Fault | None = None) -> None:
        if not job.autocommit and fault not in _BROKEN:
            try:
                session.rollback()
            except Exception as error:  # a session that cannot even roll back is closed; the server then rolls back
                self._note(error)
                self._discard()
                return
        self._check(session, fault)

    def _acquire(self) -> tuple[Session, bool]:
        """The held session, or a new one; and whether it was held. Raises HisUnavailable when there is none to be had."""
        session = self.session
        if session is not None:
            idle = self.lane.clock() - self._used_at
            if session.alive() and (idle < self.lane.idle_check_after or session.ping()):
                return session, True
            self._discard()
        breaker = self.lane.breaker
        breaker.enter()
        try:
            session = self.engine.open(read_only=self.lane.read_only, statement_timeout=self.lane.statement_timeout)
        except Exception as error:
            self.faults[Fault.CONNECT.value] += 1
            detail = self._tell(error, Fault.CONNECT)
            raise HisUnavailable(detail, retry_after=breaker.failed(detail)) from None
        except BaseException:
            breaker.failed("connecting was interrupted")
            raise
        breaker.succeeded()
        self.session = session
        return session, False

    def _check(self, session: Session, fault: Fault | None = None) -> None:
        """Close the session at once when it is broken: its server side may go on holding locks until then."""
        if fault in _BROKEN or not session.alive():
            self._discard()

    def _discard(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            session.close()

    def _note(self, error: BaseException) -> Fault:
        fault = self.engine.classify(error, sent=True)
        self.faults[fault.value] += 1
        return fault

    def _tell(self, error: BaseException, fault: Fault) -> str:
        return f"{self.engine.name} {fault.value}: {self.engine.describe(error)}"

    def _raise(self, error: Exception, fault: Fault) -> NoReturn:
        """Raise the HisError of a fault. The driver's exception is not chained: its text may hold patient data."""
        if fault is Fault.OTHER and not isinstance(error, self.engine.driver_error):
            raise error  # not the database's: a fault of ours in ``work``, which is worth its traceback
        detail = self._tell(error, fault)
        if fault in _BROKEN:
            raise HisUnavailable(detail, retry_after=_RESEND) from None
        if fault in _BUSY_RETRY:
            raise HisBusy(detail, retry_after=_BUSY_RETRY[fault]) from None
        if fault in _MISMATCHES:
            raise MappingMismatch(detail) from None
        if fault is Fault.CONSTRAINT:
            text = self.engine.sentence(error)
            raise HisRefused(reason_pb2.REASON_HIS_REFUSED, detail, text=text) from None
        raise HisRefused(reason_pb2.REASON_INTERNAL, detail) from None
