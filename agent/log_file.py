"""The rotated log file. On Windows a file that somebody has open cannot be renamed: then it grows on.

The standard library's handler closes the file, fails to rename it and loses the record, each record, for as long as a
person has the log open in a viewer; and each of its attempts throws the oldest file away.
"""

from __future__ import annotations

import logging.handlers
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

AGAIN_SECONDS: Final = 60.0


class RotatedFile(logging.handlers.RotatingFileHandler):
    """``FILE``, and its older parts ``FILE.1`` (the youngest) to ``FILE.n``."""

    def __init__(
        self, path: Path, *, max_bytes: int, backups: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Opens the file. Raises OSError."""
        super().__init__(path, maxBytes=max_bytes, backupCount=backups, encoding="utf-8")
        self._clock = clock
        self._not_before = float("-inf")

    def shouldRollover(self, record: logging.LogRecord) -> int:
        """Whether the record does not fit; not for a minute after a rename that was refused."""
        fits_not = super().shouldRollover(record)  # opens the file when it is closed
        return int(bool(fits_not) and self._clock() >= self._not_before)

    def doRollover(self) -> None:
        """Begin a new file if Windows lets us, and go on writing in any case."""
        if self.stream:
            self.stream.close()
            self.stream = None
        try:
            self._shift()
        except OSError:
            self._not_before = self._clock() + AGAIN_SECONDS
        self.stream = self._open()

    def _shift(self) -> None:
        """Each part one number up, as far as the first number that is free: what an attempt that was refused has left
        undone is done by the next one, and no part is thrown away but the oldest."""
        if self.backupCount <= 0:
            return
        names = [self.baseFilename, *(f"{self.baseFilename}.{n}" for n in range(1, self.backupCount + 1))]
        free = next((at for at in range(1, len(names)) if not os.path.exists(names[at])), len(names) - 1)
        for at in range(free, 0, -1):
            os.replace(names[at - 1], names[at])
