"""SQL Server: sys views of the current database; comments are the extended property MS_Description.

Rights through fn_my_permissions' set form, HAS_PERMS_BY_NAME, so that roles count. Needs no right beyond those on the
objects themselves: a login sees the metadata of what it has a right on (VIEW DEFINITION shows the rest).
"""

# Constants of this file and checked statements are put together, never values.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from his_db.catalogue.assemble import assemble
from his_db.catalogue.model import Catalogue, Login
from his_db.catalogue.reader import CHINESE, Plan, charset_answer, rows_of
from his_db.engine import Session
from his_db.held_connection import CallError
from his_db.mapping.sql_text import tokens

_TYPE: Final = (
    "y.name + CASE WHEN y.name IN ('nchar', 'nvarchar') AND c.max_length > 0 "
    "THEN '(' + CAST(c.max_length / 2 AS varchar(10)) + ')' "
    "WHEN y.name IN ('char', 'varchar', 'binary', 'varbinary') AND c.max_length > 0 "
    "THEN '(' + CAST(c.max_length AS varchar(10)) + ')' WHEN c.max_length = -1 THEN '(max)' "
    "WHEN y.name IN ('decimal', 'numeric') THEN '(' + CAST(c.precision AS varchar(10)) + ',' "
    "+ CAST(c.scale AS varchar(10)) + ')' ELSE '' END"
)

STATEMENTS: Final[Mapping[str, str]] = {
    "login": (
        "SELECT SUSER_SNAME(), DB_NAME(), CAST(DATABASEPROPERTYEX(DB_NAME(), 'Collation') AS nvarchar(128)), "
        "SCHEMA_NAME(), IS_SRVROLEMEMBER('sysadmin'), IS_SRVROLEMEMBER('securityadmin'), IS_MEMBER('db_owner')"
    ),
    "tables": (
        "SELECT s.name, o.name, CASE o.type WHEN 'V' THEN 'view' ELSE 'table' END, CAST(e.value AS nvarchar(400)) "
        "FROM sys.objects o JOIN sys.schemas s ON s.schema_id = o.schema_id "
        "LEFT JOIN sys.extended_properties e ON e.class = 1 AND e.major_id = o.object_id AND e.minor_id = 0 "
        "AND e.name = 'MS_Description' WHERE o.type IN ('U', 'V') AND o.is_ms_shipped = 0 "
        "UNION ALL SELECT s.name, n.name, 'table', n.base_object_name FROM sys.synonyms n "
        "JOIN sys.schemas s ON s.schema_id = n.schema_id ORDER BY 1, 2"
    ),
    "columns": (
        f"SELECT s.name, o.name, c.name, {_TYPE}, c.is_nullable, CAST(e.value AS nvarchar(400)) FROM sys.columns c "
        "JOIN sys.objects o ON o.object_id = c.object_id JOIN sys.schemas s ON s.schema_id = o.schema_id "
        "JOIN sys.types y ON y.user_type_id = c.user_type_id "
        "LEFT JOIN sys.extended_properties e ON e.class = 1 AND e.major_id = c.object_id "
        "AND e.minor_id = c.column_id AND e.name = 'MS_Description' "
        "WHERE o.type IN ('U', 'V') AND o.is_ms_shipped = 0 ORDER BY s.name, o.name, c.column_id"
    ),
    "keys": (
        "SELECT s.name, o.name, c.name FROM sys.indexes i JOIN sys.objects o ON o.object_id = i.object_id "
        "JOIN sys.schemas s ON s.schema_id = o.schema_id "
        "JOIN sys.index_columns k ON k.object_id = i.object_id AND k.index_id = i.index_id "
        "JOIN sys.columns c ON c.object_id = k.object_id AND c.column_id = k.column_id "
        "WHERE i.is_primary_key = 1 AND o.is_ms_shipped = 0 ORDER BY s.name, o.name, k.key_ordinal"
    ),
    "indexes": (
        "SELECT s.name, o.name, i.name, i.is_unique, c.name FROM sys.indexes i "
        "JOIN sys.objects o ON o.object_id = i.object_id JOIN sys.schemas s ON s.schema_id = o.schema_id "
        "JOIN sys.index_columns k ON k.object_id = i.object_id AND k.index_id = i.index_id AND k.key_ordinal > 0 "
        "JOIN sys.columns c ON c.object_id = k.object_id AND c.column_id = k.column_id "
        "WHERE o.is_ms_shipped = 0 AND i.is_disabled = 0 ORDER BY s.name, o.name, i.name, k.key_ordinal"
    ),
    "routines": (
        "SELECT s.name, o.name, o.object_id, CASE WHEN o.type IN ('P', 'PC') THEN 'procedure' ELSE 'function' END, "
        "CAST(e.value AS nvarchar(400)), 0, m.definition, '' FROM sys.objects o "
        "JOIN sys.schemas s ON s.schema_id = o.schema_id LEFT JOIN sys.sql_modules m ON m.object_id = o.object_id "
        "LEFT JOIN sys.extended_properties e ON e.class = 1 AND e.major_id = o.object_id AND e.minor_id = 0 "
        "AND e.name = 'MS_Description' "
        "WHERE o.type IN ('P', 'PC', 'FN', 'IF', 'TF', 'FS', 'FT') AND o.is_ms_shipped = 0 ORDER BY s.name, o.name"
    ),
    "parameters": (
        "SELECT s.name, o.name, o.object_id, c.name, CASE WHEN c.parameter_id = 0 THEN 'return' "
        f"WHEN c.is_output = 1 THEN 'inout' ELSE 'in' END, {_TYPE}, c.has_default_value FROM sys.parameters c "
        "JOIN sys.objects o ON o.object_id = c.object_id JOIN sys.schemas s ON s.schema_id = o.schema_id "
        "JOIN sys.types y ON y.user_type_id = c.user_type_id WHERE o.is_ms_shipped = 0 "
        "ORDER BY s.name, o.name, c.parameter_id"
    ),
    "rights": (
        "SELECT s.name, o.name, p.name FROM sys.objects o JOIN sys.schemas s ON s.schema_id = o.schema_id "
        "CROSS JOIN (SELECT 'SELECT' AS name UNION ALL SELECT 'INSERT' UNION ALL SELECT 'UPDATE' "
        "UNION ALL SELECT 'DELETE' UNION ALL SELECT 'EXECUTE') p "
        "WHERE o.is_ms_shipped = 0 AND o.type IN ('U', 'V', 'P', 'PC', 'FN', 'IF', 'TF', 'FS', 'FT') "
        "AND HAS_PERMS_BY_NAME(QUOTENAME(s.name) + '.' + QUOTENAME(o.name), 'OBJECT', p.name) = 1"
    ),
    "describe": (
        "SELECT r.name, r.error_message FROM sys.dm_exec_describe_first_result_set(:statement, NULL, 0) r "
        "ORDER BY r.column_ordinal"
    ),
    "clock": "SELECT SYSUTCDATETIME()",
    "delay": (
        "WITH c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 50000000) "
        "SELECT MAX(n) FROM c OPTION (MAXRECURSION 0)"
    ),
    "charset_literal": f"SELECT N'{CHINESE}'",
    "charset_bind": "SELECT CAST(:words AS nvarchar(100))",
}


class DescribeRefused(CallError):
    """SQL Server could not make sense of a statement; the text is its own and names objects, never values."""


class MssqlReader:
    """See the port."""

    statements: ClassVar[Mapping[str, str]] = STATEMENTS
    plans_writes_read_only: ClassVar[bool] = True

    def read(self, session: Session) -> Catalogue:
        """See the port. An OUTPUT parameter of SQL Server is always INOUT; CHECKs treat it as either.

        Ownership chaining lets a procedure touch the tables of its own owner without rights of ours: never invoker.
        """
        user, database, collation, schema, sysadmin, security, owner = rows_of(session, STATEMENTS["login"])[0]
        powers = [
            name for name, has in (("sysadmin", sysadmin), ("securityadmin", security), ("db_owner", owner)) if has == 1
        ]
        names = ("tables", "columns", "keys", "indexes", "routines", "parameters", "rights")
        blocks = {name: rows_of(session, STATEMENTS[name]) for name in names}
        search = tuple(dict.fromkeys((str(schema), "dbo")))
        return assemble("mssql", Login(str(user), str(database), str(collation), search, tuple(powers)), blocks)

    def charset(self, session: Session) -> str:
        """See the port."""
        return charset_answer(session, STATEMENTS["charset_literal"], STATEMENTS["charset_bind"])

    def explain(self, session: Session, sql: str, values: Mapping[str, Any]) -> Plan:
        """Nothing: SHOWPLAN needs a right of its own and changes the session."""
        return Plan((), (), ())

    def describe(self, session: Session, sql: str, values: Mapping[str, Any]) -> tuple[str, ...]:
        """See the port. Raises DescribeRefused with the server's sentence."""
        rows = rows_of(session, STATEMENTS["describe"], {"statement": _with_nulls(sql)})
        refused = next((str(row[1]) for row in rows if row[1]), "")
        if refused:
            raise DescribeRefused(refused)
        return tuple(str(row[0]) for row in rows)

    def prepare(self, session: Session, sql: str, values: Mapping[str, Any]) -> bool:
        """See the port. A write has no result set; the server still compiles it to say so."""
        self.describe(session, sql, values)
        return True

    def savepoint(self) -> tuple[str, str]:
        """See the port."""
        return "SAVE TRANSACTION his160_rehearsal", "ROLLBACK TRANSACTION his160_rehearsal"


def _with_nulls(sql: str) -> str:
    return "".join("NULL" if token.sort == "bind" else token.text for token in tokens(sql))
