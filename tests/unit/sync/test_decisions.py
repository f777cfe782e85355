"""What a person sees of an unknown outcome, what he may decide, and that the agent notices."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from his160.site.v1 import merchant_pb2
from his160.v1 import common_pb2, payment_pb2, reason_pb2

from his_db.errors import HisRefused, HisUnavailable, OutcomeUnknown
from sync import registry
from sync.audit import Audit
from sync.decisions import Decision, DecisionRefused, Decisions, answer_for, is_complete
from sync.evidence import DECIDED, Evidence, collect
from sync.store import CommandFilter, CommandState
from tests.unit.sync.bench import CONFIRM, FEE, REFUND, confirm, lost_before, refund
from tests.unit.sync.test_sagas import Scene, paid
from tests.unit.sync.world import QUOTE, SETTLE, quote, settle

SETTLE_STEP = "InsuranceGatewayService.Settle"
SAGAS = {name: registry.load(entry) for name, entry in registry.SAGAS.items()}


class Desk(Scene):
    """A scene, and a person at the ledger."""

    def __init__(self, folder: Path, variant: str = "none") -> None:
        super().__init__(folder, variant)
        if variant == "none":  # the HIS alone: commands are single statements
            self.his.mapped -= {name for name in self.his.mapped if name.startswith("MerchantService.")}
        self.decisions = Decisions(self.store, Audit(self.store, self.clock), self.clock, SAGAS)

    async def evidence(self, key: str = "T1", *, asks: bool = True) -> Evidence:
        found = await collect(self.store, self.his if asks else None, key, self.clock)
        assert found is not None
        return found

    async def decide(self, request_id: str, seen: Evidence, *, done: bool, answer: Any = None) -> None:
        decision = Decision(request_id, done, "李四", "对过账", seen.digest, answer)
        await self.decisions.take(decision, seen)

    async def unknown_payment(self) -> None:
        """A payment that the HIS shows with another amount: no probe can say what became of it."""
        self.his.faults.append(lost_before)
        with pytest.raises(OutcomeUnknown):
            await self.run.execute(CONFIRM, confirm())
        order = self.his.orders["T1"]
        order.state, order.out_trade_no, order.paid_fen = common_pb2.APPOINTMENT_STATE_PAID, "W1", FEE - 1
        self.clock.advance(minutes=1)
        await self.run.sweep()
        assert await self.state("p1") is CommandState.UNKNOWN


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    scene = Desk(tmp_path)
    yield scene
    await scene.store.close()


@pytest.fixture
async def merchant(tmp_path: Path) -> AsyncIterator[Desk]:
    scene = Desk(tmp_path, "gateway")
    yield scene
    await scene.store.close()


async def test_done_is_what_the_next_repetition_is_told(desk: Desk) -> None:
    await desk.unknown_payment()
    seen = await desk.evidence()
    answer = answer_for(seen.rows[-1], seen)
    assert answer is not None
    assert is_complete(answer)
    await desk.decide("p1", seen, done=True, answer=answer)
    effects = dict(desk.his.effects)
    told = await desk.run.execute(CONFIRM, confirm())
    assert told == answer
    assert isinstance(told, payment_pb2.ConfirmPaymentResponse)
    assert (told.payment.out_trade_no, told.payment.amount_fen) == ("W1", FEE)
    assert dict(desk.his.effects) == effects  # nothing was sent to the HIS
    (written,) = await desk.store.read(lambda work: work.audit.newest(5, action=DECIDED))
    said = json.loads(written.entry.parameters)
    assert (written.entry.target, written.entry.result) == ("T1", "DONE")
    assert (said["request_id"], said["decided"], said["who"], said["note"]) == ("p1", "done", "李四", "对过账")
    assert said["evidence"] == seen.digest
    (shown,) = (await desk.evidence()).decisions
    assert shown == written


async def test_not_done_may_be_sent_again(desk: Desk) -> None:
    await desk.unknown_payment()
    order = desk.his.orders["T1"]
    order.state, order.out_trade_no, order.paid_fen = common_pb2.APPOINTMENT_STATE_BOOKED, "", 0  # mended by hand
    await desk.decide("p1", await desk.evidence(), done=False)
    assert await desk.state("p1") is CommandState.RETRYABLE
    await desk.run.execute(CONFIRM, confirm())
    assert desk.his.effects[CONFIRM, "W1"] == 1
    assert await desk.state("p1") is CommandState.DONE


async def test_the_order_is_free_again(desk: Desk) -> None:
    await desk.unknown_payment()
    with pytest.raises(HisRefused) as busy:
        await desk.run.execute(REFUND, refund())
    assert busy.value.reason == reason_pb2.REASON_ORDER_BUSY
    seen = await desk.evidence()
    await desk.decide("p1", seen, done=True, answer=answer_for(seen.rows[-1], seen))
    desk.his.orders["T1"].paid_fen = FEE
    await desk.run.execute(REFUND, refund())
    assert await desk.state("f1") is CommandState.DONE


async def test_what_changed_since_it_was_seen_is_not_decided(desk: Desk) -> None:
    await desk.unknown_payment()
    seen = await desk.evidence()
    (row,) = [row for row in seen.rows if row.request_id == "p1"]
    again = replace(row, state=CommandState.SENT, attempt=2)
    await desk.store.write(lambda work: work.commands.put(again))
    with pytest.raises(DecisionRefused, match="has changed"):
        await desk.decide("p1", seen, done=False)
    with pytest.raises(DecisionRefused, match="at work"):
        await desk.decide("p1", await desk.evidence(), done=False)
    assert await desk.state("p1") is CommandState.SENT
    assert not await desk.store.read(lambda work: work.audit.newest(5, action=DECIDED))


async def test_what_is_known_is_not_decided(desk: Desk) -> None:
    await desk.run.execute(CONFIRM, confirm())
    with pytest.raises(DecisionRefused, match="known: DONE"):
        await desk.decide("p1", await desk.evidence(), done=False)
    with pytest.raises(DecisionRefused, match="no such command"):
        await desk.decide("nobody", await desk.evidence(), done=False)


async def test_done_wants_an_answer(desk: Desk) -> None:
    await desk.unknown_payment()
    with pytest.raises(DecisionRefused, match="answer"):
        await desk.decide("p1", await desk.evidence(), done=True)
    blind = await desk.evidence(asks=False)
    assert answer_for(blind.rows[-1], blind) is None  # without the HIS there is no order to tell


async def test_the_digest_is_of_what_matters(desk: Desk) -> None:
    """The same whenever it is taken and however often was asked; another one when anything says something else."""
    await desk.unknown_payment()
    first = await desk.evidence()
    for _ in range(3):
        desk.clock.advance(minutes=1)
        await desk.run.sweep()
    second = await desk.evidence()
    assert second.rows[-1].probes > first.rows[-1].probes
    assert second.digest == first.digest
    assert (await desk.evidence("p1")).digest == first.digest  # by the request, too
    digests = {first.digest, (await desk.evidence(asks=False)).digest}
    desk.his.orders["T1"].paid_fen = 1
    digests.add((await desk.evidence()).digest)
    await desk.decide("p1", await desk.evidence(), done=False)
    digests.add((await desk.evidence()).digest)
    assert len(digests) == 4
    assert await collect(desk.store, None, "nothing", desk.clock) is None


async def test_a_step_that_holds_its_command_up_is_decided_and_the_command_goes_on(merchant: Desk) -> None:
    await paid(merchant)
    merchant.his.refuse[REFUND] = HisRefused(reason_pb2.REASON_DAY_CLOSED, "closed")
    with pytest.raises(OutcomeUnknown):
        await merchant.run.execute(REFUND, refund())
    seen = await merchant.evidence()
    (red,) = [row for row in seen.rows if row.step == "red"]
    with pytest.raises(DecisionRefused, match="decide the step"):
        await merchant.decide("f1", seen, done=False)
    # Finance has made the red row by hand, at the window.
    order = merchant.his.orders["T1"]
    order.state, order.out_refund_no, order.refunded_fen = common_pb2.APPOINTMENT_STATE_REFUNDED, "R1", FEE
    seen = await merchant.evidence()
    answer = answer_for(red, seen)
    assert answer is not None
    await merchant.decide(red.request_id, seen, done=True, answer=answer)
    await merchant.run.sweep()
    assert await merchant.state("f1") is CommandState.DONE
    assert merchant.his.trades["W1"].refunds == {"R1": FEE}
    assert merchant.his.calls[REFUND] == 1


async def test_a_step_not_done_is_tried_again(merchant: Desk) -> None:
    await paid(merchant)
    merchant.his.refuse[REFUND] = HisRefused(reason_pb2.REASON_DAY_CLOSED, "closed")
    with pytest.raises(OutcomeUnknown):
        await merchant.run.execute(REFUND, refund())
    merchant.his.refuse.clear()
    seen = await merchant.evidence()
    (red,) = [row for row in seen.rows if row.step == "red"]
    await merchant.decide(red.request_id, seen, done=False)
    await merchant.run.sweep()
    assert await merchant.state("f1") is CommandState.DONE
    assert merchant.his.calls[REFUND] == 2


async def test_a_settlement_that_was_not_done_is_undone_never_sent_again(merchant: Desk) -> None:
    """2207A must not run twice: "not done" turns the command back."""
    await merchant.run.execute(QUOTE, quote())
    merchant.his.pay("W1", 600)
    write = merchant.his.write

    async def losing(operation: str, request: Any, **more: Any) -> Any:
        if operation == SETTLE_STEP:
            merchant.his.calls[operation] += 1
            merchant.his.down["InsuranceGatewayService.QuerySettlement"] = HisUnavailable("no answer")
            raise OutcomeUnknown("connection lost")
        return await write(operation, request, **more)

    merchant.his.write = losing  # type: ignore[method-assign]
    with pytest.raises(OutcomeUnknown):
        await merchant.run.execute(SETTLE, settle())
    merchant.his.write = write  # type: ignore[method-assign]
    seen = await merchant.evidence(asks=False)
    (step,) = [row for row in seen.rows if row.parent and row.state is CommandState.UNKNOWN]
    assert (step.operation, merchant.his.calls[SETTLE_STEP]) == (SETTLE_STEP, 1)
    await merchant.decide(step.request_id, seen, done=False)
    merchant.his.down.clear()
    merchant.clock.advance(hours=1)
    await merchant.run.sweep()
    assert merchant.his.calls[SETTLE_STEP] == 1
    assert await merchant.state("s1") is CommandState.REJECTED  # the cash went back with it
    assert all(not visit.is_open for visit in merchant.his.visits.values())


async def test_a_decision_beats_a_run_that_looked_before_it(merchant: Desk) -> None:
    """The agent has loaded the step as not known, a person says that it was done: it must not leave again."""
    await paid(merchant)
    merchant.his.faults.append(lost_before)
    with pytest.raises(OutcomeUnknown):
        await merchant.run.execute(REFUND, refund())
    seen = await merchant.evidence()
    (step,) = [row for row in seen.rows if row.parent and row.state is CommandState.UNKNOWN]
    runner = merchant.run._sagas
    saga = SAGAS["refund_payment"]
    parent = seen.row("f1")
    assert parent is not None
    opened = runner._opened

    async def slow(*arguments: Any) -> Any:
        context = await opened(*arguments)
        answer = answer_for(step, await merchant.evidence()) or _accepted(step)
        await merchant.decide(step.request_id, await merchant.evidence(), done=True, answer=answer)
        return context

    runner._opened = slow  # type: ignore[method-assign]
    sent = merchant.his.calls[step.operation]
    merchant.clock.advance(minutes=1)
    with pytest.raises(OutcomeUnknown):
        await runner.drive(saga, parent, refund())
    runner._opened = opened  # type: ignore[method-assign]
    assert merchant.his.calls[step.operation] == sent
    row = await merchant.run.ledger.get(step.request_id)
    assert row is not None
    assert row.state is CommandState.DONE


def _accepted(step: Any) -> Any:
    request = merchant_pb2.RefundTradeRequest.FromString(step.request)
    answer = merchant_pb2.RefundTradeResponse()
    answer.refund.out_refund_no, answer.refund.out_trade_no = request.out_refund_no, request.out_trade_no
    answer.refund.amount_fen, answer.refund.state = request.refund_fen, payment_pb2.REFUND_STATE_DONE
    return answer


async def test_the_ledger_is_searched(desk: Desk) -> None:
    await desk.run.execute(CONFIRM, confirm())
    desk.clock.advance(hours=1)
    middle = desk.clock()
    await desk.run.execute(REFUND, refund())

    async def found(**wanted: Any) -> list[str]:
        rows = await desk.store.read(lambda work: work.commands.search(CommandFilter(**wanted)))
        return [row.request_id for row in rows]

    assert await found() == ["p1", "f1"]
    assert await found(limit=1) == ["f1"]
    assert await found(operation="RefundPayment") == ["f1"]
    assert await found(operation="Payment") == []
    assert await found(operation=CONFIRM) == ["p1"]
    assert await found(since=middle) == ["f1"]
    assert await found(until=middle) == ["p1"]
    assert await found(order_key="T2") == []
    assert await found(states=frozenset({CommandState.DONE})) == ["p1", "f1"]
    assert await found(states=frozenset({CommandState.UNKNOWN})) == []
