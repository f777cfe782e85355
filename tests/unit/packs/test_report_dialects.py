"""Reports of the packs whose server cannot be had here, beside the ports of the same HIS that run (tests/conformance/packs).

``winning_mssql`` (T-SQL) beside ``winning``, ``neusoft`` for Oracle beside its mappings for PostgreSQL: the same reports,
column by column; statements that mean the same, node by node; and nothing that the other server would not take. The
opt-in suite runs the very tests of tests/conformance/packs/test_pack_reports.py on a server of yours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlglot
from sqlglot import exp

from his_db.compiled_report import CompiledReport
from his_db.generation import compile_generation
from his_db.mapping.load import load_mapping_set
from his_db.registry import LIVE_SAMPLES, SAMPLES, load_sample

PACKS = Path(__file__).resolve().parents[3] / "his_db" / "packs"
NAMES = ["R1", "R2", "R3", "R4", "R8", "R9"]
DIALECTS = {"mssql": "tsql", "oracle": "oracle", "postgresql": "postgres"}
PORTS = {"winning_mssql": "winning", "neusoft_oracle": "neusoft"}
# Functions of SQL Server 2008 R2 (it has no TRIM, CONCAT, FORMAT, IIF) and of Oracle 11g that a report may use.
KNOWN = {
    "mssql": {"CAST", "COALESCE", "COUNT", "LTRIM", "MAX", "MIN", "NULLIF", "ROUND", "RTRIM", "SUBSTRING", "SUM"},
    "oracle": {"CAST", "COALESCE", "COUNT", "MAX", "MIN", "NULLIF", "ROUND", "SUM", "TO_CHAR"},
}
# V$RESERVED_WORDS and T-SQL's list, what somebody might take for an alias or a bind.
RESERVED = frozenset(
    word
    for line in (
        "access add all alter and any as asc audit between by char check cluster column comment compress connect create",
        "current date decimal default delete desc distinct drop else end exclusive exists file float for from grant",
        "group having identified immediate in increment index initial insert integer intersect into is key level like",
        "lock long maxextents minus mode modify noaudit nocompress not nowait null number of offline on online open",
        "option or order pctfree percent plan prior privileges proc public raw read rename resource revoke row rowid",
        "rownum rows rule save select session set share size smallint start successful synonym sysdate table then to",
        "top tran trigger uid union unique update use user validate values varchar varchar2 view whenever where with",
    )
    for word in line.split()
)


def reports(sample: str) -> dict[str, CompiledReport]:
    about = load_sample(sample)
    folder = PACKS / about.name / about.mappings
    found = load_mapping_set(folder, sources={"his": about.engine}, timezone="Asia/Shanghai")  # raises what is wrong
    return dict(compile_generation(found).reports)


@pytest.fixture(scope="module", params=sorted(LIVE_SAMPLES))
def both(request: pytest.FixtureRequest) -> tuple[str, dict[str, CompiledReport], dict[str, CompiledReport]]:
    """Engine of the one that runs nowhere, its reports, those of the port that runs."""
    return load_sample(request.param).engine, reports(request.param), reports(PORTS[request.param])


def parsed(report: CompiledReport, engine: str) -> exp.Expression:
    return sqlglot.parse_one(report.sql, read=DIALECTS[engine], error_level=sqlglot.ErrorLevel.RAISE)


def test_every_such_pack_has_a_port_that_runs() -> None:
    assert set(PORTS) == set(LIVE_SAMPLES)
    assert set(PORTS.values()) <= set(SAMPLES)
    assert {load_sample(name).engine for name in PORTS.values()} == {"postgresql"}


def test_the_same_reports_with_the_same_columns(both: Any) -> None:
    _, one, other = both
    assert sorted(one) == sorted(other) == NAMES
    for name in NAMES:
        mine, theirs = one[name], other[name]
        assert mine.definition == theirs.definition  # names, titles, kinds, sums, rates, subtotals
        assert (mine.cron and mine.cron.text, mine.period, mine.quiet) == (
            theirs.cron and theirs.cron.text,
            theirs.period,
            theirs.quiet,
        )
        assert [column.places for column in mine.columns] == [column.places for column in theirs.columns]


def test_the_statements_mean_the_same(both: Any) -> None:
    """Parsed in their own dialects, then node by node; what differs between the languages is said in ``plain``."""
    engine, one, other = both
    for name in NAMES:
        mine, theirs = plain(parsed(one[name], engine)), plain(parsed(other[name], "postgresql"))
        assert mine == theirs, name


def plain(tree: exp.Expression) -> str:
    """Without owners of tables, order of NULLs by default, ``+`` for texts, the digits of ROUND, ways to say NOT NULL."""

    def same(node: exp.Expression) -> exp.Expression:
        if isinstance(node, exp.Table):
            node.set("db", None)
        elif isinstance(node, exp.Ordered):
            node.set("nulls_first", None)
        elif isinstance(node, exp.Round) and isinstance(node.args.get("decimals"), exp.Literal):
            if node.args["decimals"].this == "0":
                node.set("decimals", None)
        elif isinstance(node, exp.Add) and is_text(node):
            return exp.DPipe(this=node.left.transform(same), expression=node.right.transform(same))
        elif isinstance(node, exp.DPipe):
            node.set("safe", None)
        elif isinstance(node, exp.Div):  # 10000.0 is no integer in any of them
            node.set("typed", None)
            node.set("safe", None)
        return node

    text = tree.copy().transform(same).sql(dialect="postgres", pretty=True, normalize=True, comments=False)
    return re.sub(r"NOT ([\w.]+) IS NULL", r"\1 IS NOT NULL", re.sub(r"[%@]?\(?(:\w+|\w+)\)s", r"\1", text))


def is_text(node: exp.Expression) -> bool:
    """A sum with a text somewhere is no sum."""
    if isinstance(node, exp.Add):
        return is_text(node.left) or is_text(node.right)
    return isinstance(node, exp.Literal) and bool(node.is_string)


def test_every_column_of_a_report_is_selected(both: Any) -> None:
    engine, one, _ = both
    for name, report in one.items():
        selected = [item.alias_or_name.lower() for item in parsed(report, engine).selects]  # type: ignore[attr-defined]
        assert {place.lower() for column in report.columns for place in column.places} <= set(selected), name
        assert len(selected) == len(set(selected)), name


def test_nothing_that_the_server_would_not_take(both: Any) -> None:
    engine, one, _ = both
    for name, report in one.items():
        wrong = [*unknown_functions(report.sql, engine), *oddities(parsed(report, engine), engine)]
        assert wrong == [], name
        binds = {bind.lower() for bind in re.findall(r"(?<![:\w]):(\w+)", report.sql)}
        assert not binds & RESERVED, name
        assert "_" not in "".join(char for char in name if not char.isalnum()), name


def unknown_functions(sql: str, engine: str) -> Iterator[str]:
    """By the text: a parser knows more functions than the server, and gives them other names."""
    bare = re.sub(r"'[^']*'", "''", re.sub(r"--[^\n]*", "", sql))
    for found in re.findall(r"\b([A-Za-z_]\w*)\s*\(", bare):
        word = found.upper()
        if word not in KNOWN[engine] | {
            "AND",
            "AS",
            "BY",
            "IN",
            "NOT",
            "ON",
            "OR",
            "SELECT",
            "THEN",
            "VARCHAR",
            "WHEN",
        }:
            yield f"function {word}"


def oddities(tree: exp.Expression, engine: str) -> Iterator[str]:
    for alias in tree.find_all(exp.Alias, exp.TableAlias, exp.CTE):
        if alias.alias.lower() in RESERVED:
            yield f"alias {alias.alias}"
        if len(alias.alias.encode()) > 30:
            yield f"alias {alias.alias} is longer than Oracle 11g takes"
    for kind in (exp.Limit, exp.Offset, exp.Fetch, exp.Filter, exp.Boolean, exp.ILike, exp.Lateral, exp.Window):
        yield from (f"{kind.__name__} {found.sql()}" for found in tree.find_all(kind))
    for group in tree.find_all(exp.Group):
        yield from (f"GROUP BY {item.sql()}" for item in group.expressions if not list(item.find_all(exp.Column)))
    for cte in tree.find_all(exp.CTE, exp.Subquery):
        if engine == "mssql" and cte.this.args.get("order") is not None:
            yield f"ORDER BY inside {cte.alias}"
    if engine == "mssql":
        yield from (f"|| {found.sql()}" for found in tree.find_all(exp.DPipe, exp.Interval))
    else:
        yield from (f"+ {found.sql()}" for found in tree.find_all(exp.Add) if is_text(found))
        for case in tree.find_all(exp.Case):  # ORA-00932
            kinds = {one.is_string for one in branches(case)}
            if len(kinds) > 1:
                yield f"CASE with texts and numbers: {case.sql()[:60]}"


def branches(case: exp.Case) -> Iterator[exp.Literal]:
    """The literals among its results."""
    results = [branch.args["true"] for branch in case.args["ifs"]] + [case.args.get("default")]
    return (result for result in results if isinstance(result, exp.Literal))


def test_the_rules_see_what_they_are_for() -> None:
    wrong = "SELECT CASE WHEN a = 1 THEN 'x' ELSE 0 END AS level FROM t GROUP BY 1 LIMIT 3"
    found = " ".join(oddities(sqlglot.parse_one(wrong, read="postgres"), "oracle"))
    for word in ("alias level", "Limit", "GROUP BY 1", "texts and numbers"):
        assert word in found
    assert list(unknown_functions("SELECT TRIM(a), 'f(x)' FROM t", "mssql")) == ["function TRIM"]
    one = plain(sqlglot.parse_one("SELECT a + ' ' + b AS c FROM dbo.t WHERE NOT b IS NULL ORDER BY c", read="tsql"))
    other = plain(sqlglot.parse_one("SELECT a || ' ' || b AS c FROM t WHERE b IS NOT NULL ORDER BY c", read="postgres"))
    assert one == other
    assert one != plain(sqlglot.parse_one("SELECT a || ' ' || b AS c FROM t WHERE b IS NULL", read="postgres"))
