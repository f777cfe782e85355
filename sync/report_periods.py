"""Which period of a report is due when. Pure; times are the hospital's wall clock, naive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Protocol

_DAY = timedelta(days=1)


class Fires(Protocol):
    """A schedule (``his_db.mapping.cron.Cron``)."""

    def fires(self, since: datetime, until: datetime) -> Iterator[datetime]: ...


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """Days of a report, both included."""

    first: date
    last: date

    @property
    def name(self) -> str:
        """``2026-03-02``, ``2026-03`` for a whole month, ``2026-03-02_2026-03-05`` for any other days."""
        if self.first == self.last:
            return self.first.isoformat()
        if self == month_of(self.first):
            return f"{self.first:%Y-%m}"
        return f"{self.first.isoformat()}_{self.last.isoformat()}"


def month_of(day: date) -> Period:
    """The month of a day."""
    first = day.replace(day=1)
    return Period(first, (first + 31 * _DAY).replace(day=1) - _DAY)


def period_before(kind: str, moment: datetime) -> Period:
    """The last period of that kind, ``day`` or ``month``, that is over at the moment."""
    yesterday = moment.date() - _DAY
    if kind == "day":
        return Period(yesterday, yesterday)
    return month_of(moment.date().replace(day=1) - _DAY)


def due(schedule: Fires, kind: str, *, last: Period | None, now: datetime, catch_up: timedelta) -> Sequence[Period]:
    """The periods to run, oldest first: those whose time has come within ``catch_up`` and that are behind ``last``.

    A report that never ran begins with the newest one: a hospital that installs the agent asked for no history.
    """
    found = list(dict.fromkeys(period_before(kind, fire) for fire in schedule.fires(now - catch_up, now)))
    if last is None:
        return found[-1:]
    return [period for period in found if period.first > last.first]


def quiet_left(hours: Sequence[tuple[time, time]], now: datetime) -> timedelta:
    """How long the quiet hours still last; zero outside. Over midnight where the end is the earlier."""
    passed = now - datetime.combine(now.date(), time())
    left = timedelta(0)
    for begin, end in hours:
        start, stop = (timedelta(hours=at.hour, minutes=at.minute) for at in (begin, end))
        length, since = (stop - start) % _DAY, (passed - start) % _DAY
        left = max(left, length - since)
    return left
