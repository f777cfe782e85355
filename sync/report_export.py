"""A kept run as a file: read page by page from the store, written in a thread, whole or not at all."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

from his160.v1 import report_pb2

from his_db.move import move
from his_db.report_rows import row_values
from sync.registry import REPORT_FORMATS, load
from sync.report_book import RunRow
from sync.report_format import ReportFormat, Sheet, SheetHead
from sync.report_pages import kept_pages
from sync.report_periods import Period
from sync.store import Store


@dataclass(frozen=True, slots=True)
class Exporter:
    """Writes runs of a store into files. ``hospital``: its name, as the sheet shows it."""

    store: Store
    hospital: str
    zone: ZoneInfo

    async def write(self, run: RunRow, format_name: str, path: Path) -> None:
        """The file at ``path``; one that is there is replaced when the new one is whole. Raises OSError, StoreError."""
        kind: ReportFormat = load(REPORT_FORMATS[format_name])()
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        try:
            sheet = await asyncio.to_thread(kind.open, part, self.head(run))
            try:
                async for _, rows in kept_pages(self.store, run):
                    await asyncio.to_thread(_add, sheet, rows)
            finally:
                await asyncio.to_thread(sheet.close)
            move(part, path)
        finally:
            part.unlink(missing_ok=True)

    def head(self, run: RunRow) -> SheetHead:
        """What stands above the rows of a run."""
        read = run.begun_time.astimezone(self.zone).replace(tzinfo=None)
        report = report_pb2.Report.FromString(run.definition)
        return SheetHead(
            report, self.hospital, Period(run.first_day, run.last_day), read, run.run_id, run.mapping_revision
        )


def file_name(run: RunRow, format_name: str) -> str:
    """``R1_2026-03-02.xlsx``: report and days, nothing of its rows."""
    return f"{run.report}_{Period(run.first_day, run.last_day).name}.{format_name}"


def _add(sheet: Sheet, rows: list[bytes]) -> None:
    sheet.add(row_values(row) for row in rows)
