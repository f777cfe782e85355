"""The breaker of one source: after a failed connect, calls fail at once for a short, growing time.

States: closed (connects are tried), open (nobody tries before ``retry_at``), half-open (one caller probes, the
others still fail fast). Only *connecting* asks the breaker: a lane that holds a live connection never does, so
that one full connection limit cannot stop the lanes that are already connected.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from his_db.errors import HisUnavailable

SHORTEST = 0.2  # seconds after the first failure
LONGEST = 5.0  # seconds, however often it failed: a booking agent must notice soon that the HIS is back


@dataclass(frozen=True, slots=True)
class BreakerState:
    """What the breaker knows. ``ok`` is None before the first connect; ``since`` is when ``ok`` last changed (UTC)."""

    ok: bool | None
    since: datetime
    detail: str
    failures: int


class Breaker:
    """Shared by the lanes of one source; thread-safe. ``clock`` in seconds, ``jitter`` in [0, 1), ``wall`` in UTC."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._wall = wall
        self._lock = threading.Lock()
        self._failures = 0
        self._retry_at = 0.0
        self._probing = False
        self._ok: bool | None = None
        self._since = wall()
        self._detail = "no connection was tried yet"

    def enter(self) -> None:
        """Ask to connect; every ``enter`` that returns is followed by ``succeeded`` or ``failed``.

        Raises HisUnavailable (``retry_after`` set) when it is too early or another caller is probing.
        """
        with self._lock:
            if self._failures == 0:
                return
            wait = self._retry_at - self._clock()
            if wait > 0 or self._probing:
                raise HisUnavailable(self._detail, retry_after=timedelta(seconds=max(wait, SHORTEST)))
            self._probing = True

    def succeeded(self) -> None:
        """A connection was made: closed again."""
        with self._lock:
            self._failures = 0
            self._probing = False
            self._mark(True, "connected")

    def failed(self, detail: str) -> timedelta:
        """A connect failed; ``detail`` without values or passwords. Returns how long callers are kept away."""
        with self._lock:
            self._probing = False
            full = min(LONGEST, SHORTEST * 2.0 ** min(self._failures, 10))
            self._failures += 1
            wait = full * (0.5 + 0.5 * self._jitter())  # spread, so that many agents do not knock together
            self._retry_at = self._clock() + wait
            self._mark(False, detail)
            return timedelta(seconds=wait)

    def state(self) -> BreakerState:
        """A snapshot."""
        with self._lock:
            return BreakerState(self._ok, self._since, self._detail, self._failures)

    def _mark(self, ok: bool, detail: str) -> None:
        if ok is not self._ok:
            self._ok = ok
            self._since = self._wall()
        self._detail = detail
