"""Events as JSON lines in files: for a site whose 网闸 passes files only.

Each batch is one file, complete from the moment it has its name: written aside, synced, renamed. Whoever carries the
files takes ``*.jsonl`` and may delete what it has taken.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from google.protobuf.json_format import MessageToDict
from his160.v1 import event_pb2

from his_db.move import move
from sync.sink import Outcome, Receipt, SinkUnavailable


class FileSink:
    """``Sink`` that writes into ``folder`` (made when it is not there). STORED: the file and its name are on disk."""

    name = "file"

    def __init__(self, folder: Path | str) -> None:
        self._folder = Path(folder)

    async def deliver(self, events: Sequence[event_pb2.Event]) -> Sequence[Receipt]:
        if not events:
            return []
        try:
            await asyncio.to_thread(_write, self._folder, events)
        except OSError as error:
            raise SinkUnavailable(f"the event file cannot be written: {error.strerror}") from error
        return [Receipt(event.event_id, Outcome.STORED) for event in events]

    async def close(self) -> None:
        """Nothing is held between two batches."""


def _write(folder: Path, events: Sequence[event_pb2.Event]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [_line(event) for event in events]
    # The same batch sent again after a crash has the same name and replaces itself.
    digest = hashlib.sha256("".join(event.event_id for event in events).encode()).hexdigest()[:12]
    target = folder / f"events-{events[0].sequence:012d}-{events[-1].sequence:012d}-{digest}.jsonl"
    aside = target.with_suffix(".part")
    with aside.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
    move(aside, target)
    _sync_folder(folder)


def _line(event: event_pb2.Event) -> str:
    content = MessageToDict(event, preserving_proto_field_name=True)
    return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":")) + "\n"


def _sync_folder(folder: Path) -> None:
    """Makes the new name durable. Windows has no such call; NTFS journals names by itself."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
