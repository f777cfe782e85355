"""The short form of ``tests.bench.reports``: many more rows of a report cost no more memory. Files of reports have a
short form of their own in ``tests/unit/reports/test_report_formats.py``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("the peak of a process is asked of POSIX", allow_module_level=True)

from tests.bench.reports import measured


@pytest.mark.slow
def test_fifty_thousand_rows_cost_what_five_thousand_cost(tmp_path: Path) -> None:
    few, many = (measured(rows, tmp_path / str(rows), sheet=False) for rows in (5_000, 50_000))
    assert (few["rows"], many["rows"]) == (5_000, 50_000)
    # Kept rows would be some 25 MB more, as objects some 100 MB.
    assert many["peak_mb"] - few["peak_mb"] < 12
