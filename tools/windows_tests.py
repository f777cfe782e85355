"""Run `tests/windows` with a limit of time, and leave nothing running: what `make test-windows` and `.ci/run` call.

    python -m tools.windows_tests --seconds 1500 [ARGUMENTS OF PYTEST]

A run that takes too long is asked to end (its tests end what they started), then killed. Whatever is still there of
this run afterwards, or of an earlier one that was killed, is ended by its own number: sessions of wine by their
registry, other processes by a variable that only this run's descendants have.
"""

from __future__ import annotations

import argparse
import os
import secrets
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tools.windows_environment import ROOT, end_left_behind

MARK = "WINDOWS_TESTS_OF"
GRACE = 180.0
"""Seconds for a run that was asked to end."""
LATE = 124
"""The exit code of a run that took too long, as `timeout` has it."""


def run(words: Sequence[str], seconds: float, *, grace: float = GRACE, cache: Path = ROOT / "var" / "windows") -> int:
    """The exit code of a command, or ``LATE``; nothing of it runs any more."""
    mark = secrets.token_hex(8)
    for name in end_left_behind(cache):
        print(f"a session of an earlier run was ended: {name}", flush=True)
    process = subprocess.Popen(words, env={**os.environ, MARK: mark})
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        print(f"tests/windows took longer than {seconds:.0f} s", file=sys.stderr, flush=True)
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace)
        return LATE
    finally:
        process.kill()
        process.wait()
        end_left_behind(cache)
        end_marked(f"{MARK}={mark}".encode())


def end_marked(mark: bytes) -> None:
    """Kill the processes that have this variable, and those that they start meanwhile; wait until they are gone."""
    while found := [entry for entry in Path("/proc").glob("[0-9]*") if _is_marked(entry, mark)]:
        for entry in found:
            with suppress(ProcessLookupError):
                one = os.pidfd_open(int(entry.name))
                try:
                    if _is_marked(entry, mark):  # the number is still that of the same process
                        signal.pidfd_send_signal(one, signal.SIGKILL)
                        select.select([one], [], [], GRACE)
                finally:
                    os.close(one)


def _is_marked(entry: Path, mark: bytes) -> bool:
    """False also for one that has ended, and for those of others, whose variables may not be read."""
    try:
        return int(entry.name) != os.getpid() and mark in (entry / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Wine may not be missing, unless the caller says what may not."""
    return {"HIS160_REQUIRE": "windows", **environ}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, required=True)
    options, more = parser.parse_known_args(arguments)
    os.environ.update(environment(os.environ))
    # As if it were asked by ^C, also where ^C is not heard (a job in the background).
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return run([sys.executable, "-m", "pytest", "--durations=5", "tests/windows", *more], options.seconds)


if __name__ == "__main__":
    raise SystemExit(main())
