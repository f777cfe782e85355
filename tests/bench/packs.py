"""The sample HIS as the bench needs it: the compiled mapping, fresh slots and patients, the SQL that the agent runs."""

from __future__ import annotations

import itertools
import random
import sqlite3
import uuid
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import psycopg
from his160.v1 import appointment_pb2, catalog_pb2

from agent.demo.hospital import Hospital
from his_db.engine import ProcedurePlan, ProcedureResult, Rows, Session
from his_db.generation import Generation, compile_generation
from his_db.mapping.load import MappingSet, load_mapping_set
from his_db.registry import load_sample
from his_db.sample import hospital_now
from his_db.source import engine_for, settings_from_url

ZONE: Final = "Asia/Shanghai"
PACKS: Final = Path(__file__).resolve().parents[2] / "his_db" / "packs"
LIST_SLOTS: Final = "CatalogService.ListSlots"
BOOK: Final = "AppointmentService.BookAppointment"
WATCH: Final = "orders"
_SESSION_SLOTS: Final = (20, 50)

_ZEBONE_SLOTS: Final = """
SELECT t.PK_SCH, t.PK_SCHTICKET FROM SCH_TICKET t JOIN SCH_SCH s ON s.PK_SCH = t.PK_SCH
WHERE s.DATE_WORK > :day AND s.FLAG_STOP = '0' AND s.EU_STATUS = '8' AND s.DEL_FLAG = '0' AND t.DEL_FLAG = '0'
  AND t.FLAG_USED = '0' AND t.FLAG_STOP = '0' AND t.FLAG_LOCK = '0' AND t.FLAG_APPT = '1'
"""
# Not one who has a coming appointment: the HIS takes one booking of a patient in a session.
_ZEBONE_PATIENTS: Final = """
SELECT PK_PI FROM PI_MASTER WHERE DEL_FLAG = '0' AND PK_PI NOT IN (SELECT PK_PI FROM PI_LOCK)
  AND PK_PI NOT IN (SELECT PK_PI FROM SCH_APPT WHERE DATE_APPT > :day)
"""
_WINNING_SLOTS: Final = """
SELECT p.pbmxid::text, p.pbmxid::text FROM his.gh_yy_pbzbmx p, generate_series(1, (p.zgh - p.ygh)::int)
WHERE p.jlzt = 0 AND p.tzbz = 0 AND p.zbrq > %(day)s
"""
_WINNING_PATIENTS: Final = """
SELECT patid::text FROM his.sf_brxxk WHERE jlzt = 0 AND patid NOT IN (SELECT patid FROM his.gh_yy_hmd)
   AND patid NOT IN (SELECT patid FROM his.gh_ghyyk WHERE left(yyrq, 8) > %(day)s)
"""


@dataclass(frozen=True, slots=True)
class Order:
    """A booking to be made: order number, session, slot and patient that no other booking of the run has."""

    order_no: str
    schedule_id: str
    slot_id: str
    patient_id: str
    key: str

    def request(self) -> appointment_pb2.BookAppointmentRequest:
        """BookAppointment of it, with a request_id of its own."""
        return appointment_pb2.BookAppointmentRequest(
            request_id=uuid.uuid4().hex,
            order_no=self.order_no,
            patient_id=self.patient_id,
            schedule_id=self.schedule_id,
            slot_id=self.slot_id,
        )


class Orders:
    """Fresh orders of one sample HIS, without end until its slots or patients are used up (ValueError)."""

    def __init__(self, hospital: Hospital) -> None:
        day = hospital_now().date()
        slots, patients = _zebone_pool(hospital.url, day) if hospital.kind == "sqlite" else _winning_pool(hospital, day)
        chance = random.Random(160)
        chance.shuffle(slots)  # neighbours in time must not be neighbours in the table
        chance.shuffle(patients)
        by_session: dict[str, int] = {}
        for schedule, _ in slots:
            by_session[schedule] = by_session.get(schedule, 0) + 1
        low, high = _SESSION_SLOTS if hospital.kind == "sqlite" else (1, 10_000)
        # The session that ListSlots is asked for: the fullest of those with 20 to 50 slots; nobody books in it.
        self.session = max((s for s, count in by_session.items() if low <= count <= high), key=lambda s: by_session[s])
        self._slots = iter([slot for slot in slots if slot[0] != self.session])
        self._patients = iter(patients)
        self._numbers = itertools.count(1)
        self._stem = f"B{hospital_now():%y%m%d%H%M%S}"

    def take(self, count: int) -> list[Order]:
        """The next orders."""
        found = []
        for _ in range(count):
            schedule, slot = next(self._slots)
            order_no = f"{self._stem}{next(self._numbers):05d}"
            found.append(Order(order_no, schedule, slot, next(self._patients), uuid.uuid4().hex))
        return found

    def list_slots(self) -> catalog_pb2.ListSlotsRequest:
        """ListSlots of the one session."""
        return catalog_pb2.ListSlotsRequest(schedule_id=self.session, page_size=200)


def _zebone_pool(url: str, day: date) -> tuple[list[tuple[str, str]], list[str]]:
    with closing(sqlite3.connect(settings_from_url("his", url).database)) as connection:
        after = {"day": f"{day:%Y-%m-%d} 23:59:59"}
        slots = connection.execute(_ZEBONE_SLOTS, after).fetchall()
        patients = [row[0] for row in connection.execute(_ZEBONE_PATIENTS, after)]
    return slots, patients


def _winning_pool(hospital: Hospital, day: date) -> tuple[list[tuple[str, str]], list[str]]:
    with psycopg.connect(psycopg_url(hospital.url)) as connection:
        after = {"day": f"{day:%Y%m%d}"}
        slots = connection.execute(_WINNING_SLOTS, after).fetchall()
        patients = [row[0] for row in connection.execute(_WINNING_PATIENTS, after).fetchall()]
    return slots, patients


def psycopg_url(url: str) -> str:
    """The SQLAlchemy url as libpq wants it."""
    return url.replace("postgresql+psycopg://", "postgresql://", 1)


def mapping_of(pack: str) -> MappingSet:
    """The mapping set of a pack."""
    engine = load_sample(pack).engine
    return load_mapping_set(PACKS / pack / "mappings", sources={"his": engine}, timezone=ZONE)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement that the agent sent: SQL (or a procedure), and its binds."""

    sql: str | ProcedurePlan
    values: Mapping[str, Any]


@dataclass(slots=True)
class RecordingSession:
    """A session that notes what runs on it. Only what mapping kinds use."""

    inner: Session
    statements: list[Statement] = field(default_factory=list)

    def run(self, sql: str, values: Mapping[str, Any], *, max_rows: int) -> Rows:
        """See the port."""
        self.statements.append(Statement(sql, dict(values)))
        return self.inner.run(sql, values, max_rows=max_rows)

    def call(self, plan: ProcedurePlan, values: Mapping[str, Any], *, max_rows: int) -> ProcedureResult:
        """See the port."""
        self.statements.append(Statement(plan, dict(values)))
        return self.inner.call(plan, values, max_rows=max_rows)


@dataclass(frozen=True, slots=True)
class Recorded:
    """The statements of one ListSlots, one BookAppointment (rolled back) and one look of the watch over orders.

    ``order``: whose booking was recorded.
    """

    list_slots: tuple[Statement, ...]
    book: tuple[Statement, ...]
    order: Order
    watch: tuple[Statement, ...]
    watch_key: str


def record(hospital: Hospital, orders: Orders) -> Recorded:
    """Run each once on a session of the engine and note its statements."""
    generation: Generation = compile_generation(mapping_of(hospital.pack))
    engine = engine_for(settings_from_url("his", hospital.url))
    now = datetime.now(ZoneInfo(ZONE))
    order = orders.take(1)[0]
    session = engine.open(read_only=False, statement_timeout=timedelta(seconds=10))
    reads, writes, looks = RecordingSession(session), RecordingSession(session), RecordingSession(session)
    try:
        generation.operation(LIST_SLOTS).run(_as_session(reads), orders.list_slots(), now=now)
        session.begin()
        generation.operation(BOOK).run(_as_session(writes), order.request(), now=now, key=order.key)
        session.rollback()
        watch = generation.watches[WATCH]
        watch.read(_as_session(looks), now=now)
    finally:
        session.close()
        engine.dispose()
    return Recorded(tuple(reads.statements), tuple(writes.statements), order, tuple(looks.statements), watch.key_column)


def _as_session(recording: RecordingSession) -> Any:
    return recording
