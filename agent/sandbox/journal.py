"""The sandbox's events: an append-only file of protobuf records, each with a checksum, and an index in memory.

The first arrival of an event is a record with the event, every later one a record with its id only. A torn record at
the end (power cut) was never acknowledged, so it is cut off when the file is opened.
"""

from __future__ import annotations

import asyncio
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from google.protobuf.message import DecodeError
from his160.sandbox.v1 import sandbox_pb2
from his160.v1 import event_pb2

_HEADER = struct.Struct(">II")
"""Length of the record, its CRC-32."""


class JournalDamaged(Exception):
    """A record in the middle of the file is broken: not the trace of a power cut."""


class EventJournal:
    """Events by id in the order of first arrival. One process at a time.

    ``add`` returns when the events are on disk (fsync).
    """

    def __init__(self, path: Path, now_us: Callable[[], int]) -> None:
        """Open or make the file. ``now_us``: microseconds since 1970-01-01 UTC. Raises OSError, JournalDamaged."""
        self._now_us = now_us
        self._stored: list[sandbox_pb2.StoredEvent] = []
        self._by_id: dict[str, sandbox_pb2.StoredEvent] = {}
        self._writing = asyncio.Lock()
        self._grown = asyncio.Event()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = path.open("a+b", buffering=0)
        try:
            self._load()
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __len__(self) -> int:
        return len(self._stored)

    async def add(self, events: Sequence[event_pb2.Event]) -> None:
        """Store a batch. Raises OSError; then none of the batch counts as arrived."""
        async with self._writing:
            records = self._records(events)
            content = b"".join(_framed(record.SerializeToString()) for record in records)
            await asyncio.to_thread(self._append, content)
            for record in records:
                self._index(record)
        self._grown.set()
        self._grown = asyncio.Event()

    def after(self, position: int, limit: int) -> list[sandbox_pb2.StoredEvent]:
        """At most ``limit`` events of positions above ``position``."""
        start = max(0, position)
        return self._stored[start : start + limit]

    async def wait_after(self, position: int) -> None:
        """Wait until there is an event above ``position``."""
        while len(self._stored) <= position:
            await self._grown.wait()

    def _records(self, events: Sequence[event_pb2.Event]) -> list[sandbox_pb2.StoredEvent]:
        records = []
        position = len(self._stored)
        fresh: set[str] = set()
        for event in events:
            if event.event_id in self._by_id or event.event_id in fresh:
                again = event_pb2.Event(event_id=event.event_id)
                records.append(sandbox_pb2.StoredEvent(event=again))
                continue
            fresh.add(event.event_id)
            position += 1
            records.append(
                sandbox_pb2.StoredEvent(event=event, arrivals=1, position=position, arrival_us=self._now_us())
            )
        return records

    def _index(self, record: sandbox_pb2.StoredEvent) -> None:
        known = self._by_id.get(record.event.event_id)
        if known is not None:
            known.arrivals += 1
            return
        self._stored.append(record)
        self._by_id[record.event.event_id] = record

    def _append(self, content: bytes) -> None:
        end = self._file.seek(0, os.SEEK_END)
        try:
            view = memoryview(content)
            while view:
                view = view[self._file.write(view) :]
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(end)  # a half record must not stand before the next one
            raise

    def _load(self) -> None:
        self._file.seek(0)
        content = self._file.read()
        offset = 0
        while offset < len(content):
            record, following = _unframed(content, offset)
            if record is None:
                if following < len(content):
                    raise JournalDamaged(f"broken record at byte {offset}")
                self._file.truncate(offset)
                return
            self._index(record)
            offset = following


def _framed(record: bytes) -> bytes:
    return _HEADER.pack(len(record), zlib.crc32(record)) + record


def _unframed(content: bytes, offset: int) -> tuple[sandbox_pb2.StoredEvent | None, int]:
    """The record at ``offset`` and where the next begins; None for a record that is torn or broken."""
    start = offset + _HEADER.size
    if start > len(content):
        return None, len(content)
    length, checksum = _HEADER.unpack_from(content, offset)
    if length == 0:
        return None, len(content)  # no record is empty: a tail that the file system filled with zeros
    record = content[start : start + length]
    if len(record) < length or zlib.crc32(record) != checksum:
        return None, min(start + length, len(content))
    try:
        return sandbox_pb2.StoredEvent.FromString(record), start + length
    except DecodeError:
        return None, start + length
