"""The agent in the process of a Windows service, told what to do by the service manager.

Standard streams do not exist here: what the agent says goes to its log file (``[log] file``, else ``logs/his160.log``
beside the state store), and start, stop and failures to the event log.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

from agent.config import Settings, load_settings
from agent.daemon import Ready
from agent.log import frames, setup_logging
from agent.serving import CANNOT_SERVE, explained, serve
from his_db.document.problem import DocumentError
from service_install.service_system import stop_time
from service_install.windows_status import PATIENCE, ServiceStatus, State

EXIT_FAILED: Final = 1
EXIT_CONFIG: Final = 78
# Controls of winsvc.h.
CONTROL_STOP: Final = 1
CONTROL_INTERROGATE: Final = 4
CONTROL_SHUTDOWN: Final = 5
CONTROL_PRESHUTDOWN: Final = 15
_STOPS: Final = frozenset({CONTROL_STOP, CONTROL_SHUTDOWN, CONTROL_PRESHUTDOWN})
_OK: Final = 0
_NOT_IMPLEMENTED: Final = 120
_LOG: Final = logging.getLogger(__name__)


class ServiceHost:
    """One run of the service. ``say(text, is_error)`` writes to the event log. Implements Keeper."""

    def __init__(self, config: Path, status: ServiceStatus, say: Callable[[str, bool], None]) -> None:
        self._config = config
        self._status = status
        self._say = say
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._asked = False
        self._limit = stop_limit_of(None)

    def run(self) -> int:
        """Serve until the manager asks to stop or a part dies; the exit code."""
        try:
            return self._serve()
        finally:
            logging.shutdown()

    def control(self, number: int) -> int:
        """What the manager asks, in a thread of Windows; answers at once with a Windows error code."""
        if number == CONTROL_INTERROGATE:
            self._status.again()
            return _OK
        if number not in _STOPS:
            return _NOT_IMPLEMENTED
        self._status.pending(State.STOP_PENDING, self._limit)
        with self._lock:
            self._asked = True
            if self._loop is not None and self._stop is not None:
                self._loop.call_soon_threadsafe(self._stop.set)
        return _OK

    @property
    def patience(self) -> timedelta | None:
        """The status gives the process up after that time without a sign of life."""
        return PATIENCE

    def ready(self, status: str) -> None:
        """Running, for the manager."""
        self._status.running()
        self._say(f"serving, {status}", False)

    def alive(self, status: str) -> None:
        """A sign of life."""
        self._status.heard()

    def unwell(self, trouble: str) -> None:
        """No sign of life."""
        self._say(f"not alive: {trouble}", True)

    def stopping(self, status: str) -> None:
        """Stopping, asked or not."""
        self._status.pending(State.STOP_PENDING, self._limit)

    def _serve(self) -> int:
        try:
            os.chdir(self._config.parent)
            settings = with_log_file(load_settings(self._config, os.environ))
            self._limit = stop_limit_of(settings)
            setup_logging(settings.log)
            return asyncio.run(self._until_asked(settings))
        except DocumentError as error:
            return self._failed(EXIT_CONFIG, str(error))
        except CANNOT_SERVE as error:
            return self._failed(EXIT_FAILED, " / ".join(explained(error)))
        except Exception as error:  # noqa: BLE001 - the border of the process: the event log gets a sentence, no values
            return self._failed(EXIT_FAILED, f"internal error: {frames(error)}")

    async def _until_asked(self, settings: Settings) -> int:
        stop = asyncio.Event()
        with self._lock:
            self._loop, self._stop = asyncio.get_running_loop(), stop
            if self._asked:
                stop.set()
        try:
            return await serve(settings, stop, self, _announce)
        finally:
            with self._lock:
                self._loop = self._stop = None

    def _failed(self, code: int, text: str) -> int:
        _LOG.critical("%s", text)
        self._say(text, True)
        return code


def stop_limit_of(settings: Settings | None) -> timedelta:
    """How long a stop may take before the process gives itself up."""
    return timedelta(seconds=30) if settings is None else stop_time(settings)


def with_log_file(settings: Settings) -> Settings:
    """The same with a log file: a service has no console."""
    if settings.log.file is not None:
        return settings
    file = settings.state.path.parent / "logs" / "his160.log"
    return dataclasses.replace(settings, log=dataclasses.replace(settings.log, file=file))


def _announce(ready: Ready) -> None:
    _LOG.info("serving site %s, port %d, relays %s", ready.site, ready.port, ", ".join(ready.relays) or "none")


def give_up(say: Callable[[str, bool], None], why: str) -> None:
    """End the process now: a failure for the manager, which starts it again."""
    say(f"given up: {why}", True)
    _LOG.critical("the process gives itself up: %s", why)
    logging.shutdown()
    os._exit(EXIT_FAILED)
