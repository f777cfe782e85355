"""A lane: a few threads, each holding one connection, behind one bounded queue.

Drivers block, so a call leaves the event loop for a lane thread and comes back by one wake-up of the loop (several
results share a wake-up). A session stays with its thread for life: no checkout, no pool, no ``begin`` for reads.
What a failure means, and why only a break at COMMIT leaves the outcome unknown: ``his_db/lane_worker.py``.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar

from his_db.breaker import Breaker
from his_db.engine import Engine, Session
from his_db.errors import DeadlinePassed, HisError, HisUnavailable, MappingMismatch, Overloaded
from his_db.lane_worker import RESEND_AFTER, Bench, Job, Mailbox, Worker

T = TypeVar("T")

_ABORT_GRACE: Final = 2.0  # seconds a thread gets to come back after its connection was broken under it


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


class Lane:
    """See the module. ``clock`` gives seconds; every ``deadline`` is a time of that clock.

    Threads start with the first call and connect with their first job; ``close`` ends them. One lane may serve
    several event loops. ``breaker`` is usually the source's; ``source`` only names the threads. ``gate`` is asked
    before a call is queued and raises the HisError it refuses with; ``observe`` is told the seconds of each call.
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
        gate: Callable[[], None] | None = None,
        observe: Callable[[float], None] | None = None,
    ) -> None:
        if workers < 1 or queue_limit < 1:
            raise ValueError(f"lane {name}: workers and queue_limit must be at least 1")
        self.name = name
        self.read_only = read_only
        self.queue_limit = queue_limit
        self._clock = clock
        self._gate = gate or _nothing
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # callers only: a thread that had to wait for it would miss its turn
        self._accepted = 0
        self._dropped = 0
        self._full_at = queue_limit  # not before so many were accepted
        self._refused = 0
        self._started = False
        self._closing = False
        self._mailbox: Mailbox | None = None
        bench = Bench(
            engine=engine,
            breaker=breaker or Breaker(clock=clock),
            jobs=self._jobs,
            late=self._late,
            clock=clock,
            read_only=read_only,
            statement_timeout=statement_timeout,
            idle_check_after=idle_check_after.total_seconds(),
            observe=observe or _nothing,
        )
        title = f"his160-{source or engine.name}-{name}"
        self._workers = [Worker(bench, f"{title}-{number}") for number in range(1, workers + 1)]

    async def run(
        self, work: Callable[[Session], T], *, deadline: float | None = None, news: Callable[[T], bool] | None = None
    ) -> T:
        """Read: ``work`` runs in autocommit on a held session. Called a second time when an idle connection was lost.

        ``news`` (called in the thread): whether a result is worth a wake-up of the loop; others may be told together.

        Raises Overloaded (queue full), DeadlinePassed (before or while it ran; the statement then runs to its own
        time-out), HisUnavailable, HisBusy, HisRefused, MappingMismatch, and whatever else ``work`` raises by itself.
        """
        return await self._call(work, deadline, write=False, inside=False, autocommit=False, news=news)

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
        inside = may_commit_inside or autocommit
        return await self._call(work, deadline, write=True, inside=inside, autocommit=autocommit)

    async def _call(
        self,
        work: Callable[[Session], T],
        deadline: float | None,
        *,
        write: bool,
        inside: bool,
        autocommit: bool,
        news: Callable[[T], bool] | None = None,
    ) -> T:
        self._gate()
        loop = asyncio.get_running_loop()
        mailbox = self._mailbox
        if mailbox is None or mailbox.loop is not loop:
            mailbox = self._mailbox = Mailbox(loop, self._expire)
        now = self._clock()
        future: asyncio.Future[Any] = loop.create_future()
        job = Job(work, mailbox, future, deadline, now, write, inside, autocommit, news)
        if deadline is not None and now >= deadline:
            raise self._late(job)
        self._enqueue(job)
        leave = None if deadline is None else mailbox.deadlines.enter(job, deadline, now=now)
        try:
            result: T = await future
        except asyncio.CancelledError:
            self._drop(job)  # still queued: it never runs
            raise
        finally:
            if leave is not None:
                leave()
        return result

    def _enqueue(self, job: Job) -> None:
        with self._lock:
            if self._closing:
                raise HisUnavailable(f"lane {self.name} is closed", retry_after=RESEND_AFTER)
            if self._accepted >= self._full_at and self._is_full():
                self._refused += 1
                raise Overloaded(f"lane {self.name}: {self.queue_limit} calls are waiting", retry_after=RESEND_AFTER)
            self._accepted += 1
            if not self._started:
                self._started = True
                for worker in self._workers:
                    worker.thread.start()
            self._jobs.put(job)  # under the lock: nothing may arrive behind the end marks of ``close``

    def _queued(self) -> int:
        """Jobs that nobody has claimed. Only threads count what they took, so this never shows too few."""
        return self._accepted - self._dropped - sum(worker.taken for worker in self._workers)

    def _is_full(self) -> bool:
        self._full_at = self._accepted + self.queue_limit - self._queued()
        return self._accepted >= self._full_at

    def _drop(self, job: Job) -> bool:
        """Claim a queued job, so that it never runs; False when it was claimed before."""
        if not job.claim():
            return False
        with self._lock:
            self._dropped += 1
        return True

    def _expire(self, job: Job) -> None:
        """The caller's deadline passed (in the loop). A running write is left alone: its outcome must be told."""
        queued = self._drop(job)
        if job.future.done():
            return
        if queued:
            job.future.set_exception(self._late(job))
        elif not job.write:
            job.future.set_exception(DeadlinePassed(f"lane {self.name}: the deadline passed while it ran"))

    def _late(self, job: Job) -> HisError:
        with self._lock:
            self._refused += 1
        detail = f"lane {self.name}: the deadline passed before it was sent"
        return Overloaded(detail, retry_after=RESEND_AFTER) if job.write else DeadlinePassed(detail)

    def stats(self) -> LaneStats:
        """A snapshot; cheap enough for a metrics scrape."""
        workers = self._workers
        calls = sum(worker.calls for worker in workers)
        faults: Counter[str] = Counter()
        for worker in workers:
            faults.update(worker.faults.copy())
        return LaneStats(
            name=self.name,
            workers=len(workers),
            queued=self._queued(),
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
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is not None and self._drop(job):
                failure = HisUnavailable(f"lane {self.name} is closed", retry_after=RESEND_AFTER)
                job.mailbox.post(job.future, None, failure)
        for _ in self._workers:
            self._jobs.put(None)
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


def _nothing(*_: object) -> None:
    """A gate that is always open, an observer who does not care."""
