"""The ledger and its evidence in words for a person, Chinese and English. No personal data unless it is asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.message import Message
from his160.v1 import event_pb2, reason_pb2

from agent.errors import REFUSALS, reason_name
from his_db.contract import comment
from sync.commands import COMMANDS
from sync.decisions import is_decidable
from sync.evidence import Evidence, Word
from sync.money_book import RefundRow, TradeRow
from sync.redaction import for_showing
from sync.store import CommandRow, CommandState

STATES: Final[Mapping[CommandState, str]] = MappingProxyType(
    {
        CommandState.SENT: "处理中",
        CommandState.DONE: "成功",
        CommandState.REJECTED: "被拒绝",
        CommandState.UNKNOWN: "结果未知",
        CommandState.RETRYABLE: "未执行，可重发",
    }
)
_CHINESE: Final = re.compile(r"[一-鿿][^:：]*")
_HINTS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "ConfirmPayment": (
            "在 HIS 按商户订单号查挂号收费：有且金额相符 = 已执行；确无收费且订单仍未缴 = 未执行",
            "look up the charge by out_trade_no: there, with this amount = done; none, and the order unpaid = not done",
        ),
        "RefundPayment": (
            "在 HIS 按退款单号查红冲；同时在商户平台按退款单号查退款",
            "look up the red row by out_refund_no, and the refund at the merchant account by the same number",
        ),
        "SettleInsurance": (
            "在医保平台按就诊ID查结算（5203 或医保电脑），并在 HIS 查医保挂号记录",
            "look up the settlement at 医保 by mdtrt_id (5203), and the insured registration in the HIS",
        ),
        "ReverseInsurance": ("在医保平台确认结算是否已撤销", "see at 医保 whether the settlement is undone"),
        "BookAppointment": ("在 HIS 按平台订单号查预约", "look up the order in the HIS by the platform's number"),
        "CancelAppointment": (
            "在 HIS 按平台订单号查预约是否已取消",
            "see in the HIS whether the order is cancelled",
        ),
        "EnsurePatient": ("在 HIS 按证件号查患者档案", "look up the patient's record in the HIS by document number"),
    }
)
_HINT: Final = ("按证据中的单号到对应系统核实", "look up the numbers of the evidence in the system that they belong to")


def operation_name(operation: str) -> str:
    """``锁号 LockSlot``: the contract's Chinese word for it, where it has one."""
    command = COMMANDS.get(operation)
    short = operation.rpartition(".")[2]
    package = command.request_class.DESCRIPTOR.file.package if command is not None else "his160.v1"
    found = _CHINESE.match(comment(f"{package}.{operation}"))
    return f"{found[0].strip()} {short}" if found else short


def hint(operation: str) -> tuple[str, str]:
    """Where a person can see what became of such a command, Chinese and English."""
    return _HINTS.get(operation.rpartition(".")[2], _HINT)


def line(row: CommandRow) -> str:
    """One row on one line: when, what, on which order, how it stands and why."""
    why = reason_text(row)
    parts = (
        moment(row.received_time),
        f"{row.state.value} {STATES[row.state]}",
        operation_name(row.operation),
        row.order_key or row.natural_key[:24],
        row.request_id,
        f"×{row.attempt}" if row.attempt > 1 else "",
        why,
    )
    return "  ".join(part for part in parts if part)


def reason_text(row: CommandRow) -> str:
    """Why a row stands as it does: reason in Chinese, detail in English."""
    if row.state is CommandState.DONE:
        return f"重复 replay of {row.replay_of}" if row.replay_of else row.detail
    name, text = "", ""
    if row.reason:
        reason = reason_pb2.Reason.ValueType(row.reason)
        name = reason_name(row.reason)
        text = REFUSALS[reason].text if reason in REFUSALS else ""
    return " / ".join(part for part in (text, f"{name}: {row.detail}".strip(": ")) if part)


def order_text(found: Evidence, now: datetime, *, personal: bool) -> Iterator[str]:
    """The whole evidence, block by block."""
    yield f"订单 order {found.key}    证据 evidence {found.digest}"
    yield ""
    yield "操作 commands"
    yield from _commands(found, now, personal=personal)
    yield from _money(found)
    yield from _events(found)
    yield from _decisions(found)
    yield ""
    if found.words:
        yield f"此刻的查询结果 what is read now ({moment(found.taken)})"
        for word in found.words:
            yield from _word(word, personal=personal)
    else:
        yield "未查询 HIS / the HIS was not asked"


def _commands(found: Evidence, now: datetime, *, personal: bool) -> Iterator[str]:
    for row in found.rows:
        if row.parent:
            continue
        yield f"  {line(row)}"
        yield from _of_row(row, now, "      ", personal=personal)
        for step in found.rows:
            if step.parent == row.request_id:
                yield f"      └ {step.step}: {line(step)}"
                yield from _of_row(step, now, "          ", personal=personal)


def _of_row(row: CommandRow, now: datetime, indent: str, *, personal: bool) -> Iterator[str]:
    request = COMMANDS[row.operation].request_class.FromString(row.request)
    yield f"{indent}请求 request {as_text(request, personal=personal)}"
    if row.state is CommandState.DONE and row.result:
        answer = COMMANDS[row.operation].response_class.FromString(row.result)
        yield f"{indent}应答 answer {as_text(answer, personal=personal)}"
    if row.state is CommandState.UNKNOWN:
        since = span(now - (row.finished_time or row.sent_time))
        yield f"{indent}未知已 {since}，已核实 {row.probes} 次 / unknown for {since}, probed {row.probes} times"


def _money(found: Evidence) -> Iterator[str]:
    if found.settlements or found.refunds:
        yield ""
        yield "资金 money"
    for row in found.settlements:
        numbers = " ".join(
            f"{name} {value}"
            for name, value in (
                ("setl_id", row.setl_id),
                ("mdtrt_id", row.mdtrt_id),
                ("payOrdId", row.pay_order_id),
                ("out_trade_no", row.out_trade_no),
            )
            if value
        )
        yield f"  医保 {row.state.value} {moment(row.changed_time)} {row.key} {numbers}".rstrip()
    for refund in found.refunds:
        yield f"  {refund_line(refund)}"


def refund_line(row: RefundRow) -> str:
    """One refund on one line."""
    amount = f"{row.amount_fen // 100}.{row.amount_fen % 100:02d} 元"
    numbers = f"{row.out_refund_no} {amount} of {row.out_trade_no}"
    return f"退款 refund {row.state.value} {numbers} {row.order_key} {row.detail}".rstrip()


def trade_line(row: TradeRow) -> str:
    """One trade on one line."""
    amount = f"{row.amount_fen // 100}.{row.amount_fen % 100:02d} 元"
    return f"已付未确认 unconfirmed {row.out_trade_no} {amount} {row.order_key} {row.detail}".rstrip()


def _events(found: Evidence) -> Iterator[str]:
    if found.events:
        yield ""
        yield "事件 events"
    for row in found.events:
        event = event_pb2.Event.FromString(row.payload)
        kind = event_pb2.EventKind.Name(event.kind).removeprefix("EVENT_KIND_")
        origin = event_pb2.Origin.Name(event.origin).removeprefix("ORIGIN_")
        yield f"  {moment(row.created_time)} {kind} {origin} {row.state.value} {row.event_id} {row.detail}".rstrip()


def _decisions(found: Evidence) -> Iterator[str]:
    if found.decisions:
        yield ""
        yield "人工决定 decisions"
    for row in found.decisions:
        said = json.loads(row.entry.parameters)
        yield (
            f"  {moment(row.time)} {said['decided']} {said['request_id']} {said['who']} ({row.entry.actor}): "
            f"{said['note']} [证据 evidence {said['evidence']}]"
        )


def _word(word: Word, *, personal: bool) -> Iterator[str]:
    asked = as_text(word.request, personal=False)
    if word.error:
        yield f"  {operation_name(word.operation)} {asked}: 无法查询 cannot be asked: {word.error}"
    elif word.answer is None:
        yield f"  {operation_name(word.operation)} {asked}: 没有 there is none"
    else:
        yield f"  {operation_name(word.operation)} {asked}:"
        yield f"      {as_text(word.answer, personal=personal)}"


def decidable(found: Evidence) -> list[CommandRow]:
    """The rows that wait for a person."""
    by_id = {row.request_id: row for row in found.rows}
    return [row for row in found.rows if is_decidable(row, by_id.get(row.parent) if row.parent else None)]


def as_text(message: Message, *, personal: bool) -> str:
    """A message as one line of JSON."""
    shown = message if personal else for_showing(message)
    data: Any = json_format.MessageToDict(shown, preserving_proto_field_name=True)
    return json.dumps(data, ensure_ascii=False)


def moment(time: datetime) -> str:
    """Local time to the second."""
    return time.astimezone().strftime("%m-%d %H:%M:%S")


def span(length: timedelta) -> str:
    """``3d 4h``, ``5m 10s``: the two largest parts."""
    seconds = max(0, int(length.total_seconds()))
    parts = ((seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s"))
    first = next((at for at, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count}{unit}" for count, unit in parts[first : first + 2] if count) or "0s"
