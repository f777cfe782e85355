"""The statements about catalogues: parsed in their dialect, held against golden files, and their rows put together.

PostgreSQL, SQLite and MariaDB run for real in tests/integration/test_workbench.py. Golden files are written anew with
HIS160_GOLDEN=write.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import sqlglot
from sqlglot import exp

from his_db.bound_sql import SCANNERS, reads_only
from his_db.catalogue.model import Name, family_of
from his_db.catalogue.reader import READERS, reader_for
from his_db.mapping.sql_tree import DIALECTS
from tests.unit.workbench.scripted import ScriptedSession

GOLDEN = Path(__file__).parent / "golden"
ENGINES = [name for name in READERS if name != "dm"]


def _bindless(sql: str) -> str:
    # `::oid[]` is the one thing here that sqlglot cannot read.
    return sql.replace(":words", "'x'").replace(":statement", "'x'").replace("::oid[]", "")


@pytest.mark.parametrize("engine", ENGINES)
def test_statements_are_one_select_each_in_the_dialect(engine: str) -> None:
    for purpose, sql in reader_for(engine).statements.items():
        if sql.startswith("SHOW "):
            continue
        parsed = sqlglot.parse(_bindless(sql), read=DIALECTS[engine])
        assert len(parsed) == 1, purpose
        assert isinstance(parsed[0], exp.Query), purpose
        if engine in SCANNERS:
            assert reads_only(sql, engine), purpose


@pytest.mark.parametrize("engine", ENGINES)
def test_statements_are_the_golden_ones(engine: str) -> None:
    shown = "".join(f"-- {purpose}\n{sql};\n\n" for purpose, sql in reader_for(engine).statements.items())
    path = GOLDEN / f"{engine}.sql"
    if os.environ.get("HIS160_GOLDEN") == "write":
        path.write_text(shown, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == shown


def test_sql_server_rows_become_a_catalogue() -> None:
    reader = reader_for("mssql")
    session = ScriptedSession(
        reader.statements,
        {
            "login": [("jk160", "THIS4", "Chinese_PRC_CI_AS", "dbo", 0, 0, 1)],
            "tables": [("dbo", "YY_KSBMK", "table", "科室编码库")],
            "columns": [
                ("dbo", "YY_KSBMK", "id", "varchar(6)", 0, None),
                ("dbo", "YY_KSBMK", "name", "varchar(40)", 1, "科室名称"),
            ],
            "keys": [("dbo", "YY_KSBMK", "id")],
            "indexes": [("dbo", "YY_KSBMK", "PK_1", 1, "id")],
            "routines": [("dbo", "usp_yy_lockno", 77, "procedure", None, 0, "CREATE PROC …", "")],
            "parameters": [
                ("dbo", "usp_yy_lockno", 77, "@hyid", "in", "varchar(32)", 0),
                ("dbo", "usp_yy_lockno", 77, "@msg", "inout", "nvarchar(200)", 0),
            ],
            "rights": [("dbo", "YY_KSBMK", "SELECT"), ("dbo", "usp_yy_lockno", "EXECUTE")],
        },
    )
    found = reader.read(session)
    table = found.table("yy_ksbmk")
    assert table is found.table("dbo.YY_KSBMK") is found.table("THIS4.dbo.yy_ksbmk")
    assert table is not None
    assert table.leads_index("ID")
    assert table.column("NAME") is not None
    (routine,) = found.routine("usp_yy_lockno")
    assert [(p.name, p.direction) for p in routine.parameters] == [("@hyid", "in"), ("@msg", "inout")]
    assert found.has(Name("dbo", "yy_ksbmk"), "SELECT")
    assert not found.has(Name("dbo", "yy_ksbmk"), "DELETE")
    assert found.login.powers == ("db_owner",)


def test_oracle_synonyms_and_packages() -> None:
    reader = reader_for("oracle")
    session = ScriptedSession(
        reader.statements,
        {
            "login": [("JK160", "ORCL", "JK160", "ZHS16GBK")],
            "tables": [("HIS", "DEPT", "table", "科室"), ("JK160", "DEPT", "synonym", "HIS.DEPT")],
            "columns": [("HIS", "DEPT", "DEPT_CODE", "VARCHAR2(20)", 0, "科室代码")],
            "routines": [("HIS.PKG_YY", "LOCK_NO", "1/0", "procedure", "", 0, "", "")],
            "parameters": [("HIS.PKG_YY", "LOCK_NO", "1/0", "P_ID", "in", "NUMBER", 0)],
            "rights": [("HIS", "DEPT", "SELECT"), ("HIS", "PKG_YY", "EXECUTE")],
        },
    )
    found = reader.read(session)
    synonym = found.table("dept")
    assert synonym is not None
    assert synonym.key == Name("jk160", "dept")
    assert synonym.column("dept_code") is not None
    assert found.has(Name("jk160", "dept"), "SELECT")
    assert found.routine("his.pkg_yy.lock_no")
    assert found.has(Name("his.pkg_yy", "lock_no"), "EXECUTE")


def test_mysql_rights_from_show_grants() -> None:
    reader = reader_for("mysql")
    tables: list[tuple[Any, ...]] = [
        ("his", "MS_GHKS", "table", ""),
        ("his", "MS_GHMX", "table", ""),
        ("lis", "T", "table", ""),
    ]
    session = ScriptedSession(
        reader.statements,
        {
            "login": [("jk160@%", "his", "gbk")],
            "grants": [
                ("GRANT USAGE ON *.* TO `jk160`@`%`",),
                ("GRANT SELECT ON `his`.* TO `jk160`@`%`",),
                ("GRANT INSERT, UPDATE (`A`, `B`) ON `his`.`MS_GHMX` TO `jk160`@`%`",),
                ("GRANT EXECUTE ON PROCEDURE `his`.`usp_x` TO `jk160`@`%`",),
            ],
            "tables": tables,
            "routines": [("his", "usp_x", "usp_x", "procedure", "", 0, "", "")],
        },
    )
    found = reader.read(session)
    assert found.rights == {
        Name("his", "ms_ghks"): frozenset({"SELECT"}),
        Name("his", "ms_ghmx"): frozenset({"SELECT", "INSERT", "UPDATE"}),
        Name("his", "usp_x"): frozenset({"EXECUTE"}),
    }
    assert found.login.powers == ()


@pytest.mark.parametrize(
    ("type_name", "engine", "family"),
    [
        ("DATE", "oracle", "datetime"),
        ("date", "postgresql", "date"),
        ("timestamp without time zone", "postgresql", "datetime"),
        ("time without time zone", "postgresql", "time"),
        ("NUMBER(12,2)", "oracle", "number"),
        ("bigint(20) unsigned", "mysql", "number"),
        ("nvarchar(max)", "mssql", "text"),
        ("RAW(16)", "oracle", "binary"),
        ("bit", "mssql", "bool"),
    ],
)
def test_families_of_types(type_name: str, engine: str, family: str) -> None:
    assert family_of(type_name, engine=engine) == family


def test_plans_of_sqlite_tell_indexes_and_scans() -> None:
    reader = reader_for("sqlite")
    lines = [
        "SCAN t_a",
        "SCAN t_b USING COVERING INDEX i_b",
        "SEARCH k USING INDEX i_k (x=?)",
        "SEARCH p USING INTEGER PRIMARY KEY (rowid=?)",
        "SCAN CONSTANT ROW",
        "USE TEMP B-TREE FOR ORDER BY",
    ]
    session = ScriptedSession({"plan": "EXPLAIN QUERY PLAN SELECT 1"}, {"plan": [(0, 0, 0, line) for line in lines]})
    plan = reader.explain(session, "SELECT 1", {})
    assert plan.indexes == (("t_b", "i_b"), ("k", "i_k"), ("p", "INTEGER PRIMARY KEY"))
    assert plan.scans == ("t_a",)
