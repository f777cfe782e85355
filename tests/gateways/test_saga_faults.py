"""Every saga struck by every fault of the simulated services: whatever happens on the wire, their books agree after it.

One order for each kind of fault, one test for each exchange. The caller repeats the same request, or never comes back.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from his160.v1 import common_pb2, event_pb2, insurance_pb2, payment_pb2, reason_pb2

from his_db.errors import HisRefused
from his_db.simulator import FaultKind
from sync.store import CommandState
from tests.gateways.saga_bed import (
    AFTER,
    BALANCE,
    BEFORE,
    CONFIRM,
    CREATE,
    EVERY,
    FEE,
    HEARD,
    QUOTE,
    REFUND,
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
    refund,
    reverse,
    settle,
    trade_no,
)

R = reason_pb2
S = common_pb2
REGISTER = "InsuredRegistrationService.RegisterInsured"
STOPPED = HisRefused(R.REASON_SCHEDULE_SUSPENDED, "stopped")
KINDS = list(enumerate(EVERY))
ALL = bool(os.environ.get("HIS160_EVERY_FAULT"))


def share(at: int, of: int) -> list[tuple[int, FaultKind]]:
    """Some of the faults, others for each exchange of a test; with HIS160_EVERY_FAULT set, all of them."""
    return KINDS if ALL else KINDS[at % of :: of]


def shares(*labels: str, of: int = 3) -> list[tuple[str, list[tuple[int, FaultKind]]]]:
    """Each exchange with its share; together they meet every fault."""
    assert len(labels) >= of
    return [(label, share(at, of)) for at, label in enumerate(labels)]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory, wechat_keys: Path) -> Keys:
    return Keys(wechat_keys, tmp_path_factory.mktemp("mobile-keys"))


@pytest.fixture
async def house(tmp_path: Path, keys: Keys) -> AsyncIterator[City]:
    """A hospital with a merchant account alone."""
    made = City(tmp_path, keys, "none", rules={})
    yield made
    await made.close()


@pytest.fixture
async def city(tmp_path: Path, keys: Keys) -> AsyncIterator[City]:
    """With 医保 by the national protocol beside it."""
    made = City(tmp_path, keys, "gateway", rules={})
    yield made
    await made.close()


@pytest.fixture
async def centre(tmp_path: Path, keys: Keys) -> AsyncIterator[City]:
    """With the mobile payment centre beside it."""
    made = City(tmp_path, keys, "centre", rules={})
    yield made
    await made.close()


# --- the payment house: pay, confirm fails, refund ---


@pytest.mark.parametrize(("label", "kinds"), shares("query", "refund", "query_refund", of=2))
async def test_paid_and_not_registered_goes_back_once(
    house: City, label: str, kinds: list[tuple[int, FaultKind]]
) -> None:
    house.his.refuse[CONFIRM] = STOPPED
    for turn, (at, kind) in enumerate(kinds):
        order, comes_back = f"T{at}", turn % 2 == 0
        house.booked(order)
        await house.opened(order)
        request = confirm(order, house.pays(trade_no(order)))
        if label == "query_refund":  # asked only when the refund's own answer is lost
            fault(house.house, FaultKind.DROP_AFTER, "refund")
        fault(house.house, kind, label)
        heard = await house.brought_to_an_end(CONFIRM, request, comes_back=comes_back)
        house.house.server.clear_faults()
        if label == "query" and await house.state(request.request_id) is CommandState.RETRYABLE:
            heard = await house.brought_to_an_end(CONFIRM, request)  # nothing had begun: it may come again
        if isinstance(heard, HisRefused):
            assert (kind, heard.reason) == (kind, R.REASON_SCHEDULE_SUSPENDED)
        assert (kind, house.cash_back(trade_no(order))) == (kind, {automatic(order): FEE})
        assert (kind, await house.state(request.request_id)) == (kind, CommandState.REJECTED)
        assert (kind, house.his.orders[order].state) == (kind, S.APPOINTMENT_STATE_BOOKED)
        again = await house.refusal(CONFIRM, request)
        assert (kind, again.metadata["out_refund_no"]) == (kind, automatic(order))
    told = [(event.kind, event.order_no) for event in await house.events()]
    assert told == [(event_pb2.EVENT_KIND_REFUNDED, f"T{at}") for at, _ in kinds]


@pytest.mark.parametrize(("label", "kinds"), shares("open", "close", "query"))
async def test_a_trade_is_opened_paid_and_registered_once(
    house: City, label: str, kinds: list[tuple[int, FaultKind]]
) -> None:
    """CreatePayment over an older trade that must be closed first; then ConfirmPayment."""
    for at, kind in kinds:
        order, older = f"T{at}", f"W160-older-{at}"
        house.booked(order)
        await house.opened(order, FEE, older)
        if label != "query":
            fault(house.house, kind, label)
        made = await house.brought_to_an_end(CREATE, create(order))
        assert (kind, type(made)) == (kind, payment_pb2.CreatePaymentResponse)
        assert made.pay_parameters
        transaction = house.pays(trade_no(order))
        if label == "query":
            fault(house.house, kind, label)
        heard = await house.brought_to_an_end(CONFIRM, confirm(order, transaction))
        assert (kind, type(heard)) == (kind, payment_pb2.ConfirmPaymentResponse)
        house.house.server.clear_faults()
        assert (kind, house.trade(older), house.trade(trade_no(order))) == (kind, "CLOSED", "SUCCESS")
        assert (kind, house.his.effects[CONFIRM, trade_no(order)]) == (kind, 1)
    assert house.house.rows("refund") == []


@pytest.mark.parametrize(("label", "kinds"), shares("query", "refund", of=2))
async def test_a_refund_that_was_asked_for_is_one_refund(
    house: City, label: str, kinds: list[tuple[int, FaultKind]]
) -> None:
    for turn, (at, kind) in enumerate(kinds):
        order, comes_back = f"T{at}", turn % 2 == 0
        house.booked(order)
        await house.opened(order)
        await house.run.execute(CONFIRM, confirm(order, house.pays(trade_no(order))))
        request = refund(order)
        fault(house.house, kind, label)
        await house.brought_to_an_end(REFUND, request, comes_back=comes_back)
        house.house.server.clear_faults()
        await house.brought_to_an_end(REFUND, request)
        assert (kind, house.cash_back(trade_no(order))) == (kind, {request.out_refund_no: FEE})
        assert (kind, house.his.effects[REFUND, request.out_refund_no]) == (kind, 1)
        numbers = [entry["number"] for entry in house.house.asked("refund") if order in entry["number"].split("-")]
        assert (kind, set(numbers)) == (kind, {request.out_refund_no})


@pytest.mark.parametrize("code", ["NOT_ENOUGH", "FREQUENCY_LIMITED", "SYSTEM_ERROR"])
async def test_a_refund_that_the_payment_house_puts_off_comes_with_the_same_number(house: City, code: str) -> None:
    house.his.refuse[CONFIRM] = STOPPED
    house.booked("T1")
    await house.opened("T1")
    request = confirm("T1", house.pays(trade_no("T1")))
    fault(house.house, FaultKind.REFUSE, "refund", code=code, message="稍后再试", count=2)
    await house.brought_to_an_end(CONFIRM, request, comes_back=False)
    assert house.cash_back(trade_no("T1")) == {automatic("T1"): FEE}
    asked = [entry["number"] for entry in house.house.asked("refund")]
    assert len(asked) >= 2
    assert set(asked) == {automatic("T1")}


# --- 医保 by the national protocol ---


async def prepaid(city: City, order: str, *, mobile: bool = False) -> Any:
    """An order with a quote, whose cash part is paid."""
    city.booked(order)
    quoted: Any = await city.run.execute(QUOTE, quote(order, mobile=mobile))
    assert quoted.settlement.split == SPLIT
    await city.opened(order, SPLIT.cash_fen)
    city.pays(trade_no(order))
    return quoted.settlement


def well(city: City, order: str) -> tuple[Any, ...]:
    """What the books hold of an insured order that went well."""
    assert city.his.effects["registered", order] == 1
    visits = city.visits(order)
    return city.settled(order), visits.count("OPEN"), city.balance(), city.cash_back(trade_no(order))


WELL: tuple[Any, ...] = (["SETTLED"], 1, 0, {})


def undone(city: City, order: str) -> tuple[Any, ...]:
    """What they hold of one that was undone."""
    standing = {"SETTLED"} & set(city.settled(order))
    back = city.cash_back(trade_no(order))
    return standing, set(city.visits(order)), city.lines(order), city.balance(), list(back.values())


UNDONE: tuple[Any, ...] = (set(), {"CANCELLED"}, 0, BALANCE, [SPLIT.cash_fen])


@pytest.mark.parametrize(("label", "kinds"), shares("1101", "2201", "2203A", "2204", "2206A"))
async def test_a_quote_comes_to_one_open_visit(city: City, label: str, kinds: list[tuple[int, FaultKind]]) -> None:
    for at, kind in kinds:
        order = f"T{at}"
        city.booked(order)
        fault(city.insurance, kind, label)
        heard: Any = await city.brought_to_an_end(QUOTE, quote(order))
        assert (kind, heard.settlement.split) == (kind, SPLIT)
        city.insurance.server.clear_faults()  # type: ignore[union-attr]
        assert (kind, city.visits(order).count("OPEN"), city.settled(order)) == (kind, 1, [])
        assert (kind, city.lines(order)) == (kind, 2)


@pytest.mark.parametrize(("label", "kinds"), shares("1101", "2206A", "query"))
async def test_a_settlement_struck_before_it_is_settled_once(
    city: City, label: str, kinds: list[tuple[int, FaultKind]]
) -> None:
    for at, kind in kinds:
        order = f"T{at}"
        await prepaid(city, order)
        fault(city.house if label == "query" else city.insurance, kind, label)
        heard = await city.brought_to_an_end(SETTLE, settle(order))
        for bench in city.benches:
            bench.server.clear_faults()
        if isinstance(heard, insurance_pb2.SettleInsuranceResponse):
            assert (kind, well(city, order)) == (kind, WELL)
        else:  # it went back rather than wait for the caller
            assert (kind, undone(city, order)) == (kind, UNDONE)


@pytest.mark.parametrize("half", [0, 1])
async def test_2207a_is_asked_for_and_completed_or_voided_with_its_own_msgid(city: City, half: int) -> None:
    """Facts 2.3. Done without our hearing it: 5203 finds it. Not found: 2601 with the original msgid, never 2207A again."""
    assert city.insurance is not None
    kinds = share(half, 2)
    for turn, (at, kind) in enumerate(kinds):
        order, comes_back = f"T{at}", turn % 2 == half
        await prepaid(city, order)
        before = len(city.insurance.asked("2207A"))
        fault(city.insurance, kind, "2207A")
        await city.brought_to_an_end(SETTLE, settle(order), comes_back=comes_back)
        (asked,) = city.insurance.asked("2207A")[before:]
        state = await city.state(f"{order}-s")
        if kind in BEFORE:
            assert (kind, state, undone(city, order)) == (kind, CommandState.REJECTED, UNDONE)
            void = city.insurance.asked("2601")[-1]
            assert f'"omsgid":"{asked["number"]}"' in void["body"].replace(" ", "")
        else:
            assert (kind, state, well(city, order)) == (kind, CommandState.DONE, WELL)
    assert len(city.insurance.asked("2601")) == sum(kind in BEFORE for _, kind in kinds)


@pytest.mark.parametrize(("label", "kinds"), shares("2208", "2205", "2202", "refund", "5203"))
async def test_what_the_his_does_not_register_is_undone_in_every_book(
    city: City, label: str, kinds: list[tuple[int, FaultKind]]
) -> None:
    city.his.refuse[REGISTER] = STOPPED
    for at, kind in kinds:
        order = f"T{at}"
        await prepaid(city, order)
        if label == "5203":
            fault(city.insurance, FaultKind.DROP_AFTER, "2208")
        fault(city.house if label == "refund" else city.insurance, kind, label)
        heard = await city.brought_to_an_end(SETTLE, settle(order), comes_back=at % 2 == 0)
        for bench in city.benches:
            bench.server.clear_faults()
        if isinstance(heard, HisRefused):
            assert (kind, heard.reason) == (kind, R.REASON_SCHEDULE_SUSPENDED)
        assert (kind, city.settled(order)) == (kind, ["CANCELLED", "NEGATIVE"])
        assert (kind, undone(city, order)) == (kind, UNDONE)
        assert (kind, city.his.orders[order].state) == (kind, S.APPOINTMENT_STATE_BOOKED)


@pytest.mark.parametrize(("label", "kinds"), shares("2208", "2205", "2202", "refund", of=4))
@pytest.mark.parametrize("operation", [REVERSE, REFUND])
async def test_an_insured_order_goes_back_whole_and_once(
    city: City, operation: str, label: str, kinds: list[tuple[int, FaultKind]]
) -> None:
    """2208 → 2205 → 2202 → cash → red row, by ReverseInsurance and by RefundPayment."""
    for at, kind in kinds:
        order = f"T{at}"
        await prepaid(city, order)
        settled: Any = await city.run.execute(SETTLE, settle(order))
        request: Any = refund(order, SPLIT.cash_fen)
        if operation == REVERSE:
            request = reverse(order, settled.settlement.setl_id)
        fault(city.house if label == "refund" else city.insurance, kind, label)
        await city.brought_to_an_end(operation, request, comes_back=at % 2 == 1)
        for bench in city.benches:
            bench.server.clear_faults()
        assert (kind, await city.state(request.request_id)) == (kind, CommandState.DONE)
        assert (kind, city.settled(order), undone(city, order)) == (kind, ["CANCELLED", "NEGATIVE"], UNDONE)
        assert (kind, city.his.effects["red row", order]) == (kind, 1)
        number = automatic(order) if operation == REVERSE else request.out_refund_no
        assert (kind, list(city.cash_back(trade_no(order)))) == (kind, [number])


@pytest.mark.parametrize("label", ["2201", "2203A", "2204", "2206A", "2207A"])
async def test_a_refusal_of_the_insurance_leaves_nothing_behind(city: City, label: str) -> None:
    if label == "2207A":
        await prepaid(city, "T1")
    else:
        city.booked("T1")
    fault(city.insurance, FaultKind.REFUSE, label, message="费用明细不符合医保规定")
    operation, request = (SETTLE, settle("T1")) if label == "2207A" else (QUOTE, quote("T1"))
    assert (await city.refusal(operation, request)).reason == R.REASON_INSURANCE_REFUSED
    assert (set(city.visits("T1")) - {"CANCELLED"}, city.settled("T1"), city.lines("T1")) == (set(), [], 0)
    assert sum(city.cash_back(trade_no("T1")).values()) == (SPLIT.cash_fen if label == "2207A" else 0)


async def test_a_void_is_repeated_until_it_is_answered(city: City) -> None:
    assert city.insurance is not None
    await prepaid(city, "T1")
    fault(city.insurance, FaultKind.DROP_BEFORE, "2207A")
    for kind in (FaultKind.DROP_BEFORE, FaultKind.GARBAGE_AFTER, FaultKind.HANG_AFTER, FaultKind.STATUS):
        fault(city.insurance, kind, "2601")
    await city.brought_to_an_end(SETTLE, settle("T1"), comes_back=False)
    voids = city.insurance.asked("2601")
    (lost,) = city.insurance.asked("2207A")
    assert (
        len(voids) == len({entry["number"] for entry in voids}) == 5
    )  # each its own msgid, and always the same omsgid
    assert all(f'"omsgid":"{lost["number"]}"' in entry["body"].replace(" ", "") for entry in voids)
    assert undone(city, "T1") == UNDONE


# --- the mobile payment centre: its seals take time, so each exchange meets some of the faults, and all meet all ---


def some(*kinds: FaultKind) -> list[tuple[int, FaultKind]]:
    return list(enumerate(kinds))


K = FaultKind


@pytest.mark.parametrize(
    ("label", "kinds"),
    [
        ("6201", some(K.DROP_AFTER, K.GARBAGE_BEFORE, K.TWICE)),
        ("6301", some(K.WRONG_SIGNATURE, K.HANG_BEFORE, K.LATE)),
    ],
)
async def test_a_quote_of_the_centre_is_one_order(centre: City, label: str, kinds: list[tuple[int, FaultKind]]) -> None:
    """A lost answer of 6201 takes its payToken with it: the same number is sent again, and 6202 has the token."""
    for at, kind in kinds:
        order = f"T{at}"
        centre.booked(order)
        fault(centre.centre, kind, label)
        heard: Any = await centre.brought_to_an_end(QUOTE, quote(order, mobile=True))
        assert (kind, heard.settlement.split) == (kind, SPLIT)
        centre.centre.server.clear_faults()  # type: ignore[union-attr]
        await centre.opened(order, SPLIT.cash_fen)
        centre.pays(trade_no(order))
        settled: Any = await centre.run.execute(SETTLE, settle(order, mobile=True))
        assert (kind, settled.appointment.state) == (kind, S.APPOINTMENT_STATE_PAID)
        assert (kind, (await centre.centre_order(order))["state"]) == (kind, "4")
    assert len(centre.centre_orders()) == len(kinds)


@pytest.mark.parametrize("kinds", [some(K.HANG_AFTER, K.CUT, K.DROP_BEFORE), some(K.WRAPPER, K.STATUS)])
async def test_6202_is_paid_once_or_not_at_all(centre: City, kinds: list[tuple[int, FaultKind]]) -> None:
    for at, kind in kinds:
        order = f"T{at}"
        await prepaid(centre, order, mobile=True)
        fault(centre.centre, kind, "6202")
        heard = await centre.brought_to_an_end(SETTLE, settle(order, mobile=True))
        if kind is K.WRAPPER:  # "code -1, gateway busy" is a word of the protocol: not done, and so it goes back
            assert isinstance(heard, HisRefused)
            assert (await centre.centre_order(order))["state"] == "12"
            assert centre.cash_back(trade_no(order)) == {automatic(order): SPLIT.cash_fen}
            continue
        assert (kind, type(heard)) == (kind, insurance_pb2.SettleInsuranceResponse)
        assert (kind, (await centre.centre_order(order))["state"]) == (kind, "4")
        assert (kind, centre.cash_back(trade_no(order))) == (kind, {})
        assert (kind, centre.his.effects["registered", order]) == (kind, 1)


@pytest.mark.parametrize(
    ("label", "kinds"),
    [("6203", some(K.GARBAGE_AFTER, K.DROP_BEFORE, K.TWICE)), ("refund", some(K.DROP_AFTER, K.STATUS))],
)
async def test_what_the_his_does_not_register_goes_back_at_the_centre(
    centre: City, label: str, kinds: list[tuple[int, FaultKind]]
) -> None:
    centre.his.refuse[REGISTER] = STOPPED
    assert centre.centre is not None
    for at, kind in kinds:
        order = f"T{at}"
        await prepaid(centre, order, mobile=True)
        fault(centre.house if label == "refund" else centre.centre, kind, label)
        await centre.brought_to_an_end(SETTLE, settle(order, mobile=True), comes_back=at % 2 == 0)
        found = await centre.centre_order(order)
        assert (kind, found["state"]) == (kind, "8")
        refunds = [row for row in centre.centre.rows("mobile_refund") if row["pay_ord_id"] == found["pay_ord_id"]]
        assert (kind, [(row["kind"], row["fund"], row["account"], row["cash"]) for row in refunds]) == (
            kind,
            [("HI", SPLIT.fund_fen, SPLIT.account_fen, 0)],
        )
        assert (kind, centre.cash_back(trade_no(order))) == (kind, {automatic(order): SPLIT.cash_fen})


async def test_an_order_that_nobody_pays_is_taken_back_at_the_centre(centre: City) -> None:
    for at, kind in some(K.DROP_AFTER, K.GARBAGE_BEFORE, K.LATE):
        order = f"T{at}"
        centre.booked(order)
        await centre.run.execute(QUOTE, quote(order, mobile=True))
        fault(centre.centre, kind, "6401")
        centre.clock.move(minutes=31)
        await centre.run.sweep()
        centre.clock.move(minutes=1)
        await centre.run.sweep()
        assert (kind, (await centre.centre_order(order))["state"]) == (kind, "12")
        row = await centre.settlement(order)
        assert row is not None
        assert (kind, row.pay_token) == (kind, "")


def test_every_fault_meets_the_centre() -> None:
    """What `some` leaves out of one exchange, another meets."""
    marks = [
        test_a_quote_of_the_centre_is_one_order,
        test_6202_is_paid_once_or_not_at_all,
        test_what_the_his_does_not_register_goes_back_at_the_centre,
    ]
    met = set()
    for test in marks:
        for mark in test.pytestmark:  # type: ignore[attr-defined]
            for values in mark.args[1]:
                kinds = values[-1] if isinstance(values, tuple) else values
                met |= {kind for _, kind in kinds}
    assert met == {*HEARD, *AFTER, *BEFORE}


@pytest.mark.parametrize("label", ["2201", "2203A", "2204", "2206A", "2207A", "2208", "2205", "2202", "2601"])
async def test_a_platform_that_takes_no_msgid_twice_holds_nothing_up(city: City, label: str) -> None:
    """It refuses what it has seen, done or not: what can be asked for is asked for, the rest comes with a new number."""
    assert city.insurance is not None
    city.insurance.act("set", name="duplicates", value="refuse")
    if label == "2601":
        fault(city.insurance, FaultKind.DROP_BEFORE, "2207A")
    elif label in {"2208", "2205", "2202"}:
        city.his.refuse[REGISTER] = STOPPED
    if label in {"2201", "2203A", "2204", "2206A"}:
        city.booked("T1")
        fault(city.insurance, FaultKind.DROP_AFTER, label)
        heard: Any = await city.brought_to_an_end(QUOTE, quote("T1"))
        assert heard.settlement.split == SPLIT
        assert (city.visits("T1").count("OPEN"), city.lines("T1")) == (1, 2)
        return
    await prepaid(city, "T1")
    fault(city.insurance, FaultKind.DROP_AFTER, label)
    await city.brought_to_an_end(SETTLE, settle("T1"), comes_back=False)
    assert (well if label == "2207A" else undone)(city, "T1") == (WELL if label == "2207A" else UNDONE)
