"""The form of an entry in the command table: what identifies a command, and how to find out what became of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import Message
from his160.v1 import appointment_pb2, reason_pb2

from his_db.contract import SITE_PACKAGE
from sync.order import OrderCommand
from sync.verdict import Verdict

GET_APPOINTMENT: Final = "AppointmentService.GetAppointment"


@dataclass(frozen=True, slots=True)
class Probe:
    """One read that tells what became of a command.

    ``request`` builds the read's request from the command's; ``judge`` gets the command's request and the read's
    answer, None when the HIS refused the read with one of the ``NOT_FOUND`` reasons.
    """

    operation: str
    request: Callable[[Any], Message]
    judge: Callable[[Any, Any], Verdict]


@dataclass(frozen=True, slots=True)
class Command:
    """One write operation.

    ``natural``: ``kind:value``, the business number of the command. ``essence``: request fields that, with the same
    natural number, make two requests the same command. ``replays``: a second request of the same essence gets the first
    answer. ``conflict``: reason when the natural number came before with another essence.
    ``undone_by``: operations after which the first answer is stale; then the second request is refused with
    ``undone_reason``, or goes to the HIS when that is unspecified.
    ``probes``: asked in order; none: the operation is repeatable (the mapping makes a repetition harmless).
    ``completes``: an answer built from a probe gets the order from GetAppointment.
    ``keeps``: personal fields that the probe needs; kept only while the command is open.
    ``seals``: the answer is kept without personal data (of a step: what is needed later lies in the settlement).
    ``looks_first``: the probes are asked before anything is sent; what they find done is the answer.
    ``fleeting``: paths of short-lived fields that a repetition may bring anew, for example a token.
    """

    operation: str
    request_class: type[Message]
    response_class: type[Message]
    natural: Callable[[Any], str]
    essence: tuple[str, ...]
    order_command: OrderCommand | None = None
    probes: tuple[Probe, ...] = ()
    replays: bool = True
    conflict: reason_pb2.Reason.ValueType = reason_pb2.REASON_REQUEST_ID_REUSED
    undone_by: frozenset[str] = frozenset()
    undone_reason: reason_pb2.Reason.ValueType = reason_pb2.REASON_UNSPECIFIED
    completes: bool = False
    keeps: frozenset[str] = frozenset()
    seals: bool = False
    looks_first: bool = False
    fleeting: tuple[str, ...] = ()

    @property
    def is_repeatable(self) -> bool:
        return not self.probes

    @property
    def is_internal(self) -> bool:
        """Whether it is a step of the agent's own sagas: nobody sends it from outside."""
        return self.request_class.DESCRIPTOR.file.package == SITE_PACKAGE

    def order_key(self, request: Message) -> str:
        """160's order number; empty for a patient's record."""
        return str(getattr(request, "order_no", ""))

    def payload_hash(self, request: Message) -> bytes:
        """SHA-256 of the request without what is fleeting: the same request_id must always come with the same one."""
        if not self.fleeting:
            return _hash(self.operation, request)
        lasting = self.request_class()
        lasting.CopyFrom(request)
        for path in self.fleeting:
            *outer, last = path.split(".")
            target: Any = lasting
            for name in outer:
                target = getattr(target, name) if target.HasField(name) else None
                if target is None:
                    break
            if target is not None:
                target.ClearField(last)
        return _hash(self.operation, lasting)

    def essence_hash(self, request: Message) -> bytes:
        """SHA-256 of the essential fields."""
        essence = self.request_class()
        essence.CopyFrom(request)
        for field, _ in request.ListFields():
            if field.name not in self.essence:
                essence.ClearField(field.name)
        return _hash(self.operation, essence)


def _hash(operation: str, message: Message) -> bytes:
    return hashlib.sha256(operation.encode() + b"\0" + message.SerializeToString(deterministic=True)).digest()


def number(kind: str, field: str) -> Callable[[Any], str]:
    """A natural key: ``kind:value`` of a field of the request."""

    def natural(request: Any) -> str:
        return f"{kind}:{getattr(request, field)}"

    return natural


def by_order(judge: Callable[[Any, Any], Verdict]) -> Probe:
    """A probe that reads the order itself."""
    return Probe(GET_APPOINTMENT, _get_appointment, judge)


def _get_appointment(request: Any) -> Message:
    return appointment_pb2.GetAppointmentRequest(order_no=request.order_no)
