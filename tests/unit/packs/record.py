"""Records what a sample HIS answers to every operation and watch of its pack: `python -m tests.unit.packs.record <pack>`.

Writes `his_db/packs/<pack>/sample/recorded/*.json` anew (winning's and neusoft's on PostgreSQL). The server of the sample is the one that
the tests use. Every write is recorded once done and once refused.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from google.type import date_pb2
from his160.site.v1 import insurance_gateway_pb2
from his160.v1 import common_pb2, insurance_pb2

from his_db import contract
from his_db.generation import Generation, compile_generation
from his_db.mapping.load import load_mapping_set
from his_db.registry import load_sample
from his_db.sample import SMALL, SampleHis
from his_db.source import engine_for, settings_from_url
from his_db.workbench.recorded import NOW, Case
from tests.servers import running_mariadb, running_postgresql
from tests.unit.packs.recorded import record, record_watch

PACKS = Path(__file__).resolve().parents[3] / "his_db" / "packs"
KEY = "0" * 32
SPLIT = {"fund_fen": 1000, "account_fen": 500}


@contextmanager
def database(engine: str) -> Iterator[str]:
    """The url of an empty database."""
    if engine == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/his.db"
        return
    server: Any = running_mariadb() if engine == "mysql" else running_postgresql()
    with server as running, running.database() as at:
        scheme = "mysql+pymysql" if engine == "mysql" else "postgresql+psycopg"
        secret = f":{at.password}" if at.password else ""
        yield f"{scheme}://{at.user}{secret}@{at.host}:{at.port or (3306 if engine == 'mysql' else 5432)}/{at.database}"


class Tape:
    """Runs operations for real, one transaction each, and keeps the cases of each operation."""

    def __init__(self, url: str, generation: Generation) -> None:
        self._session = engine_for(settings_from_url("his", url)).open(read_only=False)
        self._generation = generation
        self.cases: dict[str, list[Case]] = {}
        self._calls = 0

    def run(self, operation: str, **fields: Any) -> Any:
        """The response as a dict; {} when refused or not mapped."""
        if operation not in self._generation.operations:
            return {}
        known = contract.operation(operation)
        request: Message = known.request_class()
        if not known.is_read:
            fields["request_id"] = KEY
        for name, value in fields.items():
            target = getattr(request, name, None)
            if isinstance(value, Message):
                target.CopyFrom(value)  # type: ignore[union-attr]
            else:
                setattr(request, name, value)
        self._session.begin()
        self._calls += 1
        case = record(self._generation.operation(operation), self._session, request, key=f"{self._calls:032x}")
        (self._session.commit if "response" in case else self._session.rollback)()
        kept = self.cases.setdefault(operation.split(".")[1], [])
        if known.is_read or all(case.get("refused") != other.get("refused") for other in kept):
            kept.append({"operation": operation, **case})
        return case.get("response", {})

    def watch(self, limit: int = 4) -> None:
        for name, watch in self._generation.watches.items():
            self._session.begin()
            self.cases[f"watch_{name}"] = [record_watch(watch, self._session, limit)]
            self._session.rollback()


def date(day: dt.date) -> date_pb2.Date:
    return date_pb2.Date(year=day.year, month=day.month, day=day.day)


def settlement(order: str, total: int, number: str) -> insurance_gateway_pb2.SettlementRecord:
    """What 2207A has answered."""
    split = insurance_pb2.InsuranceSplit(total_fen=total, cash_fen=total - sum(SPLIT.values()), **SPLIT)
    made = insurance_gateway_pb2.SettlementRecord(
        order_no=order, person_no="44030000000000000123", insutype="310", insured_area="440300", mdtrt_id="D" + order,
        batch_no="B" + order, setl_id=number, settle_msgid="H44030500001202611231030000003", sign_no="440300S001",
        clearing_type="11", clearing_way="1", clearing_office="440300", medical_type="12", split=split,
    )  # fmt: skip
    kept = made.amounts
    kept.medfee_sumamt_fen, kept.fund_pay_sumamt_fen, kept.hifp_pay_fen = total, split.fund_fen, split.fund_fen
    kept.psn_part_amt_fen, kept.acct_pay_fen, kept.psn_cash_pay_fen = (
        total - split.fund_fen,
        split.account_fen,
        split.cash_fen,
    )
    kept.balc_fen = 123_456
    made.settle_time.FromDatetime(dt.datetime(2026, 11, 23, 2, 31))
    return made


def lists(tape: Tape) -> dict[str, Any]:
    """All reads of the catalogue; an open session of a later day."""
    span = {"from_date": date(NOW.date()), "to_date": date(NOW.date() + dt.timedelta(days=14))}
    tape.run("CatalogService.ListDepartments", page_size=3)
    tape.run("CatalogService.ListDoctors", page_size=3)
    tape.run("CatalogService.ListSuspensions", **span, page_size=2)
    later = {**span, "from_date": date(NOW.date() + dt.timedelta(days=1))}
    found = tape.run("CatalogService.ListSchedules", **later, page_size=4)["schedules"]
    tape.run("AppointmentService.ListAppointments", **span, page_size=3)
    return next(s for s in found if s["state"] == "SCHEDULE_STATE_OPEN" and s.get("doctor_id") and s["free_count"] > 3)


def orders(tape: Tape, session: dict[str, Any]) -> None:
    """One order after another, as the platform does it, and what is refused on the way."""
    service, pay, place = "AppointmentService.", "PaymentService.", {"schedule_id": session["schedule_id"]}
    slots = tape.run("CatalogService.ListSlots", **place, free_only=True)["slots"]
    person = {"document_type": "01", "document_no": "440305198001019017", "mobile": "12600009999", "sex": "1"}
    who = tape.run("PatientService.EnsurePatient", name="王样例", **person)["patient"]["patient_id"]
    tape.run("PatientService.EnsurePatient", name="别的名字", **person)
    tape.run("PatientService.FindPatients", document_type="01", document_no=person["document_no"])

    def hold(number: str, patient: str = who) -> tuple[str, int]:
        slot = {**place, "slot_id": slots[int(number[-2] > "A") % len(slots)]["slot_id"]}
        tape.run(service + "LockSlot", order_no=number, patient_id=patient, **slot)
        made = tape.run(service + "BookAppointment", order_no=number, patient_id=patient, **slot).get("appointment", {})
        return made.get("appointment_id", ""), int(made.get("total_fen", 0))

    tape.run(service + "LockSlot", order_no="16L1", **place, slot_id=slots[0]["slot_id"])
    tape.run(service + "UnlockSlot", order_no="16L1", slot_id=slots[0]["slot_id"])
    nothing = "999999" if session["schedule_id"].isdigit() else "20300101.1.1.1"
    tape.run(service + "LockSlot", order_no="16L2", schedule_id=nothing, slot_id=nothing)
    _, total = hold("16A1")
    hold("16A2")
    tape.run(service + "UnlockSlot", order_no="16A1")
    tape.run(service + "CancelAppointment", order_no="16A1", note="不去了")
    tape.run(service + "CancelAppointment", order_no="16A1", note="不去了")
    tape.run(service + "CancelAppointment", order_no="16NONE")
    tape.run(service + "GetAppointment", order_no="16A1")
    tape.run(service + "GetAppointment", order_no="16NONE")

    hold("16B1")
    money = {"out_trade_no": "M16B1", "transaction_id": "420016B1", "method": common_pb2.PAYMENT_METHOD_WECHAT}
    tape.run(pay + "ConfirmPayment", order_no="16B1", amount_fen=total + 1, **money)
    tape.run(pay + "ConfirmPayment", order_no="16B1", amount_fen=total, **money)
    tape.run(pay + "GetPayment", out_trade_no="M16B1")
    tape.run(service + "GetAppointment", order_no="16B1")
    back = {"order_no": "16B1", "out_trade_no": "M16B1", "out_refund_no": "R16B1", "note": "患者改期"}
    asked = {"order_no": "16B1", "out_trade_no": "M16B1"}
    tape.run("RefundCheckService.CheckRefund", amount_fen=total - 1, **asked)
    tape.run("RefundCheckService.CheckRefund", amount_fen=total, **asked)
    tape.run(pay + "RefundPayment", amount_fen=total - 1, **back)
    tape.run(pay + "RefundPayment", amount_fen=total, **back)
    tape.run(pay + "GetRefund", out_refund_no="R16B1")
    insured(tape, hold("16C1")[1])


def insured(tape: Tape, total: int) -> None:
    """16C1 is settled by 医保, registered, and reversed."""
    service, order = "InsuredRegistrationService.", {"order_no": "16C1"}
    tape.run(service + "GetInsuranceOrder", **order)
    trade = {"out_trade_no": "M16C1", "transaction_id": "420016C1"}
    tape.run(service + "RegisterInsured", **order, **trade, settlement=settlement("16C1", total + 1, "440300S1"))
    tape.run(service + "RegisterInsured", **order, **trade, settlement=settlement("16C1", total, "440300S1"))
    tape.run(service + "GetInsuredRegistration", setl_id="440300S1")
    red = {"setl_id": "440300S1", "reversal_setl_id": "440300S2", "out_refund_no": "R16C1", "note": "患者改期"}
    cash = total - sum(SPLIT.values())
    tape.run(service + "CancelInsured", **order, **red, cash_fen=1)
    tape.run(service + "CancelInsured", **order, **red, cash_fen=cash)


def visitors(tape: Tape) -> None:
    found = tape.run("PatientService.ListVisitors", account_id="wx000001").get("visitors")
    if found:
        patient = found[0]["patient"]["patient_id"]
        tape.run("PatientService.GetVisitor", account_id="wx000001", patient_id=patient)
        tape.run("PatientService.GetVisitor", account_id="wx000002", patient_id=patient)


def main(pack: str) -> None:
    sample: SampleHis = load_sample(pack)
    folder = PACKS / pack
    mapping = load_mapping_set(folder / sample.mappings, sources={"his": sample.engine}, timezone="Asia/Shanghai")
    with database(sample.engine) as url:
        sample.create(url, today=NOW.date(), size=SMALL)
        tape = Tape(url, compile_generation(mapping))
        orders(tape, lists(tape))
        visitors(tape)
        tape.run("ReportService.ListStatement", date=date(NOW.date()), page_size=3)
        tape.watch()
    target = folder / "sample" / "recorded"
    target.mkdir(exist_ok=True)
    for old in target.glob("*.json"):
        old.unlink()
    for name, found in tape.cases.items():
        text = json.dumps(found, ensure_ascii=False, indent=1)
        (target / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        print(name, [case.get("refused", {}).get("reason", "done") for case in found])


if __name__ == "__main__":
    main(sys.argv[1])
