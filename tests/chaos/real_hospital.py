"""A hospital for models: the whole path of a command in this process, on a real sample HIS, a payment house and 医保.

Nothing of the agent is replaced but its borders: executor, ledger, load guard, mappings, lanes and drivers are the
product's; the HIS is the vendor's tables, the gateways are asked over HTTP. What breaks is the connection (``CutEngine``),
the wire (the simulators' faults) and the process (``Mortal``).
"""

from __future__ import annotations

import asyncio
import datetime as dt
import shutil
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from google.protobuf.message import Message
from his160.v1 import catalog_pb2, common_pb2
from sqlalchemy import create_engine, text

from his_db.access import HisAccess
from his_db.engine import Fault, SourceSettings
from his_db.generation import Generation, compile_generation
from his_db.guard import GuardedHis
from his_db.mapping.load import load_mapping_set
from his_db.registry import load_sample
from his_db.sample import SampleSize, WindowProgram, hospital_now
from his_db.source import Source, engine_for, settings_from_url
from tests.chaos.his_books import HisReader
from tests.chaos.houses import Houses, open_houses
from tests.chaos.process import ROOT
from tests.chaos.site import PACK_OF, Place, date_of, open_database

ZONE: Final = "Asia/Shanghai"
SIZE: Final = SampleSize(
    departments=5, doctors=16, days=6, past_days=1, patients=400, past_registrations=20, coming_registrations=0
)
_HOLD_ENDED: Final = {
    "sqlite": "UPDATE SCH_TICKET SET DATE_LOCKEND = '2020-01-01 00:00:00' WHERE ID_LOCK = :order_no AND FLAG_LOCK = '1' "
    "AND FLAG_USED = '0'",
    "postgresql": "UPDATE his.gh_yy_sdk SET sxsj = '2020010100:00:00' WHERE ddh = :order_no AND zt = 0",
}


class Cut(Exception):
    """The connection to the HIS broke."""


class CutEngine:
    """A ``his_db.engine.Engine`` whose writing connections break at COMMIT when told: ``cuts`` are used up by the next
    commits; "lost": the HIS never has it, "unheard": it has, "": nothing breaks."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.cuts: deque[str] = deque()
        self.driver_errors = (*engine.driver_errors, Cut)

    def open(self, *, read_only: bool, **options: Any) -> Any:
        session = self._engine.open(read_only=read_only, **options)
        return session if read_only else _CutSession(session, self.cuts)

    def classify(self, error: BaseException, *, sent: bool) -> Fault:
        return Fault.LOST if isinstance(error, Cut) else self._engine.classify(error, sent=sent)

    def describe(self, error: BaseException) -> str:
        return "cut" if isinstance(error, Cut) else self._engine.describe(error)

    def sentence(self, error: BaseException) -> str:
        return "" if isinstance(error, Cut) else self._engine.sentence(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


class _CutSession:
    def __init__(self, session: Any, cuts: deque[str]) -> None:
        self._session = session
        self._cuts = cuts
        self._is_cut = False

    def commit(self) -> None:
        how = self._cuts.popleft() if self._cuts else ""
        if how == "lost":
            self._session.rollback()
        else:
            self._session.commit()
        if how:
            self._is_cut = True
            self._session.close()
            raise Cut

    def rollback(self) -> None:
        if not self._is_cut:
            self._session.rollback()

    def alive(self) -> bool:
        return not self._is_cut and bool(self._session.alive())

    def ping(self) -> bool:
        return not self._is_cut and bool(self._session.ping())

    def close(self) -> None:
        if not self._is_cut:
            self._session.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


class Mortal:
    """The HIS as an agent sees it that dies at a write: ``deaths`` are used up by the next writes, of the HIS, the payment
    house and 医保; "before": it is not sent, "after": it is done, and nobody is there to hear of it."""

    def __init__(self, his: GuardedHis) -> None:
        self._his = his
        self.deaths: deque[str] = deque()

    async def write(self, operation: str, request: Message, *, key: str, deadline: float | None = None) -> Message:
        how = self.deaths.popleft() if self.deaths else ""
        if how == "before":
            raise asyncio.CancelledError
        answer = await self._his.write(operation, request, key=key, deadline=deadline)
        if how == "after":
            raise asyncio.CancelledError
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._his, name)


@dataclass(slots=True)
class RealHospital:
    """One hospital for all examples of a test; each has places, patients and order numbers of its own."""

    engine: str
    url: str
    generation: Generation
    sources: dict[str, Source]
    cut: CutEngine
    reader: HisReader
    window: WindowProgram
    houses: Houses
    _places: Iterator[list[Place]] = field(init=False)
    _number: int = 0

    def __post_init__(self) -> None:
        self._places = self._free_places(asyncio.run(self._read_places()))

    def his(self) -> Mortal:
        """The path to the HIS and the gateways, for one event loop."""
        return Mortal(GuardedHis(HisAccess(self.sources, self.generation, clock=self.houses.clock)))

    def next_example(self) -> tuple[str, list[Place]]:
        """A prefix for order numbers; three places: two patients want the first one, the third another session's."""
        self._number += 1
        self.houses.forget_numbers()
        self.reader.ahead = 0.0
        return f"M{self._number:05d}", next(self._places)

    def move(self, seconds: float) -> None:
        """Time passes, for agent, gateways, window and the HIS that is told the time."""
        self.houses.ahead += seconds
        self.reader.ahead = self.houses.ahead

    def end_hold(self, order_no: str) -> None:
        """The hold of an order runs out."""
        engine = create_engine(self.url)
        with engine.begin() as his:
            his.execute(text(_HOLD_ENDED[self.engine]), {"order_no": order_no})
        engine.dispose()

    def _free_places(self, slots: dict[str, list[tuple[str, int]]]) -> Iterator[list[Place]]:
        patients = [each for each in self.reader.patients() if len(self.reader.person(each)[1]) == 18]
        sessions = sorted(slots)
        turn = 0
        while sessions:
            taken = [sessions[turn % len(sessions)], sessions[(turn + 1) % len(sessions)]]
            if any(not slots[schedule_id] for schedule_id in taken):
                sessions = [schedule_id for schedule_id in sessions if slots[schedule_id]]
                continue
            wanted, other = (slots[schedule_id].pop() for schedule_id in taken)
            who = [patients[(3 * turn + at) % len(patients)] for at in range(3)]
            turn += 2
            yield [
                Place(schedule_id, slot_id, fee, patient)
                for (schedule_id, (slot_id, fee)), patient in zip(
                    [(taken[0], wanted), (taken[0], wanted), (taken[1], other)], who, strict=True
                )
            ]
        raise AssertionError("the sample HIS has no free number left: make it larger")

    async def _read_places(self) -> dict[str, list[tuple[str, int]]]:
        """Free numbers of sessions that 医保 knows, none before the day after tomorrow: time passes in an example."""
        his, today, insurable = self.his(), hospital_now().date(), self.reader.insurable()
        asked = catalog_pb2.ListSchedulesRequest(
            from_date=date_of(today + dt.timedelta(days=2)),
            to_date=date_of(today + dt.timedelta(days=30)),
            page_size=1000,
        )
        schedules: Any = await his.read("CatalogService.ListSchedules", asked)
        found = {}
        for schedule in schedules.schedules:
            is_open = schedule.state == common_pb2.SCHEDULE_STATE_OPEN and schedule.free_count > 1
            if is_open and schedule.schedule_id in insurable:
                wanted = catalog_pb2.ListSlotsRequest(schedule_id=schedule.schedule_id, free_only=True)
                answer: Any = await his.read("CatalogService.ListSlots", wanted)
                free = [(slot.slot_id, schedule.fee_fen) for slot in answer.slots for _ in range(slot.free_count)]
                found[schedule.schedule_id] = free
        return found


@contextmanager
def real_hospital(engine: str, folder: Path, *, size: SampleSize = SIZE) -> Iterator[RealHospital]:
    """A fresh sample HIS with its houses, until the block ends. Skips where there is no server."""
    sample = load_sample(PACK_OF[engine])
    with ExitStack() as stack:
        url = open_database(engine, folder, stack)
        sample.create(url, today=hospital_now().date(), size=size)
        houses = stack.enter_context(open_houses(folder))
        mappings = shutil.copytree(ROOT / "his_db" / "packs" / sample.name / sample.mappings, folder / "mappings")
        for each in houses.mappings:
            shutil.copy(each, mappings)
        engines = {"his": engine} | dict.fromkeys(houses.servers, "http")
        generation = compile_generation(load_mapping_set(mappings, sources=engines, timezone=ZONE))
        settings = settings_from_url("his", url)
        cut = CutEngine(engine_for(settings))
        outside = {name: SourceSettings(name, "http", server.url) for name, server in houses.servers.items()}
        sources = {"his": Source(settings, engine=cut), **{name: Source(each) for name, each in outside.items()}}
        stack.callback(_close, sources.values())
        reader = HisReader(sample.name, url)
        stack.callback(reader.close)
        window = sample.window(url, clock=lambda: hospital_now() + dt.timedelta(seconds=houses.ahead))
        stack.callback(window.close)
        yield RealHospital(engine, url, generation, sources, cut, reader, window, houses)


def _close(sources: Iterable[Source]) -> None:
    async def close() -> None:
        for source in sources:
            await source.close(dt.timedelta(seconds=5))

    asyncio.run(close())
