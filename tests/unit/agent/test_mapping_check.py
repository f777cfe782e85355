"""The check in a process of its own: same verdicts, and whatever happens to the process costs a candidate at most."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from agent.config_place import packs_folder
from agent.mapping_check import MappingCheck
from agent.mapping_compiler import MappingCompiler
from his_db.document.problem import DocumentError
from his_db.mapping.load import load_mapping_set
from tests.bounds import PATIENCE

PACK = packs_folder() / "zebone" / "mappings"
SOURCES = {"his": "sqlite"}
ZONE = "Asia/Shanghai"
DEPARTMENTS = Path("catalog/list_departments.toml")
WAIT = PATIENCE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "mappings"
    for name in (DEPARTMENTS, Path("codes/period.toml"), Path("watch/schedules.toml")):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PACK / name, made / name)
    return made


@pytest.fixture
def check() -> Iterator[MappingCheck]:
    made = MappingCheck(SOURCES, ZONE)
    yield made
    made.close()


def children() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children():
        try:
            if "agent.mapping_check_child" in child.cmdline():
                found.append(child)
        except psutil.Error:  # gone meanwhile
            pass
    return found


def until(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT
    gate = threading.Event()
    while not reached():
        assert time.monotonic() < end
        gate.wait(0.01)


def spoil(folder: Path) -> None:
    path = folder / DEPARTMENTS
    path.write_text(path.read_text(encoding="utf-8").replace("schema = 1", "schema = 1\ncolour = 1"), encoding="utf-8")
    (folder / "codes" / "period.toml").write_bytes("# 上午\n= 1\n".encode())


def test_its_verdict_is_that_of_the_check_in_this_process(check: MappingCheck, folder: Path) -> None:
    assert check.check(folder) == load_mapping_set(folder, sources=SOURCES, timezone=ZONE).revision
    (child,) = children()
    assert child.nice() == psutil.Process().nice()  # the start waits for it, on a machine that may start much else
    spoil(folder)
    with pytest.raises(DocumentError) as here:
        load_mapping_set(folder, sources=SOURCES, timezone=ZONE)
    with pytest.raises(DocumentError) as there:
        check.check(folder)
    assert there.value.problems == here.value.problems
    assert len(there.value.problems) > 1
    assert children() == [child]  # one process for all
    if os.name == "posix":
        assert child.nice() > psutil.Process().nice()
    check.rest()
    assert children() == []


def test_a_process_that_died_meanwhile_costs_nothing(check: MappingCheck, folder: Path) -> None:
    revision = check.check(folder)
    (child,) = children()
    child.kill()
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    assert check.check(folder) == revision


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import os; os._exit(9)", "its process ended with 9"),
        ("import os, sys; sys.stdin.readline(); os.abort()", "its process ended with "),
        ("import sys; sys.stdin.readline(); print('[]', flush=True); sys.stdin.read()", "its process ended with "),
        ("import sys; sys.stdin.readline(); print('{', flush=True); sys.stdin.read()", "its process ended with "),
        ("import sys; sys.stdin.read()", "it took longer than 0.3 s"),
        ('print(\'{"defect": "KeyError at load.py:1 read"}\')', "KeyError at load.py:1 read"),
    ],
    ids=["exit", "crash", "no answer", "half an answer", "hang", "defect"],
)
def test_a_check_that_fails_refuses_the_candidate(folder: Path, code: str, why: str) -> None:
    limit = timedelta(seconds=0.3) if "longer" in why else timedelta(seconds=WAIT)
    check = MappingCheck(SOURCES, ZONE, limit=limit, command=(sys.executable, "-c", code))
    try:
        for _ in range(2):
            with pytest.raises(DocumentError) as caught:
                check.check(folder)
            (problem,) = caught.value.problems
            assert problem.code == "H713"
            assert why in problem.message
            assert why in problem.message_zh
    finally:
        check.close()
    assert not [child for child in psutil.Process().children() if code in child.cmdline()]


def test_without_processes_it_checks_here(folder: Path, tmp_path: Path) -> None:
    check = MappingCheck(SOURCES, ZONE, command=(str(tmp_path / "no such program"),))
    assert check.check(folder) == load_mapping_set(folder, sources=SOURCES, timezone=ZONE).revision
    spoil(folder)
    with pytest.raises(DocumentError, match="H120"):
        check.check(folder)


def test_closing_ends_a_check_under_way(folder: Path) -> None:
    code = "import sys; sys.stdin.read()"
    check = MappingCheck(SOURCES, ZONE, command=(sys.executable, "-c", code))
    found: list[DocumentError] = []

    def work() -> None:
        try:
            check.check(folder)
        except DocumentError as error:
            found.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: any(code in child.cmdline() for child in psutil.Process().children()))
    check.close()
    thread.join(WAIT)
    assert "the agent stops" in str(found[0])


def test_the_process_ends_with_the_agent(folder: Path) -> None:
    """Also when the agent has no time to say anything."""
    script = (
        "import os, sys; from pathlib import Path; from agent.mapping_check import MappingCheck\n"
        f"check = MappingCheck({SOURCES!r}, {ZONE!r}); check.check(Path({str(folder)!r}))\n"
        "print(check._child._process.pid, flush=True); os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=WAIT, check=False)
    pid = int(done.stdout)
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_compiling_takes_over_what_has_not_changed(folder: Path) -> None:
    compiler = MappingCompiler(SOURCES, ZONE)
    try:
        first = compiler(folder)
        path = folder / DEPARTMENTS
        path.write_text(path.read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")
        second = compiler(folder)
        assert second.revision == load_mapping_set(folder, sources=SOURCES, timezone=ZONE).revision != first.revision
        assert (
            second.operations["CatalogService.ListDepartments"]
            is not first.operations["CatalogService.ListDepartments"]
        )
        assert second.watches["schedules"] is first.watches["schedules"]
        spoil(folder)
        with pytest.raises(DocumentError):
            compiler(folder)
    finally:
        compiler.close()
    assert children() == []


def test_nothing_is_kept_when_nobody_edits(folder: Path) -> None:
    compiler = MappingCompiler(SOURCES, ZONE, warm=timedelta(seconds=0))
    try:
        first = compiler(folder)
        until(lambda: not children())
        again = compiler(folder)
        assert again.watches["schedules"] is first.watches["schedules"]  # what was compiled stays
    finally:
        compiler.close()


def test_a_set_that_changes_while_it_is_checked_is_refused(folder: Path) -> None:
    class Slow(MappingCheck):
        def check(self, folder: Path) -> str:
            revision = super().check(folder)
            (folder / "codes" / "period.toml").write_text("schema = 1\n", encoding="utf-8")
            return revision

    compiler = MappingCompiler(SOURCES, ZONE, check=Slow(SOURCES, ZONE))
    try:
        with pytest.raises(DocumentError):
            compiler(folder)
    finally:
        compiler.close()
