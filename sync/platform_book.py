"""The platform's book of a day: what 160 was told of each order, by answers of commands and by events. Last word."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from his160.v1 import common_pb2, event_pb2

from his_db.contract import operation
from sync.outbox import lane_of_order
from sync.store import CommandFilter, CommandRow, CommandState, EventRow, EventState, Transaction

_MOST: Final = 200_000
_EVENTS: Final = 1000  # of one order


@dataclass(frozen=True, slots=True)
class PlatformOrder:
    """One order as 160 knows it. ``appointment`` None: nothing was told yet. ``open``: a command whose outcome is not
    known. ``untold``: an event is on its way, or was given up. ``told``: when it was last told."""

    order_no: str
    appointment: common_pb2.Appointment | None
    told: datetime | None
    open: bool
    untold: bool


def orders_of(work: Transaction, since: datetime, until: datetime) -> Collection[str]:
    """Orders with a command or an event of that time."""
    rows = work.commands.search(CommandFilter(since=since, until=until, limit=_MOST))
    found = {row.order_key for row in rows if row.order_key}
    for row in work.events.created(since, until, _MOST):
        event = event_pb2.Event.FromString(row.payload)
        if event.subject == common_pb2.SUBJECT_APPOINTMENT and event.order_no:
            found.add(event.order_no)
    return found


def platform_order(work: Transaction, order_no: str) -> PlatformOrder:
    """What 160 was told of an order until now."""
    commands = work.commands.of_order(order_no)
    events = work.events.of_lane(lane_of_order(order_no), _EVENTS)
    words = sorted([*_answers(commands), *_events(events)], key=lambda word: word[0])
    told, last = words[-1] if words else (None, None)
    return PlatformOrder(
        order_no,
        last,
        told,
        open=any(row.state.is_open for row in commands),
        untold=any(row.state is not EventState.ACKED for row in events),
    )


def _answers(rows: Collection[CommandRow]) -> Iterator[tuple[datetime, common_pb2.Appointment]]:
    for row in rows:
        said = appointment_in(row.operation, row.result) if row.state is CommandState.DONE else None
        if said is not None:
            yield row.finished_time or row.received_time, said


def _events(rows: Collection[EventRow]) -> Iterator[tuple[datetime, common_pb2.Appointment]]:
    for row in rows:
        event = event_pb2.Event.FromString(row.payload)
        if event.HasField("appointment_after"):
            yield row.created_time, event.appointment_after


def appointment_in(name: str, result: bytes) -> common_pb2.Appointment | None:
    """The order in the stored answer of a command; None where the answer holds none."""
    answer = operation(name).response_class()
    answer.ParseFromString(result)
    if "appointment" not in answer.DESCRIPTOR.fields_by_name or not answer.HasField("appointment"):
        return None
    appointment: common_pb2.Appointment = answer.appointment  # type: ignore[attr-defined]
    return appointment


def watched_since(work: Transaction, streams: Collection[str]) -> datetime | None:
    """Since when the agent sees the HIS; None: it never has."""
    found: Mapping[str, datetime] = {
        name: row.baseline_time for name in streams if (row := work.rows.stream(name)) is not None
    }
    return min(found.values(), default=None)
