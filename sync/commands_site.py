"""The command table, second part: what the agent itself writes at the payment house, at 医保 and for an insured visit.

These are steps of sagas (``sync/sagas``): nobody can send them from outside. Each is a row of the ledger like any other
command, with a number of its own and a probe.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from his160.site.v1 import insurance_gateway_pb2, merchant_pb2, mobile_payment_pb2, registration_pb2

from sync import judgements_site as judge
from sync.command_entry import Command, Probe, by_order, number
from sync.order import OrderCommand

_gateway = insurance_gateway_pb2
_mobile = mobile_payment_pb2


def _merchant(name: str, *, by: str, probe: Probe | None = None) -> Command:
    return Command(
        operation=f"MerchantService.{name}",
        request_class=getattr(merchant_pb2, f"{name}Request"),
        response_class=getattr(merchant_pb2, f"{name}Response"),
        natural=number(by, by),
        essence=(by,),
        probes=() if probe is None else (probe,),
        replays=False,
    )


def _transaction(name: str, probe: Probe | None = None) -> Command:
    """One transaction of 医保; its msgid is its number, the same on every attempt where it can be asked for."""
    return Command(
        operation=f"InsuranceGatewayService.{name}",
        request_class=getattr(_gateway, f"{name}Request"),
        response_class=getattr(_gateway, f"{name}Response"),
        natural=number("msgid", "msgid"),
        essence=("msgid",),
        probes=() if probe is None else (probe,),
        replays=False,
        seals=True,
    )


def _centre(name: str, *, by: str, probe: Probe | None = None) -> Command:
    return Command(
        operation=f"MobilePaymentService.{name}",
        request_class=getattr(_mobile, f"{name}Request"),
        response_class=getattr(_mobile, f"{name}Response"),
        natural=number(by, by),
        essence=(by,),
        probes=() if probe is None else (probe,),
        replays=False,
        seals=True,
    )


def _settlement(read: Callable[[Any], Any]) -> Callable[[Any], _gateway.QuerySettlementRequest]:
    """The read 5203 of a visit; ``read`` gives the part of the request that names person and visit."""

    def request(command: Any) -> _gateway.QuerySettlementRequest:
        named = read(command)
        return _gateway.QuerySettlementRequest(
            person_no=named.person_no, insured_area=named.insured_area, mdtrt_id=named.mdtrt_id
        )

    return request


def _visit(command: Any) -> _gateway.QueryVisitRequest:
    request = _gateway.QueryVisitRequest(
        person_no=command.person_no, insured_area=command.insured_area, visit_no=command.visit_no
    )
    if command.HasField("begin_time"):
        # Hospital's wall clock in China; what is asked for is the day, and visits do not begin at night.
        begin = command.begin_time.ToDatetime(tzinfo=judge.CHINA)
        request.day.year, request.day.month, request.day.day = begin.year, begin.month, begin.day
    return request


def _order(read: str, judged: Callable[[Any, Any], Any]) -> Probe:
    return Probe(
        "MobilePaymentService.QueryOrder",
        lambda command: _mobile.QueryOrderRequest(
            **{read: getattr(command, read)}, pay_token=getattr(command, "pay_token", "")
        ),
        judged,
    )


SITE_COMMANDS: Final = (
    _merchant("OpenTrade", by="out_trade_no"),
    _merchant("CloseTrade", by="out_trade_no"),
    _merchant(
        "RefundTrade",
        by="out_refund_no",
        probe=Probe(
            "MerchantService.QueryRefund",
            lambda request: merchant_pb2.QueryRefundRequest(out_refund_no=request.out_refund_no),
            judge.trade_refund,
        ),
    ),
    _merchant(  # like NotifyInsuranceRefund used by no saga yet: docs/decisions/0020
        "OpenMixedTrade",
        by="out_trade_no",
        probe=Probe(
            "MerchantService.QueryMixedTrade",
            lambda request: merchant_pb2.QueryMixedTradeRequest(out_trade_no=request.out_trade_no),
            judge.mixed_trade,
        ),
    ),
    _merchant("NotifyInsuranceRefund", by="out_refund_no"),
    _transaction("SignIn"),
    _transaction("OpenVisit", Probe("InsuranceGatewayService.QueryVisit", _visit, judge.visit)),
    _transaction("CancelVisit"),
    _transaction("UploadVisit"),
    _transaction("UploadFees"),
    _transaction("CancelFees"),
    _transaction("PreSettle"),
    _transaction(
        "Settle",
        Probe(
            "InsuranceGatewayService.QuerySettlement", _settlement(lambda request: request.subject), judge.settlement
        ),
    ),
    _transaction(
        "CancelSettlement",
        Probe("InsuranceGatewayService.QuerySettlement", _settlement(lambda request: request), judge.reversal),
    ),
    _transaction("ReverseTransaction"),
    _centre("UploadOrder", by="hospital_order_no", probe=_order("hospital_order_no", judge.mobile_upload)),
    _centre("PayOrder", by="pay_order_id", probe=_order("pay_order_id", judge.mobile_payment)),
    _centre("RefundOrder", by="refund_no", probe=_order("pay_order_id", judge.mobile_refund)),
    _centre("CancelOrder", by="pay_order_id", probe=_order("pay_order_id", judge.mobile_cancel)),
    Command(
        operation="InsuredRegistrationService.RegisterInsured",
        request_class=registration_pb2.RegisterInsuredRequest,
        response_class=registration_pb2.RegisterInsuredResponse,
        natural=lambda request: f"setl_id:{request.settlement.setl_id}",
        essence=("order_no", "settlement"),
        order_command=OrderCommand.PAY,
        probes=(
            Probe(
                "InsuredRegistrationService.GetInsuredRegistration",
                lambda request: registration_pb2.GetInsuredRegistrationRequest(order_no=request.order_no),
                judge.registration,
            ),
            by_order(judge.registration_by_order),
        ),
        completes=True,
    ),
    Command(
        operation="InsuredRegistrationService.CancelInsured",
        request_class=registration_pb2.CancelInsuredRequest,
        response_class=registration_pb2.CancelInsuredResponse,
        natural=number("setl_id", "setl_id"),
        essence=("order_no", "setl_id"),
        order_command=OrderCommand.REFUND,
        probes=(by_order(judge.red_row),),
    ),
)
