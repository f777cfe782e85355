"""docs/reliability.md and docs/zh/watch.md name tests: each exists, and every failure case has one."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.source_tree import tree_of

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reliability.md"
PATTERNS = ROOT / "docs" / "zh" / "watch.md"
_TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


@cache
def names_in(path: Path) -> frozenset[str]:
    """Names of the test functions of a module."""
    tree = tree_of(path)
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(node.name for node in functions if node.name.startswith("test_"))


def rows() -> dict[int, str]:
    """Case -> its row of the table."""
    found = re.findall(r"^\| (\d+) \|(.*)\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {int(number): text for number, text in found}


def test_every_case_has_a_row() -> None:
    assert list(rows()) == list(range(1, 37))


@pytest.mark.parametrize("case", range(1, 37))
def test_every_test_of_a_case_exists(case: int) -> None:
    named = _TEST.findall(rows()[case])
    assert named, "neither a test nor one that shows the reason"
    for file, name in named:
        assert (ROOT / file).is_file(), file
        assert not name or name in names_in(ROOT / file), f"{file} has no {name}"


def test_every_pattern_of_the_windows_has_its_test_and_every_test_its_place() -> None:
    file = ROOT / "tests" / "integration" / "test_window_patterns.py"
    named = set(re.findall(r"`(test_\w+)`", PATTERNS.read_text(encoding="utf-8")))
    assert named == set(names_in(file))
