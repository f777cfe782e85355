"""Where each key and value of a TOML text begins.

`tomllib` gives values without positions. This scanner goes over a text that `tomllib` has already accepted and notes
where each key and value begins; it therefore checks nothing and converts nothing except quoted keys. It follows
TOML 1.0, and lets an inline table go over several lines, which a newer `tomllib` (TOML 1.1) accepts.
"""

from __future__ import annotations

import contextlib
import re
import tomllib
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

Path: TypeAlias = tuple[str | int, ...]
Offset: TypeAlias = int

_BLANK: Final = re.compile(r"[ \t]*")
# White space, line ends and comments, as allowed between statements and between the items of an array.
_FILLER: Final = re.compile(r"(?:[ \t\n]++|#[^\n]*+)*")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_STRING: Final = re.compile(
    # Groups are not possessive: Python before 3.11.5 (Debian 12 has 3.11.2) loses its way in them. They need not be:
    # what a group repeats begins differently, and its runs of characters are, so it goes back over each once at most.
    # A closing triple quote takes up to two more quotes: they belong to the text.
    r'"""(?:[^"\\]++|\\.|"(?!""))*"""(?:"{0,2})'
    r"|'''(?:[^']++|'(?!''))*'''(?:'{0,2})"
    r'|"(?:[^"\\\n]++|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
# A date and a time may be separated by one blank, which otherwise ends a value.
_SCALAR: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d[^ \t\n,\]}#]*|[^ \t\n,\]}#\"'][^ \t\n,\]}#]*")

TRIPLE_QUOTES: Final = ('"""', "'''")


class ScanError(Exception):
    """The text is not TOML. Never for a text that `tomllib` accepted."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """A key or table header written a second time: where the first stands and where the second."""

    path: Path
    first: Offset
    second: Offset


@dataclass(frozen=True, slots=True)
class Survey:
    """The first key written twice, if any, and the strings, arrays and inline tables still open at the fault."""

    repeat: Repeat | None
    open: tuple[Offset, ...]


class Lines:
    """Turns an offset into a text with `\\n` line ends into a line and a column, both 1-based."""

    __slots__ = ("_starts",)

    def __init__(self, text: str) -> None:
        self._starts = (0, *(match.end() for match in re.finditer("\n", text)))

    def at(self, offset: Offset) -> tuple[int, int]:
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1

    def offset(self, line: int, column: int) -> Offset:
        """The offset of a line and column; IndexError for a line that does not exist."""
        return self._starts[line - 1] + column - 1


@dataclass(frozen=True, slots=True)
class Positions:
    """Offsets of every path: `keys` of the key (or of the item of an array), `values` of the value."""

    keys: Mapping[Path, Offset]
    values: Mapping[Path, Offset]
    lines: Lines


def scan(text: str) -> Positions:
    """The positions in `text`, whose line ends must be `\\n` and which `tomllib` must have accepted.

    Raises ScanError for what is not TOML and RecursionError for values nested too deeply.
    """
    scanner = _Scanner(text)
    scanner.document()
    return Positions(scanner.keys, scanner.values, Lines(text))


def survey(text: str) -> Survey:
    """What can be said about a text that `tomllib` refused, looking only as far as it can be scanned."""
    scanner = _Scanner(text)
    # The text is known to be faulty; what was seen before the fault is the answer.
    with contextlib.suppress(ScanError, RecursionError):
        scanner.document()
    # A value may be wanted where the text ends: nothing is open there.
    return Survey(scanner.repeat, tuple(at for at in scanner.open if at < len(text)))


class _Scanner:
    """One pass over one text. `keys` and `values` grow as it goes."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.offset: Offset = 0
        self.keys: dict[Path, Offset] = {}
        self.values: dict[Path, Offset] = {}
        self.repeat: Repeat | None = None
        self.open: list[Offset] = []  # where each value being scanned begins, outermost first
        self._counts: dict[Path, int] = {}  # array of tables -> how many of its tables have been seen
        self._defined: set[Path] = set()  # keys and headers written out, not those implied by a dotted name
        self._closed: set[Path] = set()  # keys with a value after "=": no header or dotted key may add to it
        self._dotted: set[Path] = set()  # tables begun by a dotted key: no header may open them again

    def document(self) -> None:
        table: Path = ()
        while True:
            self._skip(_FILLER)
            if self.offset == len(self.text):
                return
            table = self._header() if self._peek("[") else self._statement(table)

    def _header(self) -> Path:
        """`[a.b]` or `[[a.b]]`: the path of the table it opens."""
        start = self.offset
        is_array = self._peek("[[")
        self.offset += 2 if is_array else 1
        path: Path = ()
        parts = self._dotted_key()
        for part, at in parts[:-1]:
            path = (*path, part)
            self._note_addition(path, at)
            self.keys.setdefault(path, at)
            self.values.setdefault(path, start)
            if path in self._counts:
                path = (*path, self._counts[path] - 1)
        last, at = parts[-1]
        path = (*path, last)
        if path in self._dotted and self.repeat is None:
            self.repeat = Repeat(path, self.keys[path], at)
        if is_array:
            self.keys.setdefault(path, at)
            self.values.setdefault(path, start)
            self._note_repeat(path, at, once=False)
            count = self._counts[path] = self._counts.get(path, 0) + 1
            path = (*path, count - 1)
        else:
            self._note_repeat(path, at)
        self.keys[path] = at
        self.values[path] = start
        self._expect("]]" if is_array else "]")
        return path

    def _statement(self, table: Path) -> Path:
        """`a.b = value`, in a table or in an inline table. Returns `table`, which stays open."""
        parts = self._dotted_key()
        path = table
        for part, at in parts[:-1]:
            path = (*path, part)
            self._note_addition(path, at)
            self.keys.setdefault(path, at)
            self._dotted.add(path)
            # The table of `a.b = 1` has no text of its own: it begins where its name does.
            self.values.setdefault(path, at)
        last, at = parts[-1]
        path = (*path, last)
        self._note_repeat(path, at)
        self.keys[path] = at
        self._expect("=")
        self._skip(_BLANK)
        self._value(path)
        self._closed.add(path)
        return table

    def _value(self, path: Path) -> None:
        start = self.values[path] = self.offset
        self.open.append(start)
        if self._peek("["):
            self._array(path)
        elif self._peek("{"):
            self._inline_table(path)
        elif not (self._skip(_STRING) or self._skip(_SCALAR)):
            raise ScanError(start)
        elif self.text.startswith(TRIPLE_QUOTES, start) and self.offset - start < 6:
            # Half of an opening triple quote was read as an empty string: the closing one is missing.
            raise ScanError(start)
        self.open.pop()

    def _array(self, path: Path) -> None:
        self.offset += 1
        index = 0
        while True:
            self._skip(_FILLER)
            if self._peek("]"):
                break
            item = (*path, index)
            self.keys[item] = self.offset
            self._value(item)
            index += 1
            self._skip(_FILLER)
            if not self._peek("]"):
                self._expect(",")
        self.offset += 1

    def _inline_table(self, path: Path) -> None:
        self.offset += 1
        while True:
            self._skip(_FILLER)
            if self._peek("}"):
                break
            self._statement(path)
            self._skip(_FILLER)
            if not self._peek("}"):
                self._expect(",")
        self.offset += 1

    def _dotted_key(self) -> list[tuple[str, Offset]]:
        """The parts of a key, at least one, each with its offset."""
        parts: list[tuple[str, Offset]] = []
        while True:
            self._skip(_BLANK)
            start = self.offset
            if not (self._skip(_BARE_KEY) or self._skip(_STRING)):
                raise ScanError(start)
            parts.append((_key_text(self.text[start : self.offset]), start))
            self._skip(_BLANK)
            if not self._peek("."):
                return parts
            self.offset += 1

    def _note_repeat(self, path: Path, at: Offset, *, once: bool = True) -> None:
        """Remember that `path` is written out here; `once`: it may not be written again."""
        is_new = path not in self._defined and not (once and path in self._counts)
        clashes = once or path not in self._counts
        if not is_new and clashes and self.repeat is None:
            self.repeat = Repeat(path, self.keys[path], at)
        self._defined.add(path)

    def _note_addition(self, path: Path, at: Offset) -> None:
        """Remember that something is added below `path`, which a value already given there does not allow."""
        if path in self._closed and self.repeat is None:
            self.repeat = Repeat(path, self.keys[path], at)

    def _peek(self, token: str) -> bool:
        return self.text.startswith(token, self.offset)

    def _expect(self, token: str) -> None:
        self._skip(_BLANK)
        if not self._peek(token):
            raise ScanError(self.offset)
        self.offset += len(token)

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        """Go past `pattern` if it is here; whether anything was passed."""
        match = pattern.match(self.text, self.offset)
        if match is None:
            return False
        self.offset = match.end()
        return bool(match.group())


def _key_text(raw: str) -> str:
    if raw[0] not in "\"'":
        return raw
    if raw[0] == '"' and "\\" in raw:
        try:
            return str(tomllib.loads(f"key = {raw}")["key"])
        except tomllib.TOMLDecodeError as error:
            raise ScanError(raw) from error
    return raw[1:-1]
