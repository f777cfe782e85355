"""SQL as text: its binds, its statements and its words, with strings, comments and casts told apart from code.

A scanner, not a parser: it must work on any dialect, at run time, and on what sqlglot cannot read.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple


def _scanner(strings: str, comments: str) -> re.Pattern[str]:
    return re.compile(
        rf"""
          (?P<comment>{comments}|/\*.*?(?:\*/|\Z))
        | (?P<string>{strings}
            | \$(?P<tag>[A-Za-z_]*)\$.*?(?:\$(?P=tag)\$|\Z))
        | (?P<name>"(?:[^"]|"")*(?:"|\Z)|`[^`]*(?:`|\Z)|\[[A-Za-z_\u4e00-\u9fff][^\]\n]*\])
        | (?P<cast>::)
        | (?P<assign>:=)
        | (?P<bind>(?<![\w:]):[A-Za-z_]\w*)
        | (?P<word>[@#]{{0,2}}[^\W\d][\w$#]*)
        | (?P<end>;)
        | (?P<space>\s+)
        | (?P<other>\d+|.)
        """,
        re.VERBOSE | re.DOTALL,
    )


_TOKEN: Final = _scanner(r"[NnUu]?'(?:[^']|'')*(?:'|\Z)", r"--[^\n]*")
# MySQL and MariaDB: a backslash escapes inside quotes, double quotes are a string, # begins a comment.
_MYSQL: Final = _scanner(
    r"""[NnUu]?'(?:[^'\\]|\\.|'')*(?:'|\Z)|"(?:[^"\\]|\\.|"")*(?:"|\Z)""",
    r"--[^\n]*|\#[^\n]*",
)
_WRITES: Final = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE"})
_KEPT: Final = 256  # statements whose binds and verb are kept: a reload compiles the same texts again
_UNDER_CHECK: Final = 4  # statements whose pieces are kept: a check asks for those of one statement a dozen times
_BIND_IN_STRING: Final = re.compile(r"'\s*%?:([A-Za-z_]\w*)%?\s*'")


class Token(NamedTuple):
    """A piece of SQL. `sort` is one of comment string name cast assign bind word end space other."""

    sort: str
    text: str
    start: int


def tokens(sql: str, engine: str = "") -> tuple[Token, ...]:
    """Every piece of `sql`, in order, nothing left out. `engine` matters where it quotes in its own way."""
    return _tokens(sql, is_mysql=engine == "mysql")


@lru_cache(_UNDER_CHECK)
def _tokens(sql: str, *, is_mysql: bool) -> tuple[Token, ...]:
    return tuple(
        Token("string" if (sort := match.lastgroup or "other") == "tag" else sort, match.group(), match.start())
        for match in (_MYSQL if is_mysql else _TOKEN).finditer(sql)
    )


@lru_cache(_KEPT)
def binds(sql: str, engine: str = "") -> tuple[str, ...]:
    """Names of the binds `:name`, each once, in the order of their first use."""
    return tuple(dict.fromkeys(token.text[1:] for token in tokens(sql, engine) if token.sort == "bind"))


def quoted_binds(sql: str, engine: str = "") -> tuple[str, ...]:
    """Names that look like binds but stand alone inside quotes: `':order_no'`."""
    found = (_BIND_IN_STRING.fullmatch(token.text) for token in tokens(sql, engine) if token.sort == "string")
    return tuple(dict.fromkeys(match[1] for match in found if match is not None))


def words(sql: str, engine: str = "") -> tuple[str, ...]:
    """Keywords and names, upper case, quoted ones without their quotes."""
    found = (token for token in tokens(sql, engine) if token.sort in {"word", "name"})
    return tuple(token.text.strip('"`[]').upper() for token in found)


def statements(sql: str, engine: str = "") -> tuple[str, ...]:
    """The statements that `;` parts, without empty ones."""
    found: list[str] = []
    start = 0
    has_code = False
    for token in tokens(sql, engine):
        if token.sort == "end":
            if has_code:
                found.append(sql[start : token.start].strip())
            start, has_code = token.start + 1, False
        elif token.sort not in {"space", "comment"}:
            has_code = True
    if has_code:
        found.append(sql[start:].strip())
    return tuple(found)


@lru_cache(_KEPT)
def verb(sql: str) -> str:
    """First word of the statement, upper case; for WITH the word that says what is done."""
    found = [token.text.upper() for token in tokens(sql) if token.sort == "word"]
    if not found:
        return ""
    if found[0] != "WITH":
        return found[0]
    return next((word for word in found if word in _WRITES), "SELECT")


def is_select(sql: str) -> bool:
    """Whether the statement reads rows and says so with its first word."""
    return verb(sql) in {"SELECT", "VALUES", "TABLE"}


def with_literals(sql: str, engine: str = "") -> str:
    """`sql` with 1 in place of every bind, for a parser that knows no binds of this form."""
    return "".join("1" if token.sort == "bind" else token.text for token in tokens(sql, engine))
