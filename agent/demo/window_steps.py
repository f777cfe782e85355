"""Steps of the hospital's window: cancel, refund, 停诊, each of which must reach the relay as an event."""

from __future__ import annotations

import time

from his160.v1 import common_pb2, event_pb2

from agent.demo.rows import difference
from agent.demo.story import CASHIER, Outcome, Story, require, state_name

STOP_REASON = "医生临时手术"


def window_cancel(story: Story) -> Outcome:
    """窗口取消预约 of an earlier, unpaid platform order."""
    order = story.earlier.cancelled
    return story.on_site(
        "window_cancel",
        order,
        event_pb2.EVENT_KIND_CANCELLED,
        lambda: story.window.cancel_booking(order.his_id, operator=CASHIER),
        [common_pb2.APPOINTMENT_STATE_BOOKED],
        common_pb2.APPOINTMENT_STATE_CANCELLED,
    )


def window_refund(story: Story) -> Outcome:
    """窗口退号退费 of an earlier, paid platform order."""
    order = story.earlier.refunded
    return story.on_site(
        "window_refund",
        order,
        event_pb2.EVENT_KIND_REFUNDED,
        lambda: story.window.refund(order.his_id, operator=CASHIER),
        [common_pb2.APPOINTMENT_STATE_PAID],
        common_pb2.APPOINTMENT_STATE_REFUNDED,
    )


def suspend(story: Story) -> Outcome:
    """停诊 of the session of our paid order: an event for the session, and one for the order."""
    order = story.paid
    before = [*story.window.raw_schedule(order.schedule_id), *story.rows(order)]
    story.window.suspend_schedule(order.schedule_id, operator=CASHIER, reason=STOP_REASON)
    committed = time.time()
    kind = event_pb2.EVENT_KIND_SUSPENDED
    session = story.book.wait_event(
        lambda e: e.kind == kind and e.subject == common_pb2.SUBJECT_SCHEDULE and e.schedule_id == order.schedule_id,
        "SUSPENDED of the session",
    )
    mine = story.book.wait_event(
        lambda e: e.kind == kind and e.subject == common_pb2.SUBJECT_APPOINTMENT and e.order_no == order.order_no,
        "SUSPENDED of the order",
    )
    stopped, opened = common_pb2.SCHEDULE_STATE_SUSPENDED, common_pb2.SCHEDULE_STATE_OPEN
    require(session.event.schedule_before.state == opened, "the session was not open before")
    require(session.event.schedule_after.state == stopped, "the session is not stopped after")
    after = mine.event.appointment_after.state
    require(after == common_pb2.APPOINTMENT_STATE_SUSPENDED, f"the order is {state_name(after)}")
    for stored in (session, mine):
        require(stored.event.origin == event_pb2.ORIGIN_ON_SITE, "the event's origin is not ON_SITE")
    changes = difference(before, [*story.window.raw_schedule(order.schedule_id), *story.rows(order)])
    times = [stored.arrival_us / 1e6 - committed for stored in (session, mine)]
    story.seconds["suspend"] = max(times)
    was = state_name(mine.event.appointment_before.state)
    detail = f"session OPEN → SUSPENDED {times[0]:.2f} s, order {was} → SUSPENDED {times[1]:.2f} s"
    return Outcome(detail, changes)
