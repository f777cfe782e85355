"""The lock that keeps a second agent off a store: a file beside it, locked by the operating system.

The lock dies with the process, however it dies; the file stays and means nothing by itself.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sync.store import StoreLocked, StoreUnavailable

# Windows forbids reading a locked byte, so the byte that is locked lies behind the text that says who holds it.
_LOCKED_BYTE = 4096


class StoreLock:
    """Exclusive lock of the store at ``path``. Raises StoreLocked when another process (or object) has it."""

    __slots__ = ("_descriptor",)

    def __init__(self, path: Path) -> None:
        name = path.with_name(path.name + ".lock")
        try:
            descriptor = os.open(name, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        except OSError as error:
            raise StoreUnavailable(f"the lock file of the state store cannot be opened: {error.strerror}") from error
        try:
            _lock(descriptor)
        except OSError as error:
            holder = os.read(descriptor, 64).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise StoreLocked(f"another agent works on this state store (process {holder}): {name}") from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode("ascii"))
        self._descriptor = descriptor

    def release(self) -> None:
        """Gives the lock back. May be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
