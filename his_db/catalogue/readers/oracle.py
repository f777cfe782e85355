"""Oracle (and DM in its Oracle form): ALL_ views, which show a login what it has rights on."""

# Constants of this file and checked statements are put together, never values.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from his_db.catalogue.assemble import assemble
from his_db.catalogue.model import Catalogue, Login
from his_db.catalogue.reader import CHINESE, Plan, charset_answer, rows_of
from his_db.engine import Session

_OURS: Final = (
    "NOT IN ('SYS', 'SYSTEM', 'OUTLN', 'DBSNMP', 'XDB', 'CTXSYS', 'MDSYS', 'ORDSYS', 'ORDDATA', 'WMSYS', 'EXFSYS', "
    "'OLAPSYS', 'APPQOSSYS', 'GSMADMIN_INTERNAL', 'LBACSYS', 'DVSYS', 'AUDSYS', 'OJVMSYS', 'PUBLIC')"
)

STATEMENTS: Final[Mapping[str, str]] = {
    "login": (
        "SELECT SYS_CONTEXT('USERENV', 'SESSION_USER'), SYS_CONTEXT('USERENV', 'DB_NAME'), "
        "SYS_CONTEXT('USERENV', 'CURRENT_SCHEMA'), p.value FROM nls_database_parameters p "
        "WHERE p.parameter = 'NLS_CHARACTERSET'"
    ),
    "powers": (
        "SELECT granted_role FROM user_role_privs WHERE granted_role IN ('DBA', 'IMP_FULL_DATABASE', "
        "'EXP_FULL_DATABASE') UNION ALL SELECT privilege FROM session_privs WHERE privilege IN "
        "('SELECT ANY TABLE', 'UPDATE ANY TABLE', 'DELETE ANY TABLE', 'INSERT ANY TABLE', 'DROP ANY TABLE', "
        "'EXECUTE ANY PROCEDURE', 'ALTER SYSTEM')"
    ),
    "tables": (
        "SELECT o.owner, o.object_name, CASE o.object_type WHEN 'VIEW' THEN 'view' ELSE 'table' END, c.comments "
        "FROM all_objects o LEFT JOIN all_tab_comments c ON c.owner = o.owner AND c.table_name = o.object_name "
        f"WHERE o.object_type IN ('TABLE', 'VIEW') AND o.owner {_OURS} "
        "UNION ALL SELECT CASE WHEN s.owner = 'PUBLIC' THEN SYS_CONTEXT('USERENV', 'CURRENT_SCHEMA') ELSE s.owner END, "
        "s.synonym_name, 'synonym', s.table_owner || '.' || s.table_name FROM all_synonyms s "
        f"WHERE s.table_owner {_OURS} ORDER BY 1, 2"
    ),
    "columns": (
        "SELECT c.owner, c.table_name, c.column_name, c.data_type || CASE WHEN c.data_type LIKE '%CHAR%' "
        "THEN '(' || c.char_length || ')' WHEN c.data_type = 'NUMBER' AND c.data_precision IS NOT NULL "
        "THEN '(' || c.data_precision || ',' || c.data_scale || ')' ELSE '' END, "
        "CASE c.nullable WHEN 'Y' THEN 1 ELSE 0 END, m.comments FROM all_tab_columns c "
        "LEFT JOIN all_col_comments m ON m.owner = c.owner AND m.table_name = c.table_name "
        f"AND m.column_name = c.column_name WHERE c.owner {_OURS} ORDER BY c.owner, c.table_name, c.column_id"
    ),
    "keys": (
        "SELECT k.owner, k.table_name, c.column_name FROM all_constraints k JOIN all_cons_columns c "
        "ON c.owner = k.owner AND c.constraint_name = k.constraint_name "
        f"WHERE k.constraint_type = 'P' AND k.owner {_OURS} ORDER BY k.owner, k.table_name, c.position"
    ),
    "indexes": (
        "SELECT i.table_owner, i.table_name, i.index_name, CASE i.uniqueness WHEN 'UNIQUE' THEN 1 ELSE 0 END, "
        "c.column_name FROM all_indexes i JOIN all_ind_columns c ON c.index_owner = i.owner "
        f"AND c.index_name = i.index_name WHERE i.table_owner {_OURS} "
        "ORDER BY i.table_owner, i.table_name, i.index_name, c.column_position"
    ),
    "routines": (
        "SELECT CASE WHEN p.procedure_name IS NULL THEN p.owner ELSE p.owner || '.' || p.object_name END, "
        "COALESCE(p.procedure_name, p.object_name), p.subprogram_id || '/' || COALESCE(p.overload, '0'), "
        "CASE WHEN EXISTS (SELECT 1 FROM all_arguments a WHERE a.object_id = p.object_id "
        "AND a.subprogram_id = p.subprogram_id AND a.position = 0 AND a.data_level = 0) "
        "THEN 'function' ELSE 'procedure' END, '', CASE p.authid WHEN 'CURRENT_USER' THEN 1 ELSE 0 END, '', '' "
        "FROM all_procedures p WHERE p.object_type IN ('PROCEDURE', 'FUNCTION', 'PACKAGE') "
        "AND (p.object_type <> 'PACKAGE' OR p.procedure_name IS NOT NULL) "
        f"AND p.owner {_OURS} ORDER BY 1, 2, 3"
    ),
    "parameters": (
        "SELECT CASE WHEN a.package_name IS NULL THEN a.owner ELSE a.owner || '.' || a.package_name END, "
        "a.object_name, a.subprogram_id || '/' || COALESCE(a.overload, '0'), a.argument_name, "
        "CASE WHEN a.position = 0 THEN 'return' WHEN a.in_out = 'IN/OUT' THEN 'inout' ELSE LOWER(a.in_out) END, "
        "a.data_type, CASE a.defaulted WHEN 'Y' THEN 1 ELSE 0 END FROM all_arguments a "
        f"WHERE a.data_level = 0 AND a.data_type IS NOT NULL AND a.owner {_OURS} "
        "ORDER BY a.owner, a.package_name, a.object_name, a.subprogram_id, a.position"
    ),
    "rights": (
        "SELECT t.table_schema, t.table_name, t.privilege FROM all_tab_privs t WHERE t.grantee IN "
        "(SELECT SYS_CONTEXT('USERENV', 'SESSION_USER') FROM dual UNION ALL SELECT role FROM session_roles "
        f"UNION ALL SELECT 'PUBLIC' FROM dual) AND t.table_schema {_OURS} "
        "UNION ALL SELECT o.owner, o.object_name, r.name FROM all_objects o CROSS JOIN "
        "(SELECT 'SELECT' AS name FROM dual UNION ALL SELECT 'INSERT' FROM dual UNION ALL SELECT 'UPDATE' FROM dual "
        "UNION ALL SELECT 'DELETE' FROM dual UNION ALL SELECT 'EXECUTE' FROM dual) r "
        "WHERE o.owner = SYS_CONTEXT('USERENV', 'SESSION_USER') "
        "AND o.object_type IN ('TABLE', 'VIEW', 'PROCEDURE', 'FUNCTION', 'PACKAGE')"
    ),
    "clock": "SELECT SYS_EXTRACT_UTC(SYSTIMESTAMP) FROM dual",
    "delay": "SELECT COUNT(*) FROM all_objects a, all_objects b, all_objects c",
    "charset_literal": f"SELECT '{CHINESE}' FROM dual",
    "charset_bind": "SELECT :words FROM dual",
}


class OracleReader:
    """See the port."""

    statements: ClassVar[Mapping[str, str]] = STATEMENTS
    plans_writes_read_only: ClassVar[bool] = True

    def read(self, session: Session) -> Catalogue:
        """See the port. A right on a package is a right on each of its procedures; a synonym is its target."""
        user, database, schema, charset = rows_of(session, STATEMENTS["login"])[0]
        powers = tuple(str(row[0]) for row in rows_of(session, STATEMENTS["powers"]))
        names = ("tables", "columns", "keys", "indexes", "routines", "parameters", "rights")
        blocks: dict[str, list[tuple[Any, ...]]] = {name: rows_of(session, STATEMENTS[name]) for name in names}
        for row in blocks["routines"]:
            owner, _, package = str(row[0]).partition(".")
            if package:
                own = [right for right in blocks["rights"] if (right[0], right[1]) == (owner, package)]
                blocks["rights"].extend((row[0], row[1], right[2]) for right in own)
        _follow_synonyms(blocks)
        login = Login(str(user), str(database), str(charset), tuple(dict.fromkeys((str(schema), str(user)))), powers)
        return assemble("oracle", login, blocks)

    def charset(self, session: Session) -> str:
        """See the port."""
        return charset_answer(session, STATEMENTS["charset_literal"], STATEMENTS["charset_bind"])

    def explain(self, session: Session, sql: str, values: Mapping[str, Any]) -> Plan:
        """Nothing: EXPLAIN PLAN writes into PLAN_TABLE, which a read-only login has not."""
        return Plan((), (), ())

    def describe(self, session: Session, sql: str, values: Mapping[str, Any]) -> tuple[str, ...]:
        """See the port."""
        return session.run(f"SELECT * FROM ({sql}\n) WHERE 1 = 0", values, max_rows=0).columns

    def prepare(self, session: Session, sql: str, values: Mapping[str, Any]) -> bool:
        """See the port. Oracle has no way to check DML that neither runs it nor writes a plan."""
        return False

    def savepoint(self) -> tuple[str, str]:
        """See the port."""
        return "SAVEPOINT his160_rehearsal", "ROLLBACK TO SAVEPOINT his160_rehearsal"


def _follow_synonyms(blocks: dict[str, list[tuple[Any, ...]]]) -> None:
    """A synonym gets the columns, keys, indexes and rights of what it stands for."""
    real = [row for row in blocks["tables"] if row[2] != "synonym"]
    kinds = {(row[0], row[1]): row for row in real}
    found = list(real)
    for owner, name, kind, target in blocks["tables"]:
        if kind != "synonym" or (owner, name) in kinds:
            continue
        there = tuple(str(target).split(".", 1))
        meant = kinds.get((there[0], there[-1]))
        if meant is None:
            continue
        found.append((owner, name, meant[2], meant[3]))
        for block in ("columns", "keys", "indexes", "rights"):
            blocks[block].extend([(owner, name, *row[2:]) for row in blocks[block] if tuple(row[:2]) == there])
    blocks["tables"] = found
