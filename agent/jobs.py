"""Periodic work of the process, on APScheduler; the only file that imports it.

A job never runs twice at once, a run that was missed is made up for once, and a job that fails is shown in the status
and tried again at its next time. The rhythm of a job is that of passing time: APScheduler goes by the wall clock, so
when that is set back its times are set back with it, or no job would run until the clock came there again. A clock that
is set forward lets everything run once, as after a machine's sleep.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Final

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger
from his160.v1 import agent_pb2

from agent.figures import Figures
from agent.log import frames
from agent.status import StatusBoard
from sync.clock import Clock, utc_now

_LOG: Final = logging.getLogger(__name__)
_CLOCK_EVERY: Final = 1.0
_STEP: Final = timedelta(seconds=1)  # less costs a job no more than that


@dataclass(frozen=True, slots=True)
class Job:
    """What to do every so often. ``run`` may fail: it is called again after the next ``every``."""

    name: str
    every: timedelta
    run: Callable[[], Awaitable[None]]
    first: timedelta | None = None
    """Time until the first run; None: ``every``."""


class Jobs:
    """The scheduler of the process. ``start`` in the event loop, ``stop`` before the loop ends."""

    def __init__(
        self,
        jobs: Sequence[Job],
        *,
        board: StatusBoard,
        figures: Figures,
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``clock``: the one that APScheduler goes by, ``monotonic``: one that nobody sets."""
        self._clock = clock
        self._monotonic = monotonic
        self._ahead = 0.0  # of the wall clock, against the monotonic one
        self._clock_watch: asyncio.TimerHandle | None = None
        self._jobs = tuple(jobs)
        self._board = board
        self._figures = figures
        self._scheduler = AsyncIOScheduler(timezone=UTC)
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._beat: float | None = None

    def beat(self) -> float | None:
        """When a job last began, on the clock of ``time.monotonic``; None before the first."""
        return self._beat

    def start(self) -> None:
        """Begin. A job's first run comes after its ``first``."""
        rhythms: dict[tuple[timedelta, timedelta], list[Job]] = {}
        for job in self._jobs:
            rhythms.setdefault((job.every, job.every if job.first is None else job.first), []).append(job)
        for (every, first), jobs in rhythms.items():
            self._scheduler.add_job(
                self._begin,
                IntervalTrigger(seconds=max(0.001, every.total_seconds()), timezone=UTC),
                args=(jobs,),
                id=" ".join(job.name for job in jobs),
                max_instances=1,
                coalesce=True,
                misfire_grace_time=None,
                next_run_time=self._clock() + first,
            )
        self._scheduler.start()
        self._ahead = self._wall() - self._monotonic()
        self._watch_clock()

    def stop(self) -> None:
        """Start no more runs; one under way is cancelled with the event loop's other tasks."""
        if self._clock_watch is not None:
            self._clock_watch.cancel()
            self._clock_watch = None
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def look_at_clock(self) -> None:
        """Has the wall clock been set back since the last look? Then each job's next time is set back as far."""
        ahead = self._wall() - self._monotonic()
        step = timedelta(seconds=ahead - self._ahead)
        self._ahead = ahead
        if step > -_STEP:
            return
        _LOG.warning("the clock was set back by %.0f s; periodic work goes on in its rhythm", -step.total_seconds())
        self._figures.add("clock_set_back")
        for job in self._scheduler.get_jobs():
            job.modify(next_run_time=job.next_run_time + step)

    def _watch_clock(self) -> None:
        self._clock_watch = asyncio.get_running_loop().call_later(_CLOCK_EVERY, self._clock_due)

    def _clock_due(self) -> None:
        self.look_at_clock()
        self._watch_clock()

    def _wall(self) -> float:
        return self._clock().timestamp()

    async def _begin(self, jobs: Sequence[Job]) -> None:
        """A run of each that is not under way still. One turn of the scheduler for a rhythm: it costs more than most
        runs."""
        for job in jobs:
            if job.name not in self._runs:
                task = self._runs[job.name] = asyncio.create_task(self._run(job), name=f"job:{job.name}")
                task.add_done_callback(lambda _, name=job.name: self._runs.pop(name))  # type: ignore[misc]

    async def _run(self, job: Job) -> None:
        self._beat = time.monotonic()
        try:
            await job.run()
        except Exception as error:  # noqa: BLE001 - the job border: one failed run must not end the schedule
            self._figures.add(f"job_failures:{job.name}")
            self._board.report(f"job:{job.name}", agent_pb2.HEALTH_DEGRADED, type(error).__name__)
            _LOG.error("job %s failed: %s", job.name, frames(error))
            return
        self._figures.add(f"job_runs:{job.name}")
        self._board.report(f"job:{job.name}", agent_pb2.HEALTH_OK)
