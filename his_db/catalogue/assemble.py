"""Rows of the catalogue, the same shape from every engine, put together into one Catalogue.

| block      | columns                                                                      |
|------------|------------------------------------------------------------------------------|
| tables     | schema, name, kind (table view), comment                                     |
| columns    | schema, table, name, type, nullable (1 0), comment; in order                 |
| keys       | schema, table, column; in order                                              |
| indexes    | schema, table, index, unique (1 0), column; in order                         |
| routines   | schema, name, id, kind (procedure function), comment, invoker (1 0), body, signature |
| parameters | schema, routine, id, name, direction, type, has default (1 0); in order      |
| rights     | schema, object, right                                                        |
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from his_db.catalogue.model import (
    Catalogue,
    Column,
    Index,
    Login,
    Name,
    Routine,
    RoutineParameter,
    Table,
    family_of,
)

Rows = Iterable[tuple[Any, ...]]


def assemble(engine: str, login: Login, blocks: Mapping[str, Rows]) -> Catalogue:
    """The catalogue. A block that is left out is empty."""
    columns: defaultdict[Name, list[Column]] = defaultdict(list)
    for schema, table, name, kind, nullable, comment in blocks.get("columns", ()):
        text = str(kind or "")
        family = family_of(text, engine=engine)
        columns[_key(schema, table)].append(Column(name, text, bool(nullable), _text(comment), family))
    keys: defaultdict[Name, list[str]] = defaultdict(list)
    for schema, table, column in blocks.get("keys", ()):
        keys[_key(schema, table)].append(column)
    indexes = _indexes(blocks.get("indexes", ()))
    tables: dict[Name, Table] = {}
    for schema, name, kind, comment in blocks.get("tables", ()):
        key = _key(schema, name)
        tables[key] = Table(
            schema=_text(schema),
            name=name,
            kind=kind,
            comment=_text(comment),
            columns=tuple(columns.get(key, ())),
            primary_key=tuple(keys.get(key, ())),
            indexes=tuple(indexes.get(key, ())),
        )
    rights: defaultdict[Name, set[str]] = defaultdict(set)
    for schema, name, right in blocks.get("rights", ()):
        rights[_key(schema, name)].add(str(right).upper())
    return Catalogue(
        engine=engine,
        login=login,
        tables=dict(sorted(tables.items())),
        routines=_routines(blocks),
        rights={key: frozenset(found) for key, found in sorted(rights.items())},
    )


def _indexes(rows: Rows) -> dict[Name, list[Index]]:
    found: dict[tuple[Name, str], tuple[bool, list[str]]] = {}
    for schema, table, index, unique, column in rows:
        _, names = found.setdefault((_key(schema, table), index), (bool(unique), []))
        names.append(_text(column))
    result: defaultdict[Name, list[Index]] = defaultdict(list)
    for (table, index), (unique, names) in found.items():
        result[table].append(Index(index, unique, tuple(names)))
    return dict(result)


def _routines(blocks: Mapping[str, Rows]) -> dict[Name, tuple[Routine, ...]]:
    parameters: defaultdict[tuple[Name, str], list[RoutineParameter]] = defaultdict(list)
    for schema, routine, identity, name, direction, kind, has_default in blocks.get("parameters", ()):
        parameter = RoutineParameter(_text(name), str(direction).lower(), _text(kind), bool(has_default))
        parameters[_key(schema, routine), str(identity)].append(parameter)
    found: defaultdict[Name, list[Routine]] = defaultdict(list)
    for schema, name, identity, kind, comment, invoker, body, signature in blocks.get("routines", ()):
        key = _key(schema, name)
        found[key].append(
            Routine(
                schema=_text(schema),
                name=name,
                kind=str(kind).lower(),
                comment=_text(comment),
                parameters=tuple(parameters.get((key, str(identity)), ())),
                invoker=bool(invoker),
                body=_text(body),
                signature=_text(signature),
            )
        )
    return {key: tuple(items) for key, items in sorted(found.items())}


def _key(schema: Any, name: Any) -> Name:
    return Name(_text(schema).lower(), str(name).lower())


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()
