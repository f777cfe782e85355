"""Reports for whoever asks for days of them: kept rows where there are any, else a new run, shared by all who ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

from his160.v1 import report_pb2

from his_db.errors import SwitchedOff
from sync.clock import Clock
from sync.report_book import RunOrigin, RunRow
from sync.report_pages import responses
from sync.report_periods import Period, quiet_left
from sync.report_runs import NoSuchReport, ReportRuns, RunOrder, local

_QUIET = "当前时段不运行报表"


class ReportReader:
    """Days that are over are answered from the run that was kept last, so that a figure stays what it was; a reader
    that goes on after a cut gets the run it began with as long as no newer one was made."""

    def __init__(self, runs: ReportRuns, *, clock: Clock) -> None:
        self._runs = runs
        self._clock = clock
        self._underway: dict[tuple[str, Period], asyncio.Task[RunRow]] = {}

    async def pages(self, name: str, period: Period, first_row: int) -> AsyncIterator[report_pb2.ReadReportResponse]:
        """Pages from ``first_row`` on. Raises NoSuchReport, HisError, StoreError."""
        row = await self._row(name, period, goes_on=first_row > 0)
        async for page, _ in responses(self._runs.store, row, first_row):
            yield page

    async def _row(self, name: str, period: Period, *, goes_on: bool) -> RunRow:
        report = self._runs.reports().get(name)
        if report is None:
            raise NoSuchReport(f"there is no report {name}")
        now = local(self._clock(), report)
        if goes_on or period.last < now.date():
            kept = await self._runs.store.read(lambda work: work.reports.newest_done(name, period.first, period.last))
            if kept is not None:
                return kept
        left = quiet_left(report.quiet, now)
        if left > timedelta(0):
            raise SwitchedOff(f"report {name}: quiet hours", note=_QUIET, retry_after=left)
        key = (name, period)
        task = self._underway.get(key)
        if task is None:
            task = asyncio.ensure_future(self._runs.run(RunOrder(name, period, RunOrigin.RELAY)))
            self._underway[key] = task
            task.add_done_callback(lambda done: self._ended(key, done))
        return await asyncio.shield(task)  # another reader may wait for the same run

    def _ended(self, key: tuple[str, Period], done: asyncio.Task[RunRow]) -> None:
        self._underway.pop(key, None)
        if not done.cancelled():
            done.exception()  # looked at: all its readers may have gone
