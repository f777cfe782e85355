"""Durations as text: "500ms", "3s", "5m", "1h", "2d"."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

_DURATION: Final = re.compile(r"([0-9]{1,15})(ms|s|m|h|d)")
# From the largest down: `format_duration` takes the first that divides.
_UNITS: Final = {
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}


def parse_duration(text: str) -> timedelta:
    """The duration written as a whole number and one unit: ms, s, m, h or d. Raises ValueError for anything else."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"not a duration: {text!r}; a whole number and one of ms, s, m, h, d is expected")
    try:
        return int(match[1]) * _UNITS[match[2]]
    except OverflowError as error:
        raise ValueError(f"too long a duration: {text!r}") from error


def format_duration(value: timedelta) -> str:
    """`value` as `parse_duration` reads it, in the largest unit that gives a whole number; below 1 ms is cut off."""
    for unit, length in _UNITS.items():
        if value and value % length == timedelta(0):
            return f"{value // length}{unit}"
    return f"{value // _UNITS['ms']}ms" if value else "0s"
