"""Sagas over the gateways and their simulators, real HTTP servers: afterwards the simulators' own books are compared."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from his160.v1 import common_pb2, reason_pb2

from his_db.errors import HisRefused, OutcomeUnknown
from his_db.simulator import Asked, FaultKind
from sync.money_book import RefundProgress, SettlementState
from sync.store import CommandState
from tests.gateways.saga_bed import (
    CONFIRM,
    CREATE,
    FEE,
    PERSON,
    QUOTE,
    REVERSE,
    SETTLE,
    SPLIT,
    City,
    Keys,
    automatic,
    confirm,
    create,
    fault,
    quote,
    reverse,
    settle,
    trade_no,
)

R = reason_pb2


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory, wechat_keys: Path) -> Keys:
    return Keys(wechat_keys, tmp_path_factory.mktemp("mobile-keys"))


@pytest.fixture
async def city(tmp_path: Path, keys: Keys) -> AsyncIterator[City]:
    made = City(tmp_path, keys, "gateway", rules={})
    yield made
    await made.close()


@pytest.fixture
async def centre(tmp_path: Path, keys: Keys) -> AsyncIterator[City]:
    made = City(tmp_path, keys, "centre", rules={})
    yield made
    await made.close()


# --- the cash part of a quote ---


async def test_the_cash_part_of_a_quote_can_be_paid_and_settled(city: City) -> None:
    city.booked("T1")
    quoted: Any = await city.run.execute(QUOTE, quote("T1"))
    assert quoted.settlement.split == SPLIT
    await city.opened("T1", SPLIT.cash_fen)
    city.pays(trade_no("T1"))
    answer: Any = await city.run.execute(SETTLE, settle("T1", quoted.settlement.split))
    assert answer.appointment.state == common_pb2.APPOINTMENT_STATE_PAID
    assert (city.settled("T1"), city.visits("T1"), city.balance()) == (["SETTLED"], ["OPEN"], 0)
    assert (city.trade(trade_no("T1")), city.cash_back(trade_no("T1"))) == ("SUCCESS", {})


async def test_only_what_was_quoted_or_the_whole_can_be_paid(city: City) -> None:
    city.booked("T1")
    assert (await city.refusal(CREATE, create("T1", SPLIT.cash_fen))).reason == R.REASON_AMOUNT_MISMATCH
    await city.run.execute(QUOTE, quote("T1"))
    wrong = create("T1", SPLIT.cash_fen - 1, "W160-other")
    assert (await city.refusal(CREATE, wrong)).reason == R.REASON_AMOUNT_MISMATCH
    assert city.house.rows("trade") == []
    await city.opened("T1", FEE, "W160-whole")  # the patient may still pay it all himself
    await city.opened("T1", SPLIT.cash_fen, "W160-part")
    assert (city.trade("W160-whole"), city.trade("W160-part")) == ("CLOSED", "NOTPAY")


async def test_the_cash_part_of_a_quote_that_has_gone_cannot_be_paid(city: City) -> None:
    city.booked("T1")
    await city.run.execute(QUOTE, quote("T1"))
    city.clock.move(minutes=31)
    assert (await city.refusal(CREATE, create("T1", SPLIT.cash_fen))).reason == R.REASON_AMOUNT_MISMATCH
    await city.run.sweep()
    assert city.visits("T1") == ["CANCELLED"]
    other = create("T1", SPLIT.cash_fen, "W160-later")
    assert (await city.refusal(CREATE, other)).reason == R.REASON_AMOUNT_MISMATCH


# --- the mobile payment centre ---


async def test_the_centre_from_quote_to_reversal(centre: City) -> None:
    centre.booked("T1")
    quoted: Any = await centre.run.execute(QUOTE, quote("T1", mobile=True))
    assert quoted.settlement.split == SPLIT
    await centre.opened("T1", SPLIT.cash_fen)
    centre.pays(trade_no("T1"))
    settled: Any = await centre.run.execute(SETTLE, settle("T1", quoted.settlement.split, mobile=True))
    assert settled.settlement.setl_id
    assert [row["state"] for row in centre.centre_orders().values()] == ["4"]
    await centre.run.execute(REVERSE, reverse("T1", settled.settlement.setl_id))
    assert [row["state"] for row in centre.centre_orders().values()] == ["8"]
    (back,) = centre.centre.rows("mobile_refund")  # type: ignore[union-attr]
    assert (back["kind"], back["fund"], back["account"], back["cash"]) == ("HI", 1750, 150, 0)
    assert centre.cash_back(trade_no("T1")) == {automatic("T1"): SPLIT.cash_fen}
    assert centre.his.orders["T1"].state == common_pb2.APPOINTMENT_STATE_REFUNDED


async def test_a_quote_that_does_not_add_up_is_refused_and_taken_back(centre: City) -> None:
    """A look before the answer that refuses for good: the way back is gone, once."""
    centre.booked("T1")
    assert centre.centre is not None
    centre.centre.act("set", name="quote_more", value=1)
    error = await centre.refusal(QUOTE, quote("T1", mobile=True))
    assert error.reason == R.REASON_INSURANCE_REFUSED
    assert [row["state"] for row in centre.centre_orders().values()] == ["12"]
    assert (await centre.refusal(QUOTE, quote("T1", mobile=True))).reason == R.REASON_INSURANCE_REFUSED
    assert len(centre.centre.asked("6401")) == 1


async def test_amounts_that_the_centre_does_not_tell_are_never_zero(centre: City) -> None:
    """Asked for while the caller may wait for them, then refused; nothing stays behind."""
    centre.booked("T1")
    assert centre.centre is not None
    centre.centre.act("set", name="quotes", value=0)
    with pytest.raises(OutcomeUnknown):
        await centre.run.execute(QUOTE, quote("T1", mobile=True))
    centre.clock.move(minutes=1)
    with pytest.raises(OutcomeUnknown):
        await centre.run.execute(QUOTE, quote("T1", mobile=True))
    assert [row["state"] for row in centre.centre_orders().values()] == ["0"]
    centre.clock.move(minutes=2)
    assert (await centre.refusal(QUOTE, quote("T1", mobile=True))).reason == R.REASON_INSURANCE_REFUSED
    assert [row["state"] for row in centre.centre_orders().values()] == ["12"]


async def test_the_token_of_6201_lies_beside_the_record_and_goes_with_the_order(centre: City) -> None:
    centre.booked("T1")
    quoted: Any = await centre.run.execute(QUOTE, quote("T1", mobile=True))
    order = await centre.centre_order("T1")
    row = await centre.settlement("T1")
    assert row is not None
    assert row.pay_token == order["token"]
    assert order["token"].encode() not in row.record
    assert order["token"] not in repr(row)
    rows = await centre.store.read(lambda work: work.commands.of_order("T1"))
    assert not any(order["token"].encode() in row.request + row.result for row in rows)
    centre.start()  # the agent starts again: 6202 must show the token of the quote before
    await centre.opened("T1", SPLIT.cash_fen)
    centre.pays(trade_no("T1"))
    settled: Any = await centre.run.execute(SETTLE, settle("T1", quoted.settlement.split, mobile=True))
    await centre.run.execute(REVERSE, reverse("T1", settled.settlement.setl_id))
    row = await centre.settlement("T1")
    assert row is not None
    assert (row.state, row.pay_token) == (SettlementState.REVERSED, "")


async def test_person_and_insurance_reach_the_centre_where_the_site_can_ask_for_them(
    tmp_path: Path, keys: Keys
) -> None:
    made = City(tmp_path, keys, "centre", also=frozenset({PERSON}), rules={})
    try:
        assert made.centre is not None
        made.centre.act("set", name="needs_person", value=1)
        made.booked("T1")
        await made.run.execute(QUOTE, quote("T1", mobile=True))
        await made.opened("T1", SPLIT.cash_fen)
        made.pays(trade_no("T1"))
        other = settle("T1", mobile=True)
        other.credential.certificate_no = "TOKEN2"  # 李四: his authorisation must not pay for 张三
        assert (await made.refusal(SETTLE, other)).reason == R.REASON_INSURANCE_REFUSED
        assert {row["state"] for row in made.centre_orders().values()} == {"12"}
        assert made.cash_back(trade_no("T1")) == {automatic("T1"): SPLIT.cash_fen}
    finally:
        await made.close()


async def test_without_the_person_a_centre_that_wants_him_refuses(centre: City) -> None:
    centre.booked("T1")
    assert centre.centre is not None
    centre.centre.act("set", name="needs_person", value=1)
    assert (await centre.refusal(QUOTE, quote("T1", mobile=True))).reason == R.REASON_INSURANCE_REFUSED
    assert centre.centre_orders() == {}


async def test_an_order_of_which_the_insurance_pays_nothing_goes_back_whole(centre: City) -> None:
    """起付线: settled with 医保 all the same, and its whole amount is the patient's."""
    asked = centre.his.insurance_order

    def uncovered(request: Any) -> Any:
        answer: Any = asked(request)
        for item in answer.order.items:
            item.national_code = "Z99999999999999"
        return answer

    centre.his.inside["InsuredRegistrationService.GetInsuranceOrder"] = uncovered
    centre.booked("T1")
    assert centre.centre is not None
    centre.centre.act("set", name="balance", value=0)
    quoted: Any = await centre.run.execute(QUOTE, quote("T1", mobile=True))
    assert (quoted.settlement.split.total_fen, quoted.settlement.split.cash_fen) == (FEE, FEE)
    await centre.opened("T1", FEE)
    centre.pays(trade_no("T1"))
    settled: Any = await centre.run.execute(SETTLE, settle("T1", quoted.settlement.split, mobile=True))
    await centre.run.execute(REVERSE, reverse("T1", settled.settlement.setl_id))
    (back,) = centre.centre.rows("mobile_refund")
    assert (back["kind"], back["cash"]) == ("ALL", FEE)
    assert centre.cash_back(trade_no("T1")) == {automatic("T1"): FEE}


# --- time-outs of the agent's own clock ---


async def test_a_settlement_that_times_out_here_after_it_was_done_there(tmp_path: Path, keys: Keys) -> None:
    made = City(tmp_path, keys, "gateway", rules={}, patience=1.0)
    try:
        made.booked("T1")
        await made.run.execute(QUOTE, quote("T1"))
        await made.opened("T1", SPLIT.cash_fen)
        made.pays(trade_no("T1"))
        fault(made.insurance, FaultKind.HANG_AFTER, "2207A", seconds=30.0)
        await made.brought_to_an_end(SETTLE, settle("T1"))
        assert (made.settled("T1"), made.cash_back(trade_no("T1"))) == (["SETTLED"], {})
    finally:
        await made.close()


async def test_a_refund_that_the_payment_house_cannot_pay_out_waits_for_a_person(city: City) -> None:
    city.his.refuse[CONFIRM] = HisRefused(R.REASON_SCHEDULE_SUSPENDED, "stopped")
    city.booked("T1")
    await city.opened("T1")
    error = await city.refusal(CONFIRM, confirm("T1", city.pays(trade_no("T1"))))
    assert error.metadata["refund_state"] == "PROCESSING"
    city.house.act("set", name="refund_result", value="ABNORMAL")
    city.clock.move(minutes=2)
    await city.run.sweep()
    row = await city.store.read(lambda work: work.refunds.get(automatic("T1")))
    assert row is not None
    assert row.state is RefundProgress.ABNORMAL


# --- what takes effect late at the centre ---


async def test_a_6202_that_takes_effect_after_it_was_given_up_is_a_persons_work(centre: City) -> None:
    """6301 said that it was not paid, so it goes back; 6401 is refused, for it is paid now: never passed over."""
    centre.booked("T1")
    assert centre.centre is not None
    await centre.run.execute(QUOTE, quote("T1", mobile=True))
    await centre.opened("T1", SPLIT.cash_fen)
    centre.pays(trade_no("T1"))
    fault(centre.centre, FaultKind.DROP_BEFORE, "6202")
    fault(centre.centre, FaultKind.DROP_BEFORE, "6401", count=2)
    with pytest.raises(OutcomeUnknown):
        await centre.run.execute(SETTLE, settle("T1", mobile=True))
    centre.clock.move(minutes=3)
    await centre.run.sweep()  # the caller has gone: back, but the centre does not answer
    order = await centre.centre_order("T1")
    centre.centre.act("pay_late", payOrdId=order["pay_ord_id"])
    for _ in range(4):
        centre.clock.move(minutes=1)
        await centre.run.sweep()
    assert await centre.state("T1-s") is CommandState.UNKNOWN
    assert (await centre.steps("T1-s"))["undo_order"].detail == "the order at the centre is past its cancelling"
    assert centre.cash_back(trade_no("T1")) == {}
    assert (await centre.centre_order("T1"))["state"] == "4"


async def test_a_quote_that_was_paid_behind_our_back_is_not_closed_in_the_books(centre: City) -> None:
    centre.booked("T1")
    assert centre.centre is not None
    await centre.run.execute(QUOTE, quote("T1", mobile=True))
    order = await centre.centre_order("T1")
    centre.centre.act("pay_late", payOrdId=order["pay_ord_id"])
    centre.clock.move(minutes=31)
    await centre.run.sweep()
    row = await centre.settlement("T1")
    assert row is not None
    assert row.state is SettlementState.QUOTED
    again = quote("T1", mobile=True)
    again.request_id = "another"
    assert (await centre.refusal(QUOTE, again)).reason == R.REASON_ORDER_BUSY
    assert len(centre.centre_orders()) == 1


async def test_an_order_that_the_centre_has_cancelled_by_itself_is_taken_back_all_the_same(centre: City) -> None:
    centre.booked("T1")
    assert centre.centre is not None
    await centre.run.execute(QUOTE, quote("T1", mobile=True))
    centre.centre.server.simulator.book.run("UPDATE mobile_order SET state = '15'")  # 结算失败
    centre.clock.move(minutes=31)
    await centre.run.sweep()
    row = await centre.settlement("T1")
    assert row is not None
    assert row.state is SettlementState.CLOSED


# --- what takes effect late at 医保 ---


async def test_a_2207a_that_arrives_after_it_was_voided_is_a_persons_work(city: City) -> None:
    """2601 found nothing to undo, and then it came: 2202 is refused for it, and the cash stays until a person looks."""
    city.booked("T1")
    assert city.insurance is not None
    await city.run.execute(QUOTE, quote("T1"))
    await city.opened("T1", SPLIT.cash_fen)
    city.pays(trade_no("T1"))
    fault(city.insurance, FaultKind.DROP_BEFORE, "2207A")
    fault(city.insurance, FaultKind.DROP_BEFORE, "2205", count=2)
    with pytest.raises(OutcomeUnknown):
        await city.run.execute(SETTLE, settle("T1"))
    city.clock.move(seconds=30)
    await city.run.sweep()
    assert (await city.steps("T1-s"))["void"].state is CommandState.DONE
    (lost,) = city.insurance.asked("2207A")
    late = Asked(lost["method"], lost["target"], lost["headers"], lost["body"].encode())
    assert b'"infcode": "0"' in city.insurance.server.simulator.answer(late).body
    for _ in range(4):
        city.clock.move(minutes=1)
        await city.run.sweep()
    assert await city.state("T1-s") is CommandState.UNKNOWN
    assert "a person must look: undo_visit" in await city.told("T1-s")
    assert (city.settled("T1"), city.visits("T1"), city.cash_back(trade_no("T1"))) == (["SETTLED"], ["OPEN"], {})
    row = await city.settlement("T1")
    assert row is not None
    assert row.state is not SettlementState.CLOSED
