"""gateway = "insurance2" against its simulator: every transaction, every fault, sign-in, money."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.type import date_pb2
from his160.site.v1 import fee_pb2
from his160.site.v1 import insurance_gateway_pb2 as g
from his160.v1 import insurance_pb2, reason_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from his_db.errors import HisBusy, HisError, HisRefused, HisUnavailable, MappingMismatch, OutcomeUnknown
from his_db.insurance.setlinfo import FUND_PARTS, SUMS, settlement_of
from his_db.money import AmountError, fen_of_yuan, yuan_of_fen
from his_db.reply_fields import Fields
from his_db.simulator import FaultKind
from tests.simulated import ZONE, Bench, StillClock

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=ZONE)
SERVICE = "InsuranceGatewayService."
PERSON, AREA = "44030000000000000001", "440300"
CREDENTIAL = insurance_pb2.InsuranceCredential(certificate_type="01", certificate_no="TOKEN1")
ITEMS = [
    fee_pb2.FeeItem(item_id="GH01", national_code="001102000010000", name="挂号费", amount_fen=100),
    fee_pb2.FeeItem(
        item_id="ZC01", national_code="001102000020000", count_hundredths=100, price_fen=2400, amount_fen=2400
    ),
    fee_pb2.FeeItem(item_id="BL01", national_code="Z99999999999999", name="病历本", amount_fen=150),
]
WHO = {"person_no": PERSON, "insured_area": AREA}


def msgid(number: int) -> str:
    return f"H44030400001{NOW:%Y%m%d%H%M%S}{number:04d}"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    keys = tmp_path / "keys"
    found = Bench("insurance", "insurance", tmp_path, keys, StillClock(NOW), patience=timedelta(seconds=1))
    yield found
    await found.close()


async def ask(bench: Bench, name: str, **fields: Any) -> Any:
    answer = getattr(g, f"{name}Response")
    if "request_id" in getattr(g, f"{name}Request").DESCRIPTOR.fields_by_name:
        fields.setdefault("request_id", "r")
    return await bench.ask(SERVICE + name, answer, **fields)


async def refused(bench: Bench, name: str, **fields: Any) -> str:
    with pytest.raises(HisRefused) as caught:
        await ask(bench, name, **fields)
    return reason_pb2.Reason.Name(caught.value.reason).removeprefix("REASON_")


async def opened(bench: Bench, number: int = 1, visit: str = "MZ1") -> str:
    begin = Timestamp()
    begin.FromDatetime(NOW)
    fields = {"insutype": "310", "credential": CREDENTIAL, "visit_no": visit, "begin_time": begin}
    fields |= {
        "doctor_code": "D440300001",
        "doctor_name": "李医生",
        "department_code": "A03",
        "department_name": "内科",
    }
    answer = await ask(bench, "OpenVisit", **WHO, msgid=msgid(number), specialty_code="A03", **fields)
    return str(answer.mdtrt_id)


async def uploaded(bench: Bench, visit: str = "MZ1", number: int = 1) -> str:
    mdtrt = await opened(bench, number, visit)
    who = WHO | {"mdtrt_id": mdtrt, "doctor_code": "D440300001", "doctor_name": "李医生", "department_code": "A03"}
    await ask(bench, "UploadVisit", **who, msgid=msgid(number + 1), medical_type="12")
    lines = who | {"batch_no": "B1", "items": ITEMS, "department_name": "内科"}
    answer = await ask(bench, "UploadFees", **lines, msgid=msgid(number + 2))
    assert (answer.fulamt_ownpay_amt_fen, answer.inscp_scp_amt_fen) == (150, 2500)
    return mdtrt


def subject(mdtrt: str, **other: Any) -> g.SettlementSubject:
    fields = {"insutype": "310", "credential": CREDENTIAL, "medical_type": "12", "total_fen": 2650, "batch_no": "B1"}
    return g.SettlementSubject(**(WHO | fields | {"mdtrt_id": mdtrt} | other))


async def settled(bench: Bench, *, use_account: bool = False) -> tuple[str, g.SettlementRecord]:
    mdtrt = await uploaded(bench)
    answer = await ask(bench, "Settle", msgid=msgid(9), subject=subject(mdtrt, use_account=use_account))
    return mdtrt, answer.settlement


async def test_a_registration_from_sign_in_to_settlement(bench: Bench) -> None:
    person = await ask(bench, "GetPerson", credential=CREDENTIAL)
    assert (person.person_no, person.name) == (PERSON, "张三")
    assert [(item.insutype, item.status) for item in person.insurances] == [("310", "1"), ("390", "2")]
    assert person.insurances[0].balance_fen == 100_000
    mdtrt = await uploaded(bench)
    quote = (await ask(bench, "PreSettle", msgid=msgid(8), subject=subject(mdtrt, use_account=True))).settlement
    assert (quote.setl_id, quote.split.fund_fen, quote.split.account_fen, quote.split.cash_fen) == ("", 1750, 900, 0)
    found = (await ask(bench, "Settle", msgid=msgid(9), subject=subject(mdtrt, use_account=True))).settlement
    assert found.split == quote.split
    assert found.settle_msgid == msgid(9)
    assert found.settle_time.ToDatetime(tzinfo=UTC) == NOW
    assert (found.clearing_type, found.clearing_way, found.clearing_office) == ("11", "1", AREA)
    assert found.batch_no == "B1"
    assert found.sign_no == bench.rows("sign")[0]["sign_no"]
    assert found.amounts.balc_fen == 100_000 - 900
    assert len(bench.asked("9001")) == 1
    (row,) = bench.rows("settlement")
    assert (row["state"], row["total"], row["msgid"]) == ("SETTLED", 2650, msgid(9))


async def test_the_envelope_is_whole(bench: Bench) -> None:
    """Golden; the simulator refuses any other set of keys, lengths, a wrong x-tif signature, a msgid of another form."""
    await opened(bench)
    sign, visit = (json.loads(entry["body"]) for entry in bench.server.requests)
    assert sign["input"] == {"signIn": {"opter_no": "jk160", "mac": "", "ip": ""}}
    assert sign["msgid"].startswith("H4403040000120260302093000")
    assert sign["msgid"][-4] == "9"
    sign_no = bench.rows("sign")[0]["sign_no"]
    assert visit == {
        "infno": "2201",
        "msgid": msgid(1),
        "mdtrtarea_admvs": "440300",
        "insuplc_admdvs": "440300",
        "recer_sys_code": "YBXT",
        "dev_no": "",
        "dev_safe_info": "",
        "cainfo": "",
        "signtype": "",
        "infver": "V1.0",
        "opter_type": "3",
        "opter": "jk160",
        "opter_name": "健康160",
        "inf_time": "2026-03-02 09:30:00",
        "fixmedins_code": "H44030400001",
        "fixmedins_name": "示例医院",
        "sign_no": sign_no,
        "input": {
            "data": {
                "psn_no": PERSON,
                "insutype": "310",
                "begntime": "2026-03-02 09:30:00",
                "mdtrt_cert_type": "01",
                "mdtrt_cert_no": "TOKEN1",
                "ipt_otp_no": "MZ1",
                "atddr_no": "D440300001",
                "dr_name": "李医生",
                "dept_code": "A03",
                "dept_name": "内科",
                "caty": "A03",
            }
        },
    }
    assert bench.asked("2201")[0]["target"] == "/2201"


async def test_fee_lines_as_they_are_sent(bench: Bench) -> None:
    await uploaded(bench)
    lines = json.loads(bench.asked("2204")[0]["body"])["input"]["feedetail"]
    assert [line["feedetl_sn"] for line in lines] == ["B1001", "B1002", "B1003"]
    assert [(line["cnt"], line["pric"], line["det_item_fee_sumamt"]) for line in lines] == [
        ("1.00", "1.00", "1.00"),
        ("1.00", "24.00", "24.00"),
        ("1.00", "1.50", "1.50"),
    ]


async def test_the_way_back(bench: Bench) -> None:
    mdtrt, found = await settled(bench, use_account=True)
    back = await ask(bench, "CancelSettlement", **WHO, msgid=msgid(10), mdtrt_id=mdtrt, setl_id=found.setl_id)
    negative = back.settlement
    assert negative.setl_id != found.setl_id
    assert negative.cancel_msgid == msgid(10)
    assert [-part for part in (negative.split.total_fen, negative.split.fund_fen, negative.split.account_fen)] == [
        found.split.total_fen,
        found.split.fund_fen,
        found.split.account_fen,
    ]
    listed = (await ask(bench, "QuerySettlement", **WHO, mdtrt_id=mdtrt)).settlements
    assert [item.split.total_fen for item in listed] == [2650, -2650]
    assert (listed[0].settle_msgid, listed[1].cancel_msgid) == (msgid(9), msgid(10))
    visit = WHO | {"mdtrt_id": mdtrt, "visit_no": "MZ1"}
    assert await refused(bench, "CancelVisit", **visit, msgid=msgid(11)) == "INSURANCE_REFUSED"
    for number in (12, 13):  # the second finds nothing to undo
        await ask(bench, "CancelFees", **WHO, msgid=msgid(number), mdtrt_id=mdtrt, batch_no="0000")
    for number in (14, 15):
        await ask(bench, "CancelVisit", **visit, msgid=msgid(number))
    assert [row["state"] for row in bench.rows("visit")] == ["CANCELLED"]
    assert bench.rows("person")[0]["balance"] == 100_000
    reason = await refused(bench, "CancelSettlement", **WHO, msgid=msgid(16), mdtrt_id=mdtrt, setl_id=found.setl_id)
    assert reason == "INSURANCE_REFUSED"


async def test_an_unanswered_settlement_is_found_and_reversed_once(bench: Bench) -> None:
    mdtrt = await uploaded(bench)
    bench.fault(FaultKind.HANG_AFTER, "2207A")
    with pytest.raises(OutcomeUnknown):
        await ask(bench, "Settle", msgid=msgid(9), subject=subject(mdtrt))
    (found,) = (await ask(bench, "QuerySettlement", **WHO, mdtrt_id=mdtrt)).settlements
    assert (found.settle_msgid, found.split.total_fen) == (msgid(9), 2650)
    undo = WHO | {"original_msgid": msgid(9), "original_infno": "2207A"}
    for number in (20, 21):
        await ask(bench, "ReverseTransaction", **undo, msgid=msgid(number))
    assert not (await ask(bench, "QuerySettlement", **WHO, mdtrt_id=mdtrt)).settlements
    assert [row["state"] for row in bench.rows("settlement")] == ["REVERSED"]
    # What never was is reversed too.
    never = undo | {"original_msgid": msgid(77)}
    await ask(bench, "ReverseTransaction", **never, msgid=msgid(22))


async def test_a_reversed_undoing_lets_the_settlement_stand(bench: Bench) -> None:
    mdtrt, found = await settled(bench)
    await ask(bench, "CancelSettlement", **WHO, msgid=msgid(10), mdtrt_id=mdtrt, setl_id=found.setl_id)
    await ask(bench, "ReverseTransaction", **WHO, msgid=msgid(11), original_msgid=msgid(10), original_infno="2208")
    assert sorted(row["state"] for row in bench.rows("settlement")) == ["REVERSED", "SETTLED"]


async def test_an_unanswered_visit_is_found(bench: Bench) -> None:
    bench.fault(FaultKind.DROP_AFTER, "2201")
    with pytest.raises(OutcomeUnknown):
        await opened(bench)
    day = date_pb2.Date(year=2026, month=3, day=2)
    found = await ask(bench, "QueryVisit", **WHO, visit_no="MZ1", day=day)
    assert found.mdtrt_id == bench.rows("visit")[0]["mdtrt_id"]
    assert not (await ask(bench, "QueryVisit", **WHO, visit_no="MZ2", day=day)).mdtrt_id
    assert (await ask(bench, "QueryVisit", **WHO, visit_no="MZ1")).mdtrt_id  # today


async def test_fee_lines_are_found(bench: Bench) -> None:
    mdtrt = await uploaded(bench)
    lines = (await ask(bench, "QueryFees", **WHO, mdtrt_id=mdtrt)).lines
    assert [(line.line_no, line.batch_no, line.amount_fen) for line in lines] == [
        ("B1001", "B1", 100),
        ("B1002", "B1", 2400),
        ("B1003", "B1", 150),
    ]


async def test_comparing_books(bench: Bench) -> None:
    await settled(bench, use_account=True)
    day = date_pb2.Date(year=2026, month=3, day=2)
    fields = {"insutype": "310", "clearing_type": "11", "from_date": day, "to_date": day, "settlements": 1}
    sums = {"medfee_sumamt_fen": 2650, "fund_pay_sumamt_fen": 1750, "acct_pay_fen": 900}
    assert (await ask(bench, "CompareTotals", **fields, **sums)).result == "0"
    other = await ask(bench, "CompareTotals", **fields, **(sums | {"acct_pay_fen": 901}))
    assert (other.result, "2650" not in other.description) == ("1", True)
    detail = {"file_no": "F1", "from_date": day, "to_date": day, "medfee_sumamt_fen": 2650, "settlements": 1}
    assert (await ask(bench, "CompareDetails", **detail)).file_no


# ---- sign-in ----


async def test_sign_in_is_renewed_after_an_hour(bench: Bench) -> None:
    await opened(bench)
    bench.clock.move(minutes=59)
    await ask(bench, "GetPerson", credential=CREDENTIAL)
    assert len(bench.asked("9001")) == 1
    bench.clock.move(minutes=2)
    await ask(bench, "GetPerson", credential=CREDENTIAL)
    assert len(bench.asked("9001")) == 2


async def test_a_sign_in_that_was_forgotten_is_renewed_once(bench: Bench) -> None:
    """Refused for its sign_no: nothing was done, so the same msgid goes out once more; not a third time."""
    await opened(bench)
    bench.act("expire_sign")
    mdtrt = await opened(bench, 2, "MZ2")
    assert mdtrt
    assert [json.loads(entry["body"])["msgid"] for entry in bench.asked("2201")[1:]] == [msgid(2)] * 2
    bench.fault(FaultKind.REFUSE, "2202", count=9, message="请重新签到")
    who = WHO | {"mdtrt_id": mdtrt, "visit_no": "MZ2"}
    assert await refused(bench, "CancelVisit", **who, msgid=msgid(3)) == "INSURANCE_REFUSED"
    assert len(bench.asked("2202")) == 2


@pytest.mark.parametrize(
    "kind", [FaultKind.HANG_AFTER, FaultKind.DROP_BEFORE, FaultKind.GARBAGE_AFTER, FaultKind.WRAPPER, FaultKind.STATUS]
)
async def test_without_sign_in_nothing_is_sent(bench: Bench, kind: FaultKind) -> None:
    bench.fault(kind, "9001")
    with pytest.raises(HisUnavailable):
        await opened(bench)
    assert not bench.asked("2201")
    assert await opened(bench)


async def test_sign_in_by_itself(bench: Bench) -> None:
    answer = await ask(bench, "SignIn", msgid=msgid(1))
    assert answer.sign_time.ToDatetime(tzinfo=UTC) == NOW
    await opened(bench, 2)
    assert [row["sign_no"] for row in bench.rows("sign")] == [answer.sign_no]


# ---- faults ----

AFTER = [FaultKind.HANG_AFTER, FaultKind.DROP_AFTER, FaultKind.CUT, FaultKind.GARBAGE_AFTER, FaultKind.WRONG_SIGNATURE]
BEFORE = [FaultKind.HANG_BEFORE, FaultKind.DROP_BEFORE, FaultKind.GARBAGE_BEFORE, FaultKind.WRAPPER, FaultKind.STATUS]


@pytest.mark.parametrize("kind", [*AFTER, *BEFORE])
async def test_a_settlement_without_a_clear_answer_is_unknown(bench: Bench, kind: FaultKind) -> None:
    mdtrt = await uploaded(bench)
    bench.fault(kind, "2207A")
    with pytest.raises(OutcomeUnknown):
        await ask(bench, "Settle", msgid=msgid(9), subject=subject(mdtrt))
    assert len(bench.asked("2207A")) == 1
    assert len(bench.rows("settlement")) == (1 if kind in AFTER else 0)
    found = (await ask(bench, "Settle", msgid=msgid(9), subject=subject(mdtrt))).settlement
    assert found.setl_id
    assert len(bench.rows("settlement")) == 1


@pytest.mark.parametrize("kind", [*AFTER, *BEFORE])
async def test_a_read_without_a_clear_answer_is_no_answer(bench: Bench, kind: FaultKind) -> None:
    mdtrt, _ = await settled(bench)
    bench.fault(kind, "5203", count=2)
    with pytest.raises((MappingMismatch, HisUnavailable, HisBusy)):
        await ask(bench, "QuerySettlement", **WHO, mdtrt_id=mdtrt)
    bench.server.clear_faults()
    assert len((await ask(bench, "QuerySettlement", **WHO, mdtrt_id=mdtrt)).settlements) == 1


async def test_a_msgid_that_was_used_is_not_a_refusal(bench: Bench) -> None:
    """A platform that refuses a msgid that it knows says that the first one arrived, not that nothing was done."""
    bench.act("set", name="duplicates", value="refuse")
    await opened(bench)
    with pytest.raises(OutcomeUnknown):
        await opened(bench)
    assert len(bench.rows("visit")) == 1


@pytest.mark.parametrize(
    ("sentence", "error", "reason"),
    [
        ("参保人已停保", HisRefused, "INSURANCE_REFUSED"),
        ("未查询到人员参保信息", HisRefused, "PATIENT_NOT_FOUND"),
        ("该笔费用已结算", HisRefused, "INSURANCE_SETTLED"),
        ("调用省异地平台超时", OutcomeUnknown, None),
        ("系统异常，请联系管理员", OutcomeUnknown, None),
    ],
)
async def test_sentences(bench: Bench, sentence: str, error: type[HisError], reason: str | None) -> None:
    bench.fault(FaultKind.REFUSE, "2201", message=f"张三{sentence}")
    with pytest.raises(error) as caught:
        await opened(bench)
    assert "张三" not in str(caught.value)
    if isinstance(caught.value, HisRefused):
        assert reason_pb2.Reason.Name(caught.value.reason).removeprefix("REASON_") == reason
        assert caught.value.text.startswith("张三")


async def test_a_read_that_the_platform_cannot_answer_is_asked_again(bench: Bench) -> None:
    bench.fault(FaultKind.REFUSE, "5203", message="调用省异地平台超时")
    with pytest.raises(HisUnavailable):
        await ask(bench, "QuerySettlement", **WHO, mdtrt_id="1")


async def test_refusals_of_the_platform(bench: Bench) -> None:
    other = {"insutype": "310", "visit_no": "MZ9", "credential": CREDENTIAL}
    remote = {"person_no": "44010000000000000003", "insured_area": AREA}
    assert await refused(bench, "OpenVisit", **remote, **other, msgid=msgid(1)) == "INSURANCE_REFUSED"
    nobody = insurance_pb2.InsuranceCredential(certificate_type="01", certificate_no="TOKEN9")
    assert await refused(bench, "GetPerson", credential=nobody) == "PATIENT_NOT_FOUND"
    mdtrt = await uploaded(bench)
    reason = await refused(bench, "Settle", msgid=msgid(30), subject=subject(mdtrt, total_fen=2651))
    assert reason == "AMOUNT_MISMATCH"


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        ([], "INVALID_REQUEST"),
        ([fee_pb2.FeeItem(item_id="X", amount_fen=100)], "INVALID_REQUEST"),
        ([fee_pb2.FeeItem(item_id="X", national_code="001102000010000")], "AMOUNT_MISMATCH"),
        ([fee_pb2.FeeItem(item_id="X", national_code="001102000010000", amount_fen=-1)], "AMOUNT_MISMATCH"),
        (
            [
                fee_pb2.FeeItem(
                    item_id="X", national_code="001102000010000", price_fen=5, count_hundredths=200, amount_fen=100
                )
            ],
            "AMOUNT_MISMATCH",
        ),
    ],
)
async def test_fee_lines_that_cannot_be_are_never_sent(bench: Bench, items: list[Any], reason: str) -> None:
    fields = WHO | {"msgid": msgid(1), "mdtrt_id": "1", "batch_no": "B1", "items": items}
    assert await refused(bench, "UploadFees", **fields) == reason
    assert not bench.server.requests


@pytest.mark.parametrize("number", ["", "1", "H44030400002202603020930000001", "H4403040000120260302093000000"])
async def test_a_msgid_that_cannot_be_one_is_never_sent(bench: Bench, number: str) -> None:
    if number == "":
        return  # a read makes its own; a write without one does not pass the contract
    reason = await refused(bench, "SignIn", msgid=number)
    assert reason == "INVALID_REQUEST"
    assert not bench.server.requests


# ---- provinces ----


async def test_another_province(tmp_path: Path) -> None:
    """Other numbers, one path for all, amounts as numbers, further fields, own words."""
    from his_db.simulators.insurance import InsuranceSimulatorMaker

    keys = tmp_path / "keys"
    text = InsuranceSimulatorMaker().prepare(keys, "").read_text(encoding="utf-8")
    text += """
infnos = { "2207A" = "2207", "2206A" = "2206", "2203A" = "2203" }
path = "/fsi/api"
amounts = "number"
echo_fees = true
envelope = { fixmedins_soft_fcty = "his160" }
extra = { "2207A" = { pub_hosp_rfom_flag = "1" } }
refusals = [ { text = "冻结", reason = "PATIENT_BLOCKED" } ]
"""
    bench = Bench("insurance", "insurance", tmp_path, keys, StillClock(NOW), mapping=text)
    seen: list[dict[str, Any]] = []

    def answer(asked: Any) -> Any:
        from his_db.simulated.insurance_wire import told

        body = json.loads(asked.body)
        seen.append({**body, "target": asked.target, "raw": asked.body.decode()})
        if body["infno"] == "9001":
            return told(NOW, "", {"signinoutb": {"sign_no": "S1", "sign_time": "2026-03-02 09:30:00"}})
        return told(NOW, "", error="账户已冻结")

    bench.server.simulator.answer = answer  # type: ignore[method-assign]
    try:
        assert await refused(bench, "Settle", msgid=msgid(1), subject=subject("1")) == "PATIENT_BLOCKED"
        await_reverse = {"original_msgid": msgid(1), "original_infno": "2207A"}
        assert await refused(bench, "ReverseTransaction", **WHO, msgid=msgid(2), **await_reverse) == "PATIENT_BLOCKED"
    finally:
        await bench.close()
    sign, settle, reverse = seen
    assert {item["target"] for item in seen} == {"/fsi/api"}
    assert (sign["infno"], settle["infno"], settle["fixmedins_soft_fcty"]) == ("9001", "2207", "his160")
    assert '"medfee_sumamt":26.50,' in settle["raw"]
    assert settle["input"]["data"]["pub_hosp_rfom_flag"] == "1"
    assert settle["input"]["data"]["inscp_scp_amt"] == 0
    assert reverse["input"]["data"]["oinfno"] == "2207"


# ---- money ----

OPTIONS = {"fund_parts": list(FUND_PARTS), "sums": list(SUMS), "family_account": "inside"}
FEN = st.integers(min_value=0, max_value=10**9)


@given(fen=st.integers(min_value=-(10**12), max_value=10**12))
def test_yuan_and_fen_are_one(fen: int) -> None:
    assert fen_of_yuan(yuan_of_fen(fen)) == fen
    assert fen_of_yuan(yuan_of_fen(fen) + "00") == fen


@given(text=st.text(max_size=20))
def test_what_is_no_amount_is_refused(text: str) -> None:
    try:
        found = fen_of_yuan(text)
    except AmountError as error:
        assert str(error) in {"is no amount in digits", "has more than 2 decimals"}
    else:
        assert found * 10**8 == Decimal(text.strip()).scaleb(10)


@pytest.mark.parametrize(
    "value", ["0.001", "1.005", 1.5, True, None, "", "1,000.00", "１.００", "1e3", "NaN", "--1", " "]
)
def test_amounts_that_are_not_whole_fen(value: Any) -> None:
    with pytest.raises(AmountError):
        fen_of_yuan(value)


@settings(max_examples=200)
@given(parts=st.lists(FEN, min_size=7, max_size=7), account=FEN, cash=FEN, hospital=FEN, wrong=st.integers(-3, 3))
def test_sums_hold_to_the_fen(parts: list[int], account: int, cash: int, hospital: int, wrong: int) -> None:
    fund = sum(parts)
    values = dict(zip(FUND_PARTS, map(yuan_of_fen, parts), strict=True))
    values |= {
        "fund_pay_sumamt": yuan_of_fen(fund),
        "acct_pay": yuan_of_fen(account),
        "psn_cash_pay": yuan_of_fen(cash),
    }
    values |= {"psn_part_amt": yuan_of_fen(account + cash), "hosp_part_amt": yuan_of_fen(hospital)}
    values["medfee_sumamt"] = yuan_of_fen(fund + account + cash + hospital + wrong)
    info = Fields(values, "2207A")
    if wrong:
        with pytest.raises(MappingMismatch):
            settlement_of(info, OPTIONS, ZONE, negative=False)
        return
    found = settlement_of(info, OPTIONS, ZONE, negative=False)
    assert found.split.total_fen == found.split.fund_fen + found.split.account_fen + found.split.cash_fen + hospital


@pytest.mark.parametrize(
    ("changed", "options"),
    [
        ({"psn_cash_pay": "-1.00", "medfee_sumamt": "-1.00"}, {}),
        ({"fund_pay_sumamt": "0.01"}, {}),
        ({"psn_part_amt": "9.99"}, {}),
        ({"acct_mulaid_pay": "1.00"}, {"family_account": "beside"}),
        ({"medfee_sumamt": "10.005"}, {}),
        ({"medfee_sumamt": None}, {}),
        ({"acct_pay": "x"}, {}),
    ],
)
def test_a_settlement_that_does_not_add_up(changed: dict[str, Any], options: dict[str, Any]) -> None:
    values = {"medfee_sumamt": "10.00", "fund_pay_sumamt": "0", "acct_pay": "4.00", "psn_cash_pay": "6.00"}
    good = settlement_of(Fields(values | {"psn_part_amt": "10.00"}, "x"), OPTIONS, ZONE, negative=False)
    assert good.split.total_fen == 1000
    with pytest.raises(MappingMismatch):
        settlement_of(
            Fields({**values, "psn_part_amt": "10.00", **changed}, "x"), OPTIONS | options, ZONE, negative=False
        )


def test_provinces_with_other_sums() -> None:
    values = {"medfee_sumamt": "10.00", "fund_pay_sumamt": "3.00", "hifdm_pay": "3.00", "acct_pay": "2.00"}
    values |= {"acct_mulaid_pay": "1.00", "psn_cash_pay": "4.00"}
    options = OPTIONS | {"fund_parts": [*FUND_PARTS, "hifdm_pay"], "family_account": "beside"}
    found = settlement_of(Fields(values, "x"), options, ZONE, negative=False)
    assert (found.split.family_account_fen, found.amounts.psn_part_amt_fen) == (100, 700)
