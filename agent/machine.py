"""What this process may have at most, from the operating system, without a package for it."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any, Final

_GROUPS: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_UNLIMITED: Final = 1 << 60  # version 1 of control groups says a very large number


def memory_limit() -> int:
    """Bytes: of the machine, or of the container when that is less. 0 where the system does not say."""
    if sys.platform == "win32":
        return _windows_memory()
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        total = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:"))
    except (OSError, ValueError, IndexError, StopIteration):
        total = 0
    limits = [limit for path in _GROUPS if 0 < (limit := _number_in(path)) < _UNLIMITED]
    return min([*limits, *([total] if total else [])], default=0)


def file_limit() -> int:
    """Files that this process may have open; 0: no limit."""
    if sys.platform == "win32":
        return 0
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 0 if soft == resource.RLIM_INFINITY else soft


def _number_in(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # "max"
        return 0


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of sysinfoapi."""

    _fields_ = (
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        ("total_physical", ctypes.c_uint64),
        ("free_physical", ctypes.c_uint64),
        ("total_page", ctypes.c_uint64),
        ("free_page", ctypes.c_uint64),
        ("total_virtual", ctypes.c_uint64),
        ("free_virtual", ctypes.c_uint64),
        ("free_extended", ctypes.c_uint64),
    )


def _windows_memory() -> int:
    libraries: Any = getattr(ctypes, "windll", None)
    if libraries is None:
        return 0
    status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
    return int(status.total_physical) if libraries.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)) else 0
