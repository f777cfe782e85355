"""Seeing that somebody edits the mappings: events of the file system, or polling where none are delivered.

The only file that imports watchdog. Events are a hint to look, never the truth: ``Reloader`` also compares
``fingerprint`` every few seconds, so a share that loses events costs seconds and no change.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import Final

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver
from watchdog.observers.polling import PollingObserver

from agent.config import WatchMode

_LOG: Final = logging.getLogger(__name__)

_SUFFIXES: Final = frozenset({".toml", ".sql"})
# Not "opened" and "closed_no_write": reading the files must not look like writing them.
_TELLING: Final = frozenset({"created", "modified", "moved", "deleted", "closed"})
_POLL_SECONDS: Final = 1.0
_SHARES: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "vboxsf", "fuse.sshfs", "fuse.glusterfs"})
_MOUNTS: Final = Path("/proc/self/mounts")

Fingerprint = tuple[tuple[str, int, int, int], ...]


class FolderWatch(FileSystemEventHandler):
    """Calls ``changed``, from a thread of its own, whenever files of a mapping set may have changed."""

    def __init__(
        self,
        folder: Path,
        mode: WatchMode,
        changed: Callable[[], None],
        *,
        suffixes: frozenset[str] | None = _SUFFIXES,
        recursive: bool = True,
    ) -> None:
        """``suffixes``: of the files that matter; None: all."""
        self._suffixes = suffixes
        self._recursive = recursive
        self._folder = folder
        self._mode = mode
        self._changed = changed
        self._observer: BaseObserver | None = None
        self._root: tuple[int, int] | None = None

    @property
    def means(self) -> str:
        """``events``, ``polling``, or empty while nothing is watched."""
        if self._observer is None:
            return ""
        return "polling" if isinstance(self._observer, PollingObserver) else "events"

    def start(self) -> None:
        """Begin, as far as the folder is there. Never raises OSError: without events there is still the comparison."""
        self._root = _identity(self._folder)
        if self._root is None or self._mode == "off":
            return
        polls = self._mode == "polling" or (self._mode == "auto" and is_share(self._folder))
        if polls or not self._begin(Observer()):  # no inotify watches left, a file system without events
            self._begin(PollingObserver(timeout=_POLL_SECONDS))

    def renew(self) -> bool:
        """Begin again when the folder is another one than before (renamed over, mounted); whether it was. Blocks."""
        if _identity(self._folder) == self._root:
            return False
        self.stop()
        self.start()
        return True

    def stop(self) -> None:
        """End, and wait for the thread."""
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            observer.join()

    def on_any_event(self, event: FileSystemEvent) -> None:
        """See ``watchdog``."""
        if event.event_type not in _TELLING:
            return
        if event.is_directory:
            if event.event_type != "modified":
                self._changed()
            return
        paths = (event.src_path, event.dest_path)
        if self._suffixes is None or any(PurePath(os.fsdecode(p)).suffix.lower() in self._suffixes for p in paths):
            self._changed()

    def _begin(self, observer: BaseObserver) -> bool:
        try:
            observer.schedule(self, str(self._folder), recursive=self._recursive)
            observer.start()
        except OSError as error:
            _LOG.warning("a folder gives no events: %s", error.strerror or type(error).__name__)
            return False
        self._observer = observer
        return True


def fingerprint(folder: Path) -> Fingerprint:
    """Name, size, time and inode of every mapping file; empty for a folder that is not there."""
    return tuple(sorted(_entries(folder)))


def set_files(folder: Path) -> Iterator[Path]:
    """The files of a mapping set, by the rule of ``his_db.mapping.load``: hidden and foreign ones apart."""
    for path in folder.rglob("*"):
        hidden = any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
        if path.suffix.lower() in _SUFFIXES and not hidden and path.is_file():
            yield path


def is_share(folder: Path) -> bool:
    """Whether the folder is on a network share, where changes by others give no events here."""
    path = folder.absolute()
    if sys.platform == "win32":
        import ctypes

        drive_remote = 4
        found: int = ctypes.windll.kernel32.GetDriveTypeW(path.drive + "\\")
        return path.drive.startswith("\\\\") or found == drive_remote
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    best, kind = "", ""
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        mount = fields[1].replace("\\040", " ")
        if path.is_relative_to(mount) and len(mount) >= len(best):
            best, kind = mount, fields[2]
    return kind in _SHARES


def _entries(folder: Path) -> Iterator[tuple[str, int, int, int]]:
    try:
        for path in set_files(folder):
            try:
                found = path.stat()
            except OSError:
                yield path.as_posix(), -1, 0, 0
            else:
                yield path.as_posix(), found.st_size, found.st_mtime_ns, found.st_ino
    except OSError:  # a folder that goes while it is listed
        return


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
