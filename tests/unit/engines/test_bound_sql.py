"""Binds are found where they are SQL, and a read session's statement is told from one that writes."""

from __future__ import annotations

import pytest

from his_db.bound_sql import SCANNERS, BoundSql, bind_numbers, bind_places, reads_only
from his_db.held_connection import CallError, compile_statement


@pytest.mark.parametrize(
    ("engine", "sql", "expected", "names"),
    [
        ("mssql", "SELECT [a:b], 'it''s :x', \"c:d\" -- :no\n, /* :no */ :a, :b, :a", "?, ?, ?", ("a", "b", "a")),
        ("mssql", "SELECT [x]]:y] WHERE :a IS NULL OR c = :a", "? IS NULL OR c = ?", ("a", "a")),
        ("mssql", "SELECT geography::Parse(:w), t::x", "geography::Parse(?), t::x", ("w",)),
        ("mysql", "SELECT 5--:a, 'it\\'s :x', `b:c` -- :no\n # :no\n, :b", "5--?, 'it\\'s :x'", ("a", "b")),
        ("mssql", "SELECT '12:30' WHERE 姓名 = :姓名", "姓名 = ?", ("姓名",)),
    ],
)
def test_places(engine: str, sql: str, expected: str, names: tuple[str, ...]) -> None:
    bound = bind_places(sql, engine)
    assert expected in bound.sql
    assert bound.names == names


def test_numbers_are_one_per_name_and_never_reserved() -> None:
    bound = bind_numbers(
        "SELECT q'[it's :x]', Q'!:y!' FROM t WHERE d > :date AND (:n IS NULL OR n = :n) -- :z", "oracle"
    )
    assert bound == BoundSql(
        "SELECT q'[it's :x]', Q'!:y!' FROM t WHERE d > :b0 AND (:b1 IS NULL OR n = :b1) -- :z", ("date", "n")
    )
    assert bind_numbers("BEGIN x := :x; END;", "oracle").sql == "BEGIN x := :b0; END;"


def test_a_bind_without_a_value_is_named() -> None:
    with pytest.raises(CallError, match=":b"):
        bind_places("SELECT :a, :b", "mssql").values({"a": 1})


@pytest.mark.parametrize("engine", ["mssql", "oracle", "mysql", "dm"])
def test_reads(engine: str) -> None:
    for sql in (
        "SELECT 1",
        "  -- UPDATE\n select 'DELETE FROM t; DROP' as x, \"INTO\" from t with (nolock);",
        "WITH x AS (SELECT 1) SELECT * FROM x",
        "SELECT updated, inserted_at, delete_flag, create_time FROM t",
        "SELECT /* INSERT */ :a",
    ):
        assert reads_only(sql, engine), sql


@pytest.mark.parametrize("engine", ["mssql", "oracle", "mysql", "dm"])
def test_writes(engine: str) -> None:
    for sql in (
        "",
        "UPDATE t SET a = 1",
        "SELECT * INTO t2 FROM t",
        "WITH x AS (SELECT 1) DELETE FROM x",
        "SELECT 1; DELETE FROM t",
        "SELECT 1 DELETE FROM t",
        "SELECT 'a'DELETE FROM t",
        "EXEC usp_x",
        "SELECT 1 EXEC usp_x",
        "SELECT * FROM t FOR UPDATE",
        "/* SELECT */ MERGE INTO t USING u ON 1 = 1",
        "BEGIN p; END;",
        "{CALL p}",
        "SET IDENTITY_INSERT t ON",
    ):
        assert not reads_only(sql, engine), sql


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (
            "SELECT :a, x::text, :b::int, ':no', \":no\" -- :no\n",
            "SELECT %(a)s, x::text, %(b)s::int, ':no', \":no\" -- :no\n",
        ),
        (
            "SELECT E'\\':no', $$ :no $$, $t$ :no $t$, :a /* :no */",
            "SELECT E'\\':no', $$ :no $$, $t$ :no $t$, %(a)s /* :no */",
        ),
        ("SELECT 7 % :a, '5%', c LIKE '%x:no'", "SELECT 7 %% %(a)s, '5%%', c LIKE '%%x:no'"),
        ("SELECT f(a := :a), :1, \\:b", "SELECT f(a := %(a)s), :1, \\:b"),
        ("SELECT :姓名 WHERE 门诊号 = :门诊号", "SELECT %(姓名)s WHERE 门诊号 = %(门诊号)s"),
    ],
)
def test_names(sql: str, expected: str) -> None:
    assert compile_statement(sql, "pyformat").sql == expected
    assert compile_statement(sql, "named").sql == sql


def test_names_follow_the_quoting_of_the_engine() -> None:
    sql = "SELECT 5--:a, 'it\\'s :no', `b:no` # :no\n, :b % 2"
    done = compile_statement(sql, "pyformat", scanner=SCANNERS["mysql"])
    assert done.sql == "SELECT 5--%(a)s, 'it\\'s :no', `b:no` # :no\n, %(b)s %% 2"


def test_a_test_for_null_gets_a_typed_bind_of_its_own() -> None:
    done = compile_statement("WHERE :a IS NULL OR b = :a AND :c is not null", "pyformat", typed_null_test="boolean")
    assert done.sql == (
        "WHERE CAST(%(a__isnull)s AS boolean) IS NULL OR b = %(a)s AND CAST(%(c__isnull)s AS boolean) is not null"
    )
    assert done.null_tests == ("a", "c")
    assert done.values({"a": None, "c": 5}) == {"a": None, "c": 5, "a__isnull": None, "c__isnull": True}
