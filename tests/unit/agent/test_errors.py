"""The table of refusals is total, and says what the comments of reason.proto say."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from google.rpc import code_pb2, error_details_pb2
from his160.v1 import reason_pb2

from agent.errors import DOMAIN, REFUSALS, CallRefused, Retry, Violation, explain, reason_of, to_status
from his_db.contract import comment
from his_db.errors import HisBusy, HisError, HisRefused, OperationNotMapped, OutcomeUnknown
from sync.store import StoreError, StoreUnavailable

REASONS = [value for value in reason_pb2.Reason.values() if value]
_CODE = re.compile(r"\b(" + "|".join(sorted(code_pb2.Code.keys(), key=len, reverse=True)) + r")\b")


def test_the_table_is_total() -> None:
    assert set(REFUSALS) == set(reason_pb2.Reason.values())


@pytest.mark.parametrize("reason", REASONS)
def test_the_table_says_what_the_contract_says(reason: reason_pb2.Reason.ValueType) -> None:
    name = reason_pb2.Reason.Name(reason)
    said = comment(f"his160.v1.Reason.{name}")
    codes = _CODE.findall(said)
    assert codes, f"{name}: the comment names no code"
    refusal = REFUSALS[reason]
    assert code_pb2.Code.Name(refusal.code) == codes[-1]
    if "with RetryInfo" in said:
        assert refusal.delay is not None
    if "without RetryInfo" in said:
        assert refusal.delay is None


@pytest.mark.parametrize("reason", reason_pb2.Reason.values())
def test_only_unavailable_means_send_the_same_again(reason: reason_pb2.Reason.ValueType) -> None:
    refusal = REFUSALS[reason]
    assert (refusal.retry is Retry.SAME) == (refusal.code == code_pb2.UNAVAILABLE)
    assert (refusal.retry is Retry.NEVER) == (refusal.delay is None)
    assert refusal.delay is None or refusal.delay > timedelta(0)


@pytest.mark.parametrize("reason", reason_pb2.Reason.values())
def test_every_sentence_is_chinese_and_says_nothing_of_the_inside(reason: reason_pb2.Reason.ValueType) -> None:
    text = REFUSALS[reason].text
    assert re.search(r"[\u4e00-\u9fff]", text)
    assert not re.search(r"[A-Za-z0-9_]", text)


@pytest.mark.parametrize("reason", REASONS)
def test_a_status_has_exactly_one_error_info(reason: reason_pb2.Reason.ValueType) -> None:
    status = to_status(HisRefused(reason, "table ghao of host db1"), operation="X.Y", call_id="s1")
    infos = [detail for detail in status.details if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR)]
    assert len(infos) == 1
    info = error_details_pb2.ErrorInfo()
    infos[0].Unpack(info)
    assert info.domain == DOMAIN
    assert f"REASON_{info.reason}" == reason_pb2.Reason.Name(reason)
    assert dict(info.metadata) == {"operation": "X.Y", "call_id": "s1"}
    assert b"ghao" not in status.SerializeToString()


def test_a_retry_delay_of_the_error_wins() -> None:
    explained = explain(to_status(HisBusy("locked", retry_after=timedelta(milliseconds=2500))))
    assert explained.retry_after == timedelta(milliseconds=2500)
    assert (
        explain(to_status(HisRefused(reason_pb2.REASON_SLOT_TAKEN, "", retry_after=timedelta(1)))).retry_after is None
    )


def test_the_note_of_the_mapping_reaches_people() -> None:
    text = explain(to_status(OperationNotMapped("X.Y", note="本院不支持\n在线退号"))).text
    assert text == "本院未开通此功能：本院不支持 在线退号"
    assert len(explain(to_status(OperationNotMapped("X.Y", note="长" * 999))).text) < 250


def test_violations_come_back() -> None:
    violations = (Violation("order_no", "is required", "必填"), Violation("note", "is long", "过长"))
    status = to_status(CallRefused(reason_pb2.REASON_INVALID_REQUEST, violations=violations))
    assert explain(status).violations == violations
    assert status.message == "invalid request: order_no is required; note is long"


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (ValueError("张三"), "INTERNAL"),
        (KeyError(), "INTERNAL"),
        (HisError("x"), "INTERNAL"),
        (OutcomeUnknown("x"), "OUTCOME_UNKNOWN"),
        (StoreError("x"), "INTERNAL"),
        (StoreUnavailable("x"), "OVERLOADED"),
    ],
)
def test_every_exception_has_a_reason(error: Exception, name: str) -> None:
    assert explain(to_status(error)).reason == name
    assert "张三" not in str(to_status(error))


@pytest.mark.parametrize("reason", [0, -1, 9999, "SLOT_TAKEN", True, None])
def test_an_impossible_reason_is_a_defect(reason: object) -> None:
    error = Exception()
    error.reason = reason  # type: ignore[attr-defined]
    assert reason_of(error) == reason_pb2.REASON_INTERNAL
