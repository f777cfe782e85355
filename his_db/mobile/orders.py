"""Orders of the mobile payment centre: 6201, 6202, 6203, 6301, 6401 and the settlement call-back.

Source: 医保移动支付中心 接口规范; models of three provinces. Amounts are 元 on the wire. ordStas 0 to 17; what is not
in the table stays unspecified: neither success nor refundable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp
from his160.site.v1 import fee_pb2
from his160.site.v1 import mobile_payment_pb2 as pb
from his160.v1 import insurance_pb2, reason_pb2

from his_db.errors import HisRefused, OutcomeUnknown
from his_db.http_exchange import Exchanger
from his_db.mobile.exchange import Centre, invalid
from his_db.mobile.sealing import Seals
from his_db.money import yuan_of_fen
from his_db.reply_fields import Fields

_STATES: Final = {str(number): number + 1 for number in range(18)}
_TYPES: Final = {
    pb.MOBILE_REFUND_TYPE_ALL: ("ALL", pb.MOBILE_ORDER_STATE_REFUNDED),
    pb.MOBILE_REFUND_TYPE_CASH: ("CASH", pb.MOBILE_ORDER_STATE_CASH_REFUNDED),
    pb.MOBILE_REFUND_TYPE_INSURANCE: ("HI", pb.MOBILE_ORDER_STATE_INSURANCE_REFUNDED),
}
_PAID: Final = frozenset(
    {
        pb.MOBILE_ORDER_STATE_CASH_DONE,
        pb.MOBILE_ORDER_STATE_INSURANCE_DONE,
        pb.MOBILE_ORDER_STATE_HOSPITAL_DONE,
        pb.MOBILE_ORDER_STATE_DONE,
    }
)
_DOCUMENTS: Final[Mapping[str, str]] = {
    "01": "01",
    "02": "01",
    "03": "08",
    "04": "02",
    "06": "04",
    "07": "06",
    "99": "99",
}
_TRACE: Final = ("%Y%m%d%H%M%S", "%Y-%m-%d %H:%M:%S", "%Y%m%d%H%M%S%f")
_CANCELLED: Final = ("已撤销", "已取消")


@dataclass(frozen=True, slots=True)
class Orders:
    """The operations."""

    centre: Centre

    def upload(
        self, seals: Seals, exchanger: Exchanger, request: pb.UploadOrderRequest, now: datetime
    ) -> pb.UploadOrderResponse:
        """6201."""
        credential = request.credential
        if not credential.certificate_no and not credential.pay_auth_no:
            raise invalid("6201", "ecToken or payAuthNo is needed")
        if request.total_fen <= 0 or sum(item.amount_fen for item in request.items) != request.total_fen:
            raise invalid("6201", "total_fen is not the sum of the items", "AMOUNT_MISMATCH")
        answer = self.centre.ask(seals, exchanger, "6201", self._upload(request, now), now, is_read=False)
        return pb.UploadOrderResponse(
            pay_order_id=answer.need("payOrdId"), pay_token=answer.text("payToken"), mdtrt_id=answer.text("mdtrtId")
        )

    def pay(
        self, seals: Seals, exchanger: Exchanger, request: pb.PayOrderRequest, now: datetime
    ) -> pb.PayOrderResponse:
        """6202. Whether it is paid says ordStas, and the amounts with it."""
        if not request.pay_auth_no:
            raise invalid("6202", "payAuthNo is needed")
        options = self.centre.options
        data = {
            "payAuthNo": request.pay_auth_no,
            "payOrdId": request.pay_order_id,
            "payToken": request.pay_token,
            "setlLatlnt": request.geo_location,
            "orgCodg": options["org_code"],
            "orgBizSer": request.batch_no or request.pay_order_id,
            "chrgBchno": request.batch_no,
            "mdtrtId": request.mdtrt_id,
            "feeType": options["fee_type"],
            "acctUsedFlag": "1" if request.use_account else "0",
        }
        answer = self.centre.ask(seals, exchanger, "6202", data, now, is_read=False)
        return pb.PayOrderResponse(order=self.order(answer, request.pay_order_id))

    def refund(
        self, seals: Seals, exchanger: Exchanger, request: pb.RefundOrderRequest, now: datetime
    ) -> pb.RefundOrderResponse:
        """6203: the same appRefdSn is one refund."""
        if request.type not in _TYPES:
            raise invalid("6203", "type is ALL, CASH or INSURANCE")
        kind, becomes = _TYPES[request.type]
        split = request.split
        _check_refund(kind, split)
        data = {
            "payOrdId": request.pay_order_id,
            "appRefdSn": request.refund_no,
            "appRefdTime": self._moment(request.refund_time, now, "%Y%m%d%H%M%S"),
            "totlRefdAmt": yuan_of_fen(split.fund_fen + split.account_fen + split.cash_fen),
            "psnAcctRefdAmt": yuan_of_fen(split.account_fen),
            "fundRefdAmt": yuan_of_fen(split.fund_fen),
            "cashRefdAmt": yuan_of_fen(split.cash_fen),
            "ecToken": "" if request.credential.pay_auth_no else request.credential.certificate_no,
            "payAuthNo": request.credential.pay_auth_no,
            "refdType": kind,
            "orgCodg": self.centre.options["org_code"],
        }
        answer = self.centre.ask(seals, exchanger, "6203", data, now, is_read=False)
        status = answer.text("refStatus")
        if status == "FAIL":
            raise self.centre.refusal("6203", answer.text("message"), is_read=False)
        if status not in {"SUCC", ""} or (not status and not answer.has("ordStas")):
            raise OutcomeUnknown("6203: the payment centre does not say whether it was given back")
        if answer.has("ordStas"):
            return pb.RefundOrderResponse(order=self.order(answer, request.pay_order_id))
        order = pb.MobileOrder(pay_order_id=request.pay_order_id, state=becomes, split=split)
        return pb.RefundOrderResponse(order=order)

    def query(
        self, seals: Seals, exchanger: Exchanger, request: pb.QueryOrderRequest, now: datetime
    ) -> pb.QueryOrderResponse:
        """6301, by payOrdId, else by the hospital's own number."""
        if not request.pay_order_id and not request.hospital_order_no:
            raise invalid("6301", "pay_order_id or hospital_order_no is needed")
        data = {
            "payOrdId": request.pay_order_id,
            "medOrgOrd": request.hospital_order_no,
            "payToken": request.pay_token,
            "orgCodg": self.centre.options["org_code"],
            "idNo": request.document_no,
            "userName": request.patient_name,
            "idType": self._document(request.document_type) if request.document_no else "",
        }
        answer = self.centre.ask(seals, exchanger, "6301", data, now, is_read=True)
        if not answer.has("payOrdId") and not answer.has("ordStas"):
            raise HisRefused(reason_pb2.REASON_PAYMENT_NOT_FOUND, "6301: the payment centre has no such order")
        return pb.QueryOrderResponse(order=self.order(answer, request.pay_order_id))

    def cancel(
        self, seals: Seals, exchanger: Exchanger, request: pb.CancelOrderRequest, now: datetime
    ) -> pb.CancelOrderResponse:
        """6401. Cancelled before is cancelled."""
        data = {
            "payOrdId": request.pay_order_id,
            "payToken": request.pay_token,
            "orgCodg": self.centre.options["org_code"],
        }
        try:
            self.centre.ask(seals, exchanger, "6401", data, now, is_read=False)
        except HisRefused as error:
            if not any(part in error.text for part in _CANCELLED):
                raise
        return pb.CancelOrderResponse(pay_order_id=request.pay_order_id)

    def order(self, answer: Fields, asked: str = "") -> pb.MobileOrder:
        """An order of an answer. Raises MappingMismatch for another order's, and for sums that do not hold."""
        number = answer.text("payOrdId") or asked
        if asked and number != asked:
            raise answer.wrong("payOrdId", "is not that of the request")
        state = _STATES.get(answer.need("ordStas"), pb.MOBILE_ORDER_STATE_UNSPECIFIED)
        order = pb.MobileOrder(
            pay_order_id=number or answer.need("payOrdId"),
            hospital_order_no=answer.text("medOrgOrd"),
            state=pb.MobileOrderState.ValueType(state),
            mdtrt_id=answer.text("hiRgstSn"),
            setl_id=answer.text("hiDocSn"),
            settle_time=answer.moment("traceTime", self.centre.zone, *_TRACE),
        )
        if state in _PAID or answer.has("feeSumamt"):
            order.split.CopyFrom(self._split(answer))
        return order

    def _split(self, answer: Fields) -> insurance_pb2.InsuranceSplit:
        cash = answer.yuan("ownPayAmt") if answer.has("ownPayAmt") else answer.yuan("ownpayAmt", needed=True)
        split = insurance_pb2.InsuranceSplit(
            total_fen=answer.yuan("feeSumamt", needed=True),
            fund_fen=answer.yuan("fundPay", needed=True),
            account_fen=answer.yuan("psnAcctPay", needed=True),
            family_account_fen=answer.yuan("acctMulaidPay"),
            cash_fen=cash,
            hospital_fen=answer.yuan("hospPartAmt"),
        )
        beside = split.family_account_fen if self.centre.options["family_account"] == "beside" else 0
        parts = (split.fund_fen, split.account_fen, split.cash_fen, split.hospital_fen, beside)
        if min(*parts, split.total_fen) < 0 or sum(parts) != split.total_fen:
            raise answer.wrong("feeSumamt", "is not fundPay, psnAcctPay, ownPayAmt and hospPartAmt")
        return split

    def _upload(self, request: pb.UploadOrderRequest, now: datetime) -> dict[str, Any]:
        options, credential = self.centre.options, request.credential
        local = now.astimezone(self.centre.zone)
        return {
            "orgCodg": options["org_code"],
            "orgId": options["org_id"],
            "psnNo": request.person_no,
            "insutype": request.insutype,
            "insuCode": credential.insured_area,
            "medOrgOrd": request.hospital_order_no,
            "ecToken": "" if credential.pay_auth_no else credential.certificate_no,
            "payAuthNo": credential.pay_auth_no,
            "uldLatlnt": request.geo_location,
            "idNo": request.document_no,
            "userName": request.patient_name,
            "idType": self._document(request.document_type),
            "iptOtpNo": request.visit_no,
            "begntime": self._moment(request.begin_time, now, "%Y-%m-%d %H:%M:%S"),
            "atddrNo": request.doctor_code,
            "drName": request.doctor_name,
            "deptCode": request.department_code,
            "deptName": request.department_name,
            "caty": request.specialty_code,
            "mdtrtId": request.mdtrt_id,
            "medType": request.medical_type,
            "feeType": options["fee_type"],
            "rxCircFlag": "0",
            "feeSumamt": yuan_of_fen(request.total_fen),
            "medfeeSumamt": yuan_of_fen(request.total_fen),
            "acctUsedFlag": "1" if request.use_account else "0",
            "psnSetlway": options["psn_setlway"],
            "chrgBchno": request.batch_no,
            "chrgDate": local.strftime("%Y%m%d"),
            "chrgTime": local.strftime("%H%M%S"),
            "diseinfoList": [self._diagnosis(request, now)],
            "feedetailList": [self._line(request, item, at, now) for at, item in enumerate(request.items, 1)],
        }

    def _diagnosis(self, request: pb.UploadOrderRequest, now: datetime) -> dict[str, Any]:
        options = self.centre.options
        return {
            "diagType": "1",
            "diagSrtNo": "1",
            "diagCode": options["diagnosis_code"],
            "diagName": options["diagnosis_name"],
            "diagDept": request.department_code,
            "diseDorNo": request.doctor_code,
            "diseDorName": request.doctor_name,
            "diagTime": self._moment(request.begin_time, now, "%Y-%m-%d %H:%M:%S"),
            "valiFlag": "1",
        }

    def _line(
        self, request: pb.UploadOrderRequest, item: fee_pb2.FeeItem, number: int, now: datetime
    ) -> dict[str, Any]:
        code = item.national_code or self.centre.options["unlisted_code"]
        if not code:
            raise invalid("6201", f"item {number} has no national code: 医保 cannot be told of it")
        if item.amount_fen <= 0:
            raise invalid("6201", f"item {number} costs nothing", "AMOUNT_MISMATCH")
        count = item.count_hundredths or 100
        return {
            "feedetlSn": f"{request.batch_no}{number:03d}",
            "chrgBchno": request.batch_no,
            "feeOcurTime": now.astimezone(self.centre.zone).strftime("%Y-%m-%d %H:%M:%S"),
            "medListCodg": code,
            "medinsListCodg": item.item_id,
            "medinsListName": item.name,
            "detItemFeeSumamt": yuan_of_fen(item.amount_fen),
            "cnt": yuan_of_fen(count),
            "pric": yuan_of_fen(item.price_fen or item.amount_fen * 100 // count),
            "bilgDeptCodg": request.department_code,
            "bilgDeptName": request.department_name,
            "bilgDrCodg": request.doctor_code,
            "bilgDrName": request.doctor_name,
            "hospApprFlag": "1",
        }

    def _document(self, code: str) -> str:
        found: str = {**_DOCUMENTS, **self.centre.options["document_types"]}.get(code or "01", "99")
        return found

    def _moment(self, given: Timestamp, now: datetime, form: str) -> str:
        when = given.ToDatetime(tzinfo=UTC) if given.seconds else now
        return when.astimezone(self.centre.zone).strftime(form)


def _check_refund(kind: str, split: insurance_pb2.InsuranceSplit) -> None:
    """Raises HisRefused (AMOUNT_MISMATCH)."""
    insured = split.fund_fen + split.account_fen
    if min(split.fund_fen, split.account_fen, split.cash_fen) < 0 or insured + split.cash_fen <= 0:
        raise invalid("6203", "what goes back must be more than 0, each part 0 or more", "AMOUNT_MISMATCH")
    if (kind == "CASH" and insured) or (kind == "HI" and split.cash_fen):
        raise invalid("6203", f"a refund of {kind} has no other part", "AMOUNT_MISMATCH")
