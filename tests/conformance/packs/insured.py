"""Registrations that 医保 pays a part of, on a pack: what the steps of a settlement ask of the HIS."""

from __future__ import annotations

import datetime as dt
from typing import Any

from his160.site.v1 import insurance_gateway_pb2, registration_pb2
from his160.v1 import common_pb2, insurance_pb2

from tests.conformance.packs.hospital import Hospital, booked, key, read

SERVICE = "InsuredRegistrationService"


def split(total_fen: int) -> insurance_pb2.InsuranceSplit:
    """Fund 60 %, personal account at most 10 元, the rest in cash."""
    fund = total_fen * 6 // 10
    account = min(1000, total_fen - fund - 1)
    return insurance_pb2.InsuranceSplit(
        total_fen=total_fen, fund_fen=fund, account_fen=account, family_account_fen=100,
        cash_fen=total_fen - fund - account,
    )  # fmt: skip


def setl_id(order: common_pb2.Appointment) -> str:
    return "S" + order.order_no


def settlement(
    order: common_pb2.Appointment, parts: insurance_pb2.InsuranceSplit, number: str = ""
) -> insurance_gateway_pb2.SettlementRecord:
    """What 2207A has answered, every field that a HIS keeps (facts §2.2)."""
    record = insurance_gateway_pb2.SettlementRecord(
        order_no=order.order_no, person_no="44030000000000000123", insutype="310", insured_area="440300",
        mdtrt_id="D" + order.order_no, batch_no="B" + order.order_no, setl_id=number or setl_id(order),
        visit_msgid="H44030500001202611231030000001", fees_msgid="H44030500001202611231030000002",
        settle_msgid="H44030500001202611231030000003", sign_no="440300S001", clearing_type="11", clearing_way="1",
        clearing_office="440300", medical_type="12",
    )  # fmt: skip
    record.settle_time.FromDatetime(dt.datetime.now(dt.UTC).replace(microsecond=0))
    record.split.CopyFrom(parts)
    amounts = record.amounts
    amounts.medfee_sumamt_fen, amounts.fund_pay_sumamt_fen = parts.total_fen, parts.fund_fen
    amounts.hifp_pay_fen, amounts.oth_pay_fen = parts.fund_fen - 1, 1
    amounts.fulamt_ownpay_amt_fen, amounts.overlmt_selfpay_fen, amounts.preselfpay_amt_fen = 3, 4, 5
    amounts.inscp_scp_amt_fen, amounts.act_pay_dedc_fen = parts.total_fen - 12, 6
    amounts.psn_part_amt_fen = parts.account_fen + parts.cash_fen
    amounts.acct_pay_fen, amounts.psn_cash_pay_fen = parts.account_fen, parts.cash_fen
    amounts.acct_mulaid_pay_fen, amounts.balc_fen = parts.family_account_fen, 123_456
    return record


async def register(
    h: Hospital,
    order: common_pb2.Appointment,
    *,
    split: insurance_pb2.InsuranceSplit | None = None,
    setl_id: str = "",
    **more: Any,
) -> common_pb2.Appointment:
    """RegisterInsured; `more`: fields of the request."""
    parts = split or _split(order.total_fen)
    fields: dict[str, Any] = {
        "order_no": order.order_no,
        "settlement": settlement(order, parts, setl_id),
        "out_trade_no": "M" + order.order_no if parts.cash_fen else "",
        "transaction_id": "W" + order.order_no if parts.cash_fen else "",
    }
    fields.update(more)
    request = registration_pb2.RegisterInsuredRequest(request_id=key(), **fields)
    if parts.cash_fen:
        request.pay_time.FromDatetime(dt.datetime.now(dt.UTC).replace(microsecond=0))
    answer = await h.his.write(f"{SERVICE}.RegisterInsured", request, key=request.request_id)
    assert isinstance(answer, registration_pb2.RegisterInsuredResponse)
    return answer.appointment


_split = split


async def registered(h: Hospital, *, schedule: common_pb2.Schedule | None = None) -> common_pb2.Appointment:
    """A new order, booked, settled by 医保 and registered."""
    return await register(h, await booked(h, schedule=schedule))


async def red(h: Hospital, order: common_pb2.Appointment, **more: Any) -> common_pb2.Appointment:
    """CancelInsured, all of it."""
    fields: dict[str, Any] = {
        "order_no": order.order_no,
        "setl_id": setl_id(order),
        "reversal_setl_id": "R" + setl_id(order),
        "out_refund_no": "R" + order.order_no,
        "cash_fen": split(order.total_fen).cash_fen,
        "note": "患者改期",
    }
    fields.update(more)
    request = registration_pb2.CancelInsuredRequest(request_id=key(), **fields)
    answer = await h.his.write(f"{SERVICE}.CancelInsured", request, key=request.request_id)
    assert isinstance(answer, registration_pb2.CancelInsuredResponse)
    return answer.appointment


async def kept(h: Hospital, **by: str) -> registration_pb2.GetInsuredRegistrationResponse:
    """What the HIS has of a settlement."""
    answer = await read(h, f"{SERVICE}.GetInsuredRegistration", **by)
    assert isinstance(answer, registration_pb2.GetInsuredRegistrationResponse)
    return answer
