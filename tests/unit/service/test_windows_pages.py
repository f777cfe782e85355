"""What is written about Windows: every command is executed by a test or has a reason, every claim names a test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
MANUAL = "tests/windows/test_windows.py::test_the_service_lives_its_whole_life"
NO_PYTHON = (
    "PowerShell, the launcher `py` and the module `venv` are not in the Windows of the tests, whose wheels Linux' pip installs;"
    " `his160 demo` itself: tests/windows/test_windows.py::test_the_demo_ends_well_on_windows"
)
NO_ACCOUNTS = "wine has no accounts: tests/unit/service/test_windows.py::test_an_account_of_the_hospital"
EXECUTED = {
    "his160 check --config config.toml": MANUAL,
    "his160 service install --config config.toml --dry-run": MANUAL,
    "his160 service install --config config.toml": MANUAL,
    "his160 service start": MANUAL,
    "his160 service status": MANUAL,
    "his160 service stop": MANUAL,
    "his160 service uninstall": MANUAL,
    "his160 secret protect his.password.dpapi": "tests/windows/test_windows.py::test_a_secret_protected_by_windows",
    r"his160 service install --config config.toml --account 域名\账号 --ask-password": NO_ACCOUNTS,
    r"py -3.11 -m venv .venv; .venv\Scripts\pip install -c requirements.lock -e .; .venv\Scripts\his160 demo": NO_PYTHON,
    r'py -3.11 -m venv .venv; .venv\Scripts\pip install -c requirements.lock -e ".[dev,demo-postgresql,mssql]"; .venv\Scripts\python -m pytest': (
        NO_PYTHON
    ),
}


def commands_for_windows() -> set[str]:
    """Of the manual of installation and both READMEs. The manual's ``console`` blocks are for every system: all of them
    are executed under wine by the fixture of tests/windows/test_chinese_site.py."""
    manual = (ROOT / "docs" / "zh" / "install.md").read_text(encoding="utf-8")
    found = {line for body in re.findall(r"^```bat\n(.*?)^```", manual, re.M | re.S) for line in body.splitlines()}
    windows = manual.partition("\n## Windows\n")[2].partition("\n## ")[0]
    about = [line for line in manual.splitlines() if "Windows" in line and "Linux" not in line]
    found |= {one for text in (windows, *about) for one in re.findall(r"`(his160 [^`\n]+)`", text)}
    for name in ("README.md", "README.zh-CN.md"):
        found |= set(re.findall(r"`(py -3[^`\n]+)`", (ROOT / name).read_text(encoding="utf-8")))
    return found


def test_every_command_for_windows_is_executed_or_has_a_reason() -> None:
    assert commands_for_windows() == set(EXECUTED)


@pytest.mark.parametrize("where", sorted(set(EXECUTED.values())))
def test_what_executes_it_exists(where: str) -> None:
    (node,) = re.findall(r"(tests/\S+\.py)::(test_\w+)", where)
    assert f"def {node[1]}(" in (ROOT / node[0]).read_text(encoding="utf-8")


def test_every_claim_about_windows_names_a_test_that_exists() -> None:
    """The table "What wine does not do": each row is shown by a test against the fake, or says where it is written."""
    page = (ROOT / "docs" / "windows.md").read_text(encoding="utf-8")
    table = page.partition("## What wine does not do")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert len(rows) >= 9
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "unit").rglob("test_*.py"))
    for what, _, shown_by in rows:
        named = re.findall(r"`(test_\w+)`", shown_by)
        assert named or "engines.md" in shown_by, what
        for name in named:
            assert re.search(rf"def {name}\(", tests), name
