"""SettleInsurance: 医保 settles, the HIS registers; or everything is undone in the order in which it may be.

Undo: 2208 (or 2601, when 2207A was never answered and is not found), 2205, 2202, then the cash part. The HIS is written
last, so it has nothing to take back. The caller's credential is never stored: a saga that still needs it waits for the
caller's retry for a while, and then goes back. From 2207A on nothing needs the caller any more.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from google.protobuf.message import Message
from his160.site.v1 import mobile_payment_pb2, registration_pb2
from his160.v1 import insurance_pb2, reason_pb2

from sync import insurance_split
from sync.judgements_site import mobile_payment
from sync.saga import NOT_NOW, Refusal, Refused, Saga, Step
from sync.saga_cash import (
    CLOSE_TRADE,
    REFUND_TRADE,
    automatic_refund,
    close_steps,
    paid,
    refunded_event,
    trade_look,
)
from sync.saga_centre import (
    CENTRE,
    CENTRE_SETTLES,
    PERSON_IF_KNOWN,
    QUOTED,
    former_order,
    order_back,
    pay_order_id,
    pay_token,
    payment_back,
    upload_steps,
)
from sync.saga_context import Context
from sync.saga_insured import (
    ORDER,
    REGISTRATION,
    SETTLES,
    fees_back,
    former_visit,
    has_fees,
    has_visit,
    is_quoted,
    opening_steps,
    settle_step,
    settlement_back,
    settlement_of,
    split_refusal,
    visit_back,
    void_step,
)
from sync.store import CommandRow, CommandState

OPERATION: Final = "InsuranceService.SettleInsurance"
_FORWARD: Final = ("visit", "visit_info", "fees", "quote", "settle", "order", "pay", "register")


def _check(context: Context) -> Refusal | None:
    """The split that the patient agreed to must add up, and its cash part needs a number."""
    agreed = context.request.agreed_split
    fault = insurance_split.split_fault(agreed, family_apart=context.rules.family_apart)
    if fault:
        return Refusal(reason_pb2.REASON_INVALID_REQUEST, f"agreed_split: {fault}")
    if bool(agreed.cash_fen) != bool(context.request.out_trade_no):
        return Refusal(reason_pb2.REASON_INVALID_REQUEST, "out_trade_no goes with a cash part, and only with one")
    return None


def _number(context: Context) -> str:
    return str(context.request.out_trade_no)


def _paid(context: Context, answer: Any) -> Refusal | None:
    return paid(context, answer, context.request.agreed_split.cash_fen)


_CASH: Final = trade_look(_number, _paid, is_optional=True)


def _register(context: Context) -> Message:
    request = context.request
    message = registration_pb2.RegisterInsuredRequest(
        order_no=request.order_no,
        appointment_id=request.appointment_id,
        settlement=context.record,
        out_trade_no=request.out_trade_no,
    )
    cash = context.fact("trade")
    if cash is not None:
        message.transaction_id = cash.trade.transaction_id
        if cash.trade.HasField("pay_time"):
            message.pay_time.CopyFrom(cash.trade.pay_time)
    return message


_REGISTER: Final = Step(
    "register", REGISTRATION + "RegisterInsured", _register, looks=(_CASH,), persists=True, doubts=True
)


def _is_refused(context: Context) -> bool:
    """Whether it was refused for good, so that nobody may pay its cash part any more."""
    if any(context.state(step) is CommandState.REJECTED for step in _FORWARD):
        return True
    return any(
        step.fault(context) is not None for step in (*SAGA.steps, *BY_CENTRE.steps) if context.is_done(step.name)
    )


def _has_cash(context: Context) -> bool:
    return bool(context.request.out_trade_no) and context.maps(REFUND_TRADE)


def _unpayable(context: Context) -> tuple[str, ...]:
    """The trade of the cash part, when it must be closed: not for a settlement that may still come."""
    may_close = _has_cash(context) and context.maps(CLOSE_TRADE) and _is_refused(context)
    return (_number(context),) if may_close else ()


_OVER: Final = frozenset({reason_pb2.REASON_ALREADY_PAID, reason_pb2.REASON_PAYMENT_NOT_FOUND})


def _closing_refused(row: CommandRow) -> Refused:
    """What is paid already goes on to the refund; a trade that stays payable for no known reason is a person's work."""
    return Refused.PASS if row.reason in _OVER else Refused.PERSON


def _cash_back() -> tuple[Step, ...]:
    """First nobody can pay any more, then what was paid goes back. A close that finds it paid goes on to the refund."""
    close = replace(close_steps(_unpayable)[0], refused=_closing_refused)
    return (close, automatic_refund(_number, wanted=_has_cash))


def _ends(context: Context, refusal: Refusal) -> Refusal:
    """With its cash given back the same request cannot come to a good end any more."""
    if refusal.final or not context.is_done("refund"):
        return refusal
    reason = reason_pb2.REASON_INSURANCE_REFUSED if refusal.reason in NOT_NOW else refusal.reason
    return Refusal(reason, refusal.detail)


def _respond(context: Context) -> Message:
    response = insurance_pb2.SettleInsuranceResponse(
        settlement=settlement_of(context, insurance_pb2.INSURANCE_STATE_SETTLED, setl_id=context.record.setl_id)
    )
    registered = context.answer("register")
    if registered is not None and registered.HasField("appointment"):
        response.appointment.CopyFrom(registered.appointment)
    return response


SAGA: Final = Saga(
    name="settle_insurance",
    operation=OPERATION,
    needs=SETTLES,
    is_substitute=True,
    check=_check,
    steps=(
        fees_back("former_fees", former_visit),
        visit_back("former_visit", former_visit),
        *opening_steps(),
        settle_step(_CASH),
        _REGISTER,
    ),
    undo=(
        void_step(),
        settlement_back("reverse", lambda context: context.is_done("settle")),
        fees_back("undo_fees", has_fees),
        visit_back("undo_visit", has_visit),
        *_cash_back(),
    ),
    respond=_respond,
    ends=_ends,
    event=refunded_event,
)


def _pay(context: Context) -> Message:
    row = context.books.settlement
    return mobile_payment_pb2.PayOrderRequest(
        pay_order_id=pay_order_id(context),
        pay_auth_no=context.request.credential.pay_auth_no,
        pay_token=pay_token(context),
        batch_no="" if row is None else row.key,
        mdtrt_id=context.record.mdtrt_id,
        use_account=context.rules.use_account,
    )


def _pay_fault(context: Context) -> Refusal | None:
    return split_refusal(context, context.record)


def _pay_verdict(request: Any, answer: Any) -> Any:
    """States that are not the end are asked for again; what is in no list fails closed."""
    return mobile_payment(request, mobile_payment_pb2.QueryOrderResponse(order=answer.order))


def _unpaid_order(context: Context) -> bool:
    return is_quoted(context) and not context.may_be_done("pay") and bool(pay_order_id(context))


BY_CENTRE: Final = Saga(
    name="settle_insurance_by_centre",
    operation=OPERATION,
    needs=CENTRE_SETTLES,
    is_substitute=True,
    check=_check,
    steps=(
        order_back("former_order", former_order),
        *upload_steps(),
        Step(
            "pay",
            CENTRE + "PayOrder",
            _pay,
            looks=(ORDER, PERSON_IF_KNOWN, QUOTED, _CASH),
            fault=_pay_fault,
            needs_caller=True,
            doubts=True,
            verdict=_pay_verdict,
        ),
        _REGISTER,
    ),
    undo=(
        payment_back("reverse", lambda context: context.is_done("pay")),
        order_back("undo_order", _unpaid_order),
        *_cash_back(),
    ),
    respond=_respond,
    ends=_ends,
    event=refunded_event,
)
