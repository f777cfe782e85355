"""Events are put together from bytes: the same that protobuf would write, under the same ids as ever."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

from google.protobuf.message import Message
from google.type import date_pb2
from his160.v1 import common_pb2, event_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from sync import order
from sync.capture import Change, contents
from sync.events import EventMaker, Source, event_of
from sync.outbox import lane_of
from sync.store import CommandRow, Transaction
from tests.unit.sync.bench import Rule, Watch

NOW = datetime(2026, 11, 29, 1, 30, 0, 250_000, tzinfo=UTC)


class AnyRule(Rule):
    """Fits whatever there is."""

    def matches(self, before: Message | None, after: Message | None) -> bool:
        return after is not None


ORDER_RULE = AnyRule(event_pb2.EVENT_KIND_CANCELLED, occurred="cancel_time")
SESSION_RULE = AnyRule(event_pb2.EVENT_KIND_REPLACED)
TEXT = st.text(st.characters(codec="utf-8"), max_size=12) | st.just(
    "x" * 2100
)  # its length is longer than the usual ones
ORDERS = st.builds(
    common_pb2.Appointment,
    order_no=TEXT,
    appointment_id=TEXT,
    schedule_id=TEXT,
    state=st.sampled_from([order.BOOKED, order.PAID, order.CANCELLED]),
    operator_id=st.sampled_from(["", "jk160", "0931"]),
    department_name=TEXT,
    total_fen=st.integers(0, 10**6),
    visit_date=st.none() | st.builds(date_pb2.Date, year=st.integers(1, 9999), month=st.integers(1, 12)),
    cancel_time=st.none() | st.datetimes(),
)
SESSIONS = st.builds(common_pb2.Schedule, schedule_id=TEXT, doctor_name=TEXT, total_count=st.integers(0, 200))


def transaction() -> Transaction:
    """One without commands of ours."""

    def of_order(_: str) -> Sequence[CommandRow]:
        return ()

    return cast(Transaction, SimpleNamespace(commands=SimpleNamespace(of_order=of_order)))


def plainly(source: Source, change: Change, made: event_pb2.Event) -> event_pb2.Event:
    """The event field by field; kind and origin are the rules' matter and taken from ``made``."""
    latest: Any = change.after if change.after is not None else change.before
    event = event_pb2.Event(site=source.site, kind=made.kind, origin=made.origin, stream=source.stream)
    event.mapping_revision = source.mapping_revision
    event.captured_time.FromDatetime(NOW)
    if isinstance(change.after, common_pb2.Appointment) and change.after.HasField("cancel_time"):
        event.occurred_time.CopyFrom(change.after.cancel_time)
    digest = hashlib.sha256()
    for part in (source.site, source.stream, change.key, str(change.version), str(made.kind)):
        digest.update(f"{len(part.encode())}:{part}".encode())
    for message in (change.before, change.after):
        content = b"" if message is None else message.SerializeToString(deterministic=True)
        digest.update(hashlib.sha256(content).digest())
    event.event_id = digest.hexdigest()[:32]
    event.schedule_id = latest.schedule_id
    name = "schedule"
    event.subject = common_pb2.SUBJECT_SCHEDULE
    if isinstance(latest, common_pb2.Appointment):
        name = "appointment"
        event.subject = common_pb2.SUBJECT_APPOINTMENT
        before: Any = change.before
        event.order_no = latest.order_no or ("" if before is None else before.order_no)
        event.appointment_id = latest.appointment_id
    for place, message in (("before", change.before), ("after", change.after)):
        if message is not None:
            getattr(event, f"{name}_{place}").CopyFrom(message)
    return event


def check(source: Source, change: Change, watch: Watch) -> None:
    maker = EventMaker(source, watch, NOW)
    made = maker.made_of(change)
    latest: Any = change.after if change.after is not None else change.before
    if made is None:
        before: Any = change.before
        assert isinstance(latest, common_pb2.Appointment)
        assert not latest.order_no
        assert before is None or not before.order_no
        return
    payload = maker.payload(made, maker.origin_of(transaction(), change, made))
    event = event_pb2.Event.FromString(payload)
    wanted = plainly(source, change, event)
    assert event == wanted
    assert payload == wanted.SerializeToString(deterministic=True)
    assert (made.event_id, made.lane) == (wanted.event_id, lane_of(wanted))
    assert event_of(transaction(), source, watch, change, NOW) == wanted
    turned = event_pb2.Event.FromString(maker.payload(made, event_pb2.ORIGIN_ON_SITE))
    wanted.origin = event_pb2.ORIGIN_ON_SITE
    assert turned == wanted


@settings(deadline=None, max_examples=150)
@given(ORDERS | st.none(), ORDERS, TEXT, st.integers(1, 10**6), st.booleans(), TEXT)
def test_an_order(before: Message | None, after: Message, key: str, version: int, at_hand: bool, revision: str) -> None:
    change = Change(key, before, after, version)
    if at_hand:
        known, content = contents(change)
        change = change._replace(known=known, content=content)
    watch = Watch(rules=[ORDER_RULE])
    check(Source("440305160", "orders", revision), change, watch)


@settings(deadline=None, max_examples=50)
@given(SESSIONS | st.none(), SESSIONS, TEXT)
def test_a_session(before: Message | None, after: Message, key: str) -> None:
    watch = Watch(subject="schedule", message_class=common_pb2.Schedule, rules=[SESSION_RULE])
    check(Source("440305160", "sessions", ""), Change(key, before, after, 2), watch)


@settings(deadline=None, max_examples=50)
@given(ORDERS.filter(lambda found: found.order_no != "" and found.state != order.CANCELLED), TEXT)
def test_an_order_that_is_gone(before: Message, key: str) -> None:
    check(Source("440305160", "orders", "r1"), Change(key, before, None, 3), Watch(rules=[]))
