"""Code values that no code map knows, counted: what the HIS began to write since the mapping was made."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Final

_KEYS: Final = 1_000  # a column that is no code at all must not fill the memory
_SHOWN: Final = 4
_REST: Final = ("", "", "…")


class Tally:
    """Counts by (mapping, field, masked code). Used by several lane threads at once."""

    __slots__ = ("_counts", "_lock")

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._lock = threading.Lock()

    def add(self, mapping: str, field: str, code: str) -> None:
        """Count one value that was met; beyond 1,000 different ones they share the key `("", "", "…")`."""
        key = (mapping, field, masked(code))
        with self._lock:
            if key not in self._counts and len(self._counts) >= _KEYS:
                key = _REST
            self._counts[key] += 1

    def figures(self) -> Mapping[tuple[str, str, str], int]:
        """What was counted so far."""
        with self._lock:
            return dict(self._counts)


def masked(code: str) -> str:
    """A code that is short enough to be one, as it is; of anything else only length and kind: it may be a name."""
    if code.isascii() and code.isprintable() and len(code) <= _SHOWN:
        return f'"{code}"'
    sort = "ASCII" if code.isascii() else "text"
    return f"<{len(code)} {sort}>"
