"""The short form of ``python -m tests.kills``, and what would be found."""

from __future__ import annotations

import sys

import pytest

from tests.kills.__main__ import RUNGS, campaign, table
from tests.kills.books import BOOKED, CANCELLED, PAID, Line, compare, lines

KILLS = 8
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="fork, SIGKILL, pidfd")


@pytest.mark.chaos
@pytest.mark.parametrize("engine", RUNGS)
def test_nothing_is_lost_or_told_twice_however_often_it_dies(engine: str) -> None:
    found = campaign(engine, RUNGS[engine][0], kills=KILLS, seed=29, orders=200)
    assert found.kills.total() == KILLS
    assert found.events > 0
    assert (found.lost, found.doubled, found.contradictory) == ([], [], [])
    assert [row.split(" | ")[3] for row in table([found]).splitlines()[2:]] == [str(KILLS)] * 2  # its line and the sum


def told(*words: str) -> list[Line]:
    """``id order kind``, in the order of their sequence."""
    found = [word.split(" ") for word in words]
    return [Line(id_, order, f"EVENT_KIND_{kind}", at) for at, (id_, order, kind) in enumerate(found)]


@pytest.mark.parametrize(
    "events",
    [
        ("a 1 PAID", "b 1 CANCELLED"),
        ("b 1 CANCELLED",),  # the agent was not there while it was paid
        ("a 1 PAID", "b 1 CANCELLED", "b 1 CANCELLED"),  # sent again
    ],
)
def test_what_is_right(events: tuple[str, ...]) -> None:
    found = compare({"1": CANCELLED, "2": BOOKED}, told(*events))
    assert found.are_none
    assert found.again == len(events) - found.events


@pytest.mark.parametrize(
    ("state", "events", "kind"),
    [
        (CANCELLED, (), "lost"),
        (CANCELLED, ("a 1 PAID",), "lost"),
        (PAID, (), "lost"),
        (CANCELLED, ("a 1 CANCELLED", "b 1 CANCELLED"), "doubled"),
        (PAID, ("a 1 PAID", "b 1 PAID"), "doubled"),
        (PAID, ("a 1 PAID", "b 1 CANCELLED"), "contradictory"),
        (BOOKED, ("a 1 CANCELLED",), "contradictory"),
        (BOOKED, ("a 1 PAID",), "contradictory"),
        (CANCELLED, ("b 1 CANCELLED", "a 1 PAID"), "contradictory"),
        (CANCELLED, ("a 1 CANCELLED", "b 9 CANCELLED"), "contradictory"),
    ],
)
def test_what_is_wrong_is_found(state: str, events: tuple[str, ...], kind: str) -> None:
    found = compare({"1": state}, told(*events))
    assert getattr(found, kind)
    assert not found.are_none


def test_a_line_that_the_death_has_torn_does_not_count() -> None:
    assert lines("a 1 EVENT_KIND_PAID 1\nb 1 EVENT_KIND_CANC") == [Line("a", "1", "EVENT_KIND_PAID", 1)]
    assert lines("") == []
