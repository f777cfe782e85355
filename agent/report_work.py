"""Reports in the running agent: the schedule, its files, what goes to the relay, what the status shows."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from his160.v1 import agent_pb2

from agent.config import Settings
from agent.handlers.report_service import list_reports, read_report
from agent.jobs import Job
from agent.link.relay_link import RelayLinks
from agent.link.report_stream import ReportPusher
from agent.report_files import ReportFiles
from agent.report_place import SPOOL, exporter
from agent.status import ComponentState
from his_db.guard import GuardedHis
from sync.audit import Audit
from sync.clock import Clock
from sync.day_report import DayReport
from sync.report_book import RunRow, RunState
from sync.report_periods import Period
from sync.report_reader import ReportReader
from sync.report_ready import ReportReady
from sync.report_runs import ReportRuns
from sync.report_schedule import ReportSchedule
from sync.report_source import ReportSource
from sync.store import PRUNED_AT_ONCE, Store

_LOOK_EVERY: Final = timedelta(seconds=20)
_PUSH_EVERY: Final = timedelta(seconds=5)
_PRUNE_EVERY: Final = timedelta(hours=6)


class ReportWork:
    """``store`` answers calls; ``fenced`` is written by the one agent that does the site's work.

    ``appended``: called after events have come into the outbox.
    """

    def __init__(
        self,
        settings: Settings,
        his: GuardedHis,
        store: Store,
        fenced: Store,
        *,
        clock: Clock,
        audit: Audit,
        appended: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._fenced = fenced
        self._clock = clock
        self._audit = audit
        own = DayReport(his, store, ZoneInfo(settings.site.timezone), his.watch_names)
        source = ReportSource(his, {own.name: own})
        self._reports = source.reports
        self._runs = ReportRuns(
            source,
            store,
            clock=clock,
            revision=lambda: his.generation.revision,
            owner=f"{settings.site.instance}#{os.getpid()}.{secrets.token_hex(4)}",
            spool=settings.state.path.parent / SPOOL,
            ready=ReportReady(settings.site.code, appended),
        )
        self._files = ReportFiles(settings.report, fenced, exporter(settings, fenced), clock)
        self._schedule = ReportSchedule(
            self._runs.over(fenced),
            clock=clock,
            catch_up=settings.report.catch_up,
            publish=settings.report.publish and settings.relay.enabled,
            files=self._files.wanted,
            finished=self._files.write,
            stopped=lambda: self._stopping,
        )
        self._last: dict[str, RunRow] = {}
        self._one = asyncio.Lock()  # two looks at once would find the same due, and one of them in the other's hands
        self._ticking: asyncio.Task[None] | None = None
        self._stopping = False

    def specials(self) -> dict[str, Any]:
        """Handlers of ReportService that answer once."""
        return {"ReportService.ListReports": list_reports(self._reports)}

    def streams(self) -> dict[str, Any]:
        """Those that answer page by page."""
        return {"ReportService.ReadReport": read_report(ReportReader(self._runs, clock=self._clock))}

    def site_jobs(self, links: RelayLinks) -> list[Job]:
        """What one agent of the site does for all."""
        jobs = [Job("reports-prune", _PRUNE_EVERY, self._prune, first=timedelta(minutes=3))]
        if self._settings.report.enabled:
            jobs.append(Job("reports", _LOOK_EVERY, self._tick, first=timedelta(seconds=3)))
        if links.links:
            pusher = ReportPusher(links, self._fenced, clock=self._clock, audit=self._audit)

            async def push() -> None:
                await pusher.push()

            jobs.append(Job("reports-push", _PUSH_EVERY, push))
        return jobs

    def state(self) -> Iterable[ComponentState]:
        """``report:R1`` and so on: the last scheduled run of each, and how far one under way has come."""
        underway = self._runs.progress()
        for name, rows in underway.items():
            yield ComponentState(f"report:{name}", agent_pb2.HEALTH_OK, f"running: {rows} rows")
        for name, row in self._last.items():
            if name not in underway:
                yield _state(row)
        yield from self._files.states()

    def figures(self) -> Mapping[str, float]:
        """Runs under way."""
        return {"reports_running": float(len(self._runs.progress()))}

    async def stop(self, grace: timedelta) -> None:
        """Begin no more runs. One that reads the HIS is left to whoever comes next, a file is written to its end."""
        self._stopping = True
        ticking = self._ticking  # who started it forgets it as soon as it has ended
        if ticking is None:
            return
        if self._files.is_writing:
            await asyncio.wait((ticking,), timeout=grace.total_seconds())
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)

    async def _tick(self) -> None:
        async with self._one:
            if self._stopping:
                return
            self._ticking = asyncio.ensure_future(self._look())
            try:
                await self._ticking
            except asyncio.CancelledError:
                if not self._stopping:
                    raise
            finally:
                self._ticking = None

    async def _look(self) -> None:
        try:
            await self._files.look()
            await self._schedule.tick()
        finally:
            names = [name for name, report in self._reports().items() if report.cron is not None]
            rows = await self._fenced.read(lambda work: [work.reports.newest_scheduled(name) for name in names])
            self._last = {row.report: row for row in rows if row is not None}

    async def _prune(self) -> None:
        before = self._clock() - self._settings.report.keep
        few = PRUNED_AT_ONCE // 100  # a run has many pages
        while await self._fenced.write(lambda work: work.reports.prune(before, few)) >= few:
            pass


def _state(row: RunRow) -> ComponentState:
    days = Period(row.first_day, row.last_day).name
    if row.state is RunState.DONE:
        return ComponentState(f"report:{row.report}", agent_pb2.HEALTH_OK, f"{days}: {row.rows} rows, {row.run_id}")
    again = "" if row.next_time is None else f", again at {row.next_time:%Y-%m-%d %H:%M:%S} UTC"
    why = row.detail or "interrupted"
    return ComponentState(f"report:{row.report}", agent_pb2.HEALTH_DEGRADED, f"{days}: {why}{again}")
