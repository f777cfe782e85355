"""The folder for dropped files: which file is complete and next, and where it goes afterwards.

    folder/NAME             dropped by others
    folder/.taken/NAME      being read: whoever writes on does not write into what is read
    folder/done/NAME        taken, deleted after ``keep``
    folder/quarantine/NAME  refused, or with rows that were; NAME.reason.txt says why

All are folders of one file system, so that a move is one step. Blocking: called in a thread. Raises OSError.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from his_db.move import move
from sync.drop_settings import FORMATS, DropSettings
from sync.file_format import BadFile, FileFault, FileFormat, OpenFile
from sync.file_sniff import sniff
from sync.registry import FILE_FORMATS, load

TAKEN, DONE, QUARANTINE = ".taken", "done", "quarantine"
_REASON: Final = ".reason.txt"
# What programs call a file while they write it.
_UNFINISHED: Final = frozenset({".tmp", ".part", ".partial", ".filepart", ".crdownload", ".writing", ".swp", ".lock"})
_SHOWN: Final = 50
Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that could not be used, and why (English, no value)."""

    number: int
    detail: str


@dataclass(frozen=True, slots=True)
class Taken:
    """A file that was claimed and looked through."""

    file: OpenFile
    digest: str
    format: FileFormat
    rows: int
    stamp: Stamp

    @property
    def name(self) -> str:
        return self.file.path.name


@dataclass(slots=True)
class _Seen:
    stamp: Stamp
    since: float
    refused: BadFile | None = None


class DropFolder:
    """One folder. ``monotonic``: what waiting is measured by; ``clock``: what a reason is dated with."""

    def __init__(
        self, settings: DropSettings, *, clock: Callable[[], datetime], monotonic: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._monotonic = monotonic
        self._seen: dict[str, _Seen] = {}
        self.waiting = 0
        """Files that are there and not complete yet, or not their turn."""
        self.quarantined = 0
        """Files in quarantine now."""

    def next(self, columns: Sequence[str]) -> Taken | tuple[Path, str, BadFile] | None:
        """The next file, claimed: good, or refused as a whole (where it is now, its digest or ""). None: there is none.

        ``columns``: what the mapping needs of each file.
        """
        base = self._settings.folder
        for name in (TAKEN, DONE, QUARANTINE):
            (base / name).mkdir(parents=True, exist_ok=True)
        self.quarantined = sum(not path.name.endswith(_REASON) for path in (base / QUARANTINE).iterdir())
        for path in sorted((base / TAKEN).iterdir()):  # of a process that died
            return self._looked(path, columns)
        found = sorted(self._candidates(), key=lambda item: (item[1][0], item[0].name))
        self._seen = {path.name: seen for path, _ in found if (seen := self._seen.get(path.name)) is not None}
        self.waiting = len(found)
        for path, stamp in found:
            taken = self._try(path, stamp, columns)
            if taken is not None:
                self._seen.pop(path.name, None)
                self.waiting -= 1
                return taken
        return None

    def finish(self, taken: Taken, bad: Sequence[BadRow], *, bad_count: int) -> None:
        """All usable rows are in the store."""
        path = taken.file.path
        if _stamp(path.lstat()) != taken.stamp:  # whoever dropped it has written on: it is read again as a whole
            move(path, self._free("", path.name, taken.digest))
        elif bad_count:
            shown = [f"第 {row.number} 行 / row {row.number}: {row.detail}" for row in bad[:_SHOWN]]
            head = f"{bad_count} 行无法使用，其余已处理 / {bad_count} rows cannot be used, the others were taken"
            self._quarantine(path, taken.digest, [head, *shown])
        else:
            self._move(path, DONE, taken.digest)

    def refuse(self, path: Path, digest: str, why: BadFile) -> None:
        """The file as a whole cannot be taken."""
        place = f"第 {why.row} 行 / row {why.row}: " if why.row else ""
        self._quarantine(path, digest, [f"{why.fault.name} {why.fault.value}", f"{place}{why.detail}"])

    def duplicate(self, taken: Taken) -> None:
        """The same content was taken before."""
        self._move(taken.file.path, DONE, taken.digest)

    def tidy(self) -> int:
        """Deletes what was taken longer ago than ``keep``; the number of files."""
        oldest = (self._clock() - self._settings.keep).timestamp()
        deleted = 0
        for path in (self._settings.folder / DONE).glob("*"):
            if path.is_file() and path.stat().st_mtime < oldest:
                path.unlink(missing_ok=True)
                deleted += 1
        return deleted

    def _candidates(self) -> Iterator[tuple[Path, tuple[int, Stamp]]]:
        for path in self._settings.folder.iterdir():
            if path.name.startswith((".", "~")) or path.suffix.lower() in _UNFINISHED:
                continue
            try:
                found = path.lstat()
            except FileNotFoundError:
                continue
            if not stat.S_ISDIR(found.st_mode):
                yield path, (found.st_mtime_ns, _stamp(found))

    def _try(
        self, path: Path, when: tuple[int, Stamp], columns: Sequence[str]
    ) -> Taken | tuple[Path, str, BadFile] | None:
        stamp, now = when[1], self._monotonic()
        seen = self._seen.get(path.name)
        if seen is None or seen.stamp != stamp:
            self._seen[path.name] = _Seen(stamp, now)
            return None
        if now - seen.since < self._settings.quiet.total_seconds():
            return None
        has_waited = now - seen.since >= self._settings.patience.total_seconds()
        if seen.refused is not None and not has_waited:
            return None
        try:
            return self._judged(path, stamp, columns, seen, has_waited=has_waited)
        except PermissionError:
            # Windows: a program (whoever writes it, a person with a sheet) has it open, and it cannot be moved. The
            # others do not wait for it, and it is not read through at every look.
            self._seen[path.name] = _Seen(stamp, now)
            return None

    def _judged(
        self, path: Path, stamp: Stamp, columns: Sequence[str], seen: _Seen, *, has_waited: bool
    ) -> Taken | tuple[Path, str, BadFile] | None:
        """Claimed, when it is whole or was waited for long enough. Raises OSError."""
        try:
            found = self._looked(path, columns)
        except PermissionError:  # Windows: whoever writes it lets nobody read; elsewhere: we may not
            if not has_waited:
                return None
            return self._claim(path), "", BadFile(FileFault.UNREADABLE)
        if not isinstance(found, Taken):
            if found[2].fault is FileFault.INCOMPLETE and not has_waited:
                seen.refused = found[2]
                return None
            return self._claim(path), found[1], found[2]
        claimed = self._claim(path)
        if _stamp(claimed.lstat()) != stamp:  # somebody has written on: it was not complete
            move(claimed, path)
            return None
        moved = OpenFile(claimed, found.file.size, found.file.encoding, found.file.ends_line, found.file.settings)
        return replace(found, file=moved)

    def _claim(self, path: Path) -> Path:
        target = self._settings.folder / TAKEN / path.name
        os.replace(path, target)  # who has it open may keep it: the next look tries again
        return target

    def _looked(self, path: Path, columns: Sequence[str]) -> Taken | tuple[Path, str, BadFile]:
        """The whole file read once, before any of it counts."""
        digest = ""
        try:
            if not stat.S_ISREG(path.lstat().st_mode):
                raise BadFile(FileFault.NO_FILE, "a link, a pipe or a device")
            kind = self._format(path)
            looked = sniff(path, self._settings.encoding, is_dbf=kind == "dbf", most=self._settings.max_bytes)
            digest = looked.digest
            file = OpenFile(path, looked.size, looked.encoding, looked.ends_line, self._settings)
            reader: FileFormat = load(FILE_FORMATS[kind])
            stamp = _stamp(path.lstat())
            return Taken(file, digest, reader, self._counted(reader, file, columns), stamp)
        except BadFile as error:
            return path, digest, error

    def _format(self, path: Path) -> str:
        kind = self._settings.format if self._settings.format != "auto" else path.suffix.lower().removeprefix(".")
        kind = {"txt": "csv", "ndjson": "json", "jsonl": "json"}.get(kind, kind)
        if kind not in FORMATS:
            raise BadFile(FileFault.FORMAT, "the file name ends in nothing known")
        return kind

    def _counted(self, reader: FileFormat, file: OpenFile, columns: Sequence[str]) -> int:
        """The number of rows. Raises BadFile: also when no row has a column that the mapping needs.

        The first of ``columns`` is the key's. A format that leaves out what is empty needs only that.
        """
        count = 0
        missing = set(columns if reader.names_columns else columns[:1])
        for row in reader.rows(file):
            count += 1
            if count > self._settings.max_rows:
                raise BadFile(FileFault.TOO_MANY, f"more than {self._settings.max_rows} rows")
            if missing:
                missing.difference_update(row.values)
        if count and missing:
            raise BadFile(FileFault.COLUMNS, ", ".join(sorted(missing)))
        return count

    def _quarantine(self, path: Path, digest: str, lines: Sequence[str]) -> None:
        target = self._free(QUARANTINE, path.name, digest)
        local = self._clock().astimezone().isoformat(timespec="seconds")
        text = [
            f"文件 file: {path.name}",
            f"时间 time: {local}",
            f"SHA-256: {digest or '-'}",
            "",
            *lines,
            "",
            "改正后把文件重新放入目录；已处理过的行不会再产生事件。",
            "Correct the file and drop it again; rows that were taken before make no second event.",
        ]
        reason = target.with_name(target.name + _REASON)
        # Before the move: a file in quarantine always has its reason. With a mark, for Windows' Notepad.
        reason.write_text("\r\n".join(text) + "\r\n", encoding="utf-8-sig", newline="")
        move(path, target)
        self.quarantined += 1

    def _move(self, path: Path, where: str, digest: str) -> None:
        target = self._free(where, path.name, digest)
        os.utime(path)  # ``keep`` counts from now
        move(path, target)

    def _free(self, where: str, name: str, digest: str) -> Path:
        """A name that nothing has there: never is a file written over."""
        folder = self._settings.folder / where
        stem, dot, suffix = name.rpartition(".") if "." in name else (name, "", "")
        mark = digest[:8] or f"{self._clock():%Y%m%d%H%M%S}"
        names = (name, *(f"{stem}.{mark}{number or ''}{dot}{suffix}" for number in range(10_000)))
        return next(folder / each for each in names if not os.path.lexists(folder / each))


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_size, found.st_mtime_ns, found.st_ino
