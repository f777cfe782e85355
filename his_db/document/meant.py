"""Misspelt keys, read as they were meant: the slip is one problem, and what stands below it is checked all the same."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from his_db.document.damage import Damage
from his_db.document.finding import At, Words, nearest, show
from his_db.document.located import Document
from his_db.document.positions import Path, Positions
from his_db.document.problem import Problems
from his_db.document.shape import ListOf, MapOf, OneOf, Shape, TableOf
from his_db.document.value_shape import perhaps

Renames = dict[Path, Path]  # as it is written -> as it was meant, with its new names all the way


def as_meant(document: Document, shape: TableOf, problems: Problems, *, others: Collection[str] = ()) -> Document:
    """The document with those of its unknown keys renamed that can only be one known key which is not there.

    The value must be of the type that the known key takes. Each is reported at its place. `others`: further names that
    are known at the top.
    """
    renames: Renames = {}
    data = _renamed(shape, document.data, At(document, problems), (), frozenset(others), renames)
    if not renames:
        return document
    keys, values = (
        {_moved(path, renames): offset for path, offset in found.items()}
        for found in (document.positions.keys, document.positions.values)
    )
    damage = Damage(_moved(path, renames) for path in document.damage)
    return Document(document.file, data, Positions(keys, values, document.positions.lines), damage)


def _renamed(shape: Shape, value: Any, at: At, meant: Path, others: frozenset[str], renames: Renames) -> Any:
    if isinstance(value, dict) and isinstance(shape, TableOf):
        names = dict(_names(shape, value, others))
        found = {}
        for name, item in value.items():
            right = names[name] if name in names else str(name)
            path = (*meant, right)
            if right != name:
                renames[(*at.path, name)] = path
                _report(name, right, at)
            field = shape.fields.get(right)
            below = field.shape if field is not None else shape.extra
            found[right] = item if below is None else _renamed(below, item, at.child(name), path, frozenset(), renames)
        return found
    if isinstance(value, list) and isinstance(shape, ListOf):
        return [
            _renamed(shape.item, item, at.child(index), (*meant, index), frozenset(), renames)
            for index, item in enumerate(value)
        ]
    if isinstance(value, dict) and isinstance(shape, MapOf):
        return {
            name: _renamed(shape.value, item, at.child(name), (*meant, name), frozenset(), renames)
            for name, item in value.items()
        }
    if isinstance(shape, OneOf):
        sort = TableOf if isinstance(value, dict) else ListOf
        fitting = [each for each in shape.shapes if isinstance(each, sort)]
        return _renamed(fitting[0], value, at, meant, others, renames) if len(fitting) == 1 else value
    return value


def _names(shape: TableOf, value: Mapping[str, Any], others: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Unknown name -> the one that it must be."""
    absent = [name for name in shape.fields if name not in value]
    for name in value:
        if name in shape.fields or name in others or (shape.extra is not None and not others):
            continue
        close = nearest(name, absent)
        if close and shape.fields[close].shape.fits(value[name]):
            absent.remove(close)
            yield name, close


def _report(name: str, right: str, at: At) -> None:
    shown = show(name)
    at.child(name).key("H120", Words(f"unknown key {shown}", f"不认识的名称 {shown}"), perhaps(right, quote=False))


def _moved(path: Path, renames: Renames) -> Path:
    """The same place under its new names."""
    written = next((path[:length] for length in range(len(path), 0, -1) if path[:length] in renames), None)
    return path if written is None else (*renames[written], *path[len(written) :])
