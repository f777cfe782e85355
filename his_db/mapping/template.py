"""Request templates of kind http: `{{name}}` in JSON, XML, a form or a URL, each value escaped for where it stands.

`{{name|json}}` and `{{name|xml}}` escape for a document inside the document: XML in a JSON text, JSON in CDATA.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote, quote_plus

from his_db.mapping.convert_in import code_text
from his_db.mapping.convert_out import Unbindable
from his_db.mapping.reply import ReplyError, parse_json, parse_xml

PLACE: Final = re.compile(r"\{\{\s*(?P<name>[A-Za-z_]\w*)(?:\s*\|\s*(?P<inner>json|xml))?\s*\}\}")
_CHUNK: Final = re.compile(r'\\.|"', re.DOTALL)
_NO_XML: Final = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_XML: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;", "\r": "&#13;"}
_HOSTILE: Final = "]]>\"'<&\\/\n{}"

Write = Callable[[Any], str]


class Template:
    """A text with places, compiled for its format: json, xml, form or url."""

    __slots__ = ("_pieces", "format", "names")

    def __init__(self, text: str, format_: str, charset: str = "utf-8") -> None:
        self.format = format_
        self._pieces: list[tuple[str, str, Write]] = []
        at, in_string = 0, False
        self._pieces = []
        for match in PLACE.finditer(text):
            before = text[at : match.start()]
            in_string ^= sum(found[0] == '"' for found in _CHUNK.finditer(before)) % 2 == 1
            write = _writer(format_, match["inner"] or "", in_string, charset)
            self._pieces.append((before, match["name"], write))
            at = match.end()
        self._pieces.append((text[at:], "", str))
        self.names = tuple(dict.fromkeys(name for _, name, _ in self._pieces if name))

    def fill(self, values: Mapping[str, Any]) -> str:
        """The text with its values. Raises Unbindable for a value that cannot stand there; never quotes it."""
        found: list[str] = []
        for text, name, write in self._pieces:
            found.append(text)
            if name:
                found.append(write(values[name]))
        return "".join(found)

    def fault(self) -> str:
        """Why the template is no document of its format, whatever its values are; empty when it is one."""
        for value in (None, 1, "x", _HOSTILE):
            filled = self.fill(dict.fromkeys(self.names, value))
            try:
                if self.format == "json":
                    parse_json(filled)
                elif self.format == "xml":
                    parse_xml(filled)
            except ReplyError as error:
                return str(error)
        return ""


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(" ")
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, bytes):
        raise Unbindable("is raw bytes, which have no place in a text")
    return code_text(value) if not isinstance(value, str) else value


def _json_text(value: Any) -> str:
    """Inside the quotes of a JSON text; `<`, `>` and `&` are escaped too, so that it may stand in CDATA or XML."""
    text = json.dumps(_plain(value), ensure_ascii=False)[1:-1]
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").replace("'", "\\u0027")


def _json_value(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        return json.dumps(value if isinstance(value, bool) else _plain(value), ensure_ascii=False)
    return _plain(value)


def _xml(value: Any) -> str:
    text = _plain(value)
    if _NO_XML.search(text):
        raise Unbindable("holds a character that XML does not allow")
    return "".join(_XML.get(char, char) for char in text)


def _writer(format_: str, inner: str, in_string: bool, charset: str) -> Write:
    if format_ == "url":
        return lambda value: quote(_plain(value), safe="", encoding=charset)
    if format_ == "form":
        return lambda value: _form(value, charset)
    if format_ == "json":
        if not in_string:
            return _json_value
        return (lambda value: _json_text(_xml(value))) if inner == "xml" else _json_text
    if format_ == "xml":
        return (lambda value: _xml_safe(_json_text(value))) if inner == "json" else _xml
    return _plain


def _form(value: Any, charset: str) -> str:
    try:
        return quote_plus(_plain(value), encoding=charset, errors="strict")
    except UnicodeEncodeError:
        raise Unbindable("holds a character that the charset does not have") from None


def _xml_safe(text: str) -> str:
    """JSON in an XML text or in CDATA: json escaped what XML would see, the quotes are harmless outside attributes."""
    if _NO_XML.search(text):
        raise Unbindable("holds a character that XML does not allow")
    return text
