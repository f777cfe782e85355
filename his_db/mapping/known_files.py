"""Files of a mapping set that need not be read again: after an edit one of thirty is another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from his_db.document.damage import Damage
from his_db.document.located import Document, read_document
from his_db.document.meant import as_meant
from his_db.document.problem import Problem, Problems
from his_db.document.shape import TableOf, check_shape


class KnownFiles:
    """What the files of a set said when they were read last. For one load at a time; holds no more than one set."""

    def __init__(self) -> None:
        self._files: dict[str, _Known] = {}
        self._read: dict[str, _Known] = {}

    def document(self, name: str, raw: bytes, digest: bytes) -> tuple[Document | None, tuple[Problem, ...]]:
        """The document, as far as it can be read: the same object as long as the file has the same bytes."""
        known = self._files.get(name)
        if known is None or known.digest != digest:
            known = _Known(digest, *read_document(raw, name))
        self._read[name] = known
        return known.document, known.problems

    def shaped(self, document: Document, shape: Callable[[], TableOf]) -> Shaped:
        """What a document that was read says in this shape. The same object for the same bytes."""
        known = self._read[document.file]
        if known.shaped is None:
            known.shaped = _shaped(document, shape())
        return known.shaped

    def forget_others(self) -> None:
        """Keep what was read since the last call, and nothing else."""
        self._files, self._read = self._read, {}


@dataclass(frozen=True, slots=True)
class Shaped:
    """The document with its misspelt keys as they were meant, and its values, all of them: what is bad or missing is
    blank, and `document.damage` knows it."""

    document: Document
    values: dict[str, Any]
    problems: Problems


def _shaped(document: Document, shape: TableOf) -> Shaped:
    """A copy is looked at: what is damaged in it is a matter of this shape."""
    checked, found = replace(document, damage=Damage(document.damage)), Problems()
    values = check_shape(checked, shape, found, blanks=True)
    if not any(problem.code == "H120" for problem in found):
        return Shaped(checked, values, found)
    found_meant = Problems()
    meant = as_meant(document, shape, found_meant)
    if meant is document:
        return Shaped(checked, values, found)
    meant = replace(meant, damage=Damage(meant.damage))
    return Shaped(meant, check_shape(meant, shape, found_meant, blanks=True), found_meant)


@dataclass(slots=True)
class _Known:
    digest: bytes
    document: Document | None
    problems: tuple[Problem, ...]
    shaped: Shaped | None = None
