"""What of a document cannot be relied on, because something is wrong with it and has been reported.

A check that comes later looks at the rest all the same. It keeps silent about what it cannot know: what stands at a
damaged place, and what may only seem to be missing because it stood there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final

from his_db.document.positions import Path

LOST: Final = "?"
"""Last part of a path: a line of this table that could not be read, so nobody knows what it said."""
# Keys that others refer to, or that hold what others refer to.
_TELLING: Final = frozenset({"name", "to", "read", "fields", "map", "sql", "sql_file"})


class Damage:
    """Grows while the document is checked."""

    __slots__ = ("_paths",)

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self._paths: set[Path] = set(paths)

    def add(self, path: Path) -> None:
        """The value at `path` is bad or missing, or the key does not belong there."""
        self._paths.add(path)

    def extend(self, other: Damage) -> None:
        """All of another one."""
        self._paths |= other._paths

    def __bool__(self) -> bool:
        return bool(self._paths)

    def __iter__(self) -> Iterator[Path]:
        return iter(self._paths)

    def hides(self, path: Path, keys: Collection[str] = ()) -> bool:
        """Whether a finding about `path` would only repeat what is known: it lies in a damaged value, or it is about
        these keys of the table at `path`, and one of them is damaged."""
        return any(
            path[: len(found)] == found or (found[:-1] == path and (found[-1] == LOST or found[-1] in keys))
            for found in self._paths
        )

    def loses(self, area: Path) -> bool:
        """Whether what is at `area` may name more than is left of it: a part is lost, or the name of one."""
        return any(self._reaches(found, area) for found in self._paths)

    @staticmethod
    def _reaches(found: Path, area: Path) -> bool:
        if found[-1:] == (LOST,):
            return area[: len(found) - 1] == found[:-1] or found[: len(area)] == area
        if found[: len(area)] != area:
            return area[: len(found)] == found
        below = found[len(area) :]
        return not below or isinstance(below[-1], int) or below[-1] in _TELLING
