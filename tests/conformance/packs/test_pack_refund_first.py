"""Every pack, behind the agent's own commands and a payment house and 医保 that are real servers: what the HIS would refuse is
refused before any money moves, with the HIS's reason; afterwards the same refund goes through."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from his160.v1 import common_pb2, insurance_pb2, payment_pb2

from his_db.access import HisAccess
from his_db.errors import HisRefused
from sync.command import CommandExecutor
from sync.saga_context import SagaRules
from sync.stores.sqlite import SqliteStore
from tests.conformance.packs import insured
from tests.conformance.packs.hospital import (
    Hospital,
    R,
    State,
    appointment_of,
    booked,
    check_refund,
    key,
    pay,
    refused,
    row_of,
)
from tests.conformance.packs.tables import TABLES, rule, rules_back, run
from tests.simulated import ZONE, Bench, StillClock


class Site:
    """The pack's HIS, and gateways beside it, as one site's mappings have them."""

    def __init__(self, *parts: HisAccess) -> None:
        self._parts = parts

    def _part(self, operation: str) -> HisAccess:
        return next((part for part in self._parts if part.maps(operation)), self._parts[0])

    def maps(self, operation: str) -> bool:
        return self._part(operation).maps(operation)

    def enter(self, operation: str) -> None:
        self._part(operation).enter(operation)

    async def read(self, operation: str, request: Message, *, deadline: float | None = None) -> Message:
        return await self._part(operation).read(operation, request, deadline=deadline)

    async def write(self, operation: str, request: Message, *, key: str, deadline: float | None = None) -> Message:
        return await self._part(operation).write(operation, request, key=key, deadline=deadline)


@dataclass(frozen=True)
class Agent:
    """Its commands, and the books of the others."""

    run: CommandExecutor
    house: Bench
    insurance: Bench

    async def paid(self, h: Hospital) -> tuple[common_pb2.Appointment, payment_pb2.RefundPaymentRequest]:
        """An order that a patient has paid and the HIS has registered, and what would give it back."""
        order = await booked(h)
        number = "M" + order.order_no
        asked = payment_pb2.CreatePaymentRequest(
            request_id=key(),
            order_no=order.order_no,
            out_trade_no=number,
            amount_fen=order.total_fen,
            payer_openid="o1",
        )
        await self.run.execute("PaymentService.CreatePayment", asked)
        transaction = self.house.act("pay", out_trade_no=number)["transaction_id"]
        done = payment_pb2.ConfirmPaymentRequest(
            request_id=key(), order_no=order.order_no, out_trade_no=number, transaction_id=transaction,
            amount_fen=order.total_fen, method=common_pb2.PAYMENT_METHOD_WECHAT,
        )  # fmt: skip
        answer: Any = await self.run.execute("PaymentService.ConfirmPayment", done)
        assert answer.appointment.state == State.APPOINTMENT_STATE_PAID
        back = payment_pb2.RefundPaymentRequest(
            request_id=key(), order_no=order.order_no, out_trade_no=number, out_refund_no="R" + order.order_no,
            amount_fen=order.total_fen,
        )  # fmt: skip
        return answer.appointment, back

    def refunds(self, order: common_pb2.Appointment) -> list[str]:
        rows = self.house.rows("refund")
        return [row["out_refund_no"] for row in rows if row["out_trade_no"] == "M" + order.order_no]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, Bench, StillClock]]:
    """A payment house and 医保, for the module."""
    clock = StillClock(dt.datetime.now(ZONE))
    benches = []
    for name in ("wechat", "insurance"):
        folder, keys = tmp_path_factory.mktemp(name), tmp_path_factory.mktemp(f"{name}-keys")
        benches.append(Bench(name, name, folder, keys, clock))
    house, insurance = benches
    yield house, insurance, clock
    for bench in benches:
        asyncio.run(bench.close())


@pytest.fixture
async def agent(hospital: Hospital, town: tuple[Bench, Bench, StillClock], tmp_path: Path) -> AsyncIterator[Agent]:
    house, insurance, clock = town
    store = SqliteStore(tmp_path / "state.db", clock, exclusive=False)
    site = Site(hospital.his, house.access, insurance.access)
    rules = SagaRules(site="szh01", institution="H44030400001")
    executor = CommandExecutor(site, store, clock=clock, settle=dt.timedelta(seconds=15), rules=rules)
    yield Agent(executor, house, insurance)
    await store.close()
    rules_back(hospital)


def closed(h: Hospital, order: common_pb2.Appointment) -> None:
    run(h, TABLES[h.name].closed, order=order.order_no)
    rule(h, "refund_after_close", on=False)


def prescribed(h: Hospital, order: common_pb2.Appointment) -> None:
    h.window.prescribe(order.appointment_id)


def taken(h: Hospital, order: common_pb2.Appointment) -> None:
    h.window.check_in(order.appointment_id)
    rule(h, "refund_after_check_in", on=False)


STOPS: list[tuple[Callable[[Hospital, common_pb2.Appointment], None], int]] = [
    (closed, R.REASON_DAY_CLOSED),
    (prescribed, R.REASON_DEPENDENT_DOCUMENTS),
    (taken, R.REASON_ALREADY_CHECKED_IN),
]
stopped = pytest.mark.parametrize(("stop", "reason"), STOPS, ids=[stop.__name__ for stop, _ in STOPS])


@stopped
async def test_refused_before_the_cash_goes_back(hospital: Hospital, agent: Agent, stop: Any, reason: int) -> None:
    order, back = await agent.paid(hospital)
    stop(hospital, order)
    rows = hospital.window.raw(order.appointment_id)
    with pytest.raises(HisRefused) as caught:
        await agent.run.execute("PaymentService.RefundPayment", back)
    assert caught.value.reason == reason
    assert agent.refunds(order) == []
    assert hospital.window.raw(order.appointment_id) == rows
    rules_back(hospital)
    if stop is prescribed:
        return
    back.request_id = key()
    answer: Any = await agent.run.execute("PaymentService.RefundPayment", back)
    assert answer.appointment.state == State.APPOINTMENT_STATE_REFUNDED
    assert agent.refunds(order) == [back.out_refund_no]
    assert row_of(hospital, order.appointment_id).refunded_fen == order.total_fen


@stopped
async def test_refused_before_insurance_is_reversed(hospital: Hospital, agent: Agent, stop: Any, reason: int) -> None:
    order = await insured.registered(hospital)
    stop(hospital, order)
    rows = hospital.window.raw(order.appointment_id)
    moved = agent.house.rows("refund")
    undo = insurance_pb2.ReverseInsuranceRequest(
        request_id=key(), order_no=order.order_no, setl_id=insured.setl_id(order)
    )
    with pytest.raises(HisRefused) as caught:
        await agent.run.execute("InsuranceService.ReverseInsurance", undo)
    assert caught.value.reason == reason
    assert list(agent.insurance.server.requests) == []
    assert agent.house.rows("refund") == moved
    assert hospital.window.raw(order.appointment_id) == rows


async def test_the_check_says_yes_and_changes_nothing(hospital: Hospital) -> None:
    """Of a paid order, and of one that 医保 paid a part or all of: with the cash part, the whole, or no payment at all."""
    order = await booked(hospital)
    await pay(hospital, order)
    rows = hospital.window.raw(order.appointment_id)
    assert await check_refund(hospital, order) == order.appointment_id
    assert await check_refund(hospital, order, out_trade_no="") == order.appointment_id
    assert hospital.window.raw(order.appointment_id) == rows
    part = await insured.registered(hospital)
    cash = insured.split(part.total_fen).cash_fen
    for amount in (cash, part.total_fen):
        assert await check_refund(hospital, part, amount_fen=amount) == part.appointment_id
    whole = await booked(hospital)
    parts = insured.split(whole.total_fen)
    parts.fund_fen, parts.cash_fen = parts.fund_fen + parts.cash_fen, 0
    await insured.register(hospital, whole, split=parts)
    assert await check_refund(hospital, whole, out_trade_no="", amount_fen=0) == whole.appointment_id
    assert await refused(check_refund(hospital, whole, amount_fen=0)) == R.REASON_PAYMENT_NOT_FOUND
    assert (await appointment_of(hospital, whole.order_no)).state == State.APPOINTMENT_STATE_PAID
