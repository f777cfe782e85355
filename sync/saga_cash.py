"""Parts of sagas that have to do with the order and with cash: the looks and steps that several of them share."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from his160.site.v1 import merchant_pb2
from his160.v1 import appointment_pb2, common_pb2, event_pb2, payment_pb2, reason_pb2

from sync import numbers, order
from sync.command_entry import GET_APPOINTMENT
from sync.commands import COMMANDS
from sync.order import OrderCommand
from sync.saga import Look, Refusal, Refused, Step
from sync.saga_context import Context
from sync.saga_refund import refund_of
from sync.store import CommandRow, CommandState

OPEN_TRADE: Final = "MerchantService.OpenTrade"
CLOSE_TRADE: Final = "MerchantService.CloseTrade"
QUERY_TRADE: Final = "MerchantService.QueryTrade"
REFUND_TRADE: Final = "MerchantService.RefundTrade"
QUERY_REFUND: Final = "MerchantService.QueryRefund"
CREATE_PAYMENT: Final = "PaymentService.CreatePayment"
NOTE: Final = "医院未能完成挂号，费用原路退回"
STREAM: Final = "commands"

_R = reason_pb2
_UNPAID: Final = frozenset({order.LOCKED, order.BOOKED, order.CANCELLED, order.RELEASED})
_MOST_TRADES: Final = 4
_LIKELY: Final = frozenset({CommandState.DONE, CommandState.SENT, CommandState.UNKNOWN})


def order_look(judge: Callable[[Context, Message | None], Refusal | None]) -> Look:
    """The order as the HIS has it."""
    return Look(
        "order",
        GET_APPOINTMENT,
        lambda context: appointment_pb2.GetAppointmentRequest(order_no=context.order_no),
        judge,
    )


def order_refusal(state: order.State, command: OrderCommand) -> Refusal | None:
    """Why an order in this state does not take the command."""
    try:
        order.transition(state, command)
    except order.IllegalTransition as error:
        return Refusal(error.reason, str(error))
    return None


NOT_FOUND: Final = Refusal(_R.REASON_APPOINTMENT_NOT_FOUND, "the HIS has no such order")


def open_trades(context: Context) -> tuple[str, ...]:
    """商户订单号 of the order's trades that can still be paid, as far as the ledger knows, the newest first.

    What this command itself has done does not count: the list is the same whenever it is asked for.
    """
    own = context.parent.request_id
    found: dict[str, bool] = {}
    for row in context.books.history:
        command = COMMANDS.get(row.operation)
        if command is None or own in (row.request_id, row.parent):
            continue
        kind, _, number = row.natural_key.partition(":")
        if kind == "out_trade_no" and row.operation in (OPEN_TRADE, CREATE_PAYMENT) and row.state in _LIKELY:
            found.pop(number, None)
            found[number] = True
        elif kind == "out_trade_no" and row.operation == CLOSE_TRADE and row.state is CommandState.DONE:
            found.pop(number, None)
        elif row.operation == REFUND_TRADE and row.state in _LIKELY:
            found.pop(command.request_class.FromString(row.request).out_trade_no, None)  # type: ignore[attr-defined]
    return tuple(reversed(found))


def close_steps(
    trades: Callable[[Context], tuple[str, ...]], *, looks: tuple[Look, ...] = (), needs_caller: bool = False
) -> tuple[Step, ...]:
    """Closing trades, so that nobody can pay them any more. One that is paid refuses with ALREADY_PAID."""

    def step(at: int) -> Step:
        return Step(
            name="close" if at == 0 else f"close_{at + 1}",
            operation=CLOSE_TRADE,
            build=lambda context: merchant_pb2.CloseTradeRequest(out_trade_no=trades(context)[at]),
            wanted=lambda context: len(trades(context)) > at,
            looks=looks,
            needs_caller=needs_caller,
        )

    return tuple(step(at) for at in range(_MOST_TRADES))


def trade_look(
    number: Callable[[Context], str],
    judge: Callable[[Context, Any], Refusal | None],
    *,
    is_optional: bool = False,
) -> Look:
    """The trade as the payment house has it: the only evidence of payment."""

    def request(context: Context) -> Message | None:
        wanted = number(context)
        return merchant_pb2.QueryTradeRequest(out_trade_no=wanted) if wanted else None

    return Look("trade", QUERY_TRADE, request, judge, is_optional=is_optional)


def paid(context: Context, answer: merchant_pb2.QueryTradeResponse | None, amount_fen: int) -> Refusal | None:
    """Whether the payment house has this amount of this trade, and still has it."""
    if answer is None:
        return Refusal(_R.REASON_NOT_PAID, "the payment house has no such trade", final=False)
    trade = answer.trade
    if trade.state == payment_pb2.PAYMENT_STATE_REFUNDED:
        return Refusal(_R.REASON_ALREADY_REFUNDED, "the payment house has given it back")
    if trade.state == payment_pb2.PAYMENT_STATE_CLOSED:
        return Refusal(_R.REASON_NOT_PAID, "the trade is closed")
    if trade.state != payment_pb2.PAYMENT_STATE_PAID:
        return Refusal(_R.REASON_NOT_PAID, "the payment house has not been paid yet", final=False)
    if trade.amount_fen != amount_fen:
        return Refusal(_R.REASON_AMOUNT_MISMATCH, "the payment house was paid another amount")
    return None


def stands_on_trade(context: Context, found: common_pb2.Appointment) -> bool:
    """Whether the HIS has registered this command's trade (the fact ``trade``) for the order, in whatever state."""
    trade = context.fact("trade")  # a HIS may keep the payment house's own number in this place
    own = {str(context.request.out_trade_no), trade.trade.transaction_id if trade is not None else ""} - {""}
    return found.out_trade_no in own


def is_unpaid(found: common_pb2.Appointment) -> bool:
    """Whether the HIS shows that nothing was paid for the order."""
    return found.state in _UNPAID or (found.state == order.SUSPENDED and not found.paid_fen)


def is_refundable(_: Context, answer: merchant_pb2.QueryTradeResponse | None) -> Refusal | None:
    """Whether there is money to give back. REFUNDED: by our own number; the same number gives the same refund."""
    if answer is not None and answer.trade.state in (
        payment_pb2.PAYMENT_STATE_PAID,
        payment_pb2.PAYMENT_STATE_REFUNDED,
    ):
        return None
    if answer is not None and answer.trade.state == payment_pb2.PAYMENT_STATE_UNSPECIFIED:
        return Refusal(_R.REASON_HIS_UNAVAILABLE, "the payment house does not say whether it was paid", final=False)
    return Refusal(_R.REASON_NOT_PAID, "nothing was paid")


def automatic_refund(number: Callable[[Context], str], *, wanted: Callable[[Context], bool]) -> Step:
    """Giving back all that was paid for a trade, under the number that this trade's automatic refund always has."""

    def build(context: Context) -> Message:
        kept = context.sent("refund")
        amount = kept.refund_fen if kept is not None and kept.refund_fen else context.fact("trade").trade.amount_fen
        trade = number(context)
        return merchant_pb2.RefundTradeRequest(
            out_trade_no=trade,
            out_refund_no=numbers.automatic_refund_no(trade),
            refund_fen=amount,
            total_fen=amount,
            note=NOTE,
        )

    return Step(
        name="refund",
        operation=REFUND_TRADE,
        build=build,
        wanted=wanted,
        looks=(trade_look(number, is_refundable),),
        refused=nothing_was_paid,
    )


def nothing_was_paid(row: CommandRow) -> Refused:
    """Money that was never paid need not go back; any other refusal is a person's work."""
    return Refused.PASS if row.reason == _R.REASON_NOT_PAID else Refused.PERSON


def refunded_event(context: Context, refusal: Refusal) -> event_pb2.Event | None:
    """What the platform is told when money went back because the HIS could not register what was paid."""
    refund = refund_of(context)
    if refund is None:
        return None
    event = event_pb2.Event(
        event_id=numbers.event_id(context.rules.site, STREAM, "refunded", refund.out_refund_no),
        site=context.rules.site,
        kind=event_pb2.EVENT_KIND_REFUNDED,
        origin=event_pb2.ORIGIN_PLATFORM,
        subject=common_pb2.SUBJECT_APPOINTMENT,
        order_no=context.order_no,
        refund=refund,
        reason=refusal.reason,
        mapping_revision=context.parent.mapping_revision,
        stream=STREAM,
    )
    event.captured_time.CopyFrom(timestamp(context.now))
    return event


def timestamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def moment(stamp: Timestamp, context: Context) -> datetime:
    """An aware instant."""
    return stamp.ToDatetime(tzinfo=context.rules.zone)


MINUTE: Final = timedelta(minutes=1)
