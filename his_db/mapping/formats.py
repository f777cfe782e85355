"""Dates and times as text: strftime formats compiled once, strict about digits, both directions.

`strptime` takes full-width digits and is slow; HIS columns use a few numeric directives only.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, time
from typing import Final

_FIXED: Final = {"Y": r"(?P<Y>[0-9]{4})", "y": r"(?P<y>[0-9]{2})", "f": r"(?P<f>[0-9]{1,9})"}
_PAIRS: Final = "mdHMS"
_DIRECTIVE: Final = re.compile(r"%(.)", re.DOTALL)

Moment = tuple[int, int, int, int, int, int, int]
"""year, month, day, hour, minute, second, microsecond; the parts that the format does not have are 0."""


def format_fault(text: str) -> str:
    """Why `text` is no format of this language: the offending directive, or empty when it is one."""
    stripped = _DIRECTIVE.sub(lambda match: "" if match[1] in "YymdHMSf%" else match[0], text)
    if "%" in stripped:
        return stripped[stripped.index("%") :][:2]
    seen = [match[1] for match in _DIRECTIVE.finditer(text) if match[1] != "%"]
    if not seen:
        return text or "(empty)"
    doubled = next((name for name in seen if seen.count(name) > 1), "")
    return f"%{doubled}" if doubled else ""


def has_date(text: str) -> bool:
    """Whether the format holds year, month and day."""
    names = {match[1] for match in _DIRECTIVE.finditer(text)}
    return bool(names & {"Y", "y"}) and {"m", "d"} <= names


def has_time(text: str) -> bool:
    """Whether the format holds an hour."""
    return "H" in {match[1] for match in _DIRECTIVE.finditer(text)}


def compile_parser(formats: tuple[str, ...]) -> Callable[[str], Moment | None]:
    """A function that reads a text by the first format that fits it whole; None when none does."""
    patterns = tuple(re.compile(_pattern(text), re.ASCII) for text in formats)

    def parse(text: str) -> Moment | None:
        for pattern in patterns:
            match = pattern.fullmatch(text)
            if match is not None:
                return _moment(match.groupdict())
        return None

    return parse


def _moment(parts: dict[str, str]) -> Moment:
    year = int(parts["Y"]) if "Y" in parts else 2000 + int(parts["y"]) if "y" in parts else 0
    return (
        year,
        int(parts.get("m", 0)),
        int(parts.get("d", 0)),
        int(parts.get("H", 0)),
        int(parts.get("M", 0)),
        int(parts.get("S", 0)),
        int(parts["f"][:6].ljust(6, "0")) if "f" in parts else 0,
    )


def _pattern(text: str) -> str:
    pieces: list[str] = []
    at = 0
    while at < len(text):
        char = text[at]
        if char != "%":
            pieces.append(re.escape(char))
            at += 1
            continue
        name = text[at + 1]
        after = text[at + 2 : at + 3]
        # Before another digit "1112" must mean 11 12; before a separator "8:05" is met.
        width = "{2}" if after == "%" or after.isdigit() else "{1,2}"
        follows_digit = text[at - 2 : at - 1] == "%" if at >= 2 else False
        if follows_digit or (at and text[at - 1].isdigit()):
            width = "{2}"
        if name == "%":
            pieces.append("%")
        elif name in _PAIRS:
            pieces.append(f"(?P<{name}>[0-9]{width})")
        else:
            pieces.append(_FIXED[name])
        at += 2
    return "".join(pieces)


def compile_writer(text: str) -> Callable[[date | time], str]:
    """A function that writes a date, a time or a datetime; the parts that the value does not have are 0."""
    pieces = _DIRECTIVE.split(text)

    def write(value: date | time) -> str:
        out = [pieces[0]]
        for name, literal in zip(pieces[1::2], pieces[2::2], strict=True):
            out.append(_part(name, value))
            out.append(literal)
        return "".join(out)

    return write


def _part(name: str, value: date | time) -> str:
    if name == "%":
        return "%"
    if name in "Yymd":
        day = value if isinstance(value, date) else date(1900, 1, 1)
        return {"Y": f"{day.year:04}", "y": f"{day.year % 100:02}", "m": f"{day.month:02}", "d": f"{day.day:02}"}[name]
    clock = value if isinstance(value, (time, datetime)) else time()
    if name == "f":
        return f"{clock.microsecond:06}"
    return f"{ {'H': clock.hour, 'M': clock.minute, 'S': clock.second}[name]:02}"
