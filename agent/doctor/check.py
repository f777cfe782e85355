"""The port of a check: a function that looks at one thing and says what it saw."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from agent.config import Reading, Settings, StateSettings
from agent.doctor.finding import Findings
from agent.state_store import has_state, is_in_use, revision_of_shared
from sync.clock import Clock, utc_now
from sync.store import StoreError
from sync.store_revision import head

LIMIT = timedelta(seconds=30)


class Space(NamedTuple):
    """Of a file system, for whoever runs this: bytes, and how many more files (-1: it does not count them)."""

    total: int
    free: int
    files: int


def space_of(path: Path) -> Space:
    """Raises OSError."""
    usage = shutil.disk_usage(path)
    statvfs: Callable[[Path], os.statvfs_result] | None = getattr(os, "statvfs", None)
    if statvfs is None:  # Windows
        return Space(usage.total, usage.free, -1)
    found = statvfs(path)
    return Space(usage.total, usage.free, found.f_favail if found.f_files else -1)


class RunningAgent:
    """Whether an agent works on the store now; asked once, whichever check asks first: asking takes its lock."""

    def __init__(self, state: StateSettings) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._answer: bool | None = None

    def __call__(self) -> bool:
        with self._lock:
            if self._answer is None:
                self._answer = self._ask()
            return self._answer

    def _ask(self) -> bool:
        try:
            if self._state.url and revision_of_shared(self._state) != head():
                return False  # to ask would be to make its tables
            return has_state(self._state) and asyncio.run(is_in_use(self._state))
        except StoreError:  # told by the store's own check
            return False


@dataclass(frozen=True, slots=True)
class Context:
    """What checks look at. ``space``, ``clock``: what they ask of the machine."""

    file: Path
    reading: Reading
    settings: Settings
    agent_runs: Callable[[], bool]
    clock: Clock = utc_now
    space: Callable[[Path], Space] = space_of
    source_limit: timedelta = timedelta(seconds=1)
    """With which time-out a statement is cut, to see that it is."""

    def has_password(self, *section: str) -> bool:
        """Whether the reference of a section leads to a password, or there is no reference."""
        return section not in self.reading.without_password


@dataclass(frozen=True, slots=True)
class Check:
    """``act`` runs in a thread of its own and is given up after ``limit``. ``name``: what it looks at."""

    name: str
    act: Callable[[Context], Findings] = field(compare=False)
    limit: timedelta = LIMIT


Area = Callable[[Context], Sequence[Check]]
"""Of one area: the checks that this configuration calls for."""
