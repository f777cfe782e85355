"""A TOML document that knows where each of its keys and values stands."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from his_db.document import encoding, positions, recovery
from his_db.document.damage import Damage
from his_db.document.positions import Path, Positions
from his_db.document.problem import DocumentError, Place, Problem

__all__ = ["Document", "Path", "load_document", "parse_document", "read_document"]


def _no_positions() -> Positions:
    return positions.scan("")


@dataclass(frozen=True, slots=True)
class Document:
    """What `tomllib` returned for `file`, and where it stands there.

    A path is a tuple of keys and indexes: `("result", 0, "fields", 2, "to")`. `file` is the name shown to the reader.
    A document made without positions answers every question with line 1, column 1. `damage` grows while it is checked.
    """

    file: str
    data: dict[str, Any]
    positions: Positions = field(default_factory=_no_positions, repr=False, compare=False)
    damage: Damage = field(default_factory=Damage, repr=False, compare=False)

    def place(self, path: Path) -> Place:
        """Where the last key of `path` is written, or the element for an index.

        A table is placed at its name in its own header, or at the first mention of its name when it has none.
        What does not exist is placed at its nearest parent that does; the document itself is line 1, column 1.
        """
        return self._nearest(self.positions.keys, path)

    def value_place(self, path: Path) -> Place:
        """Where the value at `path` begins; for a table, its header's bracket. Falls back as `place`."""
        return self._nearest(self.positions.values, path)

    def _nearest(self, offsets: Mapping[Path, int], path: Path) -> Place:
        while path:
            offset = offsets.get(path)
            if offset is not None:
                return Place(self.file, *self.positions.lines.at(offset))
            path = path[:-1]
        return Place(self.file, 1, 1)


def parse_document(text: str | bytes, file: str) -> Document:
    """The document in `text`; bytes must be UTF-8, with or without a byte order mark. No text: an empty document.

    Raises DocumentError with its faults, as many as can be told apart.
    """
    document, problems = read_document(text, file)
    if document is None or problems:
        raise DocumentError(problems)
    return document


def read_document(text: str | bytes, file: str) -> tuple[Document | None, tuple[Problem, ...]]:
    """As `parse_document`, as far as a faulty text can be read: None when it cannot, or when only guesses could."""
    found: list[Problem] = []
    if isinstance(text, bytes):
        decoded, problem = encoding.read(text, file)
        found += [] if problem is None else [problem]
        if decoded is None:
            return None, tuple(found)
        text = decoded
    else:
        text = encoding.normalise(text, file)
    parsed, problems = recovery.parse_on(text, file)
    document = None if parsed is None else Document(file, parsed.data, parsed.positions, parsed.damage)
    return document, (*found, *problems)


def load_document(path: pathlib.Path, *, name: str | None = None) -> Document:
    """The document in the file `path`, shown to the reader as `name` (default: the path as given).

    Raises DocumentError, also when the file cannot be read (the OSError is its cause).
    """
    file = str(path) if name is None else name
    try:
        raw = path.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        problem = Problem(
            Place(file, 1, 1),
            "H100",
            f"the file cannot be read: {reason}",
            f"无法读取文件：{reason}",
            "check that the file exists, that the path is right, and that the account of the service may read it",
            "请检查文件是否存在、路径是否正确，以及运行服务的账号是否有读取权限",
        )
        raise DocumentError([problem]) from error
    return parse_document(raw, file)
