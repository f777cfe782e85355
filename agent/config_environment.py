"""The layer above the file: ``HIS160__SECTION__KEY`` of the environment.

``HIS160__SITE__CODE=440305001``, ``HIS160__SOURCE__HIS__PORT=5433``, ``HIS160__RELAY__ADDRESSES=a:443,b:443``. Names
are lower-cased; a text becomes what the shape wants there. A problem of such a value is placed at the variable's name.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent.config_shape import SHAPE
from his_db.document.finding import nearest
from his_db.document.located import Document, Path
from his_db.document.problem import Place, Problems
from his_db.document.shape import Boolean, Integer, ListOf, MapOf, Shape, TableOf

PREFIX: Final = "HIS160__"
SEPARATOR: Final = "__"


@dataclass(frozen=True, slots=True)
class OverlaidDocument(Document):
    """A document some of whose values come from variables: they are placed at the variable's name."""

    origins: Mapping[Path, str] | None = None

    def place(self, path: Path) -> Place:
        """Where the key is written, in the file or in the environment."""
        return self._origin(path) or Document.place(self, path)

    def value_place(self, path: Path) -> Place:
        """Where the value is written, in the file or in the environment."""
        return self._origin(path) or Document.value_place(self, path)

    def _origin(self, path: Path) -> Place | None:
        origins = self.origins or {}
        for length in range(len(path), 0, -1):
            name = origins.get(path[:length])
            if name is not None:
                return Place(f"${name}", 1, 1)
        return None


def overlay(document: Document, environ: Mapping[str, str], problems: Problems) -> Document:
    """The document with the variables of the environment above it. Unknown names become problems."""
    data = copy.deepcopy(document.data)
    origins: dict[Path, str] = {}
    for name in sorted(environ):
        if not name.upper().startswith(PREFIX):
            continue
        path = tuple(part.lower() for part in name[len(PREFIX) :].split(SEPARATOR))
        shape = _shape_at(SHAPE, path)
        if shape is None or not _put(data, path, _converted(shape, environ[name])):
            _unknown(name, path, problems)
            continue
        origins[path] = name
    return OverlaidDocument(document.file, data, document.positions, document.damage, origins)


def _shape_at(shape: Shape, path: tuple[str, ...]) -> Shape | None:
    """The shape of one setting, or None where there is none (a table is none)."""
    for part in path:
        if isinstance(shape, TableOf) and part in shape.fields:
            shape = shape.fields[part].shape
        elif isinstance(shape, MapOf) and part:
            shape = shape.value
        else:
            return None
    return None if isinstance(shape, TableOf | MapOf) else shape


def _converted(shape: Shape, text: str) -> Any:
    """The text as the shape wants it; as it is where it does not fit, for the shape to refuse."""
    if isinstance(shape, Boolean):
        return {"true": True, "false": False}.get(text.strip().lower(), text)
    if isinstance(shape, Integer):
        try:
            return int(text)
        except ValueError:
            return text
    if isinstance(shape, ListOf):
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _put(data: dict[str, Any], path: tuple[str, ...], value: Any) -> bool:
    """Set a value below tables, which are made where missing. False when something else is in the way."""
    for part in path[:-1]:
        data = data.setdefault(part, {})
        if not isinstance(data, dict):
            return False
    data[path[-1]] = value
    return True


def _unknown(name: str, path: tuple[str, ...], problems: Problems) -> None:
    section = nearest(path[0], SHAPE.fields) if path[0] not in SHAPE.fields else path[0]
    hint = f"did you mean {PREFIX}{section.upper()}{SEPARATOR}…?" if section else f"names are {PREFIX}SECTION__KEY"
    problems.add(
        Place(f"${name}", 1, 1),
        "H700",
        "the environment variable names no setting",
        "该环境变量不对应任何设置项",
        hint,
        f"变量名应为 {PREFIX}节名__键名，例如 {PREFIX}SITE__CODE",
    )
