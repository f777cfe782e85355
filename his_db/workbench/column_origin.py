"""Where a column of a result comes from: the table, and the expression over its columns, through derived tables, CTEs
and UNIONs. By sqlglot's scopes; nothing is asked of a database.

Only what one table alone gives has an origin: a bind, a subquery, an aggregate or columns of two tables have none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.scope import Scope, build_scope

from his_db.mapping.sql_tree import BEYOND, DIALECTS, parsed
from his_db.workbench.sql_objects import is_bind, marked, table_name

_DEPTH: Final = 12  # nesting of queries that is followed
_OPAQUE: Final = (exp.Query, exp.AggFunc, exp.Window, exp.Anonymous, exp.Placeholder, exp.Parameter)
_PSEUDO: Final = frozenset({"rownum", "rowid", "level", "ctid", "oid"})

Owner = Callable[[str, tuple[str, ...]], str]
"""Column and the tables that it may be of, as written -> the table that has it; empty when nobody knows."""


@dataclass(frozen=True, slots=True)
class Origin:
    """`table`: as written. `expression`: SQL over its bare columns; `column`: its name when it is nothing but one.
    `conditions`: what the statement asks of the rows of that table alone, without binds."""

    table: str
    expression: str
    column: str
    conditions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Traced:
    """An expression over the bare columns of one table; of none (`table` empty) for a constant. `place`: which of the
    tables of that name in the statement."""

    table: str
    tree: Any
    place: int = 0
    conditions: tuple[Any, ...] = ()


def origins_of(sql: str, engine: str, names: Iterable[str], owner: Owner) -> dict[str, tuple[Origin, ...]]:
    """Name of each result column of `names` that has an origin -> its origins, one for each branch of a UNION."""
    tree = parsed(marked(sql), engine)
    try:
        scope = build_scope(tree) if isinstance(tree, exp.Query) else None
        return {} if scope is None else _origins(scope, names, owner, DIALECTS.get(engine))
    except (SqlglotError, *BEYOND):  # a tree that sqlglot made and can neither walk nor write
        return {}


def _origins(scope: Scope, names: Iterable[str], owner: Owner, dialect: str | None) -> dict[str, tuple[Origin, ...]]:
    found: dict[str, tuple[Origin, ...]] = {}
    for name in names:
        origins = (_origin(traced, dialect) for traced in _output(scope, name.lower(), owner, 0) if traced.table)
        kept = tuple(dict.fromkeys(origins))
        if kept:
            found[name] = kept
    return found


def _origin(traced: _Traced, dialect: str | None) -> Origin:
    conditions = dict.fromkeys(condition.sql(dialect=dialect) for condition in traced.conditions)
    column = traced.tree.name if isinstance(traced.tree, exp.Column) else ""
    return Origin(traced.table, traced.tree.sql(dialect=dialect), column, tuple(conditions))


def _names(scope: Scope) -> list[str]:
    query: Any = scope.expression
    return [name.lower() for name in query.named_selects if name and name != "*"]


def _output(scope: Scope, name: str, owner: Owner, depth: int) -> list[_Traced]:
    """What one column of a query is, in each of its branches."""
    query: Any = scope.expression
    if depth > _DEPTH:
        return []
    if isinstance(query, exp.SetOperation):
        names = _names(scope)
        if name not in names:
            return []
        at = names.index(name)
        found: list[_Traced] = []
        for branch in scope.set_operation_scopes:
            below = _names(branch)
            found += _output(branch, below[at], owner, depth + 1) if at < len(below) == len(names) else []
        return found
    if not isinstance(query, exp.Select):
        return []
    for item in query.expressions:
        if item.alias_or_name.lower() == name:
            return _with_conditions(scope, _expanded(item.unalias(), scope, owner, depth), owner, depth)
    if query.is_star:
        return _with_conditions(scope, _expanded(exp.column(name), scope, owner, depth), owner, depth)
    return []


def _expanded(tree: Any, scope: Scope, owner: Owner, depth: int) -> list[_Traced]:
    """The expression with every column replaced by what it is in its table; one for each branch below."""
    if tree.find(*_OPAQUE) or any(is_bind(node) for node in tree.find_all(exp.Literal)):
        return []
    columns = list(tree.find_all(exp.Column))
    if not columns:
        return [_Traced("", tree)]
    below = [_column(column, scope, owner, depth) for column in columns]
    if any(len(found) != len(below[0]) for found in below):
        return []
    return [traced for parts in zip(*below, strict=True) if (traced := _put_together(tree, columns, parts)) is not None]


def _put_together(tree: Any, columns: list[Any], parts: tuple[_Traced, ...]) -> _Traced | None:
    tables = {part.place: part.table for part in parts if part.table}
    if len(tables) > 1:
        return None
    places = {id(column): part.tree for column, part in zip(columns, parts, strict=True)}
    ids = iter([id(column) for column in columns])
    copied = tree.copy()  # `transform` copies too, and loses whose copy is whose: the order of a walk is the same
    copies = {id(copy): places[next(ids)] for copy in list(copied.find_all(exp.Column))}
    whole = copied.transform(lambda node: copies[id(node)].copy() if id(node) in copies else node, copy=False)
    conditions = tuple(condition for part in parts for condition in part.conditions)
    place, table = next(iter(tables.items()), (0, ""))
    return _Traced(table, whole, place, conditions)


def _column(column: Any, scope: Scope, owner: Owner, depth: int) -> list[_Traced]:
    if isinstance(column.this, exp.Star) or (not column.table and column.name.lower() in _PSEUDO):
        return []
    source = _source(column, scope, owner, depth)
    if isinstance(source, exp.Table):
        name = table_name(source)
        bare = exp.column(column.this.copy())
        return [_Traced(name, bare, id(source))] if name else []
    return _output(source, column.name.lower(), owner, depth + 1) if isinstance(source, Scope) else []


def _source(column: Any, scope: Scope, owner: Owner, depth: int) -> Any:
    """The table or query that a column is of; None when it is not certain."""
    sources = {name.lower(): source for name, (_, source) in scope.selected_sources.items()}
    if column.table:
        return sources.get(column.table.lower())
    if len(sources) == 1:
        return next(iter(sources.values()))
    queries = [source for source in sources.values() if isinstance(source, Scope)]
    giving = [source for source in queries if _output(source, column.name.lower(), owner, depth + 1)]
    if giving:
        return giving[0] if len(giving) == 1 else None
    tables = {table_name(source): source for source in sources.values() if isinstance(source, exp.Table)}
    return tables.get(owner(column.name, tuple(tables)))


def _with_conditions(scope: Scope, found: list[_Traced], owner: Owner, depth: int) -> list[_Traced]:
    """Each with the conditions of this level that speak of its table alone."""
    if not found:
        return found
    asked = [
        traced
        for condition in _conditions(scope.expression)
        for traced in _expanded(condition, scope, owner, depth)
        if traced.table
    ]
    return [
        _Traced(
            each.table,
            each.tree,
            each.place,
            (*each.conditions, *(other.tree for other in asked if other.place == each.place)),
        )
        for each in found
    ]


def _conditions(select: Any) -> Iterator[Any]:
    """What AND joins in WHERE, and in ON of inner joins."""
    where = select.args.get("where")
    inner = [join for join in select.args.get("joins") or () if not join.side]
    parts: Iterable[Any] = [where.this if where else None, *(join.args.get("on") for join in inner)]
    for part in parts:
        if part is not None:
            yield from part.flatten() if isinstance(part, exp.And) else (part,)
