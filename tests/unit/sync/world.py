"""A hospital in memory with a payment house and 医保 beside its HIS: each keeps its own book, and counts what it really did.

Faults strike one call: before the other side has it, or after it has done it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import Message
from his160.site.v1 import insurance_gateway_pb2 as gateway
from his160.site.v1 import merchant_pb2 as merchant
from his160.site.v1 import mobile_payment_pb2 as mobile
from his160.site.v1 import registration_pb2 as registration
from his160.v1 import appointment_pb2, common_pb2, insurance_pb2, payment_pb2, reason_pb2

from his_db.contract import mappable_names
from his_db.errors import HisRefused, OperationNotMapped
from tests.unit.sync.bench import FEE, MemoryHis

CREATE = "PaymentService.CreatePayment"
QUOTE = "InsuranceService.QuoteInsurance"
SETTLE = "InsuranceService.SettleInsurance"
REVERSE = "InsuranceService.ReverseInsurance"
INSTITUTION = "H44030000001"
PERSON = "44030000000000000000000001"
# What the sagas take the place of.
SERVED = frozenset({CREATE, QUOTE, SETTLE, REVERSE, "InsuranceService.GetInsuranceSettlement"})
CENTRE = frozenset(name for name in mappable_names() if name.startswith("MobilePaymentService."))
GATEWAY = frozenset(name for name in mappable_names() if name.startswith("InsuranceGatewayService."))
S = common_pb2


@dataclass
class Trade:
    """A trade at the payment house. ``refunds``: amount in 分 by number."""

    amount: int
    state: int = payment_pb2.PAYMENT_STATE_UNPAID
    refunds: dict[str, int] = field(default_factory=dict)
    expire: datetime | None = None


@dataclass
class Visit:
    """A visit at 医保. ``settlements``: newest last, counter-entries among them; ``by_msgid``: of 2207A."""

    visit_no: str
    person: str
    is_open: bool = True
    lines: dict[str, int] = field(default_factory=dict)
    settlements: list[gateway.SettlementRecord] = field(default_factory=list)

    @property
    def standing(self) -> list[gateway.SettlementRecord]:
        negative = sum(found.split.total_fen < 0 for found in self.settlements)
        positive = [found for found in self.settlements if found.split.total_fen > 0]
        return positive[negative:]


class World(MemoryHis):
    """``variant``: ``gateway`` (national protocol), ``centre`` (mobile payment centre) or ``none``."""

    def __init__(self, variant: str = "gateway") -> None:
        super().__init__()
        left_out = {"gateway": CENTRE, "centre": GATEWAY, "none": CENTRE | GATEWAY}[variant]
        self.mapped = set(mappable_names()) - SERVED - left_out - {"RefundCheckService.CheckRefund"}
        self.trades: dict[str, Trade] = {}
        self.visits: dict[str, Visit] = {}
        self.centre: dict[str, mobile.MobileOrder] = {}
        self.insured: dict[str, gateway.SettlementRecord] = {}
        self.messages: dict[str, tuple[str, str]] = {}
        self.calls: Counter[str] = Counter()
        self.refuse: dict[str, HisRefused] = {}
        self.down: dict[str, Exception] = {}
        self.splits: dict[str, insurance_pb2.InsuranceSplit] = {}
        self.doctor_code = "D440300000001"
        self.person = PERSON
        self.name = "张三"
        self.refund_state = payment_pb2.REFUND_STATE_DONE
        self.clock: Any = lambda: datetime(2026, 11, 23, 1, 0, tzinfo=UTC)

    def maps(self, operation: str) -> bool:
        return operation in self.mapped

    async def write(self, operation: str, request: Message, *, key: str, deadline: float | None = None) -> Message:
        if operation not in self.mapped:
            raise OperationNotMapped(operation)
        self.calls[operation] += 1
        return await super().write(operation, request, key=key, deadline=deadline)

    async def read(self, operation: str, request: Message, *, deadline: float | None = None) -> Message:
        if operation not in self.mapped:
            raise OperationNotMapped(operation)
        if operation in self.down:
            raise self.down[operation]
        self.calls[operation] += 1
        return await super().read(operation, request, deadline=deadline)

    def pay(self, number: str, amount: int = FEE) -> None:
        """The patient pays a trade."""
        trade = self.trades.setdefault(number, Trade(amount))
        assert trade.state == payment_pb2.PAYMENT_STATE_UNPAID
        trade.state = payment_pb2.PAYMENT_STATE_PAID

    def _read(self, operation: str, request: Any) -> Message:
        found = _READS.get(operation)
        return super()._read(operation, request) if found is None else found(self, request)

    def _write(self, operation: str, request: Any) -> Message:
        if operation in self.down:
            raise self.down[operation]
        if operation in self.refuse:
            raise self.refuse[operation]
        self._check_msgid(operation, request)
        found = _WRITES.get(operation)
        return super()._write(operation, request) if found is None else found(self, request)

    def _check_msgid(self, operation: str, request: Any) -> None:
        """医保 takes a msgid for one transaction only; the same one again is the same transaction."""
        if "msgid" not in request.DESCRIPTOR.fields_by_name:
            return
        assert len(request.msgid) == 30, request.msgid
        assert request.msgid.startswith(INSTITUTION)
        mine = (operation, request.request_id)
        assert self.messages.setdefault(request.msgid, mine) == mine, "a msgid came twice"

    # --- payment house ---

    def query_trade(self, request: merchant.QueryTradeRequest) -> Message:
        trade = self.trades.get(request.out_trade_no)
        if trade is None:
            raise HisRefused(reason_pb2.REASON_PAYMENT_NOT_FOUND, "no such trade")
        found = merchant.Trade(
            out_trade_no=request.out_trade_no,
            transaction_id="wx" + request.out_trade_no if trade.state == payment_pb2.PAYMENT_STATE_PAID else "",
            state=payment_pb2.PAYMENT_STATE_REFUNDED if trade.refunds else trade.state,  # type: ignore[arg-type]
            amount_fen=trade.amount,
        )
        return merchant.QueryTradeResponse(trade=found)

    def open_trade(self, request: merchant.OpenTradeRequest) -> Message:
        assert request.payer_openid
        trade = self.trades.setdefault(request.out_trade_no, Trade(request.amount_fen))
        if trade.state != payment_pb2.PAYMENT_STATE_UNPAID:
            raise HisRefused(reason_pb2.REASON_ALREADY_PAID, "paid or closed")
        trade.expire = request.expire_time.ToDatetime(tzinfo=UTC)
        response = merchant.OpenTradeResponse(out_trade_no=request.out_trade_no, pay_parameters={"package": "prepay"})
        response.expire_time.CopyFrom(request.expire_time)
        return response

    def close_trade(self, request: merchant.CloseTradeRequest) -> Message:
        trade = self.trades.get(request.out_trade_no)
        if trade is not None and trade.state == payment_pb2.PAYMENT_STATE_PAID:
            raise HisRefused(reason_pb2.REASON_ALREADY_PAID, "paid")
        if trade is not None:
            trade.state = payment_pb2.PAYMENT_STATE_CLOSED
        return merchant.CloseTradeResponse(out_trade_no=request.out_trade_no)

    def refund_trade(self, request: merchant.RefundTradeRequest) -> Message:
        trade = self.trades[request.out_trade_no]
        if trade.state != payment_pb2.PAYMENT_STATE_PAID:
            raise HisRefused(reason_pb2.REASON_NOT_PAID, "not paid")
        if request.out_refund_no not in trade.refunds:
            assert request.total_fen == trade.amount
            if sum(trade.refunds.values()) + request.refund_fen > trade.amount:
                raise HisRefused(reason_pb2.REASON_ALREADY_REFUNDED, "more than was paid")
            trade.refunds[request.out_refund_no] = request.refund_fen
            self.effects["cash back", request.out_trade_no] += 1
        return merchant.RefundTradeResponse(refund=self._trade_refund(request.out_refund_no))

    def _trade_refund(self, number: str) -> merchant.TradeRefund:
        for trade_no, trade in self.trades.items():
            if number in trade.refunds:
                return merchant.TradeRefund(
                    out_refund_no=number,
                    out_trade_no=trade_no,
                    state=self.refund_state,
                    amount_fen=trade.refunds[number],
                )
        raise HisRefused(reason_pb2.REASON_REFUND_NOT_FOUND, "no such refund")

    def query_refund(self, request: merchant.QueryRefundRequest) -> Message:
        return merchant.QueryRefundResponse(refund=self._trade_refund(request.out_refund_no))

    # --- 医保 ---

    def split(self, order_no: str) -> insurance_pb2.InsuranceSplit:
        return self.splits.get(order_no) or split()

    def get_person(self, request: gateway.GetPersonRequest) -> Message:
        assert request.credential.certificate_no
        return gateway.GetPersonResponse(
            person_no=self.person,
            name=self.name,
            insurances=[gateway.PersonInsurance(insutype="310", status="1", insured_area="440300")],
        )

    def open_visit(self, request: gateway.OpenVisitRequest) -> Message:
        assert request.person_no
        same = [key for key, visit in self.visits.items() if visit.visit_no == request.visit_no and visit.is_open]
        assert not same, "the patient has two open visits at 医保"
        key = f"M{len(self.visits) + 1}"
        self.visits[key] = Visit(request.visit_no, request.person_no)
        return gateway.OpenVisitResponse(mdtrt_id=key, sign_no="SIGN")

    def query_visit(self, request: gateway.QueryVisitRequest) -> Message:
        assert request.person_no
        for key, visit in self.visits.items():
            if visit.visit_no == request.visit_no and visit.is_open:
                return gateway.QueryVisitResponse(mdtrt_id=key)
        return gateway.QueryVisitResponse()

    def cancel_visit(self, request: gateway.CancelVisitRequest) -> Message:
        visit = self.visits[request.mdtrt_id]
        assert request.person_no == visit.person
        if visit.standing:
            raise HisRefused(reason_pb2.REASON_INSURANCE_REFUSED, "settled")
        visit.is_open = False
        return gateway.CancelVisitResponse(mdtrt_id=request.mdtrt_id)

    def upload_visit(self, request: gateway.UploadVisitRequest) -> Message:
        assert self.visits[request.mdtrt_id].is_open
        assert request.medical_type
        return gateway.UploadVisitResponse(mdtrt_id=request.mdtrt_id)

    def upload_fees(self, request: gateway.UploadFeesRequest) -> Message:
        visit = self.visits[request.mdtrt_id]
        assert visit.is_open
        if request.batch_no in visit.lines:
            raise HisRefused(reason_pb2.REASON_INSURANCE_REFUSED, "the lines were uploaded before")
        visit.lines[request.batch_no] = sum(item.amount_fen for item in request.items)
        return gateway.UploadFeesResponse(inscp_scp_amt_fen=visit.lines[request.batch_no])

    def cancel_fees(self, request: gateway.CancelFeesRequest) -> Message:
        visit = self.visits[request.mdtrt_id]
        if visit.standing:
            raise HisRefused(reason_pb2.REASON_INSURANCE_REFUSED, "settled")
        visit.lines.pop(request.batch_no, None)
        return gateway.CancelFeesResponse(mdtrt_id=request.mdtrt_id)

    def _settlement(self, subject: gateway.SettlementSubject) -> gateway.SettlementRecord:
        visit = self.visits[subject.mdtrt_id]
        assert visit.is_open
        assert visit.lines.get(subject.batch_no) == subject.total_fen, "the lines are not those of the settlement"
        assert subject.credential.certificate_no
        found = self.split(visit.visit_no)
        amounts = gateway.SettlementAmounts(
            medfee_sumamt_fen=found.total_fen,
            hifp_pay_fen=found.fund_fen,
            fund_pay_sumamt_fen=found.fund_fen,
            psn_part_amt_fen=found.account_fen + found.cash_fen,
            acct_pay_fen=found.account_fen,
            acct_mulaid_pay_fen=found.family_account_fen,
            psn_cash_pay_fen=found.cash_fen,
            hosp_part_amt_fen=found.hospital_fen,
        )
        return gateway.SettlementRecord(
            person_no=subject.person_no, mdtrt_id=subject.mdtrt_id, insutype="310", split=found, amounts=amounts
        )

    def pre_settle(self, request: gateway.PreSettleRequest) -> Message:
        return gateway.PreSettleResponse(settlement=self._settlement(request.subject))

    def settle(self, request: gateway.SettleRequest) -> Message:
        visit = self.visits[request.subject.mdtrt_id]
        assert not visit.standing, "settled twice"
        found = self._settlement(request.subject)
        found.setl_id, found.settle_msgid = f"S{len(self.messages)}", request.msgid
        visit.settlements.append(found)
        self.effects["settled", visit.visit_no] += 1
        return gateway.SettleResponse(settlement=found)

    def cancel_settlement(self, request: gateway.CancelSettlementRequest) -> Message:
        visit = self.visits[request.mdtrt_id]
        standing = [found for found in visit.standing if found.setl_id == request.setl_id]
        if not standing:
            raise HisRefused(reason_pb2.REASON_INSURANCE_REFUSED, "not settled, or undone before")
        negative = gateway.SettlementRecord(setl_id="-" + request.setl_id, mdtrt_id=request.mdtrt_id)
        for mine, other in ((negative.split, standing[0].split), (negative.amounts, standing[0].amounts)):
            for described, value in other.ListFields():
                setattr(mine, described.name, -value)
        visit.settlements.append(negative)
        return gateway.CancelSettlementResponse(settlement=negative)

    def reverse_transaction(self, request: gateway.ReverseTransactionRequest) -> Message:
        assert request.original_infno == "2207A"
        for visit in self.visits.values():
            visit.settlements = [found for found in visit.settlements if found.settle_msgid != request.original_msgid]
        return gateway.ReverseTransactionResponse(original_msgid=request.original_msgid)

    def query_settlement(self, request: gateway.QuerySettlementRequest) -> Message:
        assert request.person_no
        return gateway.QuerySettlementResponse(settlements=self.visits[request.mdtrt_id].settlements)

    # --- mobile payment centre ---

    def upload_order(self, request: mobile.UploadOrderRequest) -> Message:
        key = "C" + request.hospital_order_no
        same = [order for order in self.centre.values() if order.hospital_order_no == request.hospital_order_no]
        if not same:
            self.centre[key] = mobile.MobileOrder(
                pay_order_id=key,
                hospital_order_no=request.hospital_order_no,
                state=mobile.MOBILE_ORDER_STATE_QUOTED,
                split=self.split(request.visit_no),
            )
        return mobile.UploadOrderResponse(pay_order_id=key, pay_token="token")

    def query_order(self, request: mobile.QueryOrderRequest) -> Message:
        for order in self.centre.values():
            if request.pay_order_id == order.pay_order_id or request.hospital_order_no == order.hospital_order_no:
                return mobile.QueryOrderResponse(order=order)
        raise HisRefused(reason_pb2.REASON_PAYMENT_NOT_FOUND, "no such order")

    def pay_order(self, request: mobile.PayOrderRequest) -> Message:
        assert request.pay_auth_no
        order = self.centre[request.pay_order_id]
        if order.state != mobile.MOBILE_ORDER_STATE_QUOTED:
            raise HisRefused(reason_pb2.REASON_INSURANCE_REFUSED, "not waiting for payment")
        order.state = mobile.MOBILE_ORDER_STATE_INSURANCE_DONE
        order.setl_id, order.mdtrt_id = "S" + order.pay_order_id, "M" + order.pay_order_id
        self.effects["settled", order.pay_order_id] += 1
        return mobile.PayOrderResponse(order=order)

    def refund_order(self, request: mobile.RefundOrderRequest) -> Message:
        order = self.centre[request.pay_order_id]
        if order.state == mobile.MOBILE_ORDER_STATE_INSURANCE_DONE:
            order.state = mobile.MOBILE_ORDER_STATE_INSURANCE_REFUNDED
        elif order.state != mobile.MOBILE_ORDER_STATE_INSURANCE_REFUNDED:
            raise HisRefused(reason_pb2.REASON_INSURANCE_REFUSED, "not paid")
        return mobile.RefundOrderResponse(order=order)

    def cancel_order(self, request: mobile.CancelOrderRequest) -> Message:
        order = self.centre[request.pay_order_id]
        if order.state not in (mobile.MOBILE_ORDER_STATE_QUOTED, mobile.MOBILE_ORDER_STATE_CANCELLED):
            raise HisRefused(reason_pb2.REASON_INSURANCE_REFUSED, "paid")
        order.state = mobile.MOBILE_ORDER_STATE_CANCELLED
        return mobile.CancelOrderResponse(pay_order_id=request.pay_order_id)

    # --- insured registration in the HIS ---

    def insurance_order(self, request: registration.GetInsuranceOrderRequest) -> Message:
        order = self._order(request.order_no)
        found = registration.InsuranceOrder(
            order_no=order.order_no,
            appointment_id=order.appointment_id,
            visit_no=order.order_no,
            state=order.state,
            patient_name="张三",
            document_type="01",
            document_no="11010519491231002X",
            department_code="A03",
            department_name="内科",
            specialty_code="A03",
            doctor_code=self.doctor_code,
            doctor_name="李四",
            total_fen=order.total_fen,
        )
        found.items.add(item_id="1", national_code="001102000010000", amount_fen=order.total_fen - 500)
        found.items.add(item_id="2", national_code="001102000020000", amount_fen=500)
        return registration.GetInsuranceOrderResponse(order=found)

    def register_insured(self, request: registration.RegisterInsuredRequest) -> Message:
        order = self._order(request.order_no)
        assert request.settlement.setl_id
        assert request.settlement.split.total_fen == order.total_fen
        if order.state != S.APPOINTMENT_STATE_BOOKED:
            raise HisRefused(reason_pb2.REASON_ALREADY_PAID, "not waiting for payment")
        self.effects["registered", request.order_no] += 1
        order.state = S.APPOINTMENT_STATE_PAID
        order.paid_fen = order.total_fen
        order.out_trade_no = request.out_trade_no
        self.insured[request.order_no] = request.settlement
        return registration.RegisterInsuredResponse(appointment=order)

    def insured_registration(self, request: registration.GetInsuredRegistrationRequest) -> Message:
        for order_no, found in self.insured.items():
            if order_no == request.order_no or (request.setl_id and found.setl_id == request.setl_id):
                return registration.GetInsuredRegistrationResponse(settlement=found, appointment=self.orders[order_no])
        raise HisRefused(reason_pb2.REASON_APPOINTMENT_NOT_FOUND, "not registered")

    def cancel_insured(self, request: registration.CancelInsuredRequest) -> Message:
        order = self._order(request.order_no)
        if order.state != S.APPOINTMENT_STATE_PAID:
            raise HisRefused(reason_pb2.REASON_ALREADY_REFUNDED, "not paid any more")
        assert self.insured[request.order_no].setl_id == request.setl_id
        self.effects["red row", request.order_no] += 1
        order.state = S.APPOINTMENT_STATE_REFUNDED
        order.refunded_fen = order.paid_fen
        order.out_refund_no = request.out_refund_no
        return registration.CancelInsuredResponse(appointment=order)


_READS: dict[str, Any] = {
    "MerchantService.QueryTrade": World.query_trade,
    "MerchantService.QueryRefund": World.query_refund,
    "InsuranceGatewayService.GetPerson": World.get_person,
    "InsuranceGatewayService.QueryVisit": World.query_visit,
    "InsuranceGatewayService.QuerySettlement": World.query_settlement,
    "MobilePaymentService.QueryOrder": World.query_order,
    "InsuredRegistrationService.GetInsuranceOrder": World.insurance_order,
    "InsuredRegistrationService.GetInsuredRegistration": World.insured_registration,
}
_WRITES: dict[str, Any] = {
    "MerchantService.OpenTrade": World.open_trade,
    "MerchantService.CloseTrade": World.close_trade,
    "MerchantService.RefundTrade": World.refund_trade,
    "InsuranceGatewayService.OpenVisit": World.open_visit,
    "InsuranceGatewayService.CancelVisit": World.cancel_visit,
    "InsuranceGatewayService.UploadVisit": World.upload_visit,
    "InsuranceGatewayService.UploadFees": World.upload_fees,
    "InsuranceGatewayService.CancelFees": World.cancel_fees,
    "InsuranceGatewayService.PreSettle": World.pre_settle,
    "InsuranceGatewayService.Settle": World.settle,
    "InsuranceGatewayService.CancelSettlement": World.cancel_settlement,
    "InsuranceGatewayService.ReverseTransaction": World.reverse_transaction,
    "MobilePaymentService.UploadOrder": World.upload_order,
    "MobilePaymentService.PayOrder": World.pay_order,
    "MobilePaymentService.RefundOrder": World.refund_order,
    "MobilePaymentService.CancelOrder": World.cancel_order,
    "InsuredRegistrationService.RegisterInsured": World.register_insured,
    "InsuredRegistrationService.CancelInsured": World.cancel_insured,
}


def split(total: int = FEE, fund: int = 1500, account: int = 400, cash: int = 600) -> insurance_pb2.InsuranceSplit:
    return insurance_pb2.InsuranceSplit(total_fen=total, fund_fen=fund, account_fen=account, cash_fen=cash)


def credential() -> insurance_pb2.InsuranceCredential:
    return insurance_pb2.InsuranceCredential(
        certificate_type="01", certificate_no="TOKEN-1", pay_auth_no="AUTH-1", insured_area="440300"
    )


def create(order_no: str = "T1", request_id: str = "w1", number: str = "W1") -> payment_pb2.CreatePaymentRequest:
    return payment_pb2.CreatePaymentRequest(
        request_id=request_id, order_no=order_no, out_trade_no=number, amount_fen=FEE, payer_openid="openid-1"
    )


def quote(order_no: str = "T1", request_id: str = "q1") -> insurance_pb2.QuoteInsuranceRequest:
    return insurance_pb2.QuoteInsuranceRequest(request_id=request_id, order_no=order_no, credential=credential())


def settle(
    order_no: str = "T1",
    request_id: str = "s1",
    number: str = "W1",
    agreed: insurance_pb2.InsuranceSplit | None = None,
) -> insurance_pb2.SettleInsuranceRequest:
    return insurance_pb2.SettleInsuranceRequest(
        request_id=request_id,
        order_no=order_no,
        credential=credential(),
        agreed_split=agreed or split(),
        out_trade_no=number,
    )


def reverse(setl_id: str, order_no: str = "T1", request_id: str = "v1") -> insurance_pb2.ReverseInsuranceRequest:
    return insurance_pb2.ReverseInsuranceRequest(request_id=request_id, order_no=order_no, setl_id=setl_id)


def get_appointment(order_no: str = "T1") -> appointment_pb2.GetAppointmentRequest:
    return appointment_pb2.GetAppointmentRequest(order_no=order_no)
