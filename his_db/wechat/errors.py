"""What the errors of WeChat Pay v3 mean: the table of codes, by operation where one code says different things.

Source: error tables of the API pages (4012791862, 4012556398, 4012071382, med-ins 排障手册). A code that is not here is
a refusal with a 4xx status, and an unknown outcome with a 5xx one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from his160.v1 import reason_pb2

from his_db.errors import HisBusy, HisError, HisRefused, HisUnavailable, MappingMismatch, OutcomeUnknown
from his_db.mapping.answer import reason_value
from his_db.reply_fields import json_object

REFUSED, BUSY, UNAVAILABLE, UNKNOWN = "refused", "busy", "unavailable", "unknown"


@dataclass(frozen=True, slots=True)
class Meaning:
    """`what` is one of the four words above; `reason` of the contract for a refusal; `retry` for the two in between."""

    what: str
    reason: str = "HIS_REFUSED"
    retry: timedelta | None = None


_MINUTE: Final = timedelta(minutes=1)
_CODES: Final[Mapping[str, Meaning]] = {
    "PARAM_ERROR": Meaning(REFUSED, "INVALID_REQUEST"),
    "INVALID_REQUEST": Meaning(REFUSED),
    "RULE_LIMIT": Meaning(REFUSED),
    "RULELIMIT": Meaning(REFUSED),
    "NO_AUTH": Meaning(REFUSED),
    "TRADE_ERROR": Meaning(REFUSED),
    "ACCOUNT_ERROR": Meaning(REFUSED),
    "MCH_NOT_EXISTS": Meaning(REFUSED, "MAPPING_MISMATCH"),
    "APPID_MCHID_NOT_MATCH": Meaning(REFUSED, "MAPPING_MISMATCH"),
    "OPENID_MISMATCH": Meaning(REFUSED, "INVALID_REQUEST"),
    "OUT_TRADE_NO_USED": Meaning(REFUSED, "PAYMENT_NUMBER_REUSED"),
    "ALREADY_EXISTS": Meaning(REFUSED, "PAYMENT_NUMBER_REUSED"),
    "ORDER_CLOSED": Meaning(REFUSED, "ILLEGAL_TRANSITION"),
    "ORDERCLOSED": Meaning(REFUSED, "ILLEGAL_TRANSITION"),
    "ORDERPAID": Meaning(REFUSED, "ALREADY_PAID"),
    "ORDER_PAID": Meaning(REFUSED, "ALREADY_PAID"),
    "ORDER_NOT_EXIST": Meaning(REFUSED, "PAYMENT_NOT_FOUND"),
    "ORDERNOTEXIST": Meaning(REFUSED, "PAYMENT_NOT_FOUND"),
    "RESOURCE_NOT_EXISTS": Meaning(REFUSED, "PAYMENT_NOT_FOUND"),
    "USER_ACCOUNT_ABNORMAL": Meaning(REFUSED),
    "USER_NOT_EXIST": Meaning(REFUSED),
    # The merchant's balance: the same refund works once there is money again.
    "NOT_ENOUGH": Meaning(UNAVAILABLE, retry=timedelta(minutes=10)),
    # The key, its serial number or our clock is wrong; WeChat Pay did not let the request in.
    "SIGN_ERROR": Meaning(UNAVAILABLE, retry=_MINUTE),
    "FREQUENCY_LIMITED": Meaning(BUSY, retry=_MINUTE),
    "FREQUENCY_LIMIT_EXCEED": Meaning(BUSY, retry=_MINUTE),
    "RATELIMIT_EXCEEDED": Meaning(BUSY, retry=_MINUTE),
    "USERPAYING": Meaning(BUSY, retry=timedelta(seconds=5)),
    "USER_PAYING": Meaning(BUSY, retry=timedelta(seconds=5)),
    "SYSTEM_ERROR": Meaning(UNKNOWN),
    "SYSTEMERROR": Meaning(UNKNOWN),
    "BANK_ERROR": Meaning(UNKNOWN),
    "BANKERROR": Meaning(UNKNOWN),
    "STATEMENT_CREATING": Meaning(UNAVAILABLE, retry=timedelta(minutes=30)),
}
_BY_OPERATION: Final[Mapping[tuple[str, str], Meaning]] = {
    # Met on paid trades; the same request went through a moment later. It never means that money went back.
    ("MerchantService.RefundTrade", "RESOURCE_NOT_EXISTS"): Meaning(BUSY, retry=_MINUTE),
    ("MerchantService.QueryRefund", "RESOURCE_NOT_EXISTS"): Meaning(REFUSED, "REFUND_NOT_FOUND"),
}
# Codes that say too little: a part of the sentence decides.
_TEXTS: Final[tuple[tuple[str, str, str], ...]] = (
    ("INVALID_REQUEST", "已全额退款", "ALREADY_REFUNDED"),
    ("INVALID_REQUEST", "已支付", "ALREADY_PAID"),
    ("INVALID_REQUEST", "商户订单号重复", "PAYMENT_NUMBER_REUSED"),
    ("INVALID_REQUEST", "退款金额大于", "AMOUNT_MISMATCH"),
    ("INVALID_REQUEST", "金额不一致", "AMOUNT_MISMATCH"),
    ("PARAM_ERROR", "未找到订单", "PAYMENT_NOT_FOUND"),
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error of WeChat Pay: HTTP status, code, its own sentence."""

    status: int
    code: str
    sentence: str


def refusal_of(status: int, body: str, label: str) -> Refusal:
    """The error in an answer. Raises MappingMismatch for an answer in another shape (a proxy's page)."""
    fields = json_object(body, f"{label}: HTTP status {status}")
    return Refusal(status, fields.need("code"), fields.text("message"))


def error_of(refusal: Refusal, operation: str, *, is_read: bool) -> HisError:
    """The error of this room."""
    code, sentence = refusal.code, refusal.sentence
    shown = code if code.isascii() and code.isprintable() and len(code) <= 64 else "?"
    detail = f"{operation}: WeChat Pay answered {shown} (HTTP {refusal.status})"
    meaning = _BY_OPERATION.get((operation, code)) or _CODES.get(code)
    if meaning is None:
        meaning = Meaning(REFUSED if 400 <= refusal.status < 500 else UNKNOWN)
    if meaning.what == REFUSED:
        reason = next((name for key, part, name in _TEXTS if key == code and part in sentence), meaning.reason)
        return HisRefused(reason_value(reason), detail, text=sentence)
    if meaning.what == BUSY:
        return HisBusy(detail, retry_after=meaning.retry)
    if meaning.what == UNAVAILABLE or is_read:
        return HisUnavailable(detail, retry_after=meaning.retry)
    return OutcomeUnknown(detail)


def invalid(operation: str, why: str, reason: str = "INVALID_REQUEST") -> HisRefused:
    """A request that cannot be sent: nothing was. `why` holds no value."""
    return HisRefused(reason_value(reason), f"{operation}: {why}")


def is_not_found(error: HisRefused) -> bool:
    """Whether it says that there is no such trade or refund."""
    return error.reason in {reason_pb2.REASON_PAYMENT_NOT_FOUND, reason_pb2.REASON_REFUND_NOT_FOUND}


__all__ = ["MappingMismatch", "Meaning", "Refusal", "error_of", "invalid", "is_not_found", "refusal_of"]
