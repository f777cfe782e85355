"""Every pack on its sample HIS: the life of an order, holds, competition for numbers, hostile text."""

from __future__ import annotations

import asyncio
import datetime as dt

import pytest
from his160.v1 import common_pb2, patient_pb2, payment_pb2

from his_db.errors import HisBusy, HisRefused
from his_db.sample import WindowRefusal
from tests.conformance.packs import insured
from tests.conformance.packs.hospital import (
    ORDER_NO_LENGTH,
    SILENT_STOP,
    Hospital,
    R,
    State,
    appointment_of,
    book,
    booked,
    date,
    free_slot,
    lock,
    open_schedule,
    order_no,
    patient,
    pay,
    read,
    refund,
    refused,
    row_of,
    schedules,
    write,
)
from tests.conformance.packs.tables import TABLES, pass_time, rule


async def test_the_life_of_an_order(hospital: Hospital) -> None:
    session = await open_schedule(hospital)
    before = session.free_count
    order = await booked(hospital, schedule=session)
    assert order.state == State.APPOINTMENT_STATE_BOOKED
    assert order.schedule_id == session.schedule_id
    assert order.total_fen == session.fee_fen
    assert order.paid_fen == 0
    assert (await schedules(hospital, schedule_id=session.schedule_id))[0].free_count == before - 1

    paid = await pay(hospital, order)
    assert paid.appointment.state == State.APPOINTMENT_STATE_PAID
    assert paid.appointment.paid_fen == order.total_fen
    assert paid.payment.state == payment_pb2.PAYMENT_STATE_PAID
    assert paid.payment.transaction_id == "W" + order.order_no
    by_trade = await read(hospital, "PaymentService.GetPayment", out_trade_no="M" + order.order_no)
    by_order = await read(hospital, "PaymentService.GetPayment", order_no=order.order_no)
    assert by_trade == by_order
    assert by_trade.payment.amount_fen == order.total_fen
    assert by_trade.payment.method == common_pb2.PAYMENT_METHOD_WECHAT

    back = await refund(hospital, order)
    assert back.refund.state == payment_pb2.REFUND_STATE_DONE
    assert back.refund.amount_fen == order.total_fen
    assert back.appointment.state == State.APPOINTMENT_STATE_REFUNDED
    assert back.appointment.refunded_fen == order.total_fen
    assert (await read(hospital, "PaymentService.GetRefund", out_refund_no="R" + order.order_no)).refund == back.refund
    assert (await schedules(hospital, schedule_id=session.schedule_id))[0].free_count == before
    row = row_of(hospital, order.appointment_id)
    assert (row.state, row.paid_fen, row.refunded_fen) == ("REFUNDED", order.total_fen, order.total_fen)


async def test_cancel_gives_the_number_back(hospital: Hospital) -> None:
    session = await open_schedule(hospital, skip=1)
    before = (await schedules(hospital, schedule_id=session.schedule_id))[0].free_count
    order = await booked(hospital, schedule=session)
    answer = await write(hospital, "AppointmentService.CancelAppointment", order_no=order.order_no, note="不来了")
    assert answer.appointment.state == State.APPOINTMENT_STATE_CANCELLED
    assert answer.appointment.operator_id == "jk160"
    assert (await schedules(hospital, schedule_id=session.schedule_id))[0].free_count == before
    again = write(hospital, "AppointmentService.CancelAppointment", order_no=order.order_no)
    # A HIS may answer the same again (winning) or say that it is cancelled (zebone); either way nothing more happens.
    try:
        assert (await again).appointment.state == State.APPOINTMENT_STATE_CANCELLED
    except HisRefused as error:
        assert error.reason == R.REASON_ALREADY_CANCELLED
    assert (await schedules(hospital, schedule_id=session.schedule_id))[0].free_count == before


async def test_lock_and_unlock(hospital: Hospital) -> None:
    session = await open_schedule(hospital, skip=2)
    slot = await free_slot(hospital, session.schedule_id)
    before = (await schedules(hospital, schedule_id=session.schedule_id))[0].free_count
    number = order_no()
    first = await write(
        hospital, "AppointmentService.LockSlot", order_no=number, schedule_id=session.schedule_id, slot_id=slot.slot_id
    )
    assert first.lock.fee_fen == session.fee_fen
    assert first.lock.expire_time.ToDatetime(dt.UTC) > dt.datetime.now(dt.UTC)
    second = await write(
        hospital, "AppointmentService.LockSlot", order_no=number, schedule_id=session.schedule_id, slot_id=slot.slot_id
    )
    assert second.lock.lock_id == first.lock.lock_id
    assert (await schedules(hospital, schedule_id=session.schedule_id))[0].free_count == before - 1
    await write(
        hospital, "AppointmentService.UnlockSlot", order_no=number, lock_id=first.lock.lock_id, slot_id=slot.slot_id
    )
    assert (await schedules(hospital, schedule_id=session.schedule_id))[0].free_count == before
    await write(hospital, "AppointmentService.UnlockSlot", order_no=number)


async def test_a_number_is_never_given_twice(hospital: Hospital) -> None:
    """Many patients on one session at once: exactly as many orders as there were numbers, the rest refused."""
    session = await open_schedule(hospital, skip=3)
    slots = (await read(hospital, "CatalogService.ListSlots", schedule_id=session.schedule_id, free_only=True)).slots
    free = sum(s.free_count for s in slots)
    patients = [await patient(hospital) for _ in range(free + 5)]
    targets = [s.slot_id for s in slots for _ in range(s.free_count)]
    targets += targets[:5]

    async def book(who: patient_pb2.Patient, slot_id: str) -> int:
        number = order_no()
        while True:
            try:
                await write(
                    hospital,
                    "AppointmentService.BookAppointment",
                    order_no=number,
                    patient_id=who.patient_id,
                    schedule_id=session.schedule_id,
                    slot_id=slot_id,
                )
            except HisBusy:  # nothing was changed: what any caller does is send it again
                continue
            except HisRefused as error:
                assert error.reason in (R.REASON_SLOT_TAKEN, R.REASON_NO_SLOT_LEFT)
                return 0
            return 1

    done = await asyncio.gather(*(book(w, t) for w, t in zip(patients, targets, strict=True)))
    assert sum(done) == free
    assert (await schedules(hospital, schedule_id=session.schedule_id))[0].free_count == 0


async def test_a_stopped_session_says_so(hospital: Hospital) -> None:
    session = await open_schedule(hospital, skip=4)
    hospital.window.suspend_schedule(session.schedule_id, operator="0931", reason="医生外出会诊")
    listed = (
        await read(
            hospital,
            "CatalogService.ListSuspensions",
            from_date=date(hospital.today),
            to_date=date(hospital.today + dt.timedelta(days=14)),
        )
    ).suspensions
    mine = [s.schedule for s in listed if s.schedule.schedule_id == session.schedule_id]
    assert mine[0].state == State.SCHEDULE_STATE_SUSPENDED
    silent = hospital.name in SILENT_STOP
    assert mine[0].suspend_reason == ("" if silent else "医生外出会诊")
    assert mine[0].operator_id == ("" if silent else "0931")
    assert (await schedules(hospital, schedule_id=session.schedule_id))[0].state == State.SCHEDULE_STATE_SUSPENDED


async def test_a_refused_payment_leaves_the_order_as_it_was(hospital: Hospital) -> None:
    order = await booked(hospital, schedule=await open_schedule(hospital, skip=5))
    assert await refused(pay(hospital, order, amount_fen=order.total_fen - 1)) == R.REASON_AMOUNT_MISMATCH
    assert (await appointment_of(hospital, order.order_no)) == order
    await pay(hospital, order)
    hospital.window.check_in(order.appointment_id)
    assert (await appointment_of(hospital, order.order_no)).state == State.APPOINTMENT_STATE_CHECKED_IN
    hospital.window.visit(order.appointment_id)
    seen = await appointment_of(hospital, order.order_no)
    assert seen.state == State.APPOINTMENT_STATE_VISITED
    assert await refused(refund(hospital, order)) == R.REASON_ALREADY_VISITED
    assert (await appointment_of(hospital, order.order_no)) == seen


async def test_refunded_by_the_window_is_refunded(hospital: Hospital) -> None:
    order = await booked(hospital, schedule=await open_schedule(hospital, skip=6))
    await pay(hospital, order)
    hospital.window.refund(order.appointment_id, operator="0932")
    seen = (await read(hospital, "AppointmentService.GetAppointment", order_no=order.order_no)).appointment
    assert seen.state == State.APPOINTMENT_STATE_REFUNDED
    assert seen.operator_id == "0932"
    assert seen.refunded_fen == order.total_fen
    assert seen.out_refund_no == ""
    assert await refused(refund(hospital, order)) == R.REASON_ALREADY_REFUNDED


async def test_a_hold_that_ran_out_is_free_again(hospital: Hospital) -> None:
    """The end that LockSlot tells is the HIS's own; after it the number is for others, and counted as free."""
    session = await open_schedule(hospital, skip=6)
    slot = await free_slot(hospital, session.schedule_id)
    number, before = order_no(), (await schedules(hospital, schedule_id=session.schedule_id))[0].free_count
    held = (await lock(hospital, session.schedule_id, slot.slot_id, number)).lock
    left = held.expire_time.ToDatetime(dt.UTC) - dt.datetime.now(dt.UTC)
    assert dt.timedelta(minutes=9) < left <= dt.timedelta(minutes=10, seconds=2)
    assert (await schedules(hospital, schedule_id=session.schedule_id))[0].free_count == before - 1
    pass_time(hospital, order=number)
    assert (await schedules(hospital, schedule_id=session.schedule_id))[0].free_count == before
    other = await booked(hospital, schedule=session)
    assert other.state == State.APPOINTMENT_STATE_BOOKED
    who = await patient(hospital)
    late = book(hospital, session.schedule_id, slot.slot_id, who.patient_id, number, lock_id=held.lock_id)
    assert await refused(late) == R.REASON_LOCK_EXPIRED
    assert (await schedules(hospital, schedule_id=session.schedule_id))[0].free_count == before - 1
    again = (
        await lock(hospital, session.schedule_id, (await free_slot(hospital, session.schedule_id)).slot_id, number)
    ).lock
    assert again.lock_id


async def test_a_booking_that_registers(hospital: Hospital) -> None:
    """预约即挂号: the registration is there with the booking, unpaid; paying settles it, cancelling makes its red row. A vendor
    without it registers on payment."""
    if "booking_registers" not in TABLES[hospital.name].rules:
        await registers_on_payment(hospital)
        return
    rule(hospital, "booking_registers", on=True)
    try:
        session = await open_schedule(hospital, skip=8)
        before = (await schedules(hospital, schedule_id=session.schedule_id))[0].free_count
        first, second, third = [await booked(hospital, schedule=session) for _ in range(3)]
        for order in (first, second, third):
            assert (order.state, order.paid_fen) == (State.APPOINTMENT_STATE_BOOKED, 0)
            assert order.visit_no
        with pytest.raises(WindowRefusal, match="未缴费"):
            hospital.window.check_in(first.appointment_id)
        with pytest.raises(WindowRefusal, match="未缴费"):
            hospital.window.refund(first.appointment_id, operator="0931")
        assert await refused(refund(hospital, first)) == R.REASON_NOT_PAID
        paid = (await pay(hospital, first)).appointment
        assert (paid.state, paid.visit_no) == (State.APPOINTMENT_STATE_PAID, first.visit_no)
        done = await insured.register(hospital, second)
        assert (done.state, done.visit_no) == (State.APPOINTMENT_STATE_PAID, second.visit_no)
        await refund(hospital, first)
        await insured.red(hospital, second)
        await write(hospital, "AppointmentService.CancelAppointment", order_no=third.order_no)
        assert (await appointment_of(hospital, third.order_no)).state == State.APPOINTMENT_STATE_CANCELLED
        at_window = await booked(hospital, schedule=session)
        hospital.window.cancel_booking(at_window.appointment_id, operator="0931")
        assert (await appointment_of(hospital, at_window.order_no)).operator_id == "0931"
        assert (await schedules(hospital, schedule_id=session.schedule_id))[0].free_count == before
    finally:
        rule(hospital, "booking_registers", on=False)


async def registers_on_payment(hospital: Hospital) -> None:
    """Booked: no visit number, nothing for the window to take or give back. Paid: it has one, and keeps it; 医保 the same."""
    session = await open_schedule(hospital, skip=8)
    first, second, third = [await booked(hospital, schedule=session) for _ in range(3)]
    for order in (first, second, third):
        assert (order.state, order.visit_no, order.paid_fen) == (State.APPOINTMENT_STATE_BOOKED, "", 0)
    with pytest.raises(WindowRefusal):
        hospital.window.check_in(first.appointment_id)
    with pytest.raises(WindowRefusal):
        hospital.window.refund(first.appointment_id, operator="0931")
    assert await refused(refund(hospital, first)) == R.REASON_NOT_PAID
    paid = (await pay(hospital, first)).appointment
    done = await insured.register(hospital, second)
    assert paid.visit_no
    assert done.visit_no
    assert paid.visit_no != done.visit_no
    assert (await refund(hospital, first)).appointment.visit_no == paid.visit_no
    assert (await insured.red(hospital, second)).visit_no == done.visit_no
    await write(hospital, "AppointmentService.CancelAppointment", order_no=third.order_no)
    assert (await appointment_of(hospital, third.order_no)).visit_no == ""


HOSTILE = [
    "'; DROP TABLE SCH_APPT; --",
    '" OR 1=1 --',
    "100%",
    ":order_no",
    "%s %(x)s",
    "\\'",
    "a\tb",
    "𠅤㛃",
    "x" * 64,
    "?",
    "{0}",
    "--",
    "/*",
]


@pytest.mark.parametrize("text", HOSTILE)
async def test_hostile_text_is_only_text(hospital: Hospital, text: str) -> None:
    """Binds only: hostile order numbers, names and notes come back as they went in, or find nothing; no table is harmed."""
    assert (
        await refused(read(hospital, "AppointmentService.GetAppointment", order_no=text))
        == R.REASON_APPOINTMENT_NOT_FOUND
    )
    assert not (await read(hospital, "PatientService.FindPatients", document_no=text)).patients
    assert not (await read(hospital, "CatalogService.ListDoctors", department_id=text)).doctors
    session = await open_schedule(hospital, skip=7)
    slot = await free_slot(hospital, session.schedule_id)
    locking = write(
        hospital, "AppointmentService.LockSlot", order_no=text, schedule_id=session.schedule_id, slot_id=slot.slot_id
    )
    if len(text) > ORDER_NO_LENGTH.get(hospital.name, 64):
        assert await refused(locking) == R.REASON_INVALID_REQUEST
    else:
        assert (await locking).lock.lock_id
    await write(hospital, "AppointmentService.UnlockSlot", order_no=text)
    assert await schedules(hospital)


async def test_an_order_of_another_channel_is_not_ours(hospital: Hospital) -> None:
    """WeChat and kiosk orders have numbers too: the platform can neither read nor cancel them by number."""
    mine = {o.his_id for o in hospital.window.orders(channel_only=True, limit=10_000)}
    others = [
        o
        for o in hospital.window.orders(channel_only=False, limit=10_000)
        if o.platform_order_no and o.his_id not in mine
    ]
    for other in others[:3]:
        number = other.platform_order_no
        assert (
            await refused(read(hospital, "AppointmentService.GetAppointment", order_no=number))
            == R.REASON_APPOINTMENT_NOT_FOUND
        )
