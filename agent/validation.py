"""The rules of the contract for a request: all violations at once, read from the descriptors.

Generic: REQUIRED fields, length of texts, control characters, known enum values, calendar dates, clock times, no
negative number. By table: what a descriptor cannot say. No value of a request appears in a violation.
"""

from __future__ import annotations

import datetime
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.type.date_pb2 import Date

from agent.errors import Violation
from his_db.contract import is_map, is_required
from sync import identity_document

ID_LENGTH: Final = 64
NOTE_LENGTH: Final = 60
TEXT_LENGTH: Final = 200
LIST_LENGTH: Final = 1000
MAX_DAYS: Final = 60

# Longer or shorter than the rule by name: tokens are opaque, an account handle belongs to the mini-program.
_LENGTHS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "page_token": 2048,
        "account_id": 128,
        "certificate_no": 1024,
        "pay_auth_no": 1024,
        "payer_openid": 128,
    }
)
# Most items in one answer, where it is not 1000 (comments of the fields).
_PAGE_SIZES: Final[Mapping[str, int]] = MappingProxyType(
    {"FindPatientsRequest": 100, "ListVisitorsRequest": 100, "ReadEventsRequest": 500}
)
# Longest range of dates in days, where it is not 60: a report may cover a year.
_RANGES: Final[Mapping[str, int]] = MappingProxyType({"ReadReportRequest": 366, "SuspendScheduleRequest": 366})
# At least one of these is given.
ONE_OF: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "GetAppointmentRequest": ("order_no", "appointment_id"),
        "GetPaymentRequest": ("out_trade_no", "order_no"),
        "FindPatientsRequest": ("patient_id", "document_no", "card_no"),
        "GetInsuranceSettlementRequest": ("order_no", "setl_id", "mdtrt_id"),
        "CancelOnSiteRequest": ("order_no", "appointment_id"),
        "RefundOnSiteRequest": ("order_no", "appointment_id"),
        "CheckInRequest": ("order_no", "appointment_id"),
        "GetOrderRequest": ("order_no", "appointment_id"),
        # Nothing given would stop the whole hospital.
        "SuspendScheduleRequest": ("schedule_id", "department_id", "doctor_id"),
    }
)
# Amounts that must be more than 0, not only 0 or more.
_POSITIVE: Final = frozenset({("CreatePaymentRequest", "amount_fen"), ("RefundPaymentRequest", "amount_fen")})
_PATTERNS: Final[Mapping[tuple[str, str], tuple[re.Pattern[str], str, str]]] = MappingProxyType(
    {
        ("CreatePaymentRequest", "out_trade_no"): (
            re.compile(r"[0-9A-Za-z_\-|*]{6,32}"),
            "must be 6 to 32 characters of 0-9 A-Z a-z _ - | *",
            "须为 6 至 32 位的数字、字母或 _ - | *",
        ),
        # A HIS takes any text; a number that nobody can be called or texted at is found out about when it matters.
        ("EnsurePatientRequest", "mobile"): (
            re.compile(r"1[0-9]{10}|(?:\+|00)[1-9](?:[ -]?[0-9]){6,14}"),
            "must be a mobile number: 11 digits beginning with 1, or + and country code (+852…)",
            "须为手机号码：1 开头的 11 位数字；港澳台和境外号码以 + 和国家（地区）代码开头，如 +852…",
        ),
    }
)
_DATES: Final = "google.type.Date"
_TIMES: Final = "google.type.TimeOfDay"
_STAMPS: Final = "google.protobuf.Timestamp"
_LAST_SECOND: Final = 253402300799  # 9999-12-31T23:59:59Z

Check = Callable[[Any, str], Iterator[Violation]]


def validate(request: Message) -> list[Violation]:
    """Every violation of the contract in ``request``, in the order of its fields; empty when there is none."""
    return list(_message_violations(request, ""))


def _message_violations(message: Message, path: str) -> Iterator[Violation]:
    for field, required, checks in _plan(message.DESCRIPTOR):
        yield from _field_violations(message, field, f"{path}{field.name}", required, checks)
    rule = _MESSAGE_RULES.get(message.DESCRIPTOR.name)
    if rule is not None:
        yield from rule(message, path)
    yield from _one_of(message, path)
    yield from _date_range(message, path)


def _field_violations(
    message: Message, field: FieldDescriptor, path: str, required: bool, checks: Sequence[Check]
) -> Iterator[Violation]:
    value = getattr(message, field.name)
    if is_map(field):
        return
    if field.is_repeated:
        yield from _items(value, path, required, checks)
        return
    if field.message_type is not None and not message.HasField(field.name):
        if required:
            yield Violation(path, "is required", "必填")
        return
    if required and _is_empty(field, value):
        yield Violation(path, "is required", "必填")
        return
    for check in checks:
        yield from check(value, path)


def _items(values: Any, path: str, required: bool, checks: Sequence[Check]) -> Iterator[Violation]:
    if required and not values:
        yield Violation(path, "is required", "必填")
    if len(values) > LIST_LENGTH:
        yield Violation(path, f"must hold at most {LIST_LENGTH} items", f"最多 {LIST_LENGTH} 项")
        return
    for index, value in enumerate(values):
        for check in checks:
            yield from check(value, f"{path}[{index}]")


def _is_empty(field: FieldDescriptor, value: Any) -> bool:
    """Whether a required single value is missing. A number or truth value has no "missing" in proto3."""
    if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
        return not value.strip()
    return field.enum_type is not None and value == 0


@cache
def _plan(descriptor: Descriptor) -> tuple[tuple[FieldDescriptor, bool, tuple[Check, ...]], ...]:
    """The checks of each field of a message, made once."""
    return tuple((field, is_required(field), tuple(_checks(descriptor, field))) for field in descriptor.fields)


def _checks(owner: Descriptor, field: FieldDescriptor) -> Iterator[Check]:
    if field.message_type is not None:
        yield _NESTED.get(field.message_type.full_name, lambda value, path: _message_violations(value, f"{path}."))
    elif field.enum_type is not None:
        yield _known_enum(field)
    elif field.type == FieldDescriptor.TYPE_STRING:
        yield _text(_length(field))
        pattern = _PATTERNS.get((owner.name, field.name))
        if pattern is not None:
            yield _form(*pattern)
    elif field.cpp_type in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64):
        yield _number(owner, field)


def _length(field: FieldDescriptor) -> int:
    name = field.name
    if name in _LENGTHS:
        return _LENGTHS[name]
    if name == "note":
        return NOTE_LENGTH
    return ID_LENGTH if name.endswith(("_id", "_ids", "_no")) else TEXT_LENGTH


def _text(length: int) -> Check:
    def check(value: str, path: str) -> Iterator[Violation]:
        if len(value) > length:
            yield Violation(path, f"must be at most {length} characters", f"最多 {length} 个字符")
        if not value.isprintable() and any(unicodedata.category(char) in {"Cc", "Zl", "Zp"} for char in value):
            yield Violation(path, "must not hold control characters", "不能含有控制字符")

    return check


def _form(pattern: re.Pattern[str], rule: str, rule_zh: str) -> Check:
    def check(value: str, path: str) -> Iterator[Violation]:
        if pattern.fullmatch(value) is None:
            yield Violation(path, rule, rule_zh)

    return check


def _known_enum(field: FieldDescriptor) -> Check:
    known = frozenset(value.number for value in field.enum_type.values) if field.enum_type is not None else frozenset()

    def check(value: int, path: str) -> Iterator[Violation]:
        if value not in known:
            yield Violation(path, "is not a value of the contract", "不是接口规定的取值")

    return check


def _number(owner: Descriptor, field: FieldDescriptor) -> Check:
    if field.name == "page_size":
        return _page_size(_PAGE_SIZES.get(owner.name, 1000))
    is_positive = (owner.name, field.name) in _POSITIVE

    def check(value: int, path: str) -> Iterator[Violation]:
        if value < 0:
            yield Violation(path, "must be 0 or more", "不能为负数")
        elif is_positive and value == 0:
            yield Violation(path, "must be more than 0", "必须大于 0")

    return check


def _page_size(maximum: int) -> Check:
    def check(value: int, path: str) -> Iterator[Violation]:
        if not 0 <= value <= maximum:
            yield Violation(path, f"must be from 1 to {maximum}, or 0", f"须在 1 到 {maximum} 之间，或为 0")

    return check


def _to_date(value: Date) -> datetime.date | None:
    try:
        return datetime.date(value.year, value.month, value.day)
    except ValueError:
        return None


def _calendar_date(value: Date, path: str) -> Iterator[Violation]:
    if _to_date(value) is None:
        yield Violation(path, "is not a day of the calendar", "不是有效日期")


def _clock_time(value: Any, path: str) -> Iterator[Violation]:
    try:
        datetime.time(value.hours, value.minutes, value.seconds)
    except ValueError:
        yield Violation(path, "is not a time of the day", "不是有效时间")
    else:
        if not 0 <= value.nanos < 1_000_000_000:
            yield Violation(path, "is not a time of the day", "不是有效时间")


def _instant(value: Any, path: str) -> Iterator[Violation]:
    if not 0 < value.seconds <= _LAST_SECOND or not 0 <= value.nanos < 1_000_000_000:
        yield Violation(path, "is not a point in time after 1970", "不是有效时间")


_NESTED: Final[Mapping[str, Check]] = MappingProxyType({_DATES: _calendar_date, _TIMES: _clock_time, _STAMPS: _instant})


def _one_of(message: Message, path: str) -> Iterator[Violation]:
    keys = ONE_OF.get(message.DESCRIPTOR.name, ())
    if keys and not any(getattr(message, key).strip() for key in keys):
        names = ", ".join(keys)
        yield Violation(f"{path}{keys[0]}", f"at least one of {names} is required", f"{names} 至少填写一项")


def _date_range(message: Message, path: str) -> Iterator[Violation]:
    fields = message.DESCRIPTOR.fields_by_name
    if "from_date" not in fields or "to_date" not in fields:
        return
    if not message.HasField("from_date") or not message.HasField("to_date"):
        return
    first, last = _to_date(getattr(message, "from_date")), _to_date(getattr(message, "to_date"))  # noqa: B009
    if first is None or last is None:
        return
    most = _RANGES.get(message.DESCRIPTOR.name, MAX_DAYS)
    if last < first:
        yield Violation(f"{path}to_date", "must not be before from_date", "不能早于 from_date")
    elif (last - first).days > most:
        yield Violation(
            f"{path}to_date", f"must be at most {most} days after from_date", f"最多比 from_date 晚 {most} 天"
        )


def _split(split: Any, path: str) -> Iterator[Violation]:
    """total_fen = fund_fen + account_fen + cash_fen + hospital_fen (comment of InsuranceSplit).

    The family account is in the account or beside it, as the province says; which, the command itself checks.
    """
    parts = split.fund_fen + split.account_fen + split.cash_fen + split.hospital_fen
    if split.total_fen not in (parts, parts + split.family_account_fen):
        yield Violation(f"{path}total_fen", "must be the sum of its parts", "须等于各部分之和")


def _identity_document(request: Any, path: str) -> Iterator[Violation]:
    """GB 11643: the check character of a resident's number (document type 01) must hold."""
    if request.document_type != identity_document.RESIDENT or not request.document_no.strip():
        return
    # A day ahead: the hospital's zone may be there already.
    today = datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=1)
    try:
        identity_document.parse(request.document_no, today=today)
    except identity_document.InvalidDocument as error:
        yield Violation(f"{path}document_no", str(error), "身份证号校验不通过")


_MESSAGE_RULES: Final[Mapping[str, Check]] = MappingProxyType(
    {"InsuranceSplit": _split, "EnsurePatientRequest": _identity_document}
)
