"""A child process of the demo: its lines are read from a pipe, it is stopped by its own handle, on every platform."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

_KEPT: Final = 400  # lines
_WINDOWS: Final = sys.platform == "win32"
# A group of its own: Ctrl-C of the console reaches the demo alone, which then stops its children in order.
_NEW_GROUP: Final = int(getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0))
_STOP: Final = int(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM))


class ChildFailed(Exception):
    """A child ended, or did not become ready in time. The text names it; its lines are in ``Child.tail``."""


class Child:
    """One process of ours. Its output goes into ``<logs>/<name>.log`` and the last lines are kept.

    Pipes, not files: under some Windows hosts Python cannot write to a file given as standard output.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], logs: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        """Start ``python -m agent <arguments>``. ``environ``: variables on top of ours."""
        self.name = name
        logs.mkdir(parents=True, exist_ok=True)
        self.log = logs / f"{name}.log"
        self._lines: deque[str] = deque(maxlen=_KEPT)
        self._news = threading.Condition()
        self._seen = 0
        self._ended = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "agent", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1", **(environ or {})},
            encoding="utf-8",
            errors="replace",
            creationflags=_NEW_GROUP,
            start_new_session=not _WINDOWS,
        )
        self._reader = threading.Thread(target=self._read, name=f"log of {name}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def tail(self, count: int = 25) -> list[str]:
        """Its last lines."""
        with self._news:
            return list(self._lines)[-count:]

    def wait_line(self, wanted: Callable[[str], bool], seconds: float) -> str:
        """The first line from its start (as far as kept) that is wanted. Raises ChildFailed."""
        until = time.monotonic() + seconds
        with self._news:
            while True:
                found = next((line for line in self._lines if wanted(line)), None)
                if found is not None:
                    return found
                if self._ended:
                    raise ChildFailed(f"{self.name} ended with {self._process.wait()}")
                left = until - time.monotonic()
                if left <= 0:
                    raise ChildFailed(f"{self.name} was not ready after {seconds:.0f} s")
                self._news.wait(left)

    def wait(self, seconds: float) -> int | None:
        """Its exit code, None when it is still running after that time."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        self._reader.join(5)
        return code

    def ask_to_stop(self) -> None:
        """Send what a service manager or a console sends."""
        if not self.running:
            return
        try:
            self._process.send_signal(_STOP)
        except (OSError, SystemError):
            # Windows without a console has no Ctrl-Break to send (CPython 3.11 makes a SystemError of it).
            self._process.terminate()

    def stop(self, seconds: float = 15) -> int | None:
        """Ask, wait, then kill. The exit code."""
        self.ask_to_stop()
        code = self.wait(seconds)
        return self.kill() if code is None else code

    def kill(self) -> int | None:
        """End it at once (SIGKILL, TerminateProcess). The exit code."""
        if self.running:
            self._process.kill()
        return self.wait(10)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self.log.open("a", encoding="utf-8") as file, self._process.stdout as lines:
            for line in lines:
                file.write(line)
                file.flush()
                with self._news:
                    self._lines.append(line.rstrip("\n"))
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()
