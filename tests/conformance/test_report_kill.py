"""kill -9 at labelled points of a scheduled report: one run, one event, its files whole, whatever it was doing."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
from his160.v1 import event_pb2
from openpyxl import load_workbook

from sync.clock import utc_now
from sync.outbox import Outbox
from sync.report_book import FileState, RunState
from sync.stores.sqlite import SqliteStore
from tests.bounds import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
SHEET, TABLE = "R1_2026-11-22.xlsx", "R1_2026-11-22.csv"
# Writes of the victim: 1 the claim, 2 the rows, 3 DONE with the event, 4 the files are written. And what lies in the
# folder after the kill.
POINTS = {
    "after:1": [],
    "inside:2": [],
    "after:2": [],
    "inside:3": [],
    "after:3": [],
    "reading": [f".{TABLE}.part"],
    "before:4": [TABLE, SHEET],
    "after:4": [TABLE, SHEET],
}

pytestmark = [pytest.mark.chaos, pytest.mark.skipif(os.name != "posix", reason="fork and SIGKILL")]


async def test_killed_at_every_write(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.conformance.report_victim", str(tmp_path), *POINTS],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'proto' / 'gen'}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for at, (point, expected) in enumerate(POINTS.items()):
        folder = tmp_path / str(at)
        left = (folder / "left").read_text(encoding="utf-8").splitlines()
        assert left == sorted(expected), point
        assert sorted(path.name for path in (folder / "reports").iterdir()) == [TABLE, SHEET], point
        lines = list(csv.reader((folder / "reports" / TABLE).read_text(encoding="utf-8-sig").splitlines()))
        names = [row[2].value for row in load_workbook(folder / "reports" / SHEET).active.iter_rows()]
        assert "𠅤科" in {cell for line in lines for cell in line}, point
        assert "𠅤科" in names, point
        store = SqliteStore(folder / "state.db", utc_now)
        (row,) = await store.read(lambda work: work.reports.listed("R1", 10))
        (event,) = await Outbox(store, utc_now).read_after(0)
        await store.close()
        assert (row.state, row.file_state, row.rows) == (RunState.DONE, FileState.DONE, 3), point
        assert (event.kind, event.report.run_id) == (event_pb2.EVENT_KIND_REPORT_READY, row.run_id), point
