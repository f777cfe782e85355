"""Every pack on its sample HIS: what is mapped, departments, doctors, sessions, slots, patients, 就诊人."""

from __future__ import annotations

import datetime as dt

import pytest
from google.type import date_pb2
from his160.v1 import catalog_pb2, common_pb2

from his_db import contract
from his_db.errors import OperationNotMapped
from tests.conformance.packs.hospital import Hospital, R, date, open_schedule, patient, read, refused, schedules, write


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
    for name in ("GetInsuranceOrder", "RegisterInsured", "CancelInsured", "GetInsuredRegistration"):
        assert f"InsuredRegistrationService.{name}" in hospital.his.generation.operations
    assert "RefundCheckService.CheckRefund" in hospital.his.generation.operations
    assert known["ReportService.ListStatement"].available
    for name in contract.mappable_names():
        if name in known:
            assert known[name].available or len(known[name].note) > 10, name
    missing = {name for name, found in known.items() if name in contract.mappable_names() and not found.available}
    assert missing - {"PatientService.ListVisitors", "PatientService.GetVisitor"} == {
        "PaymentService.CreatePayment",
        "InsuranceService.QuoteInsurance",
        "InsuranceService.SettleInsurance",
        "InsuranceService.ReverseInsurance",
        "InsuranceService.GetInsuranceSettlement",
    }


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
    paged = await schedules(hospital, page_size=7)
    assert paged == await schedules(hospital)
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


async def test_unmapped_operations_say_so(hospital: Hospital) -> None:
    with pytest.raises(OperationNotMapped):
        await read(hospital, "ReportService.ListReports")
    with pytest.raises(OperationNotMapped):
        await write(hospital, "InsuranceService.QuoteInsurance", order_no="x")


async def test_visitors_of_an_account(hospital: Hospital) -> None:
    """The list masks numbers and leaves out what a list does not need; the detail has all; another account sees nothing."""
    if not hospital.his.generation.operations.get("PatientService.ListVisitors"):
        with pytest.raises(OperationNotMapped):
            await read(hospital, "PatientService.ListVisitors", account_id="wx000001")
        return
    account = "wx000001"
    visitors = (await read(hospital, "PatientService.ListVisitors", account_id=account)).visitors
    assert [v.relation for v in visitors] == ["1", "4", "2"]
    assert [v.is_default for v in visitors] == [True, False, False]
    for visitor in visitors:
        shown = visitor.patient
        whole = (
            await read(hospital, "PatientService.GetVisitor", account_id=account, patient_id=shown.patient_id)
        ).visitor
        assert (whole.relation, whole.is_default) == (visitor.relation, visitor.is_default)
        [record] = (await read(hospital, "PatientService.FindPatients", patient_id=shown.patient_id)).patients
        assert whole.patient == record
        assert shown.name == record.name
        for field in ("document_no", "mobile", "card_no"):
            masked, number = getattr(shown, field), getattr(record, field)
            assert len(masked) == len(number)
            assert masked == number[:3] + "*" * (len(number) - 6) + number[-3:]
        left_out = (shown.HasField("birthday"), shown.address, shown.guardian_name, shown.guardian_document_no)
        assert not any(left_out)
    page = await read(hospital, "PatientService.ListVisitors", account_id=account, page_size=2)
    rest = await read(
        hospital, "PatientService.ListVisitors", account_id=account, page_size=2, page_token=page.next_page_token
    )
    assert [*page.visitors, *rest.visitors] == list(visitors)
    assert not (await read(hospital, "PatientService.ListVisitors", account_id="' OR 1=1 --")).visitors
    other = read(
        hospital, "PatientService.GetVisitor", account_id="wx000002", patient_id=visitors[0].patient.patient_id
    )
    assert await refused(other) == R.REASON_PATIENT_NOT_FOUND
