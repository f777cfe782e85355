"""What a person sees and decides of commands over the gateways: steps of sagas, and refunds that cannot be paid out."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from his160.site.v1 import insurance_gateway_pb2 as gateway
from his160.v1 import reason_pb2

from agent.commands import unknown
from agent.event_feed import count
from agent.ledger_access import LedgerAccess
from his_db.errors import HisRefused, OutcomeUnknown
from his_db.simulator import FaultKind
from sync import registry
from sync.audit import Audit
from sync.decisions import Decision, Decisions, answer_for
from sync.evidence import Evidence, collect
from sync.insurance_split import counter_entry
from sync.money_book import RefundProgress, SettlementState
from sync.store import CommandRow, CommandState
from tests.gateways.saga_bed import (
    CONFIRM,
    FEE,
    QUOTE,
    REVERSE,
    SETTLE,
    SPLIT,
    City,
    Keys,
    automatic,
    confirm,
    fault,
    quote,
    reverse,
    settle,
    trade_no,
)

R = reason_pb2
STOPPED = HisRefused(R.REASON_SCHEDULE_SUSPENDED, "stopped")
SAGAS = {name: registry.load(entry) for name, entry in registry.SAGAS.items()}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory, wechat_keys: Path) -> Keys:
    return Keys(wechat_keys, tmp_path_factory.mktemp("mobile-keys"))


@pytest.fixture
async def city(tmp_path: Path, keys: Keys) -> AsyncIterator[City]:
    made = City(tmp_path, keys, "gateway", rules={})
    yield made
    await made.close()


async def evidence(city: City) -> Evidence:
    found = await collect(city.store, None, "T1", city.clock)
    assert found is not None
    return found


async def step_of(city: City, name: str) -> CommandRow:
    return next(row for row in (await evidence(city)).rows if row.step == name and row.parent)


async def decide(city: City, row: CommandRow, *, done: bool, answer: Message | None = None) -> None:
    seen = await evidence(city)
    decisions = Decisions(city.store, Audit(city.store, city.clock), city.clock, SAGAS)
    await decisions.take(Decision(row.request_id, done, "李四", "对过账", seen.digest, answer), seen)


async def listed(city: City, *arguments: str) -> list[str]:
    """What ``his160 unknown list`` prints."""
    options = unknown._parser().parse_args(["list", "--config", "config.toml", *arguments])
    access = LedgerAccess(None, city.store, Audit(city.store, city.clock), is_running=True)  # type: ignore[arg-type]
    with redirect_stdout(io.StringIO()) as out:
        assert await unknown._list(access, options) == 0
    return out.getvalue().splitlines()


async def abnormal(city: City) -> None:
    """A refund that was accepted and cannot be paid out."""
    city.his.refuse[CONFIRM] = STOPPED
    city.booked("T1")
    await city.opened("T1")
    await city.refusal(CONFIRM, confirm("T1", city.pays(trade_no("T1"))))
    city.house.act("set", name="refund_result", value="ABNORMAL")
    city.clock.move(minutes=2)
    await city.run.sweep()


def refunds(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if name.startswith("refunds:")}


async def test_an_abnormal_refund_is_listed_and_counted_until_it_is_put_right(city: City) -> None:
    await abnormal(city)
    (shown,) = [json.loads(text) for text in await listed(city, "--json")]
    assert (shown["refund"], shown["state"], shown["amount_fen"]) == (automatic("T1"), "ABNORMAL", FEE)
    text = "\n".join(await listed(city))
    assert f"退款 refund ABNORMAL {automatic('T1')} 25.00 元 of {trade_no('T1')} T1" in text
    assert "退款异常 1 笔" in text
    assert refunds((await count(city.store)).figures()) == {"refunds:PROCESSING": 0, "refunds:ABNORMAL": 1}
    # Finance puts it right at the merchant platform; the payment house shows it when it is asked again.
    city.house.server.simulator.book.run("UPDATE refund SET state = 'PROCESSING'")
    city.house.act("set", name="refund_result", value="SUCCESS")
    await city.run.sweep()
    assert (await count(city.store)).refunds == {"ABNORMAL": 1}  # not asked for all the time
    city.clock.move(hours=6, minutes=1)
    await city.run.sweep()
    assert refunds((await count(city.store)).figures()) == {"refunds:PROCESSING": 0, "refunds:ABNORMAL": 0}
    assert await listed(city, "--json") == []


async def test_an_abnormal_refund_that_is_called_back_is_asked_for_at_once(city: City) -> None:
    await abnormal(city)
    city.house.server.simulator.book.run("UPDATE refund SET state = 'SUCCESS'")
    await city.run.wake(automatic("T1"))
    row = await city.store.read(lambda work: work.refunds.get(automatic("T1")))
    assert row is not None
    assert row.state is RefundProgress.DONE


async def test_a_refund_that_a_person_says_was_taken_is_followed_like_any_other(city: City) -> None:
    """The payment house answers nothing any more, and by its platform a person sees that it was taken."""
    city.his.refuse[CONFIRM] = STOPPED
    city.booked("T1")
    await city.opened("T1")
    request = confirm("T1", city.pays(trade_no("T1")))
    fault(city.house, FaultKind.DROP_AFTER, "refund")
    fault(city.house, FaultKind.STATUS, "query_refund", count=99)
    with pytest.raises(OutcomeUnknown):
        await city.run.execute(CONFIRM, request)
    row = await step_of(city, "refund")
    answer = answer_for(row, await evidence(city))
    assert answer is not None
    await decide(city, row, done=True, answer=answer)
    await city.run.sweep()
    assert await city.state(request.request_id) is CommandState.REJECTED
    city.house.server.clear_faults()
    city.clock.move(minutes=2)
    await city.run.sweep()
    kept = await city.store.read(lambda work: work.refunds.get(automatic("T1")))
    assert kept is not None
    assert (kept.state, kept.amount_fen) == (RefundProgress.DONE, FEE)
    assert city.cash_back(trade_no("T1")) == {automatic("T1"): FEE}


async def prepaid(city: City) -> None:
    city.booked("T1")
    await city.run.execute(QUOTE, quote("T1"))
    await city.opened("T1", SPLIT.cash_fen)
    city.pays(trade_no("T1"))


async def test_a_settlement_that_a_person_says_was_made_is_registered_as_he_says(city: City) -> None:
    """5203 is out of order; the person reads number and amounts at 医保: the HIS registers these, and no others."""
    await prepaid(city)
    assert city.insurance is not None
    fault(city.insurance, FaultKind.DROP_AFTER, "2207A")
    fault(city.insurance, FaultKind.STATUS, "5203", count=99)
    with pytest.raises(OutcomeUnknown):
        await city.run.execute(SETTLE, settle("T1"))
    row = await step_of(city, "settle")
    assert answer_for(row, await evidence(city)) is None  # only 医保 has the number
    (book,) = city.insurance.rows("settlement")
    record = gateway.SettlementRecord(setl_id=book["setl_id"], mdtrt_id=book["mdtrt_id"], split=SPLIT)
    await decide(city, row, done=True, answer=gateway.SettleResponse(settlement=record))
    await city.run.sweep()
    assert await city.state("T1-s") is CommandState.DONE
    registered = city.his.insured["T1"]
    assert (registered.setl_id, registered.split) == (book["setl_id"], SPLIT)
    kept = await city.settlement("T1")
    assert kept is not None
    assert (kept.state, kept.setl_id) == (SettlementState.SETTLED, book["setl_id"])
    city.insurance.server.clear_faults()
    await city.run.execute(REVERSE, reverse("T1", book["setl_id"]))  # and can be undone by it
    assert city.settled("T1") == ["CANCELLED", "NEGATIVE"]


async def test_a_settlement_that_a_person_says_was_not_made_is_voided(city: City) -> None:
    await prepaid(city)
    fault(city.insurance, FaultKind.DROP_BEFORE, "2207A")
    fault(city.insurance, FaultKind.STATUS, "5203", count=99)
    with pytest.raises(OutcomeUnknown):
        await city.run.execute(SETTLE, settle("T1"))
    await decide(city, await step_of(city, "settle"), done=False)
    await city.run.sweep()
    assert await city.state("T1-s") is CommandState.REJECTED
    assert (city.settled("T1"), city.visits("T1")) == ([], ["CANCELLED"])
    assert city.cash_back(trade_no("T1")) == {automatic("T1"): SPLIT.cash_fen}


async def test_a_reversal_that_a_person_has_made_at_the_counter_goes_on_from_there(city: City) -> None:
    await prepaid(city)
    settled: Any = await city.run.execute(SETTLE, settle("T1"))
    assert city.insurance is not None
    fault(city.insurance, FaultKind.DROP_AFTER, "2208")
    fault(city.insurance, FaultKind.STATUS, "5203", count=99)
    request = reverse("T1", settled.settlement.setl_id)
    with pytest.raises(OutcomeUnknown):
        await city.run.execute(REVERSE, request)
    row = await step_of(city, "reverse")
    answer = answer_for(row, await evidence(city))
    kept = await city.settlement("T1")
    assert kept is not None
    assert answer == gateway.CancelSettlementResponse(settlement=counter_entry(kept.record))
    await decide(city, row, done=True, answer=answer)
    await city.run.sweep()
    assert await city.state(request.request_id) is CommandState.DONE
    assert (city.settled("T1"), city.visits("T1")) == (["CANCELLED", "NEGATIVE"], ["CANCELLED"])
    assert city.cash_back(trade_no("T1")) == {automatic("T1"): SPLIT.cash_fen}
    kept = await city.settlement("T1")
    assert kept is not None
    assert kept.state is SettlementState.REVERSED
