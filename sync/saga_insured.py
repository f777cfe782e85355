"""Parts of sagas that have to do with 医保: the looks and steps that several of them share.

Transactions are named by their numbers in the national protocol. What a step back needs of the person and the visit
lies in the sealed record (``Context.record``), so that no step back needs a caller.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from his160.site.v1 import insurance_gateway_pb2, registration_pb2
from his160.v1 import insurance_pb2, reason_pb2

from sync import insurance_split
from sync.money_book import SettlementState
from sync.order import OrderCommand
from sync.saga import Look, Refusal, Refused, Step, Unknown
from sync.saga_cash import NOT_FOUND, order_refusal, timestamp
from sync.saga_context import Context
from sync.store import CommandRow, CommandState

GATEWAY: Final = "InsuranceGatewayService."
REGISTRATION: Final = "InsuredRegistrationService."
OPENS: Final = frozenset(
    {
        REGISTRATION + "GetInsuranceOrder",
        *(GATEWAY + name for name in ("GetPerson", "OpenVisit", "CancelVisit", "QueryVisit", "UploadVisit")),
        *(GATEWAY + name for name in ("UploadFees", "CancelFees", "PreSettle")),
    }
)
"""What a site must map for a quote by the national protocol."""
SETTLES: Final = OPENS | {
    REGISTRATION + "RegisterInsured",
    *(GATEWAY + name for name in ("Settle", "CancelSettlement", "ReverseTransaction", "QuerySettlement")),
}

_R = reason_pb2
_gateway = insurance_gateway_pb2
_VALID: Final = frozenset({"", "1"})  # psn_insu_stas 1: 正常; empty where a site's interface does not say
_SETTLE: Final = "2207A"


def _insured_order(context: Context) -> Message:
    request = context.request
    return registration_pb2.GetInsuranceOrderRequest(order_no=request.order_no, appointment_id=request.appointment_id)


def _judge_order(context: Context, answer: Message | None) -> Refusal | None:
    """Only an order that waits for payment, of a doctor whom 医保 knows, whose fee lines add up."""
    if not isinstance(answer, registration_pb2.GetInsuranceOrderResponse):
        return NOT_FOUND
    found = answer.order
    refusal = order_refusal(found.state, OrderCommand.PAY)
    if refusal is not None:
        return refusal
    row = context.books.settlement
    if row is not None and row.state is SettlementState.SETTLED and not context.rows:
        return Refusal(_R.REASON_ALREADY_PAID, "the order is settled with 医保")
    if not found.doctor_code or not found.department_code:
        return Refusal(_R.REASON_INSURANCE_REFUSED, "doctor or department is not registered with 医保: self-pay only")
    if found.items and sum(item.amount_fen for item in found.items) != found.total_fen:
        return Refusal(_R.REASON_AMOUNT_MISMATCH, "the fee lines are not the total")
    agreed = agreed_split(context)
    if agreed is not None and agreed.total_fen != found.total_fen:
        return Refusal(_R.REASON_AMOUNT_MISMATCH, "the HIS wants another total than was agreed")
    return None


ORDER: Final = Look("insured_order", REGISTRATION + "GetInsuranceOrder", _insured_order, _judge_order, is_word=True)


def person_request(context: Context) -> Message:
    found = context.fact("insured_order").order
    message = _gateway.GetPersonRequest(
        credential=context.request.credential,
        document_type=found.document_type,
        document_no=found.document_no,
        name=found.patient_name,
    )
    if found.HasField("begin_time"):
        message.begin_time.CopyFrom(found.begin_time)
    return message


def judge_person(context: Context, answer: Message | None) -> Refusal | None:
    """The credential must be the patient's own, and in force."""
    if not isinstance(answer, _gateway.GetPersonResponse):
        return Refusal(_R.REASON_INSURANCE_REFUSED, "医保 does not know the person")
    if not answer.insurances or answer.insurances[0].status not in _VALID:
        return Refusal(_R.REASON_INSURANCE_REFUSED, "the person has no insurance in force")
    found = context.fact("insured_order").order
    pairs = ((answer.name, found.patient_name), (answer.document_no.upper(), found.document_no.upper()))
    if any(one.strip() and other.strip() and one.strip() != other.strip() for one, other in pairs):
        return Refusal(_R.REASON_PATIENT_NAME_MISMATCH, "the credential is another person's")
    return None


PERSON: Final = Look("person", GATEWAY + "GetPerson", person_request, judge_person, is_word=True)


def agreed_split(context: Context) -> insurance_pb2.InsuranceSplit | None:
    """What the patient has agreed to; None in a quote."""
    request = context.request
    if "agreed_split" not in request.DESCRIPTOR.fields_by_name:
        return None
    agreed: insurance_pb2.InsuranceSplit = request.agreed_split
    return agreed


def split_refusal(context: Context, record: _gateway.SettlementRecord) -> Refusal | None:
    """Why amounts of 医保 must not stand: they do not add up, or are not what the patient agreed to."""
    fault = insurance_split.record_fault(record, family_apart=context.rules.family_apart)
    if fault:
        return Refusal(_R.REASON_INSURANCE_REFUSED, f"the amounts of 医保 do not add up: {fault}")
    agreed = agreed_split(context)
    if agreed is not None and agreed != record.split:
        return Refusal(_R.REASON_AMOUNT_MISMATCH, "医保 pays another split than the patient has agreed to")
    return None


def medical_type(context: Context) -> str:
    return str(context.fact("insured_order").order.medical_type or context.rules.medical_type)


def is_quoted(context: Context) -> bool:
    """Whether an unsettled visit of the order is open at 医保, from a quote or a settlement given up."""
    row = context.books.settlement
    return row is not None and row.state in (SettlementState.OPEN, SettlementState.QUOTED)


def is_open_visit(context: Context) -> bool:
    """Whether it was opened by 2201: the centre closes its own with its order."""
    row = context.books.settlement
    return row is not None and is_quoted(context) and bool(context.record.mdtrt_id) and not row.pay_order_id


def takes_over(context: Context) -> bool:
    """Whether a settlement goes on with the visit of the quote before it: same person, same total, not too old."""
    if any(step in context.rows for step in ("visit", "order", "former_fees", "former_visit", "former_order")):
        return False
    if "quote" in context.rows or "pay" in context.rows:
        return True
    row, agreed = context.books.settlement, agreed_split(context)
    if row is None or agreed is None or row.state is not SettlementState.QUOTED:
        return False
    if context.now - row.changed_time >= context.rules.quote_keep:
        return False
    is_told = bool(context.record.split.total_fen) or not row.pay_order_id
    if is_told and context.record.split.total_fen != agreed.total_fen:
        return False
    person = context.fact("person")
    return person is None or person.person_no == context.record.person_no


def former_visit(context: Context) -> bool:
    """Whether an older visit is in the way: one that this command neither opened nor takes over."""
    is_older = "visit" not in context.rows and not takes_over(context)
    return is_older and is_open_visit(context)


def begin_time(context: Context) -> Timestamp:
    """When the visit begins: as the HIS says, else when the command came. The same on every attempt of a step: under
    its msgid 医保 takes one content only.
    """
    found = context.fact("insured_order").order
    return found.begin_time if found.HasField("begin_time") else timestamp(context.parent.received_time)


def _visit(context: Context) -> Message:
    found, person = context.fact("insured_order").order, context.fact("person")
    insurance = person.insurances[0]
    message = _gateway.OpenVisitRequest(
        msgid=context.number,
        person_no=person.person_no,
        insutype=insurance.insutype,
        insured_area=insurance.insured_area or context.request.credential.insured_area,
        credential=context.request.credential,
        visit_no=found.visit_no,
        doctor_code=found.doctor_code,
        doctor_name=found.doctor_name,
        department_code=found.department_code,
        department_name=found.department_name,
        specialty_code=found.specialty_code,
    )
    message.begin_time.CopyFrom(begin_time(context))
    return message


def _visit_info(context: Context) -> Message:
    found, record = context.fact("insured_order").order, context.record
    message = _gateway.UploadVisitRequest(
        msgid=context.number,
        person_no=record.person_no,
        insured_area=record.insured_area,
        mdtrt_id=record.mdtrt_id,
        medical_type=medical_type(context),
        doctor_code=found.doctor_code,
        doctor_name=found.doctor_name,
        department_code=found.department_code,
    )
    message.begin_time.CopyFrom(begin_time(context))
    return message


def _fees(context: Context) -> Message:
    found, record = context.fact("insured_order").order, context.record
    message = _gateway.UploadFeesRequest(
        msgid=context.number,
        person_no=record.person_no,
        insured_area=record.insured_area,
        mdtrt_id=record.mdtrt_id,
        batch_no=record.batch_no,
        items=found.items,
        doctor_code=found.doctor_code,
        doctor_name=found.doctor_name,
        department_code=found.department_code,
        department_name=found.department_name,
    )
    message.fee_time.CopyFrom(begin_time(context))
    return message


def _subject(context: Context) -> _gateway.SettlementSubject:
    record, fees = context.record, context.answer("fees")
    subject = _gateway.SettlementSubject(
        person_no=record.person_no,
        insutype=record.insutype,
        insured_area=record.insured_area,
        credential=context.request.credential,
        medical_type=medical_type(context),
        total_fen=context.fact("insured_order").order.total_fen,
        mdtrt_id=record.mdtrt_id,
        batch_no=record.batch_no,
        use_account=context.rules.use_account,
    )
    if fees is not None:
        subject.fulamt_ownpay_amt_fen = fees.fulamt_ownpay_amt_fen
        subject.overlmt_selfpay_fen = fees.overlmt_amt_fen
        subject.preselfpay_amt_fen = fees.preselfpay_amt_fen
        subject.inscp_scp_amt_fen = fees.inscp_scp_amt_fen
    elif record.HasField("amounts"):  # a visit taken over from a quote
        subject.fulamt_ownpay_amt_fen = record.amounts.fulamt_ownpay_amt_fen
        subject.overlmt_selfpay_fen = record.amounts.overlmt_selfpay_fen
        subject.preselfpay_amt_fen = record.amounts.preselfpay_amt_fen
        subject.inscp_scp_amt_fen = record.amounts.inscp_scp_amt_fen
    return subject


def _quote(context: Context) -> Message:
    return _gateway.PreSettleRequest(msgid=context.number, subject=_subject(context))


def _settle(context: Context) -> Message:
    return _gateway.SettleRequest(msgid=context.number, subject=_subject(context))


def _quote_fault(context: Context) -> Refusal | None:
    return split_refusal(context, context.answer("quote").settlement)


def _settle_fault(context: Context) -> Refusal | None:
    found = context.answer("settle").settlement
    if not found.setl_id and not context.record.setl_id:
        return Refusal(_R.REASON_INSURANCE_REFUSED, "医保 settled without a number")
    return split_refusal(context, found if found.HasField("split") else context.record)


def _transaction(
    name: str, operation: str, build: Callable[[Context], Message], looks: tuple[Look, ...], **changes: Any
) -> Step:
    """One transaction of 医保 that only the caller can bring about."""
    return Step(name, GATEWAY + operation, build, looks=looks, needs_caller=True, is_numbered=True, **changes)


def _opens(context: Context) -> bool:
    return not takes_over(context)


def opening_steps(*also: Look) -> tuple[Step, ...]:
    """2201 → 2203A → 2204 → 2206A. A 2204 that is cut off is never sent again: 2205 undoes it either way."""
    looks = (ORDER, PERSON)
    return (
        _transaction("visit", "OpenVisit", _visit, looks, wanted=_opens),
        _transaction("visit_info", "UploadVisit", _visit_info, looks, wanted=_opens),
        _transaction("fees", "UploadFees", _fees, looks, wanted=_opens, unknown=Unknown.UNDO),
        _transaction("quote", "PreSettle", _quote, (*looks, *also), fault=_quote_fault),
    )


def settle_step(*also: Look) -> Step:
    """2207A. Never sent twice: without an answer it is asked for (5203), and without a trace it is undone (2601)."""
    looks = (ORDER, PERSON, *also)
    return _transaction("settle", "Settle", _settle, looks, fault=_settle_fault, unknown=Unknown.VOID, doubts=True)


def _cancel_fees(context: Context) -> Message:
    record = context.record
    return _gateway.CancelFeesRequest(
        msgid=context.number,
        person_no=record.person_no,
        insured_area=record.insured_area,
        mdtrt_id=record.mdtrt_id,
        batch_no=record.batch_no,
    )


def _cancel_visit(context: Context) -> Message:
    record = context.record
    return _gateway.CancelVisitRequest(
        msgid=context.number,
        person_no=record.person_no,
        insured_area=record.insured_area,
        mdtrt_id=record.mdtrt_id,
        visit_no=record.visit_no,
    )


def _cancel_settlement(context: Context) -> Message:
    record = context.record
    return _gateway.CancelSettlementRequest(
        msgid=context.number,
        person_no=record.person_no,
        insured_area=record.insured_area,
        mdtrt_id=record.mdtrt_id,
        setl_id=record.setl_id,
    )


def _void(context: Context) -> Message:
    record = context.record
    return _gateway.ReverseTransactionRequest(
        msgid=context.number,
        person_no=record.person_no,
        insured_area=record.insured_area,
        original_msgid=record.settle_msgid,
        original_infno=_SETTLE,
    )


def fees_back(name: str, wanted: Callable[[Context], bool], **changes: Any) -> Step:
    """2205. Lines that cannot be taken back cost nobody anything while nothing is settled."""
    return Step(
        name, GATEWAY + "CancelFees", _cancel_fees, wanted=wanted, is_numbered=True, refused=Refused.PASS, **changes
    )


def visit_back(name: str, wanted: Callable[[Context], bool], **changes: Any) -> Step:
    """2202. A visit that stays open without a settlement moves no money; the refused step is kept as evidence."""
    return Step(
        name, GATEWAY + "CancelVisit", _cancel_visit, wanted=wanted, is_numbered=True, refused=_still_settled, **changes
    )


def _still_settled(row: CommandRow) -> Refused:
    """A visit that is refused for its settlement has money in it, whatever the books say (a 2207A that came late)."""
    return Refused.PERSON if row.reason == _R.REASON_INSURANCE_SETTLED else Refused.PASS


def _reversed_wrong(context: Context) -> Refusal | None:
    """2208 must give back exactly what 2207A took. An answer without amounts says nothing."""
    answer = context.answer("reverse")
    if answer is None or not answer.settlement.HasField("split"):
        return None
    if insurance_split.is_counter_entry(answer.settlement, context.record):
        return None
    return Refusal(_R.REASON_AMOUNT_MISMATCH, "医保 took back other amounts than were settled")


def settlement_back(name: str, wanted: Callable[[Context], bool], **changes: Any) -> Step:
    """2208."""
    return Step(
        name,
        GATEWAY + "CancelSettlement",
        _cancel_settlement,
        wanted=wanted,
        is_numbered=True,
        doubts=True,
        fault=_reversed_wrong,
        **changes,
    )


def void_step() -> Step:
    """2601 of a 2207A that was never answered and is not found; repeated until it is answered."""

    def wanted(context: Context) -> bool:
        row = context.rows.get("settle")
        lost = row is not None and row.state is CommandState.RETRYABLE
        return lost and row is not None and row.reason == _R.REASON_OUTCOME_UNKNOWN

    return Step("void", GATEWAY + "ReverseTransaction", _void, wanted=wanted, is_numbered=True)


def has_visit(context: Context) -> bool:
    """Whether a visit is open at 医保 that this command opened or took over."""
    return bool(context.record.mdtrt_id) and (context.may_be_done("visit") or takes_over(context))


def has_fees(context: Context) -> bool:
    return bool(context.record.mdtrt_id) and (context.may_be_done("fees") or takes_over(context))


def settlement_of(
    context: Context, state: insurance_pb2.InsuranceState.ValueType, *, setl_id: str = ""
) -> insurance_pb2.InsuranceSettlement:
    """The sealed record as the contract shows it."""
    record = context.record
    found = insurance_pb2.InsuranceSettlement(
        order_no=context.order_no,
        mdtrt_id=record.mdtrt_id,
        setl_id=setl_id,
        insutype=record.insutype,
        state=state,
        split=record.split,
    )
    if setl_id and record.HasField("settle_time"):
        found.settle_time.CopyFrom(record.settle_time)
    return found
