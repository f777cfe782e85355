"""Events and notices brought together, inside the transaction that keeps the event."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime

from his160.v1 import common_pb2, event_pb2

from sync import order
from sync.notice import Kind, NoticeKind, NoticeRow, SubjectRow, shows
from sync.store import Transaction

_STATE_OF: dict[NoticeKind, order.State] = {
    NoticeKind.CANCEL: order.CANCELLED,
    NoticeKind.REFUND: order.REFUNDED,
    NoticeKind.CHECK_IN: order.CHECKED_IN,
}
KIND_OF: dict[NoticeKind, Kind] = {
    NoticeKind.CANCEL: event_pb2.EVENT_KIND_CANCELLED,
    NoticeKind.REFUND: event_pb2.EVENT_KIND_REFUNDED,
    NoticeKind.SUSPEND: event_pb2.EVENT_KIND_SUSPENDED,
    NoticeKind.REPLACE: event_pb2.EVENT_KIND_REPLACED,
    NoticeKind.CHECK_IN: event_pb2.EVENT_KIND_CHECKED_IN,
}


def told(transaction: Transaction, lane: str, kind: Kind) -> bool:
    """Whether a window has told this and waits for it to show: then a window did it, whatever the row says."""
    return any(shows(subject.kind, kind) for subject in transaction.notices.open_of(lane))


def settle(transaction: Transaction, lane: str, kind: Kind, event_id: str, now: datetime) -> bool:
    """The HIS shows what windows have told: their notices are done. True: the window's word has made its event before.

    Then the event at hand is the same fact once more and must not go out.
    """
    was_sent = False
    for subject in transaction.notices.open_of(lane):
        if shows(subject.kind, kind):
            was_sent = was_sent or bool(subject.event_id)
            transaction.notices.settle(replace(subject, event_id=subject.event_id or event_id, seen_time=now))
    return was_sent


def event_by_word(
    notice: NoticeRow,
    subject: SubjectRow,
    found: common_pb2.Appointment | common_pb2.Schedule,
    now: datetime,
    *,
    site: str,
    doctor_id: str = "",
    note: str = "",
) -> event_pb2.Event:
    """What a window says, as an event: the order or session as the HIS still shows it, and as it will be."""
    digest = hashlib.sha256("\0".join(("desk", site, notice.request_id, subject.subject)).encode()).hexdigest()
    event = event_pb2.Event(
        event_id=digest[:32],
        site=site,
        kind=KIND_OF[notice.kind],
        origin=event_pb2.ORIGIN_ON_SITE,
        schedule_id=found.schedule_id,
        stream="desk",
    )
    event.captured_time.FromDatetime(now)
    event.occurred_time.FromDatetime(now)
    if isinstance(found, common_pb2.Appointment):
        event.subject = common_pb2.SUBJECT_APPOINTMENT
        event.order_no, event.appointment_id = found.order_no, found.appointment_id
        event.appointment_before.CopyFrom(found)
        after = event.appointment_after
        after.CopyFrom(found)
        after.state = _STATE_OF[notice.kind]
        after.operator_id = notice.operator_id
        after.note = note or after.note
        if notice.kind is NoticeKind.REFUND:
            after.refunded_fen = found.paid_fen
    else:
        event.subject = common_pb2.SUBJECT_SCHEDULE
        event.schedule_before.CopyFrom(found)
        session = event.schedule_after
        session.CopyFrom(found)
        session.operator_id = notice.operator_id
        if notice.kind is NoticeKind.SUSPEND:
            session.state = common_pb2.SCHEDULE_STATE_SUSPENDED
            session.suspend_reason = note or session.suspend_reason
        else:
            session.doctor_id, session.doctor_name = doctor_id, ""
    return event
