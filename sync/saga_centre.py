"""Parts of sagas that have to do with the mobile payment centre of a province (6201 … 6401)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from google.protobuf.message import Message
from his160.site.v1 import insurance_gateway_pb2, mobile_payment_pb2
from his160.v1 import insurance_pb2, reason_pb2

from sync import numbers
from sync.judgements_site import MOBILE_WAITING, mobile_refund
from sync.saga import Look, Refusal, Refused, Step
from sync.saga_cash import timestamp
from sync.saga_context import Context
from sync.saga_insured import (
    GATEWAY,
    ORDER,
    REGISTRATION,
    begin_time,
    is_quoted,
    judge_person,
    medical_type,
    person_request,
    split_refusal,
    takes_over,
)
from sync.saga_ledger import batch_of
from sync.store import CommandState

CENTRE: Final = "MobilePaymentService."
CENTRE_QUOTES: Final = frozenset(
    {REGISTRATION + "GetInsuranceOrder", CENTRE + "UploadOrder", CENTRE + "QueryOrder", CENTRE + "CancelOrder"}
)
CENTRE_SETTLES: Final = CENTRE_QUOTES | {
    REGISTRATION + "RegisterInsured",
    CENTRE + "PayOrder",
    CENTRE + "RefundOrder",
}

_R = reason_pb2
_gateway = insurance_gateway_pb2
_mobile = mobile_payment_pb2


def former_order(context: Context) -> bool:
    """The same at the payment centre."""
    is_older = "order" not in context.rows and not takes_over(context)
    return is_quoted(context) and is_older and bool(pay_order_id(context))


def _person_if_possible(context: Context) -> Message | None:
    """1101 wants the certificate; an authorisation alone (payAuthNo) tells it nothing."""
    return person_request(context) if context.request.credential.certificate_no else None


PERSON_IF_KNOWN: Final = Look(
    "person", GATEWAY + "GetPerson", _person_if_possible, judge_person, is_optional=True, is_word=True
)
"""The person at 医保, where the site asks the national protocol as well: some centres want psnNo and insutype."""


def _upload(context: Context) -> Message:
    found, request, person = context.fact("insured_order").order, context.request, context.fact("person")
    message = _mobile.UploadOrderRequest(
        hospital_order_no=batch_of(context),
        credential=request.credential,
        patient_name=found.patient_name,
        document_type=found.document_type,
        document_no=found.document_no,
        medical_type=medical_type(context),
        visit_no=found.visit_no,
        doctor_code=found.doctor_code,
        doctor_name=found.doctor_name,
        department_code=found.department_code,
        department_name=found.department_name,
        specialty_code=found.specialty_code,
        total_fen=found.total_fen,
        batch_no=batch_of(context),
        items=found.items,
        use_account=context.rules.use_account,
    )
    message.begin_time.CopyFrom(begin_time(context))
    if person is not None:
        insurance = person.insurances[0]
        message.person_no, message.insutype = person.person_no, insurance.insutype
        message.credential.insured_area = message.credential.insured_area or insurance.insured_area
    return message


def _token_is_lost(context: Context) -> bool:
    """Whether the order was found by its number: the answer with its payToken never came."""
    row, upload = context.books.settlement, context.rows.get("order")
    is_found = upload is not None and upload.state is CommandState.DONE and bool(upload.detail)
    return is_found and row is not None and not row.pay_token


def upload_steps() -> tuple[Step, ...]:
    """6201, and once more when its answer was lost: the same number is the same order, and the answer has its token.

    A centre that refuses the repetition may want no token; whether it does, the payment shows.
    """
    looks = (ORDER, PERSON_IF_KNOWN)
    upload = CENTRE + "UploadOrder"
    return (
        Step("order", upload, _upload, wanted=lambda context: not takes_over(context), looks=looks, needs_caller=True),
        Step("token", upload, _upload, wanted=_token_is_lost, looks=looks, needs_caller=True, refused=Refused.PASS),
    )


def pay_order_id(context: Context) -> str:
    row = context.books.settlement
    return "" if row is None else row.pay_order_id


def pay_token(context: Context) -> str:
    row = context.books.settlement
    return "" if row is None else row.pay_token


def _ask_order(context: Context) -> Message:
    return _mobile.QueryOrderRequest(pay_order_id=pay_order_id(context), pay_token=pay_token(context))


def _judge_quoted(context: Context, answer: Message | None) -> Refusal | None:
    if not isinstance(answer, _mobile.QueryOrderResponse):
        return Refusal(_R.REASON_INSURANCE_REFUSED, "the centre does not know the order")
    if not answer.order.HasField("split"):
        return None
    uploaded = context.sent("order")
    if uploaded is not None and uploaded.total_fen != answer.order.split.total_fen:
        return Refusal(_R.REASON_INSURANCE_REFUSED, "the centre counts another total than was uploaded")
    return split_refusal(context, _gateway.SettlementRecord(split=answer.order.split))


def _judge_quote(context: Context, answer: Message | None) -> Refusal | None:
    """As a quote it must tell the amounts: what is not told is not zero. A centre may take a moment to count."""
    refusal = _judge_quoted(context, answer)
    if refusal is not None or not isinstance(answer, _mobile.QueryOrderResponse):
        return refusal
    if answer.order.HasField("split"):
        return None
    upload = context.rows.get("order")
    since = context.now if upload is None else upload.finished_time or upload.sent_time
    if answer.order.state in MOBILE_WAITING and context.now - since < context.rules.patience:
        return Refusal(_R.REASON_HIS_UNAVAILABLE, "the centre does not tell the amounts yet", final=False)
    return Refusal(_R.REASON_INSURANCE_REFUSED, "the centre tells no amounts before it is paid")


QUOTED: Final = Look("quoted", CENTRE + "QueryOrder", _ask_order, _judge_quoted)
"""6301 before it is paid: the split that the centre would settle, where it says one already."""
QUOTE_TOLD: Final = Look("quoted", CENTRE + "QueryOrder", _ask_order, _judge_quote)
"""The same, as the answer to a quote."""


def order_back(name: str, wanted: Callable[[Context], bool]) -> Step:
    """6401 of an order that was never paid. A refusal is passed over only when 6301 does not show it paid."""
    return Step(
        name,
        CENTRE + "CancelOrder",
        lambda context: _mobile.CancelOrderRequest(pay_order_id=pay_order_id(context), pay_token=pay_token(context)),
        wanted=wanted,
        doubts=True,
        refused=Refused.PASS,
    )


def _part_back(context: Context) -> tuple[_mobile.MobileRefundType.ValueType, insurance_pb2.InsuranceSplit]:
    """What 6203 gives back: the part of 医保. The cash part goes back through the payment house, which has it.

    Where 医保 has paid nothing (起付线), the order goes back whole: it has no other part that could.
    """
    paid = context.record.split
    part = insurance_pb2.InsuranceSplit(
        fund_fen=paid.fund_fen, account_fen=paid.account_fen, family_account_fen=paid.family_account_fen
    )
    apart = paid.family_account_fen if context.rules.family_apart else 0
    part.total_fen = paid.fund_fen + paid.account_fen + apart
    if part.total_fen:
        return _mobile.MOBILE_REFUND_TYPE_INSURANCE, part
    return _mobile.MOBILE_REFUND_TYPE_ALL, insurance_pb2.InsuranceSplit(total_fen=paid.cash_fen, cash_fen=paid.cash_fen)


def payment_back(name: str, wanted: Callable[[Context], bool]) -> Step:
    """6203 of the insurance part: one order is given back once, under a number of its own."""

    def build(context: Context) -> Message:
        row = context.books.settlement
        kind, part = _part_back(context)
        message = _mobile.RefundOrderRequest(
            pay_order_id=pay_order_id(context),
            refund_no=numbers.centre_refund_no("" if row is None else row.key),
            type=kind,
            split=part,
        )
        message.refund_time.CopyFrom(timestamp(context.now))
        return message

    def verdict(request: Any, answer: Any) -> Any:
        return mobile_refund(request, _mobile.QueryOrderResponse(order=answer.order))

    return Step(name, CENTRE + "RefundOrder", build, wanted=wanted, doubts=True, verdict=verdict)
