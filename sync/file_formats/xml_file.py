"""XML: rows are the elements named ``row``, or the children of the root; columns their attributes and children."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

from sync.file_format import BadFile, FileFault, FileFormat, FileRow, OpenFile, plain

# expat: no element found, unclosed token, unclosed CDATA section
_SHORT: Final = frozenset({3, 5, 20})
_DEEPEST: Final = 64


class XmlFile:
    """See ``FileFormat``. No DTD, no entities, nothing outside. Elements inside a column are named ``patient.name``."""

    names_columns = False

    def rows(self, file: OpenFile) -> Iterator[FileRow]:
        wanted, number, depth = file.settings.row.casefold(), 0, 0
        inside = 0  # depth of the row that is open
        root: Element | None = None
        # Read as text: expat knows no GBK, and what the declaration says counts for nothing then.
        with file.path.open(encoding=file.encoding, newline="") as stream:
            try:
                for event, element in iterparse(stream, events=("start", "end"), forbid_dtd=True):
                    if event == "start":
                        depth += 1
                        root = element if root is None else root
                        if depth > _DEEPEST:
                            raise BadFile(FileFault.FORBIDDEN, "elements are nested too deeply", number + 1)
                        if not inside and (_name(element) == wanted if wanted else depth == 2):
                            inside = depth
                        continue
                    if inside == depth:
                        number += 1
                        inside = 0
                        yield FileRow(number, dict(_columns(element, "")))
                    depth -= 1
                    if not inside and root is not None:
                        element.clear()
                        if depth == 1:
                            root.clear()
            except ParseError as error:
                fault = FileFault.INCOMPLETE if error.code in _SHORT else FileFault.SYNTAX
                raise BadFile(fault, f"not valid XML (expat {error.code})", number + 1) from None
            except DefusedXmlException as error:
                raise BadFile(FileFault.FORBIDDEN, type(error).__name__, number + 1) from None
            except UnicodeDecodeError:
                raise BadFile(FileFault.ENCODING, f"a byte that is no {file.encoding}", number + 1) from None


def _columns(element: Element, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in element.attrib.items():
        yield prefix + _plain_name(name), plain(value)
    for child in element:
        path = prefix + _name(child)
        if len(child):
            yield from _columns(child, path + ".")
        else:
            yield path, plain(child.text or "")
            for name, value in child.attrib.items():
                yield f"{path}.{_plain_name(name)}", plain(value)


def _name(element: Element) -> str:
    return _plain_name(element.tag)


def _plain_name(name: str) -> str:
    return name.rpartition("}")[2].casefold()


FORMAT: FileFormat = XmlFile()
