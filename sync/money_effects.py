"""What the answer of a step changes in the books of money: the sealed record of the visit, the trade that it opens,
and the refund that it makes.

In the same commit as the step's row, whether the answer came from the other side, from a probe, or from a person.
"""

from __future__ import annotations

from datetime import datetime

from google.protobuf.message import Message
from his160.site.v1 import merchant_pb2

from sync import refunds, settlement_record, trades
from sync.money_book import SettlementRow
from sync.store import CommandRow, CommandState, Transaction


def settlement_after(
    settlement: SettlementRow | None, following: CommandRow, response: Message | None, now: datetime
) -> SettlementRow | None:
    """The visit after a step has come to its present state; the same row when that changes nothing of it."""
    if response is not None:
        return settlement_record.when_done(settlement, response, now)
    if following.state is CommandState.REJECTED:
        return settlement_record.when_refused(settlement, following.operation, following.reason, now)
    return settlement


def keep(
    transaction: Transaction,
    row: CommandRow,
    response: Message | None,
    before: SettlementRow | None,
    after: SettlementRow | None,
    now: datetime,
) -> None:
    """Writes both, where they have changed."""
    if after is not None and after is not before:
        transaction.settlements.put(after)
    if isinstance(response, merchant_pb2.OpenTradeResponse):
        request = merchant_pb2.OpenTradeRequest.FromString(row.request)
        transaction.trades.put(trades.opened(request, row.order_key, now))
    if isinstance(response, merchant_pb2.RefundTradeResponse):
        refund = refunds.accepted(response.refund, row, now)
        known = transaction.refunds.get(refund.out_refund_no)
        transaction.refunds.put(refund if known is None else refunds.further(known, response.refund, now))
