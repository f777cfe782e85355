"""A scripted DBAPI: records what a session does and answers what a test told it. No server, the real exceptions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Set:
    """One answer of a statement: rows with columns, or a count without."""

    columns: tuple[str, ...] = ()
    rows: Sequence[tuple[Any, ...]] = ()
    changed: int = -1


Answer = Sequence[Set | BaseException]


@dataclass
class ScriptedConnection:
    """``answers``: what each statement gives, by a function of its text. ``log``: every call, in order."""

    answers: Callable[[str], Answer]
    log: list[tuple[Any, ...]] = field(default_factory=list)
    timeout: int = 0
    closed: bool = False

    def cursor(self) -> ScriptedCursor:
        return ScriptedCursor(self)

    def close(self) -> None:
        self.closed = True
        self.log.append(("close",))


class ScriptedCursor:
    """PEP 249 with ``nextset``, as pyodbc does it: an error may come with the first set or with a later one."""

    def __init__(self, connection: ScriptedConnection) -> None:
        self._connection = connection
        self._sets: list[Set | BaseException] = []
        self._rows: list[tuple[Any, ...]] = []
        self.description: Any = None
        self.rowcount = -1

    def setinputsizes(self, sizes: Any) -> None:
        self._connection.log.append(("sizes", sizes))

    def execute(self, sql: str, *values: Any) -> ScriptedCursor:
        self._connection.log.append(("execute", sql, *values))
        self._sets = list(self._connection.answers(sql))
        self._next()
        return self

    def _next(self) -> None:
        answer = self._sets.pop(0) if self._sets else Set()
        if isinstance(answer, BaseException):
            raise answer
        self.description = [(name, *[None] * 6) for name in answer.columns] or None
        self._rows, self.rowcount = list(answer.rows), answer.changed

    def nextset(self) -> bool:
        if not self._sets:
            return False
        self._next()
        return True

    def fetchmany(self, size: int) -> list[tuple[Any, ...]]:
        taken, self._rows = self._rows[:size], self._rows[size:]
        return taken

    def cancel(self) -> None:
        self._connection.log.append(("cancel",))

    def close(self) -> None:
        self._connection.log.append(("cursor closed",))
