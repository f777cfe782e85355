"""The bounded short form of ``his160 bench rush``: only the books are asserted, never a time."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from google.type import date_pb2
from his160.v1 import common_pb2

from agent.rush.books import judge
from agent.rush.figures import fairness, times
from agent.rush.patient import End, Story
from agent.rush.stage import Stage, day_of
from his_db.sample import OrderRow
from tests.e2e.site import his160, url_of

SESSION = {"S1": 2}
TOLD = Story(0, "T1", "P1", False, End.BOOKED, "S1", 5)
HELD = OrderRow("A1", "T1", "BOOKED", "S1", 5, "P1", 2500, 0, 0, "jk160")


@pytest.mark.timeout(240)
@pytest.mark.parametrize("his", ["sqlite", "postgresql"])
def test_200_patients_on_20_numbers(his: str, request: pytest.FixtureRequest) -> None:
    options = [
        "--patients",
        "200",
        "--slots",
        "20",
        "--bookings",
        "0",
        "--spread",
        "0.3",
        "--seconds",
        "60",
        "--pays",
        "50",
    ]
    if his == "postgresql":
        options += ["--url", url_of(request.getfixturevalue("postgresql_database")())]
    done = his160("bench", "rush", "--his", his, "--json", "--seed", "160", *options, seconds=200)
    assert done.returncode == 0, (done.stdout, done.stderr)
    report = json.loads(done.stdout)
    assert (report["oversold"], report["lost"], report["duplicate"], report["unasked"]) == (0, 0, 0, 0)
    ends = report["ends"]
    assert sum(ends.values()) == 200
    if "out of time" not in ends:
        # A patient whom the sample's blacklist refuses gives the number back, perhaps after the last one looked.
        assert 20 - ends.get("refused", 0) <= ends["paid"] + ends["booked"] <= 20
    assert "DUPLICATE_APPOINTMENT" not in report["refusals"], (
        "a patient who has a number already is no patient of a rush"
    )
    assert report["numbers"] == 20
    assert report["queries"]["calls"] >= 200
    assert report["his_read_statements"] < report["queries"]["calls"]


@pytest.mark.parametrize("url", ["postgresql+psycopg://u:geheim@127.0.0.1:1/x", "no url", "mysql+nope://x/y"])
def test_a_database_that_cannot_be_used_is_told(url: str) -> None:
    done = his160("bench", "rush", "--his", "postgresql", "--url", url)
    assert done.returncode == 1
    assert "the given database cannot be used" in done.stderr
    assert "internal error" not in done.stderr
    assert "geheim" not in done.stderr


def test_honest_books_are_right() -> None:
    assert judge([TOLD, Story(1, "T2", "P2", False, End.NONE_LEFT)], [HELD], SESSION).is_right


@pytest.mark.parametrize(
    ("harm", "stories", "rows"),
    [
        ("oversold", [TOLD, replace(TOLD, order_no="T2")], [HELD, replace(HELD, his_id="A2", platform_order_no="T2")]),
        (
            "oversold",
            [replace(TOLD, order_no=f"T{n}") for n in range(3)],
            [replace(HELD, his_id=f"A{n}", platform_order_no=f"T{n}", number=n) for n in range(3)],
        ),
        ("lost", [TOLD], []),
        ("lost", [TOLD], [replace(HELD, state="CANCELLED")]),
        ("lost", [replace(TOLD, end=End.PAID)], [HELD]),
        ("duplicate", [TOLD], [HELD, replace(HELD, his_id="A2", number=6)]),
        ("duplicate", [replace(TOLD, end=End.PAID)], [replace(HELD, state="PAID", paid_fen=5000)]),
        ("unasked", [replace(TOLD, end=End.NONE_LEFT)], [HELD]),
    ],
)
def test_each_harm_is_found(harm: str, stories: list[Story], rows: list[OrderRow]) -> None:
    verdict = judge(stories, rows, SESSION).summary()
    assert verdict[harm] > 0, verdict
    assert verdict["cases"]


def test_a_patient_in_doubt_may_have_an_order() -> None:
    """Out of time while the booking was unanswered: the retry would have told."""
    assert judge([replace(TOLD, end=End.OUT_OF_TIME, in_doubt=True)], [HELD], SESSION).is_right


def session(schedule_id: str, day: int, department: str) -> common_pb2.Schedule:
    date = date_pb2.Date(year=2026, month=3, day=day)
    return common_pb2.Schedule(schedule_id=schedule_id, visit_date=date, department_id=department)


def test_who_has_a_number_of_that_day_and_department_is_no_patient_of_the_rush() -> None:
    """Found in a rush of 2,000: one was refused with DUPLICATE_APPOINTMENT, rightly: registered there at the window."""
    coming = [session("S1", 2, "D1"), session("S2", 2, "D1"), session("S3", 2, "D2"), session("S4", 3, "D1")]
    patients = {
        "nothing": frozenset[str](),
        "past": frozenset({"S0"}),
        "same session": frozenset({"S1"}),
        "same day and department": frozenset({"S2"}),
        "other department": frozenset({"S3"}),
        "other day": frozenset({"S4"}),
    }
    days = {each.schedule_id: day_of(each) for each in coming}
    nobody: Any = None
    stage = Stage(nobody, nobody, nobody, coming, days, patients)
    assert stage.free_for(coming[:1]) == ["nothing", "past", "other department", "other day"]


def test_fairness_and_times() -> None:
    stories = [
        replace(TOLD, arrival=n, end=End.BOOKED if n in (0, 1, 5) else End.NONE_LEFT, ended=n) for n in range(10)
    ]
    fair = fairness(stories)
    assert (fair.served, round(fair.in_order, 2), fair.by_chance) == (3, 0.67, 0.3)
    assert (fair.worst_wait, fair.worst_served) == (9, 5)
    found = times([n / 1000 for n in range(1, 101)])
    assert (found.calls, found.p50, found.p99, found.most) == (100, 51.0, 100.0, 100.0)
    assert times([]).p99 == 0
