from __future__ import annotations

from datetime import date

import pytest
from google.type import date_pb2
from his160.v1 import patient_pb2, reason_pb2
from hypothesis import given
from hypothesis import strategies as st

from his_db.errors import HisRefused
from sync.identity_document import InvalidDocument, check_character, completed, parse

TODAY = date(2026, 11, 23)


@pytest.mark.parametrize(
    ("text", "number", "sex", "born"),
    [
        ("11010519491231002X", "11010519491231002X", "2", date(1949, 12, 31)),
        (" 11010519491231002x ", "11010519491231002X", "2", date(1949, 12, 31)),
        ("440524188001010014", "440524188001010014", "1", date(1880, 1, 1)),
        ("110105491231002", "11010519491231002X", "2", date(1949, 12, 31)),
    ],
)
def test_valid_numbers(text: str, number: str, sex: str, born: date) -> None:
    found = parse(text, today=TODAY)
    assert (found.text, found.sex, found.birthday) == (number, sex, born)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "44030019000101123X",  # WeChat's own sample
        "110105194912310021",
        "1101051949123100",
        "11010519491331002X",
        "11010549123100X",
        "1101051949123100２X",
        "X" * 18,
        "110105" + "29990101002" + check_character("110105" + "29990101002"),
        "110105" + "19490231002" + check_character("110105" + "19490231002"),
    ],
)
def test_wrong_numbers_are_refused_without_being_named(text: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        parse(text, today=TODAY)
    assert text == "" or text not in str(caught.value)


@given(st.integers(0, 16), st.integers(1, 9))
def test_one_wrong_digit_is_always_found(place: int, shift: int) -> None:
    good = "440524188001010014"
    wrong = good[:place] + str((int(good[place]) + shift) % 10) + good[place + 1 :]
    with pytest.raises(InvalidDocument):
        parse(wrong, today=TODAY)


def request(**fields: object) -> patient_pb2.EnsurePatientRequest:
    values: dict[str, object] = {"document_type": "01", "document_no": "11010519491231002x", **fields}
    return patient_pb2.EnsurePatientRequest(**values)  # type: ignore[arg-type]


def test_sex_and_birthday_come_from_the_number() -> None:
    found = completed(request(), today=TODAY)
    assert (found.document_no, found.sex) == ("11010519491231002X", "2")
    assert (found.birthday.year, found.birthday.month, found.birthday.day) == (1949, 12, 31)
    same = completed(request(sex="2", birthday=date_pb2.Date(year=1949, month=12, day=31)), today=TODAY)
    assert same == found


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"document_no": "110105194912310021"}, "document_no"),
        ({"sex": "1"}, "sex"),
        ({"birthday": date_pb2.Date(year=1950, month=1, day=1)}, "birthday"),
    ],
)
def test_contradictions_name_the_field_only(fields: dict[str, object], name: str) -> None:
    with pytest.raises(HisRefused) as caught:
        completed(request(**fields), today=TODAY)
    assert caught.value.reason == reason_pb2.REASON_INVALID_REQUEST
    assert caught.value.detail.startswith(name)
    assert "1949" not in str(caught.value)


def test_other_documents_are_only_put_in_order() -> None:
    found = completed(request(document_type="03", document_no=" e12345678 "), today=TODAY)
    assert found.document_no == "E12345678"
    assert not found.HasField("birthday")


CHILD = {"document_type": "99", "document_no": "birth-1", "birthday": date_pb2.Date(year=2020, month=5, day=1)}
PARENT = {"guardian_name": "测试乙", "guardian_document_no": "11010519491231002x"}


def test_a_child_without_a_number_comes_with_a_guardian() -> None:
    """Facts 1.8: guardian name and document (child without ID)."""
    found = completed(request(**CHILD, **PARENT), today=TODAY)
    assert found.guardian_document_no == "11010519491231002X"
    completed(request(**{**CHILD, "birthday": date_pb2.Date(year=1980, month=5, day=1)}), today=TODAY)
    completed(request(document_no="110105202005010013"[:17] + check_character("11010520200501001")), today=TODAY)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        (CHILD, "guardian_name"),
        ({**CHILD, "guardian_name": "测试乙"}, "guardian_document_no"),
        ({**CHILD, "guardian_document_no": "E12345678"}, "guardian_name"),
        ({**CHILD, **PARENT, "guardian_document_no": "110105194912310021"}, "guardian_document_no"),
        (
            {
                **CHILD,
                **PARENT,
                "guardian_document_no": "11010520200501001" + check_character("11010520200501001"),
            },
            "guardian_document_no",
        ),
        ({**PARENT}, "guardian_document_no"),  # oneself
    ],
)
def test_a_guardian_is_an_adult_and_somebody_else(fields: dict[str, object], name: str) -> None:
    with pytest.raises(HisRefused) as caught:
        completed(request(**fields), today=TODAY)
    assert caught.value.reason == reason_pb2.REASON_INVALID_REQUEST
    assert caught.value.detail.startswith(name)
    assert "1101" not in str(caught.value)
