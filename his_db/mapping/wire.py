"""Rows -> the bytes of a repeated field, for lists: what `rows.py` says, without a Python object for each message.

One function is generated for a plan and an order of columns. It puts the pieces of protobuf's wire format together
(times, codes and small numbers from a bounded cache, each piece made by protobuf itself), and protobuf parses the
whole list at once: several times as fast as one `add(**fields)` for each row. It never decides what is wrong: for
anything that is not plainly right it gives up, and the builder of `rows.py` runs and names the fault.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from his_db import contract

Convert = Callable[..., Any]
Encode = Callable[[Sequence[Sequence[Any]]], bytes]

_CACHED: Final = 1024  # values a column; it begins anew when it is full
_SHORT: Final = 128  # lengths below take one byte
_FIXED: Final = frozenset(
    {
        FieldDescriptor.TYPE_DOUBLE,
        FieldDescriptor.TYPE_FLOAT,
        FieldDescriptor.TYPE_FIXED32,
        FieldDescriptor.TYPE_FIXED64,
        FieldDescriptor.TYPE_SFIXED32,
        FieldDescriptor.TYPE_SFIXED64,
        FieldDescriptor.TYPE_GROUP,
    }
)
# Types of which equal values convert equally. Not bool and float: True and 1.0 equal 1.
_PLAIN: Final = (str, int, date, Decimal, timedelta)


class GiveUp(ValueError):
    """Not plainly right: the builder decides."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A field that columns fill, at these places of a row. `is_text`: trimmed text and nothing else."""

    field: FieldDescriptor
    places: tuple[int, ...]
    convert: Convert
    is_text: bool


@dataclass(slots=True)
class Node:
    """A message. `number`: of its field in the message above."""

    descriptor: Descriptor
    number: int
    is_required: bool
    consts: Mapping[str, Any]
    leaves: list[Leaf] = field(default_factory=list)
    below: list[Node] = field(default_factory=list)

    def has_columns(self) -> bool:
        """Whether a column fills anything in it."""
        return bool(self.leaves) or any(node.has_columns() for node in self.below)

    def is_encodable(self) -> bool:
        """Whether everything in it is: single fields, none of them in a oneof that two could fill."""
        names = [*self.consts, *(leaf.field.name for leaf in self.leaves), *(node_field(self, n) for n in self.below)]
        fields = [self.descriptor.fields_by_name[name] for name in names]
        if any(item.type in _FIXED or item.is_repeated for item in fields) or len(set(names)) < len(names):
            return False
        groups = [item.containing_oneof.full_name for item in fields if item.containing_oneof is not None]
        return len(set(groups)) == len(groups) and all(node.is_encodable() for node in self.below)


def node_field(node: Node, below: Node) -> str:
    """Name of the field that holds `below`."""
    return str(node.descriptor.fields_by_number[below.number].name)


def encoder(into: FieldDescriptor, root: Node) -> Encode | None:
    """A function from rows to the bytes of the repeated field `into`; None when the plan has what it cannot do.

    The function raises whatever it likes of ValueError, ArithmeticError, TypeError, LookupError where a row is not
    plainly right.
    """
    if not root.is_encodable():
        return None
    made = _Source(into.number)
    return made.function(root)


class _Source:
    """The generated function: text from this module only, nothing of a mapping; what it needs goes in by name."""

    def __init__(self, into: int) -> None:
        self._lines: list[str] = []
        self._first: list[str] = []
        self._names: dict[str, Any] = {"GiveUp": GiveUp, "BIG": _length, "HEAD": _heads(into)}
        self._count = 0

    def function(self, root: Node) -> Encode:
        _, body = self._node(root, is_root=True)
        lines = [
            "def encode(rows):",
            "    out = []",
            "    append = out.append",
            *(f"    {line}" for line in self._first),
            "    for row in rows:",
            *(f"        {line}" for line in self._lines),
            f"        body = {body}",
            "        size = len(body)",
            f"        append(HEAD[size] if size < {_SHORT} else HEAD[0][:-1] + BIG(size))",
            "        append(body)",
            "    return b''.join(out)",
        ]
        # Compiled once for a plan; the text holds names and numbers made here, never anything from outside.
        exec(compile("\n".join(lines), "<his160 rows>", "exec"), self._names)  # noqa: S102
        made: Encode = self._names["encode"]
        return made

    def _node(self, node: Node, *, is_root: bool) -> tuple[list[str], str]:
        """Lines that put the pieces of a message into variables; (variables of its columns, expression of its body)."""
        consts = GetMessageClass(node.descriptor)(**node.consts).SerializeToString()
        parts = [self._name("const", consts)] if consts else []
        given: list[str] = []
        needed: list[str] = []
        for leaf in node.leaves:
            piece = self._text(leaf) if leaf.is_text else self._cached(leaf)
            given.append(piece)
            if leaf.field.name in contract.required_fields(node.descriptor):
                needed.append(piece)
        parts += given
        for below in node.below:
            inner, expression = self._node(below, is_root=False)
            piece = self._below(below, inner, expression)
            parts.append(piece)
            if inner:
                given.append(piece)
        if needed:
            checks = " and ".join(needed)
            is_there = "" if is_root else f" and ({' or '.join(given)})"
            self._lines.append(f"if not ({checks}){is_there}: raise GiveUp")
        if len(parts) == 1:
            return given, parts[0]
        return given, f"b''.join(({', '.join(parts)}))" if parts else "b''"

    def _below(self, below: Node, inner: list[str], expression: str) -> str:
        piece = self._variable()
        head = self._name("head", _heads(below.number))
        if not inner:
            self._lines.append(f"{piece} = {head}[0][:-1] + BIG(len({expression})) + {expression}")
            return piece
        self._lines.append(f"if {' or '.join(inner)}:")
        self._lines.append(f"    {piece} = {expression}")
        self._lines.append(f"    {piece} = {head}[0][:-1] + BIG(len({piece})) + {piece}")
        self._lines.append("else: raise GiveUp" if below.is_required else f"else: {piece} = b''")
        return piece

    def _text(self, leaf: Leaf) -> str:
        piece, value, last = self._variable(), self._variable(), self._variable()
        head = self._name("head", _heads(leaf.field.number))
        self._first.append(f"{last} = None")
        long = self._name("long", _long_text(leaf))
        other = self._name("other", _other_text(leaf))
        self._lines += [
            f"{value} = row[{leaf.places[0]}]",
            f"if {value}.__class__ is str:",
            f"  if {value} != {last}:",  # in a list of one session's slots the session is the same in every row
            f"    {last} = {value}",
            f"    {value} = {value}.strip().encode()",
            f"    {piece} = {head}[len({value})] + {value} if 0 < len({value}) < {_SHORT} else {long}({value})",
            f"else: {last} = None; {piece} = {other}({value})",
        ]
        return piece

    def _cached(self, leaf: Leaf) -> str:
        piece = self._variable()
        if len(leaf.places) > 1:
            both = ", ".join(f"row[{place}]" for place in leaf.places)
            self._lines.append(f"{piece} = {self._name('two', _fragment(leaf))}({both})")
            return piece
        value, cache = self._variable(), self._name("cache", _ByType(_fragment(leaf)))
        self._lines.append(f"{value} = row[{leaf.places[0]}]")
        self._lines.append(f"{piece} = {cache}[{value}.__class__][{value}]")
        return piece

    def _variable(self) -> str:
        self._count += 1
        return f"v{self._count}"

    def _name(self, stem: str, value: Any) -> str:
        self._count += 1
        name = f"{stem}{self._count}"
        self._names[name] = value
        return name


class _ByType(dict[type, Any]):
    """By the value's type what gives the piece of a value: a cache where equal values convert equally."""

    def __init__(self, make: Convert) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, sort: type) -> Any:
        found: Any = _Each(self._make)
        if sort in _PLAIN:
            found = _Cache(self._make)
        elif sort is datetime or sort is time:
            found = _Naive(self._make)
        self[sort] = found
        return found


class _Cache(dict[Any, bytes]):
    """Pieces by value, made when missing; bounded."""

    def __init__(self, make: Convert) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, value: Any) -> bytes:
        piece: bytes = self._make(value)
        if len(self) >= _CACHED:
            self.clear()
        self[value] = piece
        return piece


class _Each:
    """No cache."""

    __slots__ = ("_make",)

    def __init__(self, make: Convert) -> None:
        self._make = make

    def __getitem__(self, value: Any) -> bytes:
        piece: bytes = self._make(value)
        return piece


class _Naive:
    """Moments: equal ones may be of different zones or folds, so only plain ones are cached."""

    __slots__ = ("_cache", "_make")

    def __init__(self, make: Convert) -> None:
        self._make = make
        self._cache = _Cache(make)

    def __getitem__(self, value: Any) -> bytes:
        if value.tzinfo is None and not value.fold:
            return self._cache[value]
        piece: bytes = self._make(value)
        return piece


def _fragment(leaf: Leaf) -> Convert:
    """The piece of a field, made by protobuf; empty when the value is absent."""
    item, convert, name = leaf.field, leaf.convert, leaf.field.name
    assert item.containing_type is not None
    message = GetMessageClass(item.containing_type)
    zero = _varint(item.number << 3 | (2 if item.type in {item.TYPE_STRING, item.TYPE_BYTES} else 0)) + b"\0"

    def make(*values: Any) -> bytes:
        value = convert(*values)
        if value is None:
            return b""
        # A zero without presence has no bytes of its own; the piece must not look absent.
        return message(**{name: value}).SerializeToString() or zero

    return make


def _long_text(leaf: Leaf) -> Convert:
    """The piece of trimmed text in UTF-8, blank or long."""
    tag = _varint(leaf.field.number << 3 | 2)

    def make(text: bytes) -> bytes:
        return tag + _length(len(text)) + text if text else b""

    return make


def _other_text(leaf: Leaf) -> Convert:
    """The piece of text from what is no str."""
    convert, long = leaf.convert, _long_text(leaf)

    def make(value: Any) -> bytes:
        found = convert(value)
        piece: bytes = b"" if found is None else long(found.encode())
        return piece

    return make


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_SMALL: Final = tuple(_varint(number) for number in range(1 << 14))


def _length(size: int) -> bytes:
    return _SMALL[size] if size < 1 << 14 else _varint(size)


def _heads(number: int) -> tuple[bytes, ...]:
    """Tag and length of a field with length, for short lengths."""
    tag = _varint(number << 3 | 2)
    return tuple(tag + bytes((size,)) for size in range(_SHORT))
