"""gateway = "insurance2": 国标医保 2.0 (国家医疗保障信息平台 定点医药机构接口) over HTTP and JSON."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, ClassVar, Final
from zoneinfo import ZoneInfo

from google.protobuf.message import Message

from his_db.document.finding import Words
from his_db.document.shape import Boolean, Field, ListOf, MapOf, Scalar, TableOf, Text
from his_db.http_exchange import Exchanger
from his_db.insurance.envelope import Platform
from his_db.insurance.fees import Fees
from his_db.insurance.setlinfo import FUND_PARTS, SUMS
from his_db.insurance.settlements import Settlements
from his_db.insurance.visits import Visits
from his_db.mapping.check_results import check_reason
from his_db.mapping.finding import Reporter
from his_db.secret_reference import Reference

_WORD: Final = Text(min_length=1)
_AREA: Final = Text(pattern=r"[0-9]{6}", pattern_hint="six digits", pattern_hint_zh="六位数字")
_NUMBER: Final = r"[0-9]{4}A?"
_RULE: Final = TableOf({"text": Field(_WORD, required=True), "reason": Field(_WORD, required=True)})
_TIF: Final = TableOf({"paasid": Field(_WORD, required=True), "secret": Field(Reference(), required=True, secret=True)})
_OPTIONS: Final[Mapping[str, Field]] = {
    "fixmedins_code": Field(
        Text(pattern=r"[A-Z0-9]{12}", pattern_hint="twelve characters", pattern_hint_zh="十二位"),
        required=True,
        doc="institution",
        doc_zh="定点医药机构编号",
    ),
    "fixmedins_name": Field(_WORD, required=True, doc="institution's name", doc_zh="定点医药机构名称"),
    "mdtrtarea_admvs": Field(_AREA, required=True, doc="area of treatment", doc_zh="就医地医保区划"),
    "opter": Field(_WORD, required=True, doc="the channel's operator", doc_zh="经办人（为 160 渠道登记的虚拟工号）"),
    "opter_name": Field(_WORD, required=True, doc="his name", doc_zh="经办人姓名"),
    "opter_type": Field(Text(choices=("1", "2", "3")), default="3", doc="3: mobile", doc_zh="3 为移动终端"),
    "recer_sys_code": Field(_WORD, default="YBXT", doc="receiver", doc_zh="接收方系统代码"),
    "infver": Field(_WORD, default="V1.0", doc="version", doc_zh="接口版本号"),
    "dev_no": Field(Text(), default=""),
    "dev_safe_info": Field(Text(), default=""),
    "cainfo": Field(Text(), default=""),
    "signtype": Field(Text(choices=("", "SM2", "SM3")), default=""),
    "mac": Field(Text(), default="", doc="for sign-in", doc_zh="签到用 MAC 地址"),
    "ip": Field(Text(), default="", doc="for sign-in", doc_zh="签到用 IP 地址"),
    "path": Field(
        Text(pattern=r"/[\x21-\x7e]*"),
        default="/{infno}",
        doc="behind the base url",
        doc_zh="接在地址之后，{infno} 为交易编号",
    ),
    "tif": Field(_TIF, doc="Guangdong's x-tif headers", doc_zh="广东 x-tif-* 请求头"),
    "envelope": Field(MapOf(Scalar()), default={}, doc="further fields of the envelope", doc_zh="报文头的其他字段"),
    "extra": Field(
        MapOf(MapOf(Scalar()), key_pattern=_NUMBER),
        default={},
        doc="further fields by transaction",
        doc_zh="各交易的其他入参",
    ),
    "infnos": Field(
        MapOf(Text(pattern=_NUMBER), key_pattern=_NUMBER),
        default={},
        doc='other numbers: { "2207A" = "2207" }',
        doc_zh='本地交易编号，如 { "2207A" = "2207" }',
    ),
    "amounts": Field(
        Text(choices=("text", "number")), default="text", doc="how 元 are written", doc_zh="金额写成文本或数字"
    ),
    "psn_setlway": Field(_WORD, default="01", doc="01 by item", doc_zh="个人结算方式，01 按项目"),
    "echo_fees": Field(
        Boolean(), default=False, doc="amounts of 2204 in 2206A, 2207A", doc_zh="结算时回传 2204 的金额"
    ),
    "unlisted_code": Field(
        Text(), default="", doc="for items without a national code", doc_zh="无国家编码项目的占位编码"
    ),
    "diagnosis_code": Field(_WORD, default="Z71.9", doc="for 2203A", doc_zh="挂号时上传的诊断编码"),
    "diagnosis_name": Field(_WORD, default="咨询", doc="for 2203A", doc_zh="挂号时上传的诊断名称"),
    "document_types": Field(
        MapOf(_WORD), default={}, doc="CV02.01.101 to psn_cert_type", doc_zh="证件类型对照（WS 364 → 医保）"
    ),
    "family_account": Field(
        Text(choices=("inside", "beside")),
        default="inside",
        doc="acct_mulaid_pay in acct_pay",
        doc_zh="共济支付是否含在个账内",
    ),
    "fund_parts": Field(
        ListOf(_WORD, min_items=1), default=list(FUND_PARTS), doc="parts of the fund", doc_zh="基金支付的组成项"
    ),
    "sums": Field(ListOf(Text(choices=SUMS)), default=list(SUMS), doc="sums that must hold", doc_zh="要校验的金额关系"),
    "refusals": Field(ListOf(_RULE), default=[], doc="what err_msg means", doc_zh="错误信息的含义"),
    "sign_in_again": Field(
        ListOf(_WORD, min_items=1), doc="texts that want a new sign-in", doc_zh="要求重新签到的提示文字"
    ),
    "gone": Field(
        MapOf(ListOf(_WORD), key_pattern=_NUMBER),
        default={},
        doc="nothing left to undo",
        doc_zh="撤销类交易视为已完成的提示文字",
    ),
}
_Run = Callable[[Exchanger, Any, datetime], Message]


class Insurance2Gateway:
    """See `his_db.gateway.Gateway`. `nonce` is injected in tests."""

    name: ClassVar[str] = "insurance2"
    operations: ClassVar[frozenset[str]] = frozenset(
        f"InsuranceGatewayService.{name}"
        for name in (
            *(
                "SignIn",
                "GetPerson",
                "OpenVisit",
                "CancelVisit",
                "UploadVisit",
                "UploadFees",
                "CancelFees",
                "QueryVisit",
            ),
            *("PreSettle", "Settle", "CancelSettlement", "ReverseTransaction", "QuerySettlement", "QueryFees"),
            *("CompareTotals", "CompareDetails"),
        )
    )

    def __init__(self, nonce: Callable[[], str] = lambda: secrets.token_hex(16)) -> None:
        self._nonce = nonce

    def options(self) -> Mapping[str, Field]:
        return _OPTIONS

    def able(self, options: Mapping[str, Any]) -> frozenset[str]:
        return self.operations

    def check(self, options: Mapping[str, Any], operations: frozenset[str], report: Reporter) -> None:
        for at, rule in enumerate(options["refusals"]):
            check_reason(rule["reason"], ("options", "refusals", at, "reason"), report)
        for name in sorted({"infno", "msgid", "sign_no", "input"} & options["envelope"].keys()):
            message = Words(f"{name} is made by the gateway", f"{name} 由网关生成")
            report.key("H240", ("options", "envelope", name), message, Words("delete it", "请删除"))
        if "person" not in options["sums"] and "total" in options["sums"]:
            message = Words("total is made of what the person bears", "total 依赖 person 的关系")
            report.warn("H240", ("options", "sums"), message)

    def open(self, options: Mapping[str, Any], zone: ZoneInfo) -> OpenedInsurance2:
        return OpenedInsurance2(Platform(options, zone, self._nonce))


class OpenedInsurance2:
    """See `his_db.gateway.OpenedGateway`. Keeps the sign_no, and nothing else."""

    def __init__(self, platform: Platform) -> None:
        visits, fees, settlements = Visits(platform), Fees(platform), Settlements(platform)
        runs: Mapping[str, _Run] = {
            "SignIn": visits.sign_in,
            "GetPerson": visits.person,
            "OpenVisit": visits.open,
            "CancelVisit": visits.cancel,
            "UploadVisit": visits.upload,
            "QueryVisit": visits.find,
            "UploadFees": fees.upload,
            "CancelFees": fees.cancel,
            "QueryFees": fees.find,
            "PreSettle": settlements.quote,
            "Settle": settlements.settle,
            "CancelSettlement": settlements.cancel,
            "ReverseTransaction": settlements.reverse,
            "QuerySettlement": settlements.find,
            "CompareTotals": settlements.compare_totals,
            "CompareDetails": settlements.compare_details,
        }
        self._runs = {f"InsuranceGatewayService.{name}": run for name, run in runs.items()}

    def run(self, exchanger: Exchanger, operation: str, request: Message, now: datetime) -> Message:
        return self._runs[operation](exchanger, request, now)
