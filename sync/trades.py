"""Trades that were opened: what became of each. One that is paid and never confirmed must not be forgotten.

The payment house is asked when a trade can be paid no more. Paid, and no command of the platform has used it: after
``confirm_within`` it goes back (``return_payment``), or is left to a person, as the site has it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from his160.site.v1 import merchant_pb2
from his160.v1 import payment_pb2, reason_pb2

from his_db.errors import HisError, HisRefused
from sync.clock import Clock
from sync.commands import COMMANDS
from sync.his import HisPort
from sync.money_book import TradeRow, TradeState
from sync.saga_context import SagaRules
from sync.store import CommandRow, CommandState, Store, Transaction

_LOG = logging.getLogger("his160.sync.trades")
QUERY_TRADE: Final = "MerchantService.QueryTrade"
_REFUND: Final = "MerchantService.RefundTrade"
_CLOSE: Final = "MerchantService.CloseTrade"
_USES: Final = frozenset({"PaymentService.ConfirmPayment", "InsuranceService.SettleInsurance"})
_MARGIN: Final = timedelta(minutes=1)  # behind the end of a trade's time
_PAUSE: Final = timedelta(minutes=5)
_REPORTED: Final = timedelta(hours=1)  # what waits for a person is looked at again
_LONGEST: Final = timedelta(hours=2)  # a trade without an end of its own: the payment house's
_OFTEN: Final = 3  # not paid after its time, this many times: nobody will pay it
_AT_ONCE: Final = 50

GiveBack = Callable[[TradeRow], Awaitable[CommandRow | None]]
"""Begins or goes on with giving back; the command's row, None while another works on the order."""


def opened(request: merchant_pb2.OpenTradeRequest, order_key: str, now: datetime) -> TradeRow:
    """The row of a trade that has just been opened."""
    end = now + _LONGEST
    if request.HasField("expire_time"):
        end = request.expire_time.ToDatetime(tzinfo=UTC)
    return TradeRow(
        out_trade_no=request.out_trade_no,
        order_key=order_key,
        amount_fen=request.amount_fen,
        state=TradeState.OPEN,
        created_time=now,
        next_time=end + _MARGIN,
    )


class TradeFollower:
    """Asks for trades whose time is over until it is known what became of them."""

    def __init__(self, his: HisPort, store: Store, clock: Clock, rules: SagaRules, give_back: GiveBack) -> None:
        self._his = his
        self._store = store
        self._clock = clock
        self._rules = rules
        self._give_back = give_back

    async def follow(self) -> int:
        """Looks at the trades that are due; how many came to their end. Raises StoreError."""
        now = self._clock()
        due = await self._store.read(lambda transaction: transaction.trades.due(now, _AT_ONCE))
        if not due or not self._his.maps(QUERY_TRADE):
            return 0
        ended = 0
        for row in due:
            following = await self._looked_at(row)
            await self._store.write(lambda transaction, following=following: _keep(transaction, following))  # type: ignore[misc]
            ended += following.state is TradeState.ENDED
        return ended

    async def _looked_at(self, row: TradeRow) -> TradeRow:
        """The row as it is to be written."""
        commands = await self._store.read(lambda transaction: transaction.commands.of_order(row.order_key))
        word = _by_the_ledger(commands, row.out_trade_no)
        if word is not None:
            return self._ended(row, word) if word else self._again(row, _PAUSE, "a command works on it")
        try:
            answer = await self._his.read(QUERY_TRADE, merchant_pb2.QueryTradeRequest(out_trade_no=row.out_trade_no))
        except HisRefused as error:
            if reason_pb2.Reason.Name(error.reason).endswith("_NOT_FOUND"):
                return self._ended(row, "the payment house has no such trade")
            return self._again(row, _PAUSE, error.detail)
        except HisError as error:
            return self._again(row, _PAUSE, error.detail)
        assert isinstance(answer, merchant_pb2.QueryTradeResponse)
        return await self._by_the_payment_house(row, answer.trade)

    async def _by_the_payment_house(self, row: TradeRow, trade: merchant_pb2.Trade) -> TradeRow:
        if trade.state == payment_pb2.PAYMENT_STATE_PAID:
            return await self._paid(row, trade)
        if trade.state == payment_pb2.PAYMENT_STATE_CLOSED:
            return self._ended(row, "never paid")
        if trade.state == payment_pb2.PAYMENT_STATE_REFUNDED:
            return self._ended(row, "given back")
        if trade.state == payment_pb2.PAYMENT_STATE_UNPAID and row.asked + 1 >= _OFTEN:
            return self._ended(row, "never paid")
        return self._again(row, _PAUSE, "not paid (yet)")

    async def _paid(self, row: TradeRow, trade: merchant_pb2.Trade) -> TradeRow:
        now = self._clock()
        paid = trade.pay_time.ToDatetime(tzinfo=UTC) if trade.HasField("pay_time") else row.created_time
        late = paid + self._rules.confirm_within
        if now < late:
            return replace(row, next_time=late, asked=row.asked + 1, detail="paid, not confirmed yet")
        if row.state is not TradeState.UNCONFIRMED:
            _LOG.error("a trade was paid and never confirmed", extra={"out_trade_no": row.out_trade_no})
        row = replace(row, state=TradeState.UNCONFIRMED)
        if not self._rules.returns_unconfirmed:
            return self._again(row, _REPORTED, "paid, and never confirmed")
        command = await self._give_back(row)
        if command is None or command.state.is_open:
            return self._again(row, _PAUSE, "on its way back")
        if command.state is CommandState.REJECTED:
            return self._ended(row, "given back" if command.result else command.detail)
        return self._again(row, _REPORTED, command.detail)

    def _again(self, row: TradeRow, pause: timedelta, detail: str) -> TradeRow:
        return replace(row, asked=row.asked + 1, next_time=self._clock() + pause, detail=detail)

    def _ended(self, row: TradeRow, detail: str) -> TradeRow:
        return replace(row, state=TradeState.ENDED, next_time=None, final_time=self._clock(), detail=detail)


def _by_the_ledger(commands: Any, number: str) -> str | None:
    """What the commands of its order say of a trade: its end in a word, empty while one works on it, None: nothing."""
    for row in reversed(commands):
        command = COMMANDS.get(row.operation)
        if command is None or row.operation not in (*_USES, _REFUND, _CLOSE):
            continue
        request: Any = command.request_class.FromString(row.request)
        if request.out_trade_no != number or (row.parent and row.operation in _USES):
            continue
        if row.operation in _USES and row.state.is_open:
            return ""
        if row.state is CommandState.DONE:
            return {_REFUND: "given back", _CLOSE: "closed"}.get(row.operation, "confirmed")
    return None


def _keep(transaction: Transaction, following: TradeRow) -> None:
    current = transaction.trades.get(following.out_trade_no)
    if current is not None and current.state is not TradeState.ENDED:
        transaction.trades.put(following)
