"""Rows -> the bytes of a repeated field, for lists: what `rows.py` says, without a Python object for each message.

Functions are generated for a plan, an order of columns and the types that come in them. They put the pieces of
protobuf's wire format together (times, codes and small numbers from bounded caches, each piece made by protobuf itself)
as text of which each character is a byte, since Python joins text fastest, and protobuf parses the whole list at once.

Two of them: `encode` takes rows as they usually are, and hands what is not in its caches or of another type to `piece`,
which takes everything. Neither decides what is wrong: for anything that is not plainly right they give up, and the
builder of `rows.py` runs and names the fault.
"""

from __future__ import annotations

import functools
import threading
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
_WORTH: Final = 4  # rows for each value that a cache took in; fewer: it is not asked any more
_SAMPLE: Final = 16  # rows that tell what comes in a column
_LEARNT: Final = 8  # times that one encoder is made anew, because other types come than did
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

# What a cache may be asked with, by the types that come in its column; {0} is the value. 1, True, 1.0 and Decimal(1)
# are one key of a dict and four different values, so these types are kept apart; moments of two zones may be equal.
_ANY: Final = "{0}"
_EXACT: Final = "{0} if type({0}) is %s else MISSING"
_NAIVE: Final = "{0} if type({0}) is %s and {0}.tzinfo is None and not {0}.fold else MISSING"
_APART: Final[Mapping[type, str]] = {
    **{sort: _EXACT % sort.__name__ for sort in (int, bool, float, Decimal, bytes)},
    **{sort: _NAIVE % sort.__name__ for sort in (datetime, time)},
}
_OR_NONE: Final = "{0} if {0} is None else "  # before one of these, where the column was seen to be NULL
_TOGETHER: Final = frozenset({str, date, timedelta})
_NONE: Final = type(None)


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


def encoder(into: FieldDescriptor, root: Node, width: int) -> Encode | None:
    """A function from rows of `width` columns to the bytes of the repeated field `into`; None when the plan has what it
    cannot do.

    The function raises whatever it likes of ValueError, ArithmeticError, TypeError, LookupError where a row is not
    plainly right.
    """
    return _Encoder(into.number, root, width) if root.is_encodable() else None


class _Encoder:
    """Used by several threads at once: what they use is replaced in one step, or a cache."""

    __slots__ = ("_columns", "_encode", "_into", "_learning", "_learnt", "_piece", "_root", "_seen", "_sorts", "_width")

    def __init__(self, into: int, root: Node, width: int) -> None:
        self._into = into
        self._root = root
        self._width = width
        self._columns = [_Column(leaf, _is_needed(node, leaf)) for node, leaf in _leaves(root)]
        self._seen = 0
        self._learnt = 0
        self._learning = threading.Lock()
        self._sorts: tuple[str, ...] | None = None
        self._piece = _Source(into, self._columns, None, None).piece(root)
        self._encode: Callable[[Sequence[Sequence[Any]]], tuple[str, int]] | None = None

    def __call__(self, rows: Sequence[Sequence[Any]]) -> bytes:
        encode = self._encode or self._learn(rows)
        self._seen += len(rows)
        found, missed = encode(rows)
        if missed * 4 > len(rows) and self._learnt < _LEARNT:
            self._learn(rows)
        return found.encode("latin-1")

    def _learn(self, rows: Sequence[Sequence[Any]]) -> Callable[[Sequence[Sequence[Any]]], tuple[str, int]]:
        """`encode` for what comes in these rows; the one there is when it is for the same."""
        with self._learning:
            sample = rows[:: max(1, len(rows) // _SAMPLE)][:_SAMPLE]
            sorts = tuple(column.sort(sample, self._seen) for column in self._columns)
            encode = self._encode
            if encode is None or sorts != self._sorts:
                for column, sort in zip(self._columns, sorts, strict=True):
                    column.use(sort, self._seen)
                source = _Source(self._into, self._columns, sorts, self._piece)
                self._encode = encode = source.encode(self._root, self._width)
                self._sorts = sorts
                self._learnt += 1
            return encode


class _Column:
    """A leaf and the pieces of its values. Called with values, makes the piece of them and may keep it.

    The cache of a needed leaf never holds the piece of an absent value, which is empty.
    """

    __slots__ = ("_is_worth", "_make", "_since", "_sort", "_store", "is_needed", "leaf")

    def __init__(self, leaf: Leaf, is_needed: bool) -> None:
        self.leaf = leaf
        self.is_needed = is_needed
        # One pair, so that no cache ever takes a value in that another one was made for.
        self._store: tuple[Callable[[Any], bool], dict[Any, str]] = (_never, {})
        self._make = _text(leaf) if leaf.is_text else _fragment(leaf)
        self._sort = ""
        self._since = 0
        self._is_worth = True

    def __call__(self, *values: Any) -> str:
        piece: str = self._make(*values)
        is_kept, cache = self._store
        if is_kept(values[0]) and (piece or not self.is_needed):
            if len(cache) >= _CACHED:
                cache.clear()
            cache[values[0]] = piece
        return piece

    @property
    def cache(self) -> dict[Any, str]:
        """Pieces by value."""
        return self._store[1]

    def sort(self, rows: Sequence[Sequence[Any]], seen: int) -> str:
        """What comes in the column: `same`, `text`, `text or NULL`, text of a key of the cache, or nothing of use."""
        leaf = self.leaf
        if len(leaf.places) > 1:
            return ""
        values = [row[leaf.places[0]] for row in rows]
        if leaf.is_text:
            if len(values) > 1 and all(value == values[0] for value in values):
                return "same"
            return "text or NULL" if None in values else "text"
        if self._sort and len(self.cache) >= _CACHED // 2 and seen - self._since < _WORTH * len(self.cache):
            self._is_worth = False
        if not self._is_worth:
            return ""
        types = {type(value) for value in values} - {_NONE}
        if types <= _TOGETHER:
            return _ANY
        apart = _APART.get(types.pop(), "") if len(types) == 1 else ""
        return _OR_NONE + apart if apart and None in values else apart

    def use(self, sort: str, seen: int) -> None:
        """From now on values come that `sort` describes."""
        if sort != self._sort:
            self._sort, self._since = sort, seen
            self._store = (_KEPT.get(sort, _never), {})


class _Source:
    """One generated function: text from this module only, nothing of a mapping; what it needs goes in by name.

    `sorts`: of the columns, in their order; None: nothing is known of them.
    """

    def __init__(
        self,
        into: int,
        columns: Sequence[_Column],
        sorts: Sequence[str] | None,
        piece: Callable[[Sequence[Any]], str] | None,
    ) -> None:
        self._into = into
        self._columns = {id(column.leaf): at for at, column in enumerate(columns)}
        self._all = columns
        self._sorts = sorts
        self._lines: list[str] = []
        self._first: list[str] = []
        self._names: dict[str, Any] = {**_NAMES, "piece": piece}
        self._count = 0

    def piece(self, root: Node) -> Callable[[Sequence[Any]], str]:
        """From one row to its piece of the list, whatever comes in it."""
        _, body = self._node(root, is_root=True)
        lines = [f"body = f'{body}'", f"return f'{_tag(self._into)}{{LENGTH(len(body))}}{{body}}'"]
        made: Callable[[Sequence[Any]], str] = self._compiled("row", [*self._lines, *lines])
        return made

    def encode(self, root: Node, width: int) -> Callable[[Sequence[Sequence[Any]]], tuple[str, int]]:
        """From rows to the list, and how many of them had to go to `piece`."""
        _, body = self._node(root, is_root=True)
        names = ", ".join(f"r{at}" for at in range(width))
        heads = self._name("heads", _heads(self._into))
        lines = [
            "out = []",
            "append = out.append",
            "missed = 0",
            *self._first,
            "for row in rows:",
            " try:",
            f"  {names}{',' if width == 1 else ''} = row",
            *(f"  {line}" for line in self._lines),
            f"  body = f'{body}'",
            f"  append({heads}[len(body)])",
            "  append(body)",
            " except (LookupError, TypeError):",  # not cached yet, or not what usually comes
            "  missed += 1",
            "  append(piece(row))",
            "return ''.join(out), missed",
        ]
        made: Callable[[Sequence[Sequence[Any]]], tuple[str, int]] = self._compiled("rows", lines)
        return made

    def _compiled(self, argument: str, lines: Sequence[str]) -> Any:
        text = "\n".join([f"def made({argument}):", *(f" {line}" for line in lines)])
        # The text holds names and numbers made here, never anything from outside: constants are escaped byte by byte.
        exec(compile(text, "<his160 rows>", "exec"), self._names)  # noqa: S102
        return self._names["made"]

    def _node(self, node: Node, *, is_root: bool) -> tuple[list[str], str]:
        """Lines that put the pieces of a message into variables; (what is true when a column gave something, its body
        as text of an f-string)."""
        consts = GetMessageClass(node.descriptor)(**node.consts).SerializeToString()
        body = [_escaped(consts)]
        given: list[str] = []
        needed: list[str] = []
        for leaf in node.leaves:
            variable, part, is_sure = self._leaf(leaf, is_root=is_root)
            given.append(variable)
            body.append(part)
            if _is_needed(node, leaf) and not is_sure:
                needed.append(variable)
        for below in node.below:
            inner, text = self._node(below, is_root=False)
            variable = self._below(below, inner, text)
            body.append(f"{{{variable}}}")
            if inner:
                given.append(variable)
        if needed:
            is_there = "" if is_root else f" and ({' or '.join(given)})"
            self._lines.append(f"if not ({' and '.join(needed)}){is_there}: raise GiveUp")
        return given, "".join(body)

    def _below(self, below: Node, inner: list[str], body: str) -> str:
        inside, variable = self._variable(), self._variable()
        put = f"{inside} = f'{body}'; {variable} = f'{_tag(below.number)}{{LENGTH(len({inside}))}}{{{inside}}}'"
        if not inner:
            self._lines.append(put)
            return variable
        self._lines.append(f"if {' or '.join(inner)}: {put}")
        self._lines.append("else: raise GiveUp" if below.is_required else f"else: {variable} = ''")
        return variable

    def _leaf(self, leaf: Leaf, *, is_root: bool) -> tuple[str, str, bool]:
        """(A variable that is empty when the value is absent, text of the piece in an f-string, whether it is never
        empty). Nobody asks whether anything is in the root: what is in a cache needs no variable there."""
        at = self._columns[id(leaf)]
        column, sort = self._all[at], "" if self._sorts is None else self._sorts[at]
        values = [f"r{place}" if self._sorts is not None else f"row[{place}]" for place in leaf.places]
        variable = self._variable()
        if sort in {"text", "text or NULL"}:
            return self._plain(leaf, values[0], variable, column.is_needed, sort != "text")
        if sort == "same":
            return self._repeated(leaf, values[0], variable)
        if sort:
            piece = f"{self._name('cache', column.cache)}[{sort.format(values[0])}]"
            if is_root:
                return variable, f"{{{piece}}}", True
            self._lines.append(f"{variable} = {piece}")
            return variable, f"{{{variable}}}", column.is_needed
        self._lines.append(f"{variable} = {self._name('column', column)}({', '.join(values)})")
        return variable, f"{{{variable}}}", False

    def _plain(
        self, leaf: Leaf, value: str, variable: str, is_needed: bool, may_be_null: bool
    ) -> tuple[str, str, bool]:
        null = f"'' if {value} is None else " if may_be_null else ""
        self._lines += [
            f"{variable} = {null}strip({value})",  # what is no text goes to `piece`
            f"if not {variable}.isascii(): {variable} = utf8({variable})",
        ]
        tag = _tag(leaf.field.number)
        if not is_needed:
            named = self._name("tag", _varint(leaf.field.number << 3 | 2).decode("latin-1"))
            tag = f"{{{named} if {variable} else {variable}}}"
        return variable, f"{tag}{{SIZES[len({variable})]}}{{{variable}}}", False

    def _repeated(self, leaf: Leaf, value: str, variable: str) -> tuple[str, str, bool]:
        """In a list of one session's slots the session is the same in every row."""
        last = self._variable()
        column = self._name("column", self._all[self._columns[id(leaf)]])
        self._first.append(f"{last} = MISSING")
        # Only text is remembered, so that what equals it is text: 1 equals True, and neither is the other's piece.
        remember = f"{last} = {value} if type({value}) is str else MISSING"
        self._lines.append(f"if {value} != {last}: {variable} = {column}({value}); {remember}")
        return variable, f"{{{variable}}}", False

    def _variable(self) -> str:
        self._count += 1
        return f"v{self._count}"

    def _name(self, stem: str, value: Any) -> str:
        self._count += 1
        name = f"{stem}{self._count}"
        self._names[name] = value
        return name


def _leaves(node: Node) -> list[tuple[Node, Leaf]]:
    found = [(node, leaf) for leaf in node.leaves]
    for below in node.below:
        found += _leaves(below)
    return found


def _is_needed(node: Node, leaf: Leaf) -> bool:
    return leaf.field.name in contract.required_fields(node.descriptor)


def _never(_: Any) -> bool:
    return False


def _fragment(leaf: Leaf) -> Callable[..., str]:
    """The piece of a field, made by protobuf; empty when the value is absent."""
    item, convert, name = leaf.field, leaf.convert, leaf.field.name
    assert item.containing_type is not None
    message = GetMessageClass(item.containing_type)
    zero = _varint(item.number << 3 | (2 if item.type in {item.TYPE_STRING, item.TYPE_BYTES} else 0)) + b"\0"

    def make(*values: Any) -> str:
        value = convert(*values)
        if value is None:
            return ""
        # A zero without presence has no bytes of its own; the piece must not look absent.
        return (message(**{name: value}).SerializeToString() or zero).decode("latin-1")

    return make


def _text(leaf: Leaf) -> Callable[..., str]:
    """The piece of trimmed text in UTF-8; empty when it is blank."""
    tag, convert = _varint(leaf.field.number << 3 | 2).decode("latin-1"), leaf.convert

    def make(value: Any) -> str:
        found = convert(value)
        if found is None:
            return ""
        content = _utf8(found)
        return f"{tag}{_length(len(content))}{content}"

    return make


def _utf8(value: str) -> str:
    return value.encode().decode("latin-1")


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_LENGTHS: Final = tuple(_varint(number).decode("latin-1") for number in range(1 << 11))


def _length(size: int) -> str:
    return _LENGTHS[size] if size < 1 << 11 else _varint(size).decode("latin-1")


@functools.cache
def _heads(number: int) -> tuple[str, ...]:
    """Tag and length of a message in a list, by the length."""
    tag = _varint(number << 3 | 2).decode("latin-1")
    return tuple(tag + length for length in _LENGTHS)


def _tag(number: int) -> str:
    """The tag of a field with length, as text of an f-string."""
    return _escaped(_varint(number << 3 | 2))


def _escaped(content: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in content)


_MISSING: Final = object()  # in no cache
_NAMES: Final[Mapping[str, Any]] = {
    "GiveUp": GiveUp,
    "LENGTH": _length,
    "LENGTHS": _LENGTHS,
    "SIZES": ("", *_LENGTHS[1:]),  # of text that is absent when it is empty
    "MISSING": _MISSING,
    "strip": str.strip,
    "utf8": _utf8,
    **{sort.__name__: sort for sort in _APART},
}
# By the key of a cache: which values it takes.
_KEPT: Final[Mapping[str, Callable[[Any], bool]]] = {
    _ANY: lambda value: value is None or type(value) in _TOGETHER,
    **{
        sort: eval(f"lambda value: ({sort.format('value')}) is not MISSING", dict(_NAMES))  # noqa: S307 - our own text
        for apart in _APART.values()
        for sort in (apart, _OR_NONE + apart)
    },
}
