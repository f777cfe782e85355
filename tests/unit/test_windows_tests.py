"""The runner of the Windows tests ends what it started, whatever its tests do (no wine here: other programs)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools.windows_tests import LATE, environment, run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="wine is for Linux here")

# A program that says its number and waits; ``child``: it starts another one that waits, in a session of its own.
CHILD = "import os, pathlib, sys, threading; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); threading.Event().wait()"
DEAF = (
    "import signal, subprocess, sys, threading; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "subprocess.Popen([sys.executable, '-c', *sys.argv[1:]], start_new_session=True).wait()"
)


def test_the_exit_code_is_that_of_the_tests(tmp_path: Path) -> None:
    assert run([sys.executable, "-c", "raise SystemExit(3)"], 60, cache=tmp_path) == 3


def test_what_takes_too_long_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    """It does not listen, and its child is in another session: no signal to a group reaches it."""
    number = tmp_path / "number"
    code = run([sys.executable, "-c", DEAF, CHILD, str(number)], 10, grace=0.5, cache=tmp_path)
    assert code == LATE
    state = Path(f"/proc/{number.read_text()}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_windows_may_not_be_missing_unless_the_caller_says_so() -> None:
    assert environment({})["HIS160_REQUIRE"] == "windows"
    assert environment({"HIS160_REQUIRE": ""})["HIS160_REQUIRE"] == ""
