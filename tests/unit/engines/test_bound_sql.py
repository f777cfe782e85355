"""Binds are found where they are SQL, and a read session's statement is told from one that writes."""

from __future__ import annotations

import pytest

from his_db.bound_sql import BoundSql, bind_numbers, bind_places, reads_only
from his_db.held_connection import CallError


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
