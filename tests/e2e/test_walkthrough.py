"""The walk-through for the DBA, executed literally (``tests/e2e/walk.py`` says how)."""

from __future__ import annotations

import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.e2e.walk import PAGES, Walk, blocks_of, first_missing

PAGE = PAGES / "mapping-walkthrough.md"
HIS = PAGES / "walkthrough" / "his.sql"
_BEIJING = timedelta(hours=8)


def of_tomorrow(page: str) -> str:
    """The page with tomorrow's date (Beijing) in place of the one it is written for."""
    day = datetime.now(UTC) + _BEIJING + timedelta(days=1)
    for pattern in ("%Y-%m-%d", "%Y%m%d"):
        page = page.replace(datetime(2026, 3, 3, tzinfo=UTC).strftime(pattern), day.strftime(pattern))
    return page


def test_the_walk_through_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(HIS, tmp_path / HIS.name)
    monkeypatch.chdir(tmp_path)
    walk = Walk(tmp_path, PAGE.name)
    for name, value in walk.environ.items():
        monkeypatch.setenv(name, value)
    try:
        for block in blocks_of(of_tomorrow(PAGE.read_text(encoding="utf-8"))):
            walk.do(block)
        assert walk.agent is None, "the page does not say how to stop the agent"
    finally:
        walk.stop()


def test_every_tool_of_the_brief_is_shown() -> None:
    page = PAGE.read_text(encoding="utf-8")
    used = {command.split()[2] for command in re.findall(r"^\$ (his160 mapping .*)$", page, re.MULTILINE)}
    wanted = {"discover", "scaffold", "check", "test", "preview", "rehearse", "drift", "grants", "impact"}
    assert wanted | {"publish", "diff", "rollback", "history"} <= used


@pytest.mark.parametrize(
    ("shown", "printed", "missing"),
    [
        (["a", "…", "d"], "a\nb\nc\nd\n", None),
        (["a…c"], "abbc\n", None),
        (["a", "…"], "a\n", None),
        (["a"], "a\nb\n", "(end of output)"),
        (["…", "x", "…"], "a\nb\n", "x"),
        (["b", "…"], "a\nb\n", "b"),
    ],
)
def test_an_excerpt_is_compared_line_by_line(shown: list[str], printed: str, missing: str | None) -> None:
    assert first_missing(shown, printed) == missing
