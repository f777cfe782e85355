"""Making his160 events out of changes: which rule fits, who caused it, and an id that the same fact always has."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, NamedTuple

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from his160.v1 import common_pb2, event_pb2

from sync import order
from sync.capture import Change, contents
from sync.his import CompiledWatchPort
from sync.ledger import explains, explains_end
from sync.outbox import lane_named
from sync.store import Transaction
from sync.wire import Heads

_MOMENTS: Final = 1000  # remembered at most
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_ANY_COMMAND = frozenset(order.OrderCommand)

# Fields of an Event: what stands before their contents.
_EVENT_ID: Final = Heads(event_pb2.Event.EVENT_ID_FIELD_NUMBER, empty=False)
_ORDER_NO: Final = Heads(event_pb2.Event.ORDER_NO_FIELD_NUMBER, empty=False)
_APPOINTMENT_ID: Final = Heads(event_pb2.Event.APPOINTMENT_ID_FIELD_NUMBER, empty=False)
_SCHEDULE_ID: Final = Heads(event_pb2.Event.SCHEDULE_ID_FIELD_NUMBER, empty=False)
_APPOINTMENT: Final = (
    Heads(event_pb2.Event.APPOINTMENT_BEFORE_FIELD_NUMBER, empty=True),
    Heads(event_pb2.Event.APPOINTMENT_AFTER_FIELD_NUMBER, empty=True),
)
_SCHEDULE: Final = (
    Heads(event_pb2.Event.SCHEDULE_BEFORE_FIELD_NUMBER, empty=True),
    Heads(event_pb2.Event.SCHEDULE_AFTER_FIELD_NUMBER, empty=True),
)
_OCCURRED: Final = Heads(event_pb2.Event.OCCURRED_TIME_FIELD_NUMBER, empty=True)

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


class Made(NamedTuple):
    """An event that a change makes. ``origin``: None, the ledger must tell. ``rest``: pieces of its bytes, those behind
    the subject."""

    event_id: str
    lane: str
    kind: event_pb2.EventKind.ValueType
    origin: event_pb2.Origin.ValueType | None
    subject: common_pb2.Subject.ValueType
    rest: tuple[bytes, ...]


class EventMaker:
    """Makes the events of one poll's changes.

    Bytes are put together from what protobuf made once for the poll, and from the rows as the store keeps them: an
    Event as an object, into which both rows are copied to be written out once more, takes five times as long.
    """

    def __init__(self, source: Source, watch: CompiledWatchPort, now: datetime) -> None:
        self._site = source.site
        self._rules = [(rule.matches, event_pb2.EventKind.ValueType(rule.kind), rule.occurred) for rule in watch.rules]
        self._operators = watch.platform_operators
        last = event_pb2.Event(mapping_revision=source.mapping_revision, stream=source.stream)
        last.captured_time.FromDatetime(now)
        self._last = last.SerializeToString(deterministic=True)
        self._states: dict[tuple[int, int], bytes] = {}  # versions of rows are few in one poll
        self._middles: dict[tuple[int, int, int], bytes] = {}
        self._moments: dict[tuple[int, int], bytes] = {}
        self._hashed = b"".join(map(_counted, (source.site, source.stream)))

    def made_of(self, change: Change) -> Made | None:
        """The event that a change makes; None when no rule fits, or 160 knows nothing of the order."""
        key, before, after, version, _, _, known, content = change
        fact = self._fact(before, after)
        if fact is None:
            return None
        kind, occurred = fact
        latest = after if after is not None else before
        if known is None or content is None:
            known, content = contents(change)
        order_no = appointment_id = ""
        if isinstance(latest, common_pb2.Appointment):
            earlier = _appointment(before)
            order_no = latest.order_no or ("" if earlier is None else earlier.order_no)
            if not order_no:
                return None
            subject, (head_before, head_after) = common_pb2.SUBJECT_APPOINTMENT, _APPOINTMENT
            current = latest if after is not None else None
            origin = _order_origin(self._operators, earlier, current)
            appointment_id, schedule_id = latest.appointment_id, latest.schedule_id
        else:
            assert isinstance(latest, common_pb2.Schedule)
            subject, (head_before, head_after) = common_pb2.SUBJECT_SCHEDULE, _SCHEDULE
            origin = event_pb2.ORIGIN_ON_SITE  # no command of the contract changes a session
            schedule_id = latest.schedule_id
        event_id = self._event_id(key, (version, kind), known or b"", content or b"")
        order, appointment, schedule = order_no.encode(), appointment_id.encode(), schedule_id.encode()
        rest = (
            _ORDER_NO[len(order)],
            order,
            _APPOINTMENT_ID[len(appointment)],
            appointment,
            _SCHEDULE_ID[len(schedule)],
            schedule,
            b"" if known is None else head_before[len(known)],
            known or b"",
            b"" if content is None else head_after[len(content)],
            content or b"",
            occurred,
        )
        lane = lane_named(order_no, appointment_id, schedule_id, event_id)
        return Made(event_id, lane, kind, origin, subject, rest)

    @staticmethod
    def origin_of(transaction: Transaction, change: Change, made: Made) -> event_pb2.Origin.ValueType:
        """Who caused the change: as it was made, or as the ledger has it."""
        return _origin_by_ledger(transaction, change) if made.origin is None else made.origin

    def payload(self, made: Made, origin: event_pb2.Origin.ValueType) -> bytes:
        """The event serialised, fields in their order: what protobuf writes of it when asked to be deterministic."""
        about = (made.kind, origin, made.subject)
        middle = self._middles.get(about)
        if middle is None:
            event = event_pb2.Event(site=self._site, kind=made.kind, origin=origin, subject=made.subject)
            middle = self._middles[about] = event.SerializeToString(deterministic=True)
        event_id = made.event_id.encode()
        return b"".join((_EVENT_ID[len(event_id)], event_id, middle, *made.rest, self._last))

    def _fact(
        self, before: Message | None, after: Message | None
    ) -> tuple[event_pb2.EventKind.ValueType, bytes] | None:
        """What has happened, and the piece of the event that says when: the first rule that fits decides; of a row that
        is gone and fits none, what it was."""
        for matches, kind, field in self._rules:
            if matches(before, after):
                if field is None or after is None or not after.HasField(field):
                    return kind, b""
                return kind, self._occurred(getattr(after, field))
        gone = _vanished(before) if after is None else None
        return None if gone is None else (gone, b"")

    def _occurred(self, moment: Timestamp) -> bytes:
        """The piece of an event; of a mass change they are few."""
        which = (moment.seconds, moment.nanos)
        piece = self._moments.get(which)
        if piece is None:
            content = moment.SerializeToString(deterministic=True)
            piece = _OCCURRED[len(content)] + content
            if len(self._moments) < _MOMENTS:
                self._moments[which] = piece
        return piece

    def _event_id(self, key: str, state: tuple[int, int], known: bytes, content: bytes) -> str:
        """32 hex digits made of the fact alone (``state``: version of the row and kind of the event): seen again after
        a crash, or by another strategy, it is the same."""
        counted = self._states.get(state)
        if counted is None:
            counted = self._states[state] = b"".join(_counted(str(part)) for part in state)
        was, now = sha256(known).digest(), sha256(content).digest()
        name = key.encode()  # as in _counted
        fact = b"%b%d:%b%b%b%b" % (self._hashed, len(name), name, counted, was, now)
        return sha256(fact).hexdigest()[:32]


def event_of(
    transaction: Transaction, source: Source, watch: CompiledWatchPort, change: Change, now: datetime
) -> event_pb2.Event | None:
    """The event that one change makes; None when no rule fits, or 160 knows nothing of the order."""
    maker = EventMaker(source, watch, now)
    made = maker.made_of(change)
    if made is None:
        return None
    return event_pb2.Event.FromString(maker.payload(made, maker.origin_of(transaction, change, made)))


def is_strange(change: Change) -> bool:
    """Whether an order has gone a way that the state machine does not know, or was given back in part (160 has no such
    refunds). Reported all the same, with the amounts."""
    before, after = change.before, change.after
    if not isinstance(after, common_pb2.Appointment):
        return False
    if after.state == order.REFUNDED and 0 < after.refunded_fen < after.paid_fen:
        return True
    return isinstance(before, common_pb2.Appointment) and not order.is_reachable(before.state, after.state)


def _counted(part: str) -> bytes:
    """A part of what is hashed, so that no two lists of parts give the same bytes."""
    content = part.encode()
    return b"%d:%s" % (len(content), content)


def _vanished(before: Message | None) -> event_pb2.EventKind.ValueType | None:
    if isinstance(before, common_pb2.Appointment):
        return _VANISHED_ORDER.get(before.state)
    if isinstance(before, common_pb2.Schedule) and before.state == common_pb2.SCHEDULE_STATE_OPEN:
        return event_pb2.EVENT_KIND_SUSPENDED
    return None


def _order_origin(
    operators: Collection[str], before: common_pb2.Appointment | None, after: common_pb2.Appointment | None
) -> event_pb2.Origin.ValueType | None:
    """Who caused the change of an order; None: the ledger must tell.

    The row's operator decides, when the change put it there. An operator of the platform that stood there before proves
    nothing (windows that cancel without a 工号), so then the ledger must account for the change. In doubt it
    is ON_SITE: one event too many is harmless, a lost cancellation is not.
    """
    if after is None:  # nobody stands on a row that is gone
        return None
    operator = after.operator_id
    stood_before = before is not None and before.operator_id == operator
    if before is not None and not order.explains(_ANY_COMMAND, before.state, after.state):
        # No command leads there. 恢复出诊 uncovers the platform's operator of the booking or payment below the 停诊.
        return event_pb2.ORIGIN_ON_SITE
    if operator in operators and not stood_before:
        return event_pb2.ORIGIN_PLATFORM
    if operator and operator not in operators:
        return event_pb2.ORIGIN_ON_SITE
    return None


def _origin_by_ledger(transaction: Transaction, change: Change) -> event_pb2.Origin.ValueType:
    """Whether commands of ours account for the change of an order."""
    before, after, since = _appointment(change.before), _appointment(change.after), change.since or _BEGINNING
    if after is None:
        is_ours = before is not None and explains_end(transaction, before, since)
    else:
        is_ours = explains(transaction, before, after, since)
    return event_pb2.ORIGIN_PLATFORM if is_ours else event_pb2.ORIGIN_ON_SITE


def _appointment(message: Message | None) -> common_pb2.Appointment | None:
    return message if isinstance(message, common_pb2.Appointment) else None
