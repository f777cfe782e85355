"""Where the values of a result column live, and the bounded statement that counts them, in every dialect."""

from __future__ import annotations

import pytest
import sqlglot

from his_db.catalogue.model import Table
from his_db.mapping.sql_tree import DIALECTS
from his_db.workbench.code_census import census_sql
from his_db.workbench.coded_fields import CodeColumn
from his_db.workbench.column_origin import Origin, origins_of


def first(_: str, tables: tuple[str, ...]) -> str:
    return tables[0]


@pytest.mark.parametrize(
    ("engine", "sql", "origins"),
    [
        (
            "mssql",
            "SELECT k.zzlx AS x, k.rq FROM dbo.YY k JOIN dbo.ZZ z ON z.id = k.id AND z.lx = 1 "
            "WHERE k.jlzt = 0 AND k.rq >= :d AND z.q = 2",
            (Origin("dbo.YY", "zzlx", "zzlx", ("jlzt = 0",)),),
        ),
        (
            "mssql",
            "SELECT x = CASE k.jlzt WHEN 0 THEN 'OPEN' ELSE 'LOCKED' END FROM dbo.YY k",
            (Origin("dbo.YY", "CASE jlzt WHEN 0 THEN 'OPEN' ELSE 'LOCKED' END", ""),),
        ),
        (
            "oracle",
            "WITH a AS (SELECT t.c FROM fin t WHERE t.valid = '1' UNION ALL SELECT h.cc FROM fin_his h) "
            "SELECT NVL(a.c, '0') x FROM a WHERE a.c <> '9' AND ROWNUM < :n",
            (
                Origin("fin", "NVL(c, '0')", "", ("valid = '1'", "c <> '9'")),
                Origin("fin_his", "NVL(cc, '0')", "", ("cc <> '9'",)),
            ),
        ),
        (
            "mysql",
            "SELECT * FROM (SELECT `X`, 'a' AS k FROM MS_YY y WHERE y.z = 1) q",
            (Origin("MS_YY", "`X`", "X", ("z = 1",)),),
        ),
        ("postgresql", "SELECT b.x FROM t a LEFT JOIN t b ON b.p = 1", (Origin("t", "x", "x"),)),
        ("postgresql", "SELECT a.x FROM t a, t b WHERE a.p = 1 AND b.p = 2", (Origin("t", "x", "x", ("p = 1",)),)),
        ("sqlite", "SELECT a.p + b.q AS x FROM t a JOIN t b ON a.k = b.k", ()),
        ("sqlite", "SELECT MAX(p) AS x FROM t", ()),
        ("sqlite", "SELECT p || :suffix AS x FROM t", ()),
        ("sqlite", "SELECT (SELECT q FROM u LIMIT 1) AS x FROM t", ()),
        ("sqlite", "SELECT 'OPEN' AS x FROM t", ()),
        ("sqlite", "UPDATE t SET x = 1", ()),
        ("sqlite", "SELECT x FROM", ()),
    ],
)
def test_origin_of_a_result_column(engine: str, sql: str, origins: tuple[Origin, ...]) -> None:
    assert origins_of(sql, engine, ["x"], first).get("x", ()) == origins


def test_a_column_without_its_table_belongs_where_the_catalogue_says() -> None:
    sql = "SELECT x FROM a JOIN b ON a.k = b.k"
    assert origins_of(sql, "sqlite", ["x"], lambda _, tables: tables[1])["x"] == (Origin("b", "x", "x"),)
    assert origins_of(sql, "sqlite", ["x"], lambda _, __: "") == {}


@pytest.mark.parametrize(
    ("engine", "sql"),
    [
        ("sqlite", 'FROM (SELECT sex AS v FROM his.p WHERE (ok = 1) ORDER BY "id" DESC LIMIT 7) census'),
        ("postgresql", 'FROM (SELECT sex AS v FROM his.p WHERE (ok = 1) ORDER BY "id" DESC LIMIT 7) census'),
        ("mysql", "FROM (SELECT sex AS v FROM his.p WHERE (ok = 1) ORDER BY `id` DESC LIMIT 7) census"),
        (
            "mssql",
            "FROM (SELECT TOP (7) sex AS v FROM his.p WITH (READUNCOMMITTED) WHERE (ok = 1) ORDER BY [id] DESC) census",
        ),
        (
            "oracle",
            'FROM (SELECT v FROM (SELECT sex AS v FROM his.p WHERE (ok = 1) ORDER BY "id" DESC) WHERE ROWNUM <= 7) '
            "census",
        ),
    ],
)
def test_the_statement_that_counts_is_bounded_in_every_dialect(engine: str, sql: str) -> None:
    column = CodeColumn(Table("his", "p", "table", "", (), ("id",)), Origin("his.p", "sex", "sex", ("ok = 1",)))
    written = census_sql(engine, column, 7)
    assert written == f"SELECT v, COUNT(*) AS n {sql} GROUP BY v ORDER BY COUNT(*) DESC"
    sqlglot.parse_one(written, read=DIALECTS[engine])
