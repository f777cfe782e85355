"""A trade that is paid and never confirmed: found by the sweep, given back once, or left to a person who is told."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from his160.v1 import common_pb2, event_pb2, reason_pb2

from agent.commands import unknown
from agent.event_feed import count
from agent.ledger_access import LedgerAccess
from his_db.simulator import FaultKind
from sync.audit import Audit
from sync.money_book import TradeRow, TradeState
from tests.gateways.saga_bed import (
    AFTER,
    BEFORE,
    CONFIRM,
    FEE,
    QUOTE,
    REFUND,
    SETTLE,
    SPLIT,
    City,
    Keys,
    automatic,
    confirm,
    fault,
    quote,
    refund,
    settle,
    trade_no,
)

R = reason_pb2
NUMBER = trade_no("T1")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory, wechat_keys: Path) -> Keys:
    return Keys(wechat_keys, tmp_path_factory.mktemp("mobile-keys"))


@pytest.fixture
async def house(tmp_path: Path, keys: Keys) -> AsyncIterator[City]:
    made = City(tmp_path, keys, "none", rules={})
    yield made
    await made.close()


@pytest.fixture
async def reporting(tmp_path: Path, keys: Keys) -> AsyncIterator[City]:
    """A site that wants a person to see to it."""
    made = City(tmp_path, keys, "none", rules={"returns_unconfirmed": False})
    yield made
    await made.close()


async def trade(city: City, number: str = NUMBER) -> TradeRow:
    row = await city.store.read(lambda work: work.trades.get(number))
    assert row is not None
    return row


async def passes(city: City, **time: float) -> None:
    """Time goes by, and the sweep comes."""
    city.clock.move(**time)
    await city.run.sweep()


async def paid(city: City) -> str:
    city.booked("T1")
    await city.opened("T1")
    return city.pays(NUMBER)


async def test_what_nobody_confirms_goes_back_once_and_the_platform_is_told(house: City) -> None:
    transaction = await paid(house)
    await passes(house, minutes=17)
    assert (await trade(house)).detail == "paid, not confirmed yet"
    assert house.cash_back(NUMBER) == {}
    await passes(house, minutes=110)
    assert house.cash_back(NUMBER) == {automatic("T1"): FEE}
    assert (await trade(house)).state is TradeState.ENDED
    (event,) = await house.events()
    assert (event.kind, event.order_no, event.reason) == (event_pb2.EVENT_KIND_REFUNDED, "T1", R.REASON_LOCK_EXPIRED)
    assert (event.refund.out_refund_no, event.refund.amount_fen) == (automatic("T1"), FEE)
    # The confirmation comes after all: the money is back, and it is said so.
    assert (await house.refusal(CONFIRM, confirm("T1", transaction))).reason == R.REASON_ALREADY_REFUNDED
    await passes(house, hours=3)
    assert house.cash_back(NUMBER) == {automatic("T1"): FEE}
    assert len(await house.events()) == 1
    await house.opened("T1", FEE, "W160-again")  # the order itself still waits for its payment
    await house.run.execute(CONFIRM, _again(house))


def _again(city: City) -> Any:
    request = confirm("T1", city.pays("W160-again"))
    request.request_id, request.out_trade_no = "again", "W160-again"
    return request


async def test_what_is_confirmed_in_time_stays(house: City) -> None:
    transaction = await paid(house)
    await passes(house, minutes=90)
    await house.run.execute(CONFIRM, confirm("T1", transaction))
    await passes(house, hours=3)
    ended = await trade(house)
    assert (ended.state, ended.detail, house.cash_back(NUMBER)) == (TradeState.ENDED, "confirmed", {})
    await house.run.execute(REFUND, refund("T1"))


async def test_what_nobody_pays_ends_with_its_time(house: City) -> None:
    house.booked("T1")
    await house.opened("T1")
    await house.opened("T1", FEE, "W160-later")  # closes the first
    await passes(house, minutes=17)
    assert ((await trade(house)).detail, (await trade(house, "W160-later")).detail) == ("closed", "never paid")
    assert await house.events() == []


@pytest.mark.parametrize("by", ["ours", "theirs"])
async def test_what_the_window_has_registered_is_not_given_back(house: City, by: str) -> None:
    """The cashier looked it up by its number, ours or WeChat's: the HIS says so, and no command of the platform does."""
    transaction = await paid(house)
    order = house.his.orders["T1"]
    order.state, order.out_trade_no = common_pb2.APPOINTMENT_STATE_PAID, NUMBER if by == "ours" else transaction
    await passes(house, hours=3)
    ended = await trade(house)
    assert (ended.state, ended.detail) == (TradeState.ENDED, "the HIS has registered the payment")
    assert house.cash_back(NUMBER) == {}


async def test_an_order_that_is_paid_in_another_way_gets_this_payment_back(house: City) -> None:
    await paid(house)
    order = house.his.orders["T1"]
    order.state, order.out_trade_no = common_pb2.APPOINTMENT_STATE_PAID, "W160-window"
    await passes(house, hours=3)
    assert house.cash_back(NUMBER) == {automatic("T1"): FEE}


async def test_an_order_that_is_paid_by_nobody_knows_what_is_a_persons_work(house: City) -> None:
    await paid(house)
    house.his.orders["T1"].state = common_pb2.APPOINTMENT_STATE_PAID
    await passes(house, hours=3)
    kept = await trade(house)
    assert (kept.state, house.cash_back(NUMBER)) == (TradeState.UNCONFIRMED, {})
    assert "by which payment" in kept.detail
    house.his.orders["T1"].out_trade_no = NUMBER  # somebody has put it in
    await passes(house, hours=2)
    assert (await trade(house)).state is TradeState.ENDED


@pytest.mark.parametrize("label", ["query", "refund"])
async def test_a_fault_of_the_payment_house_delays_it_and_doubles_nothing(house: City, label: str) -> None:
    await paid(house)
    for kind in (AFTER[1], BEFORE[1], FaultKind.STATUS):
        fault(house.house, kind, label)
    for _ in range(8):
        await passes(house, hours=1)
    assert house.cash_back(NUMBER) == {automatic("T1"): FEE}
    assert (await trade(house)).state is TradeState.ENDED
    assert len(await house.events()) == 1


async def test_the_cash_part_of_a_quote_that_was_never_settled(tmp_path: Path, keys: Keys) -> None:
    city = City(tmp_path, keys, "gateway", rules={})
    try:
        for order in ("T1", "T2"):
            city.booked(order)
            await city.run.execute(QUOTE, quote(order))
            await city.opened(order, SPLIT.cash_fen)
            city.pays(trade_no(order))
        city.top_up()
        await city.run.execute(SETTLE, settle("T2"))
        await passes(city, hours=3)
        assert (city.cash_back(NUMBER), city.cash_back(trade_no("T2"))) == ({automatic("T1"): SPLIT.cash_fen}, {})
        assert (city.visits("T1"), city.visits("T2")) == (["CANCELLED"], ["OPEN"])
        assert (await trade(city, trade_no("T2"))).detail == "confirmed"
    finally:
        await city.close()


async def test_a_site_that_wants_to_see_to_it_is_told_and_nothing_is_given_back(reporting: City) -> None:
    transaction = await paid(reporting)
    await passes(reporting, hours=3)
    assert reporting.cash_back(NUMBER) == {}
    assert (await count(reporting.store)).figures()["trades_unconfirmed"] == 1
    options = unknown._parser().parse_args(["list", "--config", "config.toml", "--json"])
    audit = Audit(reporting.store, reporting.clock)
    with redirect_stdout(io.StringIO()) as out:
        await unknown._list(LedgerAccess(None, reporting.store, audit, is_running=True), options)  # type: ignore[arg-type]
    (shown,) = map(json.loads, out.getvalue().splitlines())
    assert (shown["trade"], shown["order_no"], shown["amount_fen"]) == (NUMBER, "T1", FEE)
    await reporting.run.execute(CONFIRM, confirm("T1", transaction))  # the platform has found it
    await passes(reporting, hours=2)
    assert (await count(reporting.store)).figures()["trades_unconfirmed"] == 0
