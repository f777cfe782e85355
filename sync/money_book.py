"""What the store keeps of money between systems: 医保 settlements, refunds, call-backs, numbers given once.

Rows and ports; SQL: ``sync/store_money.py``. Kept for as long as a refund may come, not as long as a ledger row.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol


class SettlementState(enum.Enum):
    """How an insured visit stands at 医保, as far as the agent knows."""

    OPEN = "OPEN"  # a visit is open, or may be; nothing is settled
    QUOTED = "QUOTED"  # open and kept for the settlement that may follow a quote
    SETTLED = "SETTLED"
    REVERSED = "REVERSED"  # by 2208 / 6203
    VOIDED = "VOIDED"  # by 2601
    CLOSED = "CLOSED"  # undone before it was settled

    @property
    def is_live(self) -> bool:
        """Whether something at 医保 would have to be undone."""
        return self in (SettlementState.OPEN, SettlementState.QUOTED, SettlementState.SETTLED)


@dataclass(frozen=True, slots=True)
class SettlementRow:
    """One insured visit of an order.

    ``key``: number of its fee batch (chrg_bchno). ``record``: a serialised ``his160.site.v1.SettlementRecord``, the
    only place of the store with the person's number at 医保. ``pay_order_id`` and ``pay_token``: of the mobile payment
    centre; its token for the order, until that is closed or given back.
    ``out_trade_no``: of the cash part. ``owner``: request_id of the command that opened it.
    """

    key: str
    order_key: str
    state: SettlementState
    created_time: datetime
    changed_time: datetime
    record: bytes = b""
    setl_id: str = ""
    mdtrt_id: str = ""
    pay_order_id: str = ""
    out_trade_no: str = ""
    owner: str = ""
    pay_token: str = field(default="", repr=False)


class RefundProgress(enum.Enum):
    """How far the money of a refund has come."""

    PROCESSING = "PROCESSING"  # accepted, on its way
    DONE = "DONE"
    ABNORMAL = "ABNORMAL"  # the payment house could not pay it out: a person must look


@dataclass(frozen=True, slots=True)
class RefundRow:
    """One refund that the payment house has accepted.

    ``asked``: how often it was asked for; ``next_time``: when again, None when the money is back. ``owner``: request_id
    of the command that gave the money back.
    """

    out_refund_no: str
    order_key: str
    out_trade_no: str
    amount_fen: int
    state: RefundProgress
    created_time: datetime
    next_time: datetime | None = None
    final_time: datetime | None = None
    asked: int = 0
    detail: str = ""
    owner: str = ""


class TradeState(enum.Enum):
    """What is known of a trade that the agent has opened."""

    OPEN = "OPEN"  # it may be paid, or was, and may be confirmed
    UNCONFIRMED = "UNCONFIRMED"  # paid, and the time for a confirmation is over: it goes back, or waits for a person
    ENDED = "ENDED"


@dataclass(frozen=True, slots=True)
class TradeRow:
    """One trade. ``next_time``: when it is looked at again, None when it has ended; ``asked``: how often it was."""

    out_trade_no: str
    order_key: str
    amount_fen: int
    state: TradeState
    created_time: datetime
    next_time: datetime | None = None
    final_time: datetime | None = None
    asked: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class PaymentNoticeRow:
    """One call-back of a payment house or of 医保, verified. The same fact comes again under other ids: it is one row.

    ``gateway``, ``event`` and ``number`` (the business number) are its key. ``woken_time``: when what it is about was
    asked for because of it, None while that is still to be done.
    """

    gateway: str
    event: str
    number: str
    received_time: datetime
    last_time: datetime
    times: int = 1
    woken_time: datetime | None = None


class SettlementTable(Protocol):
    """Settlements, newest first in every answer."""

    def get(self, key: str) -> SettlementRow | None: ...

    def put(self, row: SettlementRow) -> None:
        """Inserts the row, or replaces the one with its key."""

    def of_order(self, order_key: str) -> Sequence[SettlementRow]: ...

    def of_numbers(self, setl_id: str, mdtrt_id: str) -> Sequence[SettlementRow]:
        """By 结算 ID or 就诊 ID; an empty one matches nothing."""

    def listed(self, state: SettlementState, before: datetime, limit: int) -> Sequence[SettlementRow]:
        """Those of a state that last changed before the time, oldest first."""

    def prune(self, before: datetime) -> int:
        """Deletes what last changed before the time and is not live, or settled so long ago; the number of them."""


class RefundTable(Protocol):
    """Refunds."""

    def get(self, out_refund_no: str) -> RefundRow | None: ...

    def put(self, row: RefundRow) -> None:
        """Inserts the row, or replaces the one with its number."""

    def of_trade(self, out_trade_no: str) -> Sequence[RefundRow]:
        """All refunds of a payment, oldest first."""

    def due(self, now: datetime, limit: int, *, longest: timedelta = timedelta.max) -> Sequence[RefundRow]:
        """Those not back yet that are to be asked for now, the longest due first.

        ``longest``: no row waits for longer; one that is due later than that was written by a clock that has been set
        back since.
        """

    def listed(self, state: RefundProgress, limit: int) -> Sequence[RefundRow]:
        """Those of a state, oldest first."""

    def counts(self) -> Mapping[RefundProgress, int]:
        """How many there are of each state, but for those that are back."""

    def prune(self, before: datetime) -> int:
        """Deletes those that ended well before the time; the number of them."""


class TradeTable(Protocol):
    """Trades that the agent has opened."""

    def get(self, out_trade_no: str) -> TradeRow | None: ...

    def put(self, row: TradeRow) -> None:
        """Inserts the row, or replaces the one with its number."""

    def due(self, now: datetime, limit: int) -> Sequence[TradeRow]:
        """Those that have not ended and are to be looked at now, the longest due first."""

    def listed(self, state: TradeState, limit: int) -> Sequence[TradeRow]:
        """Those of a state, oldest first."""

    def unconfirmed(self) -> int:
        """How many were paid and never confirmed, and are not back."""

    def prune(self, before: datetime) -> int:
        """Deletes those that ended before the time; the number of them."""


class SequenceTable(Protocol):
    """Counters that only rise."""

    def advance(self, name: str, floor: int) -> int:
        """The next value: one more than the last, at least ``floor``."""

    def put(self, name: str, value: int) -> None:
        """Sets the counter, for the one case that it must go back (a clock that stood in the far future)."""


class PaymentNoticeTable(Protocol):
    """Call-backs."""

    def add(self, gateway: str, event: str, number: str, now: datetime) -> bool:
        """Inserts the row, or counts a repetition; whether it is new."""

    def waiting(self, limit: int) -> Sequence[PaymentNoticeRow]:
        """Those that have woken nothing yet, oldest first."""

    def woken(self, row: PaymentNoticeRow, now: datetime) -> None: ...

    def prune(self, before: datetime) -> int:
        """Deletes those that last came before the time and wait for nothing; the number of them."""
