"""Comparing generated SQL with files, and reading it with sqlglot in its dialect."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import sqlglot
from sqlglot.errors import SqlglotError

FOLDER = Path(__file__).resolve().parents[2] / "golden" / "sql"


class ParserGap(UserWarning):
    """sqlglot cannot read a statement that we know to be right: warn, do not refuse (design 8)."""


def golden(name: str, sql: str) -> None:
    """``sql`` is what the file holds. HIS160_WRITE_GOLDEN=1 writes it."""
    path = FOLDER / f"{name}.sql"
    if os.environ.get("HIS160_WRITE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(sql + "\n", encoding="utf-8", newline="\n")
    assert path.read_text(encoding="utf-8") == sql + "\n", f"{path.name} differs; HIS160_WRITE_GOLDEN=1 writes it"


def parses(sql: str, dialect: str) -> bool:
    """Whether sqlglot reads it as statements it understands; a gap is a warning."""
    try:
        found = sqlglot.parse(sql, read=dialect)
    except SqlglotError as error:
        warnings.warn(f"sqlglot[{dialect}]: {str(error).splitlines()[0][:120]}", ParserGap, stacklevel=2)
        return False
    return bool(found) and all(tree is not None for tree in found)
