"""What a Windows service tells its manager, and when it gives itself up: SetServiceStatus as a small state machine.

While it starts or stops it reports progress every second (checkpoint and wait hint), for as long as it has; what takes
longer ends the process, and so does an event loop that gives no sign of life. The manager's recovery actions follow.
Source: winsvc.h and "Service State Transitions" of the Windows documentation.
"""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

ACCEPT_STOP: Final = 0x1
ACCEPT_SHUTDOWN: Final = 0x4
ACCEPT_PRESHUTDOWN: Final = 0x100
ACCEPTED: Final = ACCEPT_STOP | ACCEPT_SHUTDOWN | ACCEPT_PRESHUTDOWN
SPECIFIC_ERROR: Final = 1066  # ERROR_SERVICE_SPECIFIC_ERROR: the code is ours
START_LIMIT: Final = timedelta(seconds=180)
PATIENCE: Final = timedelta(seconds=60)
_WAIT_HINT: Final = 10_000  # milliseconds, ten times as long as the next report takes
_EVERY: Final = 1.0


class State(enum.IntEnum):
    """States of winsvc.h that this service is in."""

    STOPPED = 1
    START_PENDING = 2
    STOP_PENDING = 3
    RUNNING = 4


@dataclass(frozen=True, slots=True)
class Report:
    """One SERVICE_STATUS. ``wait_hint`` in milliseconds; ``service_code`` counts when ``exit_code`` is 1066."""

    state: State
    accepts: int = 0
    exit_code: int = 0
    service_code: int = 0
    checkpoint: int = 0
    wait_hint: int = 0


class ServiceStatus:
    """For any thread. ``send`` tells the manager; ``give_up`` ends the process and says why in its argument."""

    def __init__(
        self,
        send: Callable[[Report], None],
        give_up: Callable[[str], None],
        *,
        patience: timedelta = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send = send
        self._give_up = give_up
        self._patience = patience.total_seconds()
        self._clock = clock
        self._lock = threading.RLock()
        self._last = Report(State.STOPPED)
        self._due = 0.0
        self._heard = 0.0
        self._ended = threading.Event()

    @property
    def state(self) -> State:
        """As last reported."""
        return self._last.state

    def pending(self, state: State, limit: timedelta) -> None:
        """Starting or stopping, which may take ``limit``. Once stopping, it stays so, with its first limit."""
        with self._lock:
            if self._last.state is State.STOP_PENDING:
                return
            self._due = self._clock() + limit.total_seconds()
            self._tell(Report(state, checkpoint=1, wait_hint=_WAIT_HINT))

    def running(self) -> None:
        """It serves; unless it was asked to stop meanwhile."""
        with self._lock:
            if self._last.state is not State.STOP_PENDING:
                self._heard = self._clock()
                self._tell(Report(State.RUNNING, accepts=ACCEPTED))

    def heard(self) -> None:
        """A sign of life."""
        self._heard = self._clock()

    def stopped(self, code: int) -> None:
        """The last report. Another code than 0 is a failure, after which the manager starts the service again."""
        with self._lock:
            if not self._ended.is_set():
                self._tell(Report(State.STOPPED, exit_code=SPECIFIC_ERROR if code else 0, service_code=code))
            self._ended.set()

    def again(self) -> None:
        """The manager asks: say the same once more."""
        with self._lock:
            self._send(self._last)

    def tick(self) -> None:
        """A second has passed: report progress, or give up."""
        with self._lock:
            last, now = self._last, self._clock()
            if last.state in (State.START_PENDING, State.STOP_PENDING):
                if now > self._due:
                    self._give_up(f"{last.state.name} took too long")
                else:
                    self._tell(Report(last.state, checkpoint=last.checkpoint + 1, wait_hint=_WAIT_HINT))
            elif last.state is State.RUNNING and now - self._heard > self._patience:
                self._give_up("no sign of life from the event loop and the parts")

    def keep_ticking(self) -> threading.Thread:
        """Tick in a thread until it has stopped."""

        def run() -> None:
            while not self._ended.wait(_EVERY):
                self.tick()

        thread = threading.Thread(target=run, name="service status", daemon=True)
        thread.start()
        return thread

    def _tell(self, report: Report) -> None:
        self._last = report
        self._send(report)
