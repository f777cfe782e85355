"""CreatePayment through the hospital's merchant account: the HIS is asked first, an older trade is closed first."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from google.protobuf.message import Message
from his160.site.v1 import merchant_pb2
from his160.v1 import appointment_pb2, payment_pb2, reason_pb2

from sync.command_entry import GET_APPOINTMENT
from sync.commands import COMMANDS
from sync.money_book import SettlementState
from sync.order import OrderCommand
from sync.saga import Refusal, Saga, Step
from sync.saga_cash import (
    CLOSE_TRADE,
    CREATE_PAYMENT,
    MINUTE,
    NOT_FOUND,
    OPEN_TRADE,
    close_steps,
    moment,
    open_trades,
    order_look,
    order_refusal,
    timestamp,
)
from sync.saga_context import Context
from sync.store import CommandState

_LOCK: Final = "AppointmentService.LockSlot"
_DESCRIPTION: Final = 127


def _judge(context: Context, answer: Message | None) -> Refusal | None:
    """Only an order that waits for payment, of what the HIS wants, while its hold lasts."""
    if not isinstance(answer, appointment_pb2.GetAppointmentResponse):
        return NOT_FOUND
    found = answer.appointment
    refusal = order_refusal(found.state, OrderCommand.PAY)
    if refusal is not None:
        return refusal
    if context.request.amount_fen not in (found.total_fen, _cash_part(context, found.total_fen)):
        return Refusal(reason_pb2.REASON_AMOUNT_MISMATCH, "the HIS wants another amount")
    if _expiry(context) - context.now < MINUTE:
        return Refusal(reason_pb2.REASON_LOCK_EXPIRED, "the hold runs out before anybody could pay")
    return None


def _cash_part(context: Context, total_fen: int) -> int:
    """What the patient pays beside 医保, by a quote of this total that is still kept; the total where there is none."""
    row, split = context.books.settlement, context.record.split
    if row is None or row.state is not SettlementState.QUOTED or split.total_fen != total_fen or not split.cash_fen:
        return total_fen
    return split.cash_fen if context.now - row.changed_time < context.rules.quote_keep else total_fen


def _expiry(context: Context) -> datetime:
    """Until when the trade may be paid: never longer than the HIS holds the slot.

    A hold that has run out while the HIS says BOOKED was replaced by the booking: then only the site's limit counts.
    A number that was, or may have been, opened keeps its expiry: with another one the payment house takes it for
    another trade, and refuses it.
    """
    opened = _opened_until(context)
    if opened is not None:
        return opened
    expiry = context.now + context.rules.payment_window
    held = _held_until(context)
    return expiry if held is None or held <= context.now else min(expiry, held)


def _opened_until(context: Context) -> datetime | None:
    """What this number was opened with before; None when it never was, as far as the ledger knows."""
    until = None
    for row in context.books.history:
        if row.operation == OPEN_TRADE and row.natural_key == f"out_trade_no:{context.request.out_trade_no}":
            sent: Any = COMMANDS[OPEN_TRADE].request_class.FromString(row.request)
            until = moment(sent.expire_time, context) if sent.HasField("expire_time") else None
    return until


def _held_until(context: Context) -> datetime | None:
    """End of the order's last hold, as the HIS answered it; None when it gave none."""
    held = None
    for row in context.books.history:
        if row.operation == _LOCK and row.state is CommandState.DONE:
            lock: Any = COMMANDS[_LOCK].response_class.FromString(row.result)
            held = moment(lock.lock.expire_time, context) if lock.lock.HasField("expire_time") else None
    return held


def _others(context: Context) -> tuple[str, ...]:
    """Open trades of the order under other numbers."""
    return tuple(number for number in open_trades(context) if number != context.request.out_trade_no)


def _open(context: Context) -> Message:
    request = context.request
    department = context.fact("order").appointment.department_name
    message = merchant_pb2.OpenTradeRequest(
        out_trade_no=request.out_trade_no,
        order_no=request.order_no,
        amount_fen=request.amount_fen,
        payer_openid=request.payer_openid,
        description=f"预约挂号 {department}".strip()[:_DESCRIPTION],
    )
    message.expire_time.CopyFrom(timestamp(_expiry(context)))
    return message


def _respond(context: Context) -> Message:
    opened = context.answer("open")
    response = payment_pb2.CreatePaymentResponse(
        out_trade_no=context.request.out_trade_no, pay_parameters=opened.pay_parameters
    )
    if opened.HasField("expire_time"):
        response.expire_time.CopyFrom(opened.expire_time)
    return response


_ORDER = order_look(_judge)

SAGA: Final = Saga(
    name="create_payment",
    operation=CREATE_PAYMENT,
    needs=frozenset({OPEN_TRADE, CLOSE_TRADE, GET_APPOINTMENT}),
    is_substitute=True,
    steps=(
        *close_steps(_others, looks=(_ORDER,), needs_caller=True),
        Step(name="open", operation=OPEN_TRADE, build=_open, looks=(_ORDER,), needs_caller=True),
    ),
    undo=(),
    respond=_respond,
)
