"""What was given to others is on record: who, what, how often, of how many, which fields; never a value."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from his160.v1 import catalog_pb2, event_pb2, patient_pb2, report_pb2

from sync.audit import Audit
from sync.audit_chain import AuditRow
from sync.provided import ACTION, Provided
from sync.store import Store, open_store

NOW = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)
RELAY = "relay/160"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = open_store(tmp_path / "state.db", lambda: NOW)
    yield opened
    await opened.close()


@pytest.fixture
def audit(store: Store) -> Audit:
    return Audit(store, lambda: NOW, instance="a")


async def written(audit: Audit, provided: Provided) -> list[AuditRow]:
    provided.note()
    await audit.flush()
    return list(await audit.newest(1000, action=ACTION))


def patients(*names: str) -> patient_pb2.FindPatientsResponse:
    answer = patient_pb2.FindPatientsResponse()
    for name in names:
        answer.patients.add(patient_id="1", name=name, document_type="01", document_no="11010119900101001X")
    return answer


async def test_answers_with_personal_values_are_counted(audit: Audit) -> None:
    provided = Provided(audit)
    provided.answered(RELAY, "PatientService.FindPatients", patients("欧阳娜", "李四"))
    provided.answered(RELAY, "PatientService.FindPatients", patients("王五"))
    provided.answered(RELAY, "PatientService.FindPatients", patients())  # nobody was found: nothing was given
    provided.answered(RELAY, "CatalogService.ListDoctors", catalog_pb2.ListDoctorsResponse())
    provided.answered("operator/1", "PatientService.FindPatients", patients("王五"))
    one, other = await written(audit, provided)
    assert (one.entry.actor, one.entry.target) == (RELAY, "PatientService.FindPatients")
    said = json.loads(one.entry.parameters)
    assert (said["calls"], said["records"], said["fields"]) == (2, 3, ["document_no", "name"])
    assert other.entry.actor == "operator/1"
    assert "欧阳娜" not in str(one)
    assert await written(audit, provided) == [one, other], "counted once"


async def test_events_are_counted_by_kind_with_their_orders(audit: Audit) -> None:
    provided = Provided(audit)
    events = [event_pb2.Event(kind=event_pb2.EVENT_KIND_CANCELLED, order_no=f"{n:064d}") for n in range(120)]
    provided.delivered("relay", events)
    ready = event_pb2.Event(kind=event_pb2.EVENT_KIND_REPORT_READY, report=event_pb2.ReportReady(run_id="R1-1"))
    provided.answered("relay/160", "EventService.ReadEvents", event_pb2.ReadEventsResponse(events=[ready]))
    rows = await written(audit, provided)
    keys = [json.loads(row.entry.parameters)["keys"] for row in rows if row.entry.target == "event.CANCELLED"]
    assert [len(part) for part in keys] == [50, 50, 20]
    assert [key for part in keys for key in part] == [event.order_no for event in events]
    (last,) = [row for row in rows if row.entry.target == "event.REPORT_READY"]
    assert json.loads(last.entry.parameters)["keys"] == ["R1-1"]


async def test_rows_of_reports_are_counted(audit: Audit) -> None:
    provided = Provided(audit)
    page = report_pb2.ReadReportResponse(report=report_pb2.Report(name="R4"))
    for _ in range(3):
        page.rows.add().values.add(text="张*")
    provided.answered(RELAY, "ReportService.ReadReport", page)
    (row,) = await written(audit, provided)
    said = json.loads(row.entry.parameters)
    assert (said["records"], said["keys"]) == (3, ["R4"])
