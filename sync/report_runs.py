"""Running a report: claim it, read it, keep it.

A run is claimed by its row: the slot (report and period) of a scheduled run exists once in the store, so that it is run
once across agents. A run that was interrupted is taken over with its slot by whoever has the lease.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Final

from his160.v1 import reason_pb2

from his_db.compiled_report import ReportReading
from his_db.errors import HisBusy, HisError, MappingMismatch
from sync.clock import Clock
from sync.outbox import append
from sync.report_book import FileState, PageRow, PushState, RunOrigin, RunRow, RunState
from sync.report_pages import Spool
from sync.report_periods import Period
from sync.report_ready import ReportReady
from sync.report_source import Reportable, ReportSource
from sync.store import Store, StoreError, Transaction

_LOG: Final = logging.getLogger(__name__)
_PAGES_AT_ONCE: Final = 4
_FIRST_AGAIN: Final = timedelta(minutes=2)
_LAST_AGAIN: Final = timedelta(hours=1)


class NoSuchReport(HisError):
    """The site has no report of that name."""

    reason = reason_pb2.REASON_REPORT_NOT_FOUND


class RunBusy(HisBusy):
    """This very run is under way."""


class RunGivenUp(HisBusy):
    """Nobody waits for the run any more."""


@dataclass(frozen=True, slots=True)
class RunOrder:
    """What to run. ``slot`` empty: it is no scheduled run. ``publish``: the relay gets the rows; ``files``: it gets
    files."""

    report: str
    period: Period
    origin: RunOrigin
    slot: str = ""
    publish: bool = False
    files: bool = False


def slot_of(report: str, period: Period) -> str:
    """The slot of a scheduled run."""
    return f"{report}/{period.name}"


class ReportRuns:
    """Runs reports into a store. ``owner`` names this process; ``spool``: folder for rows while the HIS is read.

    ``ready``: how the platform is told of a scheduled run. Without it, it is not.
    """

    def __init__(
        self,
        source: ReportSource,
        store: Store,
        *,
        clock: Clock,
        revision: Callable[[], str],
        owner: str,
        spool: Path,
        ready: ReportReady | None = None,
        underway: dict[str, tuple[str, Spool | None]] | None = None,
    ) -> None:
        self._source = source
        self._store = store
        self._clock = clock
        self._revision = revision
        self._owner = owner
        self._spool = spool
        self._ready = ready
        self._underway: dict[str, tuple[str, Spool | None]] = {} if underway is None else underway

    def over(self, store: Store) -> ReportRuns:
        """The same runs, kept by another store (a fenced one)."""
        return ReportRuns(
            self._source,
            store,
            clock=self._clock,
            revision=self._revision,
            owner=self._owner,
            spool=self._spool,
            ready=self._ready,
            underway=self._underway,
        )

    @property
    def store(self) -> Store:
        """Where runs are kept."""
        return self._store

    def reports(self) -> Mapping[str, Reportable]:
        """The reports of the running mappings."""
        return self._source.reports()

    def progress(self) -> Mapping[str, int]:
        """Report -> rows so far, of the runs of this process that are under way."""
        return {name: 0 if spool is None else spool.rows for name, spool in self._underway.values()}

    async def run(self, order: RunOrder) -> RunRow:
        """Run it; the finished row, DONE. A slot that is DONE already is not run again.

        Raises NoSuchReport, RunBusy, HisError, StoreError; a failure stands in the run's row as well.
        """
        report = self._source.reports().get(order.report)
        if report is None:
            raise NoSuchReport(f"there is no report {order.report}")
        key = order.slot or secrets.token_hex(8)
        if key in self._underway:
            raise RunBusy(f"report {order.report} of {order.period.name} is being run")
        self._underway[key] = (order.report, None)
        try:
            row = await self._store.write(lambda work: self._claim(work, order, report))
            return row if row.state is RunState.DONE else await self._read(row, order, report, key)
        finally:
            del self._underway[key]

    async def _read(self, row: RunRow, order: RunOrder, report: Reportable, key: str) -> RunRow:
        try:
            return await self._run(row, order, report, key)
        except asyncio.CancelledError:
            if not order.slot:  # a scheduled one is taken over; nobody takes over this one
                await self._failed(row, order, RunGivenUp("whoever asked for it has gone"))
            raise
        except Exception as error:  # BLE001 - whatever it is, the row must not stay RUNNING; it is raised on
            await self._failed(row, order, error)
            raise

    def _claim(self, work: Transaction, order: RunOrder, report: Reportable) -> RunRow:
        now = self._clock()
        run_id = f"{order.report}-{now:%Y%m%d%H%M%S}-{secrets.token_hex(4)}"
        found = work.reports.of_slot(order.slot) if order.slot else None
        if found is not None and found.state is RunState.DONE:
            return found
        row = RunRow(
            run_id=run_id if found is None else found.run_id,
            report=order.report,
            slot=order.slot or run_id,
            first_day=order.period.first,
            last_day=order.period.last,
            origin=order.origin,
            state=RunState.RUNNING,
            owner=self._owner,
            begun_time=now,
            attempt=1 if found is None else found.attempt + 1,
            mapping_revision=self._revision(),
            definition=report.definition.SerializeToString(),
        )
        work.reports.drop_pages(row.run_id)
        work.reports.put(row)
        return row

    async def _run(self, row: RunRow, order: RunOrder, report: Reportable, key: str) -> RunRow:
        spool = await asyncio.to_thread(Spool, self._spool)
        given_up = False
        self._underway[key] = (row.report, spool)
        try:
            reading = await self._source.read(report, (row.first_day, row.last_day), spool, stopped=lambda: given_up)
            pages = spool.pages(row.run_id)
            while batch := await asyncio.to_thread(_some, pages):
                await self._store.write(lambda work, batch=batch: self._keep(work, row, batch))  # type: ignore[misc]
            done = await self._store.write(lambda work: self._done(work, row, order, reading, spool.checksum))
            if order.slot and self._ready is not None:
                self._ready.appended()
            return done
        finally:
            given_up = True  # a lane thread that still reads for a caller who has gone stops at its next piece
            spool.close()

    def _keep(self, work: Transaction, row: RunRow, batch: Sequence[PageRow]) -> None:
        self._check_mine(work, row)
        for page in batch:
            work.reports.add_page(page)

    def _done(self, work: Transaction, row: RunRow, order: RunOrder, reading: ReportReading, checksum: bytes) -> RunRow:
        self._check_mine(work, row)
        now = self._clock()
        done = replace(
            row,
            state=RunState.DONE,
            finished_time=now,
            rows=reading.rows,
            input_hash=reading.input_hash,
            checksum=checksum,
            push_state=PushState.PENDING if order.publish else PushState.NONE,
            push_time=now if order.publish else None,
            file_state=FileState.PENDING if order.files else FileState.NONE,
        )
        work.reports.put(done)
        if order.slot and self._ready is not None:
            append(work, self._ready.event(done, now), now)
        return done

    def _check_mine(self, work: Transaction, row: RunRow) -> None:
        found = work.reports.get(row.run_id)
        if found is None or (found.owner, found.attempt, found.state) != (row.owner, row.attempt, RunState.RUNNING):
            raise RunBusy(f"the run {row.run_id} was taken over")

    async def _failed(self, row: RunRow, order: RunOrder, error: Exception) -> None:
        """Keeps why it failed, and when it is tried again. A store that cannot keep it leaves a RUNNING row, which is
        taken over."""
        # Texts of HisError and StoreError hold no values; of others only the name is safe.
        detail = (
            f"{type(error).__name__}: {error}" if isinstance(error, HisError | StoreError) else type(error).__name__
        )
        now = self._clock()
        wait = min(_FIRST_AGAIN * 2 ** min(row.attempt - 1, 10), _LAST_AGAIN)
        hint = error.retry_after if isinstance(error, HisError) else None
        if isinstance(error, MappingMismatch):
            wait = _LAST_AGAIN  # a person must mend the mapping first
        failed = replace(
            row,
            state=RunState.FAILED,
            finished_time=now,
            detail=detail[:500],
            next_time=now + max(wait, hint or timedelta(0)) if order.slot else None,
        )

        def unit(work: Transaction) -> None:
            self._check_mine(work, row)
            work.reports.drop_pages(row.run_id)
            work.reports.put(failed)

        try:
            await self._store.write(unit)
        except (StoreError, RunBusy) as trouble:
            _LOG.warning("the failure of the run %s cannot be kept: %s", row.run_id, trouble)


def _some(pages: Iterator[PageRow]) -> list[PageRow]:
    return list(islice(pages, _PAGES_AT_ONCE))


def local(moment: datetime, report: Reportable) -> datetime:
    """An instant on the hospital's wall clock, naive."""
    return moment.astimezone(report.zone).replace(tzinfo=None)
