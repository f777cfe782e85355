"""How to read the answers of probes: one function for each write operation and the read that resolves it.

Each gets the request of the command (without personal data, except what the probe needs) and the probe's answer, None
when the HIS knows no such thing. Where a wrong NOT_DONE could move money twice, doubt is OTHER, never NOT_DONE.
"""

from __future__ import annotations

from his160.v1 import appointment_pb2, common_pb2, insurance_pb2, patient_pb2, payment_pb2, reason_pb2

from sync import order
from sync.verdict import NOT_DONE, Verdict, done, other, refused

_UNPAID = (order.LOCKED, order.BOOKED)
_ENDED = {
    order.CANCELLED: reason_pb2.REASON_ALREADY_CANCELLED,
    order.REFUNDED: reason_pb2.REASON_ALREADY_REFUNDED,
}


def booking(
    request: appointment_pb2.BookAppointmentRequest, answer: appointment_pb2.GetAppointmentResponse | None
) -> Verdict:
    """Any state behind the hold means: it was booked (and may have moved on since).

    Unless it has ended: whether this request booked it, or an older one that was cancelled before, the HIS does not
    show, and a second booking could bring back what somebody has cancelled. Both mean that no order stands, so that is
    said: an answer with an order in it is taken for one that stands.
    """
    if answer is None or answer.appointment.state in (order.LOCKED, order.RELEASED):
        return NOT_DONE
    if answer.appointment.state in _ENDED:
        detail = "the order of this number has ended in the HIS; a new booking needs a new request_id"
        return refused(_ENDED[answer.appointment.state], detail)
    return done(appointment_pb2.BookAppointmentResponse(appointment=answer.appointment))


def cancellation(
    request: appointment_pb2.CancelAppointmentRequest, answer: appointment_pb2.GetAppointmentResponse | None
) -> Verdict:
    """A repeated cancellation has no second effect, so whatever is not cancelled may be asked for again."""
    if answer is None or answer.appointment.state not in (order.CANCELLED, order.REFUNDED, order.RELEASED):
        return NOT_DONE
    return done(appointment_pb2.CancelAppointmentResponse(appointment=answer.appointment))


def payment(request: payment_pb2.ConfirmPaymentRequest, answer: payment_pb2.GetPaymentResponse | None) -> Verdict:
    """By ``out_trade_no``. A payment since refunded was confirmed all the same."""
    if answer is None:
        return NOT_DONE
    found = answer.payment
    if found.order_no and found.order_no != request.order_no:
        return refused(reason_pb2.REASON_PAYMENT_NUMBER_REUSED, "the payment number belongs to another order")
    if found.state in (payment_pb2.PAYMENT_STATE_UNPAID, payment_pb2.PAYMENT_STATE_PAYING):
        return NOT_DONE
    if found.state not in (payment_pb2.PAYMENT_STATE_PAID, payment_pb2.PAYMENT_STATE_REFUNDED):
        return other("the payment is neither paid nor unpaid in the HIS")
    if found.amount_fen != request.amount_fen:
        return other("the HIS holds another amount for this payment")
    return done(payment_pb2.ConfirmPaymentResponse(payment=found))


def payment_by_order(
    request: payment_pb2.ConfirmPaymentRequest, answer: appointment_pb2.GetAppointmentResponse | None
) -> Verdict:
    """By the order itself: where payments cannot be read, and as the second witness that nothing was paid."""
    if answer is None:
        return NOT_DONE
    found = answer.appointment
    if found.out_trade_no == request.out_trade_no:
        if found.paid_fen not in (0, request.amount_fen):  # 0: a HIS without the amount in the order
            return other("the order holds another amount")
        return done(payment_pb2.ConfirmPaymentResponse(appointment=found))
    if found.out_trade_no:
        return refused(reason_pb2.REASON_ALREADY_PAID, "the order is paid under another payment number")
    if found.state in _UNPAID or found.state in (order.CANCELLED, order.RELEASED):
        return NOT_DONE
    if found.state == order.SUSPENDED and not found.paid_fen:
        return NOT_DONE
    return other("the order is past payment but names no payment number")


def refund(request: payment_pb2.RefundPaymentRequest, answer: payment_pb2.GetRefundResponse | None) -> Verdict:
    """By ``out_refund_no``. Accepted is done here: the state of the refund says how far the money has come."""
    if answer is None:
        return NOT_DONE
    found = answer.refund
    if found.order_no and found.order_no != request.order_no:
        return refused(reason_pb2.REASON_PAYMENT_NUMBER_REUSED, "the refund number belongs to another order")
    if found.state == payment_pb2.REFUND_STATE_UNSPECIFIED:
        return other("the HIS does not say what became of the refund")
    if abs(found.amount_fen) != request.amount_fen:  # red rows are negative in many HIS
        return other("the HIS holds another amount for this refund")
    return done(payment_pb2.RefundPaymentResponse(refund=found))


def refund_by_order(
    request: payment_pb2.RefundPaymentRequest, answer: appointment_pb2.GetAppointmentResponse | None
) -> Verdict:
    """By the order itself. Money that went back under no number may be ours or the window's: a person must look.

    An order that the HIS does not find it cannot refund either: a repetition is refused.
    """
    if answer is None:
        return NOT_DONE
    found = answer.appointment
    if found.out_refund_no == request.out_refund_no:
        return done(payment_pb2.RefundPaymentResponse(refund=_refund_of(found), appointment=found))
    if found.out_refund_no:
        return refused(reason_pb2.REASON_ALREADY_REFUNDED, "the order is refunded under another refund number")
    if found.state == order.REFUNDED or found.refunded_fen:
        return other("the order is refunded but names no refund number")
    return NOT_DONE


def _refund_of(found: common_pb2.Appointment) -> payment_pb2.Refund:
    refund = payment_pb2.Refund(
        out_refund_no=found.out_refund_no,
        out_trade_no=found.out_trade_no,
        order_no=found.order_no,
        appointment_id=found.appointment_id,
        state=payment_pb2.REFUND_STATE_DONE,
        amount_fen=found.refunded_fen,
        refund_receipt_no=found.refund_receipt_no,
    )
    if found.HasField("cancel_time"):
        refund.refund_time.CopyFrom(found.cancel_time)
    return refund


def settlement(
    request: insurance_pb2.SettleInsuranceRequest, answer: insurance_pb2.GetInsuranceSettlementResponse | None
) -> Verdict:
    """The insurance platform is not the HIS: what the HIS does not know may have happened there (facts 2.3)."""
    if answer is None:
        return other("no settlement is known, the insurance platform may hold one")
    found = answer.settlement
    if found.state == insurance_pb2.INSURANCE_STATE_SETTLED:
        if found.split.total_fen != request.agreed_split.total_fen:
            return other("the settlement has another total than the patient agreed to")
        return done(insurance_pb2.SettleInsuranceResponse(settlement=found))
    if found.state == insurance_pb2.INSURANCE_STATE_QUOTED:
        return NOT_DONE
    return other("the settlement is undone or of unknown state")


def reversal(
    request: insurance_pb2.ReverseInsuranceRequest, answer: insurance_pb2.GetInsuranceSettlementResponse | None
) -> Verdict:
    """By ``setl_id``."""
    if answer is None:
        return other("the settlement to be undone is not known")
    found = answer.settlement
    if found.state in (insurance_pb2.INSURANCE_STATE_REVERSED, insurance_pb2.INSURANCE_STATE_VOIDED):
        return done(insurance_pb2.ReverseInsuranceResponse(settlement=found))
    if found.state == insurance_pb2.INSURANCE_STATE_SETTLED:
        return NOT_DONE
    return other("the settlement is of unknown state")


def patient(request: patient_pb2.EnsurePatientRequest, answer: patient_pb2.FindPatientsResponse | None) -> Verdict:
    """By document. ``created`` stays false: whether this request or an older one made the record cannot be told."""
    if answer is None or not answer.patients:
        return NOT_DONE
    name = request.name.strip()
    for found in answer.patients:
        if found.name.strip() == name:
            return done(patient_pb2.EnsurePatientResponse(patient=found))
    return refused(reason_pb2.REASON_PATIENT_NAME_MISMATCH, "the document has another name in the HIS")
