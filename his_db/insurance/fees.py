"""Fee lines: 2204, 2205, 5204."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from his160.site.v1 import fee_pb2
from his160.site.v1 import insurance_gateway_pb2 as pb

from his_db.http_exchange import Exchanger
from his_db.insurance.envelope import Platform, Transaction
from his_db.insurance.refusals import invalid
from his_db.insurance.visits import Visits
from his_db.money import yuan_of_fen
from his_db.reply_fields import Fields


@dataclass(frozen=True, slots=True)
class Fees:
    """The operations."""

    platform: Platform

    def upload(self, exchanger: Exchanger, request: pb.UploadFeesRequest, now: datetime) -> pb.UploadFeesResponse:
        """2204. What comes back is compared line by line with what went out."""
        if not request.items:
            raise invalid("2204", "there are no items")
        lines = [self._line(request, item, number, now) for number, item in enumerate(request.items, 1)]
        sent = Transaction("2204", "2204", {"feedetail": lines}, request.msgid, request.insured_area)
        results = self.platform.send(exchanger, sent, now).output.tables("result")
        wanted = {line_no(request.batch_no, at): item.amount_fen for at, item in enumerate(request.items, 1)}
        for result in results:
            if wanted.pop(result.need("feedetl_sn"), None) != result.yuan("det_item_fee_sumamt", needed=True):
                raise result.wrong("det_item_fee_sumamt", "is not what was uploaded")
        if wanted:
            raise Fields({}, "2204").wrong("result", "does not have every line")
        return pb.UploadFeesResponse(
            fulamt_ownpay_amt_fen=sum(result.yuan("fulamt_ownpay_amt") for result in results),
            overlmt_amt_fen=sum(result.yuan("overlmt_amt") for result in results),
            preselfpay_amt_fen=sum(result.yuan("preselfpay_amt") for result in results),
            inscp_scp_amt_fen=sum(result.yuan("inscp_scp_amt") for result in results),
        )

    def cancel(self, exchanger: Exchanger, request: pb.CancelFeesRequest, now: datetime) -> pb.CancelFeesResponse:
        """2205."""
        data = {
            "mdtrt_id": request.mdtrt_id,
            "chrg_bchno": request.batch_no,
            "psn_no": request.person_no,
            **self.platform.more("2205"),
        }
        self.platform.send(
            exchanger, Transaction("2205", "2205", {"data": data}, request.msgid, request.insured_area), now
        )
        return pb.CancelFeesResponse(mdtrt_id=request.mdtrt_id)

    def find(self, exchanger: Exchanger, request: pb.QueryFeesRequest, now: datetime) -> pb.QueryFeesResponse:
        """5204."""
        data = {
            "psn_no": request.person_no,
            "setl_id": request.setl_id,
            "mdtrt_id": request.mdtrt_id,
            **self.platform.more("5204"),
        }
        sent = Transaction("5204", "5204", {"data": data}, "", request.insured_area, is_read=True)
        output = self.platform.send(exchanger, sent, now).output
        lines = output.tables("feedetail") or output.tables("data")
        return pb.QueryFeesResponse(
            lines=[
                pb.FeeLine(
                    line_no=line.need("feedetl_sn"),
                    batch_no=line.text("chrg_bchno"),
                    amount_fen=line.yuan("det_item_fee_sumamt", needed=True),
                )
                for line in lines
            ]
        )

    def _line(self, request: pb.UploadFeesRequest, item: fee_pb2.FeeItem, number: int, now: datetime) -> dict[str, Any]:
        code = item.national_code or self.platform.options["unlisted_code"]
        if not code:
            raise invalid("2204", f"item {number} has no national code: 医保 cannot be told of it")
        count = item.count_hundredths or 100
        price = item.price_fen or item.amount_fen * 100 // count
        if item.amount_fen <= 0 or price <= 0 or count <= 0:
            raise invalid("2204", f"item {number} costs nothing", "AMOUNT_MISMATCH")
        if abs(price * count - item.amount_fen * 100) > 100:
            raise invalid("2204", f"item {number}: price times count is not the amount", "AMOUNT_MISMATCH")
        return {
            "feedetl_sn": line_no(request.batch_no, number),
            "mdtrt_id": request.mdtrt_id,
            "psn_no": request.person_no,
            "chrg_bchno": request.batch_no,
            "dise_codg": "",
            "rxno": "",
            "rx_circ_flag": "0",
            "fee_ocur_time": Visits(self.platform).moment(request.fee_time, now),
            "med_list_codg": code,
            "medins_list_codg": item.item_id,
            "det_item_fee_sumamt": self.platform.amount(item.amount_fen),
            "cnt": self._count(count),
            "pric": self.platform.amount(price),
            "bilg_dept_codg": request.department_code,
            "bilg_dept_name": request.department_name,
            "bilg_dr_codg": request.doctor_code,
            "bilg_dr_name": request.doctor_name,
            "hosp_appr_flag": "1",
            **self.platform.more("2204"),
        }

    def _count(self, hundredths: int) -> str:
        text = self.platform.amount(hundredths)
        return text if self.platform.options["amounts"] == "number" else yuan_of_fen(hundredths)


def line_no(batch_no: str, number: int) -> str:
    """feedetl_sn: the batch and the line's number, unique within the visit."""
    return f"{batch_no}{number:03d}"
