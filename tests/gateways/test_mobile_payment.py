"""gateway = "mobile_payment" against its simulator: every transaction, every fault, seals in both directions."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from his160.site.v1 import fee_pb2
from his160.site.v1 import mobile_payment_pb2 as p
from his160.v1 import insurance_pb2, reason_pb2

from his_db.crypto.sm2 import Sm2Private
from his_db.errors import HisBusy, HisRefused, HisUnavailable, MappingMismatch, OutcomeUnknown
from his_db.gateway import NoticeReader, NoticeRefused
from his_db.mobile.orders import Orders
from his_db.mobile.sealing import CentreSeals, SealBroken, canonical, cleaned, compact, derived_key
from his_db.reply_fields import Fields
from his_db.simulator import FaultKind
from tests.simulated import ZONE, Bench, StillClock

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=ZONE)
SERVICE = "MobilePaymentService."
CREDENTIAL = insurance_pb2.InsuranceCredential(certificate_type="01", certificate_no="TOKEN1", insured_area="440300")
ITEMS = [fee_pb2.FeeItem(item_id="GH01", national_code="001102000010000", name="挂号费", amount_fen=2500)]
UPLOAD: dict[str, Any] = {
    "request_id": "r1",
    "hospital_order_no": "YB1",
    "credential": CREDENTIAL,
    "patient_name": "张三",
    "document_no": "11010519491231002X",
    "document_type": "01",
    "insutype": "310",
    "medical_type": "12",
    "visit_no": "MZ1",
    "doctor_code": "D1",
    "doctor_name": "李医生",
    "department_code": "A03",
    "department_name": "内科",
    "specialty_code": "A03",
    "total_fen": 2500,
    "batch_no": "B1",
    "items": ITEMS,
}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mobile-keys")


@pytest.fixture
async def bench(tmp_path: Path, keys: Path) -> AsyncIterator[Bench]:
    found = Bench("mobile", "mobile", tmp_path, keys, StillClock(NOW), patience=timedelta(seconds=4))
    yield found
    await found.close()


async def ask(bench: Bench, name: str, **fields: Any) -> Any:
    answer = getattr(p, f"{name}Response")
    if "request_id" in getattr(p, f"{name}Request").DESCRIPTOR.fields_by_name:
        fields.setdefault("request_id", "r")
    return await bench.ask(SERVICE + name, answer, **fields)


async def refused(bench: Bench, name: str, **fields: Any) -> str:
    with pytest.raises(HisRefused) as caught:
        await ask(bench, name, **fields)
    return reason_pb2.Reason.Name(caught.value.reason).removeprefix("REASON_")


async def paid(bench: Bench, **other: Any) -> p.MobileOrder:
    upload = await ask(bench, "UploadOrder", **(UPLOAD | other))
    fields = {"pay_order_id": upload.pay_order_id, "pay_token": upload.pay_token, "pay_auth_no": "AUTH1"}
    order: p.MobileOrder = (await ask(bench, "PayOrder", **fields)).order
    return order


def back(
    order: p.MobileOrder, number: str = "RB1", kind: Any = p.MOBILE_REFUND_TYPE_ALL, **split: int
) -> dict[str, Any]:
    when = Timestamp()
    when.FromDatetime(NOW)
    parts = split or {"fund_fen": 1750, "account_fen": 0, "cash_fen": 750}
    fields = {"pay_order_id": order.pay_order_id, "refund_no": number, "refund_time": when, "type": kind}
    return fields | {"split": insurance_pb2.InsuranceSplit(total_fen=sum(parts.values()), **parts)}


async def test_an_order_from_upload_to_refund(bench: Bench) -> None:
    upload = await ask(bench, "UploadOrder", **UPLOAD)
    again = await ask(bench, "UploadOrder", **UPLOAD)
    assert again == upload
    quoted = (await ask(bench, "QueryOrder", hospital_order_no="YB1")).order
    assert (quoted.state, quoted.pay_order_id) == (p.MOBILE_ORDER_STATE_QUOTED, upload.pay_order_id)
    assert (quoted.split.total_fen, quoted.split.fund_fen, quoted.split.cash_fen) == (2500, 1750, 750)
    assert not quoted.setl_id
    fields = {"pay_order_id": upload.pay_order_id, "pay_token": upload.pay_token, "pay_auth_no": "AUTH1"}
    order = (await ask(bench, "PayOrder", **fields)).order
    assert order.state == p.MOBILE_ORDER_STATE_INSURANCE_DONE
    assert (order.split.total_fen, order.split.fund_fen, order.split.cash_fen) == (2500, 1750, 750)
    assert order.settle_time.ToDatetime(tzinfo=UTC) == NOW
    assert order.mdtrt_id
    assert order.setl_id
    assert (await ask(bench, "PayOrder", **fields)).order == order
    bench.act("pay_cash", payOrdId=order.pay_order_id)
    found = (await ask(bench, "QueryOrder", pay_order_id=order.pay_order_id, pay_token=upload.pay_token)).order
    assert found.state == p.MOBILE_ORDER_STATE_DONE
    for _ in range(2):
        refund = (await ask(bench, "RefundOrder", **back(order))).order
        assert refund.state == p.MOBILE_ORDER_STATE_REFUNDED
    assert len(bench.rows("mobile_refund")) == 1


async def test_an_order_is_cancelled_and_stays_so(bench: Bench) -> None:
    upload = await ask(bench, "UploadOrder", **UPLOAD)
    for _ in range(2):
        await ask(bench, "CancelOrder", pay_order_id=upload.pay_order_id)
    found = (await ask(bench, "QueryOrder", pay_order_id=upload.pay_order_id)).order
    assert found.state == p.MOBILE_ORDER_STATE_CANCELLED
    order = await paid(bench, hospital_order_no="YB2", batch_no="B2", visit_no="MZ2")
    assert await refused(bench, "CancelOrder", pay_order_id=order.pay_order_id) == "INSURANCE_REFUSED"


async def test_a_centre_that_does_not_count_before_it_is_paid(bench: Bench) -> None:
    bench.act("set", name="quotes", value=0)
    upload = await ask(bench, "UploadOrder", **UPLOAD)
    saved = (await ask(bench, "QueryOrder", pay_order_id=upload.pay_order_id)).order
    assert saved.state == p.MOBILE_ORDER_STATE_SAVED
    assert not saved.HasField("split")


async def test_the_insurance_part_alone(bench: Bench) -> None:
    order = await paid(bench)
    insured = back(order, kind=p.MOBILE_REFUND_TYPE_INSURANCE, fund_fen=1750)
    assert (await ask(bench, "RefundOrder", **insured)).order.state == p.MOBILE_ORDER_STATE_INSURANCE_REFUNDED


async def test_what_is_sent(bench: Bench, keys: Path) -> None:
    """Golden: the message is sealed, and holds what the specification names and nothing empty."""
    await ask(bench, "UploadOrder", **UPLOAD)
    (entry,) = bench.asked("6201")
    assert entry["target"] == "/org/local/api/hos/uldFeeInfo"
    message = json.loads(entry["body"])
    assert sorted(message) == ["appId", "encData", "encType", "signData", "signType", "timestamp", "version"]
    assert "张三" not in entry["body"]
    seals = bench.server.simulator._seals  # type: ignore[attr-defined]
    data = seals.opened(message, "test")
    lines = data.pop("feedetailList")
    assert data == {
        "orgCodg": "H44030400001",
        "insutype": "310",
        "insuCode": "440300",
        "medOrgOrd": "YB1",
        "ecToken": "TOKEN1",
        "idNo": "11010519491231002X",
        "userName": "张三",
        "idType": "01",
        "iptOtpNo": "MZ1",
        "begntime": "2026-03-02 09:30:00",
        "atddrNo": "D1",
        "drName": "李医生",
        "deptCode": "A03",
        "deptName": "内科",
        "caty": "A03",
        "medType": "12",
        "feeType": "01",
        "rxCircFlag": "0",
        "feeSumamt": "25.00",
        "medfeeSumamt": "25.00",
        "acctUsedFlag": "0",
        "psnSetlway": "01",
        "chrgBchno": "B1",
        "chrgDate": "20260302",
        "chrgTime": "093000",
        "diseinfoList": [
            {
                "diagType": "1",
                "diagSrtNo": "1",
                "diagCode": "Z71.9",
                "diagName": "咨询",
                "diagDept": "A03",
                "diseDorNo": "D1",
                "diseDorName": "李医生",
                "diagTime": "2026-03-02 09:30:00",
                "valiFlag": "1",
            }
        ],
    }
    assert lines[0]["feedetlSn"] == "B1001"
    assert (lines[0]["cnt"], lines[0]["pric"], lines[0]["detItemFeeSumamt"]) == ("1.00", "25.00", "25.00")


AFTER = [FaultKind.HANG_AFTER, FaultKind.DROP_AFTER, FaultKind.CUT, FaultKind.GARBAGE_AFTER, FaultKind.WRONG_SIGNATURE]
BEFORE = [FaultKind.HANG_BEFORE, FaultKind.DROP_BEFORE, FaultKind.GARBAGE_BEFORE, FaultKind.STATUS]


@pytest.mark.parametrize("kind", [*AFTER, *BEFORE])
async def test_a_payment_without_a_clear_answer_is_unknown(bench: Bench, kind: FaultKind) -> None:
    upload = await ask(bench, "UploadOrder", **UPLOAD)
    fields = {"pay_order_id": upload.pay_order_id, "pay_token": upload.pay_token, "pay_auth_no": "AUTH1"}
    bench.fault(kind, "6202")
    with pytest.raises(OutcomeUnknown):
        await ask(bench, "PayOrder", **fields)
    assert len(bench.asked("6202")) == 1
    found = (await ask(bench, "QueryOrder", pay_order_id=upload.pay_order_id)).order
    done = p.MOBILE_ORDER_STATE_INSURANCE_DONE if kind in AFTER else p.MOBILE_ORDER_STATE_QUOTED
    assert found.state == done


@pytest.mark.parametrize("kind", [*AFTER[1:], *BEFORE[1:]])
async def test_a_query_without_a_clear_answer_is_no_answer(bench: Bench, kind: FaultKind) -> None:
    order = await paid(bench)
    bench.fault(kind, "6301", count=2)
    with pytest.raises((MappingMismatch, HisUnavailable, HisBusy)):
        await ask(bench, "QueryOrder", pay_order_id=order.pay_order_id)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("医保账户被冻结", HisRefused),
        ("系统异常", OutcomeUnknown),
        ("交易处理中，请稍后查询", OutcomeUnknown),
        ("请求中心超时", OutcomeUnknown),
    ],
)
async def test_refusals_of_the_protocol(bench: Bench, message: str, error: type[Exception]) -> None:
    bench.fault(FaultKind.REFUSE, "6201", code="500", message=f"张三{message}")
    with pytest.raises(error) as caught:
        await ask(bench, "UploadOrder", **UPLOAD)
    assert "张三" not in str(caught.value)


async def test_refusals_of_the_centre(bench: Bench) -> None:
    assert await refused(bench, "QueryOrder", pay_order_id="ORD9") == "PAYMENT_NOT_FOUND"
    order = await paid(bench)
    assert (
        await refused(bench, "UploadOrder", **(UPLOAD | {"total_fen": 100, "items": [_item(100)]}))
        == "INSURANCE_REFUSED"
    )
    wrong = back(order, fund_fen=1749, account_fen=0, cash_fen=750)
    assert await refused(bench, "RefundOrder", **wrong) == "AMOUNT_MISMATCH"


def _item(amount: int) -> fee_pb2.FeeItem:
    return fee_pb2.FeeItem(item_id="GH01", national_code="001102000010000", amount_fen=amount)


@pytest.mark.parametrize(
    ("name", "fields", "reason"),
    [
        ("UploadOrder", {"total_fen": 2501}, "AMOUNT_MISMATCH"),
        ("UploadOrder", {"credential": insurance_pb2.InsuranceCredential()}, "INVALID_REQUEST"),
        ("UploadOrder", {"items": [fee_pb2.FeeItem(item_id="X", amount_fen=2500)]}, "INVALID_REQUEST"),
        ("UploadOrder", {"items": [], "total_fen": 0}, "AMOUNT_MISMATCH"),
        ("PayOrder", {}, "INVALID_REQUEST"),
        ("QueryOrder", {}, "INVALID_REQUEST"),
    ],
)
async def test_what_cannot_be_sent(bench: Bench, name: str, fields: dict[str, Any], reason: str) -> None:
    base = UPLOAD if name == "UploadOrder" else {"pay_order_id": "X"} if name == "PayOrder" else {}
    assert await refused(bench, name, **(base | fields)) == reason
    assert not bench.server.requests


@pytest.mark.parametrize(
    ("kind", "split"),
    [
        (p.MOBILE_REFUND_TYPE_ALL, {"fund_fen": 0}),
        (p.MOBILE_REFUND_TYPE_ALL, {"fund_fen": -1, "cash_fen": 2}),
        (p.MOBILE_REFUND_TYPE_CASH, {"fund_fen": 1, "cash_fen": 2}),
        (p.MOBILE_REFUND_TYPE_INSURANCE, {"fund_fen": 1, "cash_fen": 2}),
    ],
)
async def test_a_refund_that_cannot_be(bench: Bench, kind: Any, split: dict[str, int]) -> None:
    order = p.MobileOrder(pay_order_id="X")
    assert await refused(bench, "RefundOrder", **back(order, kind=kind, **split)) == "AMOUNT_MISMATCH"
    assert not bench.server.requests


# ---- ordStas ----


class _Centre:
    zone = ZONE
    options: Mapping[str, Any] = {"family_account": "inside"}


def order_of(**values: Any) -> p.MobileOrder:
    return Orders(_Centre()).order(Fields({"payOrdId": "O1", **values}, "6301"), "O1")  # type: ignore[arg-type]


AMOUNTS = {"feeSumamt": "10.00", "fundPay": "6.00", "psnAcctPay": "3.00", "ownPayAmt": "1.00"}


@pytest.mark.parametrize("code", range(18))
def test_every_state_is_known(code: int) -> None:
    assert order_of(ordStas=str(code), **AMOUNTS).state == code + 1
    assert order_of(ordStas=code, **AMOUNTS).state == code + 1


@pytest.mark.parametrize("code", ["18", "-1", "99", "06", "完成"])
def test_an_unknown_state_fails_closed(code: str) -> None:
    assert order_of(ordStas=code, **AMOUNTS).state == p.MOBILE_ORDER_STATE_UNSPECIFIED


@pytest.mark.parametrize(
    "values",
    [
        {"ordStas": "6"},
        {"ordStas": "6", **AMOUNTS, "ownPayAmt": "1.01"},
        {"ordStas": "6", **AMOUNTS, "ownPayAmt": "1.001"},
        {"ordStas": "6", **AMOUNTS, "fundPay": "-6.00", "feeSumamt": "-2.00"},
        {"ordStas": "6", **AMOUNTS, "payOrdId": "O2"},
        {**AMOUNTS},
    ],
)
def test_an_order_that_does_not_add_up(values: dict[str, Any]) -> None:
    with pytest.raises(MappingMismatch):
        order_of(**values)


async def test_a_payment_with_a_strange_state_is_neither(bench: Bench) -> None:
    bench.act("set", name="pay_state", value="99")
    assert (await paid(bench)).state == p.MOBILE_ORDER_STATE_UNSPECIFIED


# ---- the call-back ----


async def test_the_settlement_call_back(bench: Bench) -> None:
    order = await paid(bench)
    reader = bench.generation.gateway("mobile_payment")
    assert isinstance(reader, NoticeReader)
    body = bench.server.simulator.notice(order.pay_order_id)  # type: ignore[attr-defined]
    found = reader.notice({}, body, NOW)
    assert (found.event, found.number, found.detail["medOrgOrd"]) == ("6302", order.pay_order_id, "YB1")
    assert json.loads(reader.answer(accepted=True)[1])["success"] is True
    assert reader.answer(accepted=False)[0] == 400
    message = json.loads(body)
    for broken in (
        {**message, "timestamp": "20260302093001"},
        {**message, "signData": ""},
        {**message, "signData": base64.b64encode(b"x" * 64).decode()},
        {**message, "encData": message["encData"][:-2] + "00"},
        {name: value for name, value in message.items() if name != "encData"},
    ):
        with pytest.raises(NoticeRefused):
            reader.notice({}, json.dumps(broken).encode(), NOW)
    for text in (b"", b"\xff", b"[]"):
        with pytest.raises(NoticeRefused):
            reader.notice({}, text, NOW)


# ---- seals ----

VECTOR = json.loads((Path(__file__).parent / "vectors" / "mobile_payment.json").read_text(encoding="utf-8"))


def options(folder: Path, **other: Any) -> dict[str, Any]:
    for name in ("app_secret", "private_key", "public_key"):
        (folder / name).write_text(VECTOR[name], encoding="utf-8")
    return {
        "app_id": VECTOR["app_id"],
        "app_secret": f"@file:{folder}/app_secret",
        "private_key": f"@file:{folder}/private_key",
        "platform_key": f"@file:{folder}/public_key",
        "encryption": "SM4",
        "cipher_text": "hex",
        "signature": "rs",
        "user_id": "1234567812345678",
        "secret_in_signature": True,
        "answers_signed": True,
    } | other


def message_of() -> dict[str, Any]:
    given = {"appId": VECTOR["app_id"], "encType": "SM4", "signType": "SM2", "version": "2.0.1"}
    return {**given, "timestamp": VECTOR["timestamp"], "data": VECTOR["data"]}


def test_seals_are_those_of_another_implementation(tmp_path: Path) -> None:
    """Canonical string, SM4 key and ciphertext byte for byte; its signature passes ours (its k is random)."""
    assert canonical(message_of(), VECTOR["app_secret"]) == VECTOR["canonical"]
    assert derived_key(VECTOR["app_id"], VECTOR["app_secret"]).decode() == VECTOR["sm4_key"]
    seals = CentreSeals(options(tmp_path))
    sent = seals.sealed(message_of())
    assert sent["encData"] == VECTOR["enc_data"]
    theirs = {**sent, "signData": VECTOR["signature"]}
    assert seals.opened(theirs, "x") == cleaned(VECTOR["data"])
    with pytest.raises(SealBroken):
        seals.opened({**theirs, "timestamp": "20260302093001"}, "x")


@pytest.mark.parametrize(
    "other",
    [
        {"signature": "der"},
        {"cipher_text": "base64"},
        {"encryption": "NONE"},
        {"user_id": "APP1"},
        {"secret_in_signature": False},
    ],
)
def test_provinces_seal_in_other_ways(tmp_path: Path, other: dict[str, Any]) -> None:
    seals = CentreSeals(options(tmp_path, **other))
    sent = seals.sealed(message_of())
    assert ("data" in sent) is (other.get("encryption") == "NONE")
    assert seals.opened(sent, "x") == cleaned(VECTOR["data"])
    usual = CentreSeals(options(tmp_path))
    if "encryption" not in other:
        with pytest.raises(SealBroken):
            usual.opened(sent, "x")


def test_a_given_key_of_sm4(tmp_path: Path) -> None:
    (tmp_path / "sm4").write_text("0123456789abcdef", encoding="utf-8")
    (tmp_path / "hex").write_text(b"0123456789abcdef".hex(), encoding="utf-8")
    (tmp_path / "bad").write_text("short", encoding="utf-8")
    one, two, bad = (
        CentreSeals(options(tmp_path, sm4_key=f"@file:{tmp_path}/{name}")) for name in ("sm4", "hex", "bad")
    )
    assert two.opened(one.sealed(message_of()), "x") == cleaned(VECTOR["data"])
    with pytest.raises(HisUnavailable):
        bad.sealed(message_of())
    with pytest.raises(HisUnavailable):
        derived_key("short", "x")


def test_a_key_that_is_none_sends_nothing(tmp_path: Path) -> None:
    given = options(tmp_path)
    (tmp_path / "private_key").write_text("nonsense", encoding="utf-8")
    with pytest.raises(HisUnavailable, match="private_key"):
        CentreSeals(given).sealed(message_of())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (
            {"b": 2, "a": 1, "e": "", "n": {"y": ["", None, 0, {"k": "值"}], "z": None}},
            '{"a":1,"b":2,"n":{"y":[0,{"k":"值"}]}}',
        ),
        ({"t": True, "f": False}, '{"f":false,"t":true}'),
        (["", {}, []], None),
        ("", None),
    ],
)
def test_the_rules_of_the_canonical_string(value: Any, text: str | None) -> None:
    found = cleaned(value)
    assert (None if found is None else compact(found)) == text


def test_numbers_stay_as_they_came(tmp_path: Path) -> None:
    """An answer is verified over the text that was signed: 12.30 must not become 12.3."""
    from his_db.mapping.reply import parse_json

    assert compact(parse_json('{"b": 12.30, "a": [1, 1.0]}')) == '{"a":[1,1.0],"b":12.30}'


def test_a_stranger_cannot_sign(tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    given = options(stranger)
    (stranger / "private_key").write_text(Sm2Private.generate().hex, encoding="utf-8")
    sent = CentreSeals(given).sealed(message_of())
    with pytest.raises(SealBroken):
        CentreSeals(options(tmp_path)).opened(sent, "x")
