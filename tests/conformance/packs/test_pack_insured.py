"""Every pack on its sample HIS: the HIS side of a registration that 医保 pays a part of."""

from __future__ import annotations

import datetime as dt
from typing import Any

from his160.v1 import common_pb2

from his_db.sample import InsuredBill, WindowRefusal
from tests.conformance.packs import insured
from tests.conformance.packs.hospital import (
    Hospital,
    R,
    State,
    appointment_of,
    booked,
    key,
    open_schedules,
    patient,
    read,
    refund,
    refused,
    row_of,
    schedules,
)


async def insurance_order(h: Hospital, number: str) -> Any:
    return (await read(h, "InsuredRegistrationService.GetInsuranceOrder", order_no=number)).order


async def left(h: Hospital, session: str) -> int:
    return int((await schedules(h, schedule_id=session))[0].free_count)


async def test_what_insurance_must_be_told(hospital: Hospital) -> None:
    """National codes where they are registered, the fee lines add up, the visit number is there before the visit."""
    orders = {}
    for session in await open_schedules(hospital):
        order = await booked(hospital, schedule=session)
        told = await insurance_order(hospital, order.order_no)
        orders[session.department_id, session.doctor_id] = told
        assert (told.order_no, told.appointment_id) == (order.order_no, order.appointment_id)
        assert told.state == State.APPOINTMENT_STATE_BOOKED
        assert 0 < len(told.visit_no) <= 30
        assert told.total_fen == order.total_fen == session.fee_fen
        assert sum(line.amount_fen for line in told.items) == told.total_fen
        assert all(line.amount_fen == line.price_fen > 0 and line.count_hundredths == 100 for line in told.items)
        assert all(line.item_id and line.name for line in told.items)
        assert told.patient_name == order.patient_name
        assert told.document_type == "01"
        assert len(told.document_no) == 18
        assert told.department_name == session.department_name
        assert told.doctor_name == session.doctor_name
        assert told.medical_type == "12"
        begin = told.begin_time.ToDatetime(dt.timezone(dt.timedelta(hours=8)))
        assert (begin.year, begin.month, begin.day) == (
            session.visit_date.year, session.visit_date.month, session.visit_date.day,
        )  # fmt: skip
        assert begin.hour >= 8
    told = list(orders.values())
    assert any(t.department_code and t.specialty_code and t.doctor_code for t in told)
    assert any(not t.department_code for t in told), "a department that is not registered with 医保"
    assert any(t.doctor_name and not t.doctor_code for t in told), "a doctor who is not registered with 医保"
    assert {bool(line.national_code) for t in told for line in t.items} >= {True}
    assert await refused(insurance_order(hospital, "nothing")) == R.REASON_APPOINTMENT_NOT_FOUND


async def test_registered_and_given_back(hospital: Hospital) -> None:
    """Fund, account and cash are written apart, all numbers are kept; the red rows give back what came in, and the number."""
    session = (await open_schedules(hospital))[-1]
    before = await left(hospital, session.schedule_id)
    order = await booked(hospital, schedule=session)
    told = await insurance_order(hospital, order.order_no)
    done = await insured.register(hospital, order)
    assert done.state == State.APPOINTMENT_STATE_PAID
    assert done.operator_id == "jk160"
    assert done.out_trade_no == "M" + order.order_no
    assert done.paid_fen == order.total_fen
    assert done.visit_no

    parts = insured.split(order.total_fen)
    kept = await insured.kept(hospital, order_no=order.order_no)
    expected = insured.settlement(order, parts)
    expected.visit_no = told.visit_no
    expected.settle_time.CopyFrom(kept.settlement.settle_time)
    assert kept.settlement == expected
    assert kept == await insured.kept(hospital, setl_id=insured.setl_id(order))
    assert kept.appointment.state == State.APPOINTMENT_STATE_PAID
    assert kept.appointment.appointment_id == order.appointment_id

    payment = (await read(hospital, "PaymentService.GetPayment", order_no=order.order_no)).payment
    assert (payment.out_trade_no, payment.amount_fen) == ("M" + order.order_no, parts.cash_fen)
    assert payment.transaction_id == "W" + order.order_no
    assert await refused(refund(hospital, order)) == R.REASON_INSURANCE_SETTLED
    row = row_of(hospital, order.appointment_id)
    assert (row.state, row.paid_fen) == ("PAID", order.total_fen)

    back = await insured.red(hospital, order)
    assert back.state == State.APPOINTMENT_STATE_REFUNDED
    assert back.refunded_fen == order.total_fen
    assert back.out_refund_no == "R" + order.order_no
    assert await left(hospital, session.schedule_id) == before
    after = await insured.kept(hospital, order_no=order.order_no)
    assert after.appointment.state == State.APPOINTMENT_STATE_REFUNDED
    assert after.settlement == kept.settlement
    given = (await read(hospital, "PaymentService.GetRefund", out_refund_no="R" + order.order_no)).refund
    assert given.amount_fen == parts.cash_fen
    row = row_of(hospital, order.appointment_id)
    assert (row.state, row.refunded_fen, row.operator) == ("REFUNDED", order.total_fen, "jk160")


async def test_all_of_it_paid_by_insurance(hospital: Hospital) -> None:
    """No cash: no payment number, no payment; the refund has no number either."""
    order = await booked(hospital)
    parts = insured.split(order.total_fen)
    parts.fund_fen, parts.cash_fen = parts.fund_fen + parts.cash_fen, 0
    done = await insured.register(hospital, order, split=parts)
    assert done.state == State.APPOINTMENT_STATE_PAID
    assert done.out_trade_no == ""
    lookup = read(hospital, "PaymentService.GetPayment", order_no=order.order_no)
    assert await refused(lookup) == R.REASON_PAYMENT_NOT_FOUND
    assert (await insured.kept(hospital, order_no=order.order_no)).settlement.split.cash_fen == 0
    back = await insured.red(hospital, order, cash_fen=0, out_refund_no="", reversal_setl_id="")
    assert back.state == State.APPOINTMENT_STATE_REFUNDED
    assert back.out_refund_no == ""


async def test_a_refused_registration_writes_nothing(hospital: Hospital) -> None:
    order = await booked(hospital)
    rows = hospital.window.raw(order.appointment_id)
    wrong = insured.register(hospital, order, split=insured.split(order.total_fen + 1))
    assert await refused(wrong) == R.REASON_AMOUNT_MISMATCH
    assert hospital.window.raw(order.appointment_id) == rows
    assert await refused(insured.kept(hospital, order_no=order.order_no)) == R.REASON_APPOINTMENT_NOT_FOUND
    assert (await appointment_of(hospital, order.order_no)) == order


async def test_insured_at_the_window_and_given_back_there(hospital: Hospital) -> None:
    """The window's own 医保: another number of the session is gone, and comes back; the ordinary refund will not do."""
    session = (await open_schedules(hospital))[0]
    who = await patient(hospital)
    parts = insured.split(session.fee_fen)
    bill = InsuredBill(
        "S" + key()[:20], "D1", "44030000000000000123", "310", parts.fund_fen, parts.account_fen, parts.cash_fen
    )
    his_id = hospital.window.register_insured(session.schedule_id, who.patient_id, bill, operator="0931")
    row = row_of(hospital, his_id)
    assert (row.state, row.paid_fen, row.operator) == ("PAID", session.fee_fen, "0931")
    try:
        hospital.window.refund(his_id, operator="0932")
    except WindowRefusal as refusal:
        assert "医" in str(refusal)
    else:
        raise AssertionError("the ordinary refund gave back an insured registration")
    hospital.window.refund_insured(his_id, "R" + bill.setl_id, operator="0932")
    row = row_of(hospital, his_id)
    assert (row.state, row.refunded_fen, row.operator) == ("REFUNDED", session.fee_fen, "0932")


async def test_insured_order_given_back_at_the_window_is_refunded(hospital: Hospital) -> None:
    """The window reverses 医保 by itself: what was registered by the platform is refunded there, and the reads say so."""
    order = await insured.registered(hospital)
    hospital.window.refund_insured(order.appointment_id, "R" + insured.setl_id(order), operator="0931")
    seen = await appointment_of(hospital, order.order_no)
    assert (seen.state, seen.operator_id) == (common_pb2.APPOINTMENT_STATE_REFUNDED, "0931")
    assert seen.refunded_fen == order.total_fen
    assert seen.out_refund_no == ""
    assert await refused(insured.red(hospital, order)) == R.REASON_ALREADY_REFUNDED
