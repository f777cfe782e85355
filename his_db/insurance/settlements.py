"""Settlements: 2206A, 2207A, 2208, 2601, 5203, and the comparison of books 3201, 3202."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from google.type import date_pb2
from his160.site.v1 import insurance_gateway_pb2 as pb

from his_db.http_exchange import Exchanger
from his_db.insurance.envelope import MOMENT, Answered, Platform, Transaction
from his_db.insurance.refusals import invalid
from his_db.insurance.setlinfo import settlement_of
from his_db.insurance.visits import area_of, credential_of
from his_db.reply_fields import Fields


@dataclass(frozen=True, slots=True)
class Settlements:
    """The operations."""

    platform: Platform

    def quote(self, exchanger: Exchanger, request: pb.PreSettleRequest, now: datetime) -> pb.PreSettleResponse:
        """2206A: what would be, without setl_id."""
        answer = self._subject(exchanger, "2206A", request.msgid, request.subject, now)
        record = self._record(answer, request.subject)
        record.setl_id = ""
        return pb.PreSettleResponse(settlement=record)

    def settle(self, exchanger: Exchanger, request: pb.SettleRequest, now: datetime) -> pb.SettleResponse:
        """2207A."""
        answer = self._subject(exchanger, "2207A", request.msgid, request.subject, now)
        record = self._record(answer, request.subject)
        if not record.setl_id:
            raise answer.output.wrong("setlinfo.setl_id", "is missing")
        record.settle_msgid = request.msgid
        return pb.SettleResponse(settlement=record)

    def cancel(
        self, exchanger: Exchanger, request: pb.CancelSettlementRequest, now: datetime
    ) -> pb.CancelSettlementResponse:
        """2208: the negative settlement, with a setl_id of its own."""
        data = {
            "setl_id": request.setl_id,
            "mdtrt_id": request.mdtrt_id,
            "psn_no": request.person_no,
            **self.platform.more("2208"),
        }
        sent = Transaction("2208", "2208", {"data": data}, request.msgid, request.insured_area)
        answer = self.platform.send(exchanger, sent, now)
        info = answer.output.table("setlinfo")
        record = settlement_of(info, self.platform.options, self.platform.zone, negative=True)
        if not record.setl_id or record.setl_id == request.setl_id:
            raise info.wrong("setl_id", "is not that of a new settlement")
        record.cancel_msgid, record.sign_no = request.msgid, answer.sign_no
        record.settle_msgid = ""
        return pb.CancelSettlementResponse(settlement=record)

    def reverse(
        self, exchanger: Exchanger, request: pb.ReverseTransactionRequest, now: datetime
    ) -> pb.ReverseTransactionResponse:
        """2601. Reversed before, or never done, is reversed."""
        data = {
            "psn_no": request.person_no,
            "omsgid": request.original_msgid,
            "oinfno": self.platform.infno(request.original_infno),
            **self.platform.more("2601"),
        }
        sent = Transaction("2601", "2601", {"data": data}, request.msgid, request.insured_area)
        self.platform.send(exchanger, sent, now)
        return pb.ReverseTransactionResponse(original_msgid=request.original_msgid)

    def find(
        self, exchanger: Exchanger, request: pb.QuerySettlementRequest, now: datetime
    ) -> pb.QuerySettlementResponse:
        """5203, oldest first."""
        if not request.mdtrt_id and not request.setl_id:
            raise invalid("5203", "mdtrt_id or setl_id is needed")
        data = {
            "psn_no": request.person_no,
            "setl_id": request.setl_id,
            "mdtrt_id": request.mdtrt_id,
            **self.platform.more("5203"),
        }
        sent = Transaction("5203", "5203", {"data": data}, "", request.insured_area, is_read=True)
        found = self.platform.send(exchanger, sent, now).output.tables("setlinfo")
        records = [
            settlement_of(info, self.platform.options, self.platform.zone, negative=None)
            for info in found
            if info.has("setl_id")
        ]
        for record in records:
            if record.split.total_fen < 0:
                record.cancel_msgid, record.settle_msgid = record.settle_msgid, ""
        return pb.QuerySettlementResponse(settlements=sorted(records, key=_age))

    def compare_totals(
        self, exchanger: Exchanger, request: pb.CompareTotalsRequest, now: datetime
    ) -> pb.CompareTotalsResponse:
        """3201."""
        data = {
            "insutype": request.insutype,
            "clr_type": request.clearing_type,
            "setl_optins": request.office or self.platform.options["mdtrtarea_admvs"],
            "stmt_begndate": _day(request.from_date, "3201"),
            "stmt_enddate": _day(request.to_date, "3201"),
            "medfee_sumamt": self.platform.amount(request.medfee_sumamt_fen),
            "fund_pay_sumamt": self.platform.amount(request.fund_pay_sumamt_fen),
            "acct_pay": self.platform.amount(request.acct_pay_fen),
            "fixmedins_setl_cnt": str(request.settlements),
            **self.platform.more("3201"),
        }
        node = self._statement(exchanger, "3201", data, "stmtinfo", now)
        return pb.CompareTotalsResponse(result=node.need("stmt_rslt"), description=node.text("stmt_rslt_dscr"))

    def compare_details(
        self, exchanger: Exchanger, request: pb.CompareDetailsRequest, now: datetime
    ) -> pb.CompareDetailsResponse:
        """3202."""
        data = {
            "setl_optins": request.office or self.platform.options["mdtrtarea_admvs"],
            "file_qury_no": request.file_no,
            "stmt_begndate": _day(request.from_date, "3202"),
            "stmt_enddate": _day(request.to_date, "3202"),
            "medfee_sumamt": self.platform.amount(request.medfee_sumamt_fen),
            "fund_pay_sumamt": self.platform.amount(request.fund_pay_sumamt_fen),
            "cash_payamt": self.platform.amount(request.cash_fen),
            "fixmedins_setl_cnt": str(request.settlements),
            **self.platform.more("3202"),
        }
        node = self._statement(exchanger, "3202", data, "fileinfo", now)
        return pb.CompareDetailsResponse(
            file_no=node.need("file_qury_no"),
            file_name=node.text("filename"),
            until_time=node.moment("dld_endtime", self.platform.zone, MOMENT),
        )

    def _statement(self, exchanger: Exchanger, infno: str, data: dict[str, Any], node: str, now: datetime) -> Fields:
        sent = Transaction(infno, infno, {"data": data}, is_read=True)
        return self.platform.send(exchanger, sent, now).output.table(node)

    def _subject(
        self, exchanger: Exchanger, infno: str, msgid: str, subject: pb.SettlementSubject, now: datetime
    ) -> Answered:
        if subject.total_fen <= 0:
            raise invalid(infno, "total_fen must be more than 0", "AMOUNT_MISMATCH")
        platform = self.platform
        data = {
            "psn_no": subject.person_no,
            **credential_of(subject.credential),
            "med_type": subject.medical_type,
            "medfee_sumamt": platform.amount(subject.total_fen),
            "psn_setlway": platform.options["psn_setlway"],
            "mdtrt_id": subject.mdtrt_id,
            "chrg_bchno": subject.batch_no,
            "acct_used_flag": "1" if subject.use_account else "0",
            "insutype": subject.insutype,
        }
        if infno == "2207A":
            data["invono"] = subject.receipt_no
        if platform.options["echo_fees"]:
            data |= {
                "fulamt_ownpay_amt": platform.amount(subject.fulamt_ownpay_amt_fen),
                "overlmt_selfpay": platform.amount(subject.overlmt_selfpay_fen),
                "preselfpay_amt": platform.amount(subject.preselfpay_amt_fen),
                "inscp_scp_amt": platform.amount(subject.inscp_scp_amt_fen),
            }
        data |= platform.more(infno)
        sent = Transaction(infno, infno, {"data": data}, msgid, area_of(subject))
        return platform.send(exchanger, sent, now)

    def _record(self, answer: Answered, subject: pb.SettlementSubject) -> pb.SettlementRecord:
        """The record of a quote or settlement, with what the request knows. Raises MappingMismatch."""
        info = answer.output.table("setlinfo")
        record = settlement_of(info, self.platform.options, self.platform.zone, negative=False)
        if record.split.total_fen != subject.total_fen:
            raise info.wrong("medfee_sumamt", "is not that of the request")
        if record.mdtrt_id not in {"", subject.mdtrt_id}:
            raise info.wrong("mdtrt_id", "is not that of the request")
        record.mdtrt_id = subject.mdtrt_id
        record.person_no = record.person_no or subject.person_no
        record.insutype = record.insutype or subject.insutype
        record.insured_area = record.insured_area or area_of(subject)
        record.medical_type = record.medical_type or subject.medical_type
        record.batch_no = subject.batch_no
        record.sign_no = answer.sign_no
        return record


def _age(record: pb.SettlementRecord) -> tuple[int, int]:
    """By time; of one second the counter-entry comes last."""
    return record.settle_time.seconds, int(record.split.total_fen < 0)


def _day(given: date_pb2.Date, label: str) -> str:
    try:
        return date(given.year, given.month, given.day).isoformat()
    except ValueError:
        raise invalid(label, "from_date and to_date are dates") from None
