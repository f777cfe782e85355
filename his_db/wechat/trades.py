"""Trades and refunds of WeChat Pay v3: JSAPI order, query, close, refund, query of a refund.

Source: pay.weixin.qq.com merchant pages 4012791856 (JSAPI), 4012791858 (query), 4012791860 (close), 4012791862 and
4012791863 (refund). Amounts are integer 分 on the wire too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote
from zoneinfo import ZoneInfo

from google.protobuf.timestamp_pb2 import Timestamp
from his160.site.v1 import merchant_pb2
from his160.v1 import payment_pb2

from his_db.errors import HisRefused
from his_db.http_exchange import Exchanger
from his_db.mapping.answer import reason_value
from his_db.mapping.convert_in import timestamp
from his_db.reply_fields import Fields
from his_db.wechat.errors import invalid, is_not_found
from his_db.wechat.exchange import Ask, Merchant

_TRADE_NO: Final = re.compile(r"[0-9A-Za-z_\-|*]{6,32}")
_REFUND_NO: Final = re.compile(r"[0-9A-Za-z_\-|*@]{1,64}")
_PREPAY_LIFE: Final = timedelta(hours=2)
_DESCRIPTION: Final = 127
_REASON: Final = 80
_STATES: Final[Mapping[str, payment_pb2.PaymentState.ValueType]] = {
    "SUCCESS": payment_pb2.PAYMENT_STATE_PAID,
    "REFUND": payment_pb2.PAYMENT_STATE_REFUNDED,
    "NOTPAY": payment_pb2.PAYMENT_STATE_UNPAID,
    "USERPAYING": payment_pb2.PAYMENT_STATE_PAYING,
    "PAYERROR": payment_pb2.PAYMENT_STATE_UNPAID,
    "CLOSED": payment_pb2.PAYMENT_STATE_CLOSED,
    "REVOKED": payment_pb2.PAYMENT_STATE_CLOSED,
}
_REFUND_STATES: Final[Mapping[str, payment_pb2.RefundState.ValueType]] = {
    "SUCCESS": payment_pb2.REFUND_STATE_DONE,
    "PROCESSING": payment_pb2.REFUND_STATE_PROCESSING,
    # 退款关闭 and 退款异常: the money did not go back, and the same number will not send it any more.
    "CLOSED": payment_pb2.REFUND_STATE_ABNORMAL,
    "ABNORMAL": payment_pb2.REFUND_STATE_ABNORMAL,
}


@dataclass(frozen=True, slots=True)
class Trades:
    """The five operations. `options`: those of the gateway file; `zone`: the hospital's, for times on the wire."""

    options: Mapping[str, Any]
    zone: ZoneInfo

    def open(
        self, merchant: Merchant, exchanger: Exchanger, request: merchant_pb2.OpenTradeRequest, now: datetime
    ) -> merchant_pb2.OpenTradeResponse:
        """JSAPI 下单."""
        name = "MerchantService.OpenTrade"
        check_trade_no(request.out_trade_no, name)
        if request.amount_fen <= 0:
            raise invalid(name, "amount_fen must be more than 0")
        if not request.payer_openid:
            raise invalid(name, "payer_openid is empty")
        expires = now + _PREPAY_LIFE
        body: dict[str, Any] = {
            "appid": self.options["appid"],
            "mchid": self.options["mchid"],
            "description": (request.description or self.options["description"])[:_DESCRIPTION],
            "out_trade_no": request.out_trade_no,
            "attach": request.order_no[:128],
            "notify_url": self.options["notify_url"],
            "amount": {"total": request.amount_fen, "currency": "CNY"},
            "payer": {"openid": request.payer_openid},
        }
        if request.HasField("expire_time"):
            wanted = request.expire_time.ToDatetime(tzinfo=UTC)
            body["time_expire"] = self.moment(request.expire_time)
            expires = min(expires, wanted)
        answer = merchant.ask(exchanger, Ask(name, "POST", "/v3/pay/transactions/jsapi", body), now)
        prepay_id = answer.need("prepay_id")
        return merchant_pb2.OpenTradeResponse(
            out_trade_no=request.out_trade_no,
            pay_parameters=merchant.pay_parameters(self.options["appid"], prepay_id, now),
            expire_time=timestamp(expires, self.zone),
            prepay_id=prepay_id,
        )

    def query(
        self, merchant: Merchant, exchanger: Exchanger, request: merchant_pb2.QueryTradeRequest, now: datetime
    ) -> merchant_pb2.QueryTradeResponse:
        """查询订单, by 微信支付订单号 where it is known, else by 商户订单号."""
        name = "MerchantService.QueryTrade"
        if request.transaction_id:
            path = f"/v3/pay/transactions/id/{quote(request.transaction_id, safe='')}"
        elif request.out_trade_no:
            path = f"/v3/pay/transactions/out-trade-no/{quote(request.out_trade_no, safe='')}"
        else:
            raise invalid(name, "out_trade_no or transaction_id is needed")
        target = f"{path}?mchid={quote(self.options['mchid'], safe='')}"
        answer = merchant.ask(exchanger, Ask(name, "GET", target, is_read=True), now)
        trade = trade_of(answer)
        if answer.text("mchid") not in {"", self.options["mchid"]}:
            raise answer.wrong("mchid", "is not ours")
        if request.out_trade_no and trade.out_trade_no != request.out_trade_no:
            raise answer.wrong("out_trade_no", "is not the one asked for")
        return merchant_pb2.QueryTradeResponse(trade=trade)

    def close(
        self, merchant: Merchant, exchanger: Exchanger, request: merchant_pb2.CloseTradeRequest, now: datetime
    ) -> merchant_pb2.CloseTradeResponse:
        """关闭订单. Closed before, or never opened, is closed."""
        name = "MerchantService.CloseTrade"
        check_trade_no(request.out_trade_no, name)
        target = f"/v3/pay/transactions/out-trade-no/{quote(request.out_trade_no, safe='')}/close"
        try:
            merchant.ask(exchanger, Ask(name, "POST", target, {"mchid": self.options["mchid"]}), now)
        except HisRefused as error:
            if not is_not_found(error) and error.reason != reason_value("ILLEGAL_TRANSITION"):
                raise
        return merchant_pb2.CloseTradeResponse(out_trade_no=request.out_trade_no)

    def refund(
        self, merchant: Merchant, exchanger: Exchanger, request: merchant_pb2.RefundTradeRequest, now: datetime
    ) -> merchant_pb2.RefundTradeResponse:
        """申请退款: the same out_refund_no is one refund, however often it is sent."""
        name = "MerchantService.RefundTrade"
        check_trade_no(request.out_trade_no, name)
        check_refund_no(request.out_refund_no, name)
        if not 0 < request.refund_fen <= request.total_fen:
            raise invalid(name, "refund_fen must be more than 0 and at most total_fen", "AMOUNT_MISMATCH")
        amount = {"refund": request.refund_fen, "total": request.total_fen, "currency": "CNY"}
        body: dict[str, Any] = {"out_trade_no": request.out_trade_no, "out_refund_no": request.out_refund_no}
        if request.note:
            body["reason"] = request.note[:_REASON]
        if self.options.get("refund_notify_url"):
            body["notify_url"] = self.options["refund_notify_url"]
        body["amount"] = amount
        answer = merchant.ask(exchanger, Ask(name, "POST", "/v3/refund/domestic/refunds", body), now)
        refund = refund_of(answer)
        if refund.out_refund_no != request.out_refund_no or refund.amount_fen != request.refund_fen:
            raise answer.wrong("out_refund_no or amount", "is not that of the request")
        return merchant_pb2.RefundTradeResponse(refund=refund)

    def query_refund(
        self, merchant: Merchant, exchanger: Exchanger, request: merchant_pb2.QueryRefundRequest, now: datetime
    ) -> merchant_pb2.QueryRefundResponse:
        """查询退款."""
        name = "MerchantService.QueryRefund"
        check_refund_no(request.out_refund_no, name)
        target = f"/v3/refund/domestic/refunds/{quote(request.out_refund_no, safe='')}"
        answer = merchant.ask(exchanger, Ask(name, "GET", target, is_read=True), now)
        refund = refund_of(answer)
        if refund.out_refund_no != request.out_refund_no:
            raise answer.wrong("out_refund_no", "is not the one asked for")
        return merchant_pb2.QueryRefundResponse(refund=refund)

    def moment(self, value: Timestamp) -> str:
        """RFC 3339 with the hospital's offset, in whole seconds: Z is refused by the insurance side."""
        return value.ToDatetime(tzinfo=UTC).astimezone(self.zone).replace(microsecond=0).isoformat()


def check_trade_no(number: str, operation: str) -> None:
    """Raises HisRefused (INVALID_REQUEST)."""
    if _TRADE_NO.fullmatch(number) is None:
        raise invalid(operation, "out_trade_no has 6 to 32 characters of 0-9 A-Z a-z _ - | *")


def check_refund_no(number: str, operation: str) -> None:
    """Raises HisRefused (INVALID_REQUEST)."""
    if _REFUND_NO.fullmatch(number) is None:
        raise invalid(operation, "out_refund_no has 1 to 64 characters of 0-9 A-Z a-z _ - | * @")


def trade_of(answer: Fields) -> merchant_pb2.Trade:
    """A trade of an answer or a notice. A state that is not known stays unspecified: it fails closed."""
    state = answer.need("trade_state")
    amount = answer.table("amount")
    return merchant_pb2.Trade(
        out_trade_no=answer.need("out_trade_no"),
        transaction_id=answer.text("transaction_id"),
        state=_STATES.get(state, payment_pb2.PAYMENT_STATE_UNSPECIFIED),
        amount_fen=amount.fen("total") if amount.has("total") or state in {"SUCCESS", "REFUND"} else 0,
        pay_time=answer.moment("success_time", _UTC),
        state_code=state,
    )


def refund_of(answer: Fields) -> merchant_pb2.TradeRefund:
    """A refund of an answer."""
    state = answer.need("status")
    return merchant_pb2.TradeRefund(
        out_refund_no=answer.need("out_refund_no"),
        refund_id=answer.text("refund_id"),
        out_trade_no=answer.text("out_trade_no"),
        state=_REFUND_STATES.get(state, payment_pb2.REFUND_STATE_UNSPECIFIED),
        amount_fen=answer.table("amount").fen("refund"),
        success_time=answer.moment("success_time", _UTC),
        state_code=state,
    )


_UTC: Final = ZoneInfo("UTC")
