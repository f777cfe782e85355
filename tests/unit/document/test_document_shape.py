from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from his_db.document.located import Document, parse_document
from his_db.document.problem import Place, Problem, Problems
from his_db.document.shape import (
    MISSING,
    AnyValue,
    Boolean,
    Duration,
    Field,
    FilePath,
    Integer,
    ListOf,
    MapOf,
    Number,
    OneOf,
    Scalar,
    Shape,
    TableOf,
    Text,
    check_shape,
    format_duration,
    parse_duration,
)

SECOND = timedelta(seconds=1)
PARAM = TableOf({"name": Field(Text(), required=True), "dir": Field(Text(choices=("in", "out")), default="in")})
MAPPING = TableOf(
    {
        "schema": Field(Integer(minimum=1, maximum=1), required=True),
        "operation": Field(
            Text(pattern=r"\w+\.\w+", pattern_hint="Service.Method", pattern_hint_zh="服务.方法"),
            required=True,
            doc="the RPC",
            doc_zh="操作名",
        ),
        "timeout": Field(Duration(minimum=SECOND / 20, maximum=SECOND * 60), default=SECOND * 3),
        "commits": Field(Text(choices=("caller", "procedure", "unknown")), default="unknown"),
        "params": Field(ListOf(PARAM, max_items=3), default=[]),
        "outcome": Field(TableOf({"from": Field(Text()), "otherwise": Field(Text(), default="unknown")}), default={}),
    }
)


def run(shape: TableOf, text: str) -> tuple[dict[str, Any], tuple[Problem, ...]]:
    problems = Problems()
    values = check_shape(parse_document(text, "f"), shape, problems)
    return values, problems.sorted()


def one(shape: Shape, value: str) -> tuple[Any, tuple[Problem, ...]]:
    """`x = value`, and its converted value."""
    values, problems = run(TableOf({"x": Field(shape)}), f"x = {value}")
    return values.get("x", MISSING), problems


def test_a_good_document_is_converted_and_completed() -> None:
    text = 'schema = 1\noperation = "A.B"\ntimeout = "500ms"\nparams = [{ name = "@a" }]\n'
    values, problems = run(MAPPING, text)
    assert problems == ()
    assert values == {
        "schema": 1,
        "operation": "A.B",
        "timeout": timedelta(milliseconds=500),
        "commits": "unknown",
        "params": [{"name": "@a", "dir": "in"}],
        "outcome": {"otherwise": "unknown"},
    }


def test_all_problems_come_in_one_pass_each_in_its_place() -> None:
    text = (
        "schema = 2\n"
        'tiemout = "3s"\n'
        'commits = "caler"\n'
        "params = [\n"
        '  { nmae = "@a" },\n'
        '  { name = "@b", dir = 1 },\n'
        '  "@c", { name = "@d" },\n'
        "]\n"
        "[outcome]\n"
        'otherwise = ["x"]\n'
    )
    values, problems = run(MAPPING, text)
    assert [(problem.code, problem.place.line, problem.place.column) for problem in problems] == [
        ("H121", 1, 1),  # operation
        ("H125", 1, 10),
        ("H120", 2, 1),
        ("H123", 3, 11),
        ("H126", 4, 10),
        ("H121", 5, 3),
        ("H120", 5, 5),
        ("H122", 6, 24),
        ("H122", 7, 3),
        ("H122", 10, 13),
    ]
    fixes = {problem.place: (problem.fix, problem.fix_zh) for problem in problems}
    assert fixes[Place("f", 2, 1)] == ("did you mean timeout?", "是否想写 timeout？")
    assert fixes[Place("f", 3, 11)] == ('did you mean "caller"?', '是否想写 "caller"？')
    assert values == {
        "timeout": SECOND * 3,
        "params": [{"dir": "in"}, {"name": "@b"}, {"name": "@d", "dir": "in"}],
        "outcome": {},
    }
    assert all(problem.message_zh and problem.message_zh != problem.message for problem in problems)


def test_a_missing_key_is_at_the_header_of_its_table_with_its_meaning() -> None:
    _, (problem,) = run(MAPPING, "\nschema = 1\n")
    assert problem.place == Place("f", 1, 1)
    assert "操作名" in problem.message_zh
    assert "the RPC" in problem.message
    inner = TableOf({"result": Field(ListOf(PARAM))})
    _, (problem,) = run(inner, '[[result]]\nname = "a"\n  [[result]]\n')
    assert (problem.code, problem.place) == ("H121", Place("f", 3, 5))
    assert "result" in problem.message


GOOD: list[tuple[Shape, str, object]] = [
    (Text(), '""', ""),
    (Text(min_length=2), '"号源"', "号源"),
    (Text(pattern="[a-z]+"), '"abc"', "abc"),
    (Text(choices={"b", "a"}), '"b"', "b"),
    (Integer(), "-5", -5),
    (Integer(minimum=1, maximum=1), "1", 1),
    (Boolean(), "false", False),
    (Number(), "1.5", 1.5),
    (Number(), "1" + "0" * 400, 10**400),
    (Duration(minimum=SECOND, maximum=SECOND), '"1000ms"', SECOND),
    (FilePath(), r"'C:\temp\挂号.sql'", r"C:\temp\挂号.sql"),
    (AnyValue(), "[1, { a = 2 }]", [1, {"a": 2}]),
    (Scalar(), "2024-01-01", date(2024, 1, 1)),
    (ListOf(Integer(), min_items=1), "[1, 2]", [1, 2]),
    (MapOf(Integer(), key_pattern="[a-z]"), "{ a = 1, b = 2 }", {"a": 1, "b": 2}),
    (OneOf(Integer(), Text()), '"x"', "x"),
    (OneOf(Duration(), Text(choices=("never",))), '"never"', "never"),
    (OneOf(Duration(), Text(choices=("never",))), '"2d"', timedelta(days=2)),
    (OneOf(PARAM, ListOf(PARAM)), '[{ name = "a" }]', [{"name": "a", "dir": "in"}]),
    (OneOf(OneOf(Boolean()), OneOf(Integer())), "3", 3),
]


@pytest.mark.parametrize(("shape", "text", "value"), GOOD)
def test_good_values(shape: Shape, text: str, value: object) -> None:
    assert one(shape, text) == (value, ())


BAD: list[tuple[Shape, str, str, str, str]] = [
    # shape, value, code, part of the English message or fix, part of the Chinese
    (Text(), "12", "H122", 'write it in quotes: "12"', "英文双引号"),
    (Text(), "true", "H122", "found the boolean true", "布尔值 true"),
    (Text(), "2024-01-01", "H122", '"2024-01-01"', "日期"),
    (Text(), "{ a = 1 }", "H122", "found a table", "实际是表"),
    (Text(min_length=1), '""', "H126", "empty", "为空"),
    (Text(min_length=3), '"号"', "H126", "at least 3", "至少要 3"),
    (Text(pattern="[a-z]+"), '"a1"', "H124", "[a-z]+", "[a-z]+"),
    (Text(pattern="[a-z]+", pattern_hint="letters", pattern_hint_zh="小写字母"), '"a1"', "H124", "letters", "小写字母"),
    (Text(choices=("read", "write")), '"Wirte"', "H123", 'mean "write"', "是否想写"),
    (Text(choices={"b", "a"}), '"号"', "H123", 'one of "a", "b"', '"a", "b"'),
    (Integer(), '"12"', "H122", "remove the quotes", "去掉引号"),
    (Integer(), "true", "H122", "found the boolean", "布尔值"),
    (Integer(), "1.0", "H122", "decimal number 1.0", "小数"),
    (Integer(minimum=1), "0", "H125", "at least 1", "不能小于 1"),
    (Integer(maximum=1), "2", "H125", "at most 1", "不能大于 1"),
    (Integer(minimum=1, maximum=9), "10", "H125", "from 1 to 9", "1 到 9"),
    (Boolean(), '"是"', "H122", "write true", "写成 true"),
    (Boolean(), "0", "H122", "write false", "写成 false"),
    (Boolean(), '"maybe"', "H122", "true or false", "true 或 false"),
    (Number(), '"1.5"', "H122", "remove the quotes", "去掉引号"),
    (Number(), "nan", "H125", "finite", "nan"),
    (Duration(), "30", "H122", '"30s"', "加上单位"),
    (Duration(), '"30"', "H127", "not a duration", "不是有效的时长"),
    (Duration(), '"999999999999d"', "H127", "not a duration", "不是有效的时长"),
    (Duration(minimum=SECOND), '"10ms"', "H125", "at least 1s", "不能小于 1s"),
    (Duration(minimum=SECOND, maximum=SECOND * 90), '"2m"', "H125", "from 1s to 90s", "1s 到 90s"),
    (FilePath(), '" "', "H130", "empty", "路径为空"),
    (FilePath(), r'"C:\temp\new"', "H130", "single quotes", "单引号"),
    (Scalar(), "[1]", "H122", "found a list", "列表"),
    (ListOf(Text()), '"a"', "H122", '["a"]', "方括号"),
    (ListOf(Text(), min_items=1), "[]", "H126", "at least 1", "至少要有 1 项"),
    (ListOf(Text(), max_items=1), '["a", "b"]', "H126", "at most 1", "最多 1 项"),
    (ListOf(PARAM), '{ name = "a" }', "H122", "[[x]]", "[[x]]"),
    (PARAM, '[{ name = "a" }]', "H122", "[x] with single brackets", "单方括号 [x]"),
    (PARAM, "1", "H122", "write [x]", "表头 [x]"),
    (MapOf(Text()), "1", "H122", "write [x]", "表头 [x]"),
    (MapOf(Text(), key_pattern="[a-z]"), '{ A = "1" }', "H129", "[a-z]", "格式"),
    (OneOf(Integer(), Boolean()), '"1"', "H122", "a whole number or true or false", "整数或true"),
    (OneOf(Duration(), Text(choices=("never", "always"))), '"nevr"', "H128", 'mean "never"', "是否想写"),
    (OneOf(Integer(), Text(choices=("auto",))), '"atuo"', "H123", 'mean "auto"', "是否想写"),
    (OneOf(Text(), ListOf(Text())), "[1]", "H122", "quotes", "引号"),
]


@pytest.mark.parametrize(("shape", "text", "code", "en", "zh"), BAD)
def test_bad_values_are_explained_in_both_languages(shape: Shape, text: str, code: str, en: str, zh: str) -> None:
    _, (problem,) = one(shape, text)
    assert problem.code == code
    assert en in f"{problem.message} | {problem.fix}"
    assert zh in f"{problem.message_zh} | {problem.fix_zh}"


@pytest.mark.parametrize(
    ("table", "hint"),
    [
        ("[x]\nName = 1", "did you mean name?"),
        ("[x]\nlock-id = 1", "did you mean lock_id?"),
        ("[x]\nzzz = 1", "the keys known here are lock_id, name"),
        ('[x]\nname = "a"\nnames = 1', "did you mean name?"),
        ("[x]\nsource = 1", "source belongs to the top of the file: move it above the first [table]"),
        ("[x]\n[x.deep]\nlock_id = 1", "lock_id belongs to x: move it there"),
    ],
)
def test_an_unknown_key_gets_the_nearest_name_or_its_owner(table: str, hint: str) -> None:
    inner = {"lock_id": Field(Text()), "name": Field(AnyValue()), "deep": Field(TableOf({"q": Field(Text())}))}
    if "deep" not in table:
        del inner["deep"]
    _, (problem,) = run(TableOf({"x": Field(TableOf(inner)), "source": Field(Text())}), table)
    assert (problem.code, problem.fix) == ("H120", hint)
    assert problem.place.line == table.count("\n") + 1


def test_extra_keys_have_their_shape() -> None:
    shape = TableOf({"a": Field(Integer())}, extra=Text())
    values, problems = run(shape, 'a = 1\nb = "x"\nc = 2')
    assert values == {"a": 1, "b": "x"}
    assert [problem.place.line for problem in problems] == [3]


def test_the_nearest_alternative_of_a_union_of_tables_is_reported() -> None:
    query = TableOf({"kind": Field(Text(choices=("query",)), required=True), "sql": Field(Text(), required=True)})
    table = TableOf(
        {
            "kind": Field(Text(choices=("table",)), required=True),
            "object": Field(Text(), required=True),
            "key": Field(Text(), required=True),
        }
    )
    for order in ((query, table), (table, query)):
        _, problems = one(OneOf(*order), '{ kind = "table" }')
        assert [problem.message.split(" in ")[0] for problem in problems] == [
            "the required key key is missing",
            "the required key object is missing",
        ]


def test_secret_values_are_never_repeated() -> None:
    shapes: Mapping[str, Shape] = {
        "pattern": Text(pattern="x"),
        "choice": Text(choices=("x",)),
        "number": Integer(maximum=1),
        "text": Text(),
        "list": ListOf(Text(pattern="x")),
        "single": ListOf(Integer()),
        "duration": Duration(),
        "late": Duration(maximum=SECOND),
        "united": OneOf(Text(choices=("x",)), Duration()),
        "whole": Duration(),
    }
    text = (
        'pattern = "7531"\nchoice = "7531"\nnumber = 7531\ntext = 7531\nlist = ["7531"]\nsingle = 7531\n'
        'duration = "7531"\nlate = "7531s"\nunited = "7531"\nwhole = 7531\n'
    )
    _, problems = run(TableOf({name: Field(shape, secret=True) for name, shape in shapes.items()}), text)
    assert len(problems) == len(shapes)
    assert not any("7531" in problem.render() for problem in problems)


def test_defaults_are_copies() -> None:
    shape = TableOf({"a": Field(ListOf(Text()), default=["x"])})
    first, _ = run(shape, "")
    first["a"].append("y")
    assert run(shape, "")[0] == {"a": ["x"]}


def test_a_default_table_is_completed_all_the_way_down() -> None:
    inner = TableOf({"level": Field(Text(), default="info"), "size": Field(Integer())})
    shape = TableOf({"log": Field(TableOf({"file": Field(inner, default={"size": 5})}), default={})})
    assert run(shape, "")[0] == {"log": {"file": {"level": "info", "size": 5}}}


def test_a_part_of_a_document_can_be_checked() -> None:
    document = parse_document('[a]\n[[a.b]]\nname = "x"\n[[a.b]]\nname = 1\n[c]\n', "f")
    problems = Problems()
    assert check_shape(document, PARAM, problems, path=("a", "b", 0)) == {"name": "x", "dir": "in"}
    assert not problems
    assert check_shape(document, PARAM, problems, path=("a", "b", 1)) == {"dir": "in"}
    assert check_shape(document, PARAM, problems, path=("a", "b", 2)) == {"dir": "in"}
    assert check_shape(document, PARAM, problems, path=("a", "b")) == {}
    assert [(problem.code, problem.place.line) for problem in problems] == [("H122", 5), ("H121", 2), ("H122", 2)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500ms", timedelta(milliseconds=500)),
        ("3s", SECOND * 3),
        ("5m", timedelta(minutes=5)),
        ("1h", timedelta(hours=1)),
        ("2d", timedelta(days=2)),
        ("0s", timedelta(0)),
    ],
)
def test_durations(text: str, value: timedelta) -> None:
    assert parse_duration(text) == value
    assert format_duration(value) == text


@pytest.mark.parametrize(
    "text", ["", "3", "s", "3 s", " 3s", "-3s", "1.5s", "3S", "３s", "1h30m", "3s\n", "9" * 13 + "d"]
)
def test_what_is_not_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**12))
def test_durations_survive_text(milliseconds: int) -> None:
    value = timedelta(milliseconds=milliseconds)
    assert parse_duration(format_duration(value)) == value


ANYTHING = st.recursive(
    st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=4) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*MAPPING.fields, "operaton", "x"]),
        ANYTHING | st.lists(st.fixed_dictionaries({"name": ANYTHING})),
    )
)
def test_any_data_gives_values_or_problems_and_stays_as_it_was(data: dict[str, Any]) -> None:
    before = copy.deepcopy(data)
    problems = Problems()
    values = check_shape(Document("f", data), MAPPING, problems)
    assert repr(data) == repr(before)
    assert set(values) <= set(MAPPING.fields)
    for problem in problems:
        assert problem.message
        assert problem.message_zh
    if not problems:
        assert set(values) == set(MAPPING.fields)
