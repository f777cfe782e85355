"""Row tuples -> messages: a plan compiled once for a result, resolved once for each order of columns met.

A plan is a tree of the message's fields. For one tuple of column names it becomes closures that go from a row straight
to the keyword arguments of the message: no dict by column, no descriptor, no parsing per row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from his_db import contract
from his_db.errors import HisChanged, MappingMismatch
from his_db.mapping.convert_in import (
    Unconvertible,
    UnknownCode,
    converter,
    default_value,
    fixed_value,
    is_plain_text,
    two_column_converter,
)
from his_db.mapping.model import CodeMap, FieldSpec
from his_db.mapping.paths import resolve
from his_db.mapping.tally import Tally
from his_db.mapping.wire import Encode, Leaf, Node, encoder

Row = Sequence[Any]
Build = Callable[[Row], dict[str, Any]]
_BAD_VALUE = (ValueError, ArithmeticError, TypeError, OverflowError)


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A field that columns fill: one column, or a date and a time column."""

    name: str
    path: str
    columns: tuple[str, ...]
    convert: Callable[..., Any]
    required: bool
    field: FieldDescriptor
    is_text: bool = False


@dataclass(slots=True)
class _Node:
    """A message: fixed values, fields that columns fill, messages below. `is_map` for a `map<string, string>`."""

    path: str
    required: bool = False
    consts: dict[str, Any] = field(default_factory=dict)
    leaves: list[_Leaf] = field(default_factory=list)
    below: dict[str, _Node] = field(default_factory=dict)
    oneofs: tuple[frozenset[str], ...] = ()
    descriptor: Descriptor | None = None
    number: int = 0

    def has_columns(self) -> bool:
        return bool(self.leaves) or any(node.has_columns() for node in self.below.values())


class RowPlan:
    """How the rows of one result become messages of one type. Thread-safe: its cache only ever gains equal entries."""

    __slots__ = ("_cache", "_encoders", "_label", "_root", "_tally", "columns")

    def __init__(
        self,
        descriptor: Descriptor,
        fields: Sequence[FieldSpec],
        *,
        codes: Mapping[str, CodeMap],
        zone: ZoneInfo,
        label: str,
        extra_columns: Sequence[str] = (),
        tally: Tally | None = None,
    ) -> None:
        """`label` names the operation or watch in errors. Specs must have passed the check (ValueError otherwise).

        `tally` counts the code values that no code map knows.
        """
        self._label = label
        self._tally = tally or Tally()
        self._root = _tree(descriptor, fields, codes, zone)
        used = [column for spec in fields for column in spec.columns()]
        self.columns: tuple[str, ...] = tuple(dict.fromkeys(name.casefold() for name in (*used, *extra_columns)))
        self._cache: dict[tuple[str, ...], Build] = {}
        self._encoders: dict[tuple[str, ...], Encode | None] = {}

    def builder(self, columns: tuple[str, ...]) -> Build:
        """A function from a row with these columns to the keyword arguments of the message.

        Raises MappingMismatch when a column is missing or there twice; the function raises it for a value that does
        not fit, naming operation, field, column and type, never the value.
        """
        found = self._cache.get(columns)
        if found is None:
            found = self._cache[columns] = self._resolve(columns)
        return found

    def encoder(self, into: FieldDescriptor, columns: tuple[str, ...]) -> Encode | None:
        """A function from rows with these columns to the bytes of the repeated field `into`, always the same one;
        None when there is none. Where it raises, `builder` decides. Raises MappingMismatch as `builder` does."""
        try:
            return self._encoders[columns]
        except KeyError:
            node = _wire(self._root, column_places(columns, self.columns, self._label))
            found = self._encoders[columns] = None if node is None else encoder(into, node, len(columns))
            return found

    def positions(self, columns: tuple[str, ...]) -> tuple[int, ...]:
        """Where each of `self.columns` stands in rows with these columns. Raises MappingMismatch."""
        places = column_places(columns, self.columns, self._label)
        return tuple(places[name] for name in self.columns)

    def _resolve(self, columns: tuple[str, ...]) -> Build:
        places = column_places(columns, self.columns, self._label)
        build = _compile(self._root, places, self._label, self._tally)

        def root(row: Row) -> dict[str, Any]:
            return build(row)[0]

        return root


def column_places(columns: tuple[str, ...], wanted: Sequence[str], label: str) -> dict[str, int]:
    """Index by lower-case name. Raises HisChanged for a wanted column that is missing or there twice."""
    folded = [name.casefold() for name in columns]
    for name in wanted:
        count = folded.count(name.casefold())
        if count != 1:
            what = "is missing" if not count else "is there twice"
            raise HisChanged(f"{label}: column {name} {what} in the result")
    return {name: at for at, name in enumerate(folded)}


def _tree(descriptor: Descriptor, fields: Sequence[FieldSpec], codes: Mapping[str, CodeMap], zone: ZoneInfo) -> _Node:
    root = _node(descriptor, "", required=True)
    for spec in fields:
        path = resolve(descriptor, spec.to)
        if path is None:
            raise ValueError(f"no such field: {spec.to}")
        node = root
        for step in path[:-1]:
            node = _below(node, step)
        last = path[-1]
        name = last.name
        if contract.is_map(last):
            node, name = _below(node, last), spec.to.rpartition(".")[2]
        _add(node, name, last, spec, codes, zone)
    return root


def _node(descriptor: Descriptor | None, path: str, *, required: bool) -> _Node:
    oneofs = descriptor.oneofs if descriptor is not None else ()
    real = (oneof for oneof in oneofs if len(oneof.fields) > 1)
    oneof_names = tuple(frozenset(item.name for item in oneof.fields) for oneof in real)
    return _Node(path, required, oneofs=oneof_names, descriptor=descriptor)


def _below(node: _Node, step: FieldDescriptor) -> _Node:
    if step.name not in node.below:
        path = f"{node.path}.{step.name}" if node.path else step.name
        entry = None if contract.is_map(step) else step.message_type
        below = node.below[step.name] = _node(entry, path, required=contract.is_required(step))
        below.number = step.number
    return node.below[step.name]


def _add(
    node: _Node,
    name: str,
    last: FieldDescriptor,
    spec: FieldSpec,
    codes: Mapping[str, CodeMap],
    zone: ZoneInfo,
) -> None:
    if spec.const is not None:
        node.consts[name] = fixed_value(last, spec.const)
        return
    if spec.date_column:
        two = two_column_converter(spec, zone)
        absent, empty = default_value(last, spec), frozenset(spec.empty)

        def convert(day: Any, clock: Any) -> Any:
            blanks = (None, "", *empty)
            is_absent = any((part.strip() if isinstance(part, str) else part) in blanks for part in (day, clock))
            return absent if is_absent else two(day, clock)

        leaf = _Leaf(name, spec.to, (spec.date_column, spec.time_column), convert, contract.is_required(last), last)
    else:
        convert_one = converter(last, spec, codes, zone)
        is_text = is_plain_text(last, spec)
        leaf = _Leaf(name, spec.to, (spec.column,), convert_one, contract.is_required(last), last, is_text)
    node.leaves.append(leaf)


def _wire(node: _Node, places: Mapping[str, int]) -> Node | None:
    """The tree for `wire`; None when there is a map in it."""
    if node.descriptor is None:
        return None
    below = [_wire(child, places) for child in node.below.values()]
    known = [child for child in below if child is not None]
    if len(known) < len(below):
        return None
    leaves = [
        Leaf(leaf.field, tuple(places[name.casefold()] for name in leaf.columns), leaf.convert, leaf.is_text)
        for leaf in node.leaves
    ]
    return Node(node.descriptor, node.number, node.required, node.consts, leaves, known)


def _compile(
    node: _Node, places: Mapping[str, int], label: str, tally: Tally
) -> Callable[[Row], tuple[dict[str, Any], bool]]:
    """A function from a row to (keyword arguments, whether any column gave a value)."""
    single = tuple(
        (leaf.name, places[leaf.columns[0].casefold()], leaf.convert, leaf.required, leaf)
        for leaf in node.leaves
        if len(leaf.columns) == 1
    )
    double = tuple(
        (leaf.name, places[leaf.columns[0].casefold()], places[leaf.columns[1].casefold()], leaf)
        for leaf in node.leaves
        if len(leaf.columns) == 2
    )
    below = tuple(
        (name, _compile(child, places, label, tally), child.required, child.has_columns(), child.path)
        for name, child in node.below.items()
    )
    consts, oneofs = node.consts, node.oneofs

    def build(row: Row) -> tuple[dict[str, Any], bool]:
        found = consts.copy()
        missing: _Leaf | None = None
        for name, at, convert, required, leaf in single:
            try:
                value = convert(row[at])
            except _BAD_VALUE as error:
                raise _mismatch(label, leaf, (row[at],), error, tally) from None
            if value is not None:
                found[name] = value
            elif required:
                missing = missing or leaf
        for name, at, second, leaf in double:
            try:
                value = leaf.convert(row[at], row[second])
            except _BAD_VALUE as error:
                raise _mismatch(label, leaf, (row[at], row[second]), error, tally) from None
            if value is not None:
                found[name] = value
            elif leaf.required:
                missing = missing or leaf
        has_value = len(found) > len(consts)
        for name, make, required, has_columns, path in below:
            inner, has_inner = make(row)
            if has_inner or not has_columns:
                found[name] = inner
                has_value = has_value or has_inner
            elif required:
                raise MappingMismatch(f"{label}: field {path} is required and every column of it is empty")
        if missing is not None and (has_value or node.required):
            raise MappingMismatch(
                f"{label}: field {missing.path}, column {missing.columns[0]}: empty, and the contract requires it"
            )
        for group in oneofs:
            if len(group & found.keys()) > 1:
                raise MappingMismatch(f"{label}: a row fills more than one of {', '.join(sorted(group))}")
        return found, has_value

    return build


def _mismatch(label: str, leaf: _Leaf, values: Sequence[Any], error: Exception, tally: Tally) -> MappingMismatch:
    """Never the value, and never the text of an error that is not ours: it may quote the value."""
    if isinstance(error, UnknownCode):
        tally.add(label, leaf.path, error.code)
    types = " and ".join(type(value).__name__ for value in values)
    why = str(error) if isinstance(error, Unconvertible) else "cannot be converted"
    return MappingMismatch(f"{label}: field {leaf.path}, column {' + '.join(leaf.columns)}: {types} value {why}")
