"""Every pack on its sample HIS: each window action is seen by the watches, as the event that it is."""

from __future__ import annotations

from his160.v1 import event_pb2

from tests.conformance.packs.hospital import (
    SILENT_STOP,
    Hospital,
    State,
    booked,
    changes,
    open_schedule,
    patient,
    pay,
    read,
)


async def test_window_actions_are_seen_as_events(hospital: Hospital) -> None:
    session = await open_schedule(hospital, skip=8)
    unpaid, paid, stays = [await booked(hospital, schedule=session) for _ in range(3)]
    await pay(hospital, paid)
    await pay(hospital, stays)

    [(kind, old, new)] = await changes(
        hospital, "orders", lambda: hospital.window.cancel_booking(unpaid.appointment_id, operator="0931")
    )
    assert kind == event_pb2.EVENT_KIND_CANCELLED
    assert (old.state, new.state) == (State.APPOINTMENT_STATE_BOOKED, State.APPOINTMENT_STATE_CANCELLED)
    assert (new.order_no, new.operator_id) == (unpaid.order_no, "0931")
    assert new.patient_name == ""

    [(kind, old, new)] = await changes(
        hospital, "orders", lambda: hospital.window.refund(paid.appointment_id, operator="0932")
    )
    assert kind == event_pb2.EVENT_KIND_REFUNDED
    assert (old.state, new.state) == (State.APPOINTMENT_STATE_PAID, State.APPOINTMENT_STATE_REFUNDED)
    assert new.refunded_fen == paid.total_fen
    assert new.operator_id == "0932"

    def stop() -> None:
        hospital.window.suspend_schedule(session.schedule_id, operator="0933", reason="停诊")

    seen = await changes(hospital, "orders", stop)
    assert {k for k, _, _ in seen} == {event_pb2.EVENT_KIND_SUSPENDED}
    assert stays.order_no in {n.order_no for _, _, n in seen}
    silent = hospital.name in SILENT_STOP
    assert {n.operator_id for _, _, n in seen} == {"" if silent else "0933"}
    [(kind, old, new)] = await changes(
        hospital, "schedules", lambda: hospital.window.resume_schedule(session.schedule_id, operator="0933")
    )
    assert kind == event_pb2.EVENT_KIND_RESUMED
    [(kind, old, new)] = await changes(hospital, "schedules", stop)
    assert kind == event_pb2.EVENT_KIND_SUSPENDED
    assert new.suspend_reason == ("" if silent else "停诊")
    hospital.window.resume_schedule(session.schedule_id, operator="0933")

    [(kind, _, _)] = await changes(hospital, "orders", lambda: hospital.window.check_in(stays.appointment_id))
    assert kind == event_pb2.EVENT_KIND_CHECKED_IN
    [(kind, _, new)] = await changes(hospital, "orders", lambda: hospital.window.visit(stays.appointment_id))
    assert kind == event_pb2.EVENT_KIND_VISITED
    assert new.state == State.APPOINTMENT_STATE_VISITED


async def test_replaced_doctor_is_seen(hospital: Hospital) -> None:
    session = await open_schedule(hospital, skip=9)
    order = await booked(hospital, schedule=session)
    doctors = (await read(hospital, "CatalogService.ListDoctors")).doctors
    other = next(d for d in doctors if d.doctor_id != session.doctor_id and d.department_id == session.department_id)

    def replace() -> None:
        hospital.window.replace_doctor(session.schedule_id, other.doctor_id, operator="0933")

    seen = await changes(hospital, "orders", replace)
    assert {(k, n.doctor_id) for k, _, n in seen} == {(event_pb2.EVENT_KIND_REPLACED, other.doctor_id)}
    assert order.order_no in {n.order_no for _, _, n in seen}


async def test_half_written_rows_wait(hospital: Hospital) -> None:
    """A row the window has not finished is no order and no event."""
    session = await open_schedule(hospital, skip=10)
    who = await patient(hospital)
    seen = await changes(hospital, "orders", lambda: hospital.window.half_written(session.schedule_id, who.patient_id))
    assert seen == []
