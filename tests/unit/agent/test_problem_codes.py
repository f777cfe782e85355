"""The tables of problem codes are one table: disjoint, each code in its room's, each code that is used in one."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

from agent import problem_codes as of_agent
from his_db.document import problem_codes as of_files
from his_db.mapping import finding as of_mappings
from his_db.workbench import codes as of_workbench
from tests.source_tree import tree_of

ROOT = Path(__file__).resolve().parents[3]
TABLES = {
    ROOT / "agent/problem_codes.py": of_agent.CODES,
    ROOT / "his_db/document/problem_codes.py": of_files.CODES,
    ROOT / "his_db/mapping/finding.py": of_mappings.CODES,
    ROOT / "his_db/workbench/codes.py": of_workbench.CODES,
}
CODE = re.compile(r"H\d{3}")


def codes_in(path: Path) -> set[str]:
    """Codes that stand in the file as texts of their own."""
    tree = tree_of(path)
    texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {text for text in texts if isinstance(text, str) and CODE.fullmatch(text)}


def test_every_code_stands_in_one_table() -> None:
    count = Counter(code for table in TABLES.values() for code in table)
    assert [code for code, number in count.items() if number > 1] == []
    assert all(CODE.fullmatch(code) and meaning for table in TABLES.values() for code, meaning in table.items())


def test_every_code_that_is_used_is_in_a_table() -> None:
    listed = {code for table in TABLES.values() for code in table}
    files = [path for room in ("agent", "his_db", "sync", "service_install") for path in (ROOT / room).rglob("*.py")]
    used = {code for path in files if path not in TABLES for code in codes_in(path)}
    assert used - listed == set()
    assert of_agent.CODES.keys() <= used


def test_there_is_no_other_table() -> None:
    for room in ("agent", "his_db"):
        for path in (ROOT / room).rglob("*.py"):
            if re.search(r"^CODES\b.*=", path.read_text(encoding="utf-8"), re.MULTILINE):
                assert path in TABLES, f"another table of codes: {path}"
