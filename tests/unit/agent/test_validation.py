"""The rules of a request: all violations at once, never a value in a text."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from google.protobuf.message import Message
from google.type.date_pb2 import Date
from his160.v1 import (
    appointment_pb2,
    catalog_pb2,
    common_pb2,
    desk_pb2,
    event_pb2,
    insurance_pb2,
    patient_pb2,
    payment_pb2,
    report_pb2,
)

from agent.validation import ONE_OF, validate
from his_db.contract import operation, operation_names

DAY = Date(year=2026, month=11, day=23)
NUMBER = "11010519491231002X"


def fields(request: Message) -> list[str]:
    return [violation.field for violation in validate(request)]


def day(value: date) -> Date:
    return Date(year=value.year, month=value.month, day=value.day)


def ensure(**changes: str) -> patient_pb2.EnsurePatientRequest:
    values = {
        "request_id": "r1",
        "name": "张三",
        "document_type": "01",
        "document_no": NUMBER,
        "mobile": "13800000000",
        **changes,
    }
    return patient_pb2.EnsurePatientRequest(**values)


def test_a_good_request_has_no_violation() -> None:
    assert validate(ensure()) == []
    assert validate(catalog_pb2.ListSchedulesRequest(from_date=DAY, to_date=DAY, page_size=1000)) == []


@pytest.mark.parametrize("name", operation_names())
def test_every_required_text_and_message_of_every_request_is_asked_for(name: str) -> None:
    from his_db.contract import required_fields

    kind = operation(name).request_class
    numbers = {item.name for item in kind.DESCRIPTOR.fields if item.type in (item.TYPE_INT64, item.TYPE_INT32)}
    wanted = set(required_fields(kind.DESCRIPTOR)) - numbers
    assert wanted <= set(fields(kind()))


def test_all_violations_come_at_once() -> None:
    request = appointment_pb2.CancelAppointmentRequest(request_id="a\x00", note="长" * 61)
    assert fields(request) == ["request_id", "order_no", "note"]


@pytest.mark.parametrize(("name", "length"), [("request_id", 64), ("name", 200), ("document_no", 64), ("address", 200)])
def test_texts_have_a_length(name: str, length: int) -> None:
    assert name not in fields(ensure(document_type="03", **{name: "长" * length}))
    assert name in fields(ensure(document_type="03", **{name: "长" * (length + 1)}))


@pytest.mark.parametrize("text", ["a\nb", "a\tb", "a\x7f", "a\u2028b", "\x85a"])
def test_control_characters_are_refused(text: str) -> None:
    assert fields(ensure(name=text)) == ["name"]


@pytest.mark.parametrize("text", ["王\u3000五", "𠅤军", "Müller-O'Neill", "阿依古丽·买买提"])
def test_names_of_people_pass(text: str) -> None:
    assert fields(ensure(name=text)) == []


@pytest.mark.parametrize("text", ["", "  ", "\u3000"])
def test_a_blank_is_no_value(text: str) -> None:
    assert fields(ensure(name=text)) == ["name"]


@pytest.mark.parametrize(
    "text",
    [
        "13800000000",
        "19912345678",
        "+86 138 0000 0000",
        "+8613800000000",
        "+852 5123 4567",
        "0085351234567",
        "+1-212-555-0123",
    ],
)
def test_mobile_numbers(text: str) -> None:
    assert fields(ensure(mobile=text)) == []


@pytest.mark.parametrize(
    "text", ["not a number", "无", "1380000000", "138000000000", "23800000000", "51234567", "0755-12345678", "+853", "+0 51234567",
             "１３８００００００００", "138****0000", "13800000000/13900000000", "13800000000 ", "+852  51234567", "+12345678901234567"]
)  # fmt: skip
def test_what_is_no_mobile_number(text: str) -> None:
    """A landline, a masked number, two in one: the HIS would take any of them, and nobody could be told of a stop."""
    violations = validate(ensure(mobile=text))
    assert [violation.field for violation in violations] == ["mobile"]
    assert text not in violations[0].rule + violations[0].rule_zh
    assert "手机号码" in violations[0].rule_zh


@pytest.mark.parametrize(("size", "good"), [(-1, False), (0, True), (1, True), (100, True), (101, False)])
def test_page_sizes_of_patients(size: int, good: bool) -> None:
    assert (fields(patient_pb2.FindPatientsRequest(patient_id="1", page_size=size)) == []) is good


@pytest.mark.parametrize(("size", "good"), [(-5, False), (1000, True), (1001, False)])
def test_page_sizes(size: int, good: bool) -> None:
    assert (fields(catalog_pb2.ListDepartmentsRequest(page_size=size)) == []) is good
    assert (fields(event_pb2.ReadEventsRequest(page_size=min(size, 501))) == []) is (0 <= min(size, 501) <= 500)


def test_ranges_of_dates() -> None:
    first = date(2026, 11, 23)
    for days, good in ((0, True), (60, True), (61, False), (-1, False)):
        request = catalog_pb2.ListSchedulesRequest(from_date=day(first), to_date=day(first + timedelta(days=days)))
        assert (fields(request) == []) is good, days
    report = report_pb2.ReadReportRequest(name="R1", from_date=day(first), to_date=day(first + timedelta(days=366)))
    assert fields(report) == []


@pytest.mark.parametrize("parts", [(0, 0, 0), (2026, 2, 30), (2026, 11, 0), (-1, 1, 1), (10000, 1, 1)])
def test_dates_are_days_of_the_calendar(parts: tuple[int, int, int]) -> None:
    year, month, number = parts
    bad = Date(year=year, month=month, day=number)
    assert fields(catalog_pb2.ListSchedulesRequest(from_date=bad, to_date=DAY)) == ["from_date"]


def test_absent_dates_are_required() -> None:
    assert fields(catalog_pb2.ListSchedulesRequest()) == ["from_date", "to_date"]


def test_money_is_never_negative() -> None:
    request = payment_pb2.ConfirmPaymentRequest(request_id="r", order_no="o", out_trade_no="t", transaction_id="x")
    request.method = common_pb2.PAYMENT_METHOD_WECHAT
    request.pay_time.GetCurrentTime()
    assert fields(request) == []
    request.amount_fen = -1
    assert fields(request) == ["amount_fen"]


def test_refunds_and_payments_are_of_something() -> None:
    refund = payment_pb2.RefundPaymentRequest(request_id="r", order_no="o", out_trade_no="t", out_refund_no="u")
    assert fields(refund) == ["amount_fen"]
    payment = payment_pb2.CreatePaymentRequest(request_id="r", order_no="o", out_trade_no="T-1|*_", amount_fen=1)
    assert fields(payment) == []
    payment.out_trade_no = "短号码错误"
    assert fields(payment) == ["out_trade_no"]


@pytest.mark.parametrize("name", sorted(ONE_OF))
def test_one_of_the_keys_is_needed(name: str) -> None:
    kinds = {operation(o).request_class.DESCRIPTOR.name: operation(o).request_class for o in operation_names()}
    keys = ONE_OF[name]
    first = [violation for violation in validate(kinds[name]()) if "at least one" in violation.rule]
    assert [violation.field for violation in first] == [keys[0]]
    for key in keys:
        rules = [violation.rule for violation in validate(kinds[name](**{key: "1"}))]
        assert not any("at least one" in rule for rule in rules)


def test_enums_are_known() -> None:
    request = desk_pb2.SuspendScheduleRequest(request_id="r", schedule_id="s", operator_id="1")
    request.period = 99  # type: ignore[assignment]
    assert fields(request) == ["period"]


@pytest.mark.parametrize("number", ["110105194912310021", "11010519491331002X", "123", "1101051949123100２X"])
def test_identity_numbers_are_checked(number: str) -> None:
    assert fields(ensure(document_no=number)) == ["document_no"]
    assert fields(ensure(document_no=number, document_type="03")) == []


def test_the_parts_of_a_settlement_make_the_whole() -> None:
    split = insurance_pb2.InsuranceSplit(total_fen=100, fund_fen=60, account_fen=30, cash_fen=10)
    credential = insurance_pb2.InsuranceCredential(certificate_type="01", certificate_no="token" * 40)
    request = insurance_pb2.SettleInsuranceRequest(
        request_id="r", order_no="o", credential=credential, agreed_split=split
    )
    assert fields(request) == []
    request.agreed_split.cash_fen = 11
    assert fields(request) == ["agreed_split.total_fen"]
    request.agreed_split.family_account_fen = 5  # beside the account: some provinces count so
    request.agreed_split.total_fen = 106
    assert fields(request) == []
    request.agreed_split.total_fen = 100
    request.credential.certificate_no = ""
    assert fields(request) == ["credential.certificate_no", "agreed_split.total_fen"]


def test_lists_have_a_length() -> None:
    assert fields(event_pb2.AckEventsRequest(event_ids=["x"] * 1000)) == []
    assert fields(event_pb2.AckEventsRequest(event_ids=["x"] * 1001)) == ["event_ids"]
    assert fields(event_pb2.AckEventsRequest(event_ids=["x", "y\n"])) == ["event_ids[1]"]


def test_no_value_is_repeated() -> None:
    secret = "绝密" * 100 + "\n"
    request = ensure(**dict.fromkeys(("name", "document_no", "mobile", "sex", "address", "request_id"), secret))
    violations = validate(request)
    assert len(violations) >= 6
    assert not any("绝密" in f"{v.field}{v.rule}{v.rule_zh}" for v in violations)
