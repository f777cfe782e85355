"""Replies of kind http: JSON or XML read into one tree, and paths into it (`data.list[0].id`, `/Body/Item/@code`).

A path names elements by their local names; `.` and `/` mean the same; `[0]` takes one of several; `@x` an attribute.
A path that begins with `/` or `$.` starts at the top of the reply, any other at the row. What is not there is NULL.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final
from xml.parsers import expat

_STEP: Final = re.compile(r"(?:^|[./])(?P<name>@?[^./\[\]@\s]+)|\[(?P<at>[0-9]{1,5})\]")
_DECLARED: Final = re.compile(rb"""^\s*<\?xml[^>]*encoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
_CHARSET: Final = re.compile(r"charset\s*=\s*\"?([A-Za-z0-9._-]+)", re.IGNORECASE)
_DEPTH: Final = 200
_NIL: Final = frozenset({"true", "1"})


class ReplyError(ValueError):
    """What came back is no document of its format. The text holds no values."""


@dataclass(slots=True)
class Element:
    """An XML element: local name, attributes by local name, elements below, text of its own."""

    name: str
    attributes: dict[str, str]
    below: list[Element] = field(default_factory=list)
    text: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ReplyPath:
    """A compiled path."""

    from_top: bool
    steps: tuple[str | int, ...]


def parse_path(text: str) -> ReplyPath | None:
    """The path in `text`; None when it is none."""
    from_top = text.startswith(("/", "$."))
    rest = text.removeprefix("$").lstrip("./") if from_top else text.removeprefix("./")
    steps: list[str | int] = []
    at = 0
    for match in _STEP.finditer(rest):
        if match.start() != at:
            return None
        steps.append(match["name"] if match["name"] else int(match["at"]))
        at = match.end()
    return ReplyPath(from_top, tuple(steps)) if steps and at == len(rest) else None


def decode(body: bytes, content_type: str, charset: str) -> str:
    """The text of a reply: byte order mark, XML declaration, Content-Type, then the mapping's charset decide."""
    declared = _DECLARED.match(body)
    named = _CHARSET.search(content_type)
    name = declared[1].decode() if declared else named[1] if named else charset
    name = "gb18030" if name.lower().replace("-", "") in {"gbk", "gb2312", "cp936"} else name
    try:
        return body.decode("utf-8-sig" if body.startswith(b"\xef\xbb\xbf") else name)
    except (UnicodeDecodeError, LookupError):
        raise ReplyError("is not in the charset that it says") from None


def parse_json(text: str) -> Any:
    """JSON with exact numbers. Raises ReplyError."""
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=_no_constant)
    except (ValueError, RecursionError, ArithmeticError):
        raise ReplyError("is not JSON") from None


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def parse_xml(text: str) -> Element:
    """XML as a nameless element above its root. Raises ReplyError; a document type is refused (entity bombs)."""
    top = Element("", {})
    stack = [top]
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True

    def start(name: str, attributes: dict[str, str]) -> None:
        if len(stack) > _DEPTH:
            raise ReplyError("is nested too deeply")
        found = Element(_local(name), {_local(key): value for key, value in attributes.items()})
        stack[-1].below.append(found)
        stack.append(found)

    def refuse(*_: Any) -> None:
        raise ReplyError("has a document type, which is not read")

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda name: stack.pop()
    parser.CharacterDataHandler = lambda data: stack[-1].text.append(data)
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(text, True)
    except (expat.ExpatError, UnicodeEncodeError):
        raise ReplyError("is not XML") from None
    return top


def _local(name: str) -> str:
    return name.rpartition(" ")[2].rpartition(":")[2]


def soap_body(top: Element) -> Element:
    """The Body of a SOAP envelope, as the top of the reply. Raises ReplyError."""
    for envelope in top.below:
        for part in envelope.below:
            if part.name == "Body":
                return part
    raise ReplyError("is no SOAP envelope")


def select(top: Any, row: Any, path: ReplyPath) -> list[Any]:
    """Everything that the path reaches, in order; lists on the way are gone through."""
    found = [top if path.from_top else row]
    for step in path.steps:
        if isinstance(step, int):
            items = found[0] if len(found) == 1 and isinstance(found[0], list) else found
            found = items[step : step + 1]
        else:
            found = [item for node in found for item in _below(node, step)]
    return [item for node in found for item in (node if isinstance(node, list) else [node])]


def _below(node: Any, name: str) -> list[Any]:
    if isinstance(node, dict):
        return [node[name]] if name in node else []
    if isinstance(node, list):
        return [item for each in node for item in _below(each, name)]
    if isinstance(node, Element):
        if name.startswith("@"):
            return [node.attributes[name[1:]]] if name[1:] in node.attributes else []
        return [child for child in node.below if child.name == name]
    return []


def value_at(top: Any, row: Any, path: ReplyPath) -> Any:
    """The first value that the path reaches; None when there is none, or an element that says nil."""
    found = select(top, row, path)
    if not found:
        return None
    value = found[0]
    if not isinstance(value, Element) or value.below:
        return value
    return None if value.attributes.get("nil") in _NIL else "".join(value.text)
