"""Refunds on their way: accepted is not refunded (facts 3.3). Each is asked for until it is final."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from his160.site.v1 import merchant_pb2
from his160.v1 import payment_pb2

from his_db.errors import HisError
from sync.clock import Clock
from sync.his import HisPort
from sync.money_book import RefundProgress, RefundRow
from sync.store import CommandRow, Store, Transaction

_LOG = logging.getLogger("his160.sync.refunds")
QUERY_REFUND: Final = "MerchantService.QueryRefund"
_FIRST: Final = timedelta(minutes=1)  # the payment house's advice: after a minute, backing off after five
_OFTEN: Final = 5
_CAP: Final = timedelta(hours=1)
_MENDED: Final = timedelta(hours=6)  # what a person has put right at the payment house is seen within this
_AT_ONCE: Final = 50

_PROGRESS: Final = {
    payment_pb2.REFUND_STATE_PROCESSING: RefundProgress.PROCESSING,
    payment_pb2.REFUND_STATE_DONE: RefundProgress.DONE,
    payment_pb2.REFUND_STATE_ABNORMAL: RefundProgress.ABNORMAL,
}
STATE: Final = {progress: state for state, progress in _PROGRESS.items()}
"""The contract's RefundState of each."""


def accepted(refund: merchant_pb2.TradeRefund, step: CommandRow, now: datetime) -> RefundRow:
    """The row of a refund that the payment house has just accepted for a step."""
    request = merchant_pb2.RefundTradeRequest.FromString(step.request)
    row = RefundRow(
        out_refund_no=refund.out_refund_no or request.out_refund_no,
        order_key=step.order_key,
        out_trade_no=request.out_trade_no,
        amount_fen=refund.amount_fen or request.refund_fen,
        state=RefundProgress.PROCESSING,
        created_time=now,
        next_time=now + _FIRST,
        owner=step.parent,
    )
    return further(row, refund, now)


def further(row: RefundRow, refund: merchant_pb2.TradeRefund, now: datetime) -> RefundRow:
    """The row after an answer of the payment house. Money that is back stays back; what is abnormal may be mended."""
    state = _PROGRESS.get(refund.state, RefundProgress.PROCESSING)
    if row.state is RefundProgress.DONE or state in (RefundProgress.PROCESSING, row.state):
        return row
    again = now + _MENDED if state is RefundProgress.ABNORMAL else None
    return replace(row, state=state, next_time=again, final_time=now, detail=refund.state_code)


def asked(row: RefundRow, now: datetime, detail: str = "") -> RefundRow:
    """The row after it was asked for in vain; the pauses grow."""
    if row.state is RefundProgress.ABNORMAL:
        return replace(row, asked=row.asked + 1, next_time=now + _MENDED)
    pause = _FIRST if row.asked < _OFTEN else min(_CAP, _FIRST * (1 << min(row.asked - _OFTEN + 1, 10)))
    return replace(row, asked=row.asked + 1, next_time=now + pause, detail=detail)


class RefundFollower:
    """Follows accepted refunds until the money is back. What is ABNORMAL is a person's work, and looked at all the
    same: the person puts it right at the payment house, not here.
    """

    def __init__(self, his: HisPort, store: Store, clock: Clock) -> None:
        self._his = his
        self._store = store
        self._clock = clock

    async def follow(self) -> int:
        """Asks for the refunds that are due; the number that became final. Raises StoreError."""
        now = self._clock()
        due = await self._store.read(lambda transaction: transaction.refunds.due(now, _AT_ONCE, longest=_MENDED))
        if not due or not self._his.maps(QUERY_REFUND):
            return 0
        return sum([await self._ask(row) for row in due])

    async def ask_now(self, out_refund_no: str) -> None:
        """Asks for one refund before it is due, if there is such a one that is not back. Raises StoreError."""
        row = await self._store.read(lambda transaction: transaction.refunds.get(out_refund_no))
        if row is not None and row.state is not RefundProgress.DONE and self._his.maps(QUERY_REFUND):
            await self._ask(row)

    async def _ask(self, row: RefundRow) -> bool:
        request = merchant_pb2.QueryRefundRequest(out_refund_no=row.out_refund_no)
        try:
            answer = await self._his.read(QUERY_REFUND, request)
        except HisError as error:
            following = asked(row, self._clock(), error.detail)
        else:
            assert isinstance(answer, merchant_pb2.QueryRefundResponse)
            following = further(row, answer.refund, self._clock())
            if following is row:
                following = asked(row, self._clock())
        await self._store.write(lambda transaction: _keep(transaction, following))
        if following.state is RefundProgress.ABNORMAL and row.state is not RefundProgress.ABNORMAL:
            _LOG.error("a refund is abnormal: a person must look", extra={"out_refund_no": row.out_refund_no})
        return following.state is not row.state


def _keep(transaction: Transaction, following: RefundRow) -> None:
    current = transaction.refunds.get(following.out_refund_no)
    if current is not None and current.state is not RefundProgress.DONE:
        transaction.refunds.put(following)
