"""Statements that run for each command or each row: compiled once by SQLAlchemy, then text and values for the driver.

What SQLAlchemy does for one statement (cache key, converters, result objects) takes three to ten times what SQLite
needs to run it. Values go in and come out as the driver has them: times as microseconds, see ``micros`` and ``moment``.
Errors are SQLAlchemy's, as with any other statement.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.expression import Executable

Found = Sequence[Sequence[Any]]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_SQLITE: Final = "sqlite"  # in this process: nothing stands between a statement and its answer
_PARAMSTYLE: Final = {_SQLITE: "qmark", "postgresql": "format"}


def micros(value: datetime) -> int:
    """An aware datetime as it is stored: see ``store_schema.Instant``."""
    return (value - _EPOCH) // _MICROSECOND


def moment(value: int) -> datetime:
    """What ``micros`` gave, as a datetime."""
    return _EPOCH + timedelta(microseconds=value)


@dataclass(frozen=True, slots=True)
class Spelling:
    """How many values are best handed to a driver: SQLite's asks each that is not just int, float, str or bytearray
    whether it wants to be stored as something else, which takes longer than to store it.

    ``blob``: from bytes. ``flags``: False and True.
    """

    blob: Callable[[bytes], Any]
    flags: tuple[Any, Any]


_SPELLINGS: Final = {_SQLITE: Spelling(bytearray, (0, 1))}
_USUAL: Final = Spelling(bytes, (False, True))


def spelling(connection: Connection) -> Spelling:
    """That of the connection's database."""
    return _SPELLINGS.get(connection.dialect.name, _USUAL)


class Prepared:
    """A statement, and the names of the values that it takes, in the order in which they are given."""

    __slots__ = ("_made", "_names", "_statement")

    def __init__(self, statement: Executable | Callable[[str], Executable], *names: str) -> None:
        """``statement``: it, or what makes it for the name of a dialect."""
        self._statement = statement
        self._names = names
        self._made: dict[str, tuple[str, Callable[[Sequence[Any]], Sequence[Any]] | None]] = {}

    def ask(self, connection: Connection, *values: Any) -> Found:
        """Rows of the answer. Raises DBAPIError."""
        text, ordered = self._text(connection)
        return ask(connection, text, values if ordered is None else ordered(values))

    def tell(self, connection: Connection, *values: Any) -> int:
        """How many rows were changed. Raises DBAPIError."""
        text, ordered = self._text(connection)
        return tell(connection, text, values if ordered is None else ordered(values))

    def tell_many(self, connection: Connection, rows: Sequence[Sequence[Any]]) -> None:
        """Runs it for each of the rows; none: nothing. Raises DBAPIError."""
        text, ordered = self._text(connection)
        if rows:
            tell_many(connection, text, rows if ordered is None else [ordered(row) for row in rows])

    def _text(self, connection: Connection) -> tuple[str, Callable[[Sequence[Any]], Sequence[Any]] | None]:
        dialect = connection.dialect
        made = self._made.get(dialect.name)
        if made is None:
            made = self._made[dialect.name] = self._compiled(dialect)
        return made

    def _compiled(self, dialect: Any) -> tuple[str, Callable[[Sequence[Any]], Sequence[Any]] | None]:
        """Text, and what puts the values into the order of the text; None: they are in it."""
        statement: Any = self._statement
        if not isinstance(statement, Executable):
            statement = statement(dialect.name)
        positional = type(dialect)(paramstyle=_PARAMSTYLE[dialect.name])
        names = {"column_keys": list(self._names)} if statement.is_insert else {}
        compiled = statement.compile(dialect=positional, **names)
        order = list(compiled.positiontup)
        fixed = [name for name in dict.fromkeys(order) if name not in self._names]
        if unused := set(self._names) - set(order):
            raise ValueError(f"the statement takes no {', '.join(sorted(unused))}")
        if not fixed and order == list(self._names):
            return str(compiled), None
        constants = tuple(compiled.params[name] for name in fixed)
        places = [(*self._names, *fixed).index(name) for name in order]
        if len(places) == 1:
            return str(compiled), lambda values: ((*values, *constants)[places[0]],)
        pick = itemgetter(*places)
        return str(compiled), lambda values: pick((*values, *constants))


def ask(connection: Connection, text: str, values: Sequence[Any]) -> Found:
    """Rows of the answer to a statement in the driver's own words. Raises DBAPIError."""
    if connection.dialect.name != _SQLITE:
        return connection.exec_driver_sql(text, tuple(values)).all()
    try:
        found: Found = _driver(connection).execute(text, values).fetchall()
    except sqlite3.Error as error:
        raise _wrapped(connection, text, error) from error
    return found


def ask_among(connection: Connection, text: str, values: Sequence[Any], *before: Any) -> Found:
    """As ``ask``; in the text ``{among}`` stands for "is one of ``values``", ``{value}`` for one of ``before``, which
    come first. The caller keeps ``values`` below the number that a statement takes (500)."""
    if connection.dialect.name == _SQLITE:
        marks = ", ".join("?" * len(values))
        return ask(connection, text.format(among=f"IN ({marks})", value="?"), (*before, *values))
    return ask(connection, text.format(among="= ANY(%s)", value="%s"), (*before, list(values)))


def tell(connection: Connection, text: str, values: Sequence[Any] = ()) -> int:
    """How many rows a statement in the driver's own words has changed. Raises DBAPIError."""
    if connection.dialect.name != _SQLITE:
        return connection.exec_driver_sql(text, tuple(values)).rowcount
    try:
        return int(_driver(connection).execute(text, values).rowcount)
    except sqlite3.Error as error:
        raise _wrapped(connection, text, error) from error


def tell_many(connection: Connection, text: str, rows: Sequence[Sequence[Any]]) -> None:
    """Runs a statement for each of the rows. Raises DBAPIError."""
    if connection.dialect.name != _SQLITE:
        connection.exec_driver_sql(text, [tuple(row) for row in rows])
        return
    try:
        _driver(connection).executemany(text, rows)
    except sqlite3.Error as error:
        raise _wrapped(connection, text, error) from error


def _driver(connection: Connection) -> Any:
    return connection.connection.dbapi_connection  # the driver's own: nothing is asynchronous here


def _wrapped(connection: Connection, text: str, error: sqlite3.Error) -> BaseException:
    """As SQLAlchemy wraps it, without the values."""
    return DBAPIError.instance(text, None, error, sqlite3.Error, hide_parameters=True, dialect=connection.dialect)
