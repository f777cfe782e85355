"""What err_msg of 医保 2.0 means. The platform has no table of codes: infcode is 0 or not, and a sentence says why.

The rules below are what has been met; provinces word it differently, so a site puts its own before them
(`[options] refusals`). A sentence that says that the platform itself ran into a time-out, or that it has seen this
msgid before, is an unknown outcome and never a refusal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from his160.v1 import reason_pb2

from his_db.errors import HisError, HisRefused, HisUnavailable
from his_db.mapping.answer import reason_value
from his_db.mapping.outcome import error_for

SIGN_IN: Final = ("未签到", "重新签到", "签到失效", "签到已过期", "签到编号", "sign_no")
_RULES: Final = (
    ("报文ID重复", "OUTCOME_UNKNOWN"),
    ("msgid重复", "OUTCOME_UNKNOWN"),
    ("重复提交", "OUTCOME_UNKNOWN"),
    ("重复请求", "OUTCOME_UNKNOWN"),
    ("超时", "OUTCOME_UNKNOWN"),
    ("系统异常", "OUTCOME_UNKNOWN"),
    ("系统繁忙", "OUTCOME_UNKNOWN"),
    ("已结算", "INSURANCE_SETTLED"),
    ("有效结算", "INSURANCE_SETTLED"),
    ("结算信息不存在", "PAYMENT_NOT_FOUND"),
    ("未查询到人员", "PATIENT_NOT_FOUND"),
    ("人员信息不存在", "PATIENT_NOT_FOUND"),
    ("金额不一致", "AMOUNT_MISMATCH"),
    ("金额不符", "AMOUNT_MISMATCH"),
)
# What an undoing transaction may be told when there is nothing to undo any more: then it is done.
GONE: Final[Mapping[str, tuple[str, ...]]] = {
    "2202": ("已撤销", "已取消", "就诊信息不存在"),
    "2205": ("已撤销", "费用明细不存在", "没有可撤销"),
    "2601": ("已冲正", "原交易不存在", "未找到原交易"),
}


@dataclass(frozen=True, slots=True)
class Refusals:
    """The rules of a site. `own`: `{text, reason}` in their order; `gone`: by transaction, in place of the usual."""

    own: Sequence[Mapping[str, str]]
    sign_in: Sequence[str]
    gone: Mapping[str, Sequence[str]]

    def wants_sign_in(self, sentence: str) -> bool:
        """Whether the transaction was refused for its sign_no: it was looked at before anything was done."""
        return any(part in sentence for part in self.sign_in)

    def is_gone(self, infno: str, sentence: str) -> bool:
        """Whether an undoing transaction found nothing to undo."""
        return any(part in sentence for part in self.gone.get(infno, ()))

    def error(self, label: str, sentence: str, *, is_read: bool) -> HisError:
        """The error of a refused transaction. The sentence may name a patient: it is never part of the detail."""
        rules = [(item["text"], item["reason"]) for item in self.own]
        reason = next((name for part, name in (*rules, *_RULES) if part in sentence), "INSURANCE_REFUSED")
        if is_read and reason == "OUTCOME_UNKNOWN":
            return HisUnavailable(f"{label}: 医保 could not answer")
        return error_for(reason_value(reason), label, text=sentence)


def refusals_of(options: Mapping[str, Any]) -> Refusals:
    """The rules of a gateway file."""
    return Refusals(
        own=options["refusals"],
        sign_in=options.get("sign_in_again", SIGN_IN),
        gone={**GONE, **options["gone"]},
    )


def invalid(label: str, why: str, reason: str = "INVALID_REQUEST") -> HisRefused:
    """A request that cannot be sent: nothing was. `why` holds no value."""
    return HisRefused(reason_value(reason), f"{label}: {why}")


def not_found(label: str, reason: reason_pb2.Reason.ValueType) -> HisRefused:
    """There is none."""
    return HisRefused(reason, f"{label}: 医保 has none")
