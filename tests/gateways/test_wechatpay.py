"""gateway = "wechatpay" against its simulator: every operation, every fault, both directions of the signature."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.type import date_pb2
from his160.site.v1 import merchant_pb2 as m
from his160.v1 import insurance_pb2, payment_pb2, reason_pb2

from his_db.crypto import rsa
from his_db.engine import SourceSettings
from his_db.errors import HisBusy, HisError, HisRefused, HisUnavailable, MappingMismatch, OutcomeUnknown
from his_db.gateway import NoticeReader, NoticeRefused
from his_db.simulator import FaultKind
from his_db.wechat.keys import MerchantKeys
from his_db.wechat.mixed import id_digest
from his_db.workbench.site import Site
from his_db.workbench.trial_run import TrialRefused, preview, rehearse
from tests.simulated import ZONE, Bench, StillClock

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=ZONE)
OPEN = "MerchantService.OpenTrade"
QUERY = "MerchantService.QueryTrade"
CLOSE = "MerchantService.CloseTrade"
REFUND = "MerchantService.RefundTrade"
QUERY_REFUND = "MerchantService.QueryRefund"
MIXED = "MerchantService.OpenMixedTrade"
QUERY_MIXED = "MerchantService.QueryMixedTrade"
NOTIFY = "MerchantService.NotifyInsuranceRefund"
BILL = "MerchantService.GetTradeBill"
LABELS = {OPEN: "open", CLOSE: "close", REFUND: "refund", QUERY: "query", QUERY_REFUND: "query_refund"}
TRADE: dict[str, Any] = {"request_id": "r1", "out_trade_no": "T20260302001", "order_no": "Y1", "amount_fen": 1230}
TRADE["payer_openid"] = "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"
NUMBER = TRADE["out_trade_no"]
BACK: dict[str, Any] = {"request_id": "r2", "out_trade_no": "T20260302001", "out_refund_no": "R1", "note": "停诊"}
BACK |= {"refund_fen": 1230, "total_fen": 1230}


@pytest.fixture
async def bench(tmp_path: Path, wechat_keys: Path) -> AsyncIterator[Bench]:
    found = Bench("wechat", "wechat", tmp_path, wechat_keys, StillClock(NOW), patience=timedelta(seconds=1))
    yield found
    await found.close()


async def opened(bench: Bench, **other: Any) -> m.OpenTradeResponse:
    return await bench.ask(OPEN, m.OpenTradeResponse, **(TRADE | other))


async def paid(bench: Bench) -> None:
    await opened(bench)
    bench.act("pay", out_trade_no=TRADE["out_trade_no"])


async def refused(bench: Bench, operation: str, answer: Any, **fields: Any) -> str:
    with pytest.raises(HisRefused) as caught:
        await bench.ask(operation, answer, **fields)
    return reason_pb2.Reason.Name(caught.value.reason).removeprefix("REASON_")


async def test_a_trade_is_opened_paid_and_seen(bench: Bench, wechat_keys: Path) -> None:
    answer = await opened(bench)
    package = answer.pay_parameters["package"]
    assert package == f"prepay_id={answer.prepay_id}"
    assert answer.pay_parameters["signType"] == "RSA"
    text = f"wxd678efh567hg6787\n{answer.pay_parameters['timeStamp']}\n{answer.pay_parameters['nonceStr']}\n{package}\n"
    public = rsa.public_key((wechat_keys / "merchant_public.pem").read_text())
    assert rsa.verify(public, text.encode(), answer.pay_parameters["paySign"])
    assert answer.expire_time.ToDatetime(tzinfo=UTC) == NOW + timedelta(hours=2)

    before = (await bench.ask(QUERY, m.QueryTradeResponse, out_trade_no=TRADE["out_trade_no"])).trade
    assert (before.state, before.amount_fen, before.transaction_id) == (payment_pb2.PAYMENT_STATE_UNPAID, 0, "")
    bench.act("pay", out_trade_no=TRADE["out_trade_no"])
    after = (await bench.ask(QUERY, m.QueryTradeResponse, out_trade_no=TRADE["out_trade_no"])).trade
    assert (after.state, after.amount_fen) == (payment_pb2.PAYMENT_STATE_PAID, 1230)
    assert after.pay_time.ToDatetime(tzinfo=UTC) == NOW
    by_id = await bench.ask(QUERY, m.QueryTradeResponse, transaction_id=after.transaction_id)
    assert by_id.trade == after


async def test_the_request_is_what_the_protocol_says(bench: Bench) -> None:
    """Golden body; Authorization is verified by the simulator, which refuses everything else."""
    expire = Timestamp()
    expire.FromDatetime(NOW + timedelta(minutes=15))
    await opened(bench, expire_time=expire, description="挂号 内科")
    (entry,) = bench.asked("open")
    assert json.loads(entry["body"]) == {
        "appid": "wxd678efh567hg6787",
        "mchid": "1900000109",
        "description": "挂号 内科",
        "out_trade_no": "T20260302001",
        "attach": "Y1",
        "notify_url": "https://pay.hospital.example/notify/wechatpay",
        "amount": {"total": 1230, "currency": "CNY"},
        "payer": {"openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"},
        "time_expire": "2026-03-02T09:45:00+08:00",
    }
    assert entry["headers"]["content-type"] == "application/json"
    assert entry["headers"]["wechatpay-serial"] == "PUB_KEY_ID_0119000001092024"


async def test_the_same_number_is_one_trade_and_another_content_is_refused(bench: Bench) -> None:
    first, second = await opened(bench), await opened(bench)
    assert first.prepay_id != second.prepay_id
    assert [row["prepays"] for row in bench.rows("trade")] == [2]
    assert await refused(bench, OPEN, m.OpenTradeResponse, **(TRADE | {"amount_fen": 1})) == "PAYMENT_NUMBER_REUSED"


async def test_closing(bench: Bench) -> None:
    close = {"request_id": "r", "out_trade_no": TRADE["out_trade_no"]}
    await bench.ask(CLOSE, m.CloseTradeResponse, **close)  # never was
    await opened(bench)
    for _ in range(2):
        await bench.ask(CLOSE, m.CloseTradeResponse, **close)
    assert [row["state"] for row in bench.rows("trade")] == ["CLOSED"]
    assert await refused(bench, OPEN, m.OpenTradeResponse, **TRADE) == "ILLEGAL_TRANSITION"


async def test_a_paid_trade_is_not_closed(bench: Bench) -> None:
    await paid(bench)
    close = {"request_id": "r", "out_trade_no": TRADE["out_trade_no"]}
    assert await refused(bench, CLOSE, m.CloseTradeResponse, **close) == "ALREADY_PAID"
    assert await refused(bench, OPEN, m.OpenTradeResponse, **TRADE) == "ALREADY_PAID"


async def test_one_refund_number_is_one_refund(bench: Bench) -> None:
    await paid(bench)
    for _ in range(3):
        answer = await bench.ask(REFUND, m.RefundTradeResponse, **BACK)
        assert answer.refund.state == payment_pb2.REFUND_STATE_PROCESSING
        assert answer.refund.amount_fen == 1230
    assert len(bench.rows("refund")) == 1
    found = (await bench.ask(QUERY_REFUND, m.QueryRefundResponse, out_refund_no="R1")).refund
    assert (found.state, found.amount_fen) == (payment_pb2.REFUND_STATE_DONE, 1230)
    assert found.HasField("success_time")
    other = BACK | {"out_refund_no": "R2"}
    assert await refused(bench, REFUND, m.RefundTradeResponse, **other) == "ALREADY_REFUNDED"
    trade = (await bench.ask(QUERY, m.QueryTradeResponse, out_trade_no=TRADE["out_trade_no"])).trade
    assert trade.state == payment_pb2.PAYMENT_STATE_REFUNDED


async def test_refunds_in_parts_end_at_the_total(bench: Bench) -> None:
    await paid(bench)
    for number, amount in (("R1", 1000), ("R2", 230)):
        await bench.ask(REFUND, m.RefundTradeResponse, **(BACK | {"out_refund_no": number, "refund_fen": amount}))
    last = BACK | {"out_refund_no": "R3", "refund_fen": 1}
    assert await refused(bench, REFUND, m.RefundTradeResponse, **last) == "ALREADY_REFUNDED"
    assert sum(row["amount"] for row in bench.rows("refund")) == 1230


@pytest.mark.parametrize("amounts", [{"refund_fen": 0}, {"refund_fen": -1}, {"refund_fen": 1231}])
async def test_an_impossible_refund_is_never_sent(bench: Bench, amounts: dict[str, int]) -> None:
    await paid(bench)
    assert await refused(bench, REFUND, m.RefundTradeResponse, **(BACK | amounts)) == "AMOUNT_MISMATCH"
    assert not bench.asked("refund")


@pytest.mark.parametrize("number", ["", "short", "T" * 33, "T 20260302", "号码号码号码", "T20260302/1"])
async def test_a_number_that_cannot_be_one_is_never_sent(bench: Bench, number: str) -> None:
    assert await refused(bench, OPEN, m.OpenTradeResponse, **(TRADE | {"out_trade_no": number})) == "INVALID_REQUEST"
    assert not bench.asked("open")


async def test_what_is_not_there(bench: Bench) -> None:
    assert await refused(bench, QUERY, m.QueryTradeResponse, out_trade_no="T999999") == "PAYMENT_NOT_FOUND"
    assert await refused(bench, QUERY_REFUND, m.QueryRefundResponse, out_refund_no="R9") == "REFUND_NOT_FOUND"
    assert await refused(bench, QUERY_MIXED, m.QueryMixedTradeResponse, out_trade_no="T999999") == "PAYMENT_NOT_FOUND"


async def test_a_refund_of_a_trade_that_is_not_seen_yet_is_sent_again(bench: Bench) -> None:
    """RESOURCE_NOT_EXISTS has been met on trades that were paid: it is no reason to give up, and nothing was done."""
    with pytest.raises(HisBusy) as caught:
        await bench.ask(REFUND, m.RefundTradeResponse, **BACK)
    assert caught.value.retry_after == timedelta(minutes=1)


@pytest.mark.parametrize(
    ("code", "error", "reason"),
    [
        ("NOT_ENOUGH", HisUnavailable, None),
        ("FREQUENCY_LIMITED", HisBusy, None),
        ("SIGN_ERROR", HisUnavailable, None),
        ("SYSTEM_ERROR", OutcomeUnknown, None),
        ("USER_ACCOUNT_ABNORMAL", HisRefused, "HIS_REFUSED"),
        ("PARAM_ERROR", HisRefused, "INVALID_REQUEST"),
        ("NO_AUTH", HisRefused, "HIS_REFUSED"),
        ("SOMETHING_NEW", HisRefused, "HIS_REFUSED"),
    ],
)
async def test_the_table_of_errors(bench: Bench, code: str, error: type[HisError], reason: str | None) -> None:
    await paid(bench)
    bench.fault(FaultKind.REFUSE, "refund", code=code, message="张三的退款")
    with pytest.raises(error) as caught:
        await bench.ask(REFUND, m.RefundTradeResponse, **BACK)
    assert "张三" not in str(caught.value)
    if isinstance(caught.value, HisRefused):
        assert caught.value.text == "张三的退款"
        assert reason_pb2.Reason.Name(caught.value.reason).removeprefix("REASON_") == reason
    assert not bench.rows("refund")
    await bench.ask(REFUND, m.RefundTradeResponse, **BACK)
    assert len(bench.rows("refund")) == 1


AFTER = [FaultKind.HANG_AFTER, FaultKind.DROP_AFTER, FaultKind.CUT, FaultKind.GARBAGE_AFTER, FaultKind.WRONG_SIGNATURE]
BEFORE = [
    FaultKind.HANG_BEFORE,
    FaultKind.DROP_BEFORE,
    FaultKind.GARBAGE_BEFORE,
    FaultKind.WRAPPER,
    FaultKind.STATUS,
]


@pytest.mark.parametrize("kind", [*AFTER, *BEFORE])
async def test_a_write_without_a_clear_answer_is_unknown(bench: Bench, kind: FaultKind) -> None:
    """Whether it was done or not: the gateway cannot see it, says so, and sends nothing a second time by itself."""
    await paid(bench)
    bench.fault(kind, "refund")
    with pytest.raises(OutcomeUnknown):
        await bench.ask(REFUND, m.RefundTradeResponse, **BACK)
    assert len(bench.asked("refund")) == 1
    assert len(bench.rows("refund")) == (1 if kind in AFTER else 0)
    await bench.ask(REFUND, m.RefundTradeResponse, **BACK)
    assert len(bench.rows("refund")) == 1


@pytest.mark.parametrize("kind", [*AFTER, *BEFORE])
async def test_a_read_without_a_clear_answer_is_no_answer(bench: Bench, kind: FaultKind) -> None:
    await paid(bench)
    bench.fault(kind, "query", count=2)  # an idle connection that breaks under a read is tried once more
    with pytest.raises((MappingMismatch, HisUnavailable, HisBusy)):
        await bench.ask(QUERY, m.QueryTradeResponse, out_trade_no=TRADE["out_trade_no"])
    bench.server.clear_faults()
    found = await bench.ask(QUERY, m.QueryTradeResponse, out_trade_no=TRADE["out_trade_no"])
    assert found.trade.state == payment_pb2.PAYMENT_STATE_PAID


async def test_an_answer_that_comes_twice_is_taken_once(bench: Bench) -> None:
    await opened(bench)
    bench.fault(FaultKind.TWICE, "query")
    for _ in range(3):  # the second copy must not be read as the answer to the next question
        found = await bench.ask(QUERY, m.QueryTradeResponse, out_trade_no=TRADE["out_trade_no"])
        assert found.trade.state == payment_pb2.PAYMENT_STATE_UNPAID
        bench.clock.move(seconds=1)


async def test_a_late_answer_is_an_answer(bench: Bench) -> None:
    bench.fault(FaultKind.LATE, "open", seconds=0.2)
    assert (await opened(bench)).prepay_id


async def test_nothing_is_sent_where_nobody_listens(bench: Bench) -> None:
    bench.server.stop()
    with pytest.raises(HisUnavailable):
        await opened(bench)


async def test_a_wrong_clock_is_told(bench: Bench) -> None:
    """Both sides look at the time: our own request is refused, and an old answer is not taken."""
    real, bench.server.clock = bench.clock, StillClock(NOW)
    bench.server.simulator._clock = StillClock(NOW + timedelta(minutes=6))  # type: ignore[attr-defined]
    with pytest.raises(OutcomeUnknown, match="clock"):
        await opened(bench)
    assert real() == NOW


async def test_a_key_that_was_changed_at_wechat_is_named(tmp_path: Path, wechat_keys: Path) -> None:
    text = (
        (wechat_keys / "wechatpay.toml").read_text(encoding="utf-8")
        if (wechat_keys / "wechatpay.toml").exists()
        else ""
    )
    if not text:
        from his_db.simulators.wechat import WechatSimulatorMaker

        text = WechatSimulatorMaker().prepare(wechat_keys, "http://127.0.0.1:1").read_text(encoding="utf-8")
    other = text.replace("PUB_KEY_ID_0119000001092024", "PUB_KEY_ID_OLD")
    bench = Bench("wechat", "wechat", tmp_path, wechat_keys, StillClock(NOW), mapping=other)
    try:
        with pytest.raises(OutcomeUnknown, match="PUB_KEY_ID_0119000001092024"):
            await opened(bench)
        with pytest.raises(MappingMismatch, match="PUB_KEY_ID_0119000001092024"):
            await bench.ask(QUERY, m.QueryTradeResponse, out_trade_no="T20260302001")
    finally:
        await bench.close()


async def test_a_key_that_is_missing_sends_nothing(tmp_path: Path, wechat_keys: Path) -> None:
    keys = tmp_path / "keys"
    shutil.copytree(wechat_keys, keys)
    bench = Bench("wechat", "wechat", tmp_path, keys, StillClock(NOW))
    (keys / "merchant_key.pem").unlink()
    try:
        with pytest.raises(HisUnavailable, match="private_key"):
            await opened(bench)
        assert not bench.asked("open")
        (keys / "merchant_key.pem").write_text("no key", encoding="utf-8")
        with pytest.raises(HisUnavailable, match="private_key"):
            await opened(bench)
    finally:
        await bench.close()


# ---- mixed orders ----


def mixed(**other: Any) -> dict[str, Any]:
    made = Timestamp()
    made.FromDatetime(NOW)
    split = insurance_pb2.InsuranceSplit(total_fen=5000, fund_fen=3000, account_fen=770, cash_fen=1230)
    return {
        "request_id": "r3",
        "out_trade_no": "T20260302001",
        "serial_no": "YB20260302001",
        "pay_order_id": "ORD440300202603020001",
        "pay_auth_no": "AUTH1",
        "geo_location": "114.05,22.54",
        "insurance_order_time": made,
        "split": split,
        "prepay_id": "wx1",
        "payer_openid": TRADE["payer_openid"],
        "payer_name": "张三",
        "payer_document_no": "11010519491231002x",
    } | other


async def test_a_mixed_order(bench: Bench) -> None:
    cash = await opened(bench)
    answer = await bench.ask(MIXED, m.OpenMixedTradeResponse, **mixed(prepay_id=cash.prepay_id))
    assert answer.trade.state == payment_pb2.PAYMENT_STATE_UNPAID
    assert (answer.trade.total_fen, answer.trade.cash_fen) == (5000, 1230)
    assert answer.pay_parameters["mixTradeNo"] == answer.trade.mix_trade_no
    assert answer.pay_parameters["package"] == f"prepay_id={cash.prepay_id}"
    (row,) = bench.rows("mixed")
    assert json.loads(row["payer"]) == {"name": "张三", "id_digest": id_digest("11010519491231002X", "")}
    assert "张三" not in bench.asked("open_mixed")[0]["body"]
    bench.act("pay_mixed", out_trade_no=TRADE["out_trade_no"])
    found = (await bench.ask(QUERY_MIXED, m.QueryMixedTradeResponse, out_trade_no=TRADE["out_trade_no"])).trade
    paid = payment_pb2.PAYMENT_STATE_PAID
    assert (found.state, found.cash_state, found.insurance_state) == (paid, paid, paid)


async def test_the_same_mixed_order_again_is_the_same_one(bench: Bench) -> None:
    cash = await opened(bench)
    first = await bench.ask(MIXED, m.OpenMixedTradeResponse, **mixed(prepay_id=cash.prepay_id))
    again = await bench.ask(MIXED, m.OpenMixedTradeResponse, **mixed(prepay_id=cash.prepay_id))
    assert again.trade == first.trade
    assert len(bench.rows("mixed")) == 1
    other = insurance_pb2.InsuranceSplit(total_fen=5001, fund_fen=3001, account_fen=770, cash_fen=1230)
    reason = await refused(bench, MIXED, m.OpenMixedTradeResponse, **mixed(split=other))
    assert reason == "PAYMENT_NUMBER_REUSED"


async def test_insurance_alone_and_cash_alone(bench: Bench) -> None:
    split = insurance_pb2.InsuranceSplit(total_fen=5000, fund_fen=4000, account_fen=1000, cash_fen=0)
    answer = await bench.ask(MIXED, m.OpenMixedTradeResponse, **mixed(split=split, prepay_id=""))
    assert dict(answer.pay_parameters) == {"mixTradeNo": answer.trade.mix_trade_no}
    assert answer.trade.cash_state == payment_pb2.PAYMENT_STATE_UNSPECIFIED  # NO_SELF_PAY
    cash = await opened(bench, out_trade_no="T20260302002")
    alone = {"pay_order_id": "", "pay_auth_no": "", "geo_location": "", "out_trade_no": "T20260302002"}
    fields = mixed(split=insurance_pb2.InsuranceSplit(total_fen=1230, cash_fen=1230), prepay_id=cash.prepay_id, **alone)
    del fields["insurance_order_time"]
    await bench.ask(MIXED, m.OpenMixedTradeResponse, **fields)
    assert [row["kind"] for row in bench.rows("mixed")] == ["INSURANCE_ONLY", "CASH_ONLY"]


async def test_a_discount_of_the_hospital(bench: Bench) -> None:
    cash = await opened(bench, amount_fen=1000)
    answer = await bench.ask(MIXED, m.OpenMixedTradeResponse, **mixed(prepay_id=cash.prepay_id, reduce_fen=230))
    assert answer.trade.cash_fen == 1000


WRONG = {
    "a forbidden prepay_id": {"split": insurance_pb2.InsuranceSplit(total_fen=4, fund_fen=4)},
    "no prepay_id": {"prepay_id": ""},
    "no authorization": {"pay_auth_no": ""},
    "no place": {"geo_location": ""},
    "half a place": {"geo_location": "114.05"},
    "a long serial": {"serial_no": "S" * 21},
    "no ID card": {"payer_document_no": "E12345678"},
    "no name": {"payer_name": ""},
}
MONEY = {
    "parts that are not the total": insurance_pb2.InsuranceSplit(total_fen=5001, fund_fen=3000, cash_fen=2000),
    "a negative part": insurance_pb2.InsuranceSplit(total_fen=1000, fund_fen=-1000, cash_fen=2000),
    "nothing": insurance_pb2.InsuranceSplit(),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_mixed_order_with_wrong_fields_is_never_sent(bench: Bench, name: str) -> None:
    assert await refused(bench, MIXED, m.OpenMixedTradeResponse, **mixed(**WRONG[name])) == "INVALID_REQUEST"
    assert not bench.asked("open_mixed")


@pytest.mark.parametrize("name", MONEY)
async def test_a_mixed_order_with_wrong_money_is_never_sent(bench: Bench, name: str) -> None:
    assert await refused(bench, MIXED, m.OpenMixedTradeResponse, **mixed(split=MONEY[name])) == "AMOUNT_MISMATCH"
    assert not bench.asked("open_mixed")


async def test_cash_paid_and_insurance_failed_are_told_apart(bench: Bench) -> None:
    cash = await opened(bench)
    await bench.ask(MIXED, m.OpenMixedTradeResponse, **mixed(prepay_id=cash.prepay_id))
    bench.act("pay_mixed", out_trade_no=TRADE["out_trade_no"], outcome="SELF_ONLY")
    found = (await bench.ask(QUERY_MIXED, m.QueryMixedTradeResponse, out_trade_no=TRADE["out_trade_no"])).trade
    assert found.state == payment_pb2.PAYMENT_STATE_CLOSED
    assert found.cash_state == payment_pb2.PAYMENT_STATE_PAID
    assert found.insurance_state == payment_pb2.PAYMENT_STATE_CLOSED


async def test_wechat_is_told_of_an_insurance_refund(bench: Bench) -> None:
    cash = await opened(bench)
    trade = (await bench.ask(MIXED, m.OpenMixedTradeResponse, **mixed(prepay_id=cash.prepay_id))).trade
    when = Timestamp()
    when.FromDatetime(NOW)
    split = insurance_pb2.InsuranceSplit(total_fen=3770, fund_fen=3000, account_fen=770)
    fields = {"request_id": "r", "mix_trade_no": trade.mix_trade_no, "out_refund_no": "R1", "split": split}
    for _ in range(2):
        await bench.ask(NOTIFY, m.NotifyInsuranceRefundResponse, **fields, refund_time=when)
    (row,) = bench.rows("insurance_refund")
    assert (row["total"], row["gov"], row["self"], row["told"]) == (3770, 3000, 770, 2)
    fields["split"] = insurance_pb2.InsuranceSplit(fund_fen=-3000)
    reason = await refused(bench, NOTIFY, m.NotifyInsuranceRefundResponse, **fields, refund_time=when)
    assert reason == "AMOUNT_MISMATCH"


# ---- notices ----


def reader(bench: Bench) -> NoticeReader:
    found = bench.generation.gateway("wechatpay")
    assert isinstance(found, NoticeReader)
    return found


def sent(bench: Bench, **values: Any) -> tuple[dict[str, str], bytes]:
    wire = bench.server.simulator._wire  # type: ignore[attr-defined]
    resource = {"out_trade_no": "T20260302001", "transaction_id": "42", "trade_state": "SUCCESS"}
    event = values.pop("event", "TRANSACTION.SUCCESS")
    headers, body = wire.notice(event, values.pop("resource", resource), NOW, notice_id="N1", **values)
    return {name.lower(): value for name, value in headers.items()}, body


async def test_a_notice_is_verified_and_read(bench: Bench) -> None:
    found = reader(bench).notice(*sent(bench), NOW)
    assert (found.event, found.number, found.notice_id) == ("TRANSACTION.SUCCESS", "T20260302001", "N1")
    back = {"out_trade_no": "T20260302001", "out_refund_no": "R1", "refund_status": "SUCCESS"}
    found = reader(bench).notice(*sent(bench, event="REFUND.SUCCESS", resource=back), NOW)
    assert (found.event, found.number) == ("REFUND.SUCCESS", "R1")
    assert reader(bench).answer(accepted=True)[0] == 200
    assert reader(bench).answer(accepted=False)[0] == 400


async def test_a_notice_that_is_none_is_refused(bench: Bench) -> None:
    headers, body = sent(bench)
    for changed, text in (
        ({"wechatpay-signature": base64.b64encode(b"x" * 256).decode()}, body),
        ({"wechatpay-signature": ""}, body),
        ({"wechatpay-serial": "PUB_KEY_ID_X"}, body),
        ({"wechatpay-timestamp": "1"}, body),
        ({}, body + b" "),
        ({}, b"\xff"),
    ):
        with pytest.raises(NoticeRefused) as caught:
            reader(bench).notice({**headers, **changed}, text, NOW)
        assert "T20260302001" not in str(caught.value)
    with pytest.raises(NoticeRefused, match="probe"):
        reader(bench).notice(*sent(bench, probe=True), NOW)
    with pytest.raises(NoticeRefused):
        reader(bench).notice(headers, body, NOW + timedelta(minutes=6))


# ---- bills ----


def day(value: datetime) -> date_pb2.Date:
    return date_pb2.Date(year=value.year, month=value.month, day=value.day)


async def test_a_bill(bench: Bench) -> None:
    await paid(bench)
    await bench.ask(REFUND, m.RefundTradeResponse, **(BACK | {"refund_fen": 230}))
    bench.clock.now = NOW.replace(day=3, hour=10, minute=30)
    bill = await bench.ask(BILL, m.GetTradeBillResponse, day=day(NOW))
    assert (bill.trades, bill.amount_fen, bill.refund_fen) == (2, 1230, 230)
    assert bill.fee_hundred_thousandths == (1230 - 230) * 6
    pay, back = bill.rows
    assert (pay.out_trade_no, pay.amount_fen, pay.state_code, pay.attach) == ("T20260302001", 1230, "SUCCESS", "Y1")
    assert (pay.refund_id, pay.out_refund_no) == ("", "")
    assert (back.out_refund_no, back.refund_fen, back.fee_hundred_thousandths) == ("R1", 230, -1380)
    assert pay.trade_time.ToDatetime(tzinfo=UTC) == NOW
    only = await bench.ask(BILL, m.GetTradeBillResponse, day=day(NOW), type=m.BILL_TYPE_REFUND)
    assert [row.out_refund_no for row in only.rows] == ["R1"]


async def test_a_bill_before_ten_is_not_even_asked_for(bench: Bench) -> None:
    bench.clock.now = NOW.replace(day=3, hour=8, minute=0)
    with pytest.raises(HisUnavailable) as caught:
        await bench.ask(BILL, m.GetTradeBillResponse, day=day(NOW))
    assert caught.value.retry_after == timedelta(hours=2)
    assert not bench.asked("bill")


async def test_a_day_without_trades_and_a_bill_that_is_being_made(bench: Bench) -> None:
    bench.clock.now = NOW.replace(day=3, hour=10, minute=30)
    assert not (await bench.ask(BILL, m.GetTradeBillResponse, day=day(NOW))).rows
    bench.fault(FaultKind.REFUSE, "bill", code="STATEMENT_CREATING", message="生成中")
    with pytest.raises(HisUnavailable) as caught:
        await bench.ask(BILL, m.GetTradeBillResponse, day=day(NOW))
    assert caught.value.retry_after is not None


@pytest.mark.parametrize("kind", [FaultKind.WRONG_SIGNATURE, FaultKind.GARBAGE_AFTER])
async def test_a_file_that_is_not_the_promised_one_is_not_read(bench: Bench, kind: FaultKind) -> None:
    await paid(bench)
    bench.clock.now = NOW.replace(day=3, hour=10, minute=30)
    bench.fault(kind, "download")
    with pytest.raises(MappingMismatch):
        await bench.ask(BILL, m.GetTradeBillResponse, day=day(NOW))


# ---- an independent implementation agrees ----

VECTOR = json.loads((Path(__file__).parent / "vectors" / "wechatpay.json").read_text(encoding="utf-8"))


def test_signatures_are_those_of_another_implementation(tmp_path: Path) -> None:
    """PKCS#1 v1.5 has no randomness: the same key, time and nonce give the same header. Made with wechatpayv3."""
    key = tmp_path / "key.pem"
    key.write_text(VECTOR["private_key"], encoding="utf-8")
    public = tmp_path / "public.pem"
    public.write_text(VECTOR["public_key"], encoding="utf-8")
    secret = tmp_path / "apiv3"
    secret.write_text(VECTOR["apiv3_key"] + "\n", encoding="utf-8")
    options = {"mchid": VECTOR["mchid"], "certificate_serial": VECTOR["serial"], "private_key": f"@file:{key}"}
    options |= {"platform_keys": [{"serial": "P", "key": f"@file:{public}"}], "apiv3_key": f"@file:{secret}"}
    keys = MerchantKeys(options)
    moment = datetime.fromtimestamp(VECTOR["timestamp"], UTC)
    body = VECTOR["body"].encode()
    made = keys.authorization(VECTOR["method"], VECTOR["target"], body, moment, VECTOR["nonce"])
    assert parts(made) == parts(VECTOR["authorization"])
    sign = keys.pay_sign(VECTOR["appid"], str(VECTOR["timestamp"]), VECTOR["nonce"], VECTOR["package"])
    assert sign == VECTOR["pay_sign"]
    sealed = VECTOR["sealed"]
    opened = keys.opened(sealed["nonce"], sealed["associated_data"], sealed["ciphertext"])
    assert opened.decode() == VECTOR["opened"]


def parts(authorization: str) -> tuple[str, dict[str, str]]:
    scheme, _, rest = authorization.partition(" ")
    return scheme, dict(re.findall(r'(\w+)="([^"]*)"', rest))


def test_the_digest_of_an_id_number() -> None:
    """The example of the documentation, and one of 15 digits completed (GB 11643)."""
    assert id_digest("44030019000101123x", "") == "09eb26e839ff3a2e3980352ae45ef09e"
    assert id_digest("110105491231002", "") == id_digest("11010519491231002X", "")


async def test_a_read_is_previewed_and_a_write_is_not(bench: Bench, tmp_path: Path) -> None:
    await opened(bench)
    source = SourceSettings("wechat", "http", bench.server.url)
    site = Site(tmp_path / "mappings", {"wechat": source}, clock=bench.clock)
    request = m.QueryTradeRequest(out_trade_no=TRADE["out_trade_no"])
    trial = await asyncio.to_thread(preview, site, bench.set, QUERY, request)
    assert (trial.error, [step.sql for step in trial.steps]) == (
        None,
        [f"GET /v3/pay/transactions/out-trade-no/{NUMBER}"],
    )
    assert trial.steps[0].out["status"] == "200"
    assert trial.message is not None
    assert trial.message["trade"]["state"] == "PAYMENT_STATE_UNPAID"
    trial = await asyncio.to_thread(preview, site, bench.set, QUERY, m.QueryTradeRequest(out_trade_no="T2"))
    assert trial.error is not None
    assert (trial.error.reason, trial.steps[0].out["status"]) == (reason_pb2.REASON_PAYMENT_NOT_FOUND, "404")
    bench.fault(FaultKind.DROP_BEFORE)
    trial = await asyncio.to_thread(preview, site, bench.set, QUERY, request)
    assert isinstance(trial.error, HisUnavailable)
    assert "no whole answer" in trial.steps[0].error
    with pytest.raises(TrialRefused, match="could not be rolled back"):
        rehearse(site, bench.set, OPEN, m.OpenTradeRequest(**TRADE))
