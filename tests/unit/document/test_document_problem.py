from __future__ import annotations

import ast
import pathlib
import pickle
import re

import pytest

from his_db.document import problem as problem_module
from his_db.document.problem import DocumentError, Place, Problem, Problems, Severity
from his_db.document.problem_codes import CODES
from tests.source_tree import tree_of

PLACE = Place("mappings/a.toml", 3, 5)
FULL = Problem(
    PLACE, "H120", 'unknown key "tiemout"', '不认识的名称 "tiemout"', "did you mean timeout?", "是否想写 timeout？"
)
WARNING = Problem(Place("a", 1, 1), "H120", "w", "警", severity=Severity.WARNING)


@pytest.mark.parametrize(
    ("lang", "expected"),
    [
        ("en", 'mappings/a.toml:3:5: error H120: unknown key "tiemout"\n    fix: did you mean timeout?'),
        ("zh", 'mappings/a.toml:3:5: error H120: 不认识的名称 "tiemout"\n    修复: 是否想写 timeout？'),
        (
            "both",
            'mappings/a.toml:3:5: error H120: 不认识的名称 "tiemout"\n    unknown key "tiemout"\n'
            "    修复: 是否想写 timeout？\n    fix: did you mean timeout?",
        ),
    ],
)
def test_renders_in_the_language_asked_for(lang: str, expected: str) -> None:
    assert FULL.render(lang) == expected


def test_a_problem_without_fix_is_one_line_and_says_warning() -> None:
    assert WARNING.render("en") == "a:1:1: warning H120: w"


def test_a_missing_chinese_text_falls_back_to_english() -> None:
    problem = Problem(PLACE, "H120", "message", "", "fix it")
    assert problem.render("zh") == "mappings/a.toml:3:5: error H120: message\n    fix: fix it"


def test_unknown_language_is_refused_even_without_problems() -> None:
    with pytest.raises(ValueError, match="lang"):
        FULL.render("fr")
    with pytest.raises(ValueError, match="lang"):
        Problems().render("fr")


def test_control_characters_of_the_file_do_not_reach_the_terminal() -> None:
    text = Problem(PLACE, "H120", "a\x1b[31m\nb\u202e", "甲\x07").render()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", text)
    assert "a\\x1b[31m b\\u202e" in text


def test_problems_sort_by_place() -> None:
    places = [Place("b", 1, 1), Place("a", 10, 1), Place("a", 2, 9), Place("a", 2, 1)]
    problems = Problems(Problem(place, "H1", "m", "m") for place in places)
    assert [problem.place for problem in problems.sorted()] == sorted(places)
    assert max(problems).place == places[0]


def test_the_collector_takes_records_and_fields() -> None:
    problems = Problems()
    assert not problems
    problems.add(WARNING)
    assert not problems
    assert len(problems) == 1
    problems.add(PLACE, "H120", FULL.message, FULL.message_zh, fix=FULL.fix, fix_zh=FULL.fix_zh)
    assert problems
    assert problems.errors == (FULL,)
    assert problems.warnings == (WARNING,)
    other = Problems()
    other.extend(problems)
    assert other.render("en") == f"{WARNING.render('en')}\n{FULL.render('en')}"


def test_the_error_carries_and_renders_everything() -> None:
    error = DocumentError([FULL, WARNING])
    assert error.problems == (WARNING, FULL)
    assert str(error) == f"{WARNING.render()}\n{FULL.render()}"
    copied = pickle.loads(pickle.dumps(error))
    assert copied.problems == error.problems


def test_every_code_in_the_package_is_in_the_table_and_used() -> None:
    folder = pathlib.Path(problem_module.__file__).parent
    used: set[str] = set()
    for path in folder.glob("*.py"):
        if path.name in {"problem.py", "problem_codes.py"}:
            continue
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"H\d{3}", node.value):
                used.add(node.value)
    assert used <= set(CODES)
    assert {code for code in CODES if code.startswith("H1")} <= used
