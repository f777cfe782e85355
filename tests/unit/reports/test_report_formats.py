"""Files of a report, read back: titles, values, sums, and nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
import tracemalloc
import zipfile
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from his160.v1 import report_pb2

from sync.registry import REPORT_FORMATS, load
from sync.report_format import SheetHead, Value
from sync.report_formats.xlsx import pages_across
from sync.report_periods import Period

KINDS = {"text": 1, "count": 2, "fen": 3, "date": 4, "time": 5, "percent": 6}


def column(name: str, kind: str, title: str, *, total: bool = False, rate: Sequence[str] = ()) -> Any:
    return report_pb2.ReportColumn(name=name, title=title, kind=KINDS[kind], total=total, rate_of=rate)  # type: ignore[arg-type]


COLUMNS = [
    column("d", "date", "日期"),
    column("at", "time", "时间"),
    column("mc", "text", "名称"),
    column("rs", "count", "人次", total=True),
    column("xh", "count", "号序"),
    column("je", "fen", "金额", total=True),
    column("lv", "percent", "率", rate=["xs", "rs"]),
    column("xs", "count", "新诊", total=True),
]
ROWS: list[list[Value]] = [
    ["2026-11-22", "2026-11-22 08:30:00", "内科", 10, 7, 1250, 3000, 3],
    ["2026-11-22", None, '=HYPERLINK("http://x","y")', 2, 1, -100005, 5000, 1],
    ["0001-01-01", None, "@SUM(A1)\x07", None, None, None, None, None],
]


def head(subtotal: str = "") -> SheetHead:
    report = report_pb2.Report(name="R1", title="日报", columns=COLUMNS, subtotal_by=subtotal)
    day = date(2026, 11, 22)
    return SheetHead(report, "示例医院", Period(day, day), datetime(2026, 11, 23, 6, 30), "R1-run", "abc123")


def written(format_name: str, path: Path, rows: Sequence[Sequence[Value]], subtotal: str = "") -> Path:
    sheet = load(REPORT_FORMATS[format_name])().open(path, head(subtotal))
    for row in rows:
        sheet.add([row])
    sheet.close()
    return path


def test_csv(tmp_path: Path) -> None:
    path = written("csv", tmp_path / "r.csv", ROWS)
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    assert b"\r\n" in path.read_bytes()
    with path.open(encoding="utf-8-sig", newline="") as file:
        found = list(csv.reader(file))
    assert found == [
        ["日期", "时间", "名称", "人次", "号序", "金额", "率", "新诊"],
        ["2026-11-22", "2026-11-22 08:30:00", "内科", "10", "7", "12.50", "30.00%", "3"],
        ["2026-11-22", "", '\'=HYPERLINK("http://x","y")', "2", "1", "-1000.05", "50.00%", "1"],
        ["0001-01-01", "", "'@SUM(A1)", "", "", "", "", ""],
    ]


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\t=1", "\r=1", "\x00=1"])
def test_csv_text_is_never_a_formula(tmp_path: Path, text: str) -> None:
    with written("csv", tmp_path / "r.csv", [["2026-11-22", None, text, 0, 0, 0, 0, 0]]).open(
        encoding="utf-8-sig", newline=""
    ) as file:
        assert list(csv.reader(file))[1][2][0] == "'"


def sheet_of(path: Path, *, values: bool) -> Any:
    return openpyxl.load_workbook(path, data_only=values).active


def test_xlsx_values_formats_and_sums(tmp_path: Path) -> None:
    path = written("xlsx", tmp_path / "r.xlsx", ROWS)
    sheet = sheet_of(path, values=False)
    assert sheet["A1"].value == "R1 日报"
    assert "示例医院" in sheet["A2"].value
    assert "2026-11-22" in sheet["A2"].value
    assert [cell.value for cell in sheet[3]] == [item.title for item in COLUMNS]
    assert sheet["A4"].value == datetime(2026, 11, 22)
    assert sheet["B4"].value == datetime(2026, 11, 22, 8, 30)
    assert [cell.value for cell in sheet[5]][2:] == ['=HYPERLINK("http://x","y")', 2, 1, -1000.05, 0.5, 1]
    assert sheet["C5"].data_type == "s"
    assert sheet["C6"].value == "@SUM(A1)"
    assert sheet["A6"].value == "0001-01-01"  # a sheet knows no such day
    assert sheet["F4"].number_format.startswith("#,##0.00")
    assert sheet["G4"].number_format == "0.00%"
    assert [cell.value for cell in sheet[7]] == [
        "合计", None, None, "=SUM(D4:D6)", None, "=SUM(F4:F6)", '=IF(D7=0,"",H7/D7)', "=SUM(H4:H6)",
    ]  # fmt: skip
    shown = sheet_of(path, values=True)
    assert [shown[cell].value for cell in ("D7", "F7", "G7", "H7")] == [12, -987.55, pytest.approx(1 / 3), 4]
    assert "复核" in sheet["A9"].value
    assert "R1-run" in sheet["A10"].value
    assert "abc123" in sheet["A10"].value


def test_xlsx_rows_are_as_high_as_their_texts(tmp_path: Path) -> None:
    rows: list[list[Value]] = [[None, None, "字" * n, 1, 1, 1, 1, 1] for n in (5, 17, 18, 60)]
    sheet = sheet_of(written("xlsx", tmp_path / "r.xlsx", rows), values=False)
    assert [sheet.row_dimensions[row].height for row in range(4, 8)] == [None, None, 27, 54]


def test_xlsx_can_be_printed(tmp_path: Path) -> None:
    sheet = sheet_of(written("xlsx", tmp_path / "r.xlsx", ROWS), values=False)
    assert sheet.freeze_panes == "A4"
    assert (sheet.page_setup.paperSize, sheet.page_setup.orientation) == (9, "landscape")
    assert sheet.sheet_properties.pageSetUpPr.fitToPage
    assert sheet.page_setup.fitToHeight == 0  # one page wide, as many as it takes
    assert sheet.print_title_rows == "$3:$3"
    assert "第" in sheet.oddFooter.right.text


def test_a_wide_sheet_is_printed_on_pages_side_by_side_that_people_can_read(tmp_path: Path) -> None:
    """R1 has 28 columns: all on one page, they were letters of four points."""
    named = [column(f"k{at}", "text", "医生姓名") for at in range(8)]
    figures = [column(f"f{at}", "fen", "医保统筹基金", total=True) for at in range(20)]
    report = report_pb2.Report(name="R1", title="日报", columns=[*named, *figures])
    day = date(2026, 11, 22)
    about = SheetHead(report, "示例医院", Period(day, day), datetime(2026, 11, 23, 6, 30), "R1-run", "abc123")
    paper = load(REPORT_FORMATS["xlsx"])().open(tmp_path / "r.xlsx", about)
    paper.add([["样例科室"] * 8 + [1234567] * 20])
    paper.close()
    sheet = sheet_of(tmp_path / "r.xlsx", values=False)
    assert sheet.sheet_properties.pageSetUpPr.fitToPage
    assert (sheet.page_setup.fitToWidth, sheet.page_setup.fitToHeight) == (2, 0)
    assert sheet.page_setup.pageOrder == "overThenDown"
    assert (sheet.print_title_rows, sheet.print_title_cols) == ("$3:$3", "$A:$H")  # whose the row is, on each page
    assert sheet["A1"].alignment.horizontal == "left"  # the middle lies on the edge of the paper


@pytest.mark.parametrize(
    ("columns", "keys", "pages"), [(16, 0, 1), (17, 0, 2), (32, 0, 2), (33, 0, 3), (16, 4, 1), (28, 4, 2), (29, 4, 3)]
)
def test_pages_side_by_side_are_no_more_than_needed(columns: int, keys: int, pages: int) -> None:
    """At 65 % a page of A4 holds 16.7 inches."""
    assert pages_across([1.0] * columns, keys) == pages


def test_xlsx_groups_have_sums_of_their_own(tmp_path: Path) -> None:
    rows: list[list[Value]] = [
        [None, None, group, n, None, 100 * n, None, 0] for group, n in [("a", 1), ("a", 2), ("b", 5)]
    ]
    sheet = sheet_of(written("xlsx", tmp_path / "r.xlsx", rows, "mc"), values=False)
    first = [sheet.cell(row, 1).value for row in range(4, 9)]
    sums = [sheet.cell(row, 4).value for row in range(4, 9)]
    assert first == [None, None, "小计", None, "小计"]
    assert sums == [1, 2, "=SUM(D4:D5)", 5, "=SUM(D7:D7)"]
    shown = sheet_of(tmp_path / "r.xlsx", values=True)
    assert [shown.cell(row, 6).value for row in (6, 8)] == [3, 5]


@pytest.mark.parametrize("subtotal", ["", "mc"])
def test_xlsx_without_rows(tmp_path: Path, subtotal: str) -> None:
    sheet = sheet_of(written("xlsx", tmp_path / "r.xlsx", [], subtotal), values=False)
    assert [cell.value for cell in sheet[3]] == [item.title for item in COLUMNS]
    assert not any(str(cell.value).startswith("=") for row in sheet.iter_rows() for cell in row)


def many(count: int) -> Iterator[list[Value]]:
    for n in range(count):
        yield ["2026-11-22", "2026-11-22 08:30:00", f"第{n}行", n, n, n * 7, n % 10_000, 1]


@pytest.mark.parametrize("format_name", sorted(REPORT_FORMATS))
def test_five_times_the_rows_cost_the_same_memory(tmp_path: Path, format_name: str) -> None:
    peaks = []
    for count in (400, 2_000):
        sheet = load(REPORT_FORMATS[format_name])().open(tmp_path / f"{count}", head())
        tracemalloc.start()
        sheet.add(many(count))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        sheet.close()
    assert peaks[1] < peaks[0] * 1.5 + 100_000
    if format_name == "xlsx":
        assert zipfile.is_zipfile(tmp_path / "2000")
