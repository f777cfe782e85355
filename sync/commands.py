"""The command table: every write operation of the contract as data.

An entry says which numbers identify the command, what makes two of them the same, and which reads of the HIS tell what
became of it when its outcome is not known. A new write operation is a new entry, and nothing else in this room. What
the agent itself writes at the payment house and at 医保 is in ``sync/commands_site.py``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from his160.v1 import appointment_pb2, insurance_pb2, patient_pb2, payment_pb2, reason_pb2

from sync import judgements
from sync.command_entry import Command, Probe, by_order, number
from sync.commands_site import SITE_COMMANDS
from sync.order import OrderCommand


def _document(request: Any) -> str:
    number = f"{request.document_type}\0{request.document_no}".encode()
    return f"document:{hashlib.sha256(number).hexdigest()}"


# Minutes-lived: a repetition brings a new one. Whose it is, the insurance platform says (1101), and that is compared.
_TOKENS: Final = ("credential.certificate_no", "credential.pay_auth_no")

_LIST: Final = (
    Command(
        operation="AppointmentService.LockSlot",
        request_class=appointment_pb2.LockSlotRequest,
        response_class=appointment_pb2.LockSlotResponse,
        natural=number("order_no", "order_no"),
        essence=("order_no", "schedule_id", "slot_id"),
        order_command=OrderCommand.LOCK,
        replays=False,  # a hold runs out; a new request must hold again
    ),
    Command(
        operation="AppointmentService.UnlockSlot",
        request_class=appointment_pb2.UnlockSlotRequest,
        response_class=appointment_pb2.UnlockSlotResponse,
        natural=number("order_no", "order_no"),
        essence=("order_no", "lock_id", "slot_id"),
        order_command=OrderCommand.UNLOCK,
        replays=False,
    ),
    Command(
        operation="AppointmentService.BookAppointment",
        request_class=appointment_pb2.BookAppointmentRequest,
        response_class=appointment_pb2.BookAppointmentResponse,
        natural=number("order_no", "order_no"),
        essence=("order_no", "patient_id", "schedule_id", "slot_id"),
        order_command=OrderCommand.BOOK,
        probes=(by_order(judgements.booking),),
        conflict=reason_pb2.REASON_DUPLICATE_APPOINTMENT,
        undone_by=frozenset(
            {
                "AppointmentService.CancelAppointment",
                "PaymentService.RefundPayment",
                "InsuranceService.ReverseInsurance",
            }
        ),
    ),
    Command(
        operation="AppointmentService.CancelAppointment",
        request_class=appointment_pb2.CancelAppointmentRequest,
        response_class=appointment_pb2.CancelAppointmentResponse,
        natural=number("order_no", "order_no"),
        essence=("order_no",),
        order_command=OrderCommand.CANCEL,
        probes=(by_order(judgements.cancellation),),
        undone_by=frozenset({"AppointmentService.LockSlot", "AppointmentService.BookAppointment"}),
    ),
    Command(
        operation="PaymentService.CreatePayment",
        request_class=payment_pb2.CreatePaymentRequest,
        response_class=payment_pb2.CreatePaymentResponse,
        natural=number("out_trade_no", "out_trade_no"),
        essence=("order_no", "out_trade_no", "amount_fen"),
        replays=False,  # the parameters are short-lived; the merchant's number keeps it one payment
    ),
    Command(
        operation="PaymentService.ConfirmPayment",
        request_class=payment_pb2.ConfirmPaymentRequest,
        response_class=payment_pb2.ConfirmPaymentResponse,
        natural=number("out_trade_no", "out_trade_no"),
        essence=("order_no", "out_trade_no", "transaction_id", "amount_fen"),
        order_command=OrderCommand.PAY,
        probes=(
            Probe(
                "PaymentService.GetPayment",
                lambda request: payment_pb2.GetPaymentRequest(out_trade_no=request.out_trade_no),
                judgements.payment,
            ),
            by_order(judgements.payment_by_order),
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
        natural=number("out_refund_no", "out_refund_no"),
        essence=("order_no", "out_trade_no", "out_refund_no", "amount_fen"),
        order_command=OrderCommand.REFUND,
        probes=(
            Probe(
                "PaymentService.GetRefund",
                lambda request: payment_pb2.GetRefundRequest(out_refund_no=request.out_refund_no),
                judgements.refund,
            ),
            by_order(judgements.refund_by_order),
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
        looks_first=True,  # found before created
        replays=False,  # the HIS finds it itself, and may have merged records since
        keeps=frozenset({"name", "document_no"}),
    ),
    Command(
        operation="InsuranceService.QuoteInsurance",
        request_class=insurance_pb2.QuoteInsuranceRequest,
        response_class=insurance_pb2.QuoteInsuranceResponse,
        natural=number("order_no", "order_no"),
        essence=("order_no",),
        replays=False,
        fleeting=_TOKENS,
    ),
    Command(
        operation="InsuranceService.SettleInsurance",
        request_class=insurance_pb2.SettleInsuranceRequest,
        response_class=insurance_pb2.SettleInsuranceResponse,
        natural=number("order_no", "order_no"),
        essence=("order_no", "agreed_split", "out_trade_no"),
        order_command=OrderCommand.PAY,
        probes=(
            Probe(
                "InsuranceService.GetInsuranceSettlement",
                lambda request: insurance_pb2.GetInsuranceSettlementRequest(order_no=request.order_no),
                judgements.settlement,
            ),
        ),
        undone_by=frozenset({"InsuranceService.ReverseInsurance", "PaymentService.RefundPayment"}),
        completes=True,
        fleeting=_TOKENS,
    ),
    Command(
        operation="InsuranceService.ReverseInsurance",
        request_class=insurance_pb2.ReverseInsuranceRequest,
        response_class=insurance_pb2.ReverseInsuranceResponse,
        natural=number("setl_id", "setl_id"),
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

COMMANDS: Final[Mapping[str, Command]] = MappingProxyType(
    {command.operation: command for command in (*_LIST, *SITE_COMMANDS)}
)
