"""gateway = "wechatpay": the hospital's own merchant account at WeChat Pay, API v3."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, ClassVar, Final
from zoneinfo import ZoneInfo

from google.protobuf.message import Message

from his_db.document.finding import Words
from his_db.document.shape import Boolean, Field, ListOf, TableOf, Text
from his_db.gateway import Notice
from his_db.http_exchange import Exchanger
from his_db.mapping.finding import Reporter
from his_db.secret_reference import Reference
from his_db.wechat import notice
from his_db.wechat.bill import Bills
from his_db.wechat.exchange import Merchant
from his_db.wechat.keys import PUBLIC_KEY_PREFIX, MerchantKeys, NoKeys
from his_db.wechat.mixed import MixedTrades
from his_db.wechat.trades import Trades

_WORD: Final = Text(min_length=1)
_URL: Final = Text(
    pattern=r"https://[^\s?#]+",
    pattern_hint="https://… without ? and #",
    pattern_hint_zh="https:// 开头，不带 ? 和 # 参数",
)
_KEY: Final = TableOf({"serial": Field(_WORD, required=True), "key": Field(Reference(), required=True)})
_MIXED: Final = TableOf(
    {
        "med_inst_no": Field(_WORD, required=True, doc="institution number of 医保", doc_zh="医疗机构编码"),
        "med_inst_name": Field(_WORD, required=True, doc="institution name", doc_zh="医疗机构名称"),
        "city_id": Field(_WORD, required=True, doc="Tencent's own number", doc_zh="腾讯下发的城市 ID"),
        "callback_url": Field(_URL, required=True, doc="where notices go", doc_zh="回调地址"),
        "channel_no": Field(_WORD, doc="given by Tencent", doc_zh="腾讯分配的渠道号"),
        "order_type": Field(Text(choices=("REG_PAY", "DIAG_PAY", "INT_REG_PAY")), default="REG_PAY"),
        "passthrough": Field(
            ListOf(Text(choices=("payAuthNo", "payOrdId", "setlLatlnt"))),
            default=[],
            doc="what the province wants told twice",
            doc_zh="地方医保要求在透传内容里重复的字段",
        ),
        "med_ins_test_env": Field(
            Boolean(), default=False, doc="never true in production", doc_zh="正式环境必须为 false"
        ),
    }
)
_OPTIONS: Final[Mapping[str, Field]] = {
    "mchid": Field(Text(pattern=r"[0-9]{8,10}"), required=True, doc="merchant number", doc_zh="商户号"),
    "appid": Field(Text(pattern=r"wx[0-9A-Za-z]{8,30}"), required=True, doc="mini-program", doc_zh="小程序 AppID"),
    "certificate_serial": Field(
        Text(pattern=r"[0-9A-Fa-f]{8,64}"),
        required=True,
        doc="of the merchant's certificate",
        doc_zh="商户 API 证书序列号",
    ),
    "private_key": Field(Reference(), required=True, secret=True, doc="apiclient_key.pem", doc_zh="商户 API 私钥"),
    "platform_keys": Field(
        ListOf(_KEY, min_items=1),
        required=True,
        doc="WeChat Pay's public keys, the newest first",
        doc_zh="微信支付公钥（或平台证书），新的写在前面",
    ),
    "apiv3_key": Field(Reference(), secret=True, doc="for notices", doc_zh="APIv3 密钥（解密回调用）"),
    "notify_url": Field(_URL, required=True, doc="where notices of payments go", doc_zh="支付结果回调地址"),
    "refund_notify_url": Field(_URL, doc="where notices of refunds go", doc_zh="退款结果回调地址"),
    "description": Field(_WORD, default="预约挂号", doc="what the patient sees", doc_zh="账单上显示的商品描述"),
    "mixed": Field(_MIXED, doc="医保自费混合支付", doc_zh="医保自费混合支付的参数"),
}
_MIXED_OPERATIONS: Final = frozenset(
    {
        "MerchantService.OpenMixedTrade",
        "MerchantService.QueryMixedTrade",
        "MerchantService.NotifyInsuranceRefund",
    }
)
_Run = Callable[[Merchant, Exchanger, Any, datetime], Message]


class WechatPayGateway:
    """See `his_db.gateway.Gateway`. `nonce` is injected in tests."""

    name: ClassVar[str] = "wechatpay"
    operations: ClassVar[frozenset[str]] = _MIXED_OPERATIONS | frozenset(
        {
            "MerchantService.OpenTrade",
            "MerchantService.QueryTrade",
            "MerchantService.CloseTrade",
            "MerchantService.RefundTrade",
            "MerchantService.QueryRefund",
            "MerchantService.GetTradeBill",
        }
    )

    def __init__(self, nonce: Callable[[], str] = lambda: secrets.token_hex(16)) -> None:
        self._nonce = nonce

    def options(self) -> Mapping[str, Field]:
        return _OPTIONS

    def able(self, options: Mapping[str, Any]) -> frozenset[str]:
        return self.operations if "mixed" in options else self.operations - _MIXED_OPERATIONS

    def check(self, options: Mapping[str, Any], operations: frozenset[str], report: Reporter) -> None:
        asked = sorted(_MIXED_OPERATIONS & operations)
        if asked and "mixed" not in options:
            message = Words(f"{asked[0]} needs [options.mixed]", f"{asked[0]} 需要 [options.mixed]")
            fix = Words(
                "add it, or list operations without the mixed ones", "补上，或在 operations 中不列混合支付的操作"
            )
            report.key("H240", ("options",), message, fix)
        if options.get("mixed", {}).get("med_ins_test_env"):
            message = Words(
                "in production this sends real patients to the test system of 医保: money is lost",
                "正式环境保留此项会把真实订单发到医保测试环境，造成资金损失",
            )
            report.warn("H240", ("options", "mixed", "med_ins_test_env"), message)
        serials = [item["serial"] for item in options["platform_keys"]]
        for at, serial in enumerate(serials):
            if serial in serials[:at]:
                message = Words("this key is listed twice", "这个公钥写了两次")
                report.value("H240", ("options", "platform_keys", at, "serial"), message)
        if options["certificate_serial"] in serials:
            message = Words(
                "this is the merchant's certificate; answers are signed by WeChat Pay's key",
                "这是商户证书序列号；验签要用微信支付公钥（PUB_KEY_ID_…）或平台证书",
            )
            place = ("options", "platform_keys", serials.index(options["certificate_serial"]), "serial")
            report.value("H240", place, message, Words(f"{PUBLIC_KEY_PREFIX}…", f"{PUBLIC_KEY_PREFIX}…"))

    def open(self, options: Mapping[str, Any], zone: ZoneInfo) -> OpenedWechatPay:
        return OpenedWechatPay(options, zone, self._nonce)


class OpenedWechatPay:
    """See `his_db.gateway.OpenedGateway` and `NoticeReader`. Keeps nothing between two calls."""

    def __init__(self, options: Mapping[str, Any], zone: ZoneInfo, nonce: Callable[[], str]) -> None:
        trades, mixed = Trades(options, zone), MixedTrades(options, zone)
        self._keys = MerchantKeys(options)
        self._merchant = Merchant(self._keys, nonce)
        self._trial = Merchant(NoKeys(), lambda: "test")
        self._runs: Mapping[str, _Run] = {
            "MerchantService.OpenTrade": trades.open,
            "MerchantService.QueryTrade": trades.query,
            "MerchantService.CloseTrade": trades.close,
            "MerchantService.RefundTrade": trades.refund,
            "MerchantService.QueryRefund": trades.query_refund,
            "MerchantService.OpenMixedTrade": mixed.open,
            "MerchantService.QueryMixedTrade": mixed.query,
            "MerchantService.NotifyInsuranceRefund": mixed.notify,
            "MerchantService.GetTradeBill": Bills(options, zone).get,
        }

    def run(self, exchanger: Exchanger, operation: str, request: Message, now: datetime) -> Message:
        merchant = self._merchant if exchanger.goes_out else self._trial
        return self._runs[operation](merchant, exchanger, request, now)

    def notice(self, headers: Mapping[str, str], body: bytes, now: datetime) -> Notice:
        return notice.read_notice(self._keys, headers, body, now)

    def answer(self, *, accepted: bool) -> tuple[int, bytes]:
        return notice.answer_of(accepted=accepted)
