"""One thread of a lane: takes jobs, runs them on the one session it holds, and says what a failure means.

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
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from his160.v1 import reason_pb2

from his_db.breaker import Breaker
from his_db.deadlines import Deadlines
from his_db.engine import Engine, Fault, Session
from his_db.errors import HisBusy, HisChanged, HisError, HisRefused, HisUnavailable, MappingMismatch, OutcomeUnknown

RESEND_AFTER: Final = timedelta(seconds=1)
_QUICK: Final = 0.005  # seconds: after a statement that took longer the next may too, and nobody is kept waiting for it
_HELD: Final = 0.02  # seconds that a result without news waits for others at most, and for one statement more
_BUSY_RETRY: Final = {
    Fault.DEADLOCK: timedelta(milliseconds=200),
    Fault.LOCK_TIMEOUT: timedelta(seconds=1),
    Fault.TIMEOUT: timedelta(seconds=2),
}
_MISMATCHES: Final = frozenset({Fault.RIGHTS, Fault.SCHEMA, Fault.SYNTAX, Fault.DATA, Fault.READ_ONLY})
# Of these, what no value of a request can cause: an object of the HIS is not as the mapping says.
_CHANGED: Final = frozenset({Fault.RIGHTS, Fault.SCHEMA, Fault.SYNTAX})
_BROKEN: Final = frozenset({Fault.CONNECT, Fault.LOST})
# Faults that a server reports before it runs a procedure's body: nothing can have been committed inside.
_BEFORE_BODY: Final = frozenset({Fault.CONNECT, Fault.RIGHTS, Fault.SCHEMA, Fault.SYNTAX, Fault.READ_ONLY})
# Faults that, as the answer to COMMIT, prove that the server rolled back.
_ROLLED_BACK: Final = _MISMATCHES | {Fault.CONSTRAINT, Fault.DEADLOCK, Fault.LOCK_TIMEOUT}


class Mailbox:
    """Carries results to one event loop. Results that come together share one wake-up of the loop.

    ``deadlines``: of the calls from that loop; ``expire`` is called with a job whose deadline has passed.
    """

    __slots__ = ("_done", "_scheduled", "deadlines", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, expire: Callable[[Job], None]) -> None:
        self.loop = loop
        self.deadlines: Deadlines[Job] = Deadlines(loop, expire)
        self._done: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._scheduled = False

    def post(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        """From a lane thread. Safe without a lock: the flag is cleared before emptying, and set after appending."""
        self._done.append((future, result, error))
        self.wake()

    def hold(self, future: asyncio.Future[Any], result: Any) -> None:
        """As ``post``, without waking the loop: with the next ``post``, or ``wake``."""
        self._done.append((future, result, None))

    def wake(self) -> None:
        """Have the loop deliver what there is."""
        if self._done and not self._scheduled:
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


@dataclass(slots=True, eq=False)
class Job:
    """One call. It is claimed once: by a thread (it runs) or by the caller (it is dropped).

    ``inside``: the work may commit by itself; ``autocommit``: no transaction is opened for a write. ``news``: whether
    a result must be told at once; None: always.
    """

    work: Callable[[Session], Any]
    mailbox: Mailbox
    future: asyncio.Future[Any]
    deadline: float | None
    queued_at: float
    write: bool
    inside: bool
    autocommit: bool
    news: Callable[[Any], bool] | None = None
    _claims: list[None] = field(default_factory=lambda: [None])

    def claim(self) -> bool:
        """Whether it is the caller's now. Needs no lock: to take the only item out of a list is one step."""
        try:
            self._claims.pop()
        except IndexError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Bench:
    """What the workers of one lane share. ``late`` makes the error of a job whose deadline passed in the queue.
    ``idle_check_after`` in seconds. ``observe`` is told the seconds of every call, from the thread."""

    engine: Engine
    breaker: Breaker
    jobs: queue.SimpleQueue[Job | None]
    late: Callable[[Job], HisError]
    clock: Callable[[], float]
    read_only: bool
    statement_timeout: timedelta | None
    idle_check_after: float
    observe: Callable[[float], None]


class Worker:
    """One thread and the one session it owns. Only this thread writes its counters; None in ``jobs`` ends it."""

    def __init__(self, bench: Bench, name: str) -> None:
        self.bench = bench
        self.engine = bench.engine
        self.session: Session | None = None
        self.thread = threading.Thread(target=self._loop, name=name, daemon=False)
        self.busy = False
        self.taken = 0
        self.calls = 0
        self.seconds = 0.0
        self.waited = 0.0
        self.faults: Counter[str] = Counter()
        self._errors = self.engine.driver_errors
        self._used_at = 0.0
        self._held: Mailbox | None = None  # where results without news lie of which the loop has not been told
        self._held_at = 0.0

    def _loop(self) -> None:
        bench, clock = self.bench, self.bench.clock
        try:
            while (job := self._next()) is not None:
                if not job.claim():
                    continue
                self.taken += 1
                started = clock()
                if job.deadline is not None and started >= job.deadline:
                    job.mailbox.post(job.future, None, bench.late(job))
                    continue
                self.busy = True
                result: Any = None
                error: BaseException | None = None
                try:
                    result = self._write(job) if job.write else self._read(job)
                except BaseException as raised:  # noqa: BLE001 - the border: a thread outlives whatever its work raises
                    error = raised
                ended = clock()
                self.calls += 1
                self.seconds += ended - started
                self.waited += started - job.queued_at
                self._used_at = ended
                self.busy = False
                bench.observe(ended - started)
                if error is not None or job.news is None or ended - started > _QUICK or job.news(result):
                    job.mailbox.post(job.future, result, error)
                else:
                    self._hold(job, result, ended)
                del job, result, error  # while waiting for the next job, do not keep this one's rows alive
        finally:
            self._discard()

    def _next(self) -> Job | None:
        """The next job; before the thread waits for one, everybody hears of what has ended."""
        jobs, held = self.bench.jobs, self._held
        if held is None:
            return jobs.get()
        try:
            job = jobs.get_nowait()
        except queue.Empty:
            self._tell()
            return jobs.get()
        if job is None or job.mailbox is not held:
            self._tell()
        return job

    def _tell(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.wake()

    def _hold(self, job: Job, result: Any, now: float) -> None:
        """No news, and the next job is seldom long: twenty such results wake the loop once, not twenty times."""
        if self._held is None:
            self._held, self._held_at = job.mailbox, now
        job.mailbox.hold(job.future, result)
        if now - self._held_at > _HELD:
            self._tell()

    def _read(self, job: Job) -> Any:
        """Only a connection that had been lying idle is worth a second try: a statement that breaks a fresh one
        would break the next one too."""
        again = True
        while True:
            session, held = self._acquire()
            try:
                return job.work(session)
            except self._errors as error:
                fault = self._note(error, session)
                late = job.deadline is not None and self.bench.clock() >= job.deadline
                if fault in _BROKEN and held and again and not late:
                    again = False
                    continue
                failure = self._failure(error, fault)
            except BaseException:
                self._settle(session)
                raise
            raise failure

    def _write(self, job: Job) -> Any:
        session = self._acquire()[0] if job.autocommit else self._begin()
        try:
            result = job.work(session)
        except self._errors as error:
            fault = self._note(error, session)
            self._undo(session, job)
            failure = self._failure(error, fault)
            if job.inside and fault not in _BEFORE_BODY:
                failure = OutcomeUnknown(f"a procedure that may commit by itself failed: {failure.detail}")
        except HisError:
            self._undo(session, job)
            raise
        except BaseException as error:
            self._undo(session, job)
            if job.inside:
                raise OutcomeUnknown(f"{type(error).__name__} after a procedure that may commit by itself") from error
            raise
        else:
            if not job.autocommit:
                self._commit(session, job)
            return result
        raise failure

    def _begin(self) -> Session:
        """A session in a new transaction. An idle connection that turns out dead is replaced once: nothing was sent."""
        again = True
        while True:
            session, held = self._acquire()
            try:
                session.begin()
                return session
            except self._errors as error:
                fault = self._note(error, session)
                self._discard()  # the state of a session whose BEGIN failed is not worth guessing
                if fault in _BROKEN and held and again:
                    again = False
                    continue
                failure = self._failure(error, fault)
            raise failure

    def _commit(self, session: Session, job: Job) -> None:
        try:
            session.commit()
            return
        except self._errors as error:
            fault = self._note(error, session)
            self._undo(session, job)
            failure = self._failure(error, fault)
        except BaseException as error:  # not the driver's, but COMMIT may be out
            self._discard()
            raise OutcomeUnknown(f"COMMIT was not confirmed: {type(error).__name__}") from error
        if fault in _ROLLED_BACK and not job.inside:
            raise failure
        self._discard()
        raise OutcomeUnknown(f"COMMIT was sent and not confirmed: {failure.detail}")

    def _undo(self, session: Session, job: Job) -> None:
        """Roll back, unless the connection is gone already: then the server does."""
        if self.session is not session:
            return
        if not job.autocommit:
            try:
                session.rollback()
            except self._errors as error:  # a session that cannot even roll back is closed: the server rolls back
                self._note(error, session)
                self._discard()
                return
        self._settle(session)

    def _acquire(self) -> tuple[Session, bool]:
        """The held session, or a new one; and whether it was held. Raises HisUnavailable when none is to be had."""
        bench, session = self.bench, self.session
        if session is not None:
            idle = bench.clock() - self._used_at
            if session.alive() and (idle < bench.idle_check_after or session.ping()):
                return session, True
            self._discard()
        bench.breaker.enter()
        try:
            session = self.engine.open(read_only=bench.read_only, statement_timeout=bench.statement_timeout)
        except self._errors as error:
            self.faults[Fault.CONNECT.value] += 1
            detail = f"{self.engine.name} connect: {self.engine.describe(error)}"
            failure = HisUnavailable(detail, retry_after=bench.breaker.failed(detail))
        except BaseException as error:
            bench.breaker.failed(f"{self.engine.name} connect: {type(error).__name__}")
            raise
        else:
            bench.breaker.succeeded()
            self.session = session
            return session, False
        raise failure

    def _note(self, error: Exception, session: Session) -> Fault:
        """Classify and count; a broken session is closed at once: its server side may hold locks until then."""
        fault = self.engine.classify(error, sent=True)
        self.faults[fault.value] += 1
        if fault in _BROKEN:
            self._discard()
        else:
            self._settle(session)
        return fault

    def _settle(self, session: Session) -> None:
        if self.session is session and not session.alive():
            self._discard()

    def _discard(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            session.close()

    def _failure(self, error: Exception, fault: Fault) -> HisError:
        """The HisError of a fault. It is raised outside the ``except``: the driver's exception, whose text may hold
        patient data, must not travel along as its context."""
        detail = f"{self.engine.name} {fault.value}: {self.engine.describe(error)}"
        if fault in _BROKEN:
            return HisUnavailable(detail, retry_after=RESEND_AFTER)
        if fault in _BUSY_RETRY:
            return HisBusy(detail, retry_after=_BUSY_RETRY[fault])
        if fault in _MISMATCHES:
            return HisChanged(detail) if fault in _CHANGED else MappingMismatch(detail)
        if fault is Fault.CONSTRAINT:
            return HisRefused(reason_pb2.REASON_HIS_REFUSED, detail, text=self.engine.sentence(error))
        return HisRefused(reason_pb2.REASON_INTERNAL, detail)
