"""gateway = "mobile_payment": 移动支付中心 (医保移动支付 6201, 6202, 6203, 6301, 6401), SM2, SM3 and SM4."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, ClassVar, Final
from zoneinfo import ZoneInfo

from google.protobuf.message import Message

from his_db.document.finding import Words
from his_db.document.shape import Boolean, Field, ListOf, MapOf, Scalar, TableOf, Text
from his_db.errors import MappingMismatch
from his_db.gateway import Notice, NoticeRefused
from his_db.http_exchange import Exchanger
from his_db.mapping.check_results import check_reason
from his_db.mapping.finding import Reporter
from his_db.mapping.reply import ReplyError, parse_json
from his_db.mobile.exchange import Centre
from his_db.mobile.orders import Orders
from his_db.mobile.sealing import CentreSeals, NoSeals, Seals
from his_db.reply_fields import Fields
from his_db.secret_reference import Reference

_WORD: Final = Text(min_length=1)
_PATH: Final = Text(pattern=r"/[\x21-\x7e]*")
_PATHS: Final[Mapping[str, str]] = {
    "6201": "/org/local/api/hos/uldFeeInfo",
    "6202": "/org/local/api/hos/pay_order",
    "6203": "/org/local/api/hos/refund_Order",
    "6301": "/org/local/api/hos/query_order_info",
    "6401": "/org/local/api/hos/revoke_order",
}
_NUMBER: Final = "|".join(_PATHS)
_RULE: Final = TableOf({"text": Field(_WORD, required=True), "reason": Field(_WORD, required=True)})
_OPTIONS: Final[Mapping[str, Field]] = {
    "app_id": Field(_WORD, required=True, doc="appId of the channel", doc_zh="渠道 appId"),
    "app_secret": Field(Reference(), required=True, secret=True, doc="appSecret", doc_zh="渠道 appSecret"),
    "private_key": Field(Reference(), required=True, secret=True, doc="SM2, ours", doc_zh="渠道 SM2 私钥"),
    "platform_key": Field(Reference(), required=True, doc="SM2, the centre's", doc_zh="平台 SM2 公钥"),
    "org_code": Field(_WORD, required=True, doc="orgCodg", doc_zh="定点医药机构编号 orgCodg"),
    "org_id": Field(Text(), default="", doc="orgId", doc_zh="机构在电子凭证平台的编号 orgId"),
    "version": Field(_WORD, default="2.0.1", doc="of the envelope", doc_zh="报文版本"),
    "encryption": Field(Text(choices=("SM4", "NONE")), default="SM4", doc="of data", doc_zh="data 是否加密"),
    "cipher_text": Field(
        Text(choices=("hex", "base64")), default="hex", doc="form of encData", doc_zh="encData 的写法"
    ),
    "sm4_key": Field(Reference(), secret=True, doc="where it is not derived", doc_zh="不由 appId 派生时的 SM4 密钥"),
    "signature": Field(Text(choices=("rs", "der")), default="rs", doc="form of signData", doc_zh="签名格式 r‖s 或 DER"),
    "user_id": Field(_WORD, default="1234567812345678", doc="of SM2", doc_zh="SM2 用户标识"),
    "secret_in_signature": Field(
        Boolean(), default=True, doc="&key= at the end", doc_zh="签名串末尾是否拼 &key=appSecret"
    ),
    "answers_signed": Field(Boolean(), default=True, doc="verify answers", doc_zh="校验平台应答的签名"),
    "protocol_code": Field(_WORD, default="code", doc="field of the envelope", doc_zh="协议码字段"),
    "protocol_ok": Field(ListOf(_WORD, min_items=1), default=["0"], doc="its good values", doc_zh="协议成功值"),
    "business_code": Field(_WORD, default="success", doc="field of data", doc_zh="业务码字段（在 data 内）"),
    "business_ok": Field(ListOf(_WORD, min_items=1), default=["true", "0"], doc="its good values", doc_zh="业务成功值"),
    "paths": Field(
        TableOf({name: Field(_PATH, default=path) for name, path in _PATHS.items()}),
        default={},
        doc="by transaction",
        doc_zh="各交易的路径",
    ),
    "fee_type": Field(_WORD, default="01", doc="feeType", doc_zh="费用类型 feeType"),
    "psn_setlway": Field(_WORD, default="01", doc="psnSetlway", doc_zh="个人结算方式"),
    "diagnosis_code": Field(_WORD, default="Z71.9", doc="for 6201", doc_zh="挂号时上传的诊断编码"),
    "diagnosis_name": Field(_WORD, default="咨询", doc="for 6201", doc_zh="挂号时上传的诊断名称"),
    "unlisted_code": Field(Text(), default="", doc="items without a code", doc_zh="无国家编码项目的占位编码"),
    "document_types": Field(MapOf(_WORD), default={}, doc="CV02.01.101 to idType", doc_zh="证件类型对照"),
    "family_account": Field(
        Text(choices=("inside", "beside")), default="inside", doc="acctMulaidPay", doc_zh="共济支付是否含在个账内"
    ),
    "extra": Field(
        MapOf(MapOf(Scalar()), key_pattern=_NUMBER), default={}, doc="more fields", doc_zh="各交易的其他入参"
    ),
    "refusals": Field(ListOf(_RULE), default=[], doc="what message means", doc_zh="错误信息的含义"),
}
_Run = Callable[[Seals, Exchanger, Any, datetime], Message]


class MobilePaymentGateway:
    """See `his_db.gateway.Gateway`."""

    name: ClassVar[str] = "mobile_payment"
    operations: ClassVar[frozenset[str]] = frozenset(
        f"MobilePaymentService.{name}"
        for name in ("UploadOrder", "PayOrder", "RefundOrder", "QueryOrder", "CancelOrder")
    )

    def options(self) -> Mapping[str, Field]:
        return _OPTIONS

    def able(self, options: Mapping[str, Any]) -> frozenset[str]:
        return self.operations

    def check(self, options: Mapping[str, Any], operations: frozenset[str], report: Reporter) -> None:
        for at, rule in enumerate(options["refusals"]):
            check_reason(rule["reason"], ("options", "refusals", at, "reason"), report)
        if options["encryption"] == "SM4" and "sm4_key" not in options and len(options["app_id"].encode()) < 16:
            message = Words(
                "the key of SM4 is derived from the first 16 characters of app_id, which has less",
                "SM4 密钥由 app_id 前 16 位派生，而 app_id 不足 16 位",
            )
            report.value("H240", ("options", "app_id"), message, Words("give sm4_key", "请配置 sm4_key"))
        if not options["answers_signed"]:
            message = Words("answers are believed without a signature", "不校验签名，应答可能被伪造")
            report.warn("H240", ("options", "answers_signed"), message)

    def open(self, options: Mapping[str, Any], zone: ZoneInfo) -> OpenedMobilePayment:
        return OpenedMobilePayment(options, zone)


class OpenedMobilePayment:
    """See `his_db.gateway.OpenedGateway` and `NoticeReader`. Keeps nothing between two calls."""

    def __init__(self, options: Mapping[str, Any], zone: ZoneInfo) -> None:
        self._orders = Orders(Centre(options, zone))
        self._seals = CentreSeals(options)
        runs: Mapping[str, _Run] = {
            "UploadOrder": self._orders.upload,
            "PayOrder": self._orders.pay,
            "RefundOrder": self._orders.refund,
            "QueryOrder": self._orders.query,
            "CancelOrder": self._orders.cancel,
        }
        self._runs = {f"MobilePaymentService.{name}": run for name, run in runs.items()}

    def run(self, exchanger: Exchanger, operation: str, request: Message, now: datetime) -> Message:
        seals: Seals = self._seals if exchanger.goes_out else NoSeals()
        return self._runs[operation](seals, exchanger, request, now)

    def notice(self, headers: Mapping[str, str], body: bytes, now: datetime) -> Notice:
        """The settlement call-back (6302). Its revsToken is not kept: the query decides, not the call."""
        try:
            message = Fields(parse_json(body.decode("utf-8-sig")), "6302")
            data = Fields(self._seals.opened(message.values, "6302"), "6302")
            order = self._orders.order(data)
        except (UnicodeDecodeError, ReplyError):
            raise NoticeRefused("the call-back is no JSON") from None
        except MappingMismatch as error:
            raise NoticeRefused(error.detail) from None
        return Notice("6302", order.pay_order_id, detail={"medOrgOrd": order.hospital_order_no})

    def answer(self, *, accepted: bool) -> tuple[int, bytes]:
        message = {"success": accepted, "message": "成功" if accepted else "失败"}
        return (200 if accepted else 400), json.dumps(message, ensure_ascii=False).encode()
