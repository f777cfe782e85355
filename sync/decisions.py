"""A person's word on a command whose outcome is not known: done, or not done. Written with the audit in one commit.

The agent notices by itself: a repetition of the command reads the ledger, and a saga goes on with its next sweep.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, cast

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from his160.site.v1 import insurance_gateway_pb2, merchant_pb2, mobile_payment_pb2
from his160.v1 import insurance_pb2, payment_pb2, reason_pb2

from his_db.contract import required_fields
from sync import insurance_split, money_effects
from sync.audit import Audit, as_json
from sync.clock import Clock
from sync.command_entry import GET_APPOINTMENT
from sync.commands import COMMANDS
from sync.composed_reads import GET_SETTLEMENT
from sync.evidence import DECIDED, Evidence
from sync.ledger import Ledger
from sync.saga import Saga, Unknown
from sync.store import CommandRow, CommandState, Store, Transaction

_BY_HAND: Final = "decided by a person"


class DecisionRefused(Exception):
    """The decision cannot be taken, and why: English, and Chinese as ``zh``. Nothing was changed."""

    def __init__(self, text: str, zh: str) -> None:
        super().__init__(text)
        self.zh = zh


@dataclass(frozen=True, slots=True)
class Decision:
    """``evidence``: digest of what the person saw. ``answer``: what the command is to answer, for ``is_done``."""

    request_id: str
    is_done: bool
    who: str
    note: str
    evidence: str
    answer: Message | None = None


def is_decidable(row: CommandRow, parent: CommandRow | None) -> bool:
    """Whether a person may decide: open and nobody at work on it, or a step that holds its command up.

    A command that runs as a saga is decided by its steps.
    """
    if parent is not None:
        held_up = row.state in (CommandState.UNKNOWN, CommandState.REJECTED)
        return held_up and parent.state is CommandState.UNKNOWN
    return row.state is CommandState.UNKNOWN and not row.step


class Decisions:
    """Takes decisions in a store. ``sagas``: by name, to know what "not done" means for a step."""

    def __init__(self, store: Store, audit: Audit, clock: Clock, sagas: Mapping[str, Saga]) -> None:
        self._store = store
        self._audit = audit
        self._clock = clock
        self._sagas = sagas
        self._ledger = Ledger(store, clock, audit=audit)

    async def take(self, decision: Decision, seen: Evidence) -> CommandRow:
        """The row as it is now. Raises DecisionRefused, StoreError."""
        row = seen.row(decision.request_id)
        if row is None:
            raise DecisionRefused("the ledger has no such command", "账本中没有这条操作")
        parent = seen.row(row.parent) if row.parent else None
        following = self._following(row, parent, decision)
        now = self._clock()
        entry = self._audit.entry(
            DECIDED,
            target=row.order_key,
            result=following.state.value,
            parameters=as_json(
                request_id=row.request_id,
                operation=row.operation,
                decided="done" if decision.is_done else "not done",
                was=row.state.value,
                note=decision.note,
                who=decision.who,
                evidence=decision.evidence,
            ),
            digest=row.payload_hash,
        )

        def unit(transaction: Transaction) -> CommandRow:
            current = transaction.commands.get(row.request_id)
            above = transaction.commands.get(row.parent) if row.parent else None
            if current is None or (current.state, current.attempt) != (row.state, row.attempt):
                raise DecisionRefused(
                    "the command has changed since it was looked at", "查看之后该操作又有变化，请重新查看"
                )
            if not is_decidable(current, above):
                raise _not_decidable(current, above)
            transaction.commands.put(following)
            transaction.audit.append(entry, now)
            if above is not None:
                _keep_money(transaction, row, following, decision.answer, now)
            return following

        return await self._store.write(unit)

    def _following(self, row: CommandRow, parent: CommandRow | None, decision: Decision) -> CommandRow:
        if not is_decidable(row, parent):
            raise _not_decidable(row, parent)
        if decision.is_done:
            if decision.answer is None:
                raise DecisionRefused("an answer is wanted: --answer", "缺少应答内容：--answer")
            return replace(self._ledger.done(row, decision.answer), detail=f"{_BY_HAND}: done")
        return self._ledger.retryable(row, self._absent(row, parent), f"{_BY_HAND}: not done")

    def _absent(self, row: CommandRow, parent: CommandRow | None) -> int:
        """The reason of a row that was not done: a step that must never be sent again says so by it."""
        saga = self._sagas.get(parent.step) if parent is not None else None
        if saga is not None and saga.step(row.step).unknown is Unknown.VOID:
            return reason_pb2.REASON_OUTCOME_UNKNOWN
        return reason_pb2.REASON_HIS_UNAVAILABLE


def _keep_money(
    transaction: Transaction, row: CommandRow, following: CommandRow, answer: Message | None, now: datetime
) -> None:
    """What a step that was done changes in the books of money: the command's later steps rest on them."""
    settlements = transaction.settlements.of_order(row.order_key)
    before = settlements[0] if settlements else None
    answer = answer if following.state is CommandState.DONE else None
    after = money_effects.settlement_after(before, following, answer, now)
    money_effects.keep(transaction, row, answer, before, after, now)


def answer_for(row: CommandRow, seen: Evidence) -> Message | None:
    """What a command that was done answers, as far as the evidence gives it; None when required fields are missing."""
    command = COMMANDS[row.operation]
    request: Any = command.request_class.FromString(row.request)
    answer: Any = command.response_class()
    fields = answer.DESCRIPTOR.fields_by_name
    if "appointment" in fields:
        order: Any = seen.word(GET_APPOINTMENT)
        if order is not None:
            answer.appointment.CopyFrom(order.appointment)
    if "payment" in fields and fields["payment"].message_type is payment_pb2.Payment.DESCRIPTOR:
        answer.payment.CopyFrom(_payment(request, answer))
    if "refund" in fields and fields["refund"].message_type is payment_pb2.Refund.DESCRIPTOR:
        answer.refund.CopyFrom(_refund(request))
    if "settlement" in fields and fields["settlement"].message_type is insurance_pb2.InsuranceSettlement.DESCRIPTOR:
        found: Any = seen.word(GET_SETTLEMENT)
        if found is not None:
            answer.settlement.CopyFrom(found.settlement)
    if isinstance(answer, merchant_pb2.RefundTradeResponse):
        answer.refund.CopyFrom(_trade_refund(request))
    if isinstance(answer, mobile_payment_pb2.RefundOrderResponse):
        answer.order.CopyFrom(_given_back(request))
    if isinstance(answer, insurance_gateway_pb2.CancelSettlementResponse) and seen.settlements:
        answer.settlement.CopyFrom(insurance_split.counter_entry(seen.settlements[0].record))
    return answer if is_complete(answer) else None


def is_complete(message: Message) -> bool:
    """Whether every required field of the message, and of the messages in it, is set."""
    set_fields = {field.name: value for field, value in message.ListFields()}
    if not set(required_fields(cast(Descriptor, message.DESCRIPTOR))) <= set_fields.keys():
        return False
    return all(
        is_complete(part)
        for field, value in message.ListFields()
        if field.message_type is not None and not field.message_type.GetOptions().map_entry
        for part in (value if field.is_repeated else (value,))
        if isinstance(part, Message)
    )


def _payment(request: Any, answer: Any) -> payment_pb2.Payment:
    found = payment_pb2.Payment(
        out_trade_no=request.out_trade_no,
        transaction_id=request.transaction_id,
        order_no=request.order_no,
        appointment_id=answer.appointment.appointment_id,
        state=payment_pb2.PAYMENT_STATE_PAID,
        amount_fen=request.amount_fen,
        method=request.method,
    )
    found.pay_time.CopyFrom(request.pay_time)
    return found


def _refund(request: Any) -> payment_pb2.Refund:
    return payment_pb2.Refund(
        out_refund_no=request.out_refund_no,
        out_trade_no=request.out_trade_no,
        order_no=request.order_no,
        state=payment_pb2.REFUND_STATE_DONE,
        amount_fen=request.amount_fen,
    )


def _trade_refund(request: Any) -> merchant_pb2.TradeRefund:
    """PROCESSING: whether the money is back, the payment house is asked afterwards."""
    return merchant_pb2.TradeRefund(
        out_refund_no=request.out_refund_no,
        out_trade_no=request.out_trade_no,
        state=payment_pb2.REFUND_STATE_PROCESSING,
        amount_fen=request.refund_fen,
    )


def _given_back(request: Any) -> mobile_payment_pb2.MobileOrder:
    is_whole = request.type == mobile_payment_pb2.MOBILE_REFUND_TYPE_ALL
    return mobile_payment_pb2.MobileOrder(
        pay_order_id=request.pay_order_id,
        state=mobile_payment_pb2.MOBILE_ORDER_STATE_REFUNDED
        if is_whole
        else mobile_payment_pb2.MOBILE_ORDER_STATE_INSURANCE_REFUNDED,
    )


def _not_decidable(row: CommandRow, parent: CommandRow | None) -> DecisionRefused:
    if row.step and not row.parent:
        return DecisionRefused(
            "it has several steps: decide the step that holds it up", "该操作由多步组成，请对卡住的那一步作决定"
        )
    if row.state is CommandState.SENT:
        return DecisionRefused("the agent is at work on it", "代理正在处理该操作")
    if parent is not None and parent.state is not CommandState.UNKNOWN:
        return DecisionRefused("its command is not held up", "所属操作并未卡住")
    return DecisionRefused(f"its outcome is known: {row.state.value}", f"其结果已确定：{row.state.value}")
