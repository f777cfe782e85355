"""Resident identity numbers (GB 11643): check character, sex and birthday, and what they mean for 建档.

Errors name the field and the rule, never the number.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Final

from google.type import date_pb2
from his160.v1 import patient_pb2, reason_pb2

from his_db.errors import HisRefused

RESIDENT: Final = "01"  # CV02.01.101 居民身份证
MALE, FEMALE = "1", "2"  # GB/T 2261.1
_UNKNOWN_SEX: Final = frozenset({"", "0", "9"})
_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECKS: Final = "10X98765432"
_ADULT: Final = 18  # years; 民法典 17: 不满十八周岁的自然人为未成年人


class InvalidDocument(ValueError):
    """The number breaks a rule of GB 11643. The text says which, without the number."""


@dataclass(frozen=True, slots=True)
class ResidentNumber:
    """A valid number, 18 characters, upper case, and what it says. ``sex`` is GB/T 2261.1."""

    text: str
    sex: str
    birthday: date


def check_character(body: str) -> str:
    """The 18th character for the first 17 digits."""
    return _CHECKS[sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, body, strict=True)) % 11]


def parse(text: str, *, today: date) -> ResidentNumber:
    """Reads a number of 18, or of 15 characters (before 1999; made into 18). Raises InvalidDocument.

    Numbers of foreigners with permanent residence (they begin with 9) follow the same rule.
    """
    number = text.strip().upper()
    if not number.isascii() or not number[:-1].isdigit():
        raise InvalidDocument("must be digits, the last one may be X")
    if len(number) == 15:
        if not number.isdigit():
            raise InvalidDocument("of 15 characters must be digits")
        body = f"{number[:6]}19{number[6:]}"
        number = body + check_character(body)
    if len(number) != 18:
        raise InvalidDocument("must have 18 (or 15) characters")
    if check_character(number[:17]) != number[17]:
        raise InvalidDocument("has a wrong check character")
    try:
        birthday = date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        raise InvalidDocument("holds no date of birth") from None
    if not date(1850, 1, 1) <= birthday <= today:
        raise InvalidDocument("holds an impossible date of birth")
    return ResidentNumber(number, MALE if int(number[16]) % 2 else FEMALE, birthday)


def completed(request: patient_pb2.EnsurePatientRequest, *, today: date) -> patient_pb2.EnsurePatientRequest:
    """The request with its document in normal form, sex and birthday filled in from it where they were left out.

    Documents of another type are only trimmed and put in upper case. A minor without a resident's number of their own
    comes with a guardian, who is an adult and somebody else. Raises HisRefused (INVALID_REQUEST) that names the field
    when the number is wrong or contradicts sex or birthday.
    """
    copy = patient_pb2.EnsurePatientRequest()
    copy.CopyFrom(request)
    copy.document_no = request.document_no.strip().upper()
    copy.guardian_document_no = request.guardian_document_no.strip().upper()
    _check_guardian(copy, today)
    if request.document_type != RESIDENT:
        return copy
    try:
        number = parse(copy.document_no, today=today)
    except InvalidDocument as error:
        raise _refused("document_no", str(error)) from error
    copy.document_no = number.text
    if copy.sex in _UNKNOWN_SEX:
        copy.sex = number.sex
    elif copy.sex != number.sex:
        raise _refused("sex", "contradicts document_no")
    born = date_pb2.Date(year=number.birthday.year, month=number.birthday.month, day=number.birthday.day)
    if not copy.HasField("birthday"):
        copy.birthday.CopyFrom(born)
    elif copy.birthday != born:
        raise _refused("birthday", "contradicts document_no")
    return copy


def _check_guardian(request: patient_pb2.EnsurePatientRequest, today: date) -> None:
    number, name = request.guardian_document_no, request.guardian_name.strip()
    if bool(number) != bool(name):
        raise _refused("guardian_document_no" if name else "guardian_name", "is missing: name and document go together")
    if number and number == request.document_no:
        raise _refused("guardian_document_no", "is the patient's own")
    if len(number) in (15, 18) and number[:-1].isdigit():  # a resident's; other documents have no rule to check
        try:
            guardian = parse(number, today=today)
        except InvalidDocument as error:
            raise _refused("guardian_document_no", str(error)) from error
        if _age(guardian.birthday, today) < _ADULT:
            raise _refused("guardian_document_no", "is a minor's")
    if request.document_type == RESIDENT or number or not request.HasField("birthday"):
        return
    try:
        born = date(request.birthday.year, request.birthday.month or 1, request.birthday.day or 1)
    except ValueError:
        raise _refused("birthday", "is no date") from None
    if _age(born, today) < _ADULT:
        raise _refused("guardian_name", "is missing: a minor without a resident's number comes with a guardian")


def _age(birthday: date, today: date) -> int:
    return today.year - birthday.year - ((today.month, today.day) < (birthday.month, birthday.day))


def _refused(field: str, rule: str) -> HisRefused:
    return HisRefused(reason_pb2.REASON_INVALID_REQUEST, f"{field} {rule}")
