"""SQLite: pragmas as tables. No rights, no routines, no comments but those inside the CREATE statement."""

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

_INDEX: Final = re.compile(
    r"(?:SEARCH|SCAN) (\S+) USING (?:(?:PARTIAL )?(?:COVERING )?INDEX (\S+)|(INTEGER PRIMARY KEY))"
)
_SCAN: Final = re.compile(r"^SCAN (?!CONSTANT ROW)(\S+)")
_COMMENTED: Final = re.compile(r"^\s*[\"`\[]?(\w+)[\"`\]]?\s[^\n]*?--\s*(.+)$", re.MULTILINE)

STATEMENTS: Final[Mapping[str, str]] = {
    "charset_name": "SELECT encoding FROM pragma_encoding",
    "tables": (
        "SELECT '', name, type, '' FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' "
        "ESCAPE '\\' ORDER BY name"
    ),
    "texts": "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND sql IS NOT NULL",
    "columns": (
        "SELECT '', m.name, c.name, c.type, 1 - c.\"notnull\", '' FROM sqlite_master m "
        "JOIN pragma_table_info(m.name) c WHERE m.type IN ('table', 'view') ORDER BY m.name, c.cid"
    ),
    "keys": (
        "SELECT '', m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c "
        "WHERE m.type = 'table' AND c.pk > 0 ORDER BY m.name, c.pk"
    ),
    "indexes": (
        "SELECT '', m.name, i.name, i.\"unique\", c.name FROM sqlite_master m JOIN pragma_index_list(m.name) i "
        "JOIN pragma_index_info(i.name) c WHERE m.type = 'table' ORDER BY m.name, i.name, c.seqno"
    ),
    "clock": "SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')",
    "delay": (
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 50000000) SELECT max(n) FROM c"
    ),
    "charset_literal": f"SELECT '{CHINESE}'",
    "charset_bind": "SELECT :words",
}


class SqliteReader:
    """See the port."""

    statements: ClassVar[Mapping[str, str]] = STATEMENTS
    plans_writes_read_only: ClassVar[bool] = True

    def read(self, session: Session) -> Catalogue:
        """See the port. The file's owner may do everything, so every table has every right."""
        encoding = str(rows_of(session, STATEMENTS["charset_name"])[0][0])
        tables = rows_of(session, STATEMENTS["tables"])
        comments = {
            (str(name).lower(), column.lower()): text.strip()
            for name, sql in rows_of(session, STATEMENTS["texts"])
            for column, text in _COMMENTED.findall(str(sql))
        }
        columns = [
            (*row[:5], comments.get((str(row[1]).lower(), str(row[2]).lower()), ""))
            for row in rows_of(session, STATEMENTS["columns"])
        ]
        blocks = {
            "tables": tables,
            "columns": columns,
            "keys": rows_of(session, STATEMENTS["keys"]),
            "indexes": rows_of(session, STATEMENTS["indexes"]),
            "rights": [
                ("", row[1], right)
                for row in tables
                for right in (("SELECT",) if row[2] == "view" else ("SELECT", "INSERT", "UPDATE", "DELETE"))
            ],
        }
        return assemble("sqlite", Login("", "", encoding, ("",)), blocks)

    def charset(self, session: Session) -> str:
        """See the port."""
        return charset_answer(session, STATEMENTS["charset_literal"], STATEMENTS["charset_bind"])

    def explain(self, session: Session, sql: str, values: Mapping[str, Any]) -> Plan:
        """See the port."""
        lines = tuple(str(row[3]) for row in rows_of(session, f"EXPLAIN QUERY PLAN {sql}", values))
        indexes = tuple((match[1], match[2] or match[3]) for line in lines for match in _INDEX.finditer(line))
        return Plan(
            lines,
            tuple(dict.fromkeys(indexes)),
            tuple(match[1] for line in lines if "USING" not in line and (match := _SCAN.match(line))),
        )

    def describe(self, session: Session, sql: str, values: Mapping[str, Any]) -> tuple[str, ...]:
        """See the port."""
        return session.run(f"SELECT * FROM ({sql}\n) WHERE 1 = 0", values, max_rows=0).columns

    def prepare(self, session: Session, sql: str, values: Mapping[str, Any]) -> bool:
        """See the port."""
        session.run(f"EXPLAIN {sql}", values, max_rows=10_000)
        return True

    def savepoint(self) -> tuple[str, str]:
        """See the port."""
        return "SAVEPOINT his160_rehearsal", "ROLLBACK TO SAVEPOINT his160_rehearsal"
