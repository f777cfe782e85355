"""The one total table of refusals: reason -> canonical code, Chinese sentence, what the caller may do.

Both borders answer with ``to_status``; the command line reads it back with ``explain``. Rules (reason.proto): only
UNAVAILABLE means "send the same again"; an unknown outcome is never reported as failure; no SQL, table, host or patient
data in any text, therefore the detail of an error goes to the log and never into the status.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Final, TypeAlias

from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from his160.v1 import reason_pb2

DOMAIN: Final = "his160"
LOCALE: Final = "zh-CN"
_PREFIX: Final = "REASON_"
_NOTE_LENGTH: Final = 200

Reason: TypeAlias = reason_pb2.Reason.ValueType


class Retry(enum.Enum):
    """What the caller may do by itself."""

    SAME = "same"  # send the same request again; only with UNAVAILABLE
    WAIT = "wait"  # nothing was done; waiting helps, then decide anew
    NEVER = "never"  # the same request will be refused again


@dataclass(frozen=True, slots=True)
class Refusal:
    """One row of the table. ``delay`` is the default of RetryInfo; absent with ``Retry.NEVER``."""

    code: int
    text: str
    retry: Retry = Retry.NEVER
    delay: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Violation:
    """A field that breaks a rule: its path in the request, the rule in English and Chinese. Never the value."""

    field: str
    rule: str
    rule_zh: str


class CallRefused(Exception):
    """A call that this process refuses itself. ``str()`` holds English technical text without personal data."""

    def __init__(
        self,
        reason: Reason,
        detail: str = "",
        *,
        violations: Sequence[Violation] = (),
        retry_after: timedelta | None = None,
    ) -> None:
        fields = ", ".join(violation.field for violation in violations)
        super().__init__(detail or (f"fields: {fields}" if fields else reason_name(reason)))
        self.reason = reason
        self.violations = tuple(violations)
        self.retry_after = retry_after


class CallFailed(Exception):
    """How a call ended that was not answered: what both borders send. Raised by ``HandlerRegistry.dispatch`` only."""

    def __init__(self, status: status_pb2.Status) -> None:
        super().__init__(status.message)
        self.status = status


def _no(code: int, text: str) -> Refusal:
    return Refusal(code, text)


def _same(text: str, seconds: float) -> Refusal:
    return Refusal(code_pb2.UNAVAILABLE, text, Retry.SAME, timedelta(seconds=seconds))


def _wait(code: int, text: str, seconds: float) -> Refusal:
    return Refusal(code, text, Retry.WAIT, timedelta(seconds=seconds))


_PRECONDITION: Final = code_pb2.FAILED_PRECONDITION
_NOT_FOUND: Final = code_pb2.NOT_FOUND
_EXISTS: Final = code_pb2.ALREADY_EXISTS

REFUSALS: Final[Mapping[Reason, Refusal]] = MappingProxyType(
    {
        reason_pb2.REASON_UNSPECIFIED: _no(code_pb2.INTERNAL, "系统内部错误，请联系管理员"),
        reason_pb2.REASON_INVALID_REQUEST: _no(code_pb2.INVALID_ARGUMENT, "请求内容不符合接口规定"),
        reason_pb2.REASON_OPERATION_NOT_MAPPED: _no(code_pb2.UNIMPLEMENTED, "本院未开通此功能"),
        reason_pb2.REASON_MAPPING_MISMATCH: _no(_PRECONDITION, "医院系统数据与接口配置不符，请联系医院信息科"),
        reason_pb2.REASON_HIS_UNAVAILABLE: _same("医院系统暂时无法连接，请稍后重试", 5),
        reason_pb2.REASON_HIS_BUSY: _same("医院系统繁忙，请稍后重试", 1),
        reason_pb2.REASON_HIS_REFUSED: _no(_PRECONDITION, "医院系统拒绝了本次操作"),
        reason_pb2.REASON_OUTCOME_UNKNOWN: _same("操作结果尚未确认，请用同一请求号查询，切勿重新下单", 2),
        reason_pb2.REASON_REQUEST_ID_REUSED: _no(_EXISTS, "请求号已用于其他内容"),
        reason_pb2.REASON_ORDER_BUSY: _wait(code_pb2.ABORTED, "该订单正在处理中，请稍后再试", 1),
        reason_pb2.REASON_OVERLOADED: _wait(code_pb2.RESOURCE_EXHAUSTED, "当前请求过多，请稍后再试", 1),
        reason_pb2.REASON_SWITCHED_OFF: _same("医院已暂停此功能", 60),
        reason_pb2.REASON_NOT_AUTHORIZED: _no(code_pb2.PERMISSION_DENIED, "没有调用此功能的权限"),
        reason_pb2.REASON_SITE_NOT_ATTACHED: _same("医院端尚未连接，请稍后重试", 5),
        reason_pb2.REASON_DEADLINE_EXCEEDED: _no(code_pb2.DEADLINE_EXCEEDED, "处理超时，请用同一请求号查询结果"),
        reason_pb2.REASON_INTERNAL: _no(code_pb2.INTERNAL, "系统内部错误，请联系管理员"),
        reason_pb2.REASON_ANSWER_TOO_LARGE: _no(code_pb2.RESOURCE_EXHAUSTED, "查询结果过多，请缩小查询范围"),
        reason_pb2.REASON_DEPARTMENT_NOT_FOUND: _no(_NOT_FOUND, "未找到该科室"),
        reason_pb2.REASON_SCHEDULE_NOT_FOUND: _no(_NOT_FOUND, "未找到该排班"),
        reason_pb2.REASON_SCHEDULE_SUSPENDED: _no(_PRECONDITION, "该排班已停诊或不可预约"),
        reason_pb2.REASON_SCHEDULE_EXPIRED: _no(_PRECONDITION, "该排班已过期"),
        reason_pb2.REASON_SLOT_TAKEN: _no(_PRECONDITION, "该号已被占用，请选择其他号源"),
        reason_pb2.REASON_NO_SLOT_LEFT: _no(_PRECONDITION, "已无可预约号"),
        reason_pb2.REASON_LOCK_EXPIRED: _no(_PRECONDITION, "锁号已失效，请重新选号"),
        reason_pb2.REASON_SLOT_NOT_FOUND: _no(_NOT_FOUND, "未找到该号源"),
        reason_pb2.REASON_PATIENT_NOT_FOUND: _no(_NOT_FOUND, "未查找到该患者"),
        reason_pb2.REASON_PATIENT_NAME_MISMATCH: _no(_PRECONDITION, "证件号与姓名不一致"),
        reason_pb2.REASON_PATIENT_BLOCKED: _no(_PRECONDITION, "因多次爽约已被限制预约，请到窗口办理"),
        reason_pb2.REASON_PATIENT_IN_ARREARS: _no(_PRECONDITION, "患者有欠费，请先到窗口结清"),
        reason_pb2.REASON_DUPLICATE_APPOINTMENT: _no(_EXISTS, "重复预约：该患者已有同一科室或排班的预约"),
        reason_pb2.REASON_APPOINTMENT_NOT_FOUND: _no(_NOT_FOUND, "未找到该预约"),
        reason_pb2.REASON_ALREADY_CANCELLED: _no(_PRECONDITION, "该预约已取消，请勿重复操作"),
        reason_pb2.REASON_ALREADY_PAID: _no(_PRECONDITION, "该预约已挂号，请办理退号退费"),
        reason_pb2.REASON_ALREADY_VISITED: _no(_PRECONDITION, "患者已就诊，不能取消或退号"),
        reason_pb2.REASON_ALREADY_CHECKED_IN: _no(_PRECONDITION, "患者已取号，不能在线办理"),
        reason_pb2.REASON_CANCEL_TOO_LATE: _no(_PRECONDITION, "已超过允许取消或退号的时间"),
        reason_pb2.REASON_NOT_PAID: _no(_PRECONDITION, "该预约未缴费，不能退号退费"),
        reason_pb2.REASON_AMOUNT_MISMATCH: _no(_PRECONDITION, "支付金额与医院结算金额不符，款项将退回"),
        reason_pb2.REASON_ALREADY_REFUNDED: _no(_PRECONDITION, "该挂号已退费，请勿重复操作"),
        reason_pb2.REASON_PARTIAL_REFUND_REFUSED: _no(_PRECONDITION, "医院不支持部分退费"),
        reason_pb2.REASON_DAY_CLOSED: _no(_PRECONDITION, "医院已日结，请到财务窗口退费"),
        reason_pb2.REASON_INSURANCE_SETTLED: _no(_PRECONDITION, "医保已结算，须先撤销医保结算"),
        reason_pb2.REASON_DEPENDENT_DOCUMENTS: _no(_PRECONDITION, "存在处方或已打印发票，请到窗口办理"),
        reason_pb2.REASON_PAYMENT_NOT_FOUND: _no(_NOT_FOUND, "医院系统中没有该笔支付（不表示支付失败）"),
        reason_pb2.REASON_REFUND_NOT_FOUND: _no(_NOT_FOUND, "医院系统中没有该笔退款"),
        reason_pb2.REASON_PAYMENT_NUMBER_REUSED: _no(_EXISTS, "商户订单号已用于其他预约"),
        reason_pb2.REASON_INSURANCE_REFUSED: _no(_PRECONDITION, "医保拒绝了本次操作"),
        reason_pb2.REASON_ILLEGAL_TRANSITION: _no(_PRECONDITION, "订单当前状态不允许此操作"),
        reason_pb2.REASON_REPORT_NOT_FOUND: _no(_NOT_FOUND, "没有该报表"),
    }
)


def reason_name(reason: int) -> str:
    """The name that ErrorInfo carries, without the prefix; INTERNAL for a number that the contract does not know."""
    if reason in reason_pb2.Reason.values():
        return reason_pb2.Reason.Name(reason_pb2.Reason.ValueType(reason)).removeprefix(_PREFIX)
    return "INTERNAL"


def reason_of(error: BaseException) -> Reason:
    """The reason an error carries as ``reason``; REASON_INTERNAL for one that carries none, or an impossible one."""
    reason = getattr(error, "reason", None)
    if isinstance(reason, int) and not isinstance(reason, bool) and reason in REFUSALS and reason != 0:
        return reason_pb2.Reason.ValueType(reason)
    return reason_pb2.REASON_INTERNAL


def to_status(error: BaseException, *, operation: str = "", call_id: str = "") -> status_pb2.Status:
    """What the caller is told: exactly one ErrorInfo, RetryInfo where waiting helps, BadRequest, LocalizedMessage.

    Reads ``reason``, ``retry_after`` (timedelta), ``metadata``, ``violations`` and ``note`` (text of the mapping's
    author) of the error; anything else it holds stays here. Works for every exception: an unknown one is INTERNAL.
    """
    reason = reason_of(error)
    refusal = REFUSALS[reason]
    name = reason_name(reason)
    metadata = {key: value for key, value in (("operation", operation), ("call_id", call_id)) if value}
    metadata.update(getattr(error, "metadata", {}))
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=name, domain=DOMAIN, metadata=metadata)]
    delay = _delay(error, refusal)
    if delay is not None:
        retry_info = error_details_pb2.RetryInfo()
        retry_info.retry_delay.FromTimedelta(delay)
        details.append(retry_info)
    violations: Sequence[Violation] = getattr(error, "violations", ())
    if violations:
        details.append(_bad_request(violations))
    text = _sentence(refusal.text, getattr(error, "note", ""))
    details.append(error_details_pb2.LocalizedMessage(locale=LOCALE, message=text))
    return status_pb2.Status(code=refusal.code, message=_english(name, violations), details=[_pack(d) for d in details])


@dataclass(frozen=True, slots=True)
class Explained:
    """A status in words, for people and programs at this side."""

    code: str
    reason: str
    text: str
    operation: str
    retry_after: timedelta | None
    violations: tuple[Violation, ...]


def explain(status: status_pb2.Status) -> Explained:
    """Read a status back. Fields that the sender left out are empty."""
    reason, text, operation = "", "", ""
    retry_after: timedelta | None = None
    violations: tuple[Violation, ...] = ()
    for detail in status.details:
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        localized, bad = error_details_pb2.LocalizedMessage(), error_details_pb2.BadRequest()
        if detail.Unpack(info):
            reason, operation = info.reason, info.metadata.get("operation", "")
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToTimedelta()
        elif detail.Unpack(localized):
            text = localized.message
        elif detail.Unpack(bad):
            violations = tuple(
                Violation(v.field, v.description, v.localized_message.message) for v in bad.field_violations
            )
    code = (
        code_pb2.Code.Name(code_pb2.Code.ValueType(status.code)) if status.code in code_pb2.Code.values() else "UNKNOWN"
    )
    return Explained(code, reason, text, operation, retry_after, violations)


def _delay(error: BaseException, refusal: Refusal) -> timedelta | None:
    if refusal.retry is Retry.NEVER:
        return None
    asked = getattr(error, "retry_after", None)
    return asked if isinstance(asked, timedelta) else refusal.delay


def _bad_request(violations: Sequence[Violation]) -> error_details_pb2.BadRequest:
    bad = error_details_pb2.BadRequest()
    for violation in violations:
        entry = bad.field_violations.add(field=violation.field, description=violation.rule)
        entry.localized_message.locale = LOCALE
        entry.localized_message.message = violation.rule_zh
    return bad


def _sentence(text: str, note: object) -> str:
    """The table's sentence, with what the author of the mapping wrote for people."""
    if not isinstance(note, str) or not note.strip():
        return text
    flat = " ".join(note.split())
    return f"{text}：{flat[:_NOTE_LENGTH]}"


def _english(name: str, violations: Sequence[Violation]) -> str:
    words = name.replace("_", " ").lower()
    if not violations:
        return words
    return f"{words}: {'; '.join(f'{v.field} {v.rule}' for v in violations)}"[:1000]


def _pack(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
