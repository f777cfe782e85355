"""Reading the answers of probes at the payment house, at 医保 and of insured visits. As ``sync/judgements.py``.

Where a wrong NOT_DONE could move money twice, doubt is OTHER, never NOT_DONE. States of the mobile payment centre that
are not in a list here fail closed: neither success nor refundable (facts 2.4).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta, timezone
from typing import Final

from his160.site.v1 import insurance_gateway_pb2, merchant_pb2, mobile_payment_pb2, registration_pb2
from his160.v1 import appointment_pb2, payment_pb2, reason_pb2

from sync import order
from sync.verdict import NOT_DONE, Verdict, done, other, refused

CHINA: Final = timezone(timedelta(hours=8))  # no summer time since 1991

_gateway = insurance_gateway_pb2
_mobile = mobile_payment_pb2

MOBILE_SETTLED: Final = frozenset(
    {
        _mobile.MOBILE_ORDER_STATE_INSURANCE_DONE,
        _mobile.MOBILE_ORDER_STATE_HOSPITAL_DONE,
        _mobile.MOBILE_ORDER_STATE_DONE,
    }
)
"""医保 has paid its part: a candidate for success, to be verified by amounts."""
MOBILE_WAITING: Final = frozenset({_mobile.MOBILE_ORDER_STATE_SAVED, _mobile.MOBILE_ORDER_STATE_QUOTED})
MOBILE_GIVEN_BACK: Final = frozenset(
    {
        _mobile.MOBILE_ORDER_STATE_REFUNDED,
        _mobile.MOBILE_ORDER_STATE_INSURANCE_REFUNDED,
        _mobile.MOBILE_ORDER_STATE_INSURANCE_REFUNDED_CASH_PARTLY,
        _mobile.MOBILE_ORDER_STATE_INSURANCE_CANCELLED,
    }
)
MOBILE_FAILED: Final = frozenset({_mobile.MOBILE_ORDER_STATE_CANCELLED, _mobile.MOBILE_ORDER_STATE_FAILED})

_REFUND_STATES: Final = frozenset(
    {payment_pb2.REFUND_STATE_PROCESSING, payment_pb2.REFUND_STATE_DONE, payment_pb2.REFUND_STATE_ABNORMAL}
)


def trade_refund(request: merchant_pb2.RefundTradeRequest, answer: merchant_pb2.QueryRefundResponse | None) -> Verdict:
    """By ``out_refund_no``. Not found: the same number may be sent again (facts 3.3)."""
    if answer is None:
        return NOT_DONE
    found = answer.refund
    if found.out_trade_no and found.out_trade_no != request.out_trade_no:
        return refused(reason_pb2.REASON_PAYMENT_NUMBER_REUSED, "the refund number belongs to another payment")
    if found.state not in _REFUND_STATES:
        return other("the payment house does not say what became of the refund")
    if found.amount_fen != request.refund_fen:
        return other("the payment house holds another amount for this refund")
    return done(merchant_pb2.RefundTradeResponse(refund=found))


def mixed_trade(
    request: merchant_pb2.OpenMixedTradeRequest, answer: merchant_pb2.QueryMixedTradeResponse | None
) -> Verdict:
    """By ``out_trade_no``: the same number is one trade."""
    if answer is None:
        return NOT_DONE
    return done(merchant_pb2.OpenMixedTradeResponse(trade=answer.trade))


def visit(request: _gateway.OpenVisitRequest, answer: _gateway.QueryVisitResponse | None) -> Verdict:
    """By the visit's number in the HIS (5201)."""
    if answer is None or not answer.mdtrt_id:
        return NOT_DONE
    return done(_gateway.OpenVisitResponse(mdtrt_id=answer.mdtrt_id))


def live_settlement(found: Iterable[_gateway.SettlementRecord]) -> _gateway.SettlementRecord | None:
    """The settlement that stands, of those of one visit (newest last): one that no later negative one took back."""
    standing: _gateway.SettlementRecord | None = None
    for record in found:
        standing = None if is_negative(record) else record
    return standing


def is_negative(record: _gateway.SettlementRecord) -> bool:
    """Whether it is the counter-entry of 2208."""
    return record.amounts.medfee_sumamt_fen < 0 or record.split.total_fen < 0


def settlement(request: _gateway.SettleRequest, answer: _gateway.QuerySettlementResponse | None) -> Verdict:
    """By the visit. One that was taken back since is no settlement. Amounts are compared by the saga."""
    if answer is None:
        return NOT_DONE
    found = live_settlement(answer.settlements)
    if found is not None:
        return done(_gateway.SettleResponse(settlement=found))
    return other("the settlement was taken back") if answer.settlements else NOT_DONE


def reversal(request: _gateway.CancelSettlementRequest, answer: _gateway.QuerySettlementResponse | None) -> Verdict:
    """By the visit: the negative settlement, where the last word is a negative one."""
    if answer is None or not answer.settlements:
        return other("the settlement to be undone is not known at 医保")
    if live_settlement(answer.settlements) is not None:
        return NOT_DONE
    return done(_gateway.CancelSettlementResponse(settlement=answer.settlements[-1]))


def mobile_upload(request: _mobile.UploadOrderRequest, answer: _mobile.QueryOrderResponse | None) -> Verdict:
    """By the hospital's number. The token of the lost answer is asked for again by the saga."""
    if answer is None:
        return NOT_DONE
    if answer.order.state not in MOBILE_WAITING:
        return other("the order at the centre is past its upload")
    return done(_mobile.UploadOrderResponse(pay_order_id=answer.order.pay_order_id))


def mobile_payment(request: _mobile.PayOrderRequest, answer: _mobile.QueryOrderResponse | None) -> Verdict:
    """By ``pay_order_id``."""
    if answer is None:
        return other("the order is not known at the centre any more")
    if answer.order.state in MOBILE_SETTLED:
        if not answer.order.HasField("split"):
            return other("the centre does not say who has paid which part")
        return done(_mobile.PayOrderResponse(order=answer.order))
    if answer.order.state in MOBILE_WAITING:
        return NOT_DONE
    if answer.order.state in MOBILE_FAILED:
        return refused(reason_pb2.REASON_INSURANCE_REFUSED, "the order is cancelled or has failed at the centre")
    return other("the order at the centre is neither paid nor unpaid")


def mobile_cancel(request: _mobile.CancelOrderRequest, answer: _mobile.QueryOrderResponse | None) -> Verdict:
    """By ``pay_order_id``. One that was paid is not cancelled, whoever paid it: never passed over."""
    if answer is None or answer.order.state in MOBILE_FAILED | MOBILE_GIVEN_BACK:
        return done(_mobile.CancelOrderResponse(pay_order_id=request.pay_order_id))
    if answer.order.state in MOBILE_WAITING:
        return NOT_DONE
    return other("the order at the centre is past its cancelling")


def mobile_refund(request: _mobile.RefundOrderRequest, answer: _mobile.QueryOrderResponse | None) -> Verdict:
    """By ``pay_order_id``."""
    if answer is None:
        return other("the order is not known at the centre any more")
    if answer.order.state in MOBILE_GIVEN_BACK:
        return done(_mobile.RefundOrderResponse(order=answer.order))
    if answer.order.state in MOBILE_SETTLED:
        return NOT_DONE
    return other("the order at the centre is neither paid nor given back")


def registration(
    request: registration_pb2.RegisterInsuredRequest, answer: registration_pb2.GetInsuredRegistrationResponse | None
) -> Verdict:
    """By the order."""
    if answer is None or not answer.settlement.setl_id:
        return NOT_DONE
    if answer.settlement.setl_id != request.settlement.setl_id:
        return refused(reason_pb2.REASON_ALREADY_PAID, "the order is registered with another settlement")
    response = registration_pb2.RegisterInsuredResponse()
    if answer.HasField("appointment"):
        response.appointment.CopyFrom(answer.appointment)
    return done(response)


def registration_by_order(
    request: registration_pb2.RegisterInsuredRequest, answer: appointment_pb2.GetAppointmentResponse | None
) -> Verdict:
    """The second witness: an order that is past payment is registered somehow, and a person must see with what."""
    unpaid = (order.LOCKED, order.BOOKED, order.CANCELLED, order.RELEASED)
    if answer is None or answer.appointment.state in unpaid:
        return NOT_DONE
    if answer.appointment.state == order.SUSPENDED and not answer.appointment.paid_fen:
        return NOT_DONE
    return other("the order is past payment, but the HIS does not show this settlement")


def red_row(
    request: registration_pb2.CancelInsuredRequest, answer: appointment_pb2.GetAppointmentResponse | None
) -> Verdict:
    """By the order."""
    if answer is None:
        return other("the order is not in the HIS any more")
    if answer.appointment.state in (order.REFUNDED, order.CANCELLED):
        return done(registration_pb2.CancelInsuredResponse(appointment=answer.appointment))
    return NOT_DONE
