"""Periodic work of the process, on APScheduler; the only file that imports it.

A job never runs twice at once, a run that was missed is made up for once, and a job that fails is shown in the status
and tried again at its next time.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger
from his160.v1 import agent_pb2

from agent.figures import Figures
from agent.log import frames
from agent.status import StatusBoard

_LOG: Final = logging.getLogger(__name__)


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

    def __init__(self, jobs: Sequence[Job], *, board: StatusBoard, figures: Figures) -> None:
        self._jobs = tuple(jobs)
        self._board = board
        self._figures = figures
        self._scheduler = AsyncIOScheduler(timezone=UTC)

    def start(self) -> None:
        """Begin. A job's first run comes after its ``first``."""
        for job in self._jobs:
            first = job.every if job.first is None else job.first
            self._scheduler.add_job(
                self._run,
                IntervalTrigger(seconds=max(0.001, job.every.total_seconds()), timezone=UTC),
                args=(job,),
                id=job.name,
                max_instances=1,
                coalesce=True,
                misfire_grace_time=None,
                next_run_time=datetime.now(UTC) + first,
            )
        self._scheduler.start()

    def stop(self) -> None:
        """Start no more runs; one under way is cancelled with the event loop's other tasks."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    async def _run(self, job: Job) -> None:
        try:
            await job.run()
        except Exception as error:  # noqa: BLE001 - the job border: one failed run must not end the schedule
            self._figures.add(f"job_failures:{job.name}")
            self._board.report(f"job:{job.name}", agent_pb2.HEALTH_DEGRADED, type(error).__name__)
            _LOG.error("job %s failed: %s", job.name, frames(error))
            return
        self._figures.add(f"job_runs:{job.name}")
        self._board.report(f"job:{job.name}", agent_pb2.HEALTH_OK)
