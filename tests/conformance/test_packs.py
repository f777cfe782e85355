"""Every pack on its sample HIS: every operation of step 1, every refusal the sample can give, every window action seen by the watches.

One suite for all packs. It speaks the contract only; what a HIS calls things stays in the mapping.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.type import date_pb2
from his160.v1 import (
    appointment_pb2,
    catalog_pb2,
    common_pb2,
    event_pb2,
    patient_pb2,
    payment_pb2,
    reason_pb2,
)

from his_db import contract
from his_db.access import HisAccess
from his_db.errors import HisBusy, HisRefused, OperationNotMapped
from his_db.generation import compile_generation
from his_db.mapping.load import load_mapping_set
from his_db.registry import LIVE_SAMPLES, SAMPLES, load_sample
from his_db.sample import SMALL, WindowProgram, hospital_now
from his_db.source import Source, settings_from_url
from tests.servers import MariadbServer, opted_in, url_of

ROOT = Path(__file__).resolve().parents[2]
ZONE = "Asia/Shanghai"
SILENT_STOP = {"bsoft"}  # its 停诊 is one flag: no operator, no reason
ORDER_NO_LENGTH = {"bsoft": 32}  # longer order numbers do not fit its column and are refused, never cut
R = reason_pb2
State = common_pb2


@dataclass(slots=True)
class Hospital:
    name: str
    url: str
    his: HisAccess
    window: WindowProgram
    today: dt.date


@pytest.fixture(scope="module", params=[*sorted(SAMPLES), *sorted(LIVE_SAMPLES)])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, opted_in_servers: ExitStack
) -> tuple[str, str]:
    """A fresh sample HIS, small, for this module; SQL Server and Oracle where the url of a server is given."""
    sample = load_sample(request.param)
    if sample.engine == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('his') / 'his.db'}"
    elif sample.engine == "mysql":
        url = request.getfixturevalue("mariadb_module_url")
    elif request.param in LIVE_SAMPLES:
        url = url_of(opted_in_servers.enter_context(opted_in(sample.engine)))
    else:
        at = request.getfixturevalue("postgresql_module_database")
        secret = f":{at.password}" if at.password else ""
        url = f"postgresql+psycopg://{at.user}{secret}@{at.host}:{at.port}/{at.database}"
    sample.create(url, today=hospital_now().date(), size=SMALL)
    return request.param, url


@pytest.fixture(scope="module")
def opted_in_servers() -> Iterator[ExitStack]:
    """Holds what the opt-in suite made on servers, until the module is done."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def mariadb_module_url(mariadb_server: MariadbServer) -> Iterator[str]:
    """One fresh MariaDB database for the module, as the url that a sample takes."""
    with mariadb_server.database() as at:
        secret = f":{at.password}" if at.password else ""
        yield f"mysql+pymysql://{at.user}{secret}@{at.host}:{at.port or 3306}/{at.database}"


@pytest.fixture
async def hospital(site: tuple[str, str]) -> AsyncIterator[Hospital]:
    name, url = site
    sample = load_sample(name)
    source = Source(settings_from_url("his", url), None)
    mapping = load_mapping_set(
        ROOT / "his_db" / "packs" / sample.name / sample.mappings, sources={"his": sample.engine}, timezone=ZONE
    )
    his = HisAccess({"his": source}, compile_generation(mapping))
    window = sample.window(url)
    try:
        yield Hospital(name, url, his, window, hospital_now().date())
    finally:
        window.close()
        await source.close()


def date(day: dt.date) -> date_pb2.Date:
    return date_pb2.Date(year=day.year, month=day.month, day=day.day)


def order_no() -> str:
    return "T" + uuid.uuid4().hex[:20]


def key() -> str:
    return uuid.uuid4().hex


async def read(h: Hospital, operation: str, **fields: Any) -> Any:
    return await h.his.read(operation, contract.operation(operation).request_class(**fields))


async def write(h: Hospital, operation: str, **fields: Any) -> Any:
    request = contract.operation(operation).request_class(request_id=key(), **fields)
    return await h.his.write(operation, request, key=request.request_id)


async def schedules(h: Hospital, **more: Any) -> list[common_pb2.Schedule]:
    found: list[common_pb2.Schedule] = []
    token = ""
    while True:
        answer = await read(
            h,
            "CatalogService.ListSchedules",
            from_date=date(h.today),
            to_date=date(h.today + dt.timedelta(days=14)),
            page_size=7,
            page_token=token,
            **more,
        )
        found.extend(answer.schedules)
        token = answer.next_page_token
        if not token:
            return found


async def open_schedule(h: Hospital, *, skip: int = 0) -> common_pb2.Schedule:
    """A session of a later day that has at least five free numbers."""
    later = [
        s
        for s in await schedules(h)
        if s.state == State.SCHEDULE_STATE_OPEN
        and s.free_count >= 5
        and dt.date(s.visit_date.year, s.visit_date.month, s.visit_date.day) > h.today
    ]
    return later[skip % len(later)]


async def free_slot(h: Hospital, schedule_id: str) -> catalog_pb2.Slot:
    answer = await read(h, "CatalogService.ListSlots", schedule_id=schedule_id, free_only=True)
    return answer.slots[0]


async def patient(h: Hospital) -> patient_pb2.Patient:
    """A new patient with a valid fictional document number."""
    number = int(uuid.uuid4().hex[:6], 16)
    body = f"440305{1960 + number % 40}{1 + number % 12:02d}{1 + number % 28:02d}{number % 1000:03d}"
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    full = body + "10X98765432"[sum(int(c) * w for c, w in zip(body, weights, strict=True)) % 11]
    answer = await write(
        h,
        "PatientService.EnsurePatient",
        name=f"测试{number}",
        document_type="01",
        document_no=full,
        mobile="12600000000",
        sex="1" if int(full[16]) % 2 else "2",
        birthday=date_pb2.Date(year=int(full[6:10]), month=int(full[10:12]), day=int(full[12:14])),
    )
    assert answer.created
    found = patient_pb2.Patient()
    found.CopyFrom(answer.patient)
    found.document_no = full
    return found


async def booked(h: Hospital, *, schedule: common_pb2.Schedule | None = None) -> common_pb2.Appointment:
    session = schedule or await open_schedule(h)
    slot = await free_slot(h, session.schedule_id)
    who = await patient(h)
    number = order_no()
    await write(
        h,
        "AppointmentService.LockSlot",
        order_no=number,
        schedule_id=session.schedule_id,
        slot_id=slot.slot_id,
        patient_id=who.patient_id,
    )
    answer = await write(
        h,
        "AppointmentService.BookAppointment",
        order_no=number,
        patient_id=who.patient_id,
        schedule_id=session.schedule_id,
        slot_id=slot.slot_id,
    )
    return answer.appointment


async def pay(h: Hospital, order: common_pb2.Appointment, **more: Any) -> payment_pb2.ConfirmPaymentResponse:
    fields: dict[str, Any] = {
        "order_no": order.order_no,
        "out_trade_no": "M" + order.order_no,
        "transaction_id": "W" + order.order_no,
        "amount_fen": order.total_fen,
        "method": common_pb2.PAYMENT_METHOD_WECHAT,
    }
    fields.update(more)
    request = payment_pb2.ConfirmPaymentRequest(request_id=key(), **fields)
    request.pay_time.FromDatetime(dt.datetime.now(dt.UTC))
    answer = await h.his.write("PaymentService.ConfirmPayment", request, key=request.request_id)
    assert isinstance(answer, payment_pb2.ConfirmPaymentResponse)
    return answer


async def refund(h: Hospital, order: common_pb2.Appointment, **more: Any) -> Any:
    fields: dict[str, Any] = {
        "order_no": order.order_no,
        "out_trade_no": "M" + order.order_no,
        "out_refund_no": "R" + order.order_no,
        "amount_fen": order.total_fen,
        "note": "患者改期",
    }
    fields.update(more)
    return await write(h, "PaymentService.RefundPayment", **fields)


async def refused(awaitable: Any) -> int:
    with pytest.raises(HisRefused) as caught:
        await awaitable
    return caught.value.reason


def test_every_operation_of_the_contract_is_mapped_or_said_to_be_unsupported(hospital: Hospital) -> None:
    known = {c.operation: c for c in hospital.his.generation.capabilities()}
    assert set(known) == set(contract.operation_names())
    for name in [
        "CatalogService.ListDepartments",
        "CatalogService.ListDoctors",
        "CatalogService.ListSchedules",
        "CatalogService.ListSlots",
        "CatalogService.ListSuspensions",
        "PatientService.FindPatients",
        "PatientService.EnsurePatient",
        "AppointmentService.LockSlot",
        "AppointmentService.UnlockSlot",
        "AppointmentService.BookAppointment",
        "AppointmentService.CancelAppointment",
        "AppointmentService.GetAppointment",
        "AppointmentService.ListAppointments",
        "PaymentService.ConfirmPayment",
        "PaymentService.GetPayment",
        "PaymentService.RefundPayment",
        "PaymentService.GetRefund",
    ]:
        assert known[name].available, name
    assert not known["PaymentService.CreatePayment"].available
    assert known["PaymentService.CreatePayment"].note


async def test_catalog(hospital: Hospital) -> None:
    departments = (await read(hospital, "CatalogService.ListDepartments")).departments
    assert len(departments) >= 3
    assert all(d.name == d.name.strip() and d.department_id == d.department_id.strip() for d in departments)
    doctors = (await read(hospital, "CatalogService.ListDoctors")).doctors
    assert len(doctors) >= 7
    of_one = (await read(hospital, "CatalogService.ListDoctors", department_id=departments[0].department_id)).doctors
    assert {d.department_id for d in of_one} <= {departments[0].department_id}
    assert await read(hospital, "CatalogService.ListDoctors", department_id="nope") == catalog_pb2.ListDoctorsResponse()


async def test_lists_page_without_gap_or_repeat(hospital: Hospital) -> None:
    paged = await schedules(hospital)
    whole = (
        await read(
            hospital,
            "CatalogService.ListSchedules",
            from_date=date(hospital.today),
            to_date=date(hospital.today + dt.timedelta(days=14)),
            page_size=1000,
        )
    ).schedules
    assert [s.schedule_id for s in paged] == [s.schedule_id for s in whole]
    assert len({s.schedule_id for s in paged}) == len(paged) > 7
    for s in paged:
        assert s.fee_fen > 0
        assert 0 <= s.free_count <= s.total_count
        assert s.period != common_pb2.PERIOD_UNSPECIFIED
    one = await schedules(hospital, schedule_id=paged[0].schedule_id)
    assert [s.schedule_id for s in one] == [paged[0].schedule_id]


async def test_slots_agree_with_the_session(hospital: Hospital) -> None:
    session = await open_schedule(hospital)
    answer = await read(hospital, "CatalogService.ListSlots", schedule_id=session.schedule_id)
    assert sum(s.free_count for s in answer.slots) == session.free_count
    assert all(s.schedule_id == session.schedule_id for s in answer.slots)


async def test_ensure_patient_finds_before_it_creates(hospital: Hospital) -> None:
    who = await patient(hospital)
    again = await write(
        hospital,
        "PatientService.EnsurePatient",
        name=who.name,
        document_type="01",
        document_no=who.document_no.lower(),
        mobile="12600000000",
        sex="1",
        birthday=date_pb2.Date(year=1970, month=1, day=1),
    )
    assert not again.created
    assert again.patient.patient_id == who.patient_id
    other = write(
        hospital,
        "PatientService.EnsurePatient",
        name="别的名字",
        document_type="01",
        document_no=who.document_no,
        mobile="12600000000",
        sex="1",
    )
    assert await refused(other) == R.REASON_PATIENT_NAME_MISMATCH
    found = (await read(hospital, "PatientService.FindPatients", document_no=who.document_no)).patients
    assert [p.patient_id for p in found] == [who.patient_id]
    assert found[0].sex in ("1", "2")
    by_id = (await read(hospital, "PatientService.FindPatients", patient_id=who.patient_id)).patients
    assert [p.name for p in by_id] == [who.name]
    assert not (
        await read(hospital, "PatientService.FindPatients", document_no="440524188001010014", name="查无此人")
    ).patients


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
    row = next(o for o in hospital.window.orders(channel_only=True, limit=500) if o.platform_order_no == order.order_no)
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


async def test_refusals_of_booking(hospital: Hospital) -> None:
    session = await open_schedule(hospital, skip=4)
    slot = await free_slot(hospital, session.schedule_id)
    order = await booked(hospital, schedule=session)
    duplicate = write(
        hospital,
        "AppointmentService.BookAppointment",
        order_no=order_no(),
        patient_id=order.patient_id,
        schedule_id=session.schedule_id,
        slot_id=(await free_slot(hospital, session.schedule_id)).slot_id,
    )
    assert await refused(duplicate) == R.REASON_DUPLICATE_APPOINTMENT
    nobody = write(
        hospital,
        "AppointmentService.BookAppointment",
        order_no=order_no(),
        patient_id="99999999",
        schedule_id=session.schedule_id,
        slot_id=(await free_slot(hospital, session.schedule_id)).slot_id,
    )
    assert await refused(nobody) == R.REASON_PATIENT_NOT_FOUND
    hospital.window.suspend_schedule(session.schedule_id, operator="0931", reason="医生外出会诊")
    stopped = write(
        hospital,
        "AppointmentService.LockSlot",
        order_no=order_no(),
        schedule_id=session.schedule_id,
        slot_id=slot.slot_id,
    )
    assert await refused(stopped) == R.REASON_SCHEDULE_SUSPENDED
    assert await refused(pay(hospital, order)) == R.REASON_SCHEDULE_SUSPENDED
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


async def test_refusals_of_payment_and_refund(hospital: Hospital) -> None:
    session = await open_schedule(hospital, skip=5)
    order = await booked(hospital, schedule=session)
    assert await refused(refund(hospital, order)) in (R.REASON_NOT_PAID, R.REASON_PAYMENT_NOT_FOUND)
    assert await refused(pay(hospital, order, amount_fen=order.total_fen - 1)) == R.REASON_AMOUNT_MISMATCH
    state = (await read(hospital, "AppointmentService.GetAppointment", order_no=order.order_no)).appointment.state
    assert state == State.APPOINTMENT_STATE_BOOKED
    await pay(hospital, order)
    assert await refused(pay(hospital, order, out_trade_no="M2" + order.order_no)) == R.REASON_ALREADY_PAID
    assert (
        await refused(write(hospital, "AppointmentService.CancelAppointment", order_no=order.order_no))
        == R.REASON_ALREADY_PAID
    )
    assert await refused(refund(hospital, order, amount_fen=order.total_fen - 100)) == R.REASON_PARTIAL_REFUND_REFUSED
    hospital.window.check_in(order.appointment_id)
    seen = (await read(hospital, "AppointmentService.GetAppointment", order_no=order.order_no)).appointment
    assert seen.state == State.APPOINTMENT_STATE_CHECKED_IN
    hospital.window.visit(order.appointment_id)
    assert await refused(refund(hospital, order)) == R.REASON_ALREADY_VISITED


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


@pytest.mark.parametrize(
    ("operation", "fields", "reason"),
    [
        ("AppointmentService.GetAppointment", {"order_no": "nothing"}, R.REASON_APPOINTMENT_NOT_FOUND),
        ("PaymentService.GetPayment", {"out_trade_no": "nothing"}, R.REASON_PAYMENT_NOT_FOUND),
        ("PaymentService.GetRefund", {"out_refund_no": "nothing"}, R.REASON_REFUND_NOT_FOUND),
    ],
)
async def test_nothing_found_has_its_reason(
    hospital: Hospital, operation: str, fields: dict[str, str], reason: int
) -> None:
    assert await refused(read(hospital, operation, **fields)) == reason


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


async def changes(h: Hospital, name: str, action: Any) -> list[tuple[int, Any, Any]]:
    """(event kind, before, after) of what one window action changes in a stream."""
    watch = h.his.watch(name)
    before = dict((await h.his.snapshot(name)).rows)
    action()
    after = dict((await h.his.snapshot(name)).rows)
    found = []
    for row_key, row in after.items():
        if before.get(row_key) == row:
            continue
        old = watch.build(before[row_key]) if row_key in before else None
        new = watch.build(row)
        kind = next((rule.kind for rule in watch.rules if rule.matches(old, new)), None)
        if kind is not None:
            found.append((kind, old, new))
    return found


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


async def test_unmapped_operations_say_so(hospital: Hospital) -> None:
    with pytest.raises(OperationNotMapped):
        await read(hospital, "ReportService.ListReports")
    with pytest.raises(OperationNotMapped):
        await write(hospital, "InsuranceService.QuoteInsurance", order_no="x")


def test_appointment_request_names_exist() -> None:
    """The suite speaks the contract: a renamed request would fail here first."""
    assert appointment_pb2.LockSlotRequest.DESCRIPTOR.fields_by_name["slot_id"].number == 4


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
