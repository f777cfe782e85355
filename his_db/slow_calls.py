"""The other half of a source's breaker: when most calls are slow, new reads are refused until a few are fast again.

An HIS that is drowning does not refuse connections, it answers late; every further query makes it later, also for the
windows of the hospital. States: closed (calls are measured), open (refused with RetryInfo), half-open (one call a
second passes; the first that ends decides). Measured and refused are reads; writes (money, bounded by their own lane)
and the watch (one connection) go on. See docs/decisions/0009.
"""

from __future__ import annotations

import enum
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from his_db.errors import HisBusy

_WINDOW: Final = 30.0  # seconds that the share is taken over
_MINIMUM: Final = 10  # calls in the window below which a share says nothing
_KEPT: Final = 1000  # calls remembered at most
_PROBE_EVERY: Final = 1.0  # seconds between calls let through while half-open
_SHORTEST: Final = 2.0  # seconds open the first time
_LONGEST: Final = 30.0


@dataclass(frozen=True, slots=True)
class SlowCallSettings:
    """A call longer than ``after`` is slow; ``percent`` of slow calls opens the breaker, 0: never."""

    after: timedelta = timedelta(seconds=3)
    percent: int = 60


class SlowState(enum.Enum):
    """Of the breaker, in the order of a figure: 0, 1, 2."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


@dataclass(frozen=True, slots=True)
class SlowCallStatus:
    """A snapshot. ``share``: of slow calls in the window, 0 to 1. ``refused`` and ``opened`` count since the start."""

    state: SlowState
    share: float
    calls: int
    refused: int
    opened: int


class SlowCalls:
    """Shared by the reading lanes of one source; thread-safe. ``clock`` in seconds."""

    def __init__(
        self, settings: SlowCallSettings | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings or SlowCallSettings()
        self._after = self._settings.after.total_seconds()
        self._clock = clock
        self._lock = threading.Lock()
        self._window: deque[tuple[float, bool]] = deque()
        self._slow = 0  # of those in the window
        self._state = SlowState.CLOSED
        self._pause = _SHORTEST
        self._retry_at = 0.0
        self._refused = 0
        self._opened = 0

    def enter(self) -> None:
        """Ask to send a call. Raises HisBusy, with ``retry_after``, while the breaker is open."""
        if self._is_closed():  # without the lock, which threads that end calls take
            return
        with self._lock:
            if self._is_closed():
                return
            wait = self._retry_at - self._clock()
            if wait > 0:
                self._refused += 1
                raise HisBusy("most calls are slow: reads are refused for a while", retry_after=timedelta(seconds=wait))
            self._state = SlowState.HALF_OPEN
            self._retry_at = self._clock() + _PROBE_EVERY

    def ended(self, seconds: float) -> None:
        """A call was run and took so long; from the lane's thread."""
        if not self._settings.percent:
            return
        slow = seconds > self._after
        with self._lock:
            now = self._clock()
            if self._state is SlowState.OPEN:
                return  # it had begun before
            if self._state is SlowState.HALF_OPEN:
                if slow:
                    self._pause = min(_LONGEST, self._pause * 2)
                    self._open(now)
                else:
                    self._state, self._pause = SlowState.CLOSED, _SHORTEST
                    self._window.clear()
                    self._slow = 0
                return
            self._window.append((now, slow))
            self._slow += slow
            if not slow and len(self._window) <= _KEPT:
                return  # nothing to decide
            share, calls = self._share(now)
            if slow and calls >= _MINIMUM and share * 100 >= self._settings.percent:
                self._open(now)

    def status(self) -> SlowCallStatus:
        """A snapshot."""
        with self._lock:
            share, calls = self._share(self._clock())
            return SlowCallStatus(self._state, share, calls, self._refused, self._opened)

    def _is_closed(self) -> bool:
        return self._state is SlowState.CLOSED

    def _open(self, now: float) -> None:
        self._state = SlowState.OPEN
        self._retry_at = now + self._pause
        self._opened += 1

    def _share(self, now: float) -> tuple[float, int]:
        window = self._window
        while window and (window[0][0] < now - _WINDOW or len(window) > _KEPT):
            self._slow -= window.popleft()[1]
        calls = len(window)
        return (self._slow / calls if calls else 0.0), calls
