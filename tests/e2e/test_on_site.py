"""What happens at the window reaches the relay; what the platform did itself does not come back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from his160.sandbox.v1 import sandbox_pb2
from his160.v1 import appointment_pb2, common_pb2, event_pb2

from agent.demo.hospital import Hospital
from agent.demo.site import SiteOptions
from agent.demo.story import request_id
from tests.bounds import in_time
from tests.e2e.site import (
    CASHIER,
    PROMISE,
    Bench,
    Measured,
    arrived,
    bench,
    latency,
    of_orders,
    tell,
    tell_until,
    timed,
)

State = common_pb2.AppointmentState.ValueType
_STATE = common_pb2.AppointmentState.Value


def _prove(stored: sandbox_pb2.StoredEvent, before: str, after: str, seconds: float, measured: Measured) -> None:
    measured("seconds_from_commit_to_relay", seconds)
    event = stored.event
    assert event.origin == event_pb2.ORIGIN_ON_SITE
    assert event.subject == common_pb2.SUBJECT_APPOINTMENT
    assert event.appointment_before.state == _STATE(f"APPOINTMENT_STATE_{before}")
    assert event.appointment_after.state == _STATE(f"APPOINTMENT_STATE_{after}")
    assert event.site
    assert event.event_id
    assert event.sequence > 0
    assert event.mapping_revision
    assert not event.appointment_after.patient_name
    assert not event.appointment_after.take_no
    assert in_time(seconds, PROMISE)


def test_a_cancellation_at_the_window_arrives(running: Bench, measured: Measured) -> None:
    order, book = running.booked(), running.book()
    committed = timed(lambda: running.window.cancel_booking(order.his_id, operator=CASHIER))
    stored = arrived(book, order, event_pb2.EVENT_KIND_CANCELLED)
    _prove(stored, "BOOKED", "CANCELLED", latency(stored, committed), measured)
    assert stored.event.appointment_after.operator_id == CASHIER
    assert stored.event.HasField("occurred_time")


def test_a_refund_at_the_window_arrives(running: Bench, measured: Measured) -> None:
    order, book = running.paid(), running.book()
    committed = timed(lambda: running.window.refund(order.his_id, operator=CASHIER))
    stored = arrived(book, order, event_pb2.EVENT_KIND_REFUNDED)
    _prove(stored, "PAID", "REFUNDED", latency(stored, committed), measured)
    after = stored.event.appointment_after
    assert after.refunded_fen == after.paid_fen > 0


def test_a_suspension_arrives_for_the_session_and_the_order(running: Bench, measured: Measured) -> None:
    story = running.story()
    tell_until(story, "window_refund")
    outcome = tell(story, "suspend")
    measured("seconds_from_commit_to_relay", story.seconds["suspend"])
    assert "SUSPENDED" in outcome.detail
    assert in_time(story.seconds["suspend"], PROMISE)
    running.window.resume_schedule(story.paid.schedule_id, operator=CASHIER)
    resumed = arrived(story.book, story.paid, event_pb2.EVENT_KIND_RESUMED)
    assert resumed.event.appointment_after.state == common_pb2.APPOINTMENT_STATE_PAID


def test_each_fact_counts_once_and_in_order(running: Bench) -> None:
    order, witness, book = running.paid(), running.booked(), running.book()
    running.window.check_in(order.his_id)
    arrived(book, order, event_pb2.EVENT_KIND_CHECKED_IN)
    running.window.visit(order.his_id)
    arrived(book, order, event_pb2.EVENT_KIND_VISITED)
    running.window.cancel_booking(witness.his_id, operator=CASHIER)
    arrived(book, witness, event_pb2.EVENT_KIND_CANCELLED)
    mine = of_orders(book.events, [order])
    assert [item.event.kind for item in mine] == [event_pb2.EVENT_KIND_CHECKED_IN, event_pb2.EVENT_KIND_VISITED]
    assert len({item.event.event_id for item in book.events}) == len(book.events)
    sequences = [item.event.sequence for item in mine]
    assert sequences == sorted(sequences)


def test_what_the_platform_does_is_not_echoed(running: Bench) -> None:
    story = running.story()
    tell_until(story, "slots")
    tell(story, "ensure_patient", "lock", "book", "confirm_payment", "refund", "platform_cancel")
    for order in (story.paid, story.withdrawn):
        assert story.book.of_order(order.order_no) == []


def test_a_walk_in_is_no_business_of_the_platform(running: Bench) -> None:
    order, witness, book = running.paid(), running.booked(), running.book()
    his_id = running.window.walk_in(order.schedule_id, witness.patient_id, operator=CASHIER)
    running.window.refund(his_id, operator=CASHIER)
    running.window.cancel_booking(witness.his_id, operator=CASHIER)
    arrived(book, witness, event_pb2.EVENT_KIND_CANCELLED)
    told = [item.event for item in book.events if not item.event.HasField("report")]  # reports are due at some hours
    assert [event.order_no for event in told] == [witness.order_no]


def test_orders_of_other_channels_stay_in_the_hospital(running: Bench) -> None:
    """微信公众号 and 自助机 write order numbers of their own into the same column."""
    ours = {row.his_id for row in running.window.orders(channel_only=True, limit=10_000)}
    witness, book = running.booked(), running.book()
    foreign = 0
    for row in running.window.orders(channel_only=False, states=("PAID",), limit=10_000):
        if row.his_id not in ours:
            running.window.refund(row.his_id, operator=CASHIER)
            foreign += 1
    assert foreign > 0
    running.window.cancel_booking(witness.his_id, operator=CASHIER)
    arrived(book, witness, event_pb2.EVENT_KIND_CANCELLED)
    told = [item.event for item in book.events if not item.event.HasField("report")]  # reports are due at some hours
    assert [event.order_no for event in told] == [witness.order_no]


@pytest.mark.parametrize("same_id", [True, False], ids=["same request_id", "other request_id"])
def test_the_same_booking_at_once_has_one_effect(running: Bench, same_id: bool) -> None:
    story = running.story()
    tell_until(story, "slots")
    tell(story, "ensure_patient", "lock")
    order = story.paid
    fixed = request_id()

    def book(_: int) -> str:
        request = appointment_pb2.BookAppointmentRequest(
            request_id=fixed if same_id else request_id(),
            order_no=order.order_no,
            patient_id=order.patient_id,
            schedule_id=order.schedule_id,
            slot_id=order.slot_id,
            lock_id=order.lock_id,
        )
        answer = running.site.client.call("AppointmentService.BookAppointment", request)
        return str(answer.appointment.appointment_id)

    with ThreadPoolExecutor(6) as pool:
        keys = set(pool.map(book, range(6)))
    assert len(keys) == 1
    rows = [
        row for row in running.window.orders(channel_only=True, limit=10_000) if row.platform_order_no == order.order_no
    ]
    assert [row.his_id for row in rows] == list(keys)


def test_a_session_stopped_before_the_order_was_ever_seen(sqlite_hospital: Hospital, tmp_path: Path) -> None:
    """Booked, paid and stopped between two polls: 160 must hear of it all the same."""
    options = SiteOptions(more='[watch]\npoll = "3s"')
    with bench(tmp_path, sqlite_hospital, stock=2, options=options) as made:
        story = made.story()
        tell_until(story, "confirm_payment")
        made.window.suspend_schedule(story.paid.schedule_id, operator=CASHIER, reason="医生临时外出")
        stored = arrived(story.book, story.paid, event_pb2.EVENT_KIND_SUSPENDED)
        assert stored.event.origin == event_pb2.ORIGIN_ON_SITE
        assert stored.event.appointment_after.state == common_pb2.APPOINTMENT_STATE_SUSPENDED
