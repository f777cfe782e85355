"""The scanner of SQL: binds and statements, past strings, comments, casts and assignments."""

from __future__ import annotations

import pytest

from his_db.mapping.sql_text import binds, is_select, quoted_binds, statements, tokens, verb
from his_db.mapping.when import parse_rule


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT :a, :b_1, :a", ("a", "b_1")),
        ("SELECT ':a' || '' || 'x'':b'", ()),
        ("SELECT N':a', \"c:d\", [e:f], `g:h`, :ok", ("ok",)),
        ("SELECT 1 -- :a\n, :b /* :c */ , /* -- */ :d", ("b", "d")),
        ("SELECT a::int, :b::date, x := :c", ("b", "c")),
        ("SELECT '12:30:00', 12:30, a[1:2]", ()),
        ("SELECT $$ :a $$, $x$ :b $x$, :c", ("c",)),
        ("SELECT 'open :a", ()),
        ("SELECT /* open :a", ()),
        ("WHERE a=:a AND(b>:b)", ("a", "b")),
        ("SELECT :名", ()),
    ],
)
def test_binds(sql: str, expected: tuple[str, ...]) -> None:
    assert binds(sql) == expected
    assert "".join(token.text for token in tokens(sql)) == sql


@pytest.mark.parametrize(
    ("sql", "count"),
    [
        ("SELECT 1", 1),
        ("SELECT 1;", 1),
        ("SELECT ';' ; -- x", 1),
        ("SELECT 1; SELECT 2", 2),
        ("  -- x\n", 0),
        (";;", 0),
    ],
)
def test_statements(sql: str, count: int) -> None:
    assert len(statements(sql)) == count


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("-- UPDATE\nselect 1", "SELECT"),
        ("WITH a AS (SELECT 1) SELECT * FROM a", "SELECT"),
        ("WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a", "INSERT"),
        ("(SELECT 1)", "SELECT"),
        ("Merge INTO t", "MERGE"),
    ],
)
def test_verb(sql: str, expected: str) -> None:
    assert verb(sql) == expected
    assert is_select(sql) == (expected == "SELECT")


def test_quoted_binds() -> None:
    assert quoted_binds("WHERE a = ':order_no' AND b LIKE '%:name%' AND c = '12:30' AND d = 'x :y z'") == (
        "order_no",
        "name",
    )


@pytest.mark.parametrize(
    "rule", ["state", "state: a", "state: -> b", "state: a ->", "state: gone -> a", "state: a -> new", "a: b| -> c"]
)
def test_rules_that_cannot_be_read(rule: str) -> None:
    assert parse_rule(rule) is None


def test_rule() -> None:
    rule = parse_rule(' state:LOCKED | BOOKED->""|gone ')
    assert rule is not None
    assert (rule.field, rule.before, rule.after) == ("state", {"LOCKED", "BOOKED"}, {"", "gone"})


def test_mysql_quotes_in_its_own_way() -> None:
    sql = r"""SELECT 'it\'s :a', "x\":b", `:c`, :d # :e
    WHERE x = ':f' AND y = :g; -- ;"""
    assert binds(sql, "mysql") == ("d", "g")
    assert len(statements(sql, "mysql")) == 1
    assert binds(r"SELECT '\' , :a, ''") == ("a",)
