"""What the books say, as they were read: records that name no vendor, so that one set of invariants judges all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sync.store import CommandRow
from tests.chaos.process import Answer


@dataclass(frozen=True, slots=True)
class Money:
    """One row of money in the HIS: the merchant's number on it (may be empty) and 分, positive."""

    number: str
    fen: int


@dataclass(frozen=True, slots=True)
class HisOrder:
    """One row of the HIS's table of appointments.

    ``place``: what the HIS may give to one order at a time (its ticket, or session and number). ``charges`` and
    ``refunds``: every settlement row of it, positive and negative. ``halves``: tables that hold more or fewer rows of
    this order's money than the settlements, by name: half a payment. ``cash_fen``: what the HIS says that the payment house
    holds for it now; None where its reader does not tell. ``insured``: for each settlement of 医保 that it ever recorded,
    whether it stands.
    """

    order_no: str
    his_id: str
    state: str
    schedule_id: str
    place: str
    total_fen: int
    charges: Sequence[Money] = ()
    refunds: Sequence[Money] = ()
    halves: Sequence[str] = ()
    cash_fen: int | None = None
    insured: Sequence[bool] = ()

    @property
    def is_live(self) -> bool:
        """Whether it keeps its place."""
        return self.state in {"BOOKED", "PAID", "CHECKED_IN", "VISITED", "SUSPENDED"}


@dataclass(frozen=True, slots=True)
class HisHold:
    """A hold of an order on a place that is in force now."""

    order_no: str
    schedule_id: str
    place: str


@dataclass(frozen=True, slots=True)
class HisSession:
    """A clinic session: how many places it has, how many its counter says are taken, how many rows take one."""

    schedule_id: str
    limit: int
    counted: int
    taken: int


@dataclass(frozen=True, slots=True)
class HisBook:
    """The HIS's book. ``patients``: how many records each document number has, by its digest."""

    orders: Sequence[HisOrder] = ()
    holds: Sequence[HisHold] = ()
    sessions: Mapping[str, HisSession] = field(default_factory=dict)
    patients: Mapping[str, int] = field(default_factory=dict)

    def of(self, order_no: str) -> Sequence[HisOrder]:
        """Every row of an order."""
        return [order for order in self.orders if order.order_no == order_no]

    def holds_of(self, order_no: str) -> Sequence[HisHold]:
        """Every hold of an order."""
        return [hold for hold in self.holds if hold.order_no == order_no]


@dataclass(frozen=True, slots=True)
class Trade:
    """A trade in the payment house's own book."""

    number: str
    fen: int
    is_paid: bool
    refunds: Sequence[Money] = ()

    @property
    def kept_fen(self) -> int:
        """What the hospital has of it."""
        return (self.fen if self.is_paid else 0) - sum(money.fen for money in self.refunds)


@dataclass(frozen=True, slots=True)
class HouseBook:
    """What payment house and 医保 say of one order. ``settled``: states of its settlements at 医保 (SETTLED: it stands)."""

    trades: Sequence[Trade] = ()
    settled: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Said:
    """One thing that a caller was told, or that a caller was told nothing (``answer`` None: the agent died first)."""

    operation: str
    request_id: str
    order_no: str
    number: str
    """The business number of the command: out_trade_no, out_refund_no, document; else the order's."""
    answer: Answer | None


@dataclass(frozen=True, slots=True)
class Books:
    """Everything that is compared: HIS, ledger, what the callers were told in the order they were told.

    ``before``: sessions as they were before the run (the samples' counters begin with small untruths). ``audit_break``:
    where the chain of the audit is broken, in words; empty: it is whole. ``houses``: by order number, where the campaign has
    a payment house and 医保.
    """

    his: HisBook
    ledger: Sequence[CommandRow]
    told: Sequence[Said]
    before: Mapping[str, HisSession] = field(default_factory=dict)
    audit_break: str = ""
    houses: Mapping[str, HouseBook] = field(default_factory=dict)
