"""ReverseInsurance: 2208 → 2205 → 2202 → the cash part → red row in the HIS. There is no way back from 2208."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.message import Message
from his160.site.v1 import registration_pb2
from his160.v1 import appointment_pb2, insurance_pb2, reason_pb2

from sync.command_entry import GET_APPOINTMENT
from sync.money_book import SettlementRow
from sync.order import OrderCommand
from sync.saga import Look, Refusal, Refused, Saga, Step
from sync.saga_cash import NOT_FOUND, REFUND_TRADE, automatic_refund, order_look, order_refusal
from sync.saga_centre import (
    CENTRE,
    pay_order_id,
    payment_back,
)
from sync.saga_context import Context
from sync.saga_insured import (
    GATEWAY,
    REGISTRATION,
    fees_back,
    settlement_back,
    settlement_of,
    visit_back,
)

OPERATION: Final = "InsuranceService.ReverseInsurance"
_CHECK: Final = "RefundCheckService.CheckRefund"
_BACK: Final = ("reverse", "give_back", "fees", "visit", "refund", "red", "red_insured")


def is_begun(context: Context) -> bool:
    """Whether anything has, or may have, been given back: from then on there is only forward."""
    return context.may_be_done(*_BACK)


def unless_begun(look: Look) -> Look:
    """The look, made only before the first step: afterwards the order is no longer as it was."""
    return Look(
        look.name,
        look.operation,
        lambda context: None if is_begun(context) else look.request(context),
        look.judge,
        is_optional=look.is_optional,
        is_word=look.is_word,
    )


def settled(context: Context, setl_id: str = "") -> SettlementRow | None:
    """The settlement that is to be undone, as the agent made it; None when it did not, or not this one."""
    row = context.books.settlement
    return row if row is not None and row.setl_id and setl_id in ("", row.setl_id) else None


def _registered(context: Context) -> Message | None:
    """Only asked when the agent did not make the settlement itself."""
    setl_id = context.request.setl_id
    if settled(context, setl_id) is not None:
        return None
    return registration_pb2.GetInsuredRegistrationRequest(order_no=context.order_no, setl_id=setl_id)


def _judge_registered(context: Context, answer: Message | None) -> Refusal | None:
    unknown = Refusal(reason_pb2.REASON_PAYMENT_NOT_FOUND, "neither the agent nor the HIS knows the settlement")
    if not isinstance(answer, registration_pb2.GetInsuredRegistrationResponse):
        return unknown
    found = answer.settlement
    if found.setl_id != context.request.setl_id or not found.mdtrt_id:
        return unknown
    return None


def _judge_order(context: Context, answer: Message | None) -> Refusal | None:
    if not isinstance(answer, appointment_pb2.GetAppointmentResponse):
        return NOT_FOUND
    row = settled(context, context.request.setl_id)
    if row is not None and not row.state.is_live and not context.rows:
        return Refusal(reason_pb2.REASON_ALREADY_REFUNDED, "the settlement was undone before")
    if row is None and context.fact("registered") is None:
        return Refusal(reason_pb2.REASON_PAYMENT_NOT_FOUND, "neither the agent nor the HIS knows the settlement")
    return order_refusal(answer.appointment.state, OrderCommand.REFUND)


def no_objection(context: Context, answer: Message | None) -> Refusal | None:
    """The HIS's own rules (已日结, 存在处方 …): it refuses by its reason, or answers."""
    return None if answer is not None else NOT_FOUND


def _check_refund(context: Context) -> Message:
    return registration_pb2.CheckRefundRequest(
        order_no=context.order_no, out_trade_no=cash_trade(context), amount_fen=context.record.split.cash_fen
    )


_LOOKS: Final = (
    Look("registered", REGISTRATION + "GetInsuredRegistration", _registered, _judge_registered, is_optional=True),
    unless_begun(order_look(_judge_order)),
    unless_begun(Look("check", _CHECK, _check_refund, no_objection, is_optional=True, is_word=True)),
)


def cash_trade(context: Context) -> str:
    """商户订单号 of the cash part of the settlement; empty when there is none, or it is not ours to give back."""
    row = context.books.settlement
    return row.out_trade_no if row is not None and context.record.split.cash_fen else ""


def _has_cash(context: Context) -> bool:
    return bool(cash_trade(context)) and context.maps(REFUND_TRADE)


def _red(context: Context) -> Message:
    record, refund = context.record, context.sent("refund")
    reversed_to = context.answer("reverse")
    setl_id = getattr(getattr(reversed_to, "settlement", None), "setl_id", "") if reversed_to is not None else ""
    return registration_pb2.CancelInsuredRequest(
        order_no=context.order_no,
        setl_id=record.setl_id,
        reversal_setl_id=setl_id,
        out_refund_no=refund.out_refund_no if refund is not None and context.is_done("refund") else "",
        cash_fen=record.split.cash_fen,
        note=context.request.note,
    )


def red_row() -> Step:
    """The red row. Refused after the money went back, it is a person's work, never silence."""
    return Step("red", REGISTRATION + "CancelInsured", _red, persists=True, doubts=True, refused=Refused.PERSON)


def is_settled_here(context: Context) -> bool:
    return not pay_order_id(context)


def settlement_steps(wanted: Any, looks: tuple[Look, ...]) -> tuple[Step, ...]:
    """2208 → 2205 → 2202, or 6203."""

    def by_gateway(context: Context) -> bool:
        return bool(wanted(context)) and is_settled_here(context)

    def by_centre(context: Context) -> bool:
        return bool(wanted(context)) and not is_settled_here(context)

    first = settlement_back("reverse", by_gateway, looks=looks)
    at_centre = payment_back("give_back", by_centre)
    return (
        first,
        Step(
            at_centre.name,
            at_centre.operation,
            at_centre.build,
            wanted=by_centre,
            looks=looks,
            doubts=True,
            verdict=at_centre.verdict,
        ),
        fees_back("fees", by_gateway, persists=True),
        visit_back("visit", by_gateway, persists=True),
    )


def _respond(context: Context) -> Message:
    answer = context.answer("reverse")
    found = settlement_of(context, insurance_pb2.INSURANCE_STATE_REVERSED, setl_id=context.record.setl_id)
    negative = getattr(answer, "settlement", None)
    if negative is not None and negative.HasField("split"):
        found.split.CopyFrom(negative.split)
        found.setl_id = negative.setl_id or found.setl_id
        if negative.HasField("settle_time"):
            found.settle_time.CopyFrom(negative.settle_time)
        return insurance_pb2.ReverseInsuranceResponse(settlement=found)
    for field in found.split.DESCRIPTOR.fields:  # the counter-entry of what was settled
        setattr(found.split, field.name, -getattr(context.record.split, field.name))
    return insurance_pb2.ReverseInsuranceResponse(settlement=found)


def _always(_: Context) -> bool:
    return True


_STEPS: Final = (
    *settlement_steps(_always, _LOOKS),
    automatic_refund(cash_trade, wanted=_has_cash),
    red_row(),
)
_COMMON: Final = frozenset({GET_APPOINTMENT, REGISTRATION + "CancelInsured"})

SAGA: Final = Saga(
    name="reverse_insurance",
    operation=OPERATION,
    needs=_COMMON | {GATEWAY + name for name in ("CancelSettlement", "CancelFees", "CancelVisit", "QuerySettlement")},
    is_substitute=True,
    steps=_STEPS,
    undo=(),
    is_bound=is_begun,
    respond=_respond,
)

BY_CENTRE: Final = Saga(
    name="reverse_insurance_by_centre",
    operation=OPERATION,
    needs=_COMMON | {CENTRE + "RefundOrder", CENTRE + "QueryOrder"},
    is_substitute=True,
    steps=_STEPS,
    undo=(),
    is_bound=is_begun,
    respond=_respond,
)
