"""The variance of real systems, written as a DBA writes it and run through a compiled mapping, in and out.

Code maps: domain facts 1.10 and 1.11, row by row. Formats, amounts, blanks: 5.1, 5.2 and 7.11.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from his160.v1 import appointment_pb2, common_pb2, patient_pb2

from his_db.contract import enum_numbers
from his_db.engine import Rows
from his_db.errors import HisRefused, MappingMismatch
from his_db.generation import compile_generation
from his_db.mapping.load import load_mapping_set

NOW = datetime(2026, 3, 2, 9, 30)
ZONE = ZoneInfo("Asia/Shanghai")

# HIS value -> contract, and which of several HIS values is written back: facts 1.10.
PERIODS = {
    "160": {"am": "MORNING", "pm": "AFTERNOON", "em": "EVENING"},
    "东软 IBORN": {"1": "MORNING", "2": "AFTERNOON", "3": "EVENING"},
    "新致": {"1": "WHOLE_DAY", "2": "MORNING", "3": "AFTERNOON"},
    "荆州": {"a": "MORNING", "p": "AFTERNOON", "e": "EVENING"},
    "创业": {"1": "MORNING", "2": "AFTERNOON"},
    "众邦": {"0101": "MORNING", "0102": "AFTERNOON", "0301": "EVENING"},
}
STATES = {
    "东软 IBORN": {"0": "BOOKED", "2": "CANCELLED", "3": "PAID", "4": "CHECKED_IN", "5": "REFUNDED"},
    "众邦": {"0": "BOOKED", "1": "PAID", "9": "CANCELLED"},
    "新致": {"1": "BOOKED", "2": "PAID", "3": "CANCELLED", "5": "REFUNDED"},
    "荆州": {"1": "PAID", "2": "CHECKED_IN", "4": "VISITED", "9": "REFUNDED"},
    "portal": {"6": "LOCKED", "1": "BOOKED", "2": "CHECKED_IN", "3": "VISITED", "5": "CANCELLED"},
}
SEXES = {
    "男/女": {"男": "1", "女": "2"},
    "M/F": {"M": "1", "F": "2"},
    "众邦 02/03": {"02": "1", "03": "2"},
    "男0 女1 未知2": {"0": "1", "1": "2", "2": "0"},
}
DOCUMENTS = {
    "资源池": {"1": "01", "3": "03", "6": "06", "7": "07", "99": "99"},
    "医保": {"01": "01", "02": "04", "06": "07", "08": "03", "99": "99"},
}


def code_map(values: Mapping[str, str], more: str = "") -> str:
    pairs = "".join(f'  {{ his = "{his}", is = "{value}" }},\n' for his, value in values.items())
    return f'schema = 1\ncodes = "c"\nmap = [\n{pairs}{more}]\n'


@dataclass(slots=True)
class Recorder:
    """A session that answers with these rows and keeps what was bound."""

    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
    bound: Mapping[str, Any] | None = None

    def run(self, sql: str, values: Mapping[str, Any], *, max_rows: int) -> Rows:
        self.bound = dict(values)
        return Rows(self.columns, list(self.rows), -1)


Compiled = Callable[..., Any]


@pytest.fixture
def compiled(tmp_path: Path) -> Compiled:
    def make(operation: str, *texts: str, engine: str = "sqlite") -> Any:
        for at, text in enumerate(texts):
            (tmp_path / f"{at}.toml").write_text(text, encoding="utf-8")
        found = load_mapping_set(tmp_path, sources={"his": engine}, timezone="Asia/Shanghai")
        return compile_generation(found).operation(operation)

    return make


def ran(operation: Any, request: Any, columns: str, *row: Any) -> tuple[Any, Mapping[str, Any]]:
    """The answer to one row, and what was bound."""
    session = Recorder(tuple(columns.split()), (row,))
    answer = operation.run(session, request, now=NOW)
    assert session.bound is not None
    return answer, session.bound


GET = """
schema = 1
operation = "AppointmentService.GetAppointment"
kind = "query"
sql = "SELECT {columns} FROM t WHERE ddh = :order_no"
[[result]]
fields = [
  {{ to = "appointment.appointment_id", column = "id" }},
{fields}]
"""


def get(columns: str, *fields: str, state: bool = True) -> str:
    every = [*(['{ to = "appointment.state", const = "BOOKED" }'] if state else []), *fields]
    lines = "".join(f"  {field},\n" for field in every)
    return GET.format(columns=", ".join(["id", *columns.split()]), fields=lines)


ORDER = appointment_pb2.GetAppointmentRequest(order_no="T1")


@pytest.mark.parametrize("values", PERIODS.values(), ids=list(PERIODS))
def test_periods_in(compiled: Compiled, values: Mapping[str, str]) -> None:
    text = get("wb", '{ to = "appointment.period", column = "wb", codes = "c" }')
    operation = compiled("AppointmentService.GetAppointment", text, code_map(values))
    numbers = enum_numbers(common_pb2.Period.DESCRIPTOR)
    for his, value in values.items():
        for given in (his, f"{his}  ", *([int(his), Decimal(his)] if his in {"1", "2", "3"} else [])):
            answer, _ = ran(operation, ORDER, "id wb", "Y1", given)
            assert answer.appointment.period == numbers[value]
    with pytest.raises(MappingMismatch):
        ran(operation, ORDER, "id wb", "Y1", "全天")  # a value in live data that nobody wrote down


@pytest.mark.parametrize("values", STATES.values(), ids=list(STATES))
def test_states_in(compiled: Compiled, values: Mapping[str, str]) -> None:
    text = get("zt", '{ to = "appointment.state", column = "zt", codes = "c" }', state=False)
    operation = compiled("AppointmentService.GetAppointment", text, code_map(values))
    numbers = enum_numbers(common_pb2.AppointmentState.DESCRIPTOR)
    for his, value in values.items():
        assert ran(operation, ORDER, "id zt", "Y1", his)[0].appointment.state == numbers[value]
        assert ran(operation, ORDER, "id zt", "Y1", int(his))[0].appointment.state == numbers[value]


FIND = """
schema = 1
operation = "PatientService.FindPatients"
kind = "query"
sql = "SELECT id, xm, xb, zjlx FROM br WHERE zjlx = :zjlx AND sfzh = :document_no ORDER BY id"
params = [ {{ name = "zjlx", from = "document_type", codes = "{documents}" }} ]
[[result]]
fields = [
  {{ to = "patient_id", column = "id" }},
  {{ to = "name", column = "xm" }},
  {{ to = "sex", column = "xb", codes = "{sexes}" }},
  {{ to = "document_type", column = "zjlx", codes = "{documents}" }},
]
"""


def named(text: str, name: str) -> str:
    return text.replace('codes = "c"', f'codes = "{name}"')


@pytest.mark.parametrize("values", SEXES.values(), ids=list(SEXES))
@pytest.mark.parametrize("documents", DOCUMENTS.values(), ids=list(DOCUMENTS))
def test_sex_and_documents_both_ways(
    compiled: Compiled, values: Mapping[str, str], documents: Mapping[str, str]
) -> None:
    """One shared file serves the column that is read and the bind that is sent."""
    text = FIND.format(documents="zjlx", sexes="xb")
    operation = compiled(
        "PatientService.FindPatients", text, named(code_map(values), "xb"), named(code_map(documents), "zjlx")
    )
    for sex_his, sex in values.items():
        for his, ours in documents.items():
            request = patient_pb2.FindPatientsRequest(document_type=ours, document_no="11010519491231002X")
            answer, bound = ran(operation, request, "id xm xb zjlx", "P1", "张三", sex_his, his)
            assert bound["zjlx"] == his
            assert (answer.patients[0].sex, answer.patients[0].document_type) == (sex, ours)
    with pytest.raises(HisRefused):  # a document that this HIS has no code for
        ran(operation, patient_pb2.FindPatientsRequest(document_type="05"), "id xm xb zjlx", "P1", "张三", "男", "1")


def test_the_maps_that_are_there_without_a_file(compiled: Compiled) -> None:
    operation = compiled(
        "PatientService.FindPatients", FIND.format(documents="insurance_document_type", sexes="gb_sex")
    )
    request = patient_pb2.FindPatientsRequest(document_type="04", document_no="1")
    answer, bound = ran(operation, request, "id xm xb zjlx", "P1", "张三", "女 ", "03")  # 武警警官证 is 军官证 for us
    assert bound["zjlx"] == "02"
    assert (answer.patients[0].sex, answer.patients[0].document_type) == ("2", "04")


@pytest.mark.parametrize(
    ("keys", "row", "expected"),
    [
        ('datetime = "%Y%m%d%H:%M:%S"', "2022081208:30:00", datetime(2022, 8, 12, 8, 30)),  # 卫宁 ut_rq16
        ('datetime = "%Y%m%d%H:%M:%S"', "2022081208:30:00   ", datetime(2022, 8, 12, 8, 30)),
        ('datetime = "%Y%m%d%H%M%S"', "20220812083000", datetime(2022, 8, 12, 8, 30)),
        ('datetime = ["%Y-%m-%d %H:%M:%S", "%Y/%m/%d %H:%M"]', "2022/8/12 8:30", datetime(2022, 8, 12, 8, 30)),
        ('datetime = "%Y-%m-%d %H:%M:%S"', datetime(2022, 8, 12, 8, 30), datetime(2022, 8, 12, 8, 30)),  # its sibling
        ('datetime = "%Y-%m-%d %H:%M:%S", empty = ["0000-00-00 00:00:00"]', "0000-00-00 00:00:00", None),
        ('datetime = "%Y%m%d%H:%M:%S"', "", None),  # Oracle gives NULL, SQL Server blanks
        ('datetime = "%Y%m%d%H:%M:%S"', None, None),
    ],
)
def test_cancel_times(compiled: Compiled, keys: str, row: Any, expected: Any) -> None:
    """新致 keeps CancelTime as text in one table and as datetime in its sibling."""
    text = get("qxsj", f'{{ to = "appointment.cancel_time", column = "qxsj", {keys} }}')
    found = ran(compiled("AppointmentService.GetAppointment", text), ORDER, "id qxsj", "Y1", row)[0].appointment
    if expected is None:
        assert not found.HasField("cancel_time")
    else:
        assert found.cancel_time.ToDatetime(tzinfo=ZONE).replace(tzinfo=None) == expected


def test_date_and_time_in_two_columns(compiled: Compiled) -> None:
    keys = 'date_column = "rq", time_column = "sj", datetime = "%Y%m%d%H:%M"'
    text = get("rq sj", f'{{ to = "appointment.book_time", {keys} }}')
    operation = compiled("AppointmentService.GetAppointment", text)
    for day, clock in (("20220812", "08:30"), ("20220812  ", "08:30 "), (date(2022, 8, 12), time(8, 30))):
        if isinstance(day, date):
            native = get("rq sj", '{ to = "appointment.book_time", date_column = "rq", time_column = "sj" }')
            operation = compiled("AppointmentService.GetAppointment", native)
        found = ran(operation, ORDER, "id rq sj", "Y1", day, clock)[0].appointment
        assert found.book_time.ToDatetime(tzinfo=ZONE).replace(tzinfo=None) == datetime(2022, 8, 12, 8, 30)
    answer, _ = ran(operation, ORDER, "id rq sj", "Y1", date(2022, 8, 12), timedelta(hours=8, minutes=30))  # MySQL TIME
    assert answer.appointment.book_time.ToDatetime(tzinfo=ZONE).hour == 8


def test_yuan_and_fen_in_one_row(compiled: Compiled) -> None:
    """160's own message of one hospital: the total in 元, a part of it in 分; a Double of 创业 beside them."""
    text = get(
        "zje zf yb",
        '{ to = "appointment.total_fen", column = "zje", money = "yuan" }',
        '{ to = "appointment.refunded_fen", column = "zf", money = "fen" }',
    )
    operation = compiled("AppointmentService.GetAppointment", text)
    for total in (Decimal("12.30"), 12.299999, 12.3, "12.3", " 12.30"):
        found = ran(operation, ORDER, "id zje zf yb", "Y1", total, 1230, 0)[0].appointment
        assert found.total_fen == found.refunded_fen == 1230
    with pytest.raises(MappingMismatch):
        ran(operation, ORDER, "id zje zf yb", "Y1", "12.30", 12.3, 0)  # 元 where 分 was promised


@pytest.mark.parametrize(
    ("true", "yes", "no"),
    [
        ('["T"]', ("T", "T "), ("F", "0")),
        ("[1, 9]", (1, "1", 9, Decimal("9")), (0, "0", 2)),
        ('["是"]', ("是", "是  "), ("否",)),
        ('["1", "Y"]', (True, "Y"), (False, "N")),
    ],
)
def test_booleans(compiled: Compiled, true: str, yes: tuple[Any, ...], no: tuple[Any, ...]) -> None:
    text = f"""
schema = 1
operation = "PatientService.ListVisitors"
kind = "query"
sql = "SELECT id, xm, mr FROM jzr WHERE zh = :account_id ORDER BY id"
[[result]]
fields = [
  {{ to = "patient.patient_id", column = "id" }},
  {{ to = "patient.name", column = "xm" }},
  {{ to = "is_default", column = "mr", true = {true} }},
]
"""
    operation = compiled("PatientService.ListVisitors", text)
    request = operation.operation.request_class()
    for value in (*yes, *no):
        answer, _ = ran(operation, request, "id xm mr", "P1", "张三", value)
        assert answer.visitors[0].is_default is any(value is item for item in yes)


def test_char_padding_both_ways(compiled: Compiled) -> None:
    text = get("ksdm", '{ to = "appointment.department_id", column = "ksdm" }').replace(
        "[[result]]", 'params = [ { name = "order_no", from = "order_no", pad = 8 } ]\n[[result]]'
    )
    answer, bound = ran(compiled("AppointmentService.GetAppointment", text), ORDER, "id ksdm", "Y1      ", "0101  ")
    assert bound["order_no"] == "T1      "
    assert (answer.appointment.appointment_id, answer.appointment.department_id) == ("Y1", "0101")


def test_empty_text_is_null(compiled: Compiled) -> None:
    """Oracle has no '': what is empty is bound as NULL everywhere, and NULL, '' and blanks come back as absent."""
    text = get("xm", '{ to = "appointment.patient_name", column = "xm" }')
    operation = compiled("AppointmentService.GetAppointment", text)
    empty = appointment_pb2.GetAppointmentRequest()
    for value in (None, "", "  ", "\u3000"):
        answer, bound = ran(operation, empty, "id xm", "Y1", value)
        assert bound["order_no"] is None
        assert answer.appointment.patient_name == ""


def test_what_a_window_wrote_into_a_note(compiled: Compiled) -> None:
    keys = '[ { text = "HIS-手动取消", is = "CANCELLED" }, { text = "费用3-5天自动退回", is = "REFUNDED" } ]'
    text = get(
        "bz", f'{{ to = "appointment.state", column = "bz", contains = {keys}, default = "BOOKED" }}', state=False
    )
    operation = compiled("AppointmentService.GetAppointment", text)
    seen = [
        ran(operation, ORDER, "id bz", "Y1", note)[0].appointment.state
        for note in ("0931 HIS-手动取消", "退号成功，费用3-5天自动退回", "", None)
    ]
    names = ("CANCELLED", "REFUNDED", "BOOKED", "BOOKED")
    assert seen == [common_pb2.AppointmentState.Value(f"APPOINTMENT_STATE_{name}") for name in names]


def test_raw_gbk_there_and_back(compiled: Compiled) -> None:
    """A US7ASCII Oracle that holds GBK bytes: read by CAST_TO_RAW, written by CAST_TO_VARCHAR2, looked up by both."""
    text = get("xm", '{ to = "appointment.patient_name", column = "xm", charset = "gbk-raw" }').replace(
        "[[result]]", 'params = [ { name = "order_no", from = "order_no", charset = "gbk-raw" } ]\n[[result]]'
    )
    text = text.replace("SELECT id, xm", "SELECT id, UTL_RAW.CAST_TO_RAW(xm) AS xm").replace(
        "ddh = :order_no", "ddh = UTL_RAW.CAST_TO_VARCHAR2(:order_no)"
    )
    operation = compiled("AppointmentService.GetAppointment", text, engine="oracle")
    request = appointment_pb2.GetAppointmentRequest(order_no="欠费")
    answer, bound = ran(operation, request, "ID XM", "Y1", "欧阳㛃 ".encode("gb18030"))
    assert bound["order_no"] == "欠费".encode("gbk")
    assert answer.appointment.patient_name == "欧阳㛃"
    with pytest.raises(HisRefused):  # never a ? in the HIS
        ran(operation, appointment_pb2.GetAppointmentRequest(order_no="䶮"), "ID XM", "Y1", b"x")
    with pytest.raises(MappingMismatch):  # converted already, and lost
        ran(operation, ORDER, "ID XM", "Y1", "????")
