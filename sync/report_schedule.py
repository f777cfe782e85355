"""Scheduled reports: once per period, caught up after downtime, not in quiet hours, tried again after a failure."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from his_db.errors import HisError
from sync.clock import Clock
from sync.report_book import RunOrigin, RunRow, RunState
from sync.report_periods import Period, due, quiet_left
from sync.report_runs import ReportRuns, RunOrder, local, slot_of
from sync.report_source import Reportable
from sync.store import Transaction

_LOG: Final = logging.getLogger(__name__)
_A_MONTH: Final = timedelta(days=35)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A period of a report that is due. ``since``: the run that failed or was interrupted; None: it is the first."""

    report: Reportable
    period: Period
    since: RunRow | None = None


class ReportSchedule:
    """``tick`` is called every so often by the one agent that does the site's work; it runs what is due, in order.

    ``finished`` is told every run that is DONE (files are written there). ``catch_up``: how far back a period that
    was missed is still run. ``files``: files of the runs are wanted.
    """

    def __init__(
        self,
        runs: ReportRuns,
        *,
        clock: Clock,
        catch_up: timedelta,
        publish: bool,
        files: bool = False,
        finished: Callable[[RunRow], Awaitable[None]],
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._runs = runs
        self._clock = clock
        self._catch_up = catch_up
        self._publish = publish
        self._files = files
        self._finished = finished
        self._stopped = stopped

    async def tick(self) -> int:
        """Run what is due now; how many runs were DONE. Raises StoreError; a failed report does not stop the others."""
        done = 0
        for waiting in await self._due():
            if self._stopped():
                break
            if quiet_left(waiting.report.quiet, local(self._clock(), waiting.report)) > timedelta(0):
                continue
            done += await self._run(waiting)
        return done

    async def waiting(self) -> Sequence[Waiting]:
        """What is due now, quiet hours or not."""
        return await self._due()

    async def _run(self, waiting: Waiting) -> int:
        report, period = waiting.report, waiting.period
        slot = slot_of(report.name, period)
        order = RunOrder(report.name, period, RunOrigin.SCHEDULE, slot=slot, publish=self._publish, files=self._files)
        try:
            row = await self._runs.run(order)
        except HisError as error:
            _LOG.warning("report %s of %s: %s", report.name, period.name, error)
            return 0
        _LOG.info("report %s of %s: %d rows, run %s", report.name, period.name, row.rows, row.run_id)
        await self._finished(row)
        return 1

    async def _due(self) -> list[Waiting]:
        reports = [report for report in self._runs.reports().values() if report.cron is not None]
        if not reports:
            return []
        found, given_up = await self._runs.store.read(lambda work: self._look(work, reports))
        if given_up:
            await self._runs.store.write(lambda work: _put(work, given_up))
        return found

    def _look(self, work: Transaction, reports: Sequence[Reportable]) -> tuple[list[Waiting], list[RunRow]]:
        """What is due, and the failed runs that are not tried again, as they shall stand."""
        now = self._clock()
        known = {report.name: report for report in reports}
        found, given_up = [], []
        for row in work.reports.unfinished():
            report = known.get(row.report)
            if report is None or row.slot != slot_of(row.report, Period(row.first_day, row.last_day)):
                continue
            if row.state is RunState.FAILED and _is_too_old(row, now, self._back(report)):
                given_up.append(replace(row, next_time=None))
            elif row.state is RunState.RUNNING or (row.next_time is not None and row.next_time <= now):
                found.append(Waiting(report, Period(row.first_day, row.last_day), row))
        for report in reports:
            assert report.cron is not None
            last = work.reports.newest_scheduled(report.name)
            former = None if last is None else Period(last.first_day, last.last_day)
            at = local(now, report)
            periods = due(report.cron, report.period, last=former, now=at, catch_up=self._back(report))
            found += [Waiting(report, period) for period in periods]
        return found, given_up

    def _back(self, report: Reportable) -> timedelta:
        """How far back it is caught up: a month is never lost because the agent was away around its first day."""
        return self._catch_up if report.period == "day" else max(self._catch_up, _A_MONTH)


def _put(work: Transaction, rows: Sequence[RunRow]) -> None:
    for row in rows:
        work.reports.put(row)


def _is_too_old(row: RunRow, now: datetime, catch_up: timedelta) -> bool:
    return now.date() - row.last_day > catch_up + timedelta(days=1)
