"""The window programs of the sample HIS, on every pack: the vendor's rules hold, and the watches see what they must."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from his160.v1 import common_pb2, event_pb2

from his_db.sample import WindowRefusal
from tests.conformance.packs.hospital import (
    Hospital,
    State,
    appointment_of,
    booked,
    changes,
    day_of,
    free_slot,
    lock,
    open_schedule,
    open_schedules,
    order_no,
    patient,
    pay,
    row_of,
    schedules,
)
from tests.conformance.packs.tables import TABLES, count, pass_time, rule, rules_back, run

PARTLY = {"zebone"}  # vendors whose window gives back a part of what it took itself


def refusal(action: Callable[[], Any]) -> str:
    with pytest.raises(WindowRefusal) as caught:
        action()
    return str(caught.value)


async def left(h: Hospital, session: str) -> int:
    return int((await schedules(h, schedule_id=session))[0].free_count)


async def paid(h: Hospital) -> common_pb2.Appointment:
    order = await booked(h)
    await pay(h, order)
    return order


async def test_a_part_of_a_platform_order_is_not_given_back(hospital: Hospital) -> None:
    """健康160支付订单不支持部分退费 (facts §1.3): all or nothing."""
    order = await paid(hospital)
    text = refusal(lambda: hospital.window.refund_part(order.appointment_id, 100, operator="0931"))
    assert re.search("不支持部分退费|必须全退", text)
    assert row_of(hospital, order.appointment_id).refunded_fen == 0
    session = await open_schedule(hospital)
    who = await patient(hospital)
    walk_in = hospital.window.walk_in(session.schedule_id, who.patient_id, operator="0931")
    if hospital.name not in PARTLY:
        refusal(lambda: hospital.window.refund_part(walk_in, 100, operator="0931"))
        return
    refusal(lambda: hospital.window.refund_part(walk_in, session.fee_fen, operator="0931"))
    hospital.window.refund_part(walk_in, 100, operator="0931")
    row = row_of(hospital, walk_in)
    assert (row.state, row.paid_fen, row.refunded_fen) == ("PAID", session.fee_fen, 100)
    assert "部分退费" in refusal(lambda: hospital.window.refund(walk_in, operator="0931"))


async def test_day_close_and_what_comes_after(hospital: Hospital) -> None:
    """日结 takes the operator's open rows; a refund afterwards makes a new row that is open again, or is refused."""
    session = await open_schedule(hospital)
    first, second = [
        hospital.window.walk_in(session.schedule_id, (await patient(hospital)).patient_id, operator="0936")
        for _ in range(2)
    ]
    opened = count(hospital, "open_money", operator="0936")
    assert opened >= 2
    other = count(hospital, "open_money", operator="0935")
    sheet = hospital.window.close_day(operator="0936")
    assert sheet
    assert count(hospital, "open_money", operator="0936") == 0
    assert count(hospital, "open_money", operator="0935") == other
    assert "日结" in refusal(lambda: hospital.window.close_day(operator="0936"))
    rule(hospital, "refund_after_close", on=False)
    assert "日结" in refusal(lambda: hospital.window.refund(first, operator="0935"))
    rule(hospital, "refund_after_close", on=True)
    before = hospital.window.raw(first)
    hospital.window.refund(first, operator="0935")
    assert row_of(hospital, first).state == "REFUNDED"
    assert count(hospital, "open_money", operator="0935") > other
    assert len(hospital.window.raw(first)) > len(before)
    assert hospital.window.close_day(operator="0935") != sheet
    assert row_of(hospital, second).state == "PAID"


async def test_an_order_moves_to_another_session(hospital: Hospital) -> None:
    """改诊: the old number goes back, a new one is taken; the watch sees RESCHEDULED; only sessions of the same fee."""
    found = await open_schedules(hospital)
    first, second = next((a, b) for a in found for b in found if a.fee_fen == b.fee_fen and a != b)
    dearer = next(s for s in found if s.fee_fen != first.fee_fen)
    order = await booked(hospital, schedule=first)
    await pay(hospital, order)
    here, there = await left(hospital, first.schedule_id), await left(hospital, second.schedule_id)
    refusal(lambda: hospital.window.reschedule(order.appointment_id, dearer.schedule_id, operator="0933"))
    seen = await changes(
        hospital,
        "orders",
        lambda: hospital.window.reschedule(order.appointment_id, second.schedule_id, operator="0933"),
    )
    [(kind, old, new)] = seen
    assert kind == event_pb2.EVENT_KIND_RESCHEDULED
    assert (old.schedule_id, new.schedule_id) == (first.schedule_id, second.schedule_id)
    assert new.state == State.APPOINTMENT_STATE_PAID
    assert await left(hospital, first.schedule_id) == here + 1
    assert await left(hospital, second.schedule_id) == there - 1
    moved = await appointment_of(hospital, order.order_no)
    assert day_of(moved.visit_date) == day_of(second.visit_date)
    assert (moved.doctor_id, moved.department_id) == (second.doctor_id, second.department_id)
    assert moved.paid_fen == order.total_fen
    hospital.window.refund(order.appointment_id, operator="0933")
    refusal(lambda: hospital.window.reschedule(order.appointment_id, first.schedule_id, operator="0933"))
    assert await left(hospital, second.schedule_id) == there


async def test_a_prescription_stands_in_the_way(hospital: Hospital) -> None:
    order = await paid(hospital)
    hospital.window.prescribe(order.appointment_id)
    assert "处方" in refusal(lambda: hospital.window.refund(order.appointment_id, operator="0931"))
    assert row_of(hospital, order.appointment_id).state == "PAID"


async def test_the_night_job_hides_nothing(hospital: Hospital) -> None:
    """Rows that move to history tables at night stay what they were, for the window and for the watch."""
    orders = {o.his_id: o for o in hospital.window.orders(channel_only=False, limit=10_000)}
    before = dict((await hospital.his.snapshot("orders")).rows)
    if TABLES[hospital.name].days:
        pass_time(hospital, days=20)
    moved = hospital.window.night_job()
    pass_time(hospital)
    assert (moved > 0) == (hospital.name in {"winning", "winning_mssql"})
    assert hospital.window.night_job() == 0
    assert {o.his_id: o for o in hospital.window.orders(channel_only=False, limit=10_000)} == orders
    assert dict((await hospital.his.snapshot("orders")).rows) == before


async def test_holds_that_ran_out_are_cleared(hospital: Hospital) -> None:
    """Whatever the vendor does with them (deletes, marks, leaves): the number is free before and after, and counted once."""
    session = await open_schedule(hospital, skip=1)
    slot, number = await free_slot(hospital, session.schedule_id), order_no()
    before = await left(hospital, session.schedule_id)
    await lock(hospital, session.schedule_id, slot.slot_id, number)
    pass_time(hospital, order=number)
    assert await left(hospital, session.schedule_id) == before
    hospital.window.clear_holds()
    assert await left(hospital, session.schedule_id) == before
    again = await lock(hospital, session.schedule_id, (await free_slot(hospital, session.schedule_id)).slot_id, number)
    assert again.lock.lock_id
    assert await left(hospital, session.schedule_id) == before - 1


async def test_replaced_then_rescheduled_keeps_its_doctor(hospital: Hospital) -> None:
    """A replaced session is still the same session; orders that come to it later see the new doctor."""
    found = await open_schedules(hospital)
    busy = {(s.doctor_id, day_of(s.visit_date), s.period) for s in await schedules(hospital)}
    first, second = next(
        (a, b)
        for a in found
        for b in found
        if a.fee_fen == b.fee_fen and a.doctor_id and b.doctor_id
        if (a.doctor_id, day_of(b.visit_date), b.period) not in busy
    )
    hospital.window.replace_doctor(second.schedule_id, first.doctor_id, operator="0933")
    order = await booked(hospital, schedule=first)
    hospital.window.reschedule(order.appointment_id, second.schedule_id, operator="0933")
    moved = await appointment_of(hospital, order.order_no)
    assert (moved.schedule_id, moved.doctor_id) == (second.schedule_id, first.doctor_id)


@pytest.fixture(autouse=True)
def rules_as_before(hospital: Hospital) -> Any:
    yield
    rules_back(hospital)
    if TABLES[hospital.name].days:
        run(hospital, TABLES[hospital.name].days, value="0")
