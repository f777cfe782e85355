"""One pass over the values of ``config.toml``: what the checks of its sections share."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from his_db.document.located import Document, Path
from his_db.document.problem import Problems


@dataclass(frozen=True, slots=True)
class Checking:
    """One pass over values that the shape has accepted; a value that it refused is missing and not looked at."""

    document: Document
    values: Mapping[str, Any]
    folder: pathlib.Path
    problems: Problems
    require_files: bool

    def report(self, path: Path, code: str, message: str, message_zh: str, fix: str, fix_zh: str) -> None:
        self.problems.add(self.document.value_place(path), code, message, message_zh, fix, fix_zh)

    def value_of(self, section: str) -> Mapping[str, Any] | None:
        table = self.values.get(section)
        return table if isinstance(table, Mapping) else None

    def value(self, section: str, key: str) -> Any:
        table = self.values.get(section)
        return table.get(key) if isinstance(table, Mapping) else None
