"""What a statement touches, by its tree: every dialect that a pack is written in."""

from __future__ import annotations

import pytest

from his_db.workbench.sql_objects import objects_of


def columns(sql: str, engine: str = "postgresql") -> set[tuple[str, tuple[str, ...]]]:
    return {(ref.column, ref.tables) for ref in objects_of(sql, engine).columns}


def test_tables_with_the_rights_they_need() -> None:
    found = objects_of(
        "INSERT INTO a (x, y) SELECT b.x, :y FROM his.b b WHERE EXISTS (SELECT 1 FROM c WHERE c.k = b.k)", "postgresql"
    )
    assert found.tables == {
        "a": frozenset({"INSERT"}),
        "his.b": frozenset({"SELECT"}),
        "c": frozenset({"SELECT"}),
    }
    assert ("y", ("a",)) in columns("INSERT INTO a (x, y) VALUES (1, 2)")


@pytest.mark.parametrize(
    ("sql", "rights"),
    [
        ("UPDATE t SET x = 1 WHERE k = :k", {"UPDATE", "SELECT"}),
        ("DELETE FROM t WHERE k = :k", {"DELETE", "SELECT"}),
        ("SELECT x FROM t WHERE k = :k FOR UPDATE", {"SELECT", "UPDATE"}),
    ],
)
def test_rights_of_what_is_changed(sql: str, rights: set[str]) -> None:
    assert objects_of(sql, "postgresql").tables == {"t": frozenset(rights)}


def test_updates_of_several_tables_and_through_an_alias() -> None:
    both = objects_of("UPDATE a x JOIN b y ON y.k = x.k SET x.p = 1, y.q = 2 WHERE x.k = :k", "mysql")
    assert both.tables == {"a": frozenset({"UPDATE", "SELECT"}), "b": frozenset({"UPDATE", "SELECT"})}
    alias = objects_of("UPDATE k SET k.p = 1 FROM dbo.YY k JOIN dbo.ZZ z ON z.i = k.i WHERE k.i = :i", "mssql")
    assert alias.tables == {"dbo.YY": frozenset({"UPDATE", "SELECT"}), "dbo.ZZ": frozenset({"SELECT"})}
    assert {(ref.column, ref.tables) for ref in alias.columns} == {
        ("p", ("dbo.YY",)),
        ("i", ("dbo.YY",)),
        ("i", ("dbo.ZZ",)),
    }


def changes(sql: str, engine: str) -> set[tuple[str, tuple[str, ...]]]:
    return {(ref.column, ref.tables) for ref in objects_of(sql, engine).changes}


def test_columns_that_get_a_value() -> None:
    assert changes("INSERT INTO a (x, y) SELECT b.p, :y FROM b", "oracle") == {("x", ("a",)), ("y", ("a",))}
    assert changes("UPDATE k SET k.p = 1, q = z.r FROM dbo.YY k JOIN dbo.ZZ z ON z.i = k.i", "mssql") == {
        ("p", ("dbo.YY",)),
        ("q", ("dbo.YY",)),
    }
    assert changes("UPDATE a x JOIN b y ON y.k = x.k SET x.p = 1, y.q = 2 WHERE x.k = :k", "mysql") == {
        ("p", ("a",)),
        ("q", ("b",)),
    }
    assert changes("SELECT x FROM t WHERE x = 1", "sqlite") == set()


def test_an_alias_means_one_table_in_each_scope() -> None:
    sql = "SELECT x.a FROM his.t x JOIN (SELECT y.b FROM u y) d ON d.b = x.a WHERE EXISTS (SELECT 1 FROM w x WHERE x.c = 1)"
    found = objects_of(sql, "postgresql").aliases
    assert found["x"] == ("his.t", "w")
    assert (found["t"], found["y"]) == (("his.t",), ("u",))
    assert "d" not in found
    assert "o" not in objects_of("WITH o AS (SELECT a FROM z) SELECT o.a FROM o", "sqlite").aliases


def test_a_star_reads_every_column() -> None:
    assert objects_of("SELECT * FROM a JOIN b ON b.k = a.k", "mysql").stars == ("a", "b")
    assert objects_of("SELECT y.*, 1 AS n FROM a x JOIN b y ON y.k = x.k", "oracle").stars == ("b",)
    assert objects_of("SELECT COUNT(*) AS n FROM a", "postgresql").stars == ()


def test_aliases_ctes_and_derived_tables_are_seen_through() -> None:
    sql = """WITH w AS (SELECT o.k FROM orders o) SELECT w.k, d.n, p.name
             FROM w JOIN (SELECT count(*) AS n, q.k FROM q GROUP BY q.k) d ON d.k = w.k
             LEFT JOIN his.person p ON p.k = w.k ORDER BY n"""
    assert set(objects_of(sql, "postgresql").tables) == {"orders", "q", "his.person"}
    assert columns(sql) == {("k", ("orders",)), ("k", ("q",)), ("name", ("his.person",)), ("k", ("his.person",))}


def test_a_bare_column_may_belong_to_every_table_in_reach() -> None:
    found = objects_of("SELECT x FROM a JOIN b ON a.k = b.k", "sqlite")
    bare = next(ref for ref in found.columns if ref.column == "x")
    assert bare.tables == ("a", "b")
    assert bare.certain


def test_filters_are_columns_compared_with_a_bind() -> None:
    found = objects_of("SELECT * FROM t WHERE t.a BETWEEN :f AND :g AND t.b = 1 AND t.c = :c", "postgresql")
    assert {ref.column for ref in found.filters} == {"a", "c"}


def test_outputs_are_plain_columns_under_their_name() -> None:
    found = objects_of("SELECT t.a AS x, t.b, upper(t.c) AS y FROM t", "mysql")
    assert {name: ref.column for name, ref in found.outputs.items()} == {"x": "a", "b": "b"}


def test_other_dialects() -> None:
    mssql = objects_of("SELECT TOP 10 [k].[name] FROM dbo.[YY_KSBMK] k WITH (NOLOCK) WHERE k.id = :id", "mssql")
    assert mssql.tables == {"dbo.YY_KSBMK": frozenset({"SELECT"})}
    assert {ref.column for ref in mssql.columns} == {"name", "id"}
    oracle = objects_of("SELECT NVL(d.a, SYSDATE) x FROM his.dept d WHERE ROWNUM <= :page_limit", "oracle")
    assert oracle.tables == {"his.dept": frozenset({"SELECT"})}
    assert {ref.column for ref in oracle.columns} == {"a"}


def test_functions_are_named_with_their_schema() -> None:
    assert objects_of("SELECT his.fn_x(1) AS a FROM t", "postgresql").functions == ("his.fn_x",)


def test_what_cannot_be_parsed_is_said() -> None:
    assert not objects_of("SELECT FROM WHERE ((", "postgresql").understood
