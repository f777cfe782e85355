"""Reads that no single mapping answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from his160.site.v1 import mobile_payment_pb2 as mobile
from his160.v1 import insurance_pb2, patient_pb2, payment_pb2, reason_pb2

from his_db.errors import HisRefused, HisUnavailable, OperationNotMapped
from sync.composed_reads import GET_REFUND, GET_SETTLEMENT, ComposedReads
from sync.money_book import SettlementState
from tests.unit.sync.bench import CONFIRM, REFUND, confirm, refund
from tests.unit.sync.test_sagas import AUTO, Scene
from tests.unit.sync.world import QUOTE, SETTLE, quote, settle, split

R = reason_pb2


@pytest.fixture(params=["gateway", "centre"])
async def scene(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Scene]:
    made = Scene(tmp_path, request.param)
    yield made
    await made.store.close()


async def settlement(scene: Scene, **numbers: str) -> insurance_pb2.InsuranceSettlement:
    reads = ComposedReads(scene.his, scene.store)
    answer: Any = await reads.read(GET_SETTLEMENT, insurance_pb2.GetInsuranceSettlementRequest(**numbers))
    found: insurance_pb2.InsuranceSettlement = answer.settlement
    return found


async def test_a_settlement_by_each_of_its_numbers(scene: Scene) -> None:
    await scene.run.execute(QUOTE, quote())
    assert (await settlement(scene, order_no="T1")).state == insurance_pb2.INSURANCE_STATE_QUOTED
    scene.his.pay("W1", 600)
    settled: Any = await scene.run.execute(SETTLE, settle())
    for numbers in (
        {"order_no": "T1"},
        {"setl_id": settled.settlement.setl_id},
        {"mdtrt_id": settled.settlement.mdtrt_id},
    ):
        found = await settlement(scene, **numbers)
        assert (found.state, found.setl_id) == (insurance_pb2.INSURANCE_STATE_SETTLED, settled.settlement.setl_id)
        assert found.split == split()
    with pytest.raises(HisRefused) as caught:
        await settlement(scene, mdtrt_id="M99")
    assert caught.value.reason == R.REASON_PAYMENT_NOT_FOUND


async def test_the_platform_has_the_last_word_on_a_settlement(scene: Scene) -> None:
    """Undone at the window of 医保, behind the agent's back."""
    scene.his.pay("W1", 600)
    await scene.run.execute(SETTLE, settle())
    for visit in scene.his.visits.values():
        visit.settlements.clear()
    for order in scene.his.centre.values():
        order.state = mobile.MOBILE_ORDER_STATE_INSURANCE_REFUNDED
    assert (await settlement(scene, order_no="T1")).state == insurance_pb2.INSURANCE_STATE_REVERSED
    query = "InsuranceGatewayService.QuerySettlement" if scene.his.visits else "MobilePaymentService.QueryOrder"
    scene.his.down[query] = HisUnavailable("down")
    with pytest.raises(HisUnavailable):
        await settlement(scene, order_no="T1")


async def test_a_settlement_that_only_the_his_knows(scene: Scene) -> None:
    scene.his.pay("W1", 600)
    settled: Any = await scene.run.execute(SETTLE, settle())
    await scene.store.write(lambda work: work.settlements.prune(scene.clock.now.replace(year=2030)))
    found = await settlement(scene, order_no="T1")
    assert (found.setl_id, found.order_no) == (settled.settlement.setl_id, "T1")
    assert found.state == insurance_pb2.INSURANCE_STATE_SETTLED


async def test_a_visit_that_may_be_open_is_neither_success_nor_refundable(scene: Scene) -> None:
    await scene.run.execute(QUOTE, quote())
    from dataclasses import replace

    def reopen(work: Any) -> None:
        (row,) = work.settlements.of_order("T1")
        work.settlements.put(replace(row, state=SettlementState.OPEN))

    await scene.store.write(reopen)
    assert (await settlement(scene, order_no="T1")).state == insurance_pb2.INSURANCE_STATE_UNSPECIFIED


async def test_a_refund_is_not_done_before_the_money_is_back(scene: Scene) -> None:
    reads = ComposedReads(scene.his, scene.store)
    scene.his.pay("W1")
    await scene.run.execute(CONFIRM, confirm())
    scene.his.refund_state = payment_pb2.REFUND_STATE_PROCESSING
    await scene.run.execute(REFUND, refund())
    wanted = payment_pb2.GetRefundRequest(out_refund_no="R1")
    answer: Any = await reads.read(GET_REFUND, wanted)
    assert answer.refund.state == payment_pb2.REFUND_STATE_PROCESSING
    assert scene.his.refunds["R1"].state == payment_pb2.REFUND_STATE_DONE  # the HIS thinks that it is done
    scene.his.refund_state = payment_pb2.REFUND_STATE_DONE
    scene.clock.advance(minutes=2)
    await scene.run.sweep()
    answer = await reads.read(GET_REFUND, wanted)
    assert answer.refund.state == payment_pb2.REFUND_STATE_DONE


async def test_a_refund_that_the_his_never_heard_of(scene: Scene) -> None:
    reads = ComposedReads(scene.his, scene.store)
    scene.his.pay("W1")
    scene.his.refuse[CONFIRM] = HisRefused(R.REASON_SCHEDULE_SUSPENDED, "stopped")
    await scene.refusal(CONFIRM, confirm())
    answer: Any = await reads.read(GET_REFUND, payment_pb2.GetRefundRequest(out_refund_no=AUTO))
    assert (answer.refund.order_no, answer.refund.state) == ("T1", payment_pb2.REFUND_STATE_DONE)
    with pytest.raises(HisRefused) as caught:
        await reads.read(GET_REFUND, payment_pb2.GetRefundRequest(out_refund_no="R9"))
    assert caught.value.reason == R.REASON_REFUND_NOT_FOUND
    scene.his.mapped.discard(GET_REFUND)
    answer = await reads.read(GET_REFUND, payment_pb2.GetRefundRequest(out_refund_no=AUTO))
    assert answer.refund.amount_fen == 2500
    with pytest.raises(OperationNotMapped):
        await reads.read(GET_REFUND, payment_pb2.GetRefundRequest(out_refund_no="R9"))


async def test_documents_are_asked_for_in_the_form_in_which_they_are_kept(scene: Scene) -> None:
    scene.his.patients.append(patient_pb2.Patient(patient_id="P0", name="测试甲", document_no="11010519491231002X"))
    wanted = patient_pb2.FindPatientsRequest(document_no=" 11010519491231002x ")
    answer: Any = await ComposedReads(scene.his, scene.store).read("PatientService.FindPatients", wanted)
    assert [patient.patient_id for patient in answer.patients] == ["P0"]
    assert wanted.document_no == " 11010519491231002x "  # the caller's own stays as it is
