"""Simulator "insurance": a 医保 2.0 platform with a few insured persons."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, ClassVar, Final

from his_db.simulated.insurance_settlements import SCHEMA as SETTLEMENT_SCHEMA
from his_db.simulated.insurance_settlements import SimulatedSettlements
from his_db.simulated.insurance_visits import SCHEMA as VISIT_SCHEMA
from his_db.simulated.insurance_visits import SimulatedVisits
from his_db.simulated.insurance_wire import (
    AREA,
    INSTITUTION,
    PAASID,
    SCHEMA,
    Refused,
    Wire,
    make_secret,
    spoiled,
    told,
)
from his_db.simulator import Asked, Clock, Simulator, Told
from his_db.simulator_book import Book

_BEIJING: Final = timezone(timedelta(hours=8))
_MAPPING: Final = """# 由 his160 simulator insurance 生成，仅供联调 / for the bench only
schema = 1
gateway = "insurance2"
source = "insurance"
[options]
fixmedins_code = "{institution}"
fixmedins_name = "示例医院"
mdtrtarea_admvs = "{area}"
opter = "jk160"
opter_name = "健康160"
tif = {{ paasid = "{paasid}", secret = '@file:{folder}/tif.secret' }}
"""


class InsuranceSimulator:
    """See `his_db.simulator.Simulator`. Labels: the transactions' numbers; a number's business number is its msgid."""

    name: ClassVar[str] = "insurance"

    def __init__(self, book: Book, secret: str, clock: Clock) -> None:
        self.book = book
        self._clock = clock
        self._wire = Wire(book, secret)
        with book.change():
            self._visits = SimulatedVisits(book)
        self._settlements = SimulatedSettlements(book, self._visits)

    def label(self, asked: Asked) -> tuple[str, str]:
        try:
            given = json.loads(asked.body)
            return str(given["infno"]), str(given["msgid"])
        except (ValueError, KeyError, TypeError):
            return "?", "?"

    def answer(self, asked: Asked) -> Told:
        now = self._now()
        _, msgid = self.label(asked)
        try:
            with self.book.change():
                return told(now, msgid, self._done(asked, now))
        except Refused as refused:
            return told(now, msgid, error=str(refused))

    def refuse(self, asked: Asked, code: str, message: str) -> Told:
        return told(self._now(), self.label(asked)[1], error=message or code)

    def spoil(self, answer: Told) -> Told:
        return spoiled(answer)

    def act(self, name: str, values: Mapping[str, Any]) -> Any:
        """expire_sign; person (`psn_no`, and columns to change); set (`name`, `value`)."""
        with self.book.change():
            if name == "set":
                self.book.run("INSERT OR REPLACE INTO setting VALUES (?, ?)", values["name"], str(values["value"]))
                return {}
            if name == "expire_sign":
                return self.book.run("DELETE FROM sign")
            if name == "person":
                for column in ("balance", "status", "area"):
                    if column in values:
                        statement = f"UPDATE person SET {column} = ? WHERE psn_no = ?"  # noqa: S608 - one of three
                        self.book.run(statement, values[column], values["psn_no"])
                return {}
        raise KeyError(name)

    def _now(self) -> datetime:
        return self._clock().astimezone(_BEIJING)

    def _done(self, asked: Asked, now: datetime) -> dict[str, Any] | None:
        given = self._wire.envelope(asked, now)
        infno = given["infno"]
        if infno == "9001":
            return self._wire.sign_in(given, now)
        self._wire.signed(given, now)
        before = self._wire.before(given)
        if before is not None:
            return before
        output = self._transacted(infno, given, now)
        self._wire.remember(given, output, now)
        return output

    def _transacted(self, infno: str, given: dict[str, Any], now: datetime) -> dict[str, Any] | None:
        visits, settlements = self._visits, self._settlements
        simple = {
            "1101": visits.person,
            "2201": visits.open,
            "2202": visits.cancel,
            "2203A": visits.upload,
            "2204": visits.fees,
            "2205": visits.take_back,
            "5201": visits.find,
            "5204": visits.find_fees,
            "2601": settlements.reverse,
            "5203": settlements.find,
            "3201": settlements.totals,
        }
        timed = {
            "2206A": settlements.quote,
            "2207A": settlements.settle,
            "2208": settlements.cancel,
            "3202": settlements.details,
        }
        if infno in timed:
            return timed[infno](given, now)
        if infno in simple:
            return simple[infno](given)
        raise Refused("没有这个交易")


class InsuranceSimulatorMaker:
    """See `his_db.simulator.SimulatorMaker`."""

    name: ClassVar[str] = "insurance"

    def prepare(self, folder: Path, base_url: str) -> Path:
        make_secret(folder)
        mapping = folder / "insurance2.toml"
        place = folder.resolve().as_posix()
        text = _MAPPING.format(institution=INSTITUTION, area=AREA, paasid=PAASID, folder=place)
        mapping.write_text(text, encoding="utf-8")
        return mapping

    def open(self, folder: Path, book: Path, base_url: str, clock: Clock) -> Simulator:
        secret = (folder / "tif.secret").read_text(encoding="utf-8").strip()
        schema = (*SCHEMA, *VISIT_SCHEMA, *SETTLEMENT_SCHEMA)
        return InsuranceSimulator(Book(book, schema), secret, clock)
