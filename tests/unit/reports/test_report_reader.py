"""ReadReport and ListReports: kept rows for days that are over, new ones for today, on from any row."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.type import date_pb2
from his160.v1 import report_pb2

from agent.errors import CallRefused
from agent.handler import CallContext, Identity
from agent.handlers.report_service import list_reports, read_report
from his_db.errors import SwitchedOff
from sync.report_pages import PAGE_ROWS
from sync.report_reader import ReportReader
from sync.report_runs import NoSuchReport
from sync.store import Store, open_store
from tests.unit.reports.bench import Bed, Hand, bed, compiled, make_his

COUNT = 2 * PAGE_ROWS + 5
CONTEXT = CallContext(Identity("relay", "bench"), "link", "1")
TODAY = date(2026, 11, 23)


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
async def store(tmp_path: Path, clock: Hand) -> AsyncIterator[Store]:
    opened = open_store(tmp_path / "state.db", clock)
    yield opened
    await opened.close()


@pytest.fixture
async def here(tmp_path: Path, store: Store, clock: Hand) -> AsyncIterator[Bed]:
    rows = [
        (f"202611{day}", None, "x", n, n / 100, None) for day, count in ((22, COUNT), (23, 2)) for n in range(count)
    ]
    async with bed(tmp_path, store, clock, make=lambda path: make_his(path, rows)) as found:
        yield found


def empty(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("DELETE FROM t")


def asked(first: date, last: date, row: int = 0, name: str = "R1") -> report_pb2.ReadReportRequest:
    days = [date_pb2.Date(year=day.year, month=day.month, day=day.day) for day in (first, last)]
    return report_pb2.ReadReportRequest(name=name, from_date=days[0], to_date=days[1], first_row=row)


async def read(here: Bed, request: report_pb2.ReadReportRequest, reader: ReportReader | None = None) -> list[Any]:
    handler = read_report(reader or ReportReader(here.runs, clock=here.clock))
    return [page async for page in handler(request, CONTEXT)]


YESTERDAY = asked(TODAY - timedelta(days=1), TODAY - timedelta(days=1))


async def test_pages_hold_everything(here: Bed) -> None:
    pages = await read(here, YESTERDAY)
    assert [(page.first_row, len(page.rows)) for page in pages] == [(0, 1000), (1000, 1000), (2000, 5)]
    assert pages[0].report == here.report.definition
    assert pages[0].read_time.ToDatetime() == here.clock.now.replace(tzinfo=None)
    assert not any(page.HasField("report") or page.HasField("read_time") for page in pages[1:])
    digest = hashlib.sha256(b"".join(row.SerializeToString(deterministic=True) for page in pages for row in page.rows))
    assert [page.checksum for page in pages] == [b"", b"", digest.digest()]


async def test_after_a_cut_it_goes_on_with_the_same_rows(here: Bed) -> None:
    whole = await read(here, YESTERDAY)
    empty(here.file)
    for first in (1, 1000, COUNT - 1, COUNT, COUNT + 7):
        request = report_pb2.ReadReportRequest()
        request.CopyFrom(YESTERDAY)
        request.first_row = first
        pages = await read(here, request)
        rows = [row for page in pages for row in page.rows]
        assert rows == [row for page in whole for row in page.rows][first:]
        assert pages[-1].checksum == whole[-1].checksum
        assert pages[0].first_row == min(first, COUNT)


async def test_days_that_are_over_keep_their_figures_and_today_is_read_anew(here: Bed) -> None:
    assert len(await read(here, YESTERDAY)) == 3
    today = asked(TODAY, TODAY)
    assert [len(page.rows) for page in await read(here, today)] == [2]
    empty(here.file)
    assert len(await read(here, YESTERDAY)) == 3
    assert [len(page.rows) for page in await read(here, today)] == [0]


async def test_readers_at_the_same_time_share_a_run(here: Bed) -> None:
    reader = ReportReader(here.runs, clock=here.clock)
    one, two = await asyncio.gather(read(here, YESTERDAY, reader), read(here, YESTERDAY, reader))
    assert one == two
    assert len(await here.runs.store.read(lambda work: work.reports.listed("R1", 10))) == 1


async def test_refusals(here: Bed, tmp_path: Path, store: Store, clock: Hand) -> None:
    with pytest.raises(NoSuchReport):
        await read(here, asked(TODAY, TODAY, name="R99"))
    with pytest.raises(CallRefused):
        await read(here, asked(TODAY, TODAY, row=-1))


async def test_quiet_hours_serve_what_is_kept(tmp_path: Path, store: Store, clock: Hand) -> None:
    async with bed(tmp_path, store, clock, more='quiet_hours = ["08:00-11:00"]') as here:
        with pytest.raises(SwitchedOff) as caught:
            await read(here, YESTERDAY)
        assert caught.value.retry_after == timedelta(hours=2)
        await here.run()
        assert [len(page.rows) for page in await read(here, YESTERDAY)] == [3]


async def test_lists_go_by_name_and_page(tmp_path: Path) -> None:
    text = "schema = 1\n" + "".join(
        f'[report.{name}]\ntitle = "t"\nsql = "SELECT 1 AS n"\ncolumns = [ {{ name = "n", title = "数", kind = "count" }} ]\n'
        for name in ("R2", "R10", "R1")
    )
    reports = compiled(tmp_path / "set", text=text).reports
    handler = list_reports(lambda: reports)
    first: Any = await handler(report_pb2.ListReportsRequest(page_size=2), CONTEXT)
    assert ([report.name for report in first.reports], first.next_page_token) == (["R1", "R10"], "R10")
    second: Any = await handler(report_pb2.ListReportsRequest(page_token="R10"), CONTEXT)
    assert ([report.name for report in second.reports], second.next_page_token) == (["R2"], "")
