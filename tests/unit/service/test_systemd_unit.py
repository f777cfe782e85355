"""The unit: systemd itself says that it is right and how hardened it is; odd paths; who has edited it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from service_install.plan import ServiceError
from service_install.systemd_unit import UnitFacts, is_ours, quoted, unit_text
from tests.servers import unavailable

THRESHOLD = 15  # tenths
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="systemd is Linux's")


def facts(**more: object) -> UnitFacts:
    given = {
        "name": "his160",
        "command": (sys.executable, "-P", "-m", "agent", "run", "--config", "/etc/his160/config.toml"),
        "account": "root",  # verify wants one that exists
        "environment_file": Path("/etc/his160/environment"),
        "credentials": {"his": Path("/etc/his160/his.password")},
        "writable": [Path("/srv/his events")],
        "stop_time": timedelta(seconds=30),
    }
    return UnitFacts(**{**given, **more})  # type: ignore[arg-type]  # a record by name


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        unavailable("systemd", "no systemd-analyze (Debian: systemd)")
    return subprocess.run(["systemd-analyze", *words], capture_output=True, encoding="utf-8", check=False, timeout=60)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    path = tmp_path / "his160.service"
    path.write_text(unit_text(facts()), encoding="utf-8")
    return path


def test_systemd_finds_nothing_to_complain_about(unit: Path) -> None:
    done = analyze("verify", str(unit))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_that_check_can_fail(unit: Path) -> None:
    unit.write_text(unit.read_text(encoding="utf-8").replace("ProtectSystem=strict", "ProtectSystem=perhaps"))
    assert "protect system" in analyze("verify", str(unit)).stderr


def test_it_is_hardened(unit: Path, record_property: pytest.RecordProperty) -> None:
    unit.write_text(unit_text(facts(account="his160")), encoding="utf-8")
    done = analyze("security", "--offline=true", f"--threshold={THRESHOLD}", "--no-pager", str(unit))
    found = re.search(r"Overall exposure level for his160.service: ([0-9.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    record_property("exposure", found[1])
    assert done.returncode == 0, done.stdout


def test_that_threshold_can_fail(unit: Path) -> None:
    soft = re.sub(
        "^(Protect|Private|Restrict|SystemCall|Capability).*\n", "", unit.read_text(encoding="utf-8"), flags=re.M
    )
    unit.write_text(soft, encoding="utf-8")
    assert analyze("security", "--offline=true", f"--threshold={THRESHOLD}", "--no-pager", str(unit)).returncode != 0


def test_an_edit_is_seen() -> None:
    text = unit_text(facts())
    assert is_ours(text)
    assert not is_ours(text.replace("TasksMax=512", "TasksMax=100"))
    assert not is_ours(text + "\n")
    assert not is_ours("[Unit]\nDescription=somebody else's\n")
    assert not is_ours("")


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("/opt/his160", "/opt/his160"),
        ("/opt/his 160", '"/opt/his 160"'),
        ("/opt/100%", "/opt/100%%"),
        ("/opt/$HOME", "/opt/$$HOME"),
        ('/opt/"x"', '"/opt/\\"x\\""'),
        ("/opt/医院", "/opt/医院"),
        ("/opt/{x}", "/opt/{x}"),
    ],
)
def test_odd_words_of_a_command(word: str, wanted: str, tmp_path: Path) -> None:
    assert quoted(word, is_command=True) == wanted
    assert f"--config {wanted}\n" in unit_text(facts(command=(sys.executable, "--config", word)))


def test_systemd_reads_an_odd_command_as_it_is_meant(tmp_path: Path) -> None:
    program = tmp_path / "his 160 $HOME 100% 程序"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    path = tmp_path / "his160.service"
    path.write_text(unit_text(facts(command=(str(program), "run"))), encoding="utf-8")
    done = analyze("verify", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    program.unlink()
    assert "not executable" in analyze("verify", str(path)).stderr


def test_a_line_end_in_a_path_is_refused() -> None:
    for more in ({"command": ("/bin/x\nUser=root",)}, {"writable": [Path("/srv\nUser=root")]}):
        with pytest.raises(ServiceError):
            unit_text(facts(**more))
