"""Points at which an agent can die: every durable write of its store, every statement, BEGIN, COMMIT and HTTP exchange
towards the hospital, and the moment of the answer. Test side only: the agent knows nothing of it.

``Trap.spring`` puts counting wrappers around the two boundaries that all durable work goes through, ``Store.write`` and
the engine's sessions. The same command, run alone, passes the same points in the same order, so a point is a number.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

PHASES = ("before", "during", "after")
_UNCOUNTED_LANES = ("-watch-", "-report-")  # they poll by the clock: their order is nobody's


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a run. ``number`` counts from 1."""

    number: int
    label: str
    phase: str

    def __str__(self) -> str:
        return f"{self.number} {self.phase} {self.label}"


class Trap:
    """Counts points, and kills its own process with SIGKILL at the one it is armed for.

    ``during``: the kill comes ``delay`` seconds after the statement has been handed to the driver, from another thread;
    whatever the statement has answered by then is never seen.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed = 0
        self._armed_at = ("", "")
        self._delay = 0.0
        self._counting = False
        self._points: list[Point] = []

    def arm(self, number: int, delay: float = 0.0) -> None:
        """Count from here on, and die at this point; 0: only count."""
        with self._lock:
            self._points = []
            self._armed, self._armed_at, self._delay, self._counting = number, ("", ""), delay, True

    def arm_at(self, label: str, phase: str) -> None:
        """Die at the next point of this name, however many others come before it (a lane that connects is one)."""
        with self._lock:
            self._points = []
            self._armed, self._armed_at, self._delay, self._counting = 0, (label, phase), 0.0, True

    def disarm(self) -> list[Point]:
        """Count no more; what was counted."""
        with self._lock:
            self._counting = False
            return list(self._points)

    def pass_by(self, label: str, phase: str) -> bool:
        """Pass a point. Ends the process when it is the armed one, except in the phase ``during``: then True."""
        with self._lock:
            if not self._counting:
                return False
            point = Point(len(self._points) + 1, label, phase)
            self._points.append(point)
            reached = point.number == self._armed or (label, phase) == self._armed_at
        if reached and phase != "during":
            die()
        return reached

    def around(self, label: str, work: Callable[[], T]) -> T:
        """Do the work of a lane's thread between its points."""
        if any(name in threading.current_thread().name for name in _UNCOUNTED_LANES):
            return work()
        self.pass_by(label, "before")
        dying = self.pass_by(label, "during")
        if dying:
            threading.Thread(target=self._die_late, daemon=True).start()
        try:
            return work()
        finally:
            if dying:
                die()
            self.pass_by(label, "after")

    def _die_late(self) -> None:
        time.sleep(self._delay)  # a thread of its own: it dies in the middle of the work, not beside it
        die()


def die() -> None:
    """End this process at once, as ``kill -9`` or the power does."""
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


class TrappedStore:
    """A ``sync.store.Store`` whose writes are points."""

    def __init__(self, store: Any, trap: Trap) -> None:
        self._store = store
        self._trap = trap

    async def write(self, unit: Callable[[Any], T]) -> T:
        label = f"store {unit.__qualname__.partition('.<locals>')[0]}"
        self._trap.pass_by(label, "before")
        result: T = await self._store.write(unit)
        self._trap.pass_by(label, "after")
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class TrappedEngine:
    """A ``his_db.engine.Engine`` whose sessions' calls are points."""

    def __init__(self, engine: Any, trap: Trap) -> None:
        self._engine = engine
        self._trap = trap

    def open(self, **options: Any) -> Any:
        session = self._trap.around("connect", lambda: self._engine.open(**options))
        kind = TrappedExchanger if hasattr(session, "exchange") else TrappedSession
        return kind(session, self._trap)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


class TrappedSession:
    """A ``his_db.engine.Session`` whose statements, procedure calls, BEGIN and COMMIT are points."""

    def __init__(self, session: Any, trap: Trap) -> None:
        self._session = session
        self._trap = trap

    def run(self, sql: str, values: Mapping[str, Any], *, max_rows: int) -> Any:
        return self._trap.around(_first_words(sql), lambda: self._session.run(sql, values, max_rows=max_rows))

    def call(self, plan: Any, values: Mapping[str, Any], *, max_rows: int) -> Any:
        return self._trap.around(f"CALL {plan.object}", lambda: self._session.call(plan, values, max_rows=max_rows))

    def begin(self) -> None:
        self._trap.around("BEGIN", self._session.begin)

    def commit(self) -> None:
        self._trap.around("COMMIT", self._session.commit)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


class TrappedExchanger(TrappedSession):
    """A session of engine ``http``, too."""

    @property
    def goes_out(self) -> bool:
        return bool(self._session.goes_out)

    def exchange(self, request: Any) -> Any:
        label = f"{request.method} {request.target.partition('?')[0]}"
        return self._trap.around(label, lambda: self._session.exchange(request))


def spring(trap: Trap) -> None:
    """Put the wrappers around everything that this process will open. Before the agent is made, once."""
    import agent.daemon as daemon
    from his_db import source

    engine_for, open_state = source.engine_for, daemon.open_state
    daemon.open_state = lambda *args, **options: TrappedStore(open_state(*args, **options), trap)  # type: ignore
    source.engine_for = lambda settings: TrappedEngine(engine_for(settings), trap)


def _first_words(sql: str) -> str:
    """``UPDATE SCH_TICKET``: enough to know a statement by."""
    words = sql.split()
    table = 0
    for at, word in enumerate(words):
        if word.upper() in {"UPDATE", "INTO", "FROM"}:
            table = at + 1
            break
    with suppress(IndexError):
        return f"{words[0].upper()} {words[table].strip('(').upper()}" if table else words[0].upper()
    return words[0].upper()
