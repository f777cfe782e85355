"""JSON: a list of objects, at the top or below ``row`` (``data.rows``); or one object after another (NDJSON)."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping
from typing import IO, Any, Final

import ijson

from sync.file_format import BadFile, FileFault, FileFormat, FileRow, OpenFile, plain

_CHUNK: Final = 64 * 1024
_DEEPEST: Final = 8


class JsonFile:
    """See ``FileFormat``. Values in objects inside a row are named by their path: ``patient.name``."""

    names_columns = False

    def rows(self, file: OpenFile) -> Iterator[FileRow]:
        number = 0
        with file.path.open("rb") as raw:
            source = _AsUtf8(raw, file.encoding)
            first = source.first()
            if not first:
                raise BadFile(FileFault.INCOMPLETE, "the file is empty")
            place = _Place(file.settings.row)
            try:
                for item in place.items(source, is_list=first == "["):
                    number += 1
                    if isinstance(item, Mapping):
                        yield FileRow(number, dict(_flat(item, "", 0)))
                    else:
                        yield FileRow(number, {}, "the row is no object")
            except ijson.JSONError as error:
                # Two parsers stand behind ijson; both say so when the text only ends too early.
                words = str(error).lower()
                is_short = "premature" in words or "incomplete" in words
                detail = "the text ends too early" if is_short else "not valid JSON"
                raise BadFile(FileFault.INCOMPLETE if is_short else FileFault.SYNTAX, detail, number + 1) from None
            except UnicodeDecodeError:
                raise BadFile(FileFault.ENCODING, f"a byte that is no {file.encoding}", number + 1) from None
            if not place.is_there:
                raise BadFile(FileFault.COLUMNS, f"there is no list {file.settings.row}")


class _Place:
    """Where the rows stand; whether it was met."""

    def __init__(self, row: str) -> None:
        self._row = row
        self.is_there = not row

    def items(self, source: _AsUtf8, *, is_list: bool) -> Iterator[Any]:
        if self._row:
            return iter(ijson.items(self._noting(source), f"{self._row}.item"))
        return iter(ijson.items(source, "item" if is_list else "", use_float=False, multiple_values=not is_list))

    def _noting(self, source: _AsUtf8) -> Iterator[tuple[str, str, Any]]:
        for prefix, event, value in ijson.parse(source, use_float=False):
            self.is_there = self.is_there or (event == "start_array" and prefix == self._row)
            yield prefix, event, value


class _AsUtf8:
    """A file in any encoding as ijson wants it."""

    def __init__(self, raw: IO[bytes], encoding: str) -> None:
        self._raw = raw
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._ahead = b""
        self.has_ended = False

    def first(self) -> str:
        """The first character that is no white space; empty for an empty file."""
        while not self.has_ended and not self._ahead.strip():
            self._ahead += self._more()
        return self._ahead.strip()[:1].decode("utf-8", "replace")

    def read(self, size: int = -1) -> bytes:
        """At least one byte, unless the file has ended."""
        found, self._ahead = self._ahead, b""
        if size == 0:
            self._ahead = found
            return b""
        while not found and not self.has_ended:
            found = self._more()
        return found

    def _more(self) -> bytes:
        block = self._raw.read(_CHUNK)
        self.has_ended = not block
        return self._decoder.decode(block, final=not block).encode()


def _flat(item: Mapping[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    for name, value in item.items():
        path = f"{prefix}{name.strip().casefold()}"
        if isinstance(value, Mapping):
            if depth < _DEEPEST:
                yield from _flat(value, path + ".", depth + 1)
        elif not isinstance(value, list):
            yield path, plain(value)


FORMAT: FileFormat = JsonFile()
