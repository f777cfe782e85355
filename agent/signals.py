"""Being asked to stop: SIGTERM, SIGINT, Ctrl-Break and the console's close on Windows.

The first request stops in order, the second ends the process at once: whoever asks twice means now.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

EXIT_AT_ONCE: Final = 130
# Windows ends a process a few seconds after its handler for CLOSE, LOGOFF or SHUTDOWN returns, or after about 5 s.
_CLOSE_WAIT: Final = 4.5
_CLOSING_EVENTS: Final = frozenset({2, 5, 6})  # CTRL_CLOSE_EVENT, CTRL_LOGOFF_EVENT, CTRL_SHUTDOWN_EVENT
_LOG: Final = logging.getLogger(__name__)


class StopRequests:
    """Listens for requests to stop; ``asked`` is set by the first. Use it as a context manager, in the main thread."""

    def __init__(self, *, exit_now: Callable[[int], Any] = os._exit) -> None:
        self.asked = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._exit_now = exit_now
        self._count = 0
        self._before: dict[int, Any] = {}
        self._ended = threading.Event()
        self._console_handler: Any = None

    def __enter__(self) -> StopRequests:
        for number in _signals():
            self._before[number] = signal.signal(number, self._heard)
        if sys.platform != "win32":
            # A signal must wake the event loop also when nothing else happens.
            for number in self._before:
                self._loop.add_signal_handler(number, self.request)
        else:
            self._console_handler = _install_console_handler(self._closing)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for number, before in self._before.items():
            if sys.platform != "win32":
                self._loop.remove_signal_handler(number)
            signal.signal(number, before)
        if self._console_handler is not None:
            _remove_console_handler(self._console_handler)

    def request(self) -> None:
        """What a signal does; call it in the event loop."""
        self._count += 1
        if self._count == 1:
            _LOG.info("asked to stop")
            self.asked.set()
        else:
            _LOG.warning("asked to stop again: ending at once")
            self._exit_now(EXIT_AT_ONCE)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self._loop.call_soon_threadsafe(self.request)

    def _closing(self, event: int) -> bool:
        """Console event, in a thread of Windows: True says that it is dealt with."""
        if event not in _CLOSING_EVENTS:
            return False  # Ctrl-C and Ctrl-Break come as signals
        self._loop.call_soon_threadsafe(self.request)
        self._ended.wait(_CLOSE_WAIT)
        return True


def _signals() -> list[int]:
    names = ("SIGTERM", "SIGINT", "SIGBREAK")
    return [int(getattr(signal, name)) for name in names if hasattr(signal, name)]


def _install_console_handler(handle: Callable[[int], bool]) -> Any:
    """Register a handler of console events; keep the result alive until it is removed."""
    make = getattr(ctypes, "WINFUNCTYPE", None)
    libraries = getattr(ctypes, "windll", None)
    if make is None or libraries is None:
        return None
    handler = make(ctypes.c_int, ctypes.c_uint32)(handle)
    # Fails in a process without a console (a service): then there are no such events.
    return handler if libraries.kernel32.SetConsoleCtrlHandler(handler, 1) else None


def _remove_console_handler(handler: Any) -> None:
    libraries = getattr(ctypes, "windll", None)
    if libraries is not None:
        libraries.kernel32.SetConsoleCtrlHandler(handler, 0)
