"""``his160 report``: run a report, look at its runs, write them into files. Beside a running agent or without one."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from his160.v1 import report_pb2

from agent.commands.options import add_config
from agent.commands.report_work import show_work
from agent.config import load_settings
from agent.console import say, say_error
from agent.person import at_the_keyboard
from agent.report_access import ReportAccess, report_access
from agent.report_place import exporter
from agent.state_store import has_state, open_state
from his_db.errors import HisError
from his_db.report_rows import row_values
from sync.audit import as_json
from sync.clock import utc_now
from sync.registry import REPORT_FORMATS
from sync.report_book import RunOrigin, RunRow, RunState
from sync.report_export import file_name
from sync.report_format import FEN, PERCENT, Value
from sync.report_pages import kept_pages
from sync.report_periods import Period, month_of
from sync.report_runs import NoSuchReport, RunOrder
from sync.store import Store, StoreError

_RAN: Final = "report.run"
_STATES: Final = {RunState.RUNNING: "运行中", RunState.DONE: "完成", RunState.FAILED: "失败"}
_ORIGINS: Final = {RunOrigin.SCHEDULE: "计划", RunOrigin.PERSON: "手工", RunOrigin.RELAY: "160"}
_EVERY: Final = 0.5
_SHOWN: Final = 10


def main(arguments: Sequence[str]) -> int:
    """Exit code 0; 1: it failed, or there is no such report or run; 2: wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        if options.action in ("run", "list", "work", "verify"):
            return asyncio.run(_with_his(parser, options))
        return asyncio.run(_with_store(options))
    except NoSuchReport as error:
        say_error(f"映射中没有报表 {options.name}", str(error))
    except HisError as error:
        say_error(f"报表未完成：{type(error).__name__}", str(error))
    except StoreError as error:
        say_error(f"状态库无法使用：{type(error).__name__}", str(error))
    except OSError as error:
        say_error(f"文件无法写入：{error.strerror}", f"the file cannot be written: {error.filename}")
    return 1


async def _with_his(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    if options.action == "list":
        async with report_access(options.config) as access:
            return await _list(access, options)
    async with report_access(options.config) as access:
        if options.action == "verify":
            return await _verify(access, options)
        today = utc_now().astimezone(ZoneInfo(access.settings.site.timezone)).date()
        if options.action == "work":
            return await show_work(access, options, today)
        return await _run(access, options, _period(parser, options, today))


async def _with_store(options: argparse.Namespace) -> int:
    settings = load_settings(options.config, os.environ, require_files=False, secrets=False)
    if not has_state(settings.state):
        say_error("状态库不存在，还没有运行过报表", "there is no state store: no report has run yet")
        return 1
    store = open_state(settings.state)
    try:
        row = await _find(store, options.run)
        if row is None:
            say_error(f"没有运行记录 {options.run}", "there is no such run; see his160 report list")
            return 1
        if options.action == "show":
            return await _show(store, row, options)
        if row.state is not RunState.DONE:
            say_error(f"运行 {row.run_id} 没有完成：{row.detail or row.state.value}", "the run is not done")
            return 1
        folder = options.to or settings.report.folder
        writer = exporter(settings, store)
        for name in options.format or ["xlsx"]:
            path = folder / file_name(row, name)
            await writer.write(row, name, path)
            print(path)
        return 0
    finally:
        await store.close()


async def _list(access: ReportAccess, options: argparse.Namespace) -> int:
    rows = await access.store.read(lambda work: work.reports.listed(options.name or "", options.limit))
    reports = {name: report for name, report in access.runs.reports().items() if options.name in (None, name)}
    if options.json:
        shown = [
            {
                "name": report.name,
                "title": report.title,
                "schedule": "" if report.cron is None else report.cron.text,
                "period": report.period,
                "columns": [column.title or column.name for column in report.definition.columns],
            }
            for report in reports.values()
        ]
        print(json.dumps({"reports": shown, "runs": [run_json(row) for row in rows]}, ensure_ascii=False, indent=2))
        return 0
    for report in reports.values():
        when = "手工" if report.cron is None else f"{report.cron.text}，每{'月' if report.period == 'month' else '日'}"
        print(f"{report.name:<6} {report.title}（{when}，{len(report.definition.columns)} 列）")
    for row in rows:
        print(line(row))
    say(f"{len(reports)} 张报表，最近 {len(rows)} 次运行", f"{len(reports)} reports, {len(rows)} runs")
    return 0


async def _run(access: ReportAccess, options: argparse.Namespace, period: Period) -> int:
    order = RunOrder(options.name, period, RunOrigin.PERSON, publish=options.publish)
    telling = asyncio.ensure_future(_tell(access)) if sys.stderr.isatty() else None
    try:
        row = await access.runs.run(order)
    finally:
        if telling is not None:
            telling.cancel()
    await access.audit.append(
        access.audit.entry(
            _RAN,
            target=row.run_id,
            result="DONE",
            parameters=as_json(report=row.report, days=period.name, rows=row.rows),
            mapping_revision=row.mapping_revision,
            caller=at_the_keyboard(),
        )
    )
    paths = []
    for name in options.format or ["xlsx"]:
        paths.append(path := (options.to or access.settings.report.folder) / file_name(row, name))
        await access.exporter.write(row, name, path)
    if options.json:
        print(json.dumps({**run_json(row), "files": [str(path) for path in paths]}, ensure_ascii=False))
        return 0
    print(line(row))
    for path in paths:
        print(path)
    for text in await first_rows(access.store, row, options.rows):
        print(text)
    return 0


async def _verify(access: ReportAccess, options: argparse.Namespace) -> int:
    """Ask the HIS again for the same days: does it still say what it said then?"""
    kept = await _find(access.store, options.run)
    if kept is None or kept.state is not RunState.DONE:
        say_error(f"没有完成的运行 {options.run}", "there is no such finished run; see his160 report list")
        return 1
    period = Period(kept.first_day, kept.last_day)
    now = await access.runs.run(RunOrder(kept.report, period, RunOrigin.PERSON))
    print(line(kept))
    print(line(now))
    if now.checksum == kept.checksum:
        same = now.input_hash == kept.input_hash
        say("结果一致" + ("" if same else "（原始值有变化，换算后相同）"), "the rows are the same")
        return 0
    if now.mapping_revision != kept.mapping_revision:
        say(f"映射已改过：{kept.mapping_revision} → {now.mapping_revision}", "the mapping has changed since")
    if now.input_hash != kept.input_hash:
        say("HIS 现在给出的数据与当时不同", "the HIS gives other values than it did then")
    say("结果不同，两次都已留存，可分别导出比较", "the rows differ; both runs are kept: his160 report export")
    return 1


async def _tell(access: ReportAccess) -> None:
    """How far it has come, on a terminal."""
    while True:
        await asyncio.sleep(_EVERY)
        for name, rows in access.runs.progress().items():
            print(f"\r{name}: {rows} 行 rows", end="", file=sys.stderr, flush=True)


async def _show(store: Store, row: RunRow, options: argparse.Namespace) -> int:
    if options.json:
        report = report_pb2.Report.FromString(row.definition)
        names = [column.name for column in report.columns]
        rows = [dict(zip(names, values, strict=True)) for values in await _rows(store, row, options.rows)]
        print(json.dumps({**run_json(row), "first_rows": rows}, ensure_ascii=False, indent=2))
        return 0
    print(line(row))
    print(f"  输入哈希 input {row.input_hash.hex() or '-'}")
    print(f"  行校验 checksum {row.checksum.hex() or '-'}")
    print(f"  映射版本 mapping {row.mapping_revision}；第 {row.attempt} 次；160 已收 {row.pushed_rows} 行")
    for text in await first_rows(store, row, options.rows):
        print(text)
    return 0


async def _find(store: Store, wanted: str) -> RunRow | None:
    """A run by its id, or the newest finished one of a report by the report's name."""

    def look(work: Any) -> RunRow | None:
        found: RunRow | None = work.reports.get(wanted)
        if found is not None:
            return found
        done = [row for row in work.reports.listed(wanted, 1000) if row.state is RunState.DONE]
        return done[-1] if done else None

    return await store.read(look)


async def _rows(store: Store, row: RunRow, limit: int) -> list[Sequence[Value]]:
    found: list[Sequence[Value]] = []
    if row.state is RunState.DONE and limit > 0:
        async for _, page in kept_pages(store, row):
            found += [row_values(each) for each in page[: limit - len(found)]]
            if len(found) >= limit:
                break
    return found


async def first_rows(store: Store, row: RunRow, limit: int = _SHOWN) -> list[str]:
    """The title line and the first rows as text, columns parted by `` | ``."""
    report = report_pb2.Report.FromString(row.definition)
    lines = [" | ".join(column.title or column.name for column in report.columns)]
    for values in await _rows(store, row, limit):
        cells = [shown(column.kind, value) for column, value in zip(report.columns, values, strict=True)]
        lines.append(" | ".join(cells))
    return lines if limit > 0 else []


def shown(kind: int, value: Value) -> str:
    """One value for people."""
    if value is None:
        return ""
    if isinstance(value, int) and kind in (FEN, PERCENT):
        sign = "-" if value < 0 else ""
        return f"{sign}{abs(value) // 100}.{abs(value) % 100:02d}{'%' if kind == PERCENT else ''}"
    return str(value)


def line(row: RunRow) -> str:
    """A run on one line."""
    days = Period(row.first_day, row.last_day).name
    end = f"{row.rows} 行" if row.state is RunState.DONE else row.detail
    begun = row.begun_time.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return f"{row.run_id}  {days}  {_STATES[row.state]}  {_ORIGINS[row.origin]}  {begun}  {end}"


def run_json(row: RunRow) -> dict[str, Any]:
    """A run for a program."""
    return {
        "run_id": row.run_id,
        "report": row.report,
        "first_day": row.first_day.isoformat(),
        "last_day": row.last_day.isoformat(),
        "origin": row.origin.value,
        "state": row.state.value,
        "attempt": row.attempt,
        "begun": row.begun_time.isoformat(),
        "finished": None if row.finished_time is None else row.finished_time.isoformat(),
        "next": None if row.next_time is None else row.next_time.isoformat(),
        "rows": row.rows,
        "input_hash": row.input_hash.hex(),
        "checksum": row.checksum.hex(),
        "mapping_revision": row.mapping_revision,
        "detail": row.detail,
        "push": row.push_state.value,
        "pushed_rows": row.pushed_rows,
    }


def _period(parser: argparse.ArgumentParser, options: argparse.Namespace, today: date) -> Period:
    if options.month is not None:
        return month_of(options.month)
    first = options.date or getattr(options, "from") or today - timedelta(days=1)
    last = options.to_date or first
    if last < first:
        parser.error("--until 早于 --from / --until is before --from")
    return Period(first, last)


def _month(text: str) -> date:
    return date.fromisoformat(f"{text}-01")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="his160 report", description="报表：运行、查看、导出 / reports")
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|run|show|export|verify|work")
    listing = actions.add_parser("list", help="报表和最近的运行 / reports and their last runs")
    listing.add_argument("name", nargs="?", metavar="REPORT", help="只看一张 / one report")
    listing.add_argument("--limit", type=int, default=20, metavar="N", help="最近多少次 / the last N runs (20)")
    run = actions.add_parser("run", help="运行一次并写成文件 / run one and write its files")
    run.add_argument("name", metavar="REPORT", help="如 R1 / for example R1")
    days = run.add_mutually_exclusive_group()
    days.add_argument("--date", type=date.fromisoformat, metavar="DAY", help="某一天，默认昨天 / one day (yesterday)")
    days.add_argument("--month", type=_month, metavar="YYYY-MM", help="某个月 / a month")
    days.add_argument("--from", type=date.fromisoformat, metavar="DAY", help="从哪天起 / first day")
    run.add_argument(
        "--until", dest="to_date", type=date.fromisoformat, metavar="DAY", help="到哪天（含）/ last day, included"
    )
    run.add_argument("--publish", action="store_true", help="由代理交给 160 / let the agent give it to 160")
    show = actions.add_parser("show", help="一次运行：哈希、版本、前几行 / one run: hashes, revision, first rows")
    export = actions.add_parser("export", help="把一次运行写成文件 / write a run into files")
    work = actions.add_parser("work", help="两方核对的待处理清单 / work list of the comparison with the HIS")
    work.add_argument("--date", type=date.fromisoformat, metavar="DAY", help="到哪天，默认昨天 / up to (yesterday)")
    work.add_argument("--days", type=int, default=7, metavar="N", help="往前几天 / days looked at (7)")
    work.add_argument("--all", action="store_true", help="也列出已签核的 / with those signed off")
    work.add_argument("--sign", metavar="ORDER_NO", help="签核一个订单（记入审计）/ sign an order off (audited)")
    work.add_argument("--note", default="", help="签核说明 / why")
    verify = actions.add_parser("verify", help="再取一次数，与当时比较 / run it again and compare with what was kept")
    for action in (show, export, verify):
        action.add_argument("run", metavar="RUN|REPORT", help="运行号，或报表名（最近一次）/ a run, or a report's last")
    for action in (run, show):
        action.add_argument("--rows", type=int, default=_SHOWN, metavar="N", help="显示前几行 / rows to show (10)")
    for action in (run, export):
        action.add_argument(
            "--format", action="append", choices=sorted(REPORT_FORMATS), help="可多次，默认 xlsx / repeatable (xlsx)"
        )
        action.add_argument("--to", type=Path, metavar="DIR", help="写到哪个文件夹 / folder ([report] folder)")
    for action in (listing, run, show, work):
        action.add_argument("--json", action="store_true", help="输出 JSON / one JSON object")
    for action in (listing, run, show, export, verify, work):
        add_config(action)
    return parser
