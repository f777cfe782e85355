"""Every kind of mapping, loaded from TOML and run by the real SQLite engine: reads, writes, guards, pages, refusals."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from his160.v1 import appointment_pb2, catalog_pb2, common_pb2, event_pb2, patient_pb2, payment_pb2, reason_pb2

from his_db.access import HisAccess
from his_db.document.problem import DocumentError
from his_db.engine import ParameterKind, ProcedurePlan, ProcedureResult, Rows, Session, SourceSettings
from his_db.errors import (
    AnswerTooLarge,
    HisBusy,
    HisRefused,
    MappingMismatch,
    OperationNotMapped,
    OutcomeUnknown,
)
from his_db.generation import CompiledOperation, Generation, compile_generation
from his_db.mapping.load import load_mapping_set
from his_db.source import Source

ZONE = ZoneInfo("Asia/Shanghai")
NOW = datetime(2026, 3, 2, 9, 30, 15, 999_999, tzinfo=ZONE)
HOSTILE = ["O'Brien", "'; DROP TABLE appt; --", ":order_no", "%s %(x)s", "100%", "a\\b", '"', "㛃䶮𠅤", "{0}", "$now"]

SCHEMA = """
CREATE TABLE dept (code CHAR(6), name TEXT, branch TEXT, jlzt INTEGER);
CREATE TABLE ticket (pk TEXT PRIMARY KEY, sch TEXT, hx INTEGER, used TEXT, lock_id TEXT, lock_end TEXT, flag TEXT,
                     begin_at TEXT, stopped TEXT DEFAULT '0');
CREATE TABLE appt (pk TEXT PRIMARY KEY, order_no TEXT, sch TEXT, patient TEXT, day TEXT, state TEXT, fee REAL,
                   op TEXT, cancel_at TEXT, note TEXT);
CREATE TABLE pat (id INTEGER PRIMARY KEY, name TEXT, doc TEXT, sex TEXT, born TEXT);
"""

CODES = """
schema = 1
codes = "slot"
map = [ { his = 0, is = "FREE" }, { his = 1, is = "TAKEN" }, { his = "9", is = "SUSPENDED" } ]
"""
SEX = """
schema = 1
codes = "sex"
map = [ { his = "02", is = "1" }, { his = "03", is = "2" }, { his = "04", is = "0" },
  { his = "05", is = "0", back = false } ]
otherwise_back = "04"
"""
DEPARTMENTS = """
schema = 1
operation = "CatalogService.ListDepartments"
kind = "table"
object = "dept"
where = [
  { column = "jlzt", const = 0 },
  { column = "branch", from = "branch", optional = true },
]
[[result]]
page_key = "code"
fields = [
  { to = "department_id", column = "CODE" },
  { to = "name", column = "name" },
  { to = "branch", column = "branch" },
]
"""
SLOTS = """
schema = 1
operation = "CatalogService.ListSlots"
kind = "query"
sql = '''
SELECT pk, sch, hx, used, begin_at FROM ticket
WHERE sch = :schedule_id AND (:free_only = 0 OR used = '0') AND (:page_after IS NULL OR hx > :page_after)
ORDER BY hx LIMIT :page_limit
'''
[[result]]
page_key = "hx"
fields = [
  { to = "slot_id", column = "pk" },
  { to = "schedule_id", column = "sch" },
  { to = "queue_no", column = "hx" },
  { to = "begin_time", column = "begin_at", time = ["%H:%M:%S", "%H:%M", "%H%M"] },
  { to = "state", column = "used", codes = "slot" },
  { to = "free_count", const = 1 },
]
"""
FIND = """
schema = 1
operation = "PatientService.FindPatients"
kind = "query"
sql = '''
SELECT id, name, doc, sex, born FROM pat
WHERE (:document_no IS NULL OR doc = :document_no) AND (:name IS NULL OR name = :name) ORDER BY id
'''
[[result]]
fields = [
  { to = "patient_id", column = "id" },
  { to = "name", column = "name" },
  { to = "document_no", column = "doc" },
  { to = "sex", column = "sex", codes = "sex", default = "0" },
  { to = "birthday", column = "born", date = ["%Y%m%d", "%Y-%m-%d"], empty = ["0000-00-00"] },
]
"""
GET = """
schema = 1
operation = "AppointmentService.GetAppointment"
kind = "query"
sql_file = "get.sql"
[[result]]
rows = "one"
fields = [
  { to = "appointment.appointment_id", column = "pk" },
  { to = "appointment.order_no", column = "order_no" },
  { to = "appointment.schedule_id", column = "sch" },
  { to = "appointment.patient_id", column = "patient" },
  { to = "appointment.visit_date", column = "day", date = "%Y-%m-%d %H:%M:%S" },
  { to = "appointment.state", column = "state" },
  { to = "appointment.total_fen", column = "fee", money = "yuan" },
  { to = "appointment.operator_id", column = "op" },
  { to = "appointment.note", column = "note", trim = false },
  { to = "appointment.cancel_time", column = "cancel_at", datetime = "%Y-%m-%d %H:%M:%S" },
]
"""
GET_SQL = """
-- one order, by whichever key is given (not a bind: ':x')
SELECT pk, order_no, sch, patient, day, state, fee, op, cancel_at, note FROM appt
WHERE (:order_no IS NULL OR order_no = :order_no) AND (:appointment_id IS NULL OR pk = :appointment_id)
"""
LOCK = """
schema = 1
operation = "AppointmentService.LockSlot"
kind = "steps"
lock = "5m"
params = [
  { name = "until", from = "$lock_until", datetime = "%Y-%m-%d %H:%M:%S" },
  { name = "now", from = "$now", datetime = "%Y-%m-%d %H:%M:%S" },
  { name = "end", step = "read.LOCK_END" },
]
[[step]]
name = "take"
sql = '''
UPDATE ticket SET lock_id = :order_no, lock_end = :until
WHERE pk = :slot_id AND used = '0' AND stopped = '0'
  AND (lock_id IS NULL OR lock_id = :order_no OR lock_end <= :now)
'''
expect_rows = 1
fails = "SLOT_TAKEN"
[[step]]
name = "read"
sql = "SELECT pk, hx, lock_end FROM ticket WHERE pk = :slot_id"
[[step]]
name = "again"
sql = "SELECT pk, hx, :end AS lock_end, 12.299999999 AS fee FROM ticket WHERE pk = :slot_id"
[[diagnosis]]
after = "take"
sql = "SELECT 1 FROM ticket WHERE pk = :slot_id AND stopped = '1'"
reason = "SCHEDULE_SUSPENDED"
[[diagnosis]]
sql = "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM ticket WHERE pk = :slot_id)"
reason = "SLOT_NOT_FOUND"
[[result]]
into = "lock"
fields = [
  { to = "lock_id", column = "pk" },
  { to = "queue_no", column = "hx" },
  { to = "fee_fen", column = "fee", money = "yuan" },
  { to = "expire_time", column = "lock_end", datetime = "%Y-%m-%d %H:%M:%S" },
]
"""
BOOK = """
schema = 1
operation = "AppointmentService.BookAppointment"
kind = "steps"
probe = "AppointmentService.GetAppointment"
answer = { read = "AppointmentService.GetAppointment", to = "appointment" }
params = [
  { name = "pk", from = "$key", case = "upper" },
  { name = "day", from = "$today", date = "%Y-%m-%d 00:00:00" },
  { name = "op", const = "jk160" },
  { name = "none", const = "" },
]
[[step]]
name = "insert"
sql = '''
INSERT INTO appt (pk, order_no, sch, patient, day, state, fee, op, note)
SELECT :pk, :order_no, :schedule_id, :patient_id, :day, 'BOOKED', 9.995, :op, :none
WHERE NOT EXISTS (SELECT 1 FROM appt WHERE order_no = :order_no)
'''
expect_rows = 1
fails = "DUPLICATE_APPOINTMENT"
[[step]]
name = "use"
sql = "UPDATE ticket SET used = '1' WHERE pk = :slot_id AND used = '0'"
expect_rows = 1
fails = "SLOT_TAKEN"
"""
ENSURE = """
schema = 1
operation = "PatientService.EnsurePatient"
kind = "steps"
params = [
  { name = "sex", from = "sex", codes = "sex" },
  { name = "born", from = "birthday", date = "%Y%m%d" },
  { name = "short", from = "name", max_bytes = 6, charset = "gbk", cut = true },
  { name = "doc", from = "document_no", case = "upper", pad = 20 },
]
[[step]]
name = "found"
sql = "SELECT id FROM pat WHERE doc = :doc"
[[step]]
name = "make"
skip_when = "found"
sql = "INSERT INTO pat (name, doc, sex, born) VALUES (:short, :doc, :sex, :born)"
expect_rows = 1
[[step]]
name = "read"
sql = "SELECT id, name, doc, sex, born FROM pat WHERE doc = :doc"
[[result]]
fields = [
  { to = "patient.patient_id", column = "id" },
  { to = "patient.name", column = "name" },
  { to = "patient.document_no", column = "doc" },
  { to = "patient.sex", column = "sex", codes = "sex" },
  { to = "patient.birthday", column = "born", date = "%Y%m%d" },
  { to = "created", const = false },
]
"""
REFUND = """
schema = 1
operation = "PaymentService.RefundPayment"
kind = "unsupported"
why = "本院不支持在线退号"
"""
WATCH = """
schema = 1
watch = "orders"
subject = "appointment"
poll = "500ms"
window = { past_days = 1, future_days = 14 }
key = "appointment_id"
platform_operators = ["jk160"]
vanish = "event"
sql = "SELECT order_no, pk, state, day, op, cancel_at FROM appt WHERE day BETWEEN :from_date AND :last"
params = [
  { name = "from_date", from = "$from_date", date = "%Y-%m-%d 00:00:00" },
  { name = "last", from = "$to_date", date = "%Y-%m-%d 00:00:00" },
]
fields = [
  { to = "appointment_id", column = "pk" },
  { to = "order_no", column = "order_no" },
  { to = "state", column = "state" },
  { to = "operator_id", column = "op" },
  { to = "visit_date", column = "day", date = "%Y-%m-%d %H:%M:%S" },
  { to = "cancel_time", column = "cancel_at", datetime = "%Y-%m-%d %H:%M:%S" },
]
[[event]]
kind = "BOOKED"
when = "state: new -> BOOKED"
[[event]]
kind = "CANCELLED"
when = "state: LOCKED|BOOKED -> CANCELLED"
occurred = "cancel_time"
[[event]]
kind = "CANCELLED"
when = "state: BOOKED -> gone"
[[event]]
kind = "RESCHEDULED"
when = "visit_date: * -> *"
"""
FILES = {
    "codes/slot.toml": CODES,
    "codes/sex.toml": SEX,
    "catalog/list_departments.toml": DEPARTMENTS,
    "catalog/list_slots.toml": SLOTS,
    "patient/find.toml": FIND,
    "appointment/get.toml": GET,
    "appointment/get.sql": GET_SQL,
    "appointment/lock.toml": LOCK,
    "appointment/book.toml": BOOK,
    "patient/ensure.toml": ENSURE,
    "payment/refund.toml": REFUND,
    "watch/orders.toml": WATCH,
}


def write_files(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def compiled(folder: Path, files: dict[str, str], engine: str = "sqlite") -> Generation:
    found = load_mapping_set(write_files(folder, files), sources={"his": engine}, timezone="Asia/Shanghai")
    return compile_generation(found)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "his.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(SCHEMA)
        connection.executemany(
            "INSERT INTO dept VALUES (?, ?, ?, ?)",
            [(f"{n:04}  ", f"科室{n} ", "A" if n % 2 else "", 0 if n < 6 else 1) for n in range(1, 8)],
        )
        connection.executemany(
            "INSERT INTO ticket (pk, sch, hx, used, begin_at, stopped) VALUES (?, ?, ?, ?, ?, ?)",
            [
                (f"T{n}", "S1", n, "1" if n == 3 else "0", ["08:00", "08:05:30", "0810", None][n % 4], "0")
                for n in range(1, 8)
            ],
        )
        connection.execute("UPDATE ticket SET stopped = '1' WHERE pk = 'T7'")
        connection.execute("INSERT INTO pat VALUES (1, ' 张三', '4403X', '02', '0000-00-00')")
        connection.execute("INSERT INTO pat VALUES (2, '李四', '4404', '05', '19800229')")
    connection.close()
    return path


@pytest.fixture
def source(database: Path) -> Source:
    return Source(SourceSettings(name="his", engine="sqlite", database=str(database)))


@pytest.fixture
def session(source: Source) -> Iterator[Session]:
    held = source.engine.open(read_only=False)
    yield held
    held.close()
    source.engine.dispose()


@pytest.fixture
def generation(tmp_path: Path) -> Generation:
    return compiled(tmp_path / "mapping", FILES)


@pytest.fixture
def run(generation: Generation, session: Session) -> Callable[..., Any]:
    def call(name: str, request: Any, key: str = "request-1") -> Any:
        return generation.operations[name].run(session, request, now=NOW, key=key)

    return call


def lock(slot: str = "T1", order: str = "O1") -> appointment_pb2.LockSlotRequest:
    return appointment_pb2.LockSlotRequest(request_id="r", order_no=order, schedule_id="S1", slot_id=slot)


def book(order: str = "O1", slot: str = "T1", patient: str = "1") -> appointment_pb2.BookAppointmentRequest:
    return appointment_pb2.BookAppointmentRequest(
        request_id="r", order_no=order, patient_id=patient, schedule_id="S1", slot_id=slot
    )


# ---------------------------------------------------------------------------------------------------------- table


def test_table_pages_by_key_and_trims(run: Callable[..., Any]) -> None:
    name, request = "CatalogService.ListDepartments", catalog_pb2.ListDepartmentsRequest(page_size=2)
    seen: list[str] = []
    while True:
        page = run(name, request)
        seen += [item.department_id for item in page.departments]
        assert len(page.departments) <= 2
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert seen == ["0001", "0002", "0003", "0004", "0005"]


def test_table_leaves_optional_filters_out(run: Callable[..., Any]) -> None:
    page = run("CatalogService.ListDepartments", catalog_pb2.ListDepartmentsRequest(branch="A"))
    assert [item.department_id for item in page.departments] == ["0001", "0003", "0005"]


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql", "mssql", "oracle"])
def test_table_sql_of_every_engine_has_binds_only(tmp_path: Path, engine: str) -> None:
    operation = compiled(tmp_path, {"a.toml": DEPARTMENTS}, engine).operations["CatalogService.ListDepartments"]
    recorder = Recorder()
    request = catalog_pb2.ListDepartmentsRequest(branch="x' OR 1=1 --")
    assert not operation.run(recorder, request, now=NOW).departments
    sql, values = recorder.calls[0]
    assert "OR 1=1" not in sql
    assert "dept" in sql
    assert "jlzt = :w0" in sql
    assert "branch = :w1" in sql
    assert values["w1"] == "x' OR 1=1 --"
    assert values["w0"] == 0
    assert ":page_limit" in sql
    assert values["page_limit"] == 201


# ---------------------------------------------------------------------------------------------------------- query


def test_query_converts_and_pages(run: Callable[..., Any]) -> None:
    name = "CatalogService.ListSlots"
    first = run(name, catalog_pb2.ListSlotsRequest(schedule_id="S1", page_size=3))
    assert [(slot.slot_id, slot.queue_no, slot.state) for slot in first.slots] == [
        ("T1", 1, common_pb2.SLOT_STATE_FREE),
        ("T2", 2, common_pb2.SLOT_STATE_FREE),
        ("T3", 3, common_pb2.SLOT_STATE_TAKEN),
    ]
    assert (first.slots[0].begin_time.hours, first.slots[0].begin_time.minutes, first.slots[0].begin_time.seconds) == (
        8,
        5,
        30,
    )
    assert not first.slots[2].HasField("begin_time")
    second = run(name, catalog_pb2.ListSlotsRequest(schedule_id="S1", page_size=4, page_token=first.next_page_token))
    assert [slot.queue_no for slot in second.slots] == [4, 5, 6, 7]
    assert second.next_page_token == ""
    free = run(name, catalog_pb2.ListSlotsRequest(schedule_id="S1", free_only=True))
    assert len(free.slots) == 6


def test_query_without_page_binds_pages_in_memory(run: Callable[..., Any]) -> None:
    name = "PatientService.FindPatients"
    first = run(name, patient_pb2.FindPatientsRequest(page_size=1))
    assert [item.patient_id for item in first.patients] == ["1"]
    second = run(name, patient_pb2.FindPatientsRequest(page_size=1, page_token=first.next_page_token))
    assert [item.patient_id for item in second.patients] == ["2"]
    assert second.next_page_token == ""
    assert not first.patients[0].HasField("birthday")  # 0000-00-00
    assert first.patients[0].name == "张三"
    assert second.patients[0].sex == "0"


def test_query_reads_an_impossible_date_as_mismatch(run: Callable[..., Any], session: Session) -> None:
    session.run("UPDATE pat SET born = '19810229' WHERE id = 2", {}, max_rows=1)
    with pytest.raises(MappingMismatch) as caught:
        run("PatientService.FindPatients", patient_pb2.FindPatientsRequest())
    text = str(caught.value)
    assert "FindPatients" in text
    assert "birthday" in text
    assert "born" in text
    assert "str" in text
    assert "1981" not in text


@pytest.mark.parametrize("token", ["x", "eyJrIjox", "ÿ", "A" * 3000, "bnVsbA", "W10", "eyJrIjp7ImEiOiJiIn19"])
def test_damaged_token_is_refused(run: Callable[..., Any], token: str) -> None:
    with pytest.raises(HisRefused) as caught:
        run("CatalogService.ListSlots", catalog_pb2.ListSlotsRequest(schedule_id="S1", page_token=token))
    assert caught.value.reason == reason_pb2.REASON_INVALID_REQUEST


def test_foreign_token_is_refused(run: Callable[..., Any]) -> None:
    first = run("CatalogService.ListSlots", catalog_pb2.ListSlotsRequest(schedule_id="S1", page_size=1))
    for request in (
        catalog_pb2.ListSlotsRequest(schedule_id="S2", page_token=first.next_page_token),
        catalog_pb2.ListSlotsRequest(schedule_id="S1", free_only=True, page_token=first.next_page_token),
    ):
        with pytest.raises(HisRefused):
            run("CatalogService.ListSlots", request)
    with pytest.raises(HisRefused):
        run("CatalogService.ListDepartments", catalog_pb2.ListDepartmentsRequest(page_token=first.next_page_token))
    again = catalog_pb2.ListSlotsRequest(schedule_id="S1", realtime=True, page_size=5, page_token=first.next_page_token)
    assert len(run("CatalogService.ListSlots", again).slots) == 5


def test_page_size_bounds(run: Callable[..., Any], session: Session) -> None:
    with pytest.raises(HisRefused):
        run("CatalogService.ListSlots", catalog_pb2.ListSlotsRequest(schedule_id="S1", page_size=-1))
    for number in range(130):
        session.run("INSERT INTO pat (name, doc) VALUES ('x', :d)", {"d": str(number)}, max_rows=1)
    assert len(run("PatientService.FindPatients", patient_pb2.FindPatientsRequest()).patients) == 20
    assert len(run("PatientService.FindPatients", patient_pb2.FindPatientsRequest(page_size=500)).patients) == 100


def test_too_many_rows_without_paging(run: Callable[..., Any], session: Session) -> None:
    session.run(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10001)"
        " INSERT INTO pat (name, doc) SELECT 'x', 'd' FROM n",
        {},
        max_rows=1,
    )
    with pytest.raises(AnswerTooLarge):
        run("PatientService.FindPatients", patient_pb2.FindPatientsRequest())


def test_none_found_has_the_reason_of_the_operation(run: Callable[..., Any]) -> None:
    with pytest.raises(HisRefused) as caught:
        run("AppointmentService.GetAppointment", appointment_pb2.GetAppointmentRequest(order_no="none"))
    assert caught.value.reason == reason_pb2.REASON_APPOINTMENT_NOT_FOUND


def test_two_rows_where_one_is_meant(run: Callable[..., Any], session: Session) -> None:
    for pk in "ab":
        session.run("INSERT INTO appt (pk, order_no, state) VALUES (:pk, 'O', 'BOOKED')", {"pk": pk}, max_rows=1)
    with pytest.raises(MappingMismatch):
        run("AppointmentService.GetAppointment", appointment_pb2.GetAppointmentRequest(order_no="O"))


# ---------------------------------------------------------------------------------------------------------- steps


def test_steps_lock_and_values_that_flow(run: Callable[..., Any]) -> None:
    answer = run("AppointmentService.LockSlot", lock())
    assert answer.lock.lock_id == "T1"
    assert answer.lock.fee_fen == 1230
    assert answer.lock.expire_time.ToDatetime(ZONE) == datetime(2026, 3, 2, 9, 35, 15, tzinfo=ZONE)
    assert run("AppointmentService.LockSlot", lock()).lock == answer.lock


@pytest.mark.parametrize(
    ("slot", "reason"),
    [("T3", "SLOT_TAKEN"), ("T7", "SCHEDULE_SUSPENDED"), ("none", "SLOT_NOT_FOUND")],
)
def test_steps_diagnosis(run: Callable[..., Any], slot: str, reason: str) -> None:
    with pytest.raises(HisRefused) as caught:
        run("AppointmentService.LockSlot", lock(slot))
    assert reason_pb2.Reason.Name(caught.value.reason) == f"REASON_{reason}"


def test_steps_skip(run: Callable[..., Any]) -> None:
    request = patient_pb2.EnsurePatientRequest(
        request_id="r", name="欧阳锋锋", document_type="01", document_no="4405x", mobile="1", sex="2"
    )
    request.birthday.year, request.birthday.month, request.birthday.day = 1980, 2, 29
    answer = run("PatientService.EnsurePatient", request)
    assert answer.patient.name == "欧阳锋"  # six bytes of GBK
    assert (answer.patient.sex, answer.patient.document_no) == ("2", "4405X")
    assert run("PatientService.EnsurePatient", request) == answer


def test_answer_reads_inside_the_transaction(run: Callable[..., Any]) -> None:
    appointment = run("AppointmentService.BookAppointment", book()).appointment
    assert appointment.order_no == "O1"
    assert appointment.state == common_pb2.APPOINTMENT_STATE_BOOKED
    assert appointment.total_fen == 1000  # 9.995 rounds half up
    assert appointment.appointment_id == appointment.appointment_id.upper()
    assert len(appointment.appointment_id) == 32
    assert (appointment.visit_date.year, appointment.visit_date.month, appointment.visit_date.day) == (2026, 3, 2)


def test_the_key_is_the_same_for_every_retry(run: Callable[..., Any], session: Session) -> None:
    first = run("AppointmentService.BookAppointment", book(), key="k").appointment.appointment_id
    session.run("DELETE FROM appt WHERE pk = :pk", {"pk": first}, max_rows=1)
    session.run("UPDATE ticket SET used = '0' WHERE pk = 'T1'", {}, max_rows=1)
    assert run("AppointmentService.BookAppointment", book(), key="k").appointment.appointment_id == first
    assert run("AppointmentService.BookAppointment", book("O2", "T2"), key="l").appointment.appointment_id != first


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_comes_back_unchanged(run: Callable[..., Any], text: str) -> None:
    appointment = run("AppointmentService.BookAppointment", book(order=text, patient=text)).appointment
    assert (appointment.order_no, appointment.patient_id) == (text, text)
    found = run("AppointmentService.GetAppointment", appointment_pb2.GetAppointmentRequest(order_no=text))
    assert found.appointment == appointment


def test_nul_is_refused(run: Callable[..., Any]) -> None:
    with pytest.raises(HisRefused) as caught:
        run("AppointmentService.BookAppointment", book(order="a\0b"))
    assert caught.value.reason == reason_pb2.REASON_INVALID_REQUEST
    assert "a\0b" not in str(caught.value)


# ------------------------------------------------------------------------------------------------------ procedure

PROCEDURE = """
schema = 1
operation = "PaymentService.RefundPayment"
kind = "procedure"
object = "his.usp_gh_thtf"
commits = "{commits}"
params = [
  {{ name = "p_ddh", from = "order_no" }},
  {{ name = "p_je", from = "amount_fen", money = "yuan" }},
  {{ name = "p_note", from = "note", empty = "keep" }},
  {{ name = "o_code", dir = "out", type = "int" }},
  {{ name = "o_msg", dir = "out" }},
  {{ name = "o_je", dir = "out", type = "numeric" }},
]
[outcome]
from = "o_code"
ok = [0, 1]
errors = [ {{ is = -1, reason = "ALREADY_REFUNDED" }}, {{ is = "-9", reason = "HIS_BUSY", retry = "2s" }} ]
text = "o_msg"
otherwise = "{otherwise}"
[[result]]
fields = [
  {{ to = "refund.state", const = "DONE" }},
  {{ to = "refund.amount_fen", column = "o_je", money = "yuan" }},
]
"""


class Recorder:
    """A session that remembers what it was asked, and answers what it was given."""

    def __init__(self, result: ProcedureResult | None = None) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.result = result or ProcedureResult({}, ())

    def run(self, sql: str, values: Any, *, max_rows: int) -> Rows:
        self.calls.append((sql, dict(values)))
        return Rows(("code", "name", "branch"), (), -1)

    def call(self, plan: ProcedurePlan, values: Any, *, max_rows: int) -> ProcedureResult:
        assert [item.name for item in plan.parameters if item.kind is ParameterKind.OUT] == ["o_code", "o_msg", "o_je"]
        self.calls.append((plan.object, dict(values)))
        return self.result

    def begin(self) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def alive(self) -> bool:
        return True

    def ping(self) -> bool:
        return True


def refund(tmp_path: Path, commits: str = "caller", otherwise: str = "unknown") -> CompiledOperation:
    text = PROCEDURE.format(commits=commits, otherwise=otherwise)
    return compiled(tmp_path, {"refund.toml": text}).operations["PaymentService.RefundPayment"]


REFUND_REQUEST = payment_pb2.RefundPaymentRequest(request_id="r", order_no="O'1", amount_fen=1230)


def outcome(code: Any, money: Any = Decimal("12.30")) -> ProcedureResult:
    return ProcedureResult({"o_code": code, "o_msg": " 已退费 ", "o_je": money}, ())


@pytest.mark.parametrize("code", [0, 1, "0", Decimal(1), 0.0])
def test_procedure_done(tmp_path: Path, code: Any) -> None:
    recorder = Recorder(outcome(code))
    answer = refund(tmp_path).run(recorder, REFUND_REQUEST, now=NOW)
    assert recorder.calls == [("his.usp_gh_thtf", {"p_ddh": "O'1", "p_je": Decimal("12.30"), "p_note": ""})]
    assert (answer.refund.amount_fen, answer.refund.state) == (1230, payment_pb2.REFUND_STATE_DONE)


def test_procedure_refuses_with_its_sentence(tmp_path: Path) -> None:
    with pytest.raises(HisRefused) as caught:
        refund(tmp_path).run(Recorder(outcome(-1)), REFUND_REQUEST, now=NOW)
    assert caught.value.reason == reason_pb2.REASON_ALREADY_REFUNDED
    assert caught.value.text == "已退费"
    assert "已退费" not in str(caught.value)


def test_procedure_busy(tmp_path: Path) -> None:
    with pytest.raises(HisBusy) as caught:
        refund(tmp_path).run(Recorder(outcome(-9)), REFUND_REQUEST, now=NOW)
    assert caught.value.retry_after is not None
    assert caught.value.retry_after.total_seconds() == 2


@pytest.mark.parametrize("code", [-77, None, "", "0x"])
def test_procedure_unknown_code(tmp_path: Path, code: Any) -> None:
    with pytest.raises(OutcomeUnknown):
        refund(tmp_path).run(Recorder(outcome(code)), REFUND_REQUEST, now=NOW)
    with pytest.raises(HisRefused):
        refund(tmp_path, otherwise="HIS_REFUSED").run(Recorder(outcome(code)), REFUND_REQUEST, now=NOW)


def test_a_bad_answer_after_a_commit_is_an_unknown_outcome(tmp_path: Path) -> None:
    bad = outcome(0, "twelve")
    with pytest.raises(MappingMismatch):
        refund(tmp_path).run(Recorder(bad), REFUND_REQUEST, now=NOW)
    with pytest.raises(OutcomeUnknown):
        refund(tmp_path, commits="procedure").run(Recorder(bad), REFUND_REQUEST, now=NOW)


def test_procedure_finds_its_result_set_among_strays(tmp_path: Path) -> None:
    text = """
schema = 1
operation = "CatalogService.ListDepartments"
kind = "procedure"
object = "usp_ks"
params = [
  { name = "@branch", from = "branch" }, { name = "o_code", dir = "out" },
  { name = "o_msg", dir = "out" }, { name = "o_je", dir = "out" },
]
[[result]]
set = 0
fields = [ { to = "department_id", column = "ksdm" }, { to = "name", column = "ksmc" } ]
"""
    operation = compiled(tmp_path, {"a.toml": text}).operations["CatalogService.ListDepartments"]
    stray, empty = Rows(("n",), [(1,)], -1), Rows((), (), 3)
    right = Rows(("KSMC", "KSDM"), [("内科", "01  "), ("外科", "02")], -1)
    recorder = Recorder(ProcedureResult({"o_code": 0, "o_msg": None, "o_je": None}, (empty, stray, right)))
    answer = operation.run(recorder, catalog_pb2.ListDepartmentsRequest(), now=NOW)
    assert [(item.department_id, item.name) for item in answer.departments] == [("01", "内科"), ("02", "外科")]
    assert recorder.calls == [("usp_ks", {"@branch": None})]


# ----------------------------------------------------------------------------------- generation, access and watch


def test_capabilities(generation: Generation) -> None:
    found = {item.operation: item for item in generation.capabilities()}
    assert found["CatalogService.ListSlots"].available
    assert not found["PaymentService.RefundPayment"].available
    assert found["PaymentService.RefundPayment"].note == "本院不支持在线退号"
    assert not found["PaymentService.GetRefund"].available
    assert found["AgentService.GetInfo"].available


async def test_access_reads_writes_and_rolls_back(source: Source, generation: Generation) -> None:
    access = HisAccess({"his": source}, generation, clock=lambda: NOW)
    try:
        slots = await access.read("CatalogService.ListSlots", catalog_pb2.ListSlotsRequest(schedule_id="S1"))
        assert isinstance(slots, catalog_pb2.ListSlotsResponse)
        assert len(slots.slots) == 7
        booked = await access.write("AppointmentService.BookAppointment", book(), key="k")
        assert isinstance(booked, appointment_pb2.BookAppointmentResponse)
        # The second step fails (T3 is used), so the insert of the first is undone.
        with pytest.raises(HisRefused) as caught:
            await access.write("AppointmentService.BookAppointment", book("O9", "T3"), key="m")
        assert caught.value.reason == reason_pb2.REASON_SLOT_TAKEN
        with pytest.raises(HisRefused):
            await access.read("AppointmentService.GetAppointment", appointment_pb2.GetAppointmentRequest(order_no="O9"))
        with pytest.raises(OperationNotMapped) as unmapped:
            await access.write("PaymentService.RefundPayment", payment_pb2.RefundPaymentRequest(), key="k")
        assert unmapped.value.note == "本院不支持在线退号"
        with pytest.raises(OperationNotMapped):
            await access.read("PaymentService.GetRefund", payment_pb2.GetRefundRequest())
    finally:
        await source.close()


async def test_snapshot_and_rules(source: Source, generation: Generation) -> None:
    access = HisAccess({"his": source}, generation, clock=lambda: NOW)
    try:
        await access.write("AppointmentService.BookAppointment", book(), key="k")
        snapshot = await access.snapshot("orders")
    finally:
        await source.close()
    assert access.watch_names() == ("orders",)
    watch = access.watch("orders")
    ((key, row),) = snapshot.rows
    message = watch.build(row)
    assert isinstance(message, common_pb2.Appointment)
    assert message.appointment_id == key
    assert message.operator_id == "jk160"
    assert watch.window_contains(message, NOW)
    assert not watch.window_contains(message, datetime(2026, 3, 4, 9, tzinfo=ZONE))
    assert not watch.window_contains(common_pb2.Appointment(), NOW)
    new, cancel, gone, moved = watch.rules
    after = common_pb2.Appointment()
    after.CopyFrom(message)
    after.state = common_pb2.APPOINTMENT_STATE_CANCELLED
    assert new.matches(None, message)
    assert not new.matches(message, message)
    assert cancel.matches(message, after)
    assert not cancel.matches(after, message)
    assert cancel.occurred == "cancel_time"
    assert cancel.kind == event_pb2.EVENT_KIND_CANCELLED
    assert not cancel.matches(None, after)
    assert gone.matches(message, None)
    assert not gone.matches(after, None)
    assert not moved.matches(message, after)
    after.visit_date.day = 3
    assert moved.matches(message, after)


async def test_a_snapshot_of_the_same_rows_is_the_same(source: Source, generation: Generation) -> None:
    access = HisAccess({"his": source}, generation, clock=lambda: NOW)
    try:
        empty = await access.snapshot("orders")
        assert (await access.snapshot("orders")).rows is empty.rows
        await access.write("AppointmentService.BookAppointment", book(), key="k")
        one = await access.snapshot("orders")
        assert len(one.rows) == 1
        assert (await access.snapshot("orders")).rows is one.rows
        other = replace(access.watch("orders"))  # as a reload makes it
        assert (await access.snapshot("orders", watch=other)).rows is not one.rows
    finally:
        await source.close()


def test_build_does_not_depend_on_the_order_of_columns(generation: Generation) -> None:
    watch = generation.watches["orders"]

    class Shuffled(Recorder):
        def run(self, sql: str, values: Any, *, max_rows: int) -> Rows:
            columns = ("DAY", "STATE", "PK", "ORDER_NO", "OP", "CANCEL_AT")
            rows = [("2026-03-02 00:00:00", "BOOKED", "P ", None, "0931", None), (None, "BOOKED", None, None, "", None)]
            return Rows(columns, rows, -1)

    found, refused = watch.read(Shuffled(), now=NOW)
    assert refused == 1
    ((key, row),) = found
    assert key == "P"
    assert watch.build(row).SerializeToString()


def test_reload_gives_the_same_revision_and_another_after_a_change(tmp_path: Path) -> None:
    first = compiled(tmp_path / "a", FILES).revision
    assert compiled(tmp_path / "b", FILES).revision == first
    changed = {**FILES, "appointment/get.sql": GET_SQL + "-- "}
    assert compiled(tmp_path / "c", changed).revision != first


def test_problems_of_all_files_at_once(tmp_path: Path) -> None:
    files = {"a.toml": DEPARTMENTS.replace("name = ", "nme = ").replace('"name"', '"nmae"'), "b.toml": "schema = 1\n"}
    with pytest.raises(DocumentError) as caught:
        compiled(tmp_path, files)
    assert {problem.place.file for problem in caught.value.problems} == {"a.toml", "b.toml"}


# ---------------------------------------------------------------------------------- procedures of a real PostgreSQL

POSTGRESQL_SCHEMA = (
    "CREATE TABLE lk (ddh text PRIMARY KEY, slot numeric(12,0), je numeric(12,2), at char(16))",
    """CREATE PROCEDURE usp_lock(p_ddh varchar, p_slot numeric, OUT o_code int, OUT o_msg varchar, OUT o_je numeric,
                              OUT o_sj varchar) LANGUAGE plpgsql AS $$
    BEGIN
      o_code := 0; o_msg := ''; o_je := 12.5; o_sj := '2026030209:40:00';
      IF p_slot = 9 THEN o_code := -3; o_msg := '号已被占用'; RETURN; END IF;
      IF p_slot = 8 THEN o_code := 77; RETURN; END IF;
      INSERT INTO lk VALUES (p_ddh, p_slot, o_je, o_sj);
    END $$""",
    """CREATE FUNCTION fn_ks(p_branch varchar) RETURNS TABLE (ksdm char(6), ksmc varchar) LANGUAGE sql AS
       $$ SELECT v.a::char(6), v.b::varchar FROM (VALUES ('01', '内科 '), ('02', '外科')) AS v(a, b) ORDER BY 1 $$""",
)
LOCK_PROCEDURE = """
schema = 1
operation = "AppointmentService.LockSlot"
kind = "procedure"
object = "usp_lock"
params = [
  { name = "p_ddh", from = "order_no", type = "varchar" },
  { name = "p_slot", from = "slot_id", type = "numeric" },
  { name = "o_code", dir = "out", type = "int" },
  { name = "o_msg", dir = "out", type = "varchar" },
  { name = "o_je", dir = "out", type = "numeric" },
  { name = "o_sj", dir = "out", type = "varchar" },
]
[outcome]
from = "o_code"
ok = [0]
errors = [ { is = -3, reason = "SLOT_TAKEN" } ]
text = "o_msg"
otherwise = "unknown"
[[result]]
into = "lock"
fields = [
  { to = "lock_id", column = "p_ddh" },
  { to = "fee_fen", column = "o_je", money = "yuan" },
  { to = "expire_time", column = "o_sj", datetime = "%Y%m%d%H:%M:%S" },
]
"""
DEPARTMENT_FUNCTION = """
schema = 1
operation = "CatalogService.ListDepartments"
kind = "procedure"
object = "fn_ks"
call = "function"
params = [ { name = "p_branch", from = "branch", type = "varchar" } ]
[[result]]
fields = [ { to = "department_id", column = "ksdm" }, { to = "name", column = "ksmc" } ]
"""


@pytest.fixture
async def postgresql(postgresql_database: Callable[[], SourceSettings], tmp_path: Path) -> AsyncIterator[HisAccess]:
    source = Source(replace(postgresql_database(), name="his"))
    session = source.engine.open(read_only=False)
    for statement in POSTGRESQL_SCHEMA:
        session.begin()
        session.run(statement, {}, max_rows=1)
        session.commit()
    session.close()
    files = {"lock.toml": LOCK_PROCEDURE, "ks.toml": DEPARTMENT_FUNCTION}
    yield HisAccess({"his": source}, compiled(tmp_path, files, "postgresql"), clock=lambda: NOW)
    await source.close()


async def test_procedures_of_postgresql(postgresql: HisAccess) -> None:
    for order in ("O1", *HOSTILE):
        answer = await postgresql.write("AppointmentService.LockSlot", lock("7", order), key="k")
        assert isinstance(answer, appointment_pb2.LockSlotResponse)
        assert (answer.lock.lock_id, answer.lock.fee_fen) == (order, 1250)
        assert answer.lock.expire_time.ToDatetime(ZONE) == datetime(2026, 3, 2, 9, 40, tzinfo=ZONE)
    with pytest.raises(HisRefused) as caught:
        await postgresql.write("AppointmentService.LockSlot", lock("9", "O9"), key="k")
    assert caught.value.reason == reason_pb2.REASON_SLOT_TAKEN
    assert caught.value.text == "号已被占用"
    with pytest.raises(OutcomeUnknown):
        await postgresql.write("AppointmentService.LockSlot", lock("8", "O8"), key="k")
    with pytest.raises(HisRefused):  # the unique key: the order is locked already
        await postgresql.write("AppointmentService.LockSlot", lock("7", "O1"), key="k")
    with pytest.raises(HisRefused):
        await postgresql.write("AppointmentService.LockSlot", lock("7", "a\0b"), key="k")
    with pytest.raises(MappingMismatch):
        await postgresql.write("AppointmentService.LockSlot", lock("no number", "O7"), key="k")


async def test_functions_of_postgresql(postgresql: HisAccess) -> None:
    answer = await postgresql.read("CatalogService.ListDepartments", catalog_pb2.ListDepartmentsRequest())
    assert isinstance(answer, catalog_pb2.ListDepartmentsResponse)
    assert [(item.department_id, item.name) for item in answer.departments] == [("01", "内科"), ("02", "外科")]
