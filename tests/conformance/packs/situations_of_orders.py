"""How a HIS is brought into the situations of `reasons.py`, and the call that it refuses: holding, booking, cancelling."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from google.type import date_pb2
from his160.v1 import common_pb2

from tests.conformance.packs.hospital import (
    Hospital,
    book,
    booked,
    cancel,
    free_slot,
    lock,
    open_schedule,
    open_schedules,
    order_no,
    patient,
    pay,
    read,
    write,
)
from tests.conformance.packs.tables import TABLES, pass_time, rule, run

Act = Callable[[Hospital], Awaitable[Any]]
ACTS: dict[str, Act] = {}
OPERATOR = "0931"


def act(function: Act) -> Act:
    ACTS[function.__name__] = function
    return function


STOPPED: list[str] = []
"""Sessions that a situation has stopped."""
GONE: list[str] = []
"""Orders whose session a situation has put out of sight."""


# ------------------------------------------------------------------------------------------------ holding and booking


@act
async def no_session(h: Hospital) -> None:
    slot = "999999" if h.name.startswith("winning") else "20300101.1.1.1"
    await lock(h, slot, slot, order_no())


@act
async def no_slot(h: Hospital) -> None:
    session = await open_schedule(h)
    await lock(h, session.schedule_id, "999999", order_no())


def stop(h: Hospital, schedule_id: str) -> None:
    h.window.suspend_schedule(schedule_id, operator=OPERATOR, reason="医生病假")
    STOPPED.append(schedule_id)


@act
async def stopped_lock(h: Hospital) -> None:
    session = await open_schedule(h)
    slot = await free_slot(h, session.schedule_id)
    stop(h, session.schedule_id)
    await lock(h, session.schedule_id, slot.slot_id, order_no())


@act
async def stopped_book(h: Hospital) -> None:
    session = await open_schedule(h)
    slot = await free_slot(h, session.schedule_id)
    who = await patient(h)
    stop(h, session.schedule_id)
    await book(h, session.schedule_id, slot.slot_id, who.patient_id, order_no())


@act
async def stopped_pay(h: Hospital) -> None:
    order = await booked(h)
    stop(h, order.schedule_id)
    await pay(h, order)


@act
async def past_session(h: Hospital) -> None:
    session = await open_schedule(h)
    slot = await free_slot(h, session.schedule_id)
    pass_time(h, days=30)
    await lock(h, session.schedule_id, slot.slot_id, order_no())


@act
async def held_by_other(h: Hospital) -> None:
    session = await open_schedule(h)
    slot = await free_slot(h, session.schedule_id)
    await lock(h, session.schedule_id, slot.slot_id, order_no())
    await lock(h, session.schedule_id, slot.slot_id, order_no())


@act
async def booked_by_other(h: Hospital) -> None:
    order = await booked(h)
    who = await patient(h)
    await book(h, order.schedule_id, order.slot_id, who.patient_id, order_no())


@act
async def none_left(h: Hospital) -> None:
    session = min(await open_schedules(h, free=1), key=lambda s: s.free_count)
    slots = (await read(h, "CatalogService.ListSlots", schedule_id=session.schedule_id, free_only=True)).slots
    for slot in slots:
        for _ in range(slot.free_count):
            await lock(h, session.schedule_id, slot.slot_id, order_no())
    await lock(h, session.schedule_id, slots[0].slot_id, order_no())


@act
async def hold_ran_out(h: Hospital) -> None:
    session = await open_schedule(h)
    slot, who, number = await free_slot(h, session.schedule_id), await patient(h), order_no()
    held = await lock(h, session.schedule_id, slot.slot_id, number, patient_id=who.patient_id)
    pass_time(h, order=number)
    await book(h, session.schedule_id, slot.slot_id, who.patient_id, number, lock_id=held.lock.lock_id)


@act
async def no_patient(h: Hospital) -> None:
    session = await open_schedule(h)
    slot = await free_slot(h, session.schedule_id)
    await book(h, session.schedule_id, slot.slot_id, "99999999", order_no())


@act
async def other_name(h: Hospital) -> None:
    who = await patient(h)
    await write(
        h, "PatientService.EnsurePatient", name="别的名字", document_type="01", document_no=who.document_no,
        mobile="12600000000", sex="1", birthday=date_pb2.Date(year=1990, month=1, day=1),
    )  # fmt: skip


@act
async def no_show(h: Hospital) -> None:
    who = await patient(h)
    run(h, TABLES[h.name].blocked, patient=who.patient_id)
    await booked(h, patient_id=who.patient_id)


@act
async def arrears(h: Hospital) -> None:
    who = await patient(h)
    run(h, TABLES[h.name].in_arrears, patient=who.patient_id)
    await booked(h, patient_id=who.patient_id)


@act
async def same_session(h: Hospital) -> None:
    order = await booked(h)
    slot = await free_slot(h, order.schedule_id)
    await book(h, order.schedule_id, slot.slot_id, order.patient_id, order_no())


@act
async def same_day(h: Hospital) -> None:
    rule(h, "one_a_day", on=True)
    for first in (found := await open_schedules(h, free=1)):
        for second in found:
            alike = (first.department_id, first.visit_date) == (second.department_id, second.visit_date)
            if alike and first.schedule_id != second.schedule_id:
                order = await booked(h, schedule=first)
                await booked(h, schedule=second, patient_id=order.patient_id)
    raise AssertionError("the sample has no two sessions of one department and day")


@act
async def order_no_used(h: Hospital) -> None:
    order = await booked(h)
    slot, who = await free_slot(h, order.schedule_id), await patient(h)
    await book(h, order.schedule_id, slot.slot_id, who.patient_id, order.order_no)


@act
async def order_no_long(h: Hospital) -> None:
    session = await open_schedule(h)
    slot = await free_slot(h, session.schedule_id)
    await lock(h, session.schedule_id, slot.slot_id, "T" * 64)


@act
async def lock_no_used(h: Hospital) -> None:
    first, second = (await open_schedules(h, free=1))[:2]
    slot, other, number = await free_slot(h, first.schedule_id), await free_slot(h, second.schedule_id), order_no()
    await lock(h, first.schedule_id, slot.slot_id, number)
    await lock(h, second.schedule_id, other.slot_id, number)


@act
async def lock_cancelled(h: Hospital) -> None:
    order = await cancelled(h)
    slot = await free_slot(h, order.schedule_id)
    await lock(h, order.schedule_id, slot.slot_id, order.order_no)


@act
async def book_cancelled(h: Hospital) -> None:
    order = await cancelled(h)
    slot = await free_slot(h, order.schedule_id)
    await book(h, order.schedule_id, slot.slot_id, order.patient_id, order.order_no)


@act
async def book_no_session(h: Hospital) -> None:
    slot = "999999" if h.name.startswith("winning") else "20300101.1.1.1"
    await book(h, slot, slot, (await patient(h)).patient_id, order_no())


@act
async def book_no_slot(h: Hospital) -> None:
    session = await open_schedule(h)
    await book(h, session.schedule_id, "999999", (await patient(h)).patient_id, order_no())


@act
async def book_past(h: Hospital) -> None:
    session = await open_schedule(h)
    slot, who = await free_slot(h, session.schedule_id), await patient(h)
    pass_time(h, days=30)
    await book(h, session.schedule_id, slot.slot_id, who.patient_id, order_no())


@act
async def patient_blank(h: Hospital) -> None:
    await write(
        h, "PatientService.EnsurePatient", name="", document_type="01", document_no="11010519491231002X", sex="2"
    )


@act
async def unlock_booked(h: Hospital) -> None:
    order = await booked(h)
    await write(h, "AppointmentService.UnlockSlot", order_no=order.order_no, slot_id=order.slot_id)


# --------------------------------------------------------------------------------------------------------- cancelling


@act
async def no_order(h: Hospital) -> None:
    await read(h, "AppointmentService.GetAppointment", order_no="nothing")


@act
async def cancel_nothing(h: Hospital) -> None:
    await cancel(h, "nothing")


async def cancelled(h: Hospital) -> common_pb2.Appointment:
    order = await booked(h)
    h.window.cancel_booking(order.appointment_id, operator=OPERATOR)
    return order


@act
async def cancel_cancelled(h: Hospital) -> None:
    await cancel(h, (await cancelled(h)).order_no)


async def paid(h: Hospital) -> common_pb2.Appointment:
    order = await booked(h)
    await pay(h, order)
    return order


@act
async def cancel_paid(h: Hospital) -> None:
    await cancel(h, (await paid(h)).order_no)


async def taken(h: Hospital) -> common_pb2.Appointment:
    order = await paid(h)
    h.window.check_in(order.appointment_id)
    return order


@act
async def cancel_taken(h: Hospital) -> None:
    await cancel(h, (await taken(h)).order_no)


async def visited(h: Hospital) -> common_pb2.Appointment:
    order = await taken(h)
    h.window.visit(order.appointment_id)
    return order


@act
async def cancel_seen(h: Hospital) -> None:
    await cancel(h, (await visited(h)).order_no)


def gone(h: Hospital, order: common_pb2.Appointment) -> None:
    """The row of the order's session is not there any more, where orders can outlive it."""
    if not TABLES[h.name].gone:
        raise NotImplementedError
    run(h, TABLES[h.name].gone, order=order.order_no)
    GONE.append(order.order_no)


async def refunded(h: Hospital) -> common_pb2.Appointment:
    order = await paid(h)
    h.window.refund(order.appointment_id, operator=OPERATOR)
    return order


@act
async def cancel_refunded(h: Hospital) -> None:
    await cancel(h, (await refunded(h)).order_no)


@act
async def cancel_blank(h: Hospital) -> None:
    await cancel(h, "")


@act
async def cancel_no_session(h: Hospital) -> None:
    order = await booked(h)
    gone(h, order)
    await cancel(h, order.order_no)


@act
async def cancel_late(h: Hospital) -> None:
    order = await booked(h)
    pass_time(h, days=30)
    await cancel(h, order.order_no)
