"""Runs of reports and their pages in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, or_, select, update

from sync.report_book import FileState, PageRow, PushState, RunOrigin, RunRow, RunState
from sync.store_schema import REPORT_PAGES, REPORT_RUNS

_RUN = tuple(field.name for field in fields(RunRow))
_PAGE = tuple(field.name for field in fields(PageRow))
_ENUMS = {"origin": RunOrigin, "state": RunState, "push_state": PushState, "file_state": FileState}
_DAYS = ("first_day", "last_day")
_SELECT = select(*(REPORT_RUNS.c[name] for name in _RUN))
_RUNS = REPORT_RUNS.c


def _run(found: Row[Any]) -> RunRow:
    values = dict(zip(_RUN, found, strict=True))
    for name, kind in _ENUMS.items():
        values[name] = kind(values[name])
    for name in _DAYS:
        values[name] = date.fromisoformat(values[name])
    return RunRow(**values)


def _values(row: RunRow) -> dict[str, Any]:
    values = asdict(row)
    for name in _ENUMS:
        values[name] = values[name].value
    for name in _DAYS:
        values[name] = values[name].isoformat()
    return values


class SqlReportTable:
    """``ReportTable`` over a connection with an open transaction."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, run_id: str) -> RunRow | None:
        return self._one(_SELECT.where(_RUNS.run_id == run_id))

    def of_slot(self, slot: str) -> RunRow | None:
        return self._one(_SELECT.where(_RUNS.slot == slot))

    def put(self, row: RunRow) -> None:
        values = _values(row)
        changed = self._connection.execute(update(REPORT_RUNS).where(_RUNS.run_id == row.run_id).values(**values))
        if not changed.rowcount:
            self._connection.execute(REPORT_RUNS.insert().values(**values))

    def newest_done(self, report: str, first_day: date, last_day: date) -> RunRow | None:
        wanted = and_(
            _RUNS.report == report,
            _RUNS.first_day == first_day.isoformat(),
            _RUNS.last_day == last_day.isoformat(),
            _RUNS.state == RunState.DONE.value,
        )
        return self._one(_SELECT.where(wanted).order_by(_RUNS.finished_time.desc(), _RUNS.run_id.desc()).limit(1))

    def newest_scheduled(self, report: str) -> RunRow | None:
        wanted = and_(_RUNS.report == report, _RUNS.origin == RunOrigin.SCHEDULE.value)
        return self._one(_SELECT.where(wanted).order_by(_RUNS.first_day.desc(), _RUNS.last_day.desc()).limit(1))

    def listed(self, report: str, limit: int) -> Sequence[RunRow]:
        found = _SELECT if not report else _SELECT.where(_RUNS.report == report)
        found = found.order_by(_RUNS.begun_time.desc(), _RUNS.run_id.desc()).limit(limit)
        return [_run(row) for row in self._connection.execute(found)][::-1]

    def unfinished(self) -> Sequence[RunRow]:
        again = and_(_RUNS.state == RunState.FAILED.value, _RUNS.next_time.is_not(None))
        wanted = and_(_RUNS.origin == RunOrigin.SCHEDULE.value, or_(_RUNS.state == RunState.RUNNING.value, again))
        found = _SELECT.where(wanted).order_by(_RUNS.first_day, _RUNS.report)
        return [_run(row) for row in self._connection.execute(found)]

    def to_push(self, now: datetime, limit: int) -> Sequence[RunRow]:
        wanted = and_(_RUNS.push_state == PushState.PENDING.value, _RUNS.push_time <= now)
        found = _SELECT.where(wanted).order_by(_RUNS.push_time, _RUNS.run_id).limit(limit)
        return [_run(row) for row in self._connection.execute(found)]

    def to_file(self, limit: int) -> Sequence[RunRow]:
        wanted = and_(_RUNS.file_state == FileState.PENDING.value, _RUNS.state == RunState.DONE.value)
        found = _SELECT.where(wanted).order_by(_RUNS.finished_time, _RUNS.run_id).limit(limit)
        return [_run(row) for row in self._connection.execute(found)]

    def filed(self, run_id: str) -> None:
        done = update(REPORT_RUNS).where(_RUNS.run_id == run_id).values(file_state=FileState.DONE.value)
        self._connection.execute(done)

    def add_page(self, page: PageRow) -> None:
        self._connection.execute(REPORT_PAGES.insert().values(**asdict(page)))

    def page_at(self, run_id: str, row: int) -> PageRow | None:
        pages = REPORT_PAGES.c
        wanted = select(*(pages[name] for name in _PAGE)).where(pages.run_id == run_id, pages.first_row <= row)
        found = self._connection.execute(wanted.order_by(pages.first_row.desc()).limit(1)).first()
        if found is None:
            return None
        page = PageRow(*found)
        return page if row < page.first_row + page.rows else None

    def drop_pages(self, run_id: str) -> None:
        self._connection.execute(delete(REPORT_PAGES).where(REPORT_PAGES.c.run_id == run_id))

    def prune(self, before: datetime, limit: int) -> int:
        old = select(_RUNS.run_id).where(_RUNS.begun_time < before).limit(limit)
        ids = [row[0] for row in self._connection.execute(old)]
        if ids:
            self._connection.execute(delete(REPORT_PAGES).where(REPORT_PAGES.c.run_id.in_(ids)))
            self._connection.execute(delete(REPORT_RUNS).where(_RUNS.run_id.in_(ids)))
        return len(ids)

    def _one(self, wanted: Any) -> RunRow | None:
        found = self._connection.execute(wanted).first()
        return None if found is None else _run(found)
