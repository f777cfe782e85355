"""One statement -> sqlglot's tree, or None: for the checks only, a running agent never parses SQL."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

DIALECTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "sqlite": "sqlite",
        "postgresql": "postgres",
        "mysql": "mysql",
        "mssql": "tsql",
        "oracle": "oracle",
        "dm": "oracle",
    }
)
# What sqlglot lets through from inside, beside its own SqlglotError: its functions trust that arguments are there.
BEYOND: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RecursionError,
    TypeError,
    ValueError,
)


def parsed(sql: str, engine: str) -> Any:
    """sqlglot's tree of one statement of the engine's dialect; None when sqlglot is not installed or cannot read it."""
    try:
        import sqlglot  # heavy, and needed by nothing but the check
        from sqlglot import exp
        from sqlglot.errors import SqlglotError
    except ImportError:
        return None
    logging.getLogger("sqlglot").setLevel(logging.CRITICAL)  # the check says in its own words what could not be read
    try:
        tree = sqlglot.parse_one(sql, read=DIALECTS.get(engine))
    except (SqlglotError, *BEYOND):
        return None
    return None if isinstance(tree, exp.Command) else tree
