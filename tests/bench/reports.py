"""A report of a million rows from end to end: HIS, store, sheet; what it costs in memory beside a tenth of it.

    python -m tests.bench.reports [ROWS]

Each size runs in a process of its own, whose peak of resident memory is asked of the system. ``test_report_memory`` is
the short form.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

ROOT = Path(__file__).resolve().parents[2]
MILLION = 1_000_000
REPORT = """
schema = 1
[report.R1]
title = "大报表"
sql = "SELECT rq, ddh, mc, rs, je FROM t WHERE rq BETWEEN :from_date AND :to_date"
max_rows = 1000000
columns = [
  { name = "rq", title = "日期", kind = "date", date = "%Y-%m-%d" },
  { name = "ddh", title = "订单号", kind = "text" },
  { name = "mc", title = "名称", kind = "text" },
  { name = "rs", title = "人次", kind = "count" },
  { name = "je", title = "金额", kind = "fen", money = "yuan" },
]
"""
OTHER = 'schema = 1\noperation = "CatalogService.ListDoctors"\nkind = "unsupported"\nwhy = "只有报表"\n'
DAY = date(2026, 11, 22)
_FILL = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
INSERT INTO t SELECT '2026-11-22', '1626' || (100000000000 + i * 7919 % 99999999999), '科室' || i % 97, 1, i % 30000 / 100.0 FROM n
"""


def measured(rows: int, folder: Path, *, sheet: bool = True) -> dict[str, Any]:
    """Run it in a new process. ``sheet``: also write the sheet."""
    command = [
        sys.executable,
        "-m",
        "tests.bench.reports",
        "--one",
        str(rows),
        str(folder),
        *(["sheet"] if sheet else []),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


async def one(rows: int, folder: Path, *, sheet: bool) -> dict[str, Any]:
    """Seconds of the run and of the sheet, and the peak of this process's memory in MB."""
    sys.path[:0] = [str(ROOT), str(ROOT / "proto" / "gen")]
    from his_db.access import HisAccess
    from his_db.generation import compile_generation
    from his_db.guard import GuardedHis
    from his_db.mapping.load import load_mapping_set
    from his_db.source import LaneSettings, Source, settings_from_url
    from sync.report_book import RunOrigin
    from sync.report_export import Exporter
    from sync.report_periods import Period
    from sync.report_runs import ReportRuns, RunOrder
    from sync.report_source import ReportSource
    from sync.store import open_store

    (folder / "set").mkdir(parents=True)
    (folder / "set" / "reports.toml").write_text(REPORT, encoding="utf-8")
    (folder / "set" / "other.toml").write_text(OTHER, encoding="utf-8")
    with closing(sqlite3.connect(folder / "his.db")) as connection, connection:
        connection.execute("CREATE TABLE t (rq TEXT, ddh TEXT, mc TEXT, rs INTEGER, je REAL)")
        connection.execute(_FILL, (rows,))
    generation = compile_generation(
        load_mapping_set(folder / "set", sources={"his": "sqlite"}, timezone="Asia/Shanghai")
    )
    source = Source(settings_from_url("his", f"sqlite:///{folder / 'his.db'}"), {"report": LaneSettings(1, 4)})
    store = open_store(folder / "state.db", lambda: datetime.now(UTC))
    runs = ReportRuns(
        ReportSource(GuardedHis(HisAccess({"his": source}, generation))),
        store,
        clock=lambda: datetime.now(UTC),
        revision=lambda: generation.revision,
        owner="bench",
        spool=folder / "spool",
    )
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.monotonic()
    row = await runs.run(RunOrder("R1", Period(DAY, DAY), RunOrigin.PERSON))
    ran = time.monotonic()
    path = folder / "R1.xlsx"
    if sheet:
        await Exporter(store, "示例医院", ZoneInfo("Asia/Shanghai")).write(row, "xlsx", path)
    ended = time.monotonic()
    await store.close()
    await source.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "rows": row.rows,
        "run_seconds": round(ran - begun, 2),
        "xlsx_seconds": round(ended - ran, 2),
        "start_mb": start // 1024,
        "peak_mb": peak // 1024,
        "state_mb": (folder / "state.db").stat().st_size // 2**20,
        "xlsx_mb": path.stat().st_size // 2**20 if sheet else 0,
    }


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--one"]:
        print(json.dumps(asyncio.run(one(int(arguments[1]), Path(arguments[2]), sheet="sheet" in arguments))))
        return 0
    most = int(arguments[0]) if arguments else MILLION
    for rows in (most // 10, most):
        with tempfile.TemporaryDirectory() as folder:
            print(measured(rows, Path(folder)), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
