"""Rows of a run on their way: packed into a file while the HIS is read, then into pages of the store.

The HIS is read as fast as it gives, without waiting for the store: a report must not hold locks there. What comes
out of the middle costs the memory of one page, whatever the number of rows.
"""

from __future__ import annotations

import hashlib
import struct
import tempfile
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import IO, Final

from google.protobuf import timestamp_pb2
from his160.v1 import report_pb2

from his_db.report_rows import as_page, page_rows
from sync.report_book import PageRow, RunRow
from sync.store import Store, StoreCorrupt

PAGE_ROWS: Final = 1000
PAGE_BYTES: Final = 256 * 1024
_HEAD: Final = struct.Struct(">II")
_LEVEL: Final = 3
_READ_AT_ONCE: Final = 8


class Spool:
    """``his_db.compiled_report.ReportSink`` into a nameless file. ``close`` gives the disk back."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # The file has no name (or goes with its handle): rows never outlive the run outside the store.
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by ``close``
        self._waiting: list[bytes] = []
        self._bytes = 0
        self._digest = hashlib.sha256()
        self.rows = 0

    def begin(self) -> None:
        """Start anew: the reading begins again."""
        self._file.seek(0)
        self._file.truncate()
        self._waiting, self._bytes, self.rows = [], 0, 0
        self._digest = hashlib.sha256()

    def take(self, rows: Sequence[bytes]) -> None:
        for row in rows:
            self._waiting.append(row)
            self._bytes += len(row)
            self._digest.update(row)
            if len(self._waiting) >= PAGE_ROWS or self._bytes >= PAGE_BYTES:
                self._flush()
        self.rows += len(rows)

    @property
    def checksum(self) -> bytes:
        """SHA-256 over all rows in order, as the contract has it."""
        return self._digest.digest()

    def pages(self, run_id: str) -> Iterator[PageRow]:
        """Everything that was taken, as pages of the store."""
        self._flush()
        self._file.seek(0)
        first = 0
        while head := self._file.read(_HEAD.size):
            count, size = _HEAD.unpack(head)
            yield PageRow(run_id, first, count, self._file.read(size))
            first += count

    def close(self) -> None:
        self._file.close()

    def _flush(self) -> None:
        if self._waiting:
            content = zlib.compress(as_page(self._waiting), _LEVEL)
            self._file.write(_HEAD.pack(len(self._waiting), len(content)) + content)
            self._waiting, self._bytes = [], 0


def unpacked(page: PageRow) -> bytes:
    """The page as the content of a ``ReadReportResponse``. Raises StoreCorrupt."""
    try:
        return zlib.decompress(page.content)
    except zlib.error as error:
        raise StoreCorrupt(f"rows of the run {page.run_id} cannot be read") from error


async def kept_pages(store: Store, run: RunRow, first_row: int = 0) -> AsyncIterator[tuple[int, list[bytes]]]:
    """The rows of a run from ``first_row`` on: number of the first, and the rows as bytes. Raises StoreError."""
    at = first_row
    while at < run.rows:
        page = await store.read(lambda work, at=at: work.reports.page_at(run.run_id, at))  # type: ignore[misc]
        if page is None:
            raise StoreCorrupt(f"the run {run.run_id} has {run.rows} rows, and row {at} is missing")
        rows = list(page_rows(unpacked(page)))
        yield at, rows[at - page.first_row :]
        at = page.first_row + page.rows


async def responses(
    store: Store, run: RunRow, first_row: int = 0
) -> AsyncIterator[tuple[report_pb2.ReadReportResponse, bool]]:
    """The rows of a run from ``first_row`` on as pages of the contract, and whether it is the last.

    The report stands in the first page, the checksum over all rows in the last; there is always one. StoreError.
    """
    page = _opening(run, min(first_row, run.rows))
    async for at, rows in kept_pages(store, run, first_row):
        if page.rows:
            yield page, False
            page = report_pb2.ReadReportResponse(first_row=at)
        page.MergeFromString(as_page(rows))
    page.checksum = run.checksum
    yield page, True


def _opening(run: RunRow, first_row: int) -> report_pb2.ReadReportResponse:
    read = timestamp_pb2.Timestamp()
    read.FromDatetime(run.begun_time)
    report = report_pb2.Report.FromString(run.definition)
    return report_pb2.ReadReportResponse(report=report, first_row=first_row, read_time=read)
