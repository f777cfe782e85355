"""One session of Windows under wine: the environment of ``tools/windows_environment.py`` on a registry of its own.

Services of Windows end with the last program of a session; one program is therefore kept until the end.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.servers import unavailable
from tools.windows_environment import WindowsEnvironment, build, end_left_behind, end_session, own_prefix

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 600.0
"""Seconds for one program: on a quiet machine it takes three, on one with thirty busy processes a hundred."""

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Windows:
    """Runs Windows Python. Paths of this machine are on drive Z:."""

    def __init__(self, environment: WindowsEnvironment) -> None:
        self._environment = environment
        self._holder: subprocess.Popen[bytes] | None = None

    def python(
        self,
        *words: str,
        folder: Path,
        text: str = "",
        seconds: float = PATIENCE,
        environ: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """The interpreter to its end, in ``folder``; by pipes, since it dies of a plain file as standard output. What it
        is given is in code page 936, what our programs write into a pipe in UTF-8."""
        done = subprocess.run(
            self._environment.command(*words),
            cwd=folder,
            env={**self._environment.variables(), **(environ or {})},
            input=text.encode("gbk"),
            capture_output=True,
            timeout=seconds,
            check=False,
        )
        return subprocess.CompletedProcess(done.args, done.returncode, _text(done.stdout), _text(done.stderr))

    def his160(self, *words: str, folder: Path, text: str = "") -> subprocess.CompletedProcess[str]:
        """Our program."""
        return self.python("-m", "agent", *words, folder=folder, text=text)

    def on_console(self, *words: str, folder: Path, environ: dict[str, str] | None = None) -> tuple[int, str]:
        """The interpreter on a console of Windows, which wine shows on a terminal: its exit code, and what a person sees."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 200, 0, 0))
        try:
            process = subprocess.Popen(
                self._environment.command(*words),
                cwd=folder,
                env={**self._environment.variables(), "TERM": "xterm", **(environ or {})},
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                start_new_session=True,
            )
        finally:
            os.close(theirs)
        try:
            seen = b"".join(_read_all(ours, time.monotonic() + PATIENCE))
            return process.wait(60), _ESCAPES.sub("", _text(seen))
        finally:
            os.close(ours)
            process.kill()
            process.wait()

    @contextmanager
    def kept_open(self, file: str, *, folder: Path, content: bytes | None = None) -> Iterator[None]:
        """Another program has a file open meanwhile, as Python, a viewer, a spreadsheet open it: nobody may move it.
        ``content``: it writes that first."""
        code = (
            "import sys; name, content = sys.argv[1], bytes.fromhex(sys.argv[2]);"
            "file = open(name, 'wb' if content else 'rb'); file.write(content) if content else None; file.flush();"
            "print('open', flush=True); sys.stdin.read(); file.close()"
        )
        process = subprocess.Popen(
            self._environment.command("-c", code, file, (content or b"").hex()),
            cwd=folder,
            env=self._environment.variables(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout is not None
        try:
            assert process.stdout.readline().strip() == b"open"
            yield
        finally:
            process.communicate(timeout=PATIENCE)

    def agents(self) -> list[int]:
        """Processes of this session, by this machine's numbers, that are services of ours."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended meanwhile
                mine = f"WINEPREFIX={self._environment.prefix}\0".encode() in (entry / "environ").read_bytes()
                words = (entry / "cmdline").read_bytes()
                if mine and (b"service_install" in words or b"weak.py" in words):
                    found.append(int(entry.name))
        return sorted(found)

    def boot(self) -> None:
        """Begin a session, as a machine that is switched on: services with automatic start begin."""
        words = self._environment.command("-c", "import sys; print('up', flush=True); sys.stdin.read()")
        self._holder = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self._environment.variables(),
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline().strip() == b"up"

    def power_cut(self) -> None:
        """End every program of the session at once. No program is told."""
        end_session(self._environment)
        if self._holder is not None:
            self._holder.communicate(timeout=60)
            self._holder = None

    def drive(self, *parts: str) -> Path:
        """A folder of drive C:, seen from this machine; made when it is not there."""
        folder = self._environment.prefix.joinpath("drive_c", *parts)
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def _text(output: bytes) -> str:
    """With the ends of lines of this machine; a terminal has one more ``\\r``."""
    return output.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r\n", "\n")


def _read_all(terminal: int, until: float) -> Iterator[bytes]:
    """What comes from a terminal until its other side is closed."""
    while time.monotonic() < until:
        if select.select([terminal], [], [], 1)[0]:
            try:
                yield os.read(terminal, 65536)
            except OSError:  # EIO: closed
                return


@contextmanager
def windows_session() -> Iterator[Windows]:
    """A session; skips where there is no wine, builds what is missing of the environment."""
    if sys.platform != "linux" or shutil.which("wine") is None or shutil.which("wineserver") is None:
        unavailable("windows", "no wine (Debian: wine wine64)")
    cache = ROOT / "var" / "windows"
    environment = own_prefix(build(cache))
    end_left_behind(cache)
    windows = Windows(environment)
    try:
        windows.boot()
        yield windows
    finally:
        windows.power_cut()
        shutil.rmtree(environment.prefix, ignore_errors=True)
