"""PostgreSQL (also Kingbase, openGauss): pg_catalog. Rights through has_…_privilege, so that roles and PUBLIC count."""

# Constants of this file and checked statements are put together, never values.
# ruff: noqa: S608

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from his_db.catalogue.assemble import assemble
from his_db.catalogue.model import Catalogue, Login
from his_db.catalogue.reader import CHINESE, Plan, charset_answer, rows_of
from his_db.engine import Session

_OURS: Final = (
    "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%' "
    "AND n.nspname NOT LIKE 'pg\\_temp%'"
)
_INDEX: Final = re.compile(r"Index(?: Only)? Scan(?: Backward)? using (\S+) on (\S+)|Bitmap Index Scan on (\S+)")
_SCAN: Final = re.compile(r"Seq Scan on (\S+)")

STATEMENTS: Final[Mapping[str, str]] = {
    "login": (
        "SELECT current_user, current_database(), current_setting('server_encoding'), "
        "array_to_string(current_schemas(false), ','), r.rolsuper, r.rolcreaterole, r.rolcreatedb "
        "FROM pg_roles r WHERE r.rolname = current_user"
    ),
    "tables": (
        "SELECT n.nspname, c.relname, CASE WHEN c.relkind IN ('v', 'm') THEN 'view' ELSE 'table' END, "
        "obj_description(c.oid, 'pg_class') FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        f"WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND {_OURS} ORDER BY 1, 2"
    ),
    "columns": (
        "SELECT n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod), "
        "CASE WHEN a.attnotnull THEN 0 ELSE 1 END, col_description(c.oid, a.attnum) FROM pg_attribute a "
        "JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
        f"WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0 AND NOT a.attisdropped AND {_OURS} "
        "ORDER BY 1, 2, a.attnum"
    ),
    "keys": (
        "SELECT n.nspname, c.relname, a.attname FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid "
        "JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN LATERAL unnest(k.conkey) WITH ORDINALITY "
        "AS u(attnum, place) JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.attnum "
        f"WHERE k.contype = 'p' AND {_OURS} ORDER BY 1, 2, u.place"
    ),
    "indexes": (
        "SELECT n.nspname, c.relname, x.relname, CASE WHEN i.indisunique THEN 1 ELSE 0 END, a.attname FROM pg_index i "
        "JOIN pg_class c ON c.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid "
        "JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY "
        "AS u(attnum, place) LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.attnum AND u.attnum > 0 "
        f"WHERE {_OURS} ORDER BY 1, 2, 3, u.place"
    ),
    "routines": (
        "SELECT n.nspname, p.proname, p.oid, CASE p.prokind WHEN 'p' THEN 'procedure' ELSE 'function' END, "
        "obj_description(p.oid, 'pg_proc'), CASE WHEN p.prosecdef THEN 0 ELSE 1 END, p.prosrc, "
        "pg_get_function_identity_arguments(p.oid) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
        f"WHERE p.prokind IN ('p', 'f') AND {_OURS} ORDER BY 1, 2, 3"
    ),
    "parameters": (
        "SELECT n.nspname, p.proname, p.oid, p.proargnames[u.place], "
        "CASE COALESCE(p.proargmodes[u.place], 'i') WHEN 'o' THEN 'out' WHEN 'b' THEN 'inout' WHEN 't' THEN 'column' "
        "ELSE 'in' END, format_type(u.type, NULL), "
        "CASE WHEN u.place > p.pronargs - p.pronargdefaults AND u.place <= p.pronargs THEN 1 ELSE 0 END FROM pg_proc p "
        "JOIN pg_namespace n ON n.oid = p.pronamespace "
        "CROSS JOIN LATERAL unnest(COALESCE(p.proallargtypes, p.proargtypes::oid[])) WITH ORDINALITY AS u(type, place) "
        f"WHERE p.prokind IN ('p', 'f') AND {_OURS} ORDER BY 1, 2, 3, u.place"
    ),
    "rights": (
        "SELECT n.nspname, c.relname, r.name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "CROSS JOIN (VALUES ('SELECT'), ('INSERT'), ('UPDATE'), ('DELETE')) AS r(name) "
        f"WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND {_OURS} AND has_schema_privilege(n.oid, 'USAGE') "
        "AND (has_table_privilege(c.oid, r.name) "
        "OR (r.name <> 'DELETE' AND has_any_column_privilege(c.oid, r.name))) "
        "UNION ALL SELECT n.nspname, p.proname, 'EXECUTE' FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
        f"WHERE p.prokind IN ('p', 'f') AND {_OURS} AND has_schema_privilege(n.oid, 'USAGE') "
        "AND has_function_privilege(p.oid, 'EXECUTE')"
    ),
    "sequences": (
        "SELECT n.nspname, c.relname, t.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "LEFT JOIN pg_depend d ON d.refobjid = c.oid AND d.classid = 'pg_attrdef'::regclass "
        "LEFT JOIN pg_attrdef f ON f.oid = d.objid LEFT JOIN pg_class t ON t.oid = f.adrelid "
        f"WHERE c.relkind = 'S' AND {_OURS} ORDER BY 1, 2, 3"
    ),
    "clock": "SELECT clock_timestamp() AT TIME ZONE 'UTC'",
    "delay": "SELECT pg_sleep(20)",
    "charset_literal": f"SELECT '{CHINESE}'",
    "charset_bind": "SELECT CAST(:words AS text)",
}


class PostgresqlReader:
    """See the port."""

    statements: ClassVar[Mapping[str, str]] = STATEMENTS
    plans_writes_read_only: ClassVar[bool] = True

    def read(self, session: Session) -> Catalogue:
        """See the port."""
        user, database, charset, search, is_super, makes_roles, makes_databases = rows_of(session, STATEMENTS["login"])[
            0
        ]
        powers = [
            name
            for name, has in (("SUPERUSER", is_super), ("CREATEROLE", makes_roles), ("CREATEDB", makes_databases))
            if has
        ]
        names = ("tables", "columns", "keys", "indexes", "routines", "parameters", "rights")
        blocks = {name: rows_of(session, STATEMENTS[name]) for name in names}
        login = Login(user, database, charset, tuple(str(search).split(",")), tuple(powers))
        return assemble("postgresql", login, blocks)

    def sequences(self, session: Session) -> list[tuple[str, str, str]]:
        """Sequences: schema, sequence, and the table whose default draws from it (empty: none does)."""
        return [(str(a), str(b), str(c or "")) for a, b, c in rows_of(session, STATEMENTS["sequences"])]

    def charset(self, session: Session) -> str:
        """See the port."""
        return charset_answer(session, STATEMENTS["charset_literal"], STATEMENTS["charset_bind"])

    def explain(self, session: Session, sql: str, values: Mapping[str, Any]) -> Plan:
        """See the port."""
        lines = tuple(str(row[0]) for row in rows_of(session, f"EXPLAIN {sql}", values))
        indexes = [(match[2] or "", match[1] or match[3]) for line in lines for match in _INDEX.finditer(line)]
        scans = [match[1] for line in lines for match in _SCAN.finditer(line)]
        return Plan(lines, tuple(dict.fromkeys(indexes)), tuple(dict.fromkeys(scans)))

    def describe(self, session: Session, sql: str, values: Mapping[str, Any]) -> tuple[str, ...]:
        """See the port."""
        return session.run(f"SELECT * FROM ({sql}\n) his160 WHERE 1 = 0", values, max_rows=0).columns

    def prepare(self, session: Session, sql: str, values: Mapping[str, Any]) -> bool:
        """See the port. EXPLAIN plans an INSERT, UPDATE or DELETE and runs none of it; rights are not looked at."""
        rows_of(session, f"EXPLAIN {sql}", values)
        return True

    def savepoint(self) -> tuple[str, str]:
        """See the port."""
        return "SAVEPOINT his160_rehearsal", "ROLLBACK TO SAVEPOINT his160_rehearsal"
