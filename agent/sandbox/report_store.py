"""Reports that agents publish: rows by run, with the place where a cut upload goes on.

A run is stored as one file of length-prefixed pages. The checksum in the last page is SHA-256 over the rows, each as
its deterministic serialisation, in order.
"""

from __future__ import annotations

import hashlib
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from his160.v1 import relay_pb2

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_LENGTH = struct.Struct(">I")


class ChunkRefused(Exception):
    """A chunk that does not fit what is stored. The text is English, without personal data."""


@dataclass(slots=True)
class _Run:
    rows: int = 0
    complete: bool = False
    digest: Any = field(default_factory=hashlib.sha256)  # hashlib names no public type for its objects


class ReportStore:
    """Runs of reports in a folder. Chunks of one run come one after the other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runs: dict[str, _Run] = {}

    def take(self, chunk: relay_pb2.PublishReportRequest) -> relay_pb2.PublishReportResponse:
        """Store one chunk; a chunk without a page only asks how far the run has come.

        Rows that are stored already are passed over. Raises ChunkRefused for an impossible run_id, for a gap, and when
        the checksum does not hold (then the run is dropped and begins again at row 0); OSError.
        """
        run = self._run(chunk.run_id)
        if chunk.HasField("page") and not run.complete:
            self._store(chunk, run)
        return relay_pb2.PublishReportResponse(run_id=chunk.run_id, rows=run.rows, complete=run.complete)

    def _store(self, chunk: relay_pb2.PublishReportRequest, run: _Run) -> None:
        if chunk.first_row > run.rows:
            raise ChunkRefused(f"row {run.rows} is next, the chunk begins at {chunk.first_row}")
        if chunk.first_row == run.rows:
            self._append(chunk, run)
        elif chunk.first_row + len(chunk.page.rows) > run.rows:
            raise ChunkRefused(f"row {run.rows} is next, the chunk begins at {chunk.first_row} and goes beyond it")
        if chunk.last:
            self._finish(chunk, run)

    def _append(self, chunk: relay_pb2.PublishReportRequest, run: _Run) -> None:
        content = chunk.SerializeToString()
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._path(chunk.run_id).open("ab") as file:
            file.write(_LENGTH.pack(len(content)) + content)
        _count(chunk, run)

    def _finish(self, chunk: relay_pb2.PublishReportRequest, run: _Run) -> None:
        if chunk.page.checksum != run.digest.digest():
            self._path(chunk.run_id).unlink(missing_ok=True)
            del self._runs[chunk.run_id]
            raise ChunkRefused("the checksum does not hold; begin again")
        run.complete = True

    def _run(self, run_id: str) -> _Run:
        run = self._runs.get(run_id)
        if run is None:
            if not _RUN_ID.fullmatch(run_id):
                raise ChunkRefused("the run_id is no name")
            run = self._runs[run_id] = self._load(run_id)
        return run

    def _load(self, run_id: str) -> _Run:
        """Read a run again after a restart; a torn page at the end is cut off."""
        run = _Run()
        path = self._path(run_id)
        if not path.exists():
            return run
        content = path.read_bytes()
        offset = 0
        while offset + _LENGTH.size <= len(content):
            (length,) = _LENGTH.unpack_from(content, offset)
            end = offset + _LENGTH.size + length
            if end > len(content):
                break
            chunk = relay_pb2.PublishReportRequest.FromString(content[offset + _LENGTH.size : end])
            _count(chunk, run)
            run.complete = chunk.last
            offset = end
        if offset < len(content):
            with path.open("r+b") as file:
                file.truncate(offset)
        return run

    def _path(self, run_id: str) -> Path:
        return self._folder / f"{run_id}.pages"


def _count(chunk: relay_pb2.PublishReportRequest, run: _Run) -> None:
    for row in chunk.page.rows:
        run.digest.update(row.SerializeToString(deterministic=True))
    run.rows += len(chunk.page.rows)
