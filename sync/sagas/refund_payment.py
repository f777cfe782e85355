"""RefundPayment with a merchant account: rules of the HIS, insurance, cash, red row. No way back from the first step.

Cash goes back under the caller's number, the same on every attempt: the payment house makes one refund of it. Accepted
is not refunded: ``sync/refunds.py`` follows it until it is final.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.message import Message
from his160.site.v1 import merchant_pb2, registration_pb2
from his160.v1 import appointment_pb2, common_pb2, payment_pb2, reason_pb2

from sync import order
from sync.command_entry import GET_APPOINTMENT
from sync.commands import COMMANDS
from sync.money_book import SettlementState
from sync.order import OrderCommand
from sync.saga import Look, Refusal, Refused, Saga, Step
from sync.saga_cash import (
    NOT_FOUND,
    QUERY_REFUND,
    QUERY_TRADE,
    REFUND_TRADE,
    is_refundable,
    order_look,
    order_refusal,
    trade_look,
)
from sync.saga_context import Context
from sync.saga_refund import refund_of
from sync.sagas.reverse_insurance import is_begun, no_objection, red_row, settlement_steps, unless_begun
from sync.store import CommandState

OPERATION: Final = "PaymentService.RefundPayment"


def _is_insured(context: Context) -> bool:
    """Whether 医保 has paid a part that must be given back first."""
    row = context.books.settlement
    begun = any(step in context.rows for step in ("reverse", "give_back"))
    return row is not None and (begun or row.state is SettlementState.SETTLED)


def _cash(context: Context) -> int:
    """What goes back in cash, in 分."""
    return context.record.split.cash_fen if _is_insured(context) else int(context.request.amount_fen)


def _judge_order(context: Context, answer: Message | None) -> Refusal | None:
    if not isinstance(answer, appointment_pb2.GetAppointmentResponse):
        return NOT_FOUND
    found, request = answer.appointment, context.request
    others = [row for row in context.books.refunds if row.out_refund_no != request.out_refund_no]
    if any(row.out_trade_no == request.out_trade_no for row in others):
        return Refusal(reason_pb2.REASON_ALREADY_REFUNDED, "the payment went back under another number")
    refusal = order_refusal(found.state, OrderCommand.REFUND)
    if refusal is not None:
        return refusal
    if found.state == order.SUSPENDED and not _was_paid(context, found):
        return Refusal(reason_pb2.REASON_NOT_PAID, "the session was stopped before the order was paid")
    if found.out_trade_no and found.out_trade_no != request.out_trade_no:
        return Refusal(reason_pb2.REASON_PAYMENT_NOT_FOUND, "the order is paid under another number")
    wanted = {found.paid_fen or found.total_fen}
    if _is_insured(context):
        wanted = {context.record.split.cash_fen, found.paid_fen or found.total_fen}
    if request.amount_fen in wanted or wanted == {0}:
        return None
    if request.amount_fen < max(wanted):
        return Refusal(reason_pb2.REASON_PARTIAL_REFUND_REFUSED, "a registration goes back whole")
    return Refusal(reason_pb2.REASON_AMOUNT_MISMATCH, "less was paid than is to go back")


def _was_paid(context: Context, found: common_pb2.Appointment) -> bool:
    """Whether a suspended order was paid, which its state does not say: by the HIS, or by our own registration."""
    ours = [row for row in context.books.history if row.state is CommandState.DONE and row.operation in COMMANDS]
    is_registered = any(COMMANDS[row.operation].order_command is OrderCommand.PAY for row in ours)
    return bool(found.paid_fen or found.out_trade_no) or is_registered


def _judge_trade(context: Context, answer: merchant_pb2.QueryTradeResponse | None) -> Refusal | None:
    refusal = is_refundable(context, answer)
    if refusal is not None or answer is None:
        return refusal
    ours = any(row.out_refund_no == context.request.out_refund_no for row in context.books.refunds)
    sent = context.sent("refund")
    if answer.trade.state == payment_pb2.PAYMENT_STATE_REFUNDED and not ours and (sent is None or not sent.refund_fen):
        return Refusal(reason_pb2.REASON_ALREADY_REFUNDED, "the payment house has given it back under another number")
    if answer.trade.amount_fen < _cash(context):
        return Refusal(reason_pb2.REASON_AMOUNT_MISMATCH, "the payment house was paid less than is to go back")
    return None


def _number(context: Context) -> str:
    return str(context.request.out_trade_no) if _cash(context) else ""


def _check(context: Context) -> Message:
    request = context.request
    return registration_pb2.CheckRefundRequest(
        order_no=request.order_no, out_trade_no=request.out_trade_no, amount_fen=request.amount_fen
    )


_TRADE: Final = trade_look(_number, _judge_trade)
_LOOKS: Final = (
    unless_begun(order_look(_judge_order)),
    unless_begun(Look("check", "RefundCheckService.CheckRefund", _check, no_objection, is_optional=True, is_word=True)),
    _TRADE,
)


def _refund(context: Context) -> Message:
    request = context.request
    return merchant_pb2.RefundTradeRequest(
        out_trade_no=request.out_trade_no,
        out_refund_no=request.out_refund_no,
        refund_fen=_cash(context),
        total_fen=context.fact("trade").trade.amount_fen,
        note=request.note,
    )


def _red(context: Context) -> Message:
    message = payment_pb2.RefundPaymentRequest()
    message.CopyFrom(context.request)
    return message


def _is_red_insured(context: Context) -> bool:
    return _is_insured(context) and context.maps(_INSURED_RED.operation)


def _respond(context: Context) -> Message:
    refund = refund_of(context) or payment_pb2.Refund(
        out_refund_no=context.request.out_refund_no,
        out_trade_no=context.request.out_trade_no,
        order_no=context.order_no,
        state=payment_pb2.REFUND_STATE_DONE,
    )
    response = payment_pb2.RefundPaymentResponse(refund=refund)
    red: Any = context.answer("red") or context.answer("red_insured")
    if red is not None and red.HasField("appointment"):
        response.appointment.CopyFrom(red.appointment)
        response.refund.appointment_id = red.appointment.appointment_id
        response.refund.refund_receipt_no = red.appointment.refund_receipt_no
    written = getattr(red, "refund", None)
    if written is not None and written.refund_receipt_no:
        response.refund.refund_receipt_no = written.refund_receipt_no
    if written is not None and written.HasField("refund_time") and not response.refund.HasField("refund_time"):
        response.refund.refund_time.CopyFrom(written.refund_time)
    return response


_INSURED_RED: Final = red_row()

SAGA: Final = Saga(
    name="refund_payment",
    operation=OPERATION,
    needs=frozenset({OPERATION, GET_APPOINTMENT, QUERY_TRADE, REFUND_TRADE, QUERY_REFUND}),
    steps=(
        *settlement_steps(_is_insured, _LOOKS),
        Step("refund", REFUND_TRADE, _refund, wanted=lambda context: bool(_cash(context)), looks=_LOOKS),
        Step(
            "red_insured",
            _INSURED_RED.operation,
            _INSURED_RED.build,
            wanted=_is_red_insured,
            persists=True,
            doubts=True,
            refused=Refused.PERSON,
        ),
        Step(
            "red",
            OPERATION,
            _red,
            wanted=lambda context: not _is_red_insured(context),
            persists=True,
            doubts=True,
            refused=Refused.PERSON,
        ),
    ),
    undo=(),
    is_bound=is_begun,
    respond=_respond,
)
