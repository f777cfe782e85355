"""A thread that keeps a wake-up session open and passes its signals on; a session that is lost is opened again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from typing import Final

from his_db.engine import Engine
from his_db.wake import Wake, WakeSession

_LOG: Final = logging.getLogger("his160.his_db.wake")
_WAIT: Final = 30.0  # seconds of one wait; a stop ends it at once
_LONGEST_PAUSE: Final = 30.0
_JOIN: Final = 10.0


class WakeListener:
    """``start``, then ``stop`` once.

    ``trouble``: why no signals can be heard now; empty when they can. ``count``: how often something was heard.
    """

    def __init__(
        self,
        name: str,
        wake: Wake,
        engine: Engine,
        signals: Collection[str],
        told: Callable[[Collection[str]], None],
        *,
        gap: float = 0.1,
        first_pause: float = 1.0,
    ) -> None:
        """``told`` is called from the thread; at most once in ``gap`` seconds, however often the table changes.

        Opened again after ``first_pause``, doubling.
        """
        self.trouble = "not connected yet"
        self.count = 0
        self._name = name
        self._wake = wake
        self._engine = engine
        self._signals = signals
        self._told = told
        self._gap = gap
        self._first_pause = first_pause
        self._failures = 0
        self._stopping = threading.Event()
        self._guard = threading.Lock()
        self._session: WakeSession | None = None
        self._thread = threading.Thread(target=self._run, name=f"his160-wake-{name}", daemon=True)

    @property
    def signals(self) -> Collection[str]:
        """What it listens for."""
        return self._signals

    @property
    def is_alive(self) -> bool:
        """False when the thread has ended."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it; blocks, for the time of a connect at the most."""
        self._stopping.set()
        with self._guard:
            if self._session is not None:
                self._session.abort()
        self._thread.join(_JOIN)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._listen()
            except self._engine.driver_errors as error:
                self._failed(error)
            pause = self._first_pause * 2.0 ** min(max(0, self._failures - 1), 10)
            self._stopping.wait(min(_LONGEST_PAUSE, pause))

    def _listen(self) -> None:
        session = self._wake.open(self._engine, self._signals)
        try:
            with self._guard:
                self._session = session
                if self._stopping.is_set():  # meanwhile: nobody would end the first wait
                    return
            if self.trouble and self._failures:
                _LOG.info("wake-up signals are heard again", extra={"source": self._name})
            self.trouble, self._failures = "", 0
            self._told(self._signals)  # what was signalled while nobody listened
            while not self._stopping.is_set():
                if heard := session.heard(_WAIT):
                    self.count += 1
                    self._told(heard)
                    self._stopping.wait(self._gap)
        finally:
            with self._guard:
                self._session = None
            session.close()

    def _failed(self, error: Exception) -> None:
        if self._stopping.is_set():
            return
        self._failures += 1
        detail = f"{type(error).__name__}: {self._engine.describe(error)}"
        if detail != self.trouble:
            _LOG.warning("no wake-up signals; polling goes on", extra={"source": self._name, "detail": detail})
        self.trouble = detail
