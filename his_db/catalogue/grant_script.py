"""The least-privilege GRANT script of an engine, from rights by object. Names are quoted as the engine stores them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from his_db.catalogue.model import Catalogue, Name

_ORDER: Final = ("SELECT", "INSERT", "UPDATE", "DELETE", "EXECUTE")


@dataclass(frozen=True, slots=True)
class GrantScript:
    """Statements for the DBA to read and run, comments first. `account`: whom they are for."""

    engine: str
    account: str
    comments: tuple[str, ...]
    statements: tuple[str, ...]

    def text(self) -> str:
        """The script."""
        return "\n".join([*(f"-- {line}" for line in self.comments), *(f"{line};" for line in self.statements), ""])


def grant_script(
    catalogue: Catalogue,
    rights: Mapping[Name, frozenset[str]],
    account: str,
    *,
    sequences: Iterable[Name] = (),
    comments: Sequence[str] = (),
) -> GrantScript:
    """The script for `account`. SQLite has no rights: the script only says so."""
    if catalogue.engine == "sqlite":
        words = "SQLite has no accounts: file rights of the service's user / SQLite 没有账号权限，请控制文件权限"
        return GrantScript("sqlite", account, (*comments, words), ())
    statements: list[str] = []
    to = _account(catalogue.engine, account)
    if catalogue.engine == "postgresql":
        statements.append(f"GRANT CONNECT ON DATABASE {quoted('postgresql', catalogue.login.database)} TO {to}")
        schemas = sorted({name.schema for name in (*rights, *sequences)})
        statements += [f"GRANT USAGE ON SCHEMA {quoted('postgresql', schema)} TO {to}" for schema in schemas]
    if catalogue.engine == "oracle":
        statements.append(f"GRANT CREATE SESSION TO {to}")
    for name, needed in sorted(rights.items()):
        statements.extend(_one(catalogue, name, needed, to))
    for name in sorted(sequences):
        statements.append(f"GRANT USAGE ON SEQUENCE {_object('postgresql', name.schema, name.name)} TO {to}")
    return GrantScript(catalogue.engine, account, tuple(comments), tuple(dict.fromkeys(statements)))


def _one(catalogue: Catalogue, name: Name, needed: frozenset[str], to: str) -> list[str]:
    engine = catalogue.engine
    table = catalogue.tables.get(name)
    if table is not None:
        names = ", ".join(right for right in _ORDER if right in needed and right != "EXECUTE")
        return [f"GRANT {names} ON {_object(engine, table.schema, table.name)} TO {to}"] if names else []
    found: list[str] = []
    for routine in catalogue.routines.get(name, ()):
        target = _object(engine, routine.schema, routine.name)
        if engine == "postgresql":
            target = f"{routine.kind.upper()} {target}({routine.signature})"
        elif engine == "mysql":
            target = f"{routine.kind.upper()} {target}"
        elif engine == "oracle" and "." in routine.schema:
            target = _object(engine, *routine.schema.split(".", 1))  # a right on the package
        found.append(f"GRANT EXECUTE ON {target} TO {to}")
    return found


def _account(engine: str, account: str) -> str:
    if engine == "mysql":
        user, _, host = account.partition("@")
        return f"'{_escaped(user)}'@'{_escaped(host or '%')}'"
    return quoted(engine, account.upper() if engine == "oracle" and account.isidentifier() else account)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "''")


def _object(engine: str, schema: str, name: str) -> str:
    return ".".join(quoted(engine, part) for part in (schema, name) if part)


def quoted(engine: str, name: str) -> str:
    """One name as the engine stores it, in the engine's quotes."""
    if engine == "mssql":
        return "[" + name.replace("]", "]]") + "]"
    if engine == "mysql":
        return "`" + name.replace("`", "``") + "`"
    return '"' + name.replace('"', '""') + '"'
