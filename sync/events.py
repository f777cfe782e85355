"""Making his160 events out of changes: which rule fits, who caused it, and an id that the same fact always has."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from his160.v1 import common_pb2, event_pb2

from sync import order
from sync.capture import Change
from sync.his import CompiledWatchPort
from sync.ledger import explains
from sync.store import Transaction

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)

# What a row that is gone for good means, where the mapping says that it means something (``vanish = "event"``).
_VANISHED_ORDER = {
    order.BOOKED: event_pb2.EVENT_KIND_CANCELLED,
    order.PAID: event_pb2.EVENT_KIND_CANCELLED,  # not REFUNDED: a deleted row says nothing about money
    order.CHECKED_IN: event_pb2.EVENT_KIND_CANCELLED,
    order.SUSPENDED: event_pb2.EVENT_KIND_CANCELLED,
}


@dataclass(frozen=True, slots=True)
class Source:
    """What all events of a stream have in common."""

    site: str
    stream: str
    mapping_revision: str


@dataclass(frozen=True, slots=True)
class _Fact:
    kind: event_pb2.EventKind.ValueType
    occurred: Timestamp | None


def event_of(
    transaction: Transaction, source: Source, watch: CompiledWatchPort, change: Change, now: datetime
) -> event_pb2.Event | None:
    """The event that a change makes; None when no rule fits, or 160 knows nothing of the order."""
    fact = _fact(watch, change)
    if fact is None:
        return None
    latest = change.after if change.after is not None else change.before
    event = event_pb2.Event(
        event_id=event_id(source, change, fact.kind),
        site=source.site,
        kind=fact.kind,
        mapping_revision=source.mapping_revision,
        stream=source.stream,
    )
    event.captured_time.FromDatetime(now)
    if fact.occurred is not None:
        event.occurred_time.CopyFrom(fact.occurred)
    if isinstance(latest, common_pb2.Appointment):
        before, after = _appointment(change.before), _appointment(change.after)
        order_no = latest.order_no or (before.order_no if before is not None else "")
        if not order_no:
            return None
        event.subject = common_pb2.SUBJECT_APPOINTMENT
        event.origin = _order_origin(transaction, watch, before, after, change.since or _BEGINNING)
        event.order_no, event.appointment_id, event.schedule_id = order_no, latest.appointment_id, latest.schedule_id
        _put(event.appointment_before, before)
        _put(event.appointment_after, after)
    elif isinstance(latest, common_pb2.Schedule):
        event.subject = common_pb2.SUBJECT_SCHEDULE
        event.origin = event_pb2.ORIGIN_ON_SITE  # no command of the contract changes a session
        event.schedule_id = latest.schedule_id
        _put(event.schedule_before, change.before)
        _put(event.schedule_after, change.after)
    return event


def event_id(source: Source, change: Change, kind: int) -> str:
    """32 hex digits made of the fact alone: seen again after a crash, or by another strategy, it is the same."""
    digest = hashlib.sha256()
    for part in (source.site, source.stream, change.key, str(change.version), str(kind)):
        digest.update(f"{len(part.encode())}:{part}".encode())
    for message in (change.before, change.after):
        content = b"" if message is None else message.SerializeToString(deterministic=True)
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()[:32]


def is_strange(change: Change) -> bool:
    """Whether an order has gone a way that the state machine does not know. Reported all the same."""
    before, after = _appointment(change.before), _appointment(change.after)
    if before is None or after is None:
        return False
    return not order.is_reachable(before.state, after.state)


def _fact(watch: CompiledWatchPort, change: Change) -> _Fact | None:
    """The first rule that fits decides."""
    after = change.after
    if after is None:
        return _vanished(change.before)
    for rule in watch.rules:
        if rule.matches(change.before, after):
            has_time = rule.occurred is not None and after.HasField(rule.occurred)
            occurred = getattr(after, rule.occurred) if has_time and rule.occurred is not None else None
            return _Fact(event_pb2.EventKind.ValueType(rule.kind), occurred)
    return None


def _vanished(before: Message | None) -> _Fact | None:
    if isinstance(before, common_pb2.Appointment) and before.state in _VANISHED_ORDER:
        return _Fact(_VANISHED_ORDER[before.state], None)
    if isinstance(before, common_pb2.Schedule) and before.state == common_pb2.SCHEDULE_STATE_OPEN:
        return _Fact(event_pb2.EVENT_KIND_SUSPENDED, None)
    return None


def _order_origin(
    transaction: Transaction,
    watch: CompiledWatchPort,
    before: common_pb2.Appointment | None,
    after: common_pb2.Appointment | None,
    since: datetime,
) -> event_pb2.Origin.ValueType:
    """Who caused the change of an order.

    The row's operator decides, when the change put it there. An operator of the platform that stood there before proves
    nothing (windows that cancel without a 工号), so then the ledger must account for the change. In doubt it
    is ON_SITE: one event too many is harmless, a lost cancellation is not.
    """
    if after is None:
        return event_pb2.ORIGIN_ON_SITE
    operator = after.operator_id
    stood_before = before is not None and before.operator_id == operator
    if before is not None and not order.explains(tuple(order.OrderCommand), before.state, after.state):
        # No command leads there. 恢复出诊 uncovers the platform's operator of the booking or payment below the 停诊.
        return event_pb2.ORIGIN_ON_SITE
    if operator in watch.platform_operators and not stood_before:
        return event_pb2.ORIGIN_PLATFORM
    if operator and operator not in watch.platform_operators:
        return event_pb2.ORIGIN_ON_SITE
    if explains(transaction, before, after, since):
        return event_pb2.ORIGIN_PLATFORM
    return event_pb2.ORIGIN_ON_SITE


def _appointment(message: Message | None) -> common_pb2.Appointment | None:
    return message if isinstance(message, common_pb2.Appointment) else None


def _put(field: Message, message: Message | None) -> None:
    if message is not None:
        field.CopyFrom(message)
