"""The command table: every write operation of the contract as data.

An entry says which numbers identify the command, what makes two of them the same, and which reads of the HIS tell what
became of it when its outcome is not known. A new write operation is a new entry, and nothing else in this room.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from google.protobuf.message import Message
from his160.v1 import appointment_pb2, insurance_pb2, patient_pb2, payment_pb2, reason_pb2

from sync import judgements
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

    @property
    def is_repeatable(self) -> bool:
        return not self.probes

    def order_key(self, request: Message) -> str:
        """160's order number; empty for a patient's record."""
        return str(getattr(request, "order_no", ""))

    def payload_hash(self, request: Message) -> bytes:
        """SHA-256 of the whole request: the same request_id must always come with the same one."""
        return _hash(self.operation, request)

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


def _order_no(request: Any) -> str:
    return f"order_no:{request.order_no}"


def _out_trade_no(request: Any) -> str:
    return f"out_trade_no:{request.out_trade_no}"


def _out_refund_no(request: Any) -> str:
    return f"out_refund_no:{request.out_refund_no}"


def _setl_id(request: Any) -> str:
    return f"setl_id:{request.setl_id}"


def _document(request: Any) -> str:
    number = f"{request.document_type}\0{request.document_no}".encode()
    return f"document:{hashlib.sha256(number).hexdigest()}"


def _get_appointment(request: Any) -> Message:
    return appointment_pb2.GetAppointmentRequest(order_no=request.order_no)


def _by_order(judge: Callable[[Any, Any], Verdict]) -> Probe:
    return Probe(GET_APPOINTMENT, _get_appointment, judge)


_LIST: Final = (
    Command(
        operation="AppointmentService.LockSlot",
        request_class=appointment_pb2.LockSlotRequest,
        response_class=appointment_pb2.LockSlotResponse,
        natural=_order_no,
        essence=("order_no", "schedule_id", "slot_id"),
        order_command=OrderCommand.LOCK,
        replays=False,  # a hold runs out; a new request must hold again
    ),
    Command(
        operation="AppointmentService.UnlockSlot",
        request_class=appointment_pb2.UnlockSlotRequest,
        response_class=appointment_pb2.UnlockSlotResponse,
        natural=_order_no,
        essence=("order_no", "lock_id", "slot_id"),
        order_command=OrderCommand.UNLOCK,
        replays=False,
    ),
    Command(
        operation="AppointmentService.BookAppointment",
        request_class=appointment_pb2.BookAppointmentRequest,
        response_class=appointment_pb2.BookAppointmentResponse,
        natural=_order_no,
        essence=("order_no", "patient_id", "schedule_id", "slot_id"),
        order_command=OrderCommand.BOOK,
        probes=(_by_order(judgements.booking),),
        conflict=reason_pb2.REASON_DUPLICATE_APPOINTMENT,
        undone_by=frozenset({"AppointmentService.CancelAppointment", "PaymentService.RefundPayment"}),
    ),
    Command(
        operation="AppointmentService.CancelAppointment",
        request_class=appointment_pb2.CancelAppointmentRequest,
        response_class=appointment_pb2.CancelAppointmentResponse,
        natural=_order_no,
        essence=("order_no",),
        order_command=OrderCommand.CANCEL,
        probes=(_by_order(judgements.cancellation),),
        undone_by=frozenset({"AppointmentService.LockSlot", "AppointmentService.BookAppointment"}),
    ),
    Command(
        operation="PaymentService.CreatePayment",
        request_class=payment_pb2.CreatePaymentRequest,
        response_class=payment_pb2.CreatePaymentResponse,
        natural=_out_trade_no,
        essence=("order_no", "out_trade_no", "amount_fen"),
        replays=False,  # the parameters are short-lived; the merchant's number keeps it one payment
    ),
    Command(
        operation="PaymentService.ConfirmPayment",
        request_class=payment_pb2.ConfirmPaymentRequest,
        response_class=payment_pb2.ConfirmPaymentResponse,
        natural=_out_trade_no,
        essence=("order_no", "out_trade_no", "transaction_id", "amount_fen"),
        order_command=OrderCommand.PAY,
        probes=(
            Probe(
                "PaymentService.GetPayment",
                lambda request: payment_pb2.GetPaymentRequest(out_trade_no=request.out_trade_no),
                judgements.payment,
            ),
            _by_order(judgements.payment_by_order),
        ),
        conflict=reason_pb2.REASON_PAYMENT_NUMBER_REUSED,
        undone_by=frozenset({"PaymentService.RefundPayment"}),
        undone_reason=reason_pb2.REASON_ALREADY_REFUNDED,
        completes=True,
    ),
    Command(
        operation="PaymentService.RefundPayment",
        request_class=payment_pb2.RefundPaymentRequest,
        response_class=payment_pb2.RefundPaymentResponse,
        natural=_out_refund_no,
        essence=("order_no", "out_trade_no", "out_refund_no", "amount_fen"),
        order_command=OrderCommand.REFUND,
        probes=(
            Probe(
                "PaymentService.GetRefund",
                lambda request: payment_pb2.GetRefundRequest(out_refund_no=request.out_refund_no),
                judgements.refund,
            ),
            _by_order(judgements.refund_by_order),
        ),
        completes=True,
    ),
    Command(
        operation="PatientService.EnsurePatient",
        request_class=patient_pb2.EnsurePatientRequest,
        response_class=patient_pb2.EnsurePatientResponse,
        natural=_document,
        essence=("document_type", "document_no", "name"),
        probes=(
            Probe(
                "PatientService.FindPatients",
                lambda request: patient_pb2.FindPatientsRequest(
                    document_type=request.document_type, document_no=request.document_no
                ),
                judgements.patient,
            ),
        ),
        replays=False,  # the HIS finds it itself, and may have merged records since
        keeps=frozenset({"name", "document_no"}),
    ),
    Command(
        operation="InsuranceService.QuoteInsurance",
        request_class=insurance_pb2.QuoteInsuranceRequest,
        response_class=insurance_pb2.QuoteInsuranceResponse,
        natural=_order_no,
        essence=("order_no",),
        replays=False,
    ),
    Command(
        operation="InsuranceService.SettleInsurance",
        request_class=insurance_pb2.SettleInsuranceRequest,
        response_class=insurance_pb2.SettleInsuranceResponse,
        natural=_order_no,
        essence=("order_no", "agreed_split", "out_trade_no"),
        order_command=OrderCommand.PAY,
        probes=(
            Probe(
                "InsuranceService.GetInsuranceSettlement",
                lambda request: insurance_pb2.GetInsuranceSettlementRequest(order_no=request.order_no),
                judgements.settlement,
            ),
        ),
        undone_by=frozenset({"InsuranceService.ReverseInsurance"}),
        completes=True,
    ),
    Command(
        operation="InsuranceService.ReverseInsurance",
        request_class=insurance_pb2.ReverseInsuranceRequest,
        response_class=insurance_pb2.ReverseInsuranceResponse,
        natural=_setl_id,
        essence=("order_no", "setl_id"),
        probes=(
            Probe(
                "InsuranceService.GetInsuranceSettlement",
                lambda request: insurance_pb2.GetInsuranceSettlementRequest(setl_id=request.setl_id),
                judgements.reversal,
            ),
        ),
    ),
)

COMMANDS: Final[Mapping[str, Command]] = MappingProxyType({command.operation: command for command in _LIST})
