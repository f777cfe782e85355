"""医保自费混合支付 of WeChat Pay: one order whose parts 医保 and the patient pay.

Source: pay.weixin.qq.com merchant pages 4016781466 (order), 4016781479 (query), 4016781561 (refund notice), and the
wechatpay-medical-insurance-payment notes. Which fields a mix_pay_type has and forbids, and the money equations, are
checked before anything is sent: total = gov + self + other + wechat_pay_cash + reduce
= gov + self + other + med_ins_cash + add, wechat_pay_cash = med_ins_cash + add - reduce. A cash-only order has four
insurance amounts of 0, so that its price is an `add`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote
from zoneinfo import ZoneInfo

from his160.site.v1 import merchant_pb2
from his160.v1 import insurance_pb2, payment_pb2, reason_pb2

from his_db.errors import HisError, HisRefused, OutcomeUnknown
from his_db.http_exchange import Exchanger
from his_db.reply_fields import Fields
from his_db.wechat.errors import invalid
from his_db.wechat.exchange import Ask, Merchant
from his_db.wechat.trades import Trades, check_refund_no

CASH_ONLY, INSURANCE_ONLY, BOTH = "CASH_ONLY", "INSURANCE_ONLY", "CASH_AND_INSURANCE"
_SERIAL_NO: Final = re.compile(r"[\x21-\x7e]{1,20}")
_TRADE_NO: Final = re.compile(r"[0-9A-Za-z_\-|*@]{1,64}")
_GEO: Final = re.compile(r"-?[0-9]{1,3}(?:\.[0-9]+)?,-?[0-9]{1,2}(?:\.[0-9]+)?")
_UNSPECIFIED: Final = payment_pb2.PAYMENT_STATE_UNSPECIFIED
_STATES: Final[Mapping[str, payment_pb2.PaymentState.ValueType]] = {
    "CREATED": payment_pb2.PAYMENT_STATE_UNPAID,
    "USER_PAYING": payment_pb2.PAYMENT_STATE_PAYING,
    "SUCCESS": payment_pb2.PAYMENT_STATE_PAID,
    "REFUND": payment_pb2.PAYMENT_STATE_REFUNDED,
    "FAIL": payment_pb2.PAYMENT_STATE_CLOSED,
    "REVERSED": payment_pb2.PAYMENT_STATE_CLOSED,
}


@dataclass(frozen=True, slots=True)
class MixedTrades:
    """The three operations. `options`: those of the gateway file, `options["mixed"]` among them."""

    options: Mapping[str, Any]
    zone: ZoneInfo

    def open(
        self, merchant: Merchant, exchanger: Exchanger, request: merchant_pb2.OpenMixedTradeRequest, now: datetime
    ) -> merchant_pb2.OpenMixedTradeResponse:
        """医保自费混合下单. A number that is there already is looked up: the same content is the same trade."""
        name = "MerchantService.OpenMixedTrade"
        body = self._body(request, merchant, name)
        ask = Ask(name, "POST", "/v3/med-ins/orders", body, serial=merchant.keys.serial)
        try:
            trade = self._trade(merchant.ask(exchanger, ask, now))
        except HisRefused as error:
            if error.reason != reason_pb2.REASON_PAYMENT_NUMBER_REUSED:
                raise
            trade = self._existing(merchant, exchanger, body, now, error)
        parameters = {"mixTradeNo": trade.mix_trade_no}
        if request.prepay_id:
            parameters |= merchant.pay_parameters(self.options["appid"], request.prepay_id, now)
        return merchant_pb2.OpenMixedTradeResponse(trade=trade, pay_parameters=parameters)

    def query(
        self, merchant: Merchant, exchanger: Exchanger, request: merchant_pb2.QueryMixedTradeRequest, now: datetime
    ) -> merchant_pb2.QueryMixedTradeResponse:
        """查询混合订单, by 商户订单号."""
        name = "MerchantService.QueryMixedTrade"
        if _TRADE_NO.fullmatch(request.out_trade_no) is None:
            raise invalid(name, "out_trade_no has 1 to 64 characters of 0-9 A-Z a-z _ - | * @")
        target = f"/v3/med-ins/orders/out-trade-no/{quote(request.out_trade_no, safe='')}"
        answer = merchant.ask(exchanger, Ask(name, "GET", target, is_read=True), now)
        trade = self._trade(answer)
        if trade.out_trade_no != request.out_trade_no:
            raise answer.wrong("out_trade_no", "is not the one asked for")
        return merchant_pb2.QueryMixedTradeResponse(trade=trade)

    def notify(
        self,
        merchant: Merchant,
        exchanger: Exchanger,
        request: merchant_pb2.NotifyInsuranceRefundRequest,
        now: datetime,
    ) -> merchant_pb2.NotifyInsuranceRefundResponse:
        """医保退款通知: we tell WeChat Pay. The same again is harmless: the newest counts."""
        name = "MerchantService.NotifyInsuranceRefund"
        check_refund_no(request.out_refund_no, name)
        split = request.split
        parts = (split.fund_fen, split.account_fen, split.hospital_fen)
        if min(parts) < 0 or sum(parts) <= 0:
            raise invalid(name, "what went back must be more than 0, each part 0 or more", "AMOUNT_MISMATCH")
        body = {
            "med_refund_total_fee": sum(parts),
            "med_refund_gov_fee": split.fund_fen,
            "med_refund_self_fee": split.account_fen,
            "med_refund_other_fee": split.hospital_fen,
            "refund_time": Trades(self.options, self.zone).moment(request.refund_time),
            "out_refund_no": request.out_refund_no,
        }
        target = f"/v3/med-ins/refunds/notify?mix_trade_no={quote(request.mix_trade_no, safe='')}"
        merchant.ask(exchanger, Ask(name, "POST", target, body), now)
        return merchant_pb2.NotifyInsuranceRefundResponse(mix_trade_no=request.mix_trade_no)

    def _body(self, request: merchant_pb2.OpenMixedTradeRequest, merchant: Merchant, name: str) -> dict[str, Any]:
        mixed = self.options["mixed"]
        kind, amounts = _parts(request, name)
        _check_fields(request, kind, name)
        body: dict[str, Any] = {
            "mix_pay_type": kind,
            "order_type": mixed["order_type"],
            "appid": self.options["appid"],
            "openid": request.payer_openid,
            "payer": {
                "name": merchant.keys.encrypted(request.payer_name),
                "id_digest": merchant.keys.encrypted(id_digest(request.payer_document_no, name)),
                "card_type": "ID_CARD",
            },
            "pay_for_relatives": False,
            "out_trade_no": request.out_trade_no,
            "serial_no": request.serial_no,
        }
        if kind != CASH_ONLY:
            body |= {
                "pay_order_id": request.pay_order_id,
                "pay_auth_no": request.pay_auth_no,
                "geo_location": request.geo_location,
                "med_ins_order_create_time": Trades(self.options, self.zone).moment(request.insurance_order_time),
            }
        body |= {"city_id": mixed["city_id"], "med_inst_name": mixed["med_inst_name"]}
        body |= {"med_inst_no": mixed["med_inst_no"], **amounts, "callback_url": mixed["callback_url"]}
        if kind == CASH_ONLY:
            added = {"cash_add_fee": request.split.cash_fen, "cash_add_type": "DEFAULT_ADD_TYPE"}
            body["cash_add_detail"] = [added]
        if request.reduce_fen:
            detail = {"cash_reduce_fee": request.reduce_fen, "cash_reduce_type": "HOSPITAL_REDUCE"}
            body["cash_reduce_detail"] = [detail]
        if kind != INSURANCE_ONLY:
            body["prepay_id"] = request.prepay_id
        if kind != CASH_ONLY and mixed["passthrough"]:
            body["passthrough_request_content"] = _passthrough(request, mixed["passthrough"])
        if mixed.get("channel_no"):
            body["channel_no"] = mixed["channel_no"]
        body["med_ins_test_env"] = mixed["med_ins_test_env"]
        return body

    def _existing(
        self, merchant: Merchant, exchanger: Exchanger, body: Mapping[str, Any], now: datetime, error: HisRefused
    ) -> merchant_pb2.MixedTrade:
        """The trade that has the number. Raises `error` when it is another one, OutcomeUnknown when nobody can say."""
        asked = merchant_pb2.QueryMixedTradeRequest(out_trade_no=body["out_trade_no"])
        try:
            trade = self.query(merchant, exchanger, asked, now).trade
        except HisError as failed:
            raise OutcomeUnknown(f"{error.detail}; and then: {failed.detail}") from None
        wanted = (body["total_fee"], body["wechat_pay_cash_fee"], body["med_ins_gov_fee"], body["med_ins_self_fee"])
        if (trade.total_fen, trade.cash_fen, trade.fund_fen, trade.account_fen) != wanted:
            raise error
        return trade

    def _trade(self, answer: Fields) -> merchant_pb2.MixedTrade:
        return merchant_pb2.MixedTrade(
            out_trade_no=answer.need("out_trade_no"),
            mix_trade_no=answer.need("mix_trade_no"),
            state=_state(answer.need("mix_pay_status"), "MIX_PAY_"),
            cash_state=_state(answer.text("self_pay_status"), "SELF_PAY_"),
            insurance_state=_state(answer.text("med_ins_pay_status"), "MED_INS_PAY_"),
            total_fen=answer.fen("total_fee"),
            cash_fen=answer.fen("wechat_pay_cash_fee") if answer.has("wechat_pay_cash_fee") else 0,
            fund_fen=answer.fen("med_ins_gov_fee") if answer.has("med_ins_gov_fee") else 0,
            account_fen=answer.fen("med_ins_self_fee") if answer.has("med_ins_self_fee") else 0,
            other_fen=answer.fen("med_ins_other_fee") if answer.has("med_ins_other_fee") else 0,
        )


def _state(code: str, prefix: str) -> payment_pb2.PaymentState.ValueType:
    """A state that is not known, and NO_SELF_PAY or NO_MED_INS_PAY, stay unspecified."""
    return _STATES.get(code.removeprefix(prefix), _UNSPECIFIED) if code.startswith(prefix) else _UNSPECIFIED


def _parts(request: merchant_pb2.OpenMixedTradeRequest, name: str) -> tuple[str, dict[str, int]]:
    """mix_pay_type and the amounts on the wire. Raises HisRefused (AMOUNT_MISMATCH)."""
    split: insurance_pb2.InsuranceSplit = request.split
    insured = split.fund_fen + split.account_fen + split.hospital_fen
    pays = split.cash_fen - request.reduce_fen
    if min(split.fund_fen, split.account_fen, split.hospital_fen, split.cash_fen, request.reduce_fen, pays) < 0:
        raise invalid(name, "an amount is negative, or reduce_fen is more than the cash part", "AMOUNT_MISMATCH")
    total = insured + split.cash_fen
    if total != split.total_fen or total <= 0:
        raise invalid(name, "total_fen is not fund + account + hospital + cash", "AMOUNT_MISMATCH")
    kind = CASH_ONLY if not request.pay_order_id else BOTH if pays else INSURANCE_ONLY
    if kind == CASH_ONLY and insured:
        raise invalid(name, "an order without pay_order_id has no insurance part", "AMOUNT_MISMATCH")
    return kind, {
        "total_fee": total,
        "med_ins_gov_fee": split.fund_fen,
        "med_ins_self_fee": split.account_fen,
        "med_ins_other_fee": split.hospital_fen,
        "med_ins_cash_fee": 0 if kind == CASH_ONLY else split.cash_fen,
        "wechat_pay_cash_fee": pays,
    }


def _check_fields(request: merchant_pb2.OpenMixedTradeRequest, kind: str, name: str) -> None:
    """Required and forbidden fields of the kind. Raises HisRefused (INVALID_REQUEST)."""
    if _TRADE_NO.fullmatch(request.out_trade_no) is None:
        raise invalid(name, "out_trade_no has 1 to 64 characters of 0-9 A-Z a-z _ - | * @")
    if _SERIAL_NO.fullmatch(request.serial_no) is None:
        raise invalid(name, "serial_no has 1 to 20 characters")
    if not request.payer_openid or not request.payer_name:
        raise invalid(name, "payer_openid and payer_name are needed")
    insured = {
        "pay_order_id": bool(request.pay_order_id),
        "pay_auth_no": bool(request.pay_auth_no),
        "geo_location": bool(request.geo_location),
        "insurance_order_time": request.HasField("insurance_order_time"),
    }
    wrong = sorted(field for field, there in insured.items() if there is (kind == CASH_ONLY))
    if wrong:
        raise invalid(name, f"{', '.join(wrong)} {'must be empty' if kind == CASH_ONLY else 'is needed'} for {kind}")
    if kind != CASH_ONLY and _GEO.fullmatch(request.geo_location) is None:
        raise invalid(name, 'geo_location is not "lng,lat"')
    if bool(request.prepay_id) is (kind == INSURANCE_ONLY):
        raise invalid(name, f"prepay_id {'must be empty' if request.prepay_id else 'is needed'} for {kind}")


def id_digest(document_no: str, operation: str) -> str:
    """MD5 in lower-case hex of the 18-digit ID number in upper case; one of 15 digits is completed (GB 11643)."""
    number = document_no.strip().upper()
    if re.fullmatch(r"[0-9]{15}", number):
        number = with_check_digit(f"{number[:6]}19{number[6:]}")
    if re.fullmatch(r"[0-9]{17}[0-9X]", number) is None:
        raise invalid(operation, "payer_document_no is no ID card number")
    return hashlib.md5(number.encode(), usedforsecurity=False).hexdigest()


def with_check_digit(seventeen: str) -> str:
    """GB 11643-1999, ISO 7064 MOD 11-2."""
    total = sum(int(digit) * (2 ** (17 - at) % 11) for at, digit in enumerate(seventeen))
    return seventeen + "10X98765432"[total % 11]


def _passthrough(request: merchant_pb2.OpenMixedTradeRequest, names: list[str]) -> str:
    """What some provinces want told a second time, in their own words."""
    values = {
        "payAuthNo": request.pay_auth_no,
        "payOrdId": request.pay_order_id,
        "setlLatlnt": request.geo_location,
    }
    return json.dumps({name: values[name] for name in names}, separators=(",", ":"))
