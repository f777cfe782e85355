"""A sample HIS on SQL Server or Oracle: the statements of its PostgreSQL port, said in the server's dialect.

Rows and statements are written once, for PostgreSQL; a `Dialect` holds the few rules by which they differ. Everything
goes through the product's own engine, so that the drivers and urls are those of a site.
"""

# ruff: noqa: S608 - the composed parts are constants of the samples; every value is bound
from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from his_db.engine import Engine, ProcedurePlan, Rows, Session
from his_db.source import engine_for, settings_from_url

_MANY = 100_000
_MADE = re.compile(
    r"^CREATE (?:OR REPLACE )?(TABLE|VIEW|PROCEDURE|FUNCTION|TYPE|SEQUENCE|PACKAGE)\s+(?!BODY\b)([\w.]+)", re.MULTILINE
)
_UNIT = re.compile(r"CREATE\s+(?:OR\s+REPLACE\s+)?(?:PACKAGE|PROCEDURE|FUNCTION|TRIGGER|TYPE)\b", re.IGNORECASE)
_OPAQUE = re.compile(r"'(?:[^']|'')*'|--[^\n]*")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a server says what PostgreSQL says: rules of rewriting in order, batches, dropping.

    `counted`: tables of the port whose key the server counts itself: rows with a key of ours need IDENTITY_INSERT.
    """

    engine: str
    rules: tuple[tuple[str, str], ...]
    batches: Callable[[str], list[str]]
    drop: Callable[[str, str], str]
    counted: Mapping[str, str]

    def say(self, sql: str) -> str:
        """The statement in this dialect."""
        for old, new in self.rules:
            sql = re.sub(old, new, sql, flags=re.DOTALL)
        return sql


class Desk:
    """One session of a sample on its server: what `his_db.samples.tables` does on a SQLAlchemy connection."""

    def __init__(self, session: Session, dialect: Dialect) -> None:
        self._session = session
        self._dialect = dialect

    def run(self, sql: str, binds: Mapping[str, object]) -> Rows:
        """One statement of the port."""
        return self._session.run(self._dialect.say(sql), binds, max_rows=_MANY)

    def rows(self, sql: str, binds: Mapping[str, object]) -> list[dict[str, Any]]:
        """Its rows; names in lower case."""
        found = self.run(sql, binds)
        names = [name.lower() for name in found.columns]
        return [dict(zip(names, row, strict=True)) for row in found.rows]

    def call(self, plan: ProcedurePlan, values: Mapping[str, object]) -> Mapping[str, Any]:
        """A procedure of the HIS: its OUT values by parameter."""
        return self._session.call(plan, values, max_rows=_MANY).out

    def bulk(self, table: str, columns: str, rows: Iterable[Sequence[object]]) -> int:
        """Inserts all rows one by one; `columns` are names separated by blanks. Returns their number."""
        names = columns.split()
        binds = ", ".join(f":{name}" for name in names)
        statement = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({binds})"
        counted = self._dialect.counted.get(table) in names
        if counted:
            self.run(f"SET IDENTITY_INSERT {table} ON", {})
        number, statement = 0, self._dialect.say(statement)
        for row in rows:
            self._session.run(statement, dict(zip(names, row, strict=True)), max_rows=1)
            number += 1
        if counted:
            self.run(f"SET IDENTITY_INSERT {table} OFF", {})
        return number


class DeskPool:
    """Desks of one server; as SQLAlchemy's Engine, as far as the window programs use it. Each desk is a session."""

    def __init__(self, url: str, dialect: Dialect, engine: Engine | None = None) -> None:
        self._engine = engine or engine_for(settings_from_url("his", url))
        self._dialect = dialect

    @contextmanager
    def connect(self) -> Iterator[Desk]:
        """A desk whose every statement is committed."""
        session = self._engine.open(read_only=False)
        try:
            yield Desk(session, self._dialect)
        finally:
            session.close()

    @contextmanager
    def begin(self) -> Iterator[Desk]:
        """A desk with one transaction, rolled back by an error."""
        session = self._engine.open(read_only=False)
        try:
            session.begin()
            try:
                yield Desk(session, self._dialect)
            except BaseException:
                session.rollback()
                raise
            session.commit()
        finally:
            session.close()

    def build(self, scripts: Sequence[str]) -> None:
        """Drops what the scripts make and runs them, batch by batch. Not in a transaction: DDL commits in Oracle."""
        made = [found for script in scripts for found in _MADE.findall(script)]
        drops = [self._dialect.drop(kind, name) for kind, name in reversed(made)]
        session = self._engine.open(read_only=False)
        try:
            for batch in (*drops, *(batch for script in scripts for batch in self._dialect.batches(script))):
                session.run(batch, {}, max_rows=1)
        finally:
            session.close()

    def dispose(self) -> None:
        """Gives the engine back."""
        self._engine.dispose()


def go_batches(script: str) -> list[str]:
    """The batches of a script for sqlcmd: a line `GO` ends one."""
    parts = re.split(r"^[ \t]*GO[ \t]*;?[ \t]*$", script, flags=re.MULTILINE | re.IGNORECASE)
    return [part.strip() for part in parts if _code(part)]


def slash_batches(script: str) -> list[str]:
    """The statements of a script for SQL*Plus: `;` at a line's end ends a plain one, a line `/` a PL/SQL unit."""
    found: list[str] = []
    lines: list[str] = []
    for line in script.splitlines():
        if not lines and not _code(line):
            continue
        unit = bool(lines) and _UNIT.match(lines[0]) is not None
        if line.strip() == "/":
            found.append("\n".join(lines).strip())
            lines = []
            continue
        lines.append(line)
        if not unit and not _UNIT.match(lines[0]):
            text = "\n".join(lines)
            bare = _OPAQUE.sub(lambda m: "" if m[0].startswith("-") else "x" * len(m[0]), text).rstrip()
            if bare.endswith(";") and "'" not in bare:  # else a literal goes on in the next line
                found.append(_OPAQUE.sub(lambda m: "" if m[0].startswith("-") else m[0], text).rstrip()[:-1].strip())
                lines = []
    if _code("\n".join(lines)):
        found.append("\n".join(lines).strip())
    return [batch for batch in found if batch]


def _code(text: str) -> str:
    """What is left without comments and blanks."""
    return re.sub(r"--[^\n]*", "", text).strip()
