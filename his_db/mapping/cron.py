"""Cron text of reports: five fields, minute hour day month weekday; what is wrong in it, and when it fires."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
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


class Cron:
    """A cron text without a fault: which minutes it names. Days as cron has it: with both restricted, either fits."""

    def __init__(self, text: str) -> None:
        minute, hour, day, month, weekday = text.lower().split()
        self.text = text
        self._minutes = _numbers(minute, 0)
        self._hours = _numbers(hour, 1)
        self._days = _numbers(day.replace("last", "32"), 2)
        self._last = "last" in day
        self._months = _numbers(month, 3)
        self._weekdays = {number % 7 for number in _numbers(weekday, 4)}  # 0 and 7 are Sunday
        self._by_day, self._by_weekday = day != "*", weekday != "*"

    def fires(self, since: datetime, until: datetime) -> Iterator[datetime]:
        """Its minutes above `since` up to `until`, oldest first; all three on the hospital's wall clock, naive."""
        day = since.date()
        while day <= until.date():
            if self._fits(day):
                for hour in sorted(self._hours):
                    for minute in sorted(self._minutes):
                        moment = datetime.combine(day, time(hour, minute))
                        if since < moment <= until:
                            yield moment
            day += timedelta(days=1)

    def _fits(self, day: date) -> bool:
        if day.month not in self._months:
            return False
        is_last = (day + timedelta(days=1)).month != day.month
        by_day = day.day in self._days or (self._last and is_last)
        by_weekday = day.isoweekday() % 7 in self._weekdays
        if self._by_day and self._by_weekday:
            return by_day or by_weekday
        return by_day and by_weekday


def _numbers(field: str, at: int) -> set[int]:
    low, high = _LIMITS[at]
    found: set[int] = set()
    for part in field.split(","):
        match = _PART.fullmatch(part)
        assert match is not None, "the text was checked"
        step = int(match["step"] or 1)
        if match["first"] == "*":
            first, last = low, high
        elif match["first"] == "32":
            continue
        else:
            first = _number(match["first"], at)
            last = _number(match["last"], at) if match["last"] else (high if match["step"] else first)
        found.update(range(first, last + 1, step))
    return found


def _number(text: str, at: int) -> int:
    """As cron counts: months and Monday from 1; Sunday is 7, or 0."""
    if text.isdigit():
        return int(text)
    return _NAMES[at].index(text) + 1
