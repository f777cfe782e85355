"""Bringing what SQLite's log (WAL) holds into the file itself, beside the commits.

SQLite does that in whichever commit finds the log too long: that one waits for thousands of pages in the order of the
file, and for two more syncs; on the disks of many hospitals for a second. Here a thread of its own does it on a
connection of its own, soon after much has been written. It locks out neither readers nor the writer. Nothing hangs on
it: a log that grows all the same is brought in by a commit, later than it would be otherwise.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Final

_LOG = logging.getLogger("his160.sync.store")
_MUCH: Final = 500  # rows written: some megabytes
_SOON: Final = timedelta(seconds=1)  # a mass change is over by then
IN_A_COMMIT: Final = 4096  # pages (16 MiB) of the log, above which a commit brings them in itself


class Checkpoints:
    """The thread. ``wrote`` from the writing thread, ``stop`` from any."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], *, soon: timedelta | None = None) -> None:
        self._connect = connect
        self._soon = (_SOON if soon is None else soon).total_seconds()
        self._at = 0
        self._wanted = threading.Event()
        self._ended = threading.Event()
        self.done = 0
        """How often the log was brought in."""
        self._thread = threading.Thread(target=self._work, name="his160-store-checkpoint", daemon=True)
        self._thread.start()

    def wrote(self, rows: int) -> None:
        """A commit is done. ``rows``: how many the connection has written since it began."""
        if not 0 <= rows - self._at < _MUCH:  # a connection that was made anew counts from nothing
            self._at = rows
            self._wanted.set()

    def stop(self) -> None:
        """Ends the thread; the connection that is closed last brings in what is left."""
        self._ended.set()
        self._wanted.set()
        self._thread.join()

    def _work(self) -> None:
        well = True
        while self._wanted.wait() and not self._ended.wait(self._soon):
            self._wanted.clear()
            try:
                with contextlib.closing(self._connect()) as connection:
                    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                self.done += 1
                well = True
            except sqlite3.Error as error:  # the commits go on; the disk's trouble is theirs to tell
                if well:
                    _LOG.warning("the store's log cannot be brought in: %s", type(error).__name__)
                well = False
