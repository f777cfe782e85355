"""What the caller of a saga is told about money that goes back."""

from __future__ import annotations

from collections.abc import Mapping

from his160.v1 import payment_pb2

from sync.commands import COMMANDS
from sync.saga_context import Context
from sync.store import CommandRow, CommandState

REFUND_TRADE = "MerchantService.RefundTrade"


def refund_of(context: Context) -> payment_pb2.Refund | None:
    """The refund of cash that this command has begun; None when the payment house has accepted none."""
    for row in context.rows.values():
        if row.operation == REFUND_TRADE and row.state is CommandState.DONE:
            return _refund(row, context.order_no)
    return None


def told(refund: payment_pb2.Refund | None) -> Mapping[str, str]:
    """The refund as metadata of an error: number, amount in 分, how far the money has come."""
    if refund is None:
        return {}
    state = payment_pb2.RefundState.Name(refund.state).removeprefix("REFUND_STATE_")
    return {"out_refund_no": refund.out_refund_no, "refund_fen": str(refund.amount_fen), "refund_state": state}


def _refund(row: CommandRow, order_no: str) -> payment_pb2.Refund:
    request = COMMANDS[row.operation].request_class.FromString(row.request)
    found = COMMANDS[row.operation].response_class.FromString(row.result).refund  # type: ignore[attr-defined]
    refund = payment_pb2.Refund(
        out_refund_no=request.out_refund_no,  # type: ignore[attr-defined]
        out_trade_no=request.out_trade_no,  # type: ignore[attr-defined]
        order_no=order_no,
        state=found.state or payment_pb2.REFUND_STATE_PROCESSING,
        amount_fen=request.refund_fen,  # type: ignore[attr-defined]
    )
    if found.HasField("success_time"):
        refund.refund_time.CopyFrom(found.success_time)
    return refund
