from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from his_db.document.located import parse_document
from his_db.document.problem import DocumentError, Place, Problem

SAMPLE = """schema = 1
[outcome] # 返回码
ok = [0, "是"]
errors = [
  { is = -1, reason = "SLOT_TAKEN" },
]
[[test]]
name = '号已被锁'
"""


def refused(text: str) -> Problem:
    with pytest.raises(DocumentError) as caught:
        parse_document(text, "f")
    assert len(caught.value.problems) == 1
    return caught.value.problems[0]


CASES = [
    # text, code, line, column, part of the fix or message
    ("a ＝ 1", "H107", 1, 3, "＝"),
    ("a = [1，2]", "H107", 1, 7, "，"),
    ("a = “x”", "H107", 1, 5, "“"),
    ('a = "abc”\nb = 1', "H107", 1, 5, "”"),
    ("a = { b = 1，c = 2 }", "H107", 1, 12, "，"),
    ("a：1", "H107", 1, 2, "type ="),
    ("［a］", "H107", 1, 1, "［"),
    ('a = ["x"、"y"]', "H107", 1, 9, "、"),
    ("a =\u30001", "H107", 1, 4, "U+3000"),
    ("a =\u00a01", "H107", 1, 4, "U+00A0"),
    ("a = １２", "H107", 1, 5, "type 1"),
    ("a = 1\n\nname = 号已锁", "H108", 3, 8, "quotes"),
    ("科室 = 1", "H108", 1, 1, '"科室"'),
    ("[号源]", "H108", 1, 2, '"号源"'),
    ("[[a.号源]]", "H108", 1, 5, '"号源"'),
    ("x = { 科室 = 1 }", "H108", 1, 7, '"科室"'),
    ("x = { a = 1, 科室 = 1 }", "H108", 1, 14, '"科室"'),
    ("a科室 = 1", "H108", 1, 2, '"a科室"'),
    ("a = abc", "H108", 1, 5, "quotes"),
    ("a = True", "H108", 1, 5, "write true"),
    ("a = no", "H108", 1, 5, "write false"),
    ("a = null", "H108", 1, 5, "leave the setting out"),
    ("a = 3s", "H108", 1, 6, '"3s"'),
    ("a = 10.0.0.1", "H108", 1, 9, "10.1.1.1"),
    ("a = 01", "H113", 1, 6, "without the 0"),
    ("a = 2024-13-01", "H113", 1, 9, "calendar"),
    ("a = 2024-02-30", "H113", 1, 5, "calendar"),
    ("a =\nb = 1", "H101", 1, 4, "missing"),
    ("a = # none", "H101", 1, 5, "missing"),
    ("a = {\n b = 1 }", "H109", 1, 6, "one line"),
    ("a = [ { b = 1,\n c = 2 } ]", "H109", 1, 15, "one line"),
    ("a = { b = 1\n}", "H109", 1, 12, "one line"),
    ("a = { b = 1, }", "H109", 1, 14, "delete the comma"),
    ("a = 1\nb = [\n1]\na = [\n2]", "H106", 4, 1, "line 1"),
    ("[a]\n[b]\n  [a]", "H106", 3, 4, "[[a]]"),
    ("a = 1\n[a]", "H106", 2, 2, "line 1"),
    ("a.b = 1\na.b.c = 2", "H106", 2, 3, "line 1"),
    ("a = [1]\n[[a]]", "H106", 2, 3, "line 1"),
    ("[[a]]\n[a]", "H106", 2, 2, "line 1"),
    ("[a]\n[[a]]", "H106", 2, 3, "line 1"),
    ("[[a]]\nx = 1\n[[a]]\nx = 1\nx = 2", "H106", 5, 1, "line 4"),
    ("a = { x = 1, x = 2 }", "H106", 1, 14, "a.x"),
    ("[a]\nb = { c = 1 }\nb.d = 2", "H106", 3, 1, "line 2"),
    ("[a]\nb.c = 1\n[a.b]", "H106", 3, 4, "twice"),
    (r'p = "C:\his\data"', "H111", 1, 8, "single quotes"),
    (r'p = "C:\Users\x"', "H111", 1, 8, "single quotes"),
    (r'p = "C:\data"', "H111", 1, 8, "single quotes"),
    ('p = "abc\nq = 1', "H110", 1, 5, "closing quote"),
    ("p = 'abc\nq = 1", "H110", 1, 5, "closing quote"),
    ('p = "abc', "H110", 1, 5, "closing quote"),
    ('p = """abc\nq = 1', "H110", 1, 5, 'put """'),
    ("p = '''abc\n'q' = 1", "H110", 1, 5, "put '''"),
    ('a = ["x", "y]\nb = 1', "H110", 1, 11, "closing quote"),
    ("a = [\n  { n = 1 },\n[outcome]\nb = 1", "H110", 3, 2, "line 1"),
    ('a = [ "x",\nb = 1', "H110", 2, 1, "line 1"),
    ("a = [ 1, 2\n", "H110", 2, 1, "line 1"),
    ('a = "say "hi""', "H110", 1, 11, "single quotes"),
    ("a = [\n{ n = 1 }\n{ n = 2 }\n]", "H101", 3, 1, "comma"),
    ("a: 1", "H101", 1, 2, "="),
    ("-- note", "H101", 1, 4, "#"),
    ("// note", "H101", 1, 1, "#"),
    ("[a", "H101", 1, 3, "]"),
    ("[[a]", "H101", 1, 4, "]]"),
    ("a = 1 b = 2", "H101", 1, 7, "one setting"),
    ('a = "\x07"', "H101", 1, 6, "Illegal"),
]


@pytest.mark.parametrize(("text", "code", "line", "column", "part"), CASES, ids=[repr(case[0]) for case in CASES])
def test_the_usual_mistakes_are_explained_in_place(text: str, code: str, line: int, column: int, part: str) -> None:
    for variant in (text, text.replace("\n", "\r\n")):
        problem = refused(variant)
        assert (problem.code, problem.place) == (code, Place("f", line, column)), problem.render()
        assert part in f"{problem.message} {problem.fix}", problem.render()
        assert problem.message_zh != problem.message


def test_a_value_that_may_be_a_password_is_not_repeated() -> None:
    for text in ("password = hunter2", "password = 1hunter2", 'password = "hunter2', "password = 007hunter2"):
        assert "hunter2" not in refused(text).render()


@pytest.mark.parametrize("text", ["a = " + "[" * 20_000, "a = " + "{ a = " * 20_000])
def test_deep_nesting_is_a_problem_not_a_crash(text: str) -> None:
    assert refused(text).code in {"H112", "H101", "H110"}


def test_a_number_python_refuses_to_convert() -> None:
    problem = refused("b = 1\na = " + "9" * 5000)
    assert (problem.code, problem.place) == ("H113", Place("f", 2, 5))


@settings(max_examples=200, deadline=None)
@given(
    at=st.integers(0, len(SAMPLE)),
    cut=st.integers(0, 3),
    added=st.text(alphabet="\"'[]{}=,.#\\\n ，“”：号a1-", max_size=3),
)
def test_any_damage_gives_problems_inside_the_file(at: int, cut: int, added: str) -> None:
    text = SAMPLE[:at] + added + SAMPLE[at + cut :]
    try:
        document = parse_document(text, "f")
    except DocumentError as error:
        lines = text.split("\n")
        assert error.problems
        for problem in error.problems:
            assert problem.message_zh
            assert 1 <= problem.place.line <= len(lines)
            assert 1 <= problem.place.column <= len(lines[problem.place.line - 1]) + 1
        places = [problem.place.line for problem in error.problems]
        assert len(set(places)) == len(places)
    else:
        for key in document.data:
            assert (key,) in document.positions.keys


def test_every_half_typed_file_is_explained() -> None:
    """Whatever a person has typed so far, or an editor has saved by half: a problem with a place, never a crash."""
    whole = '[[step]]\nname = "take"\nsql = """\nUPDATE T\n"""\nwhere = [\n  { a = "x", b = [1, 2] },\n]\nfields = [ { to = \'c\' } ]\n'
    for end in range(len(whole)):
        try:
            parse_document(whole[:end], "half.toml")
        except DocumentError as error:
            assert all(problem.place.line >= 1 for problem in error.problems)
