"""ConfirmPayment with a payment house that can be asked: paid there, registered here, or the money goes back."""

from __future__ import annotations

from typing import Final

from google.protobuf.message import Message
from his160.site.v1 import merchant_pb2
from his160.v1 import appointment_pb2, payment_pb2, reason_pb2

from sync.command_entry import GET_APPOINTMENT
from sync.saga import Look, Refusal, Saga, Step
from sync.saga_cash import (
    QUERY_REFUND,
    QUERY_TRADE,
    REFUND_TRADE,
    automatic_refund,
    is_unpaid,
    paid,
    refunded_event,
    stands_on_trade,
    trade_look,
)
from sync.saga_context import Context
from sync.store import CommandState

OPERATION: Final = "PaymentService.ConfirmPayment"

# Refusals after which the money does not go back by itself: it was never ours, is another order's, or is back already.
_KEPT: Final = frozenset(
    {
        reason_pb2.REASON_PAYMENT_NUMBER_REUSED,
        reason_pb2.REASON_NOT_PAID,
        reason_pb2.REASON_ALREADY_REFUNDED,
        reason_pb2.REASON_PAYMENT_NOT_FOUND,
    }
)


def _number(context: Context) -> str:
    return str(context.request.out_trade_no)


def _judge(context: Context, answer: Message | None) -> Refusal | None:
    assert answer is None or isinstance(answer, merchant_pb2.QueryTradeResponse)
    refusal = paid(context, answer, context.request.amount_fen)
    if answer is None or (refusal is not None and refusal.reason != reason_pb2.REASON_AMOUNT_MISMATCH):
        return refusal
    named = answer.trade.transaction_id
    if named and named != context.request.transaction_id:
        return Refusal(reason_pb2.REASON_PAYMENT_NOT_FOUND, "transaction_id is not that of the trade", final=False)
    return None


def _when_other_amount(context: Context) -> Message | None:
    """The order is asked for only where the payment house was paid another amount than the caller says."""
    trade = context.fact("trade")
    if trade is None or trade.trade.amount_fen == context.request.amount_fen:
        return None
    return appointment_pb2.GetAppointmentRequest(order_no=context.order_no)


def _judge_other_amount(context: Context, answer: Message | None) -> Refusal:
    """Always a refusal: the money goes back, unless the order stands on it (the cash part of a settlement, for one)."""
    mismatch = Refusal(reason_pb2.REASON_AMOUNT_MISMATCH, "the payment house was paid another amount")
    if not isinstance(answer, appointment_pb2.GetAppointmentResponse):
        return mismatch
    if stands_on_trade(context, answer.appointment):
        detail = "the HIS has registered this payment, of another amount"
        return Refusal(reason_pb2.REASON_PAYMENT_NUMBER_REUSED, detail)
    if is_unpaid(answer.appointment) or answer.appointment.out_trade_no:  # not paid for, or by another payment
        return mismatch
    detail = "the HIS does not say by which payment the order is paid"
    return Refusal(reason_pb2.REASON_HIS_UNAVAILABLE, detail, final=False)


def _register(context: Context) -> Message:
    message = payment_pb2.ConfirmPaymentRequest()
    message.CopyFrom(context.request)
    return message


def _must_go_back(context: Context) -> bool:
    row = context.rows.get("register")
    return row is not None and row.state is CommandState.REJECTED and row.reason not in _KEPT


def _respond(context: Context) -> Message:
    answer: Message = context.answer("register")
    return answer


_LOOKS: Final = (
    trade_look(_number, _judge),
    Look("standing", GET_APPOINTMENT, _when_other_amount, _judge_other_amount),
)

SAGA: Final = Saga(
    name="confirm_payment",
    operation=OPERATION,
    needs=frozenset({OPERATION, QUERY_TRADE, REFUND_TRADE, QUERY_REFUND}),
    steps=(
        # The HIS may refuse what it has done (已支付勿重复): believed only when it does not show the payment.
        Step("register", OPERATION, _register, looks=_LOOKS, persists=True, doubts=True),
    ),
    undo=(automatic_refund(_number, wanted=_must_go_back),),
    respond=_respond,
    event=refunded_event,
)
