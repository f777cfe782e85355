"""MySQL and MariaDB: information_schema, which shows a login what it has rights on. A schema here is a database."""

# Constants of this file and checked statements are put together, never values.
# ruff: noqa: S608

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

from his_db.catalogue.assemble import assemble
from his_db.catalogue.model import Catalogue, Login
from his_db.catalogue.reader import CHINESE, Plan, charset_answer, rows_of
from his_db.engine import Session

_OURS: Final = "NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')"
_GRANT: Final = re.compile(r"^GRANT (?P<rights>.+?) ON (?P<sort>PROCEDURE |FUNCTION )?(?P<on>\S+) TO ", re.IGNORECASE)
_POWERS: Final = frozenset({"SUPER", "GRANT OPTION", "CREATE USER", "FILE", "SHUTDOWN", "RELOAD"})
_ALL: Final = ("SELECT", "INSERT", "UPDATE", "DELETE", "EXECUTE")

STATEMENTS: Final[Mapping[str, str]] = {
    "login": "SELECT CURRENT_USER(), DATABASE(), @@character_set_database",
    "grants": "SHOW GRANTS",
    "tables": (
        "SELECT table_schema, table_name, CASE WHEN table_type LIKE '%VIEW' THEN 'view' ELSE 'table' END, "
        "CASE WHEN table_comment = 'VIEW' THEN '' ELSE table_comment END "
        f"FROM information_schema.tables WHERE table_schema {_OURS} ORDER BY table_schema, table_name"
    ),
    "columns": (
        "SELECT table_schema, table_name, column_name, column_type, CASE WHEN is_nullable = 'YES' THEN 1 ELSE 0 END, "
        f"column_comment FROM information_schema.columns WHERE table_schema {_OURS} "
        "ORDER BY table_schema, table_name, ordinal_position"
    ),
    "keys": (
        "SELECT table_schema, table_name, column_name FROM information_schema.statistics "
        f"WHERE index_name = 'PRIMARY' AND table_schema {_OURS} ORDER BY table_schema, table_name, seq_in_index"
    ),
    "indexes": (
        "SELECT table_schema, table_name, index_name, 1 - non_unique, column_name FROM information_schema.statistics "
        f"WHERE table_schema {_OURS} ORDER BY table_schema, table_name, index_name, seq_in_index"
    ),
    "routines": (
        "SELECT routine_schema, routine_name, specific_name, LOWER(routine_type), routine_comment, "
        "CASE WHEN security_type = 'INVOKER' THEN 1 ELSE 0 END, routine_definition, '' "
        f"FROM information_schema.routines WHERE routine_schema {_OURS} ORDER BY routine_schema, routine_name"
    ),
    "parameters": (
        "SELECT specific_schema, specific_name, specific_name, parameter_name, "
        "CASE WHEN ordinal_position = 0 THEN 'return' ELSE LOWER(parameter_mode) END, dtd_identifier, 0 "
        f"FROM information_schema.parameters WHERE specific_schema {_OURS} "
        "ORDER BY specific_schema, specific_name, ordinal_position"
    ),
    "clock": "SELECT UTC_TIMESTAMP(6)",
    "delay": "SELECT SLEEP(20)",
    "charset_literal": f"SELECT '{CHINESE}'",
    "charset_bind": "SELECT :words",
}


class MysqlReader:
    """See the port."""

    statements: ClassVar[Mapping[str, str]] = STATEMENTS
    plans_writes_read_only: ClassVar[bool] = False

    def read(self, session: Session) -> Catalogue:
        """See the port."""
        user, database, charset = rows_of(session, STATEMENTS["login"])[0]
        names = ("tables", "columns", "keys", "indexes", "routines", "parameters")
        blocks: dict[str, list[tuple[Any, ...]]] = {name: rows_of(session, STATEMENTS[name]) for name in names}
        grants = [str(row[0]) for row in rows_of(session, STATEMENTS["grants"])]
        objects = [(str(row[0]), str(row[1]), False) for row in blocks["tables"]]
        objects += [(str(row[0]), str(row[1]), True) for row in blocks["routines"]]
        blocks["rights"] = list(_rights(grants, objects))
        return assemble("mysql", Login(str(user), str(database), charset, (str(database),), _powers(grants)), blocks)

    def charset(self, session: Session) -> str:
        """See the port."""
        return charset_answer(session, STATEMENTS["charset_literal"], STATEMENTS["charset_bind"])

    def explain(self, session: Session, sql: str, values: Mapping[str, Any]) -> Plan:
        """See the port."""
        found = session.run(f"EXPLAIN {sql}", values, max_rows=1000)
        at = {name.lower(): index for index, name in enumerate(found.columns)}
        lines = tuple(" | ".join("" if value is None else str(value) for value in row) for row in found.rows)
        if not {"table", "type", "key"} <= at.keys():
            return Plan(lines, (), ())
        # "<derived2>" and "<union1,2>" are made by the statement itself; their "key0" is no index of the HIS.
        read = [row for row in found.rows if not str(row[at["table"]]).startswith("<")]
        indexes = [(str(row[at["table"]]), str(row[at["key"]])) for row in read if row[at["key"]]]
        scans = [str(row[at["table"]]) for row in read if row[at["type"]] == "ALL"]
        return Plan(lines, tuple(dict.fromkeys(indexes)), tuple(dict.fromkeys(scans)))

    def describe(self, session: Session, sql: str, values: Mapping[str, Any]) -> tuple[str, ...]:
        """See the port."""
        return session.run(f"SELECT * FROM ({sql}\n) his160 LIMIT 0", values, max_rows=0).columns

    def prepare(self, session: Session, sql: str, values: Mapping[str, Any]) -> bool:
        """See the port."""
        rows_of(session, f"EXPLAIN {sql}", values)
        return True

    def savepoint(self) -> tuple[str, str]:
        """See the port."""
        return "SAVEPOINT his160_rehearsal", "ROLLBACK TO SAVEPOINT his160_rehearsal"


def _parsed(grants: list[str]) -> Iterator[tuple[frozenset[str], str]]:
    for line in grants:
        match = _GRANT.match(line)
        if match is None:
            continue
        words = re.sub(r"\([^)]*\)", "", match["rights"]).upper().split(",")
        rights = {word.strip() for word in words}
        if rights & {"ALL PRIVILEGES", "ALL"}:
            rights |= set(_ALL)
        yield frozenset(rights), match["on"].replace("`", "").lower()


def _rights(grants: list[str], objects: list[tuple[str, str, bool]]) -> Iterator[tuple[str, str, str]]:
    for rights, on in _parsed(grants):
        schema, _, name = on.partition(".")
        pattern = re.compile(re.escape(schema.replace("\\_", "_")).replace("%", ".*") if schema != "*" else ".*")
        for their_schema, their_name, is_routine in objects:
            if not pattern.fullmatch(their_schema.lower()) or name not in {"*", their_name.lower()}:
                continue
            for right in _ALL:
                if right in rights and (right == "EXECUTE") == is_routine:
                    yield their_schema, their_name, right


def _powers(grants: list[str]) -> tuple[str, ...]:
    found = {right for rights, on in _parsed(grants) if on == "*.*" for right in rights & _POWERS}
    if any("ALL PRIVILEGES" in rights and on == "*.*" for rights, on in _parsed(grants)):
        found.add("ALL PRIVILEGES")
    return tuple(sorted(found))
