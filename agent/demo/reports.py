"""The end of the demo for finance people: the day's income as a sheet, and both books of the day compared."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from his160.v1 import report_pb2

from agent.commands.report import first_rows
from agent.demo.narrator import Narrator
from agent.demo.site import Site
from agent.demo.story import Result, Story
from agent.report_access import ReportAccess, report_access
from his_db.errors import HisError
from his_db.report_rows import row_values
from his_db.sample import hospital_now
from sync.day_report import NAME as COMPARISON
from sync.day_report import SAME
from sync.report_book import RunOrigin, RunRow
from sync.report_export import file_name
from sync.report_pages import kept_pages
from sync.report_periods import Period
from sync.report_runs import NoSuchReport, RunOrder
from sync.store import StoreError

INCOME: Final = "R1"
_ROWS: Final = 5


@dataclass(frozen=True, slots=True)
class Made:
    """A report that was run: its row, its file, its first lines, and orders with a finding (of the comparison)."""

    row: RunRow
    path: Path
    lines: Sequence[str]
    wrong: Sequence[str]
    orders: Sequence[str]


def show_reports(site: Site, story: Story, folder: Path, narrator: Narrator) -> list[Result]:
    """Run both beside the running agent, print paths and first rows; each is a step of its own."""
    narrator.heading("报表与两方核对", "reports of the day, both books compared")
    results = []
    for name in (INCOME, COMPARISON):
        try:
            made = asyncio.run(_made(site, name, folder))
        except NoSuchReport:
            continue  # a pack without this report
        except (HisError, StoreError, OSError) as error:
            results.append(Result(f"report_{name}", False, f"{type(error).__name__}: {error}"))
            continue
        results.append(_told(made, story, narrator))
    return results


def _told(made: Made, story: Story, narrator: Narrator) -> Result:
    report = report_pb2.Report.FromString(made.row.definition)
    narrator.fact(f"{report.name} {report.title}", "", f"{made.row.rows} 行 rows: {made.path}")
    for line in made.lines:
        narrator.line(f"    {line}")
    detail = f"{made.row.rows} rows, {made.path.name}"
    if report.name != COMPARISON:
        return Result(f"report_{report.name}", made.row.rows > 0, detail)
    missing = [order.order_no for order in story.orders if order.his_id and order.order_no not in made.orders]
    wrong = [*made.wrong, *(f"{number}: not compared" for number in missing)]
    return Result(f"report_{report.name}", not wrong, "; ".join(wrong) or f"{detail}, no difference")


async def _made(site: Site, name: str, folder: Path) -> Made:
    today = hospital_now().date()
    async with report_access(site.config) as access:
        row = await access.runs.run(RunOrder(name, Period(today, today), RunOrigin.PERSON))
        path = folder / file_name(row, "xlsx")
        await access.exporter.write(row, "xlsx", path)
        lines = await first_rows(access.store, row, _ROWS)
        compared = await _compared(access, row) if name == COMPARISON else {}
    wrong = [f"{number}: {finding}" for number, finding in compared.items() if finding != SAME]
    return Made(row, path, lines, wrong, tuple(compared))


async def _compared(access: ReportAccess, row: RunRow) -> dict[str, str]:
    names = [column.name for column in report_pb2.Report.FromString(row.definition).columns]
    number, finding = names.index("ddh"), names.index("jg")
    found = {}
    async for _, rows in kept_pages(access.store, row):
        for values in map(row_values, rows):
            found[str(values[number])] = str(values[finding])
    return found
