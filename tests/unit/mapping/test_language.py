"""What the language says beyond rows and columns: segments, keys in parts, notes, raw GBK, rules, reports, counts."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from his160.v1 import catalog_pb2, common_pb2
from hypothesis import given
from hypothesis import strategies as st

from his_db.access import HisAccess
from his_db.document.problem import DocumentError
from his_db.engine import Rows, Session
from his_db.errors import HisRefused, HisUnavailable, MappingMismatch
from his_db.generation import Generation, compile_generation
from his_db.mapping.convert_in import Unconvertible, converter
from his_db.mapping.convert_out import Unbindable, change_of
from his_db.mapping.cron import cron_fault
from his_db.mapping.load import MappingSet, load_mapping_set
from his_db.mapping.model import FieldSpec, SegmentsSpec, Transform
from his_db.mapping.paths import resolve
from his_db.mapping.read import hours_of
from his_db.mapping.segments import SegmentPlan
from his_db.mapping.tally import Tally, masked
from his_db.mapping.trial import run_tests
from his_db.mapping.when import compile_when, parse_when
from his_db.workbench.masking import Masker

ZONE = ZoneInfo("Asia/Shanghai")
NOW = datetime(2026, 3, 2, 9, 30)
APPOINTMENT = common_pb2.DESCRIPTOR.message_types_by_name["Appointment"]
FREE, TAKEN = common_pb2.SLOT_STATE_FREE, common_pb2.SLOT_STATE_TAKEN


def load(folder: Path, *texts: str, **sources: str) -> MappingSet:
    for at, text in enumerate(texts):
        (folder / f"{at}.toml").write_text(text, encoding="utf-8")
    return load_mapping_set(folder, sources={"his": "sqlite", **sources}, timezone="Asia/Shanghai")


def generation(folder: Path, *texts: str) -> Generation:
    return compile_generation(load(folder, *texts))


class Given:
    """A session that gives these rows to every statement."""

    def __init__(self, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        self.rows = Rows(tuple(columns), list(rows), -1)

    def run(self, sql: str, values: Any, *, max_rows: int) -> Rows:
        return self.rows


def session(columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Session:
    found: Any = Given(columns, rows)
    return found  # type: ignore[no-any-return]


# ------------------------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("transform", "value", "expected"),
    [
        (Transform(part=0), "S1#0830", "S1"),
        (Transform(part=1), "S1#0830", "0830"),
        (Transform(part=1, split="|"), "S1|0830", "0830"),
        (Transform(part=1, moment="%H:%M:%S"), "S1#0830", "08:30:00"),
        (Transform(part=1, read="%H.%M", moment="%H%M"), "S1#08.30", "0830"),
        (Transform(read="%Y-%m-%d", moment="%Y%m%d%H:%M:%S"), "2026-03-02", "2026030200:00:00"),
        (Transform(part=0, number=True), "17#0830", 17),
        (Transform(number=True), " 0017 ", 17),
        (Transform(digits=True), "0017", "0017"),
        (Transform(number=True), 17, 17),
        (Transform(max_chars=2, cuts=True), "㛃䶮𠅤", "㛃䶮"),
        (Transform(max_chars=3), "㛃䶮𠅤", "㛃䶮𠅤"),
        (Transform(charset="gbk-raw"), "张三", b"\xd5\xc5\xc8\xfd"),
        (Transform(charset="gbk-raw", pad=3), "张", b"\xd5\xc5  "),
        (Transform(charset="gbk-raw", max_bytes=3, cuts=True), "张三", b"\xd5\xc5"),
        (Transform(charset="gbk-raw"), None, None),
    ],
)
def test_outward(transform: Transform, value: Any, expected: Any) -> None:
    assert change_of(transform, {})(value) == expected


@pytest.mark.parametrize(
    ("transform", "value"),
    [
        (Transform(part=1), "S1"),
        (Transform(part=1), "S1#"),
        (Transform(part=1, moment="%H:%M"), "S1#2575"),
        (Transform(part=1, moment="%H:%M"), "S1#x"),
        (Transform(read="%Y%m%d", moment="%Y-%m-%d"), "20260230"),
        (Transform(number=True), "12a"),
        (Transform(number=True), "１２"),
        (Transform(number=True), "-1"),
        (Transform(digits=True), "1" * 19),
        (Transform(max_chars=2), "张三李"),
        (Transform(max_bytes=3, charset="gbk"), "张三"),
        (Transform(charset="gbk-raw"), "䶮"),
    ],
)
def test_outward_refuses_without_the_value(transform: Transform, value: str) -> None:
    with pytest.raises(Unbindable) as caught:
        change_of(transform, {})(value)
    assert value not in str(caught.value)


def test_a_key_in_letters_is_the_requests_fault(tmp_path: Path) -> None:
    text = """
schema = 1
operation = "AppointmentService.GetAppointment"
kind = "query"
sql = "SELECT id, state FROM t WHERE id = :id"
params = [ { name = "id", from = "appointment_id", number = true } ]
[[result]]
fields = [ { to = "appointment.appointment_id", column = "id" }, { to = "appointment.state", column = "state" } ]
"""
    operation = generation(tmp_path, text).operation("AppointmentService.GetAppointment")
    request = operation.operation.request_class(appointment_id="DROP")
    with pytest.raises(HisRefused) as caught:
        operation.run(session(("id", "state"), []), request, now=NOW)
    assert "appointment_id" in caught.value.detail
    assert "DROP" not in str(caught.value)


# ---------------------------------------------------------------------------------------------------------- fields


def inward(name: str, **keys: Any) -> Callable[[Any], Any]:
    path = resolve(APPOINTMENT, name)
    assert path is not None
    return converter(path[-1], FieldSpec(to=name, path=(), column="c", **keys), {}, ZONE)


def test_raw_gbk() -> None:
    convert = inward("patient_name", charset="gbk-raw")
    assert convert("张三  ".encode("gbk")) == "张三"
    assert convert(bytearray("㛃".encode("gb18030"))) == "㛃"
    assert convert(None) is None
    assert convert(b"   ") is None
    for bad in ("张三", b"\xd5", 5):
        with pytest.raises(Unconvertible):
            convert(bad)
    day = inward("visit_date", charset="gbk-raw", date_formats=("%Y年%m月%d日",))
    assert day("2026年3月2日".encode("gbk")).day == 2


def test_values_in_a_note() -> None:
    found = (("HIS-手动取消", "CANCELLED"), ("取消", "REFUNDED"))
    convert = inward("state", contains=found, default="BOOKED")
    assert convert("2026 HIS-手动取消(0931)") == common_pb2.APPOINTMENT_STATE_CANCELLED
    assert convert("已取消") == common_pb2.APPOINTMENT_STATE_REFUNDED
    assert convert("") == convert(None) == convert("其他") == common_pb2.APPOINTMENT_STATE_BOOKED
    assert inward("state", contains=found)("其他") is None
    with pytest.raises(Unconvertible):
        convert(b"x")


# ----------------------------------------------------------------------------------------------------------- tally

STATE = """
schema = 1
codes = "state"
map = [ { his = "1", is = "FREE" } ]
"""
SLOTS = """
schema = 1
operation = "CatalogService.ListSlots"
kind = "query"
sql = "SELECT id, zt, n FROM t WHERE id = :schedule_id ORDER BY id"
[[result]]
fields = [
  { to = "slot_id", column = "id" }, { to = "schedule_id", column = "id" },
  { to = "state", column = "zt", codes = "state" }, { to = "free_count", column = "n" },
]
"""


def test_unknown_codes_are_counted(tmp_path: Path) -> None:
    made = generation(tmp_path, STATE, SLOTS)
    operation = made.operation("CatalogService.ListSlots")
    request = catalog_pb2.ListSlotsRequest(schedule_id="1")
    for code in ("7", "7 ", "张三", 7):
        with pytest.raises(MappingMismatch) as caught:
            operation.run(session(("id", "zt", "n"), [("a", code, 1)]), request, now=NOW)
        assert "张三" not in str(caught.value)
    with pytest.raises(MappingMismatch):
        operation.run(session(("id", "zt", "n"), [("a", "1", "x")]), request, now=NOW)
    name = "CatalogService.ListSlots"
    assert HisAccess({}, made).figures() == {(name, "state", '"7"'): 3, (name, "state", "<2 text>"): 1}


def test_the_tally_is_bounded() -> None:
    tally = Tally()
    for at in range(1_005):
        tally.add("m", "f", str(at))
    assert len(tally.figures()) == 1_001
    assert tally.figures()["", "", "…"] == 5
    assert masked("12345") == "<5 ASCII>"
    assert masked("\n") == "<1 ASCII>"


def test_null_everywhere_and_wrong_types(tmp_path: Path) -> None:
    operation = generation(tmp_path, STATE, SLOTS).operation("CatalogService.ListSlots")
    request = catalog_pb2.ListSlotsRequest(schedule_id="1")
    columns = ("id", "zt", "n")
    for row in [(None, None, None), ("a", None, None), ("a", "1", None), (b"a", "1", 1), ("a", "1", 1.5), ([], "1", 1)]:
        with pytest.raises(MappingMismatch) as caught:
            operation.run(session(columns, [row]), request, now=NOW)
        assert "column" in str(caught.value)
    with pytest.raises(MappingMismatch, match="column n is missing"):
        operation.run(session(("id", "zt"), [("a", "1")]), request, now=NOW)


# -------------------------------------------------------------------------------------------------------- segments


def segments(rows: Sequence[tuple[Any, ...]], **keys: Any) -> list[tuple[str, str, int, int, int]]:
    keys = {"begin": "b", "end": "e", "formats": ("%H:%M",), "minutes": None, "count": None, "each": None} | keys
    keys = {"total": None, "taken": "", "taken_count": "", "used": ""} | keys
    plan = SegmentPlan(SegmentsSpec(path=(), **keys), "x")
    found = plan.expand(("id", "b", "e", "n", "t", "c"), rows, lambda row: {"slot_id": row[0]})
    return [
        (
            slot["slot_id"],
            f"{slot['end_time'].hours}:{slot['end_time'].minutes:02}",
            slot["queue_no"],
            slot["free_count"],
            slot["state"],
        )
        for slot in found
    ]


def test_segments_of_minutes_with_a_tail() -> None:
    rows = [("S", "08:00", "09:10", 30, None, None)]
    assert segments(rows, minutes="n", each=2) == [
        ("S#0800", "8:30", 1, 2, FREE),
        ("S#0830", "9:00", 3, 2, FREE),
        ("S#0900", "9:10", 5, 2, FREE),
    ]


def test_segments_of_a_count_and_a_total() -> None:
    rows = [("S", time(8), timedelta(hours=9), 5, None, None)]
    assert segments(rows, count=3, total="n") == [
        ("S#0800", "8:20", 1, 2, FREE),
        ("S#0820", "8:40", 3, 2, FREE),
        ("S#0840", "9:00", 5, 1, FREE),
    ]


def test_segments_of_the_derived_model() -> None:
    """remaining = total - count of bookings, one row for each booking or each group."""
    rows = [("S", "08:00", "09:00", 2, at, count) for at, count in (("08:05", 1), ("08:29", 1), ("12:00", 9))]
    other = ("Z", "08:00", "08:30", 2, None, None)
    assert segments([*rows, other], minutes=30, each="n", taken="t") == [
        ("S#0800", "8:30", 0, 0, TAKEN),
        ("S#0830", "9:00", 3, 2, FREE),
        ("Z#0800", "8:30", 1, 2, FREE),
    ]
    assert segments(rows[:1], minutes=30, each="n", taken="t", taken_count="c")[0] == ("S#0800", "8:30", 2, 1, FREE)


def test_segments_of_the_counter_model() -> None:
    rows = [("S", "08:00", "09:00", 3, None, 4)]
    assert [(item[2], item[3]) for item in segments(rows, minutes=30, each="n", used="c")] == [(0, 0), (5, 2)]


@pytest.mark.parametrize(
    ("row", "keys"),
    [
        ((None, "09:00", 30), {}),
        (("", "09:00", 30), {}),
        (("09:00", "08:00", 30), {}),
        (("08:00", "08:00", 30), {}),
        (("8点", "09:00", 30), {}),
        (("08:00", "09:00", 0), {}),
        (("08:00", "09:00", None), {}),
        (("08:00", "09:00", -5), {}),
        (("08:00", "09:00", "x"), {}),
        (("08:00", "09:00", 30), {"each": "t"}),
        (("08:00", "08:02", 30), {"minutes": None, "count": 5}),
    ],
)
def test_segments_that_make_no_sense(row: tuple[Any, ...], keys: dict[str, Any]) -> None:
    with pytest.raises(MappingMismatch) as caught:
        segments([("S", *row, "-1", None)], **({"minutes": "n"} | keys))
    assert "segments" in str(caught.value)
    assert "8点" not in str(caught.value)


@given(
    st.integers(0, 1300),
    st.integers(1, 139),
    st.integers(1, 60),
    st.integers(0, 200),
    st.integers(0, 250),
)
def test_segments_lose_nobody(begin: int, length: int, minutes: int, total: int, used: int) -> None:
    clocks = [timedelta(minutes=begin), timedelta(minutes=begin + length)]
    rows = [("S", *clocks, total, None, used)]
    found = segments(rows, minutes=minutes, total="n", used="c")
    assert sum(item[3] for item in found) == max(0, total - used)
    assert len({item[0] for item in found}) == len(found)


SEGMENTED = """
schema = 1
operation = "CatalogService.ListSlots"
kind = "query"
sql = "SELECT id, zt, b, e, n FROM t WHERE id = :schedule_id ORDER BY id"
[segments]
begin = "b"
end = "e"
minutes = 10
each = "n"
time = "%H%M"
[[result]]
fields = [
  { to = "slot_id", column = "id" }, { to = "schedule_id", column = "id" }, { to = "state", column = "zt" },
]
"""


def test_segments_page_by_slot_and_keep_a_stop(tmp_path: Path) -> None:
    operation = generation(tmp_path, SEGMENTED).operation("CatalogService.ListSlots")
    columns = ("id", "zt", "b", "e", "n")
    request = catalog_pb2.ListSlotsRequest(schedule_id="P", page_size=4)
    rows = session(columns, [("P", "FREE", 800, "0900", 1)])
    with pytest.raises(MappingMismatch):  # 800 is not HHMM
        operation.run(rows, request, now=NOW)
    rows = session(columns, [("P", "FREE", "0800", "0900", 1)])
    seen = []
    while True:
        page: Any = operation.run(rows, request, now=NOW)
        seen += [slot.slot_id for slot in page.slots]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert seen == [f"P#08{minute:02}" for minute in range(0, 60, 10)]
    request.page_token = ""
    request.free_only = True
    assert not operation.run(session(columns, [("P", "FREE", "0800", "0900", 0)]), request, now=NOW).slots  # type: ignore[attr-defined]
    request.free_only = False
    stopped: Any = operation.run(session(columns, [("P", "SUSPENDED", "0800", "0810", 1)]), request, now=NOW)
    assert [(slot.state, slot.free_count) for slot in stopped.slots] == [(common_pb2.SLOT_STATE_SUSPENDED, 0)]
    assert not operation.run(session(columns, []), request, now=NOW).slots  # type: ignore[attr-defined]


# ----------------------------------------------------------------------------------------------------------- rules


def order(state: str = "BOOKED", **keys: Any) -> common_pb2.Appointment:
    return common_pb2.Appointment(state=common_pb2.AppointmentState.Value(f"APPOINTMENT_STATE_{state}"), **keys)


@pytest.mark.parametrize(
    ("rule", "before", "after", "fits"),
    [
        ("state: BOOKED -> CANCELLED", order(), order("CANCELLED"), True),
        (
            "state: BOOKED -> CANCELLED and operator_id not in platform_operators",
            order(),
            order("CANCELLED", operator_id="0931"),
            True,
        ),
        (
            "state: BOOKED -> CANCELLED and operator_id not in platform_operators",
            order(),
            order("CANCELLED", operator_id="jk160"),
            False,
        ),
        ("state: BOOKED -> gone and operator_id in platform_operators", order(operator_id="jk160"), None, True),
        ("doctor_id: * -> * and state = BOOKED|PAID", order(doctor_id="1"), order(doctor_id="2"), True),
        ("doctor_id: * -> * and state = PAID", order(doctor_id="1"), order(doctor_id="2"), False),
        ('doctor_id: * -> * and note != ""', order(doctor_id="1"), order(doctor_id="2"), False),
        ('doctor_id: * -> * and note != ""', order(doctor_id="1"), order(doctor_id="2", note="x"), True),
        ("state: new -> BOOKED and queue_no = 5", None, order(queue_no=5), True),
        ("doctor_id: * -> * and state: BOOKED -> PAID", order(doctor_id="1"), order("PAID", doctor_id="1"), False),
    ],
)
def test_rules(rule: str, before: Any, after: Any, fits: bool) -> None:
    conditions = parse_when(rule)
    assert conditions is not None
    test = compile_when(conditions, APPOINTMENT, frozenset({"jk160"}))
    assert [test(before, after) for _ in range(2)] == [fits, fits]  # found out, and remembered


@pytest.mark.parametrize(
    "rule",
    [
        "",
        "state",
        "state = BOOKED",
        "a: b -> c and d",
        "a: b -> c and d = *",
        "a in b",
        "x: a -> b and x ==",
    ],
)
def test_rules_that_cannot_be_read(rule: str) -> None:
    assert parse_when(rule) is None


# --------------------------------------------------------------------------------------------------------- reports

REPORT = """
schema = 1
[report.R1]
title = "日对账"
sql = "SELECT rq, je, bl FROM t WHERE rq BETWEEN :from_date AND :to_date"
params = [ { name = "to_date", from = "$to_date", date = "%Y%m%d" } ]
schedule = "30 6 * * mon-fri"
quiet_hours = ["07:30-11:30", "22:00-24:00"]
columns = [
  { name = "day", column = "rq", title = "日期", kind = "date", date = "%Y%m%d" },
  { name = "je", title = "金额", kind = "fen", money = "yuan" },
  { name = "bl", title = "比例", kind = "percent", default = 0 },
]
[report.R2]
title = "月报"
object = "usp_yb"
params = [ { name = "d", from = "$from_date" }, { name = "cur", dir = "out", type = "refcursor" } ]
columns = [ { name = "n", title = "数", kind = "count" } ]
"""


UNSUPPORTED = """
schema = 1
operation = "PaymentService.RefundPayment"
kind = "unsupported"
why = "窗口退费"
"""
WATCH = """
schema = 1
watch = "w"
subject = "appointment"
key = "appointment_id"
sql = "SELECT a.XH AS xh, a.DDH AS ddh, a.ZT AS zt FROM YY a"
fields = [ { to = "appointment_id", column = "xh" }, { to = "order_no", column = "ddh" }, { to = "state", column = "zt" } ]
"""
CODE_MAP = """
schema = 1
codes = "period"
map = [ { his = "1", is = "MORNING" } ]
"""


@pytest.mark.parametrize("texts", [(), ("# nothing yet\n",), (CODE_MAP,), (CODE_MAP, WATCH, REPORT)])
def test_a_set_without_an_operation_is_refused(tmp_path: Path, texts: tuple[str, ...]) -> None:
    """A folder that was emptied, or another one: a valid set would switch a hospital off."""
    (tmp_path / "_draft.toml").write_text(UNSUPPORTED, encoding="utf-8")
    with pytest.raises(DocumentError) as caught:
        load(tmp_path, *texts)
    (problem,) = caught.value.problems
    assert problem.code == ("H206" if texts and texts[0].startswith("#") else "H241")
    assert load(tmp_path, CODE_MAP, WATCH, REPORT, UNSUPPORTED).operations


PASSWORD = """
schema = 1
operation = "AppointmentService.GetAppointment"
kind = "query"
sql = "SELECT id, state FROM t WHERE ddh = :order_no AND mm = :pwd"
params = [ {{ name = "pwd", const = "{const}" }} ]
[[result]]
fields = [ {{ to = "appointment.appointment_id", column = "id" }}, {{ to = "appointment.state", column = "state" }} ]
[[test]]
name = "t"
given = {{ order_no = "T1" }}
sends = {{ pwd = "***" }}
rows = [ {{ id = "1", state = "BOOKED" }} ]
expect = {{ appointment = {{ appointment_id = "1" }} }}
"""


def test_a_password_of_params_is_read_at_each_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A procedure of the HIS wants its own password: named in the mapping, read when it is needed, shown nowhere."""
    found = load(tmp_path, PASSWORD.format(const="@env:HIS160_T_PWD"))
    assert [outcome.passed for outcome in run_tests(found)] == [True]  # there is no secret here, and none is needed
    operation = compile_generation(found).operation("AppointmentService.GetAppointment")
    request = operation.operation.request_class(order_no="T1")
    given = session(("id", "state"), [("1", "BOOKED")])
    with pytest.raises(HisUnavailable, match="@env:"):
        operation.run(given, request, now=NOW)
    bound: list[Any] = []
    plain = given.run
    monkeypatch.setattr(
        given,
        "run",
        lambda sql, values, *, max_rows: (bound.append(values["pwd"]), plain(sql, values, max_rows=max_rows))[1],
    )
    for secret in ("秘密1", "秘密2"):
        monkeypatch.setenv("HIS160_T_PWD", secret)
        operation.run(given, request, now=NOW)
    assert bound == ["秘密1", "秘密2"]
    assert "秘密" not in Masker(found.operations["AppointmentService.GetAppointment"]).bind("pwd", "秘密1")
    assert "秘密" not in caplog.text


@pytest.mark.parametrize("const", ["Abc123", "@env:9", "@file:relative/path", "@credential:a/b"])
def test_a_password_in_params_is_refused(tmp_path: Path, const: str) -> None:
    with pytest.raises(DocumentError) as caught:
        load(tmp_path, PASSWORD.format(const=const))
    (problem,) = caught.value.problems
    assert (problem.code, problem.place.line) == ("H400", 6)
    assert const not in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such file names")
def test_a_file_name_in_gbk_is_a_problem(tmp_path: Path) -> None:
    """A folder that was zipped on Windows and unzipped here."""
    (tmp_path / os.fsdecode("门诊.toml".encode("gbk"))).write_text(UNSUPPORTED, encoding="utf-8")
    for texts in ((), (CODE_MAP, UNSUPPORTED)):
        with pytest.raises(DocumentError) as caught:
            load(tmp_path, *texts)
        (problem,) = caught.value.problems
        assert (problem.code, str(problem.place)) == ("H100", "门诊.toml:1:1")
        assert "unzip -O gbk" in problem.fix_zh
    (tmp_path / "病房.toml").write_text("", encoding="utf-8")  # a Chinese name is none
    with pytest.raises(DocumentError) as caught:
        load(tmp_path)
    assert {problem.code for problem in caught.value.problems} == {"H100", "H206"}


def test_what_cannot_be_read_is_not_called_missing(tmp_path: Path) -> None:
    with pytest.raises(DocumentError) as caught:
        load(tmp_path, CODE_MAP, UNSUPPORTED.replace("kind =", "kind = ["))
    assert "H241" not in {problem.code for problem in caught.value.problems}


def test_reports_are_records(tmp_path: Path) -> None:
    found = load(tmp_path, REPORT, UNSUPPORTED).reports
    assert list(found) == ["R1", "R2"]
    first = found["R1"]
    assert (first.title, first.schedule, first.max_rows) == ("日对账", "30 6 * * mon-fri", 100_000)
    assert first.quiet_hours == ((time(7, 30), time(11, 30)), (time(22), time(0)))
    assert [(column.name, column.kind, column.field.column) for column in first.columns] == [
        ("day", "date", "rq"),
        ("je", "fen", "je"),
        ("bl", "percent", "bl"),
    ]
    assert "BETWEEN" in first.sql()
    assert (found["R2"].object, found["R2"].sql()) == ("usp_yb", "")


def test_two_reports_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(DocumentError) as caught:
        load(tmp_path, REPORT, REPORT)
    assert {problem.code for problem in caught.value.problems} == {"H202"}
    assert "0.toml:3:1" in caught.value.problems[0].message or "0.toml:" in caught.value.problems[0].message


@pytest.mark.parametrize("text", ["0 6 * * *", "*/5 8-18 1,15,last jan-mar mon-fri", "59 23 31 12 7", "0 0 * * 0"])
def test_cron(text: str) -> None:
    assert not cron_fault(text)


@pytest.mark.parametrize(
    "text",
    ["", "* * * *", "60 * * * *", "*/0 * * * *", "5-2 * * * *", "a * * * *", "* * 0 * *", "*-5 * * * *", "1- * * * *"],
)
def test_no_cron(text: str) -> None:
    assert cron_fault(text) or not text


@pytest.mark.parametrize("text", ["", "8-9", "08:00", "08:60-09:00", "25:00-26:00", "08:00-08:00", "24:01-09:00"])
def test_no_hours(text: str) -> None:
    assert hours_of(text) is None


# ------------------------------------------------------------------------------------------------------- code maps

WAY = """
schema = 1
operation = "PaymentService.ConfirmPayment"
kind = "steps"
params = [ { name = "m", from = "method", codes = "way" }, { name = "je", from = "amount_fen", money = "yuan" } ]
[[step]]
name = "x"
sql = "UPDATE t SET m = :m, je = :je WHERE id = :order_no"
expect_rows = 1
[[step]]
name = "y"
sql = "SELECT id, state, m FROM t WHERE id = :order_no"
[[result]]
fields = [ { to = "appointment.appointment_id", column = "id" }, { to = "appointment.state", column = "state" } ]
"""
WAYS = """
schema = 1
codes = "way"
map = [ { his = "15", is = "WECHAT" } ]
"""


def test_a_code_map_that_lacks_values_is_told(tmp_path: Path) -> None:
    try:
        warnings = load(tmp_path, WAY, WAYS).warnings
    except DocumentError as error:
        warnings = error.problems  # type: ignore[assignment]
    assert "H234" in {problem.code for problem in warnings}


def test_national_codes_are_there_and_can_be_replaced(tmp_path: Path) -> None:
    codes = load(tmp_path, SLOTS, STATE).site.codes
    assert {"gb_sex", "insurance_document_type", "state"} <= codes.keys()
    own = STATE.replace('codes = "state"', 'codes = "gb_sex"')
    (tmp_path / "own.toml").write_text(own, encoding="utf-8")
    assert load(tmp_path, SLOTS, STATE).site.codes["gb_sex"].pairs[0].value == "FREE"
    for codes_map in codes.values():
        back = [str(pair.value) for pair in codes_map.pairs if pair.back]
        assert len(back) == len(set(back))
        assert len({pair.his for pair in codes_map.pairs}) == len(codes_map.pairs)
