"""What was paid and never confirmed goes back: begun by the agent alone, when the time for a confirmation is over.

It stands in the ledger as a confirmation that was refused, for that is what the caller who comes too late is told: the
money is back, under the number that the automatic refund of this trade always has.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.message import Message
from his160.v1 import appointment_pb2, payment_pb2, reason_pb2

from sync.saga import Look, Refusal, Saga, Step
from sync.saga_cash import automatic_refund, is_unpaid, order_look, refunded_event, stands_on_trade, trade_look
from sync.saga_context import Context
from sync.store import CommandState

OPERATION: Final = "PaymentService.ConfirmPayment"
LATE: Final = reason_pb2.REASON_LOCK_EXPIRED
_R = reason_pb2


def _number(context: Context) -> str:
    return str(context.request.out_trade_no)


def _judge_trade(context: Context, answer: Any) -> Refusal | None:
    """Only what is paid, and not given back yet."""
    if answer is None or answer.trade.state == payment_pb2.PAYMENT_STATE_CLOSED:
        return Refusal(_R.REASON_NOT_PAID, "nothing was paid")
    if answer.trade.state == payment_pb2.PAYMENT_STATE_REFUNDED:
        return Refusal(_R.REASON_ALREADY_REFUNDED, "the payment house has given it back")
    if answer.trade.state != payment_pb2.PAYMENT_STATE_PAID:
        return Refusal(_R.REASON_HIS_UNAVAILABLE, "the payment house does not say that it was paid", final=False)
    return None


def _judge_order(context: Context, answer: Message | None) -> Refusal:
    """Always a refusal: which one says whether the money goes back."""
    late = Refusal(LATE, "paid, and not confirmed in time")
    if not isinstance(answer, appointment_pb2.GetAppointmentResponse):
        return late
    found = answer.appointment
    if stands_on_trade(context, found):
        return Refusal(_R.REASON_ALREADY_PAID, "the HIS has registered the payment")
    if is_unpaid(found) or found.out_trade_no:  # not paid for, or by another payment
        return late
    return Refusal(_R.REASON_HIS_UNAVAILABLE, "the HIS does not say by which payment the order is paid", final=False)


def _confirmation(context: Context) -> Message:
    message = payment_pb2.ConfirmPaymentRequest()
    message.CopyFrom(context.request)
    return message


def is_late(context: Context) -> bool:
    """Whether it was looked at, and must go back."""
    row = context.rows.get("unconfirmed")
    return row is not None and row.state is CommandState.REJECTED and row.reason == LATE


_LOOKS: Final[tuple[Look, ...]] = (trade_look(_number, _judge_trade), order_look(_judge_order))

SAGA: Final = Saga(
    name="return_payment",
    operation=OPERATION,
    needs=frozenset(),
    is_own=True,
    steps=(Step("unconfirmed", OPERATION, _confirmation, looks=_LOOKS, needs_caller=False),),
    undo=(automatic_refund(_number, wanted=is_late),),
    respond=lambda _: payment_pb2.ConfirmPaymentResponse(),
    event=refunded_event,
)
