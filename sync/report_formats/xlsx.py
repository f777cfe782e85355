"""A sheet for finance people: title, hospital, period, frozen header, 元 with two decimals, sums as formulas, A4.

Written in constant memory (rows go to a temporary file at once), so rows must come in order and nothing above them can
be changed later.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, ClassVar, Final

import xlsxwriter
from his160.v1 import report_pb2
from xlsxwriter.utility import xl_col_to_name, xl_rowcol_to_cell

from sync.report_format import FEN, PERCENT, SheetHead, Value, clean, days_text

_COUNT: Final = report_pb2.COLUMN_KIND_COUNT
_DATE: Final = report_pb2.COLUMN_KIND_DATE
_TIME: Final = report_pb2.COLUMN_KIND_TIME
_FORMATS: Final = {
    FEN: '#,##0.00;[Red]-#,##0.00;"-"',
    PERCENT: "0.00%",
    _COUNT: '#,##0;[Red]-#,##0;"-"',
    _DATE: "yyyy-mm-dd",
    _TIME: "yyyy-mm-dd hh:mm:ss",
}
_FONT: Final = {"font_name": "宋体", "font_size": 10}
_HEADER_ROW: Final = 2
_FIRST_ROW: Final = 3
_A4: Final = 9
_WIDEST: Final = 34  # longer texts are wrapped, or a sheet of thirty columns could not be read on A4
_LINE: Final = 13.5
_PAPER: Final = 11.69 - 2 * 0.4  # inches between the margins of A4, landscape
_READABLE: Final = 65  # percent: a font of 10 points is 6.5 on paper
_MEASURED: Final = 1000  # rows that columns' widths are taken from and whose heights are set: the library keeps heights


class XlsxFormat:
    """See the module."""

    suffix: ClassVar[str] = "xlsx"

    def open(self, path: Path, head: SheetHead) -> _XlsxSheet:
        return _XlsxSheet(path, head)


class _XlsxSheet:
    def __init__(self, path: Path, head: SheetHead) -> None:
        options = {
            "constant_memory": True,
            "strings_to_formulas": False,
            "strings_to_urls": False,
            "strings_to_numbers": False,
        }
        self._book: Any = xlsxwriter.Workbook(str(path), options)
        self._sheet: Any = self._book.add_worksheet(head.report.name[:31])
        self._columns = list(head.report.columns)
        self._head = head
        self._cells = [self._book.add_format(_cell(column.kind)) for column in self._columns]
        self._sums = [self._book.add_format({**_cell(column.kind), **_SUM}) for column in self._columns]
        self._widths = [_title_width(column.title or column.name) for column in self._columns]
        names = [column.name for column in self._columns]
        self._group_at = names.index(head.report.subtotal_by) if head.report.subtotal_by in names else None
        self._places = {name: at for at, name in enumerate(names)}
        self._at = self._block = _FIRST_ROW
        self._group: Value = None
        self._totals = [0] * len(self._columns)
        self._write_head()

    def add(self, rows: Iterable[Sequence[Value]]) -> None:
        for row in rows:
            if self._group_at is not None and self._at > self._block and row[self._group_at] != self._group:
                self._write_sums("小计")
            if self._group_at is not None:
                self._group = row[self._group_at]
            self._write_row(row)

    def close(self) -> None:
        if self._group_at is None:
            self._write_sums("合计")
        elif self._at > self._block:
            self._write_sums("小计")
        self._write_foot()
        for at, width in enumerate(self._widths):
            self._sheet.set_column(at, at, min(width, _WIDEST) + 1.5)
        self._set_up_page()
        self._book.close()

    def _write_head(self) -> None:
        head, sheet, last = self._head, self._sheet, len(self._columns) - 1
        self._title = self._book.add_format(
            {**_FONT, "bold": True, "font_size": 16, "align": "center", "valign": "vcenter"}
        )
        about = self._book.add_format({**_FONT, "font_size": 11, "valign": "vcenter"})
        header = self._book.add_format(
            {
                **_FONT,
                "bold": True,
                "border": 1,
                "align": "center",
                "valign": "vcenter",
                "text_wrap": True,
                "bg_color": "#DDEBF7",
            }
        )
        text = f"医院：{head.hospital}    期间：{days_text(head.period)}    金额单位：元"
        sheet.set_row(0, 30)
        self._across(0, last, clean(f"{head.report.name} {head.report.title}"), self._title)
        sheet.set_row(1, 18)
        self._across(1, last, clean(text), about)
        sheet.set_row(_HEADER_ROW, 30)
        for at, column in enumerate(self._columns):
            sheet.write_string(_HEADER_ROW, at, clean(column.title or column.name), header)
        sheet.freeze_panes(_FIRST_ROW, 0)

    def _across(self, row: int, last: int, text: str, style: Any) -> None:
        if last > 0:
            self._sheet.merge_range(row, 0, row, last, "", style)
        self._sheet.write_string(row, 0, text, style)

    def _write_row(self, row: Sequence[Value]) -> None:
        sheet, at = self._sheet, self._at
        measure = at < _FIRST_ROW + _MEASURED
        lines = _lines(row) if measure else 1
        if lines > 1:
            sheet.set_row(at, lines * _LINE)  # not every program finds the height by itself
        for place, (column, value) in enumerate(zip(self._columns, row, strict=True)):
            style, kind = self._cells[place], column.kind
            if value is None:
                sheet.write_blank(at, place, None, style)
                continue
            if isinstance(value, str):
                moment = _moment(kind, value)
                if moment is None:
                    value = clean(value)
                    sheet.write_string(at, place, value, style)
                else:
                    sheet.write_datetime(at, place, moment, style)
            else:
                sheet.write_number(at, place, _number(kind, value), style)
                self._totals[place] += value
            if measure:
                self._widths[place] = max(self._widths[place], _width(_as_shown(kind, value)))
        self._at += 1

    def _write_sums(self, word: str) -> None:
        """A row of sums over the rows since the last one. Values stand beside the formulas, for readers that do not
        calculate."""
        at, empty = self._at, self._at == self._block
        for place, column in enumerate(self._columns):
            style, total = self._sums[place], self._totals[place]
            if column.total and not empty:
                cells = f"{xl_rowcol_to_cell(self._block, place)}:{xl_rowcol_to_cell(at - 1, place)}"
                self._sheet.write_formula(at, place, f"=SUM({cells})", style, _number(column.kind, total))
                self._widths[place] = max(self._widths[place], _width(_as_shown(column.kind, total)))
            elif len(column.rate_of) == 2 and not empty:
                self._write_rate(at, place, [self._places[name] for name in column.rate_of], style)
            elif place == 0:
                self._sheet.write_string(at, 0, word, style)
            else:
                self._sheet.write_blank(at, place, None, style)
        self._at += 1
        self._block = self._at
        self._totals = [0] * len(self._columns)

    def _write_rate(self, at: int, place: int, of: Sequence[int], style: Any) -> None:
        part, whole = (f"{xl_col_to_name(each)}{at + 1}" for each in of)
        value = self._totals[of[0]] / self._totals[of[1]] if self._totals[of[1]] else ""
        self._sheet.write_formula(at, place, f'=IF({whole}=0,"",{part}/{whole})', style, value)

    def _write_foot(self) -> None:
        """Who signs, and where the figures come from."""
        head, sheet = self._head, self._sheet
        sheet.set_row(self._at + 1, 24)
        signed = "制表：____________    复核：____________    财务负责人：____________"
        sheet.write_string(self._at + 1, 0, signed, self._book.add_format({**_FONT, "valign": "vcenter"}))
        origin = (
            f"取数时间 {head.read_time:%Y-%m-%d %H:%M:%S}    运行号 {head.run_id}    映射版本 {head.mapping_revision}"
        )
        style = self._book.add_format({**_FONT, "font_size": 8, "font_color": "#666666"})
        sheet.write_string(self._at + 2, 0, clean(origin), style)

    def _set_up_page(self) -> None:
        sheet = self._sheet
        sheet.set_landscape()
        sheet.set_paper(_A4)
        inches = [_inches(width) for width in self._widths]
        keys = self._keys(inches)
        pages = pages_across(inches, keys)
        # The program that prints chooses breaks and size: it alone knows how wide its fonts are.
        sheet.fit_to_pages(pages, 0)
        if pages > 1:
            # A format is written with the book: only now is it known that a title in the middle would be cut in two.
            self._title.set_align("left")
            sheet.print_across()
            if keys:
                sheet.repeat_columns(0, keys - 1)
        sheet.repeat_rows(_HEADER_ROW)
        sheet.set_margins(left=0.4, right=0.4, top=0.5, bottom=0.6)
        sheet.center_horizontally()
        sheet.set_footer("&L&8&F&R&8第 &P 页 共 &N 页")
        sheet.print_area(0, 0, self._at + 2, len(self._columns) - 1)

    def _keys(self, inches: Sequence[float]) -> int:
        """How many columns at the left say whose the row is: those before the first figure; none if they fill half
        a page."""
        figures = (FEN, PERCENT, _COUNT)
        keys = next((at for at, column in enumerate(self._columns) if column.kind in figures), 0)
        return keys if sum(inches[:keys]) <= _PAPER * 100 / _READABLE / 2 else 0


def pages_across(inches: Sequence[float], keys: int) -> int:
    """How many pages stand side by side, so that people can read them; the first ``keys`` columns stand on each."""
    room = _PAPER * 100 / _READABLE
    repeated = sum(inches[:keys])
    pages, used = 1, 0.0
    for width in inches:
        if used + width > room and used > (repeated if pages > 1 else 0):
            pages += 1
            used = repeated
        used += width
    return pages


def _inches(width: float) -> float:
    return (min(width, _WIDEST) + 1.5) * 7 / 96 + 5 / 96


_SUM: Final = {"bold": True, "top": 1, "bottom": 1, "bg_color": "#F2F2F2"}


def _cell(kind: report_pb2.ColumnKind.ValueType) -> dict[str, Any]:
    style: dict[str, Any] = {**_FONT, "border": 1, "border_color": "#BFBFBF", "valign": "vcenter"}
    if kind in _FORMATS:
        style["num_format"] = _FORMATS[kind]
    if kind in (_DATE, _TIME):
        style["align"] = "center"
    elif kind not in _FORMATS:
        style["text_wrap"] = True
    return style


def _number(kind: int, value: int) -> float | int:
    """What the cell holds; a sheet has no integers of 分, and shows two decimals."""
    if kind == FEN:
        return value / 100
    return value / 10_000 if kind == PERCENT else value


def _as_shown(kind: int, value: Value) -> str:
    if not isinstance(value, int):
        return str(value)
    if kind == PERCENT:
        return f"{value / 100:.2f}%"
    return f"{value / 100:,.2f}" if kind == FEN else f"{value:,d}"


def _moment(kind: int, text: str) -> date | datetime | None:
    """A real date, so that a sheet can sort and filter by it; None: it is text, or no date that a sheet knows."""
    if kind not in (_DATE, _TIME) or text < "1900-03-01":
        return None
    try:
        return date.fromisoformat(text) if kind == _DATE else datetime.fromisoformat(text)
    except ValueError:
        return None


def _lines(row: Sequence[Value]) -> int:
    """How many lines the longest text of a row takes in the widest column."""
    return min(10, max((-(-_width(value) // _WIDEST) for value in row if isinstance(value, str)), default=1))


def _title_width(text: str) -> int:
    """Titles stand on two lines where they are long."""
    width = _width(text)
    return width if width <= 8 else max(8, (width + 1) // 2 + 1)


def _width(text: str) -> int:
    """Columns of a fixed-width font: a Chinese character takes two."""
    return sum(2 if ord(character) > 0x2E7F else 1 for character in text)
