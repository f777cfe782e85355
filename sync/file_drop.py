"""Dropped files as a capture: each row is what a watch's row is, compared with what is known of its key.

Before a file counts it is read once as a whole; one that is damaged, half written or too large makes no event at all.
Then page by page: rows, changes, the watcher's transaction, the next page. A process that dies begins the file again,
which changes nothing: a row that is known makes no change, and a content that was taken makes no second reading.
A file says nothing about rows that are not in it; nothing ever vanishes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import chain, islice
from typing import Any, Final

from google.protobuf.message import Message

from his_db.errors import HisError, HisUnavailable, MappingMismatch
from sync.capture import Batch, Change
from sync.clock import Clock
from sync.drop_folder import BadRow, DropFolder, Taken
from sync.drop_settings import DropSettings
from sync.file_format import BadFile, FileRow
from sync.his import CompiledWatchPort, WatchPort
from sync.redaction import clear_personal
from sync.store import RowState, Store, Transaction

_LOG: Final = logging.getLogger("his160.sync.drop")
_PAGE: Final = 2000  # rows in memory at a time
_SHOWN: Final = 100  # bad rows that are remembered
_TIDY: Final = 3600.0


@dataclass(slots=True)
class _Reading:
    """A file under way."""

    watch: CompiledWatchPort
    taken: Taken
    source: Iterator[FileRow]
    rows: Iterator[FileRow]
    bad: list[BadRow] = field(default_factory=list)
    bad_count: int = 0
    read: int = 0
    is_read: bool = False


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of a page. ``content``: its message, serialised."""

    raw: tuple[Any, ...]
    message: Message
    content: bytes


@dataclass(slots=True)
class _Page:
    rows: dict[str, _Row] = field(default_factory=dict)
    unreadable: int = 0


class FileDrop:
    """``Capture`` by a folder. ``files``, ``duplicates``, ``refused``, ``bad_rows``: since the start."""

    def __init__(
        self,
        his: WatchPort,
        store: Store,
        stream: str,
        settings: DropSettings,
        *,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stream = stream
        self.rung = "files"
        self.missed = 0
        self.trouble = ""
        self.name = settings.name
        self.files = self.duplicates = self.refused = self.bad_rows = 0
        self.folder = DropFolder(settings, clock=clock, monotonic=monotonic)
        self._his = his
        self._store = store
        self._clock = clock
        self._monotonic = monotonic
        self._reading: _Reading | None = None
        self._unconfirmed: set[str] = set()
        self._rows = 0
        self._tidied = 0.0
        self._day: date | None = None

    async def poll(self) -> Batch:
        watch = self._his.watch(self.stream)
        reading = self._reading
        if reading is not None and (self._unconfirmed or reading.watch is not watch):
            self._again(watch, reading)  # what was handed over is not in the store, or is to be read otherwise
        elif reading is not None and reading.is_read:
            await self._finish(reading)
        try:
            if self._reading is None and not await self._begin(watch):
                return await self._idle(watch)
            if self._reading is None:  # refused, or taken before: on to the next
                return Batch(watch, False, [], [], self._rows, 0, has_more=True)
            return await self._page(self._reading)
        except OSError as error:
            if self._reading is not None:
                _close(self._reading)
            self._reading = None
            raise HisUnavailable(f"the folder of {self.name} cannot be used: {error.strerror}") from error

    def confirm(self, changes: Sequence[Change]) -> None:
        self._unconfirmed.difference_update(change.key for change in changes)

    def reseed(self) -> None:
        """The file under way is begun again; what was taken stays taken: files hold no picture of the whole."""
        if self._reading is not None:
            self._again(self._reading.watch, self._reading)

    async def _begin(self, watch: CompiledWatchPort) -> bool:
        """Takes the next file up, if it can be read. False: there is none."""
        found = await asyncio.to_thread(self.folder.next, watch.columns)
        self._note()
        if found is None:
            return False
        if not isinstance(found, Taken):
            path, digest, why = found
            await asyncio.to_thread(self.folder.refuse, path, digest, why)
            self.refused += 1
            _LOG.warning("a dropped file was refused", extra={"drop": self.name, "fault": why.fault.name})
            self._note()
            return True
        if await self._store.read(lambda work: work.rows.get_many(self._files, [found.digest])):
            await asyncio.to_thread(self.folder.duplicate, found)
            self.duplicates += 1
            _LOG.info("a dropped file was taken before", extra={"drop": self.name, "sha256": found.digest[:12]})
            return True
        self._reading = _open(watch, found)
        return True

    def _again(self, watch: CompiledWatchPort, reading: _Reading) -> None:
        self._unconfirmed.clear()
        _close(reading)
        self._reading = _open(watch, reading.taken)

    async def _page(self, reading: _Reading) -> Batch:
        """The changes of the next rows."""
        try:
            page = await asyncio.to_thread(self._read, reading)  # also building: calls must not wait for it
        except BadFile as error:  # changed since it was looked through
            await self._refuse(reading, error)
            return Batch(reading.watch, False, [], [], self._rows, 0, has_more=True)
        self._rows = reading.read
        changes = await self._changes(reading, page.rows)
        self._unconfirmed = {change.key for change in changes}
        return Batch(reading.watch, False, changes, [], self._rows, page.unreadable, has_more=True)

    def _read(self, reading: _Reading) -> _Page:
        """The next rows, built; a key comes once at most, for its states follow one another."""
        rows = list(islice(reading.rows, _PAGE))
        page = _Page()
        reading.is_read = len(rows) < _PAGE
        for at, row in enumerate(rows):
            built = self._built(reading, row)
            if built is None:
                page.unreadable += 1
                continue
            key, known = built
            if key in page.rows:
                reading.rows = chain(rows[at:], reading.rows)
                reading.is_read = False
                break
            page.rows[key] = known
            reading.read = row.number
        return page

    def _built(self, reading: _Reading, row: FileRow) -> tuple[str, _Row] | None:
        try:
            if row.trouble:
                raise MappingMismatch(row.trouble)
            key, raw = reading.watch.given(row.values)
            if key is None:
                raise MappingMismatch("the row has no key")
            message = reading.watch.build(raw)
        except HisError as error:
            reading.bad_count += 1
            self.bad_rows += 1
            if len(reading.bad) < _SHOWN:
                reading.bad.append(BadRow(row.number, error.detail))
            return None
        clear_personal(message)
        return key, _Row(raw, message, message.SerializeToString(deterministic=True))

    async def _changes(self, reading: _Reading, wanted: Mapping[str, _Row]) -> list[Change]:
        states = await self._store.read(lambda work: work.rows.get_many(self.stream, wanted.keys()))
        changes: list[Change] = []
        for key, row in wanted.items():
            state = states.get(key)
            before = None if state is None else state.message
            if before == row.content:
                continue
            known = None if before is None else reading.watch.message_class.FromString(before)
            version = 1 if state is None else state.version + 1
            since = None if state is None or before is None else state.changed_time
            changes.append(Change(key, known, row.message, version, since, row.raw, before, row.content))
        return changes

    async def _finish(self, reading: _Reading) -> None:
        """All is in the store. A content with bad rows is not remembered: dropped again, it is read again."""
        if not reading.bad_count:
            mark = RowState(reading.taken.digest, 1, None, self._clock())
            await self._store.write(lambda work: work.rows.put_many(self._files, [mark]))
        self._reading = None
        self.files += 1
        try:
            await asyncio.to_thread(lambda: self.folder.finish(reading.taken, reading.bad, bad_count=reading.bad_count))
        except OSError as error:
            raise HisUnavailable(f"the folder of {self.name} cannot be used: {error.strerror}") from error
        self._note()
        extra = {"drop": self.name, "sha256": reading.taken.digest[:12], "rows": reading.read, "bad": reading.bad_count}
        _LOG.info("a dropped file was taken", extra=extra)

    async def _refuse(self, reading: _Reading, why: BadFile) -> None:
        self._reading = None
        self.refused += 1
        await asyncio.to_thread(self.folder.refuse, reading.taken.file.path, reading.taken.digest, why)
        self._note()

    async def _idle(self, watch: CompiledWatchPort) -> Batch:
        now = self._monotonic()
        if now - self._tidied > _TIDY or not self._tidied:
            self._tidied = now
            await asyncio.to_thread(self.folder.tidy)
        return Batch(watch, False, [], await self._outdated(watch), self._rows, 0)

    async def _outdated(self, watch: CompiledWatchPort) -> list[RowState]:
        """Rows whose day has left the watch's window, once a day: they are forgotten, which is no event."""
        now = self._clock()
        if self._day == now.date():
            return []

        def unit(work: Transaction) -> list[RowState]:
            old = []
            for state in work.rows.all(self.stream):
                message = watch.message_class.FromString(state.message or b"")
                if not watch.window_contains(message, now):
                    old.append(state._replace(message=None, changed_time=now))
            return old

        found = await self._store.read(unit)
        self._day = now.date()
        return found

    @property
    def _files(self) -> str:
        """Where the digests of contents that were taken are kept, as rows that are gone: they are pruned with these."""
        return f"{self.stream} files"

    def _note(self) -> None:
        count = self.folder.quarantined
        self.trouble = f"{count} files are in quarantine" if count else ""


def _open(watch: CompiledWatchPort, taken: Taken) -> _Reading:
    source = taken.format.rows(taken.file)
    return _Reading(watch, taken, source, source)


def _close(reading: _Reading) -> None:
    """Windows moves no file that is open."""
    if isinstance(reading.source, Generator):
        reading.source.close()
