"""When a report is due, and for which days."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta

import pytest

from his_db.mapping.cron import Cron
from sync.report_periods import Period, due, month_of, period_before, quiet_left

NOW = datetime(2026, 3, 4, 9, 0)  # a Wednesday
WEEK = timedelta(days=7)


def day(number: int) -> Period:
    return Period(date(2026, 3, number), date(2026, 3, number))


@pytest.mark.parametrize(
    ("text", "since", "until", "fires"),
    [
        ("30 6 * * *", "2026-03-01 06:30", "2026-03-03 06:30", ["2026-03-02 06:30", "2026-03-03 06:30"]),
        ("0 5 1 * *", "2026-02-01 05:00", "2026-03-31 00:00", ["2026-03-01 05:00"]),
        ("0 5 last * *", "2026-02-01 05:00", "2026-03-31 23:00", ["2026-02-28 05:00", "2026-03-31 05:00"]),
        ("*/20 23-23 * * *", "2026-03-01 00:00", "2026-03-01 23:59", [f"2026-03-01 23:{m}" for m in ("00", "20", "40")]),
        ("0 8 * * sun", "2026-03-01 00:00", "2026-03-08 12:00", ["2026-03-01 08:00", "2026-03-08 08:00"]),
        ("0 8 * * 7", "2026-03-02 00:00", "2026-03-08 12:00", ["2026-03-08 08:00"]),
        ("0 8 * * 0", "2026-03-02 00:00", "2026-03-08 12:00", ["2026-03-08 08:00"]),
        ("0 8 * * 1", "2026-03-01 00:00", "2026-03-08 12:00", ["2026-03-02 08:00"]),
        ("0 8 * feb,apr fri-sun", "2026-02-01 12:00", "2026-02-07 12:00", ["2026-02-06 08:00", "2026-02-07 08:00"]),
        ("0 8 15 * 1", "2026-03-09 09:00", "2026-03-16 09:00", ["2026-03-15 08:00", "2026-03-16 08:00"]),  # cron: either
        ("5/30 0 2 3 *", "2026-01-01 00:00", "2026-12-31 00:00", ["2026-03-02 00:05", "2026-03-02 00:35"]),
    ],
)  # fmt: skip
def test_cron_fires(text: str, since: str, until: str, fires: list[str]) -> None:
    found = Cron(text).fires(datetime.fromisoformat(since), datetime.fromisoformat(until))
    assert [f"{moment:%Y-%m-%d %H:%M}" for moment in found] == fires


def test_a_period_is_the_last_one_that_is_over() -> None:
    assert period_before("day", NOW) == day(3)
    assert period_before("month", NOW) == Period(date(2026, 2, 1), date(2026, 2, 28))
    assert period_before("month", datetime(2026, 1, 1)) == Period(date(2025, 12, 1), date(2025, 12, 31))
    assert [period.name for period in (day(3), month_of(date(2024, 2, 9)), Period(date(2026, 3, 1), date(2026, 3, 2)))] == [
        "2026-03-03", "2024-02", "2026-03-01_2026-03-02",
    ]  # fmt: skip


def test_a_report_that_never_ran_begins_with_the_newest_period() -> None:
    assert due(Cron("30 6 * * *"), "day", last=None, now=NOW, catch_up=WEEK) == [day(3)]
    assert due(Cron("30 6 * * *"), "day", last=None, now=NOW, catch_up=timedelta(hours=1)) == []


def test_what_was_missed_is_caught_up_oldest_first_and_once() -> None:
    cron = Cron("0,30 6 * * *")
    assert due(cron, "day", last=day(1), now=NOW, catch_up=WEEK) == [day(2), day(3)]
    assert due(cron, "day", last=day(3), now=NOW, catch_up=WEEK) == []
    long_ago = Period(date(2026, 1, 1), date(2026, 1, 1))
    assert len(due(cron, "day", last=long_ago, now=NOW, catch_up=WEEK)) == 7


def test_before_its_time_a_period_is_not_due() -> None:
    assert due(Cron("0 10 * * *"), "day", last=day(2), now=NOW, catch_up=WEEK) == []
    assert due(Cron("0 9 * * *"), "day", last=day(2), now=NOW, catch_up=WEEK) == [day(3)]


@pytest.mark.parametrize(
    ("hours", "left"),
    [("07:30-11:30", 150), ("09:00-09:01", 1), ("08:00-09:00", 0), ("22:00-06:00", 0), ("22:00-09:30", 30), ("12:00-13:00", 0)],
)  # fmt: skip
def test_quiet_hours(hours: str, left: int) -> None:
    begin, end = (time.fromisoformat(part) for part in hours.split("-"))
    assert quiet_left([(time(1), time(2)), (begin, end)], NOW) == timedelta(minutes=left)
