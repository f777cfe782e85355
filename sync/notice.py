"""What a window has told us, until the HIS shows it: rules over the state of the order, and matching with events.

A window program calls while its own transaction is still open (domain facts 1.6: it commits only when the platform has
said yes), so the HIS does not show yet what the window tells. A notice is therefore kept until the watcher has seen the
change; where nothing watches, the window's word alone makes the event.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final, TypeAlias

from his160.v1 import common_pb2, event_pb2, reason_pb2

from sync import order

Kind: TypeAlias = event_pb2.EventKind.ValueType
Reason: TypeAlias = reason_pb2.Reason.ValueType
State: TypeAlias = common_pb2.AppointmentState.ValueType


class NoticeKind(enum.Enum):
    """What a window tells."""

    CANCEL = "CANCEL"
    REFUND = "REFUND"
    SUSPEND = "SUSPEND"
    REPLACE = "REPLACE"
    CHECK_IN = "CHECK_IN"


class Trust(enum.Enum):
    """Whose word makes the event."""

    HIS = "his"
    WORD = "word"


@dataclass(frozen=True, slots=True)
class NoticeRow:
    """One notice. ``content`` is the request without personal data; ``window`` is the caller's identity."""

    request_id: str
    kind: NoticeKind
    payload_hash: bytes
    window: str
    operator_id: str
    content: bytes
    received_time: datetime


@dataclass(frozen=True, slots=True)
class SubjectRow:
    """One order or session that a notice is about. ``subject`` is the lane of its events (``order:…``, ``schedule:…``).

    ``event_id`` and ``seen_time``: the event that made it known, and since when the HIS shows it (None: not yet).
    ``given_up``: a person has said that it will never show.
    """

    request_id: str
    subject: str
    kind: NoticeKind
    received_time: datetime
    event_id: str = ""
    seen_time: datetime | None = None
    given_up: bool = False


_SHOWN_BY: Final[Mapping[NoticeKind, frozenset[Kind]]] = MappingProxyType(
    {
        NoticeKind.CANCEL: frozenset({event_pb2.EVENT_KIND_CANCELLED, event_pb2.EVENT_KIND_REFUNDED}),
        NoticeKind.REFUND: frozenset({event_pb2.EVENT_KIND_REFUNDED, event_pb2.EVENT_KIND_CANCELLED}),
        NoticeKind.SUSPEND: frozenset({event_pb2.EVENT_KIND_SUSPENDED}),
        NoticeKind.REPLACE: frozenset({event_pb2.EVENT_KIND_REPLACED}),
        NoticeKind.CHECK_IN: frozenset({event_pb2.EVENT_KIND_CHECKED_IN, event_pb2.EVENT_KIND_VISITED}),
    }
)

# What an order must be so that the window may do it, and so that it shows it is done.
_BEFORE: Final[Mapping[NoticeKind, frozenset[State]]] = {
    NoticeKind.CANCEL: frozenset({order.LOCKED, order.BOOKED, order.SUSPENDED}),
    NoticeKind.REFUND: frozenset({order.PAID, order.CHECKED_IN, order.SUSPENDED}),
    NoticeKind.CHECK_IN: frozenset({order.PAID}),
}
_AFTER: Final[Mapping[NoticeKind, frozenset[State]]] = {
    NoticeKind.CANCEL: frozenset({order.CANCELLED, order.RELEASED}),
    NoticeKind.REFUND: frozenset({order.REFUNDED}),
    NoticeKind.CHECK_IN: frozenset({order.CHECKED_IN, order.VISITED}),
}
_REFUSALS: Final[Mapping[NoticeKind, Mapping[State, Reason]]] = {
    NoticeKind.CANCEL: {
        order.PAID: reason_pb2.REASON_ALREADY_PAID,
        order.CHECKED_IN: reason_pb2.REASON_ALREADY_PAID,
        order.VISITED: reason_pb2.REASON_ALREADY_VISITED,
        order.REFUNDED: reason_pb2.REASON_ALREADY_REFUNDED,
        order.NO_SHOW: reason_pb2.REASON_CANCEL_TOO_LATE,
    },
    NoticeKind.REFUND: {
        order.LOCKED: reason_pb2.REASON_NOT_PAID,
        order.BOOKED: reason_pb2.REASON_NOT_PAID,
        order.VISITED: reason_pb2.REASON_ALREADY_VISITED,
        order.CANCELLED: reason_pb2.REASON_ALREADY_CANCELLED,
        order.RELEASED: reason_pb2.REASON_ALREADY_CANCELLED,
        order.NO_SHOW: reason_pb2.REASON_CANCEL_TOO_LATE,
    },
    NoticeKind.CHECK_IN: {
        order.LOCKED: reason_pb2.REASON_NOT_PAID,
        order.BOOKED: reason_pb2.REASON_NOT_PAID,
        order.CANCELLED: reason_pb2.REASON_ALREADY_CANCELLED,
        order.RELEASED: reason_pb2.REASON_ALREADY_CANCELLED,
        order.REFUNDED: reason_pb2.REASON_ALREADY_REFUNDED,
        order.SUSPENDED: reason_pb2.REASON_SCHEDULE_SUSPENDED,
        order.NO_SHOW: reason_pb2.REASON_CANCEL_TOO_LATE,
    },
}


def shows(kind: NoticeKind, event_kind: int) -> bool:
    """Whether an event of that kind is what the window has told."""
    return event_kind in _SHOWN_BY[kind]


def is_shown(kind: NoticeKind, found: common_pb2.Appointment) -> bool:
    """Whether the order already is as the window says."""
    return found.state in _AFTER[kind]


def refusal(kind: NoticeKind, found: common_pb2.Appointment, *, amount_fen: int = 0) -> Reason:
    """Why the window may not do that to the order; unspecified when it may, or has done it.

    ``amount_fen``: of a refund. All or nothing: a live HIS refuses parts of an online order (domain facts 1.3).
    """
    if found.state in _AFTER[kind]:
        return reason_pb2.REASON_UNSPECIFIED
    if found.state not in _BEFORE[kind]:
        return _REFUSALS[kind].get(found.state, reason_pb2.REASON_ILLEGAL_TRANSITION)
    if kind is NoticeKind.CANCEL and found.state == order.SUSPENDED and found.paid_fen > found.refunded_fen:
        return reason_pb2.REASON_ALREADY_PAID  # its money must go back: a refund
    if kind is NoticeKind.REFUND:
        if found.state == order.SUSPENDED and not found.paid_fen:
            return reason_pb2.REASON_NOT_PAID
        paid = found.paid_fen or found.total_fen
        if paid and amount_fen != paid - found.refunded_fen:
            return reason_pb2.REASON_PARTIAL_REFUND_REFUSED
    return reason_pb2.REASON_UNSPECIFIED
