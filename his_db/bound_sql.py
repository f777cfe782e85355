"""Reading a statement without a parser: its binds, put into the style of a driver, and whether it only reads.

The scanner knows where text is no SQL (literals, quoted names, comments), which differs by engine. Here are the styles
with a place or a number: ``?`` of ODBC drivers, and Oracle, where a bind may not be called ``:date``; those with a name
are written by ``his_db.held_connection.compile_statement``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from his_db.held_connection import CallError

_QUOTES: Final = r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | /\*.*?\*/"""
_BACKSLASHES: Final = (
    r"""'(?:[^'\\]|\\.|'')*' | "(?:[^"\\]|\\.|"")*" | `(?:[^`]|``)*` | --(?=\s|\Z)[^\n]* | \#[^\n]* | /\*.*?\*/"""
)
_BRACKETS: Final = rf"{_QUOTES} | \[(?:[^\]]|\]\])*\]"
_ALTERNATIVE: Final = (  # Oracle's q'[it's]'
    r"(?<!\w)[nN]?[qQ]'(?:\[.*?\]|\{.*?\}|\(.*?\)|<.*?>|(?P<end>[^\s\[{(<]).*?(?P=end))' | " + _QUOTES
)


def _scanner(opaque: str) -> re.Pattern[str]:
    return re.compile(
        rf"(?P<opaque> {opaque} | ::+ | := )"
        r"| (?<![:\w\\]):(?P<bind>[^\W\d]\w*)(?P<null>\s+IS\s+(?:NOT\s+)?NULL\b)? | (?P<colon>:)",
        re.VERBOSE | re.DOTALL | re.IGNORECASE,
    )


SCANNERS: Final[Mapping[str, re.Pattern[str]]] = {
    "mysql": _scanner(_BACKSLASHES),
    "mssql": _scanner(_BRACKETS),
    "oracle": _scanner(_ALTERNATIVE),
    "dm": _scanner(_ALTERNATIVE),
    "postgresql": _scanner(_QUOTES),
}

_WORD: Final = re.compile(r"[^\W\d][\w$#]*|;(?=\s*\S)")
_FIRST: Final = frozenset({"SELECT", "WITH", "VALUES"})
# Reserved in the dialects that have no read-only sessions of their own (Transact-SQL, Oracle), so never column names.
_WRITES: Final = frozenset(
    [
        *("ALTER", "COMMIT", "CREATE", "DELETE", "DENY", "DROP", "EXEC", "EXECUTE", "GRANT", "INSERT", "INTO"),
        *("MERGE", "REVOKE", "ROLLBACK", "TRUNCATE", "UPDATE", ";"),
    ]
)


@dataclass(frozen=True, slots=True)
class BoundSql:
    """SQL in the driver's bind style. ``names``: the bind at each place (``?``), or of each number (``:b0``)."""

    sql: str
    names: tuple[str, ...]

    def values(self, given: Mapping[str, Any]) -> list[Any]:
        """The binds in the driver's order. Raises CallError for a bind without a value."""
        try:
            return [given[name] for name in self.names]
        except KeyError as error:
            raise CallError(f"no value for the bind :{error.args[0]}") from None


def bind_places(sql: str, engine: str) -> BoundSql:
    """``:name`` to ``?``: one value per occurrence."""
    names: list[str] = []

    def place(match: re.Match[str]) -> str:
        name = match["bind"]
        if name is None:
            return match[0]
        names.append(name)
        return "?" + (match["null"] or "")

    return BoundSql(SCANNERS[engine].sub(place, sql), tuple(names))


def bind_numbers(sql: str, engine: str) -> BoundSql:
    """``:name`` to ``:b0``, ``:b1``: one value per name, and none of them a reserved word."""
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        name = match["bind"]
        if name is None:
            return match[0]
        if name not in names:
            names.append(name)
        return f":b{names.index(name)}" + (match["null"] or "")

    return BoundSql(SCANNERS[engine].sub(number, sql), tuple(names))


def reads_only(sql: str, engine: str) -> bool:
    """Whether a statement can only read, as far as its words tell: for engines without read-only sessions.

    A function called in a SELECT can still write; the account's grants decide that.
    """
    plain = SCANNERS[engine].sub(" ", sql).upper()
    words = _WORD.findall(plain)
    return bool(words) and words[0] in _FIRST and _WRITES.isdisjoint(words)
