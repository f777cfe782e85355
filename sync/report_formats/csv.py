"""CSV for programs and for spreadsheets: UTF-8 with BOM, CRLF, amounts in 元."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import ClassVar, Final

from his160.v1 import report_pb2

from sync.report_format import FEN, PERCENT, SheetHead, Value, clean

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


class CsvFormat:
    """See the module."""

    suffix: ClassVar[str] = "csv"

    def open(self, path: Path, head: SheetHead) -> _CsvSheet:
        return _CsvSheet(path, head)


class _CsvSheet:
    def __init__(self, path: Path, head: SheetHead) -> None:
        self._file = path.open("w", encoding="utf-8-sig", newline="")
        self._writer = csv.writer(self._file)
        self._writer.writerow([text(column.title or column.name) for column in head.report.columns])
        self._shown = [_shown(column) for column in head.report.columns]

    def add(self, rows: Iterable[Sequence[Value]]) -> None:
        shown = self._shown
        self._writer.writerows(
            ["" if value is None else show(value) for show, value in zip(shown, row, strict=True)] for row in rows
        )

    def close(self) -> None:
        self._file.close()


def text(value: Value) -> str:
    """A text that no spreadsheet takes for a formula."""
    found = clean(str(value))
    return f"'{found}" if found.startswith(_FORMULA) else found


def _shown(column: report_pb2.ReportColumn) -> Callable[[Value], str]:
    if column.kind == FEN:
        return _hundredths
    if column.kind == PERCENT:
        return lambda value: f"{_hundredths(value)}%"
    return text if column.kind != report_pb2.COLUMN_KIND_COUNT else str


def _hundredths(value: Value) -> str:
    """12.50 of 1250: by integers, never by a float."""
    assert isinstance(value, int)
    sign = "-" if value < 0 else ""
    return f"{sign}{abs(value) // 100}.{abs(value) % 100:02d}"
