"""Whatever a mapping says, the check ends in problems with their places, or in a set that compiles: never in an exception."""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from his_db.document.problem import DocumentError, Problem
from his_db.generation import compile_generation
from his_db.mapping.load import load_mapping_set
from his_db.mapping.sql_facts import facts_of
from his_db.mapping.trial import run_tests
from his_db.workbench.column_origin import origins_of
from his_db.workbench.sql_objects import objects_of

PACKS = Path(__file__).resolve().parents[3] / "his_db" / "packs"
ENGINES = ("sqlite", "postgresql", "mysql", "mssql", "oracle", "dm", "http")
# Every kind of file and most keys that there are, whole enough that one change of theirs is the only fault.
FILES = (
    "zebone/mappings/catalog/list_departments.toml",
    "zebone/mappings/appointment/lock_slot.toml",
    "zebone/mappings/codes/period.toml",
    "zebone/mappings/watch/orders.toml",
    "winning/mappings/appointment/book_appointment.toml",
    "bsoft/mappings/catalog/list_slots.toml",
    "neusoft/mappings/appointment/lock_slot.toml",
)
HTTP = """
schema = 1
operation = "AppointmentService.UnlockSlot"
kind = "http"
source = "pay"
method = "POST"
path = "/unlock?no={{order_no}}"
headers = [ { name = "Authorization", value = "@env:HIS160_NOT_THERE" }, { name = "X-Channel", value = "160" } ]
format = "json"
reply = "json"
inner = { at = "data.text", as = "json" }
body = '{"no": {{order_no}}, "key": {{appkey}}}'
params = [ { name = "appkey", const = "@env:HIS160_NOT_THERE" } ]
statuses = [ { is = 409, reason = "LOCK_EXPIRED" } ]
[outcome]
from = "code"
ok = [0]
errors = [ { is = 404, reason = "SLOT_NOT_FOUND" }, { text = "忙", reason = "HIS_BUSY", retry = "2s" } ]
text = "msg"
otherwise = "HIS_REFUSED"
[[result]]
at = "data"
fields = [ { to = "lock_id", column = "id" } ]
[[test]]
name = "t"
given = { order_no = "T1" }
reply = '{"data": {"text": "{\\"code\\": 0, \\"data\\": {\\"id\\": 7}}"}}'
expect = { lock_id = "7" }
"""
REPORT = """
schema = 1
[report.R1]
title = "日对账"
sql = "SELECT b.RQ AS rq, b.JE AS je FROM BB b WHERE b.RQ BETWEEN :from_date AND :to_date ORDER BY b.RQ"
params = [ { name = "from_date", from = "$from_date", date = "%Y%m%d" }, { name = "to_date", from = "$to_date", date = "%Y%m%d" } ]
columns = [
  { name = "rq", title = "日期", kind = "date", date = "%Y%m%d" },
  { name = "je", title = "金额", kind = "fen", money = "yuan" },
]
schedule = "30 6 * * *"
quiet_hours = ["07:30-11:30"]
"""


def toml(value: Any) -> str:
    """One value as TOML, on one line."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return json.dumps(value).replace("\x7f", "\\u007f")
        case date() | time():
            return value.isoformat()
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case dict():
            return f"{{ {', '.join(f'{toml(key)} = {toml(item)}' for key, item in value.items())} }}"
        case _:
            return str(value)  # inf and nan are TOML too


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything below a value."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(item, (*path, key))


def changed(document: Mapping[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """A copy that has another value at `path`."""
    found: Any = copy.deepcopy(document)
    inner = found
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    return dict(found)


def nested(depth: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = wrap(value)
    return value


ODD_SQL = (
    "",
    ";",
    "SELECT",
    "SELECT (",
    "SELECT 'x",
    "SELECT 1; DROP TABLE t",
    "WITH a AS (",
    "SELECT " + "(" * 300 + "1" + ")" * 300,
    "SELECT " + "NOT " * 300 + "1",
    "SELECT APPROX_DISTINCT(a, b, c, d) AS q FROM t",  # IndexError in sqlglot
    "SELECT DATE_ADD() AS q FROM t",  # AttributeError in sqlglot
    "SELECT JSON_EXTRACT(a, '$[') AS q FROM t",
    "SELECT CONVERT(varchar, a, 999) AS q, DATEADD(x, 'a', 1) FROM t",
    "SELECT CAST(a AS ) FROM t LIMIT 'x'",
    "SELECT a FROM t WHERE b = :b.5 AND c = :",
    "SELECT X'zz', 0x, 1e999, U&'\\zzzz'",
    "ＳＥＬＥＣＴ “a”，b ＦＲＯＭ t",
    "UPDATE t SET a = :a WHERE",
    "SELECT * FROM t PIVOT (",
)
HOSTILE = st.one_of(
    st.sampled_from(
        [date(2026, 1, 1), time(8, 30), datetime(2026, 1, 1, 8), datetime(2026, 1, 1, tzinfo=UTC), float("nan")]
    ),
    st.sampled_from(
        [True, False, 0, -1, 1.5, float("inf"), 10**30, "", " ", "\0", "$now", ".", "..", "%", "{", "１２"]
    ),
    st.sampled_from([[], [[]], {}, [{}], [1, "a"], {"": 1}, {"a": {"b": [{}]}}]),
    st.sampled_from([nested(60, lambda below: [below]), nested(60, lambda below: {"a": below})]),
    st.sampled_from(ODD_SQL),
    st.text(max_size=12),
)


def documents() -> tuple[dict[str, Any], ...]:
    texts = [(PACKS / name).read_text(encoding="utf-8") for name in FILES]
    return tuple(tomllib.loads(text) for text in (*texts, HTTP, REPORT))


DOCUMENTS = documents()


@st.composite
def hostile(draw: st.DrawFn) -> dict[str, Any]:
    """A good document with one or two values in it that nobody expects there."""
    found = draw(st.sampled_from(DOCUMENTS))
    for _ in range(draw(st.integers(1, 2))):
        paths = list(places(found))
        if paths:
            path = draw(st.sampled_from(paths))
            found = changed(found, path, draw(st.sampled_from(ODD_SQL) if path[-1] == "sql" else HOSTILE))
    return found


def test_the_documents_are_good(tmp_path: Path) -> None:
    """What is changed is right as it is: otherwise the first fault would hide what the change does."""
    assert checked(tmp_path, HTTP, "sqlite") == ()
    found = load_mapping_set(tmp_path, sources={"pay": "http"}, timezone="Asia/Shanghai")
    assert [outcome.passed for outcome in run_tests(found)] == [True]
    assert {problem.code for problem in checked(tmp_path, REPORT, "sqlite")} == {"H241"}  # a set of reports alone


def checked(folder: Path, text: str, engine: str) -> tuple[Problem, ...]:
    """What the check says of this file; without a problem the set compiles, and its tests run."""
    (folder / "m.toml").write_text(text, encoding="utf-8")
    try:
        found = load_mapping_set(folder, sources={"his": engine, "pay": "http"}, timezone="Asia/Shanghai")
    except DocumentError as error:
        assert str(error)
        return error.problems
    compile_generation(found)
    for outcome in run_tests(found):
        assert outcome.passed or outcome.problems
    return ()


def assert_placed(problems: tuple[Problem, ...], text: str) -> None:
    lines = text.count("\n") + 1
    for problem in problems:
        assert problem.place.file, problem
        assert 1 <= problem.place.line <= lines, problem
        assert problem.place.column >= 1, problem
        assert problem.message, problem
        assert problem.message_zh, problem


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(document=hostile(), engine=st.sampled_from(ENGINES))
@example(document=changed(DOCUMENTS[3], ("params", 0, "date"), float("inf")), engine="http")
@example(document=changed(DOCUMENTS[3], ("params", 0, "date"), date(2026, 1, 1)), engine="sqlite")
@example(document=changed(DOCUMENTS[3], ("test", 0, "expect"), {"event": {}}), engine="sqlite")
@example(document=changed(DOCUMENTS[1], ("test", 0, "steps"), {"take": [1]}), engine="sqlite")
def test_any_value_anywhere(folder: Path, document: dict[str, Any], engine: str) -> None:
    text = "\n".join(f"{toml(key)} = {toml(value)}" for key, value in document.items())
    assert_placed(checked(folder, text, engine), text)


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * 2000 + "]" * 2000,
        "x = " + "{a = " * 2000 + "1" + "}" * 2000,
        "a." * 20_000 + "b = 1",
        "[" + "a." * 20_000 + "b]",
        "[[ " + "a . " * 20_000 + "b ]]",
    ],
    ids=["lists", "tables", "dotted", "header", "header of a list"],
)
def test_deep_nesting(tmp_path: Path, text: str) -> None:
    whole = f"schema = 1\noperation = 'CatalogService.ListSlots'\n{text}\n"
    found = checked(tmp_path, whole, "sqlite")
    assert_placed(found, whole)
    assert "H112" in {problem.code for problem in found}


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql", "mssql", "oracle"])
def test_odd_sql_is_not_understood_rather_than_an_error(engine: str) -> None:
    """sqlglot raises whatever its functions happen to raise: IndexError, AttributeError, ValueError, TypeError."""
    odd = [
        *ODD_SQL,
        "SELECT TIMESTAMP_LTZ_FROM_PARTS(a, b, c, d) AS q FROM t",
        "SELECT J_S_O_N_OBJECT(a, b) AS q FROM t",
        "SELECT 1 AS q FROM t WHERE GAP_FILL(a, b, c, d) = 1",
    ]
    for sql in filter(None, odd):
        facts_of(sql, engine)
        objects_of(sql, engine)
        origins_of(sql, engine, ["q", "a"], lambda column, tables: "t")
    assert not facts_of("SELECT APPROX_DISTINCT(a, b, c, d) AS q FROM t", "postgresql").understood
