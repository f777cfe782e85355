"""What a person sees of the demo: numbered steps in Chinese and English, aligned, with the HIS rows that changed."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Sequence
from typing import Final, TextIO

from agent.console import prepare_console
from agent.demo.rows import RowChange

_SIGNS: Final = {"new": "+", "changed": "~", "gone": "-"}
_INDENT: Final = " " * 10


class Narrator:
    """Prints to ``out``; to nowhere when ``out`` is None (``--json``)."""

    def __init__(self, out: TextIO | None) -> None:
        self._out = out

    def line(self, text: str = "") -> None:
        """One line as it is."""
        if self._out is not None:
            print(text, file=self._out, flush=True)

    def heading(self, zh: str, en: str) -> None:
        """A title with a rule."""
        self.line()
        self.line(f"== {zh} · {en} ".ljust(100 - _extra(zh), "="))

    def fact(self, zh: str, en: str, value: str) -> None:
        """A line ``中文 english   value``."""
        self.line(f"  {pad(f'{zh} {en}', 34)} {value}")

    def step(self, place: str, ok: bool, zh: str, en: str, detail: str, seconds: float) -> None:
        """One step that has been done."""
        self.line(f"{place:>7} {'✓' if ok else '✗'} {pad(f'{zh} {en}', 46)} {seconds * 1000:6.0f} ms  {detail}")

    def rows(self, changes: Sequence[RowChange]) -> None:
        """HIS rows before and after."""
        width = max((len(c.table) + len(c.key) for c in changes), default=0) + 1
        for change in changes:
            name = f"{change.table} {change.key}".ljust(width)
            if change.kind == "changed":
                cells = [f"{column} {before} → {after}" for column, before, after in change.columns]
            else:
                cells = [f"{column}={after}" for column, _, after in change.columns]
            self._wrapped(f"{_SIGNS[change.kind]} {name}  ", cells)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Aligned columns."""
        widths = [max(_width(row[i]) for row in (head, *rows)) for i in range(len(head))]
        for row in (head, ["-" * width for width in widths], *rows):
            self.line("  " + "  ".join(pad(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip())

    def _wrapped(self, first: str, cells: Sequence[str]) -> None:
        line, begin = _INDENT + first, _INDENT + " " * _width(first)
        used = False
        for cell in cells:
            if used and _width(line) + _width(cell) > 128:
                self.line(line.rstrip())
                line = begin
            line += cell + "   "
            used = True
        self.line(line.rstrip())


def console() -> TextIO:
    """Standard output that can print Chinese, whatever code page the console has."""
    prepare_console()
    return sys.stdout


def pad(text: str, width: int) -> str:
    """Left-justified to ``width`` columns of a terminal."""
    return text + " " * max(0, width - _width(text))


def _width(text: str) -> int:
    return len(text) + _extra(text)


def _extra(text: str) -> int:
    """Columns above one for each character: Chinese takes two."""
    return sum(unicodedata.east_asian_width(character) in "WF" for character in text)
