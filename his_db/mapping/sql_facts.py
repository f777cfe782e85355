"""What a statement does, as far as it can be known without the database: sqlglot where it is there, words otherwise."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from his_db.mapping.sql_text import verb, with_literals, words
from his_db.mapping.sql_tree import BEYOND, parsed

ALLOWED: Final = frozenset({"SELECT", "VALUES", "TABLE", "INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE"})

# Procedures, functions and packages that reach out of the database, stop it, or run SQL that no check has seen.
_DANGEROUS: Final = frozenset(
    # A text, split: one reads fifty names better without a hundred quotes.
    """
    XP_CMDSHELL XP_REGREAD XP_REGWRITE XP_DIRTREE XP_FILEEXIST XP_SERVICECONTROL SP_OACREATE SP_OAMETHOD SP_EXECUTESQL
    SP_CONFIGURE SP_ADDLINKEDSERVER SP_ADDSRVROLEMEMBER SP_ADDROLEMEMBER SP_START_JOB SP_ADD_JOB
    OPENROWSET OPENDATASOURCE
    OPENQUERY DBMS_SCHEDULER DBMS_JOB DBMS_SQL DBMS_JAVA
    DBMS_LDAP DBMS_PIPE DBMS_LOCK DBMS_XMLQUERY UTL_FILE UTL_HTTP
    UTL_TCP UTL_SMTP UTL_INADDR HTTPURITYPE PG_READ_FILE PG_READ_BINARY_FILE PG_LS_DIR PG_SLEEP PG_TERMINATE_BACKEND
    PG_CANCEL_BACKEND PG_RELOAD_CONF LO_IMPORT LO_EXPORT DBLINK DBLINK_EXEC DBLINK_CONNECT LOAD_FILE OUTFILE DUMPFILE
    SLEEP BENCHMARK WAITFOR LOAD_EXTENSION WRITEFILE READFILE
    """.split()  # noqa: SIM905
)


@dataclass(frozen=True, slots=True)
class Facts:
    """`understood` is false when no parser could read it; then only what words tell is filled in.

    `outputs` are the names of the columns it gives; None when that cannot be told (`*`, an expression without a name).
    """

    understood: bool
    unguarded: bool
    changes_schema: bool
    locks_rows: bool
    ordered: bool
    outputs: tuple[str, ...] | None


def dangerous(sql: str, engine: str = "") -> str:
    """The first name in `sql` that a mapping must not call, or empty."""
    return next((word for word in words(sql, engine) if word in _DANGEROUS), "")


@lru_cache(1024)  # one file is checked by several rules, a set again after every edit; a pack has up to 155
def facts_of(sql: str, engine: str) -> Facts:
    """The facts of one statement of the engine's dialect."""
    tree = parsed(with_literals(sql, engine), engine)
    if tree is not None:
        with suppress(*BEYOND):  # a tree that sqlglot made and cannot walk
            return _from_tree(tree)
    found = words(sql, engine)
    unguarded = verb(sql) in {"UPDATE", "DELETE"} and "WHERE" not in found
    is_ordered = "ORDER" in found
    return Facts(False, unguarded, changes_schema=False, locks_rows=False, ordered=is_ordered, outputs=None)


def _from_tree(tree: Any) -> Facts:
    from sqlglot import exp

    unguarded = any(_is_unguarded(node) for node in tree.find_all(exp.Update, exp.Delete))
    schema = (exp.Create, exp.Drop, exp.Alter, exp.TruncateTable, exp.Grant, exp.Into)
    is_query = isinstance(tree, exp.Query)
    return Facts(
        understood=True,
        unguarded=unguarded,
        changes_schema=tree.find(*schema) is not None,
        locks_rows=tree.find(exp.Lock) is not None,
        ordered=is_query and tree.args.get("order") is not None,
        outputs=_outputs(tree) if is_query else None,
    )


def _is_unguarded(node: Any) -> bool:
    """UPDATE or DELETE without a condition on a column. (`WHERE CURRENT OF` is none of a mapping's.)"""
    from sqlglot import exp

    if node.find_ancestor(exp.Merge) is not None:
        return False
    where = node.args.get("where")
    return where is None or where.find(exp.Column) is None


def _outputs(tree: Any) -> tuple[str, ...] | None:
    if tree.is_star:
        return None
    names: list[str] = tree.named_selects
    return tuple(names) if names and all(names) and "*" not in names else None
