"""Which tables, columns and functions a statement touches, by sqlglot's tree. Nothing is asked of a database.

A column without a qualifier may belong to several tables; all of them are given, the nearest first, and the catalogue
decides (`his_db/workbench/usage.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from sqlglot import exp

from his_db.mapping.sql_text import tokens
from his_db.mapping.sql_tree import BEYOND, parsed

_LEVELS: Final = (exp.Select, exp.Update, exp.Delete, exp.Insert, exp.Merge)
_PSEUDO: Final = frozenset(
    "rownum rowid sysdate systimestamp level user current_user current_date current_timestamp oid ctid".split()  # noqa: SIM905
)
_MARK: Final = "160160"  # binds become this number with their place behind it, so that they are found again in the tree
_MARKED: Final = re.compile(_MARK + r"[0-9]{3,}")  # `:a.5` is one number to sqlglot, and no bind


@dataclass(frozen=True, slots=True)
class ColumnRef:
    """A column that a statement names. `tables`: whose it may be, nearest first. `certain`: nothing but these tables
    can have it (no derived table in reach)."""

    column: str
    tables: tuple[str, ...]
    certain: bool


@dataclass(frozen=True, slots=True)
class SqlObjects:
    """`tables`: name as written -> rights that are needed. `columns`: every one that is named; `changes`: those that
    get a value; `stars`: tables of which all are read; `filters`: those compared with a bind; `compared`: with which
    one, where nothing is around either. `outputs`: name of a result column -> the plain column behind it. `aliases`:
    lower-case alias or bare name -> tables that it stands for. `functions`: names as written of functions that sqlglot
    does not know. `understood`: false when the statement could not be parsed, and all else is empty."""

    understood: bool = True
    tables: Mapping[str, frozenset[str]] = field(default_factory=dict)
    columns: tuple[ColumnRef, ...] = ()
    changes: tuple[ColumnRef, ...] = ()
    stars: tuple[str, ...] = ()
    filters: tuple[ColumnRef, ...] = ()
    compared: tuple[tuple[ColumnRef, str], ...] = ()
    outputs: Mapping[str, ColumnRef] = field(default_factory=dict)
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    functions: tuple[str, ...] = ()


@lru_cache(maxsize=512)
def objects_of(sql: str, engine: str) -> SqlObjects:
    """The objects of one statement of the engine's dialect."""
    tree = parsed(marked(sql), engine)
    if tree is None:
        return SqlObjects(understood=False)
    try:
        return _objects(tree, sql)
    except BEYOND:  # a tree that sqlglot made and cannot walk
        return SqlObjects(understood=False)


def _objects(tree: Any, sql: str) -> SqlObjects:
    derived = {cte.alias.lower() for cte in tree.find_all(exp.CTE)}
    names = [token.text[1:] for token in tokens(sql) if token.sort == "bind"]
    tables: dict[str, set[str]] = {}
    pseudo = {id(alias): real for alias, real in _alias_targets(tree)}
    for node in tree.find_all(exp.Table):
        name = table_name(pseudo.get(id(node), node))
        if name and not (name.lower() in derived and "." not in name):
            tables.setdefault(name, set()).update(_rights(node))
    for name in _also_updated(tree):
        tables.setdefault(name, set()).add("UPDATE")
    columns = [ref for node in tree.find_all(exp.Column) if (ref := _reference(node, derived)) is not None]
    columns.extend(_inserted(tree))
    filters = [
        ref for node in tree.find_all(exp.Column) if _is_filter(node) and (ref := _reference(node, derived)) is not None
    ]
    return SqlObjects(
        tables={name: frozenset(rights) for name, rights in tables.items()},
        columns=tuple(dict.fromkeys(columns)),
        changes=tuple(dict.fromkeys([*_inserted(tree), *_set(tree, derived)])),
        stars=tuple(dict.fromkeys(_stars(tree, derived))),
        aliases=_aliases(tree, derived),
        filters=tuple(dict.fromkeys(filters)),
        compared=tuple(dict.fromkeys(_compared(tree, derived, names))),
        outputs=_outputs(tree, derived),
        functions=tuple(dict.fromkeys(_functions(tree))),
    )


def marked(sql: str) -> str:
    count = 0
    parts: list[str] = []
    for token in tokens(sql):
        if token.sort == "bind":
            count += 1
            parts.append(f"{_MARK}{count:03d}")
        else:
            parts.append(token.text)
    return "".join(parts)


def is_bind(node: Any) -> bool:
    return isinstance(node, exp.Literal) and not node.is_string and _MARKED.fullmatch(str(node.this)) is not None


def table_name(node: exp.Table) -> str:
    """`schema.name` as written; empty for a function in FROM."""
    if not isinstance(node.this, exp.Identifier):
        return ""
    return ".".join(part.name for part in (node.args.get("catalog"), node.args.get("db"), node.this) if part)


def _rights(node: exp.Table) -> set[str]:
    parent = node.parent
    if isinstance(parent, exp.Schema):
        parent = parent.parent
    is_target = parent is not None and (parent.this is node or getattr(parent.this, "this", None) is node)
    if is_target and isinstance(parent, exp.Insert):
        return {"INSERT"}
    if is_target and isinstance(parent, exp.Update):
        return {"UPDATE", "SELECT"}
    if is_target and isinstance(parent, exp.Delete):
        return {"DELETE", "SELECT"}
    if is_target and isinstance(parent, exp.Merge):
        return {"INSERT", "UPDATE", "SELECT"}
    select = node.find_ancestor(exp.Select)
    locks = select is not None and bool(select.args.get("locks"))
    return {"SELECT", "UPDATE"} if locks else {"SELECT"}


def _alias_targets(tree: Any) -> Iterator[tuple[exp.Table, exp.Table]]:
    """`UPDATE k SET … FROM dbo.YY k` of SQL Server: the target is an alias of a table that follows."""
    for level in tree.find_all(exp.Update, exp.Delete):
        tables = [node for node in level.find_all(exp.Table) if _level(node) is level]
        named = {node.alias.lower(): node for node in tables if node.alias}
        for node in tables:
            if not node.alias and "." not in table_name(node) and node.name.lower() in named:
                yield node, named[node.name.lower()]


def _also_updated(tree: Any) -> Iterator[str]:
    """`UPDATE a x JOIN b y SET x.… = 1, y.… = 2` of MySQL changes both."""
    for update in tree.find_all(exp.Update):
        known = dict(_sources_of(update))
        for change in update.expressions:
            left = change.this if isinstance(change, exp.EQ) else None
            if isinstance(left, exp.Column) and left.table and known.get(left.table.lower()):
                yield known[left.table.lower()]


def _level(node: Any) -> Any:
    return node.find_ancestor(*_LEVELS)


def _sources_of(level: Any) -> tuple[tuple[str, str], ...]:
    """(alias, table name or "") of what a SELECT or DML reads from, directly."""
    found: list[tuple[str, str]] = []
    pseudo = {id(alias) for alias, _ in _alias_targets(level)}
    for node in level.find_all(exp.Table, exp.Subquery, exp.Lateral, exp.Unnest):
        if _level(node) is not level or id(node) in pseudo:
            continue
        if isinstance(node, exp.Table):
            found.append((node.alias_or_name.lower(), table_name(node)))
        elif isinstance(node.parent, (exp.From, exp.Join, exp.Lateral)) or isinstance(node, (exp.Lateral, exp.Unnest)):
            found.append((node.alias.lower(), ""))
    return tuple(found)


def _reference(node: exp.Column, derived: set[str]) -> ColumnRef | None:
    name, qualifier = node.name, node.table.lower()
    if name == "*" or not name or (not qualifier and name.lower() in _PSEUDO) or _is_output_name(node):
        return None
    tables: list[str] = []
    certain = True
    level = _level(node)
    while level is not None:
        for alias, table in _sources_of(level):
            if qualifier and alias != qualifier:
                continue
            is_derived = not table or (table.lower() in derived and "." not in table)
            if qualifier:
                return None if is_derived else ColumnRef(name, (table,), certain=True)
            if is_derived:
                certain = False
            else:
                tables.append(table)
        level = _level(level)
    return ColumnRef(name, tuple(dict.fromkeys(tables)), certain) if tables and not qualifier else None


def _is_output_name(node: exp.Column) -> bool:
    """ORDER BY and GROUP BY may name a column of the result."""
    if node.table or node.find_ancestor(exp.Order, exp.Group, exp.Having) is None:
        return False
    select = node.find_ancestor(exp.Select)
    return select is not None and node.name.lower() in {item.alias_or_name.lower() for item in select.expressions}


def _inserted(tree: Any) -> Iterator[ColumnRef]:
    for insert in tree.find_all(exp.Insert):
        schema = insert.this
        if isinstance(schema, exp.Schema) and isinstance(schema.this, exp.Table):
            table = table_name(schema.this)
            for item in schema.expressions:
                yield ColumnRef(item.name, (table,), certain=True)


def _set(tree: Any, derived: set[str]) -> Iterator[ColumnRef]:
    """Left sides of SET."""
    for update in tree.find_all(exp.Update):
        for change in update.expressions:
            left = change.this if isinstance(change, exp.EQ) else None
            if isinstance(left, exp.Column) and (reference := _reference(left, derived)) is not None:
                target = update.this if isinstance(update.this, exp.Table) else None
                if not left.table and target is not None:  # a bare name in SET is a column of the target, never another
                    real = next((real for alias, real in _alias_targets(tree) if alias is target), target)
                    reference = ColumnRef(reference.column, (table_name(real),), certain=True)
                yield reference


def _stars(tree: Any, derived: set[str]) -> Iterator[str]:
    """Tables that `SELECT *` or `SELECT t.*` reads."""
    for select in tree.find_all(exp.Select):
        for item in select.expressions:
            is_star = isinstance(item, exp.Star) or (isinstance(item, exp.Column) and isinstance(item.this, exp.Star))
            qualifier = item.table.lower() if isinstance(item, exp.Column) else ""
            for alias, table in _sources_of(select) if is_star else ():
                if table and table.lower() not in derived and qualifier in ("", alias):
                    yield table


def _aliases(tree: Any, derived: set[str]) -> dict[str, tuple[str, ...]]:
    """The same alias may stand for several tables, one in each scope."""
    found: dict[str, dict[str, None]] = {}
    for level in tree.find_all(*_LEVELS):
        for alias, table in _sources_of(level):
            if table and not (table.lower() in derived and "." not in table):
                found.setdefault(alias, {})[table] = None
                found.setdefault(table.rpartition(".")[2].lower(), {})[table] = None
    return {alias: tuple(tables) for alias, tables in found.items()}


def _is_filter(node: exp.Column) -> bool:
    parent = node.parent
    if not isinstance(parent, (exp.EQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between, exp.In)):
        return False
    if node.find_ancestor(exp.Where, exp.Join) is None:
        return False
    around: Any = parent
    others = [item for item in around.iter_expressions() if item is not node]
    return any(is_bind(item) or any(is_bind(below) for below in item.find_all(exp.Literal)) for item in others)


def _compared(tree: Any, derived: set[str], names: list[str]) -> Iterator[tuple[ColumnRef, str]]:
    for node in tree.find_all(exp.Column):
        parent: Any = node.parent
        if not isinstance(parent, (exp.EQ, exp.In)) or node.find_ancestor(exp.Where, exp.Join) is None:
            continue
        reference = _reference(node, derived)
        if reference is None:
            continue
        for other in parent.iter_expressions():
            if other is not node and is_bind(other):
                yield reference, names[int(str(other.this).removeprefix(_MARK)) - 1]


def _outputs(tree: Any, derived: set[str]) -> dict[str, ColumnRef]:
    found: dict[str, ColumnRef] = {}
    if not isinstance(tree, exp.Select):
        return found
    for item in tree.expressions:
        plain = item.this if isinstance(item, exp.Alias) else item
        if isinstance(plain, exp.Column):
            reference = _reference(plain, derived)
            if reference is not None:
                found[item.alias_or_name.lower()] = reference
    return found


def _functions(tree: Any) -> Iterator[str]:
    for node in tree.find_all(exp.Anonymous):
        name = str(node.this)
        parent = node.parent
        if isinstance(parent, exp.Dot) and parent.expression is node:
            name = f"{parent.this.sql()}.{name}"
        elif isinstance(parent, exp.Table) and parent.args.get("db"):
            name = f"{parent.args['db'].name}.{name}"
        yield name.replace('"', "")
