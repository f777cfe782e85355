"""The port of a file format for reports. Implementations: ``sync/report_formats/*.py``, in ``sync/registry.py``.

Rows come in pieces, so that a million of them cost the memory of one piece. A format never lets a text of the HIS
become a formula: what a patient wrote into a note must not run in the cashier's spreadsheet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Final, Protocol

from his160.v1 import report_pb2

from sync.report_periods import Period

Value = str | int | None
PERCENT: Final = report_pb2.COLUMN_KIND_PERCENT
FEN: Final = report_pb2.COLUMN_KIND_FEN
_CONTROL: Final = {code: None for code in range(32) if code not in (9, 10, 13)} | {0x7F: None}


@dataclass(frozen=True, slots=True)
class SheetHead:
    """What stands above the rows. ``read_time``: the hospital's wall clock, naive."""

    report: report_pb2.Report
    hospital: str
    period: Period
    read_time: datetime
    run_id: str
    mapping_revision: str


class Sheet(Protocol):
    """A file that is being written. Not thread-safe, but it may be used from one thread after the other."""

    def add(self, rows: Iterable[Sequence[Value]]) -> None: ...

    def close(self) -> None:
        """Write what comes after the rows, and close the file."""


class ReportFormat(Protocol):
    """One format. ``suffix`` of its files, without the dot."""

    suffix: ClassVar[str]

    def open(self, path: Path, head: SheetHead) -> Sheet: ...


def clean(text: str) -> str:
    """Without characters that no sheet can show."""
    return text.translate(_CONTROL)


def days_text(period: Period) -> str:
    """``2026-03-02`` or ``2026-03-01 至 2026-03-31``."""
    if period.first == period.last:
        return period.first.isoformat()
    return f"{period.first.isoformat()} 至 {period.last.isoformat()}"
