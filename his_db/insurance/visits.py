"""The person and the visit: 1101, 2201, 2202, 2203A, 5201, and 9001 when it is asked for by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp
from his160.site.v1 import insurance_gateway_pb2 as pb
from his160.v1 import insurance_pb2, reason_pb2

from his_db.http_exchange import Exchanger
from his_db.insurance.envelope import MOMENT, Platform, Transaction
from his_db.insurance.refusals import invalid, not_found

DOCUMENTS: Final[Mapping[str, str]] = {
    "01": "01",
    "02": "01",
    "03": "08",
    "04": "02",
    "06": "04",
    "07": "06",
    "99": "99",
}
"""CV02.01.101 -> psn_cert_type; of 06 (港澳居民来往内地通行证) 医保 has two, and Hong Kong's (04) is taken."""
_IN_FORCE: Final = "1"


@dataclass(frozen=True, slots=True)
class Visits:
    """The operations. Requests are checked by the contract's REQUIRED before they come here."""

    platform: Platform

    def sign_in(self, exchanger: Exchanger, request: pb.SignInRequest, now: datetime) -> pb.SignInResponse:
        """9001."""
        if not exchanger.goes_out:
            sent = Transaction("9001", "9001", {"signIn": {"opter_no": self.platform.options["opter"]}}, request.msgid)
            node = self.platform.send(exchanger, sent, now).output.table("signinoutb")
        else:
            node = self.platform.sign_in(exchanger, "9001", request.msgid, now)
        return pb.SignInResponse(
            sign_no=node.need("sign_no"), sign_time=node.moment("sign_time", self.platform.zone, MOMENT)
        )

    def person(self, exchanger: Exchanger, request: pb.GetPersonRequest, now: datetime) -> pb.GetPersonResponse:
        """1101. The insurances in force come first."""
        credential = request.credential
        kind = credential.certificate_type
        if kind not in {"01", "02", "03"}:
            raise invalid("1101", "mdtrt_cert_type is 01, 02 or 03")
        number, _, card = credential.certificate_no.partition("|")
        data = {
            "mdtrt_cert_type": kind,
            "mdtrt_cert_no": number,
            "card_sn": card if kind == "03" else "",
            "begntime": self.moment(request.begin_time, now) if request.HasField("begin_time") else "",
            "psn_cert_type": self._document(request.document_type) if request.document_no else "",
            "certno": request.document_no,
            "psn_name": request.name,
            **self.platform.more("1101"),
        }
        sent = Transaction("1101", "1101", {"data": data}, request.msgid, credential.insured_area, is_read=True)
        output = self.platform.send(exchanger, sent, now).output
        base = output.table("baseinfo")
        if not base.has("psn_no"):
            raise not_found("1101", reason_pb2.REASON_PATIENT_NOT_FOUND)
        insurances = [
            pb.PersonInsurance(
                insutype=item.need("insutype"),
                person_type=item.text("psn_type"),
                status=item.text("psn_insu_stas"),
                insured_area=item.text("insuplc_admdvs"),
                balance_fen=item.yuan("balc"),
            )
            for item in output.tables("insuinfo")
        ]
        return pb.GetPersonResponse(
            person_no=base.need("psn_no"),
            name=base.text("psn_name"),
            document_no=base.text("certno"),
            insurances=sorted(insurances, key=lambda item: item.status != _IN_FORCE),
        )

    def open(self, exchanger: Exchanger, request: pb.OpenVisitRequest, now: datetime) -> pb.OpenVisitResponse:
        """2201."""
        data = {
            "psn_no": request.person_no,
            "insutype": request.insutype,
            "begntime": self.moment(request.begin_time, now),
            **_credential(request.credential),
            "ipt_otp_no": request.visit_no,
            "atddr_no": request.doctor_code,
            "dr_name": request.doctor_name,
            "dept_code": request.department_code,
            "dept_name": request.department_name,
            "caty": request.specialty_code,
            **self.platform.more("2201"),
        }
        if len(request.visit_no) > 30:
            raise invalid("2201", "ipt_otp_no has at most 30 characters")
        sent = Transaction("2201", "2201", {"data": data}, request.msgid, area_of(request))
        answer = self.platform.send(exchanger, sent, now)
        node = answer.output.table("data")
        if node.text("ipt_otp_no") not in {"", request.visit_no}:
            raise node.wrong("ipt_otp_no", "is not that of the request")
        return pb.OpenVisitResponse(mdtrt_id=node.need("mdtrt_id"), sign_no=answer.sign_no)

    def cancel(self, exchanger: Exchanger, request: pb.CancelVisitRequest, now: datetime) -> pb.CancelVisitResponse:
        """2202."""
        data = {
            "psn_no": request.person_no,
            "mdtrt_id": request.mdtrt_id,
            "ipt_otp_no": request.visit_no,
            **self.platform.more("2202"),
        }
        self.platform.send(
            exchanger, Transaction("2202", "2202", {"data": data}, request.msgid, request.insured_area), now
        )
        return pb.CancelVisitResponse(mdtrt_id=request.mdtrt_id)

    def upload(self, exchanger: Exchanger, request: pb.UploadVisitRequest, now: datetime) -> pb.UploadVisitResponse:
        """2203A: what the visit is about. Before it there is no diagnosis: the site's own code for a registration."""
        options, begins = self.platform.options, self.moment(request.begin_time, now)
        visit = {
            "mdtrt_id": request.mdtrt_id,
            "psn_no": request.person_no,
            "med_type": request.medical_type,
            "begntime": begins,
            "main_cond_dscr": "",
            "dise_codg": "",
            "dise_name": "",
            "birctrl_type": "",
            "birctrl_matn_date": "",
            **self.platform.more("2203A"),
        }
        diagnosis = {
            "diag_type": "1",
            "diag_srt_no": "1",
            "diag_code": options["diagnosis_code"],
            "diag_name": options["diagnosis_name"],
            "diag_dept": request.department_code,
            "dise_dor_no": request.doctor_code,
            "dise_dor_name": request.doctor_name,
            "diag_time": begins,
            "vali_flag": "1",
        }
        given = {"mdtrtinfo": visit, "diseinfo": [diagnosis]}
        self.platform.send(exchanger, Transaction("2203A", "2203A", given, request.msgid, request.insured_area), now)
        return pb.UploadVisitResponse(mdtrt_id=request.mdtrt_id)

    def find(self, exchanger: Exchanger, request: pb.QueryVisitRequest, now: datetime) -> pb.QueryVisitResponse:
        """5201: by day, then by the visit's number in the HIS."""
        asked = request.day
        try:
            day = date(asked.year, asked.month, asked.day) if asked.year else now.astimezone(self.platform.zone).date()
        except ValueError:
            raise invalid("5201", "day is no date") from None
        data = {
            "psn_no": request.person_no,
            "begntime": f"{day.isoformat()} 00:00:00",
            "endtime": f"{day.isoformat()} 23:59:59",
            "med_type": "",
            "mdtrt_id": "",
            **self.platform.more("5201"),
        }
        sent = Transaction("5201", "5201", {"data": data}, "", request.insured_area, is_read=True)
        visits = self.platform.send(exchanger, sent, now).output.tables("mdtrtinfo")
        found = [visit.need("mdtrt_id") for visit in visits if visit.text("ipt_otp_no") == request.visit_no]
        return pb.QueryVisitResponse(mdtrt_id=found[-1] if found else "")

    def moment(self, given: Timestamp, now: datetime) -> str:
        """yyyy-MM-dd HH:mm:ss on the hospital's clock; now where nothing is given."""
        when = given.ToDatetime(tzinfo=UTC) if given.seconds else now
        return when.astimezone(self.platform.zone).strftime(MOMENT)

    def _document(self, code: str) -> str:
        found: str = {**DOCUMENTS, **self.platform.options["document_types"]}.get(code or "01", "99")
        return found


def _credential(credential: insurance_pb2.InsuranceCredential) -> dict[str, str]:
    number = credential.certificate_no.partition("|")[0]
    return {"mdtrt_cert_type": credential.certificate_type, "mdtrt_cert_no": number}


def credential_of(credential: insurance_pb2.InsuranceCredential) -> dict[str, str]:
    """mdtrt_cert_type and mdtrt_cert_no. A card's number may be followed by `|` and card_sn."""
    return _credential(credential)


def area_of(request: Any) -> str:
    """insuplc_admdvs: of the request, or of the credential."""
    return str(request.insured_area or request.credential.insured_area)
