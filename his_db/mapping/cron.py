"""Cron text of reports: five fields, minute hour day month weekday; read here only to say what is wrong in it."""

from __future__ import annotations

import re
from typing import Final

_LIMITS: Final = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_NAMES: Final = (
    (),
    (),
    ("last",),
    ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
    ("mon", "tue", "wed", "thu", "fri", "sat", "sun"),
)
_PART: Final = re.compile(
    r"(?P<first>\*|[0-9]{1,2}|[a-z]{3,4})(?:-(?P<last>[0-9]{1,2}|[a-z]{3}))?(?:/(?P<step>[0-9]{1,2}))?"
)


def cron_fault(text: str) -> str:
    """The piece of `text` that cannot be read; empty when it is a cron text."""
    fields = text.split()
    if len(fields) != len(_LIMITS):
        return text
    for field, limits, names in zip(fields, _LIMITS, _NAMES, strict=True):
        for part in field.lower().split(","):
            if not _is_part(part, limits, names):
                return field
    return ""


def _is_part(part: str, limits: tuple[int, int], names: tuple[str, ...]) -> bool:
    match = _PART.fullmatch(part)
    if match is None or (match["step"] is not None and not int(match["step"])):
        return False
    first, last = (_value(match[name], limits, names) for name in ("first", "last"))
    if match["first"] == "*":
        return match["last"] is None
    return first is not None and (match["last"] is None or (last is not None and first <= last))


def _value(text: str | None, limits: tuple[int, int], names: tuple[str, ...]) -> int | None:
    if text is None:
        return None
    if text in names:
        return names.index(text) + 1
    return int(text) if text.isdigit() and limits[0] <= int(text) <= limits[1] else None
