"""DeskService: what window programs tell (``sync.desk``), in the messages of the contract."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final, Protocol

from google.protobuf.message import Message
from his160.v1 import common_pb2, desk_pb2, payment_pb2

from agent.handler import CallContext, Handler
from sync.desk import Told
from sync.notice import NoticeKind

_ADVICE: Final = {
    desk_pb2.REFUND_PAYER_UNSPECIFIED: "请勿退现金；暂时查不到支付方式，请稍后用同一请求号再问",
    desk_pb2.REFUND_PAYER_PLATFORM: "请勿退现金；160 收到通知后原路退回",
    desk_pb2.REFUND_PAYER_HOSPITAL: (
        "请勿退现金；款项在医院自己的商户号，由 HIS 退费或财务在商户平台原路退回，代理和 160 不发起"
    ),
    desk_pb2.REFUND_PAYER_ACCEPTED: "请勿退现金；支付方已受理原路退款",
}


class Notices(Protocol):
    """``sync.desk.Desk``."""

    async def tell(self, kind: NoticeKind, request: Any, *, window: str, deadline: float) -> Told: ...

    async def order(self, request: desk_pb2.GetOrderRequest, *, deadline: float) -> common_pb2.Appointment: ...


def desk_handlers(desk: Notices, patience: timedelta) -> Mapping[str, Handler]:
    """All handlers, by operation name. ``patience``: of a window that says no deadline, or a later one."""

    def until(context: CallContext) -> float:
        own = time.monotonic() + patience.total_seconds()
        return own if context.deadline is None else min(own, context.deadline)

    def telling(kind: NoticeKind, answer: Callable[[Any, Told], Message]) -> Handler:
        async def handle(request: Message, context: CallContext) -> Message:
            return answer(
                request, await desk.tell(kind, request, window=str(context.identity), deadline=until(context))
            )

        return handle

    async def get_order(request: Message, context: CallContext) -> Message:
        assert isinstance(request, desk_pb2.GetOrderRequest)
        return desk_pb2.GetOrderResponse(appointment=await desk.order(request, deadline=until(context)))

    return {
        "DeskService.CancelOnSite": telling(NoticeKind.CANCEL, _plain(desk_pb2.CancelOnSiteResponse)),
        "DeskService.RefundOnSite": telling(NoticeKind.REFUND, _refund),
        "DeskService.SuspendSchedule": telling(NoticeKind.SUSPEND, _sessions),
        "DeskService.ReplaceDoctor": telling(NoticeKind.REPLACE, _plain(desk_pb2.ReplaceDoctorResponse)),
        "DeskService.CheckIn": telling(NoticeKind.CHECK_IN, _plain(desk_pb2.CheckInResponse)),
        "DeskService.GetOrder": get_order,
    }


def _plain(kind: Callable[..., Message]) -> Callable[[Any, Told], Message]:
    return lambda request, told: kind(acceptance=told.acceptance)


def _refund(request: desk_pb2.RefundOnSiteRequest, told: Told) -> Message:
    """The refund as the HIS shows it. PROCESSING: 160 gives the money back, or the payment house has taken it on."""
    answer = desk_pb2.RefundOnSiteResponse(acceptance=told.acceptance, payer=told.payer, advice=_ADVICE[told.payer])
    refund = answer.refund
    refund.state = payment_pb2.REFUND_STATE_UNSPECIFIED
    if told.payer in (desk_pb2.REFUND_PAYER_PLATFORM, desk_pb2.REFUND_PAYER_ACCEPTED):
        refund.state = payment_pb2.REFUND_STATE_PROCESSING
    refund.amount_fen = request.amount_fen
    refund.refund_receipt_no = request.refund_receipt_no
    refund.order_no, refund.appointment_id = request.order_no, request.appointment_id
    for found in told.found:
        if isinstance(found, common_pb2.Appointment):
            refund.order_no, refund.appointment_id = found.order_no, found.appointment_id
            refund.out_trade_no, refund.out_refund_no = found.out_trade_no, found.out_refund_no
            if found.state == common_pb2.APPOINTMENT_STATE_REFUNDED:
                if told.payer != desk_pb2.REFUND_PAYER_HOSPITAL:  # there the red row says nothing about the money
                    refund.state = payment_pb2.REFUND_STATE_DONE
                refund.refund_receipt_no = found.refund_receipt_no or request.refund_receipt_no
    return answer


def _sessions(request: desk_pb2.SuspendScheduleRequest, told: Told) -> Message:
    """The sessions that the HIS shows as stopped; the others are followed until it does."""
    stopped = [
        found
        for found in told.found
        if isinstance(found, common_pb2.Schedule) and found.state == common_pb2.SCHEDULE_STATE_SUSPENDED
    ]
    return desk_pb2.SuspendScheduleResponse(acceptance=told.acceptance, schedules=stopped)
