"""A hospital with an agent whose gateways reach simulators over HTTP; its HIS is the small one in memory.

What is compared after a saga are the books that the simulators keep themselves, and the HIS's: never what the agent
says of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from google.protobuf.message import Message
from his160.v1 import common_pb2, event_pb2, insurance_pb2, payment_pb2

from his_db.errors import HisError, HisRefused, OutcomeUnknown
from his_db.simulator import Fault, FaultKind
from sync import numbers
from sync.command import CommandExecutor
from sync.money_book import SettlementRow
from sync.saga_context import SagaRules
from sync.store import CommandRow, CommandState, EventState
from sync.stores.sqlite import SqliteStore
from tests.simulated import ZONE, Bench, StillClock
from tests.unit.sync.bench import BOOK, CONFIRM, FEE, REFUND, book
from tests.unit.sync.world import CENTRE, CREATE, GATEWAY, QUOTE, REVERSE, SETTLE, World

NOW: Final = datetime(2026, 3, 2, 9, 30, tzinfo=ZONE)
INSTITUTION: Final = "H44030400001"
PSN: Final = "44030000000000000001"
BALANCE: Final = 150  # 分 on the personal account, so that a part remains to be paid in cash
MERCHANT: Final = frozenset(
    f"MerchantService.{name}" for name in ("OpenTrade", "QueryTrade", "CloseTrade", "RefundTrade", "QueryRefund")
)
PERSON: Final = "InsuranceGatewayService.GetPerson"
SPLIT: Final = insurance_pb2.InsuranceSplit(total_fen=FEE, fund_fen=1750, account_fen=BALANCE, cash_fen=600)
# The work is done, and the agent does not hear of it; or it is not done, and the agent cannot know.
AFTER: Final = (
    FaultKind.HANG_AFTER,
    FaultKind.DROP_AFTER,
    FaultKind.CUT,
    FaultKind.GARBAGE_AFTER,
    FaultKind.WRONG_SIGNATURE,
)
BEFORE: Final = (
    FaultKind.HANG_BEFORE,
    FaultKind.DROP_BEFORE,
    FaultKind.GARBAGE_BEFORE,
    FaultKind.WRAPPER,
    FaultKind.STATUS,
)
HEARD: Final = (FaultKind.LATE, FaultKind.TWICE)
EVERY: Final = (*HEARD, *AFTER, *BEFORE)


class GatewayWorld(World):
    """The small hospital, whose payment house and 医保 are asked through real gateways instead of in memory.

    ``also``: operations of the national protocol that a site by the payment centre has as well.
    """

    def __init__(self, variant: str, benches: Iterable[Bench], also: frozenset[str]) -> None:
        super().__init__(variant)
        self.outside: dict[str, Bench] = {}
        wanted = MERCHANT | (GATEWAY if variant == "gateway" else CENTRE) | also
        for bench in benches:
            self.outside.update({name: bench for name in bench.generation.operations if name in wanted})
        own = {name for name in self.mapped if not name.startswith("MerchantService.")} - CENTRE - GATEWAY
        self.mapped = own | set(self.outside)
        self.inside: dict[str, Callable[[Any], Message]] = {}  # what the HIS answers in another way

    async def write(self, operation: str, request: Message, *, key: str, deadline: float | None = None) -> Message:
        bench = self.outside.get(operation)
        if bench is None:
            return await super().write(operation, request, key=key, deadline=deadline)
        self.writes.append(operation)
        return await bench.access.write(operation, request, key=key, deadline=deadline)

    async def read(self, operation: str, request: Message, *, deadline: float | None = None) -> Message:
        bench = self.outside.get(operation)
        if operation in self.inside:
            return self.inside[operation](request)
        if bench is None:
            return await super().read(operation, request, deadline=deadline)
        return await bench.access.read(operation, request, deadline=deadline)


@dataclass
class Keys:
    """Folders with keys made once."""

    wechat: Path
    mobile: Path


class City:
    """The agent, the HIS, and the simulators: ``house`` (WeChat Pay), ``insurance``, ``centre`` (None: not there)."""

    def __init__(
        self,
        folder: Path,
        keys: Keys,
        variant: str,
        *,
        also: frozenset[str] = frozenset(),
        rules: dict[str, Any],
        patience: float = 5.0,
    ) -> None:
        self.clock = StillClock(NOW)
        self._patience = timedelta(seconds=patience)
        self._rules = SagaRules(site="szh01", institution=INSTITUTION, **rules)
        self.house = self._bench("wechat", folder, keys.wechat)
        self.insurance: Bench | None = None
        self.centre: Bench | None = None
        if variant == "gateway" or also:
            self.insurance = self._bench("insurance", folder, folder / "insurance-keys")
        if variant == "centre":
            self.centre = self._bench("mobile", folder, keys.mobile)
        self.benches = [bench for bench in (self.house, self.insurance, self.centre) if bench is not None]
        self.his = GatewayWorld(variant, self.benches, also)
        self.his.clock = self.clock
        self.store = SqliteStore(folder / "state.db", self.clock, exclusive=False)
        self.start()

    def start(self) -> None:
        """The agent, for the first time or again."""
        self.run = CommandExecutor(
            self.his, self.store, clock=self.clock, settle=timedelta(seconds=15), rules=self._rules
        )

    def _bench(self, name: str, folder: Path, keys: Path) -> Bench:
        place = folder / name
        place.mkdir()
        return Bench(name, name, place, keys, self.clock, patience=self._patience)

    async def close(self) -> None:
        await self.store.close()
        for bench in self.benches:
            await bench.close()

    # --- what people do ---

    def booked(self, order_no: str) -> common_pb2.Appointment:
        """An order that waits for payment."""
        self.his._write(BOOK, book(order_no, slot=f"S{order_no}"))
        self.top_up()
        return self.his.orders[order_no]

    def top_up(self) -> None:
        """The personal account at 医保 and at the centre is as it was."""
        if self.insurance is not None:
            self.insurance.act("person", psn_no=PSN, balance=BALANCE)
        if self.centre is not None:
            self.centre.act("set", name="balance", value=BALANCE)

    async def opened(self, order_no: str, amount: int = FEE, number: str = "") -> Any:
        """CreatePayment."""
        return await self.run.execute(CREATE, create(order_no, amount, number))

    def pays(self, number: str) -> str:
        """The patient pays a trade; WeChat's number of it."""
        return str(self.house.act("pay", out_trade_no=number)["transaction_id"])

    # --- what is asked of the agent ---

    async def refusal(self, operation: str, request: Any) -> HisRefused:
        with pytest.raises(HisRefused) as caught:
            await self.run.execute(operation, request)
        return caught.value

    async def brought_to_an_end(self, operation: str, request: Any, *, comes_back: bool = True) -> Message | HisError:
        """What the caller hears in the end: he repeats the same request while it is not known, or goes away for good.

        The clock moves on between, as it does for callers and sweeps.
        """
        heard: Message | HisError | None = None
        for _ in range(12):
            row = await self.run.ledger.get(request.request_id)
            if heard is None or comes_back:
                try:
                    return await self.run.execute(operation, request)
                except HisRefused as error:
                    if await self.state(request.request_id) is not CommandState.RETRYABLE:
                        return error
                    heard = error
                except HisError as error:
                    heard = error
            elif row is not None and not row.state.is_open:
                return heard
            self.clock.move(seconds=40)
            await self.run.sweep()
        raise AssertionError(f"{operation} of {request.order_no} came to no end: {await self.told(request.request_id)}")

    async def state(self, request_id: str) -> CommandState | None:
        row = await self.run.ledger.get(request_id)
        return None if row is None else row.state

    async def told(self, request_id: str) -> str:
        row = await self.run.ledger.get(request_id)
        steps = [f"{name} {row.state.value} {row.detail}" for name, row in (await self.steps(request_id)).items()]
        return f"{row and (row.state.value, row.detail)} {steps}"

    async def steps(self, request_id: str) -> dict[str, CommandRow]:
        rows = await self.store.read(lambda work: work.commands.steps_of(request_id))
        return {row.step: row for row in rows}

    async def settlement(self, order_no: str) -> SettlementRow | None:
        rows = await self.store.read(lambda work: work.settlements.of_order(order_no))
        return rows[0] if rows else None

    async def events(self) -> list[event_pb2.Event]:
        rows = await self.store.read(lambda work: work.events.listed(EventState.PENDING, 99))
        return [event_pb2.Event.FromString(row.payload) for row in rows]

    # --- the books ---

    def trade(self, number: str) -> str:
        """State of a trade in WeChat's book; empty when there is none."""
        return next((row["state"] for row in self.house.rows("trade") if row["out_trade_no"] == number), "")

    def cash_back(self, number: str) -> dict[str, int]:
        """Refunds of a trade in WeChat's book: amount by number."""
        rows = [row for row in self.house.rows("refund") if row["out_trade_no"] == number]
        return {row["out_refund_no"]: row["amount"] for row in rows}

    def settled(self, order_no: str) -> list[str]:
        """States of the order's settlements in the book of 医保."""
        assert self.insurance is not None
        visits = {row["mdtrt_id"] for row in self.insurance.rows("visit") if row["ipt_otp_no"] == order_no}
        return sorted(row["state"] for row in self.insurance.rows("settlement") if row["mdtrt_id"] in visits)

    def visits(self, order_no: str) -> list[str]:
        """States of the order's visits in the book of 医保, oldest first."""
        assert self.insurance is not None
        return [row["state"] for row in self.insurance.rows("visit") if row["ipt_otp_no"] == order_no]

    def lines(self, order_no: str) -> int:
        """Fee lines of the order that 医保 still holds."""
        assert self.insurance is not None
        visits = {row["mdtrt_id"] for row in self.insurance.rows("visit") if row["ipt_otp_no"] == order_no}
        return sum(row["mdtrt_id"] in visits for row in self.insurance.rows("fee"))

    async def centre_order(self, order_no: str) -> dict[str, Any]:
        """The order's newest order in the centre's book."""
        row = await self.settlement(order_no)
        assert row is not None
        return self.centre_orders()[row.key]

    def centre_orders(self) -> dict[str, dict[str, Any]]:
        """The centre's book by the hospital's number."""
        assert self.centre is not None
        return {row["med_org_ord"]: row for row in self.centre.rows("mobile_order")}

    def balance(self) -> int:
        """What is left on the personal account at 医保."""
        assert self.insurance is not None
        return int(next(row["balance"] for row in self.insurance.rows("person") if row["psn_no"] == PSN))


def fault(bench: Bench | None, kind: FaultKind, match: str, **more: Any) -> None:
    """One fault; what hangs or comes late does so briefly."""
    assert bench is not None
    more.setdefault("seconds", 0.05)
    bench.server.add_faults([Fault(kind, match, **more)])


def create(order_no: str, amount: int = FEE, number: str = "") -> payment_pb2.CreatePaymentRequest:
    return payment_pb2.CreatePaymentRequest(
        request_id=f"{number or trade_no(order_no)}-c",
        order_no=order_no,
        out_trade_no=number or trade_no(order_no),
        amount_fen=amount,
        payer_openid="oUpF8uMuAJO_M2pxb1Q9zNjWeS6o",
    )


def trade_no(order_no: str) -> str:
    """商户订单号 of an order of these tests."""
    return f"W160-{order_no}"


def automatic(order_no: str) -> str:
    return numbers.automatic_refund_no(trade_no(order_no))


def confirm(order_no: str, transaction: str, amount: int = FEE) -> payment_pb2.ConfirmPaymentRequest:
    return payment_pb2.ConfirmPaymentRequest(
        request_id=f"{order_no}-p",
        order_no=order_no,
        out_trade_no=trade_no(order_no),
        transaction_id=transaction,
        amount_fen=amount,
        method=common_pb2.PAYMENT_METHOD_WECHAT,
    )


def refund(order_no: str, amount: int = FEE) -> payment_pb2.RefundPaymentRequest:
    return payment_pb2.RefundPaymentRequest(
        request_id=f"{order_no}-f",
        order_no=order_no,
        out_trade_no=trade_no(order_no),
        out_refund_no=f"R160-{order_no}",
        amount_fen=amount,
    )


def credential(*, mobile: bool = False) -> insurance_pb2.InsuranceCredential:
    """Of 张三 at the simulators. ``mobile``: with the authorisation that 6202 wants."""
    return insurance_pb2.InsuranceCredential(
        certificate_type="01",
        certificate_no="TOKEN1",
        pay_auth_no="AUTH1" if mobile else "",
        insured_area="440300",
    )


def quote(order_no: str, *, mobile: bool = False) -> insurance_pb2.QuoteInsuranceRequest:
    return insurance_pb2.QuoteInsuranceRequest(
        request_id=f"{order_no}-q", order_no=order_no, credential=credential(mobile=mobile)
    )


def settle(
    order_no: str, agreed: insurance_pb2.InsuranceSplit = SPLIT, *, mobile: bool = False
) -> insurance_pb2.SettleInsuranceRequest:
    return insurance_pb2.SettleInsuranceRequest(
        request_id=f"{order_no}-s",
        order_no=order_no,
        credential=credential(mobile=mobile),
        agreed_split=agreed,
        out_trade_no=trade_no(order_no) if agreed.cash_fen else "",
    )


def reverse(order_no: str, setl_id: str) -> insurance_pb2.ReverseInsuranceRequest:
    return insurance_pb2.ReverseInsuranceRequest(request_id=f"{order_no}-v", order_no=order_no, setl_id=setl_id)


__all__ = [
    "AFTER",
    "BALANCE",
    "BEFORE",
    "CONFIRM",
    "CREATE",
    "EVERY",
    "FEE",
    "HEARD",
    "INSTITUTION",
    "PERSON",
    "PSN",
    "QUOTE",
    "REFUND",
    "REVERSE",
    "SETTLE",
    "SPLIT",
    "City",
    "Keys",
    "OutcomeUnknown",
    "automatic",
    "confirm",
    "create",
    "credential",
    "fault",
    "quote",
    "refund",
    "reverse",
    "settle",
    "trade_no",
]
