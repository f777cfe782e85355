"""Reads that no single mapping answers: the HIS's word with the payment house's, 医保's and the agent's own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

from google.protobuf.message import Message
from his160.site.v1 import insurance_gateway_pb2, mobile_payment_pb2, registration_pb2
from his160.v1 import insurance_pb2, patient_pb2, payment_pb2, reason_pb2

from his_db.errors import HisRefused, OperationNotMapped
from sync import refunds
from sync.identity_document import RESIDENT
from sync.judgements_site import MOBILE_GIVEN_BACK, MOBILE_SETTLED, live_settlement
from sync.money_book import RefundProgress, RefundRow, SettlementRow, SettlementState
from sync.store import Store

GET_SETTLEMENT: Final = "InsuranceService.GetInsuranceSettlement"
GET_REFUND: Final = "PaymentService.GetRefund"
_FIND: Final = "PatientService.FindPatients"
_REGISTERED: Final = "InsuredRegistrationService.GetInsuredRegistration"
_QUERY: Final = "InsuranceGatewayService.QuerySettlement"
_ORDER: Final = "MobilePaymentService.QueryOrder"
_State = insurance_pb2.InsuranceState
_STATES: Final = {
    SettlementState.OPEN: insurance_pb2.INSURANCE_STATE_UNSPECIFIED,  # neither success nor refundable
    SettlementState.QUOTED: insurance_pb2.INSURANCE_STATE_QUOTED,
    SettlementState.SETTLED: insurance_pb2.INSURANCE_STATE_SETTLED,
    SettlementState.REVERSED: insurance_pb2.INSURANCE_STATE_REVERSED,
    SettlementState.VOIDED: insurance_pb2.INSURANCE_STATE_VOIDED,
    SettlementState.CLOSED: insurance_pb2.INSURANCE_STATE_VOIDED,
}


class ReadPort(Protocol):
    """The HIS, and whether it answers a read."""

    async def read(self, operation: str, request: Message, *, deadline: float | None = None) -> Message: ...

    def maps(self, operation: str, /) -> bool: ...


def is_composed(operation: str, maps: Callable[[str], bool]) -> bool:
    """Whether a read that the site does not map is answered all the same."""
    if operation == GET_SETTLEMENT:
        return maps(_REGISTERED) or maps(_QUERY) or maps(_ORDER)
    return operation == GET_REFUND and maps(refunds.QUERY_REFUND)


class ComposedReads:
    """Every read of the contract: the composed ones here, all others straight from the HIS. Raises HisError."""

    def __init__(self, his: ReadPort, store: Store, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._his = his
        self._store = store
        self._monotonic = monotonic

    async def read(self, operation: str, request: Message, *, deadline: float | None = None) -> Message:
        """The answer of a read. ``deadline``: a reading of the monotonic clock."""
        if isinstance(request, patient_pb2.FindPatientsRequest) and operation == _FIND:
            request = _with_document(request)
        elif isinstance(request, payment_pb2.GetRefundRequest) and operation == GET_REFUND:
            return await self._refund(request, deadline)
        elif isinstance(request, insurance_pb2.GetInsuranceSettlementRequest) and self._composes(operation):
            return await self._settlement(request, deadline)
        return await self._his.read(operation, request, deadline=deadline)

    def _composes(self, operation: str) -> bool:
        return not self._his.maps(operation) and is_composed(operation, self._his.maps)

    async def _refund(self, request: payment_pb2.GetRefundRequest, deadline: float | None) -> Message:
        """The HIS knows the red row, the payment house how far the money has come; each alone is half of it."""
        row = await self._store.read(lambda transaction: transaction.refunds.get(request.out_refund_no))
        try:
            answer = await self._his.read(GET_REFUND, request, deadline=deadline)
        except (HisRefused, OperationNotMapped) as error:
            if row is None or (isinstance(error, HisRefused) and error.reason != reason_pb2.REASON_REFUND_NOT_FOUND):
                raise
            return payment_pb2.GetRefundResponse(refund=_refund_of(row))
        assert isinstance(answer, payment_pb2.GetRefundResponse)
        if row is not None and row.state is not RefundProgress.DONE:
            shown = payment_pb2.GetRefundResponse()
            shown.CopyFrom(answer)  # the answer may be shared with others who read the same
            shown.refund.state = refunds.STATE[row.state]
            return shown
        return answer

    async def _settlement(
        self, request: insurance_pb2.GetInsuranceSettlementRequest, deadline: float | None
    ) -> insurance_pb2.GetInsuranceSettlementResponse:
        row = await self._store.read(
            lambda transaction: next(
                iter(
                    transaction.settlements.of_numbers(request.setl_id, request.mdtrt_id)
                    or transaction.settlements.of_order(request.order_no)
                ),
                None,
            )
        )
        if row is None:
            return await self._from_his(request, deadline)
        settlement = _shown(row)
        if row.state is SettlementState.SETTLED:
            settlement.state = await self._at_platform(row, deadline)
        return insurance_pb2.GetInsuranceSettlementResponse(settlement=settlement)

    async def _from_his(
        self, request: insurance_pb2.GetInsuranceSettlementRequest, deadline: float | None
    ) -> insurance_pb2.GetInsuranceSettlementResponse:
        if not self._his.maps(_REGISTERED) or not (request.order_no or request.setl_id):
            raise HisRefused(reason_pb2.REASON_PAYMENT_NOT_FOUND, "the agent knows no such settlement")
        wanted = registration_pb2.GetInsuredRegistrationRequest(order_no=request.order_no, setl_id=request.setl_id)
        found = await self._his.read(_REGISTERED, wanted, deadline=deadline)
        assert isinstance(found, registration_pb2.GetInsuredRegistrationResponse)
        record = found.settlement
        settlement = _of_record(record, insurance_pb2.INSURANCE_STATE_SETTLED)
        settlement.order_no = settlement.order_no or found.appointment.order_no or request.order_no
        return insurance_pb2.GetInsuranceSettlementResponse(settlement=settlement)

    async def _at_platform(self, row: SettlementRow, deadline: float | None) -> _State.ValueType:
        """What 医保 says of a settlement that stands as far as the agent knows; where it cannot be asked, that."""
        if row.pay_order_id and self._his.maps(_ORDER):
            wanted = mobile_payment_pb2.QueryOrderRequest(pay_order_id=row.pay_order_id)
            order = await self._his.read(_ORDER, wanted, deadline=deadline)
            assert isinstance(order, mobile_payment_pb2.QueryOrderResponse)
            if order.order.state in MOBILE_SETTLED:
                return insurance_pb2.INSURANCE_STATE_SETTLED
            given_back = order.order.state in MOBILE_GIVEN_BACK
            return insurance_pb2.INSURANCE_STATE_REVERSED if given_back else insurance_pb2.INSURANCE_STATE_UNSPECIFIED
        if row.pay_order_id or not self._his.maps(_QUERY):
            return insurance_pb2.INSURANCE_STATE_SETTLED
        record = insurance_gateway_pb2.SettlementRecord.FromString(row.record)
        query = insurance_gateway_pb2.QuerySettlementRequest(
            person_no=record.person_no, insured_area=record.insured_area, mdtrt_id=record.mdtrt_id
        )
        found = await self._his.read(_QUERY, query, deadline=deadline)
        assert isinstance(found, insurance_gateway_pb2.QuerySettlementResponse)
        standing = live_settlement(found.settlements)
        return insurance_pb2.INSURANCE_STATE_SETTLED if standing else insurance_pb2.INSURANCE_STATE_REVERSED


def _with_document(request: patient_pb2.FindPatientsRequest) -> patient_pb2.FindPatientsRequest:
    """Numbers in the form in which records are made: letters in upper case, 居民身份证 where no type is said."""
    if not request.document_no:
        return request
    copy = patient_pb2.FindPatientsRequest()
    copy.CopyFrom(request)
    copy.document_no = request.document_no.strip().upper()
    copy.document_type = request.document_type or RESIDENT
    return copy


def _refund_of(row: RefundRow) -> payment_pb2.Refund:
    refund = payment_pb2.Refund(
        out_refund_no=row.out_refund_no,
        out_trade_no=row.out_trade_no,
        order_no=row.order_key,
        state=refunds.STATE[row.state],
        amount_fen=row.amount_fen,
    )
    if row.state is RefundProgress.DONE and row.final_time is not None:
        refund.refund_time.FromDatetime(row.final_time)
    return refund


def _shown(row: SettlementRow) -> insurance_pb2.InsuranceSettlement:
    record = insurance_gateway_pb2.SettlementRecord.FromString(row.record)
    return _of_record(record, _STATES[row.state])


def _of_record(
    record: insurance_gateway_pb2.SettlementRecord, state: _State.ValueType
) -> insurance_pb2.InsuranceSettlement:
    settlement = insurance_pb2.InsuranceSettlement(
        order_no=record.order_no,
        mdtrt_id=record.mdtrt_id,
        setl_id=record.setl_id,
        insutype=record.insutype,
        state=state,
        split=record.split,
    )
    if record.HasField("settle_time"):
        settlement.settle_time.CopyFrom(record.settle_time)
    return settlement
