"""A small HIS in a real SQLite file with one report, and what runs it: shared by the tests of reports."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from his_db.access import HisAccess
from his_db.compiled_report import CompiledReport
from his_db.generation import Generation, compile_generation
from his_db.guard import GuardedHis
from his_db.mapping.load import load_mapping_set
from his_db.report_rows import row_values
from his_db.source import Source, settings_from_url
from sync.report_book import RunOrigin, RunRow
from sync.report_pages import kept_pages
from sync.report_periods import Period
from sync.report_runs import ReportRuns, RunOrder
from sync.report_source import ReportSource
from sync.store import Store

ZONE = "Asia/Shanghai"
DAY = date(2026, 11, 22)
PERIOD = Period(DAY, DAY)
REPORT = """
schema = 1
[report.R1]
title = "日报"
sql = "SELECT rq, sj, mc, rs, je, lv FROM t WHERE rq BETWEEN :from_date AND :to_date ORDER BY rowid"
params = [ { name = "from_date", from = "$from_date", date = "%Y%m%d" }, { name = "to_date", from = "$to_date", date = "%Y%m%d" } ]
columns = [
  { name = "day", column = "rq", title = "日期", kind = "date", date = "%Y%m%d" },
  { name = "at", column = "sj", title = "时间", kind = "time", datetime = "%Y%m%d%H:%M:%S" },
  { name = "mc", title = "名称", kind = "text" },
  { name = "rs", title = "人次", kind = "count" },
  { name = "je", title = "金额", kind = "fen", money = "yuan" },
  { name = "lv", title = "率", kind = "percent", rate = ["rs", "je"] },
]
%s
"""
NONE = 'schema = 1\noperation = "CatalogService.ListDoctors"\nkind = "unsupported"\nwhy = "只有报表"\n'
"""A set maps at least one operation."""
ROWS = [
    ("20261122", "2026112208:30:00", "内科", 2, 12.5, 2500),
    ("20261122", None, " =1+1 ", 1, -7.999999999999, None),
    ("20261122", "2026112223:59:59", "𠅤科", None, 0, 0),
]
VALUES = [
    ["2026-11-22", "2026-11-22 08:30:00", "内科", 2, 1250, 2500],
    ["2026-11-22", None, "=1+1", 1, -800, None],
    ["2026-11-22", "2026-11-22 23:59:59", "𠅤科", None, 0, 0],
]


def make_his(path: Path, rows: list[tuple[Any, ...]] = ROWS) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE t (rq TEXT, sj TEXT, mc TEXT, rs INTEGER, je REAL, lv INTEGER)")
        connection.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?)", rows)


def compiled(folder: Path, more: str = "", text: str = REPORT) -> Generation:
    folder.mkdir(exist_ok=True)
    (folder / "none.toml").write_text(NONE, encoding="utf-8")
    (folder / "reports.toml").write_text(text.replace("%s", more, 1) if "%s" in text else text, encoding="utf-8")
    return compile_generation(load_mapping_set(folder, sources={"his": "sqlite"}, timezone=ZONE))


@dataclass
class Hand:
    """A clock that stands until it is turned. It begins at 09:00 of the day after DAY, in the hospital."""

    now: datetime = field(default_factory=lambda: datetime(2026, 11, 23, 1, 0, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **parts: float) -> None:
        self.now += timedelta(**parts)


@dataclass
class Bed:
    """The HIS, its mappings, and the runs over a store."""

    his: GuardedHis
    runs: ReportRuns
    clock: Hand
    file: Path

    @property
    def report(self) -> CompiledReport:
        return self.his.reports()["R1"]

    async def run(self, period: Period = PERIOD, **more: Any) -> RunRow:
        return await self.runs.run(RunOrder("R1", period, RunOrigin.PERSON, **more))

    async def values(self, row: RunRow, first: int = 0) -> list[list[Any]]:
        return [list(row_values(each)) async for _, page in kept_pages(self.runs.store, row, first) for each in page]


@asynccontextmanager
async def bed(
    folder: Path,
    store: Store,
    clock: Hand,
    *,
    more: str = "",
    owner: str = "agent-1",
    make: Callable[[Path], None] = make_his,
) -> AsyncIterator[Bed]:
    file = folder / "his.db"
    if not file.exists():
        make(file)
    generation = compiled(folder / "set", more)
    source = Source(settings_from_url("his", f"sqlite:///{file}"))
    try:
        his = GuardedHis(HisAccess({"his": source}, generation, clock=clock))
        runs = ReportRuns(
            ReportSource(his),
            store,
            clock=clock,
            revision=lambda: generation.revision,
            owner=owner,
            spool=folder / "spool",
        )
        yield Bed(his, runs, clock, file)
    finally:
        await source.close()
