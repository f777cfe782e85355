"""The process that the Windows service manager starts.

    python -X utf8 -m service_install.windows_entry --name his160 --config C:\\his160\\config.toml

The manager gives a process 30 s until it speaks to it, and loading the agent on a busy machine takes a good part of
that: so the agent is imported only after the manager has heard from us. Nothing heavy may be imported here.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from service_install.windows_status import START_LIMIT, Report, ServiceStatus, State

EXIT_FAILED: Final = 1
_LOG: Final = logging.getLogger(__name__)
_HOST: Final = "service_install.windows_host"


def _service_class(config: Path, ended: list[int], leave: Callable[[int], Any]) -> type:
    """The class that pywin32 makes one object of and calls ``SvcRun`` on; its exit code goes into ``ended``."""
    manager: Any = import_module("servicemanager")
    service: Any = import_module("win32service")
    refusal: Any = import_module("pywintypes").error

    def say(text: str, is_error: bool) -> None:
        try:
            (manager.LogErrorMsg if is_error else manager.LogInfoMsg)(f"his160: {text}")
        except refusal as error:
            # It is full and set to keep everything, or its service does not run: no reason not to serve, nor to stay
            # silent towards the manager.
            _LOG.warning("the event log takes nothing (%s): %s", error.winerror, text)

    def give_up(why: str) -> None:
        import_module(_HOST).give_up(say, why)

    class Service:
        """What ``PrepareToHostSingle`` wants."""

        def __init__(self, arguments: Sequence[str]) -> None:
            self._host: Any = None
            self._status = ServiceStatus(self._send, give_up)
            self._handle: Any = manager.RegisterServiceCtrlHandler(arguments[0], self._control, True)

        def SvcRun(self) -> None:
            self._status.pending(State.START_PENDING, START_LIMIT)
            ticking = self._status.keep_ticking()
            code = EXIT_FAILED
            try:
                self._host = import_module(_HOST).ServiceHost(config, self._status, say)
                code = self._host.run()
            finally:
                say(f"stopped, exit code {code}", code != 0)
                ended.append(code)
                self._status.stopped(code)
                ticking.join()
                # pywin32 tells the manager STOPPED once more when this returns, with exit code 0: a failure would be
                # read as a good end by whoever asks in time (``service start``, which says why).
                leave(code)

        def _control(self, number: int, kind: int, data: object) -> int:
            # Before the host is there no control but INTERROGATE is accepted, and the status answers that by itself.
            return int(self._host.control(number)) if self._host is not None else 0

        def _send(self, report: Report) -> None:
            kind = service.SERVICE_WIN32_OWN_PROCESS
            numbers = (report.exit_code, report.service_code, report.checkpoint, report.wait_hint)
            service.SetServiceStatus(self._handle, (kind, int(report.state), report.accepts, *numbers))

    return Service


def main(arguments: Sequence[str], *, leave: Callable[[int], Any] = os._exit) -> None:
    """Entry of the process; ``leave`` ends it with the exit code when the service has stopped.

    Threads of a driver may hang for ever, so the interpreter's own end is not waited for.
    """
    parser = argparse.ArgumentParser(prog="windows_entry", description="started by the Windows service manager")
    parser.add_argument("--name", required=True)
    parser.add_argument("--config", type=Path, required=True)
    options = parser.parse_args(arguments)
    manager: Any = import_module("servicemanager")
    ended: list[int] = []
    manager.Initialize(options.name, manager.__file__)
    manager.PrepareToHostSingle(_service_class(options.config.absolute(), ended, leave))
    manager.StartServiceCtrlDispatcher()
    leave(ended[0] if ended else EXIT_FAILED)


if __name__ == "__main__":
    main(sys.argv[1:])
