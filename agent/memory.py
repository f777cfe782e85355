"""Resident memory of this process, from the operating system, without a package for it."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from pathlib import Path


def resident_bytes() -> int:
    """Resident set size in bytes; 0 where the system does not say."""
    if sys.platform == "win32":
        return _windows()
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


class _Counters(ctypes.Structure):
    """PROCESS_MEMORY_COUNTERS of psapi."""

    _fields_ = (
        ("cb", ctypes.c_uint32),
        ("page_faults", ctypes.c_uint32),
        ("peak_working_set", ctypes.c_size_t),
        ("working_set", ctypes.c_size_t),
        ("peak_paged_pool", ctypes.c_size_t),
        ("paged_pool", ctypes.c_size_t),
        ("peak_nonpaged_pool", ctypes.c_size_t),
        ("nonpaged_pool", ctypes.c_size_t),
        ("pagefile", ctypes.c_size_t),
        ("peak_pagefile", ctypes.c_size_t),
    )


def _windows() -> int:
    libraries = getattr(ctypes, "windll", None)
    if libraries is None:
        return 0
    counters = _Counters(cb=ctypes.sizeof(_Counters))
    libraries.kernel32.GetCurrentProcess.restype = ctypes.c_void_p
    process = ctypes.c_void_p(libraries.kernel32.GetCurrentProcess())
    if not libraries.psapi.GetProcessMemoryInfo(process, ctypes.byref(counters), counters.cb):
        return 0
    return int(counters.working_set)


def settle() -> None:
    """What is in memory now stays: the collector need not walk it again.

    Modules, contract and mappings are some hundred thousand objects. Walking them took the event loop 60 ms each time,
    and a mass change brings that about.
    """
    gc.collect()
    gc.freeze()
