"""Conversions, by the values met in real systems: domain facts 1.10, 5.1, 5.2."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from google.protobuf.descriptor import FieldDescriptor
from his160.v1 import appointment_pb2, catalog_pb2, common_pb2, patient_pb2, payment_pb2, report_pb2

from his_db.document.located import parse_document
from his_db.errors import MappingMismatch
from his_db.mapping.convert_in import Unconvertible, code_text, converter
from his_db.mapping.convert_out import Unbindable, change_of
from his_db.mapping.model import CodeMap, CodePair, FieldSpec, Transform
from his_db.mapping.paths import getter, resolve
from his_db.mapping.rows import RowPlan

ZONE = ZoneInfo("Asia/Shanghai")
BAD = Unconvertible
APPOINTMENT = common_pb2.DESCRIPTOR.message_types_by_name["Appointment"]


def code_map(pairs: list[tuple[Any, Any]], otherwise: Any = None, back: Any = None) -> CodeMap:
    items = tuple(CodePair(his, value, True, ()) for his, value in pairs)
    return CodeMap("m", parse_document("", "codes.toml"), items, otherwise, back)


CODES = {
    "nhis": code_map([("0101", "MORNING"), ("0102", "AFTERNOON"), ("0202", "EVENING")]),
    "letters": code_map([("a", "MORNING"), ("p", "AFTERNOON"), ("e", "EVENING")], "WHOLE_DAY"),
    "digits": code_map([(1, "MORNING"), ("2", "AFTERNOON"), (3, "EVENING")]),
    "sex": code_map([("男", "1"), ("女", "2"), ("02", "1"), ("03", "2")], "0", "9"),
}


def field(name: str) -> FieldDescriptor:
    found = resolve(APPOINTMENT, name)
    assert found is not None
    return found[-1]


def inward(name: str, **keys: Any) -> Callable[[Any], Any]:
    for key in ("formats", "date_formats", "time_formats"):
        if isinstance(keys.get(key), str):
            keys[key] = (keys[key],)
    return converter(field(name), FieldSpec(to=name, path=(), column="c", **keys), CODES, ZONE)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0101  ", "0101"),
        ("\u3000张 三\u3000", "张 三"),
        ("", None),
        ("   ", None),
        (None, None),
        (10234, "10234"),
        (Decimal("10234"), "10234"),
        (Decimal("10234.00"), "10234"),
        (Decimal("1E+3"), "1000"),
        (Decimal("1.50"), "1.5"),
        (10234.0, "10234"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ("'; DROP TABLE t; --", "'; DROP TABLE t; --"),
        ("㛃䶮𠅤", "㛃䶮𠅤"),
        ("a\0b", "a\0b"),
        (1.5, BAD),
        (float("nan"), BAD),
        (Decimal("NaN"), BAD),
        (True, BAD),
        (b"\xd5\xc5", BAD),
        (date(2026, 3, 2), BAD),
    ],
)
def test_text(value: Any, expected: Any) -> None:
    check(inward("order_no"), value, expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (12.3, 1230),
        (12.299999999, 1230),
        (12.299999, 1230),
        (0.285, 29),  # the float is 0.28499999…; what the HIS means is 0.285
        (1.005, 101),
        (0.1 + 0.2, 30),
        (Decimal("12.345"), 1235),
        (Decimal("-12.345"), -1235),
        ("12.30", 1230),
        (" 12.30 ", 1230),
        ("-5", -500),
        (9, 900),
        (0, 0),
        ("1E2", 10000),
        (None, None),
        ("", None),
        ("１２．３０", BAD),
        ("1_2", BAD),
        ("1,234.00", BAD),
        ("¥12", BAD),
        (float("inf"), BAD),
        (Decimal("sNaN"), BAD),
        (Decimal("1E+999999"), BAD),
        (Decimal("1E-999999"), 0),
        (True, BAD),
        (10**18, BAD),
        (b"12", BAD),
    ],
)
def test_yuan(value: Any, expected: Any) -> None:
    check(inward("total_fen", money="yuan"), value, expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1230, 1230), ("1230", 1230), (Decimal("1230.00"), 1230), (1230.0, 1230), (12.3, BAD), ("12.3", BAD)],
)
def test_fen(value: Any, expected: Any) -> None:
    check(inward("total_fen", money="fen"), value, expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, 7),
        ("07", 7),
        (" 7 ", 7),
        (Decimal("7"), 7),
        (7.0, 7),
        ("7.0", 7),
        (2**31 - 1, 2**31 - 1),
        (2**31, BAD),
        (-(2**31) - 1, BAD),
        ("７", BAD),
        ("٧", BAD),
        ("seven", BAD),
        (7.5, BAD),
        (False, BAD),
        (None, None),
    ],
)
def test_int32(value: Any, expected: Any) -> None:
    check(inward("queue_no"), value, expected)


@pytest.mark.parametrize(
    ("formats", "value", "expected"),
    [
        ("%Y%m%d", "20220812", (2022, 8, 12)),
        ("%Y%m%d", 20220812, (2022, 8, 12)),
        ("%Y%m%d", Decimal(20220812), (2022, 8, 12)),
        ("%Y-%m-%d", "2022-8-2", (2022, 8, 2)),
        ("%Y-%m-%d %H:%M:%S", "2022-08-12 00:00:00", (2022, 8, 12)),
        ("%Y%m%d%H:%M:%S", "2022081208:30:00", (2022, 8, 12)),
        (("%Y-%m-%d", "%Y%m%d"), "20220812", (2022, 8, 12)),
        ("%Y%m%d", date(2022, 8, 12), (2022, 8, 12)),
        ("%Y%m%d", datetime(2022, 8, 12, 23, 59), (2022, 8, 12)),
        ((), date(2022, 8, 12), (2022, 8, 12)),
        ("%y%m%d", "220812", (2022, 8, 12)),
        ("%Y%m%d", "  ", None),
        ("%Y%m%d", None, None),
        ((), "20220812", BAD),
        ("%Y%m%d", "20220230", BAD),
        ("%Y-%m-%d", "0000-00-00", BAD),
        ("%Y%m%d", "２０２２０８１２", BAD),
        ("%Y%m%d", "2022081", BAD),
        ("%Y%m%d", "202208120", BAD),
        ("%Y%m%d", "2022-08-12", BAD),
    ],
)
def test_date(formats: Any, value: Any, expected: Any) -> None:
    convert = inward("visit_date", date_formats=formats)
    check(lambda item: parts(convert(item), "year", "month", "day"), value, expected)


def test_zero_date_is_absent_where_the_mapping_says_so() -> None:
    convert = inward("visit_date", date_formats="%Y-%m-%d", empty=("0000-00-00", 0))
    assert convert("0000-00-00") is None
    assert convert(0) is None
    assert convert("0 ") is None


@pytest.mark.parametrize(
    ("formats", "value", "expected"),
    [
        ("%H:%M", "08:05", (8, 5, 0)),
        ("%H:%M", "8:05", (8, 5, 0)),
        ("%H:%M:%S", "08:05:30", (8, 5, 30)),
        ("%H%M", "0805", (8, 5, 0)),
        ("%H%M", 1805, (18, 5, 0)),
        (("%H:%M:%S", "%H:%M"), "08:05", (8, 5, 0)),
        ("%Y%m%d%H:%M:%S", "2022081208:30:00", (8, 30, 0)),
        ((), time(8, 5), (8, 5, 0)),
        ((), datetime(2022, 8, 12, 8, 5), (8, 5, 0)),
        ((), timedelta(hours=8, minutes=5), (8, 5, 0)),
        ((), timedelta(days=1), (24, 0, 0)),
        ("%H:%M", "24:00", (24, 0, 0)),
        ("%H:%M", "24:01", BAD),
        ("%H:%M", "25:00", BAD),
        ("%H:%M", "08:60", BAD),
        ("%H%M", "805", BAD),
        ("%H:%M", "０８:０５", BAD),
        ((), timedelta(seconds=-1), BAD),
        ((), timedelta(days=2), BAD),
        ((), "08:05", BAD),
    ],
)
def test_time_of_day(formats: Any, value: Any, expected: Any) -> None:
    convert = inward("begin_time", time_formats=formats)
    check(lambda item: parts(convert(item), "hours", "minutes", "seconds"), value, expected)


INSTANT = int(datetime(2022, 8, 12, 0, 30, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("formats", "value", "expected"),
    [
        ("%Y%m%d%H:%M:%S", "2022081208:30:00", (INSTANT, 0)),
        ("%Y-%m-%d %H:%M:%S", "2022-08-12 08:30:00", (INSTANT, 0)),
        ("%Y-%m-%d %H:%M:%S.%f", "2022-08-12 08:30:00.5", (INSTANT, 500_000_000)),
        ((), datetime(2022, 8, 12, 8, 30), (INSTANT, 0)),
        ((), datetime(2022, 8, 12, 8, 30, 0, 3000), (INSTANT, 3_000_000)),
        ((), datetime(2022, 8, 12, 0, 30, tzinfo=UTC), (INSTANT, 0)),
        ("%Y%m%d", "20220812", (INSTANT - 30_600, 0)),
        ("%Y-%m-%d %H:%M:%S", "2022-08-11 24:00:00", (INSTANT - 30_600, 0)),
        ((), date(2022, 8, 12), BAD),
        ((), "2022-08-12 08:30:00", BAD),
        ("%Y-%m-%d %H:%M:%S", "2022-08-12 08:30:61", BAD),
        ("%Y-%m-%d %H:%M:%S", "2022-13-12 08:30:00", BAD),
    ],
)
def test_timestamp(formats: Any, value: Any, expected: Any) -> None:
    convert = inward("book_time", formats=formats)
    check(lambda item: parts(convert(item), "seconds", "nanos"), value, expected)


@pytest.mark.parametrize(
    ("keys", "day", "clock", "expected"),
    [
        ({"formats": ("%Y%m%d%H:%M:%S",)}, "20220812 ", "08:30:00", INSTANT),
        ({"formats": ("%Y%m%d%H%M",)}, 20220812, "0830", INSTANT),
        ({"date_formats": ("%Y%m%d",), "time_formats": ("%H:%M",)}, "20220812", "08:30", INSTANT),
        ({}, date(2022, 8, 12), time(8, 30), INSTANT),
        ({}, datetime(2022, 8, 12), timedelta(hours=8, minutes=30), INSTANT),
        ({"time_formats": ("%H:%M",)}, date(2022, 8, 12), "08:30", INSTANT),
        ({}, date(2022, 8, 12), None, None),
        ({}, "  ", time(8, 30), None),
        ({}, "20220812", "08:30", BAD),
    ],
)
def test_two_columns(keys: dict[str, Any], day: Any, clock: Any, expected: Any) -> None:
    specs = [
        FieldSpec(to="appointment_id", path=(), const="x"),
        FieldSpec(to="state", path=(), const="BOOKED"),
        FieldSpec(to="book_time", path=(), date_column="d", time_column="t", **keys),
    ]
    build = RowPlan(APPOINTMENT, specs, codes={}, zone=ZONE, label="op").builder(("D", "T"))
    if expected is BAD:
        with pytest.raises(MappingMismatch):
            build((day, clock))
        return
    message = common_pb2.Appointment(**build((day, clock)))
    assert (message.book_time.seconds if message.HasField("book_time") else None) == expected


@pytest.mark.parametrize(
    ("codes", "value", "expected"),
    [
        ("nhis", "0101", common_pb2.PERIOD_MORNING),
        ("nhis", "0102  ", common_pb2.PERIOD_AFTERNOON),
        ("nhis", "0301", BAD),
        ("nhis", 101, BAD),
        ("letters", "a", common_pb2.PERIOD_MORNING),
        ("letters", "?", common_pb2.PERIOD_WHOLE_DAY),
        ("digits", 1, common_pb2.PERIOD_MORNING),
        ("digits", "1", common_pb2.PERIOD_MORNING),
        ("digits", Decimal("2.0"), common_pb2.PERIOD_AFTERNOON),
        ("digits", 3.0, common_pb2.PERIOD_EVENING),
        ("digits", True, common_pb2.PERIOD_MORNING),
        ("", "MORNING", common_pb2.PERIOD_MORNING),
        ("", "PERIOD_MORNING ", common_pb2.PERIOD_MORNING),
        ("", "morning", BAD),
        ("", 1, BAD),
        ("", "UNSPECIFIED", BAD),
        ("nhis", None, None),
    ],
)
def test_enum(codes: str, value: Any, expected: Any) -> None:
    check(inward("period", codes=codes), value, expected)


def test_enum_default() -> None:
    assert inward("period", codes="nhis", default="WHOLE_DAY")(" ") == common_pb2.PERIOD_WHOLE_DAY


@pytest.mark.parametrize(
    ("true", "value", "expected"),
    [
        (("T",), "T ", True),
        (("T",), "F", False),
        (("是", 1), "是", True),
        (("是", 1), 1, True),
        (("是", 1), True, True),
        (("是", 1), "否", False),
        (("9",), 9, True),
        (None, 1, True),
        (None, "0", False),
        (None, True, True),
        (None, "T", BAD),
        (None, None, None),
    ],
)
def test_bool(true: Any, value: Any, expected: Any) -> None:
    descriptor = patient_pb2.EnsurePatientResponse.DESCRIPTOR.fields_by_name["created"]
    convert = converter(descriptor, FieldSpec(to="created", path=(), column="c", true=true), {}, ZONE)
    check(convert, value, expected)


def check(convert: Callable[[Any], Any], value: Any, expected: Any) -> None:
    if expected is BAD:
        with pytest.raises(Unconvertible) as caught:
            convert(value)
        shown = str(value)
        assert len(shown) < 4 or shown not in str(caught.value)
    else:
        found = convert(value)
        assert found == expected
        assert type(found) is type(expected) or expected is None


def parts(message: Any, *names: str) -> Any:
    return None if message is None else tuple(getattr(message, name) for name in names)


# ------------------------------------------------------------------------------------------------------- rows

SLOT = catalog_pb2.Slot.DESCRIPTOR


def test_a_bad_value_is_named_by_place_and_type_only() -> None:
    specs = [FieldSpec(to="patient_name", path=(), column="xm"), FieldSpec(to="queue_no", path=(), column="hx")]
    build = RowPlan(APPOINTMENT, specs, codes={}, zone=ZONE, label="X.Y").builder(("xm", "HX"))
    with pytest.raises(MappingMismatch) as caught:
        build(("张三", "秘密七"))
    assert str(caught.value) == "X.Y: field queue_no, column hx: str value is text that is not a number in ASCII digits"


@pytest.mark.parametrize("columns", [("a",), ("a", "b", "B")])
def test_missing_and_doubled_columns(columns: tuple[str, ...]) -> None:
    specs = [FieldSpec(to="slot_id", path=(), column="a"), FieldSpec(to="schedule_id", path=(), column="B")]
    with pytest.raises(MappingMismatch):
        RowPlan(SLOT, specs, codes={}, zone=ZONE, label="op").builder(columns)


def test_required_and_empty() -> None:
    specs = [
        FieldSpec(to="schedule.schedule_id", path=(), column="a"),
        FieldSpec(to="schedule.doctor_id", path=(), column="b"),
        FieldSpec(to="replacement_doctor_id", path=(), column="c"),
    ]
    plan = RowPlan(catalog_pb2.Suspension.DESCRIPTOR, specs, codes={}, zone=ZONE, label="op").builder(("a", "b", "c"))
    assert plan(("s", None, None)) == {"schedule": {"schedule_id": "s"}}
    for row in ((None, "d", None), ("", " ", "x")):
        with pytest.raises(MappingMismatch, match="require"):
            plan(row)


# ------------------------------------------------------------------------------------------------------- outward


@pytest.mark.parametrize(
    ("transform", "value", "expected"),
    [
        (Transform(), "O'Brien", "O'Brien"),
        (Transform(), "", None),
        (Transform(), None, None),
        (Transform(keeps_empty=True), "", ""),
        (Transform(keeps_empty=True), None, ""),
        (Transform(), 0, 0),
        (Transform(case="upper"), "44x", "44X"),
        (Transform(case="lower"), "44X", "44x"),
        (Transform(pad=6), "01", "01    "),
        (Transform(pad=2), "0101", "0101"),
        (Transform(max_bytes=5, charset="gbk", cuts=True), "张三李", "张三"),
        (Transform(max_bytes=5, charset="utf-8", cuts=True), "张三李", "张"),
        (Transform(max_bytes=4, charset="gb18030", cuts=True), "𠅤a", "𠅤"),
        (Transform(max_bytes=9, charset="gbk", cuts=True), "张三", "张三"),
        (Transform(moment="%Y%m%d"), date(2022, 8, 2), "20220802"),
        (Transform(moment="%Y-%m-%d 00:00:00"), date(2022, 8, 2), "2022-08-02 00:00:00"),
        (Transform(moment="%Y%m%d%H:%M:%S"), datetime(2022, 8, 2, 8, 5), "2022080208:05:00"),
        (Transform(moment="%H%M"), time(8, 5), "0805"),
        (Transform(moment="%Y%m%d"), date(22, 8, 2), "00220802"),
        (Transform(moment="%Y%m%d"), None, None),
        (Transform(money="yuan"), 1230, Decimal("12.30")),
        (Transform(money="yuan"), 5, Decimal("0.05")),
        (Transform(money="yuan"), 2**63 - 1, Decimal("92233720368547758.07")),
        (Transform(money="fen"), 1230, 1230),
        (Transform(codes="sex"), "1", "男"),
        (Transform(codes="sex"), "7", "9"),
        (Transform(codes="nhis"), "MORNING", "0101"),
        (Transform(codes="nhis"), "WHOLE_DAY", Unbindable),
        (Transform(), "a\0b", Unbindable),
        (Transform(moment="%Y"), "text", Unbindable),
    ],
)
def test_out(transform: Transform, value: Any, expected: Any) -> None:
    change = change_of(transform, CODES)
    if expected is Unbindable:
        with pytest.raises(Unbindable):
            change(value)
    else:
        assert change(value) == expected


@pytest.mark.parametrize(("value", "expected"), [(True, "1"), (" a ", "a"), (1.0, "1"), (Decimal("1.10"), "1.1")])
def test_code_text(value: Any, expected: str) -> None:
    assert code_text(value) == expected


def test_request_fields_are_read_as_plain_values() -> None:
    request = catalog_pb2.ListSchedulesRequest()
    descriptor = catalog_pb2.ListSchedulesRequest.DESCRIPTOR

    def read(path: str) -> Any:
        found = resolve(descriptor, path)
        assert found is not None
        return getter(found, ZONE)(request)

    assert (read("from_date"), read("department_id"), read("realtime"), read("page_size")) == (None, None, 0, 0)
    request.from_date.year, request.from_date.month, request.from_date.day = 2026, 3, 2
    request.department_id = "01"
    assert (read("from_date"), read("department_id"), read("from_date.year")) == (date(2026, 3, 2), "01", 2026)
    assert resolve(descriptor, "from_date.yaer") is None
    assert resolve(appointment_pb2.GetAppointmentResponse.DESCRIPTOR, "appointment.state") is not None


def test_oneof_by_what_the_row_fills() -> None:
    specs = [
        FieldSpec(to="payment.out_trade_no", path=(), column="no"),
        FieldSpec(to="payment.state", path=(), const="PAID"),
        FieldSpec(to="payment.amount_fen", path=(), column="paid", money="yuan"),
        FieldSpec(to="refund.state", path=(), const="DONE"),
        FieldSpec(to="refund.amount_fen", path=(), column="back", money="yuan"),
    ]
    entry = report_pb2.StatementEntry
    build = RowPlan(entry.DESCRIPTOR, specs, codes={}, zone=ZONE, label="op").builder(("no", "paid", "back"))
    paid = entry(**build(("T1", 12.3, None)))
    assert paid.WhichOneof("entry") == "payment"
    assert paid.payment.amount_fen == 1230
    back = entry(**build((None, None, 12.3)))
    assert back.WhichOneof("entry") == "refund"
    with pytest.raises(MappingMismatch, match="more than one"):
        build(("T1", 1, 1))


def test_map_of_texts() -> None:
    response = payment_pb2.CreatePaymentResponse
    specs = [
        FieldSpec(to="out_trade_no", path=(), column="no"),
        FieldSpec(to="pay_parameters.paySign", path=(), column="sign"),
        FieldSpec(to="pay_parameters.signType", path=(), const="RSA"),
    ]
    build = RowPlan(response.DESCRIPTOR, specs, codes={}, zone=ZONE, label="op").builder(("no", "sign"))
    assert dict(response(**build(("T1", "abc "))).pay_parameters) == {"paySign": "abc", "signType": "RSA"}
