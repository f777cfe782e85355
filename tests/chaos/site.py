"""Where a campaign takes place: one sample HIS, one nursery of agents, and a fresh state folder for each case."""

from __future__ import annotations

import datetime as dt
import json
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from google.type import date_pb2
from his160.v1 import catalog_pb2, common_pb2

from his_db.engine import SourceSettings
from his_db.registry import load_sample
from his_db.sample import SampleSize, WindowProgram, hospital_now
from his_db.source import settings_from_url
from tests.bounds import PATIENCE
from tests.chaos.books import HisSession
from tests.chaos.his_books import HisReader
from tests.chaos.houses import INSTITUTION, Houses, open_houses
from tests.chaos.process import ROOT, AgentProcess, Nursery
from tests.servers import administrate, running_mariadb, running_postgresql

PACK_OF: Final = {"sqlite": "zebone", "postgresql": "winning", "mysql": "bsoft"}
SITE: Final = "440305160"
SETTLE: Final = 13.1
"""Seconds after which the agent takes "not seen in the HIS" for "not done": time-outs of the source, its margin, more."""

LARGE: Final = SampleSize(
    departments=8, doctors=40, days=10, past_days=1, patients=900, past_registrations=20, coming_registrations=20
)
SMALL: Final = SampleSize(
    departments=5, doctors=12, days=5, past_days=1, patients=200, past_registrations=10, coming_registrations=10
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """A free number to be taken, and somebody to take it."""

    schedule_id: str
    slot_id: str
    fee_fen: int
    patient_id: str


@dataclass(slots=True)
class ChaosSite:
    """The hospital and everything to work on it. ``before``: its sessions before the first case."""

    engine: str
    pack: str
    url: str
    nursery: Nursery
    reader: HisReader
    window: WindowProgram
    before: dict[str, HisSession]
    _folder: Path
    houses: Houses | None = None
    _places: Iterator[Place] | None = None
    _count: int = 0
    _guard: Any = field(default_factory=threading.RLock)

    def case_folder(self) -> Path:
        """A folder of its own for one case: configuration, and the state of an agent that has not done anything."""
        with self._guard:
            self._count += 1
            folder = self._folder / f"case-{self._count:05d}"
        shutil.copytree(self._folder / "fresh", folder)
        return folder

    def place(self) -> Place:
        """A place that no other case has or had, with a patient who has nothing in that session."""
        with self._guard:
            if self._places is None:
                self._places = self._free_places()
            return next(self._places)

    def start(self, folder: Path, **options: Any) -> AgentProcess:
        """An agent on the state in ``folder``. Raises Died."""
        return self.nursery.start(folder / "config.toml", **options)

    def wait_alone(self) -> None:
        """Wait until the HIS has noticed that the agent's connections are gone: then nothing of it runs any more."""
        wait_for(lambda: self.reader.other_sessions() == 0, "the HIS to end the dead agent's sessions")

    def _free_places(self) -> Iterator[Place]:
        """Places of coming sessions, session by session in turn, so that no session is used up early."""
        by_session, patients = self._read_places(), self.reader.patients()
        if self.houses is not None:
            insurable = self.reader.insurable()
            by_session = {key: slots for key, slots in by_session.items() if key in insurable}
            patients = [patient for patient in patients if len(self.reader.person(patient)[1]) == 18]
        number = 0
        while by_session:
            for schedule_id in list(by_session):
                slots = by_session[schedule_id]
                if not slots:
                    del by_session[schedule_id]
                    continue
                slot_id, fee = slots.pop()
                yield Place(schedule_id, slot_id, fee, patients[number % len(patients)])
                number += 1
        raise AssertionError("the sample HIS has no free number left: make it larger")

    def _read_places(self) -> dict[str, list[tuple[str, int]]]:
        today = hospital_now().date()
        agent = self.start(self.case_folder())
        try:
            request = catalog_pb2.ListSchedulesRequest(
                from_date=date_of(today + dt.timedelta(days=1)),
                to_date=date_of(today + dt.timedelta(days=30)),
                page_size=1000,
            )
            schedules = agent.call("CatalogService.ListSchedules", request).message.schedules
            found = {}
            for schedule in schedules:
                if schedule.state != common_pb2.SCHEDULE_STATE_OPEN or schedule.free_count < 2:
                    continue
                asked = catalog_pb2.ListSlotsRequest(schedule_id=schedule.schedule_id, free_only=True)
                slots = agent.call("CatalogService.ListSlots", asked).message.slots
                fee = schedule.fee_fen
                found[schedule.schedule_id] = [(slot.slot_id, fee) for slot in slots for _ in range(slot.free_count)]
            return found
        finally:
            agent.kill()


@contextmanager
def chaos_site(
    engine: str, folder: Path, *, size: SampleSize = LARGE, with_houses: bool = False
) -> Iterator[ChaosSite]:
    """A sample HIS of that engine, fresh, and what the campaign needs around it. Skips where there is no server.

    ``with_houses``: the agent takes the payments itself, at a payment house and 医保, both simulated.
    """
    pack = PACK_OF[engine]
    sample = load_sample(pack)
    with ExitStack() as stack:
        url = open_database(engine, folder, stack)
        if with_houses:  # fewer sessions to choose from: nobody may have an appointment already
            size = replace(size, coming_registrations=0)
        sample.create(url, today=hospital_now().date(), size=size)
        fresh = folder / "fresh"
        (fresh / "state").mkdir(parents=True)
        source = _agent_source(engine, url, stack)
        mappings = ROOT / "his_db" / "packs" / sample.name / sample.mappings
        config, engines, houses = _config(source, f"pack:{pack}"), {"his": engine}, None
        if with_houses:
            houses = stack.enter_context(open_houses(folder))
            mappings = shutil.copytree(mappings, folder / "mappings")
            for each in houses.mappings:
                shutil.copy(each, mappings)
            engines |= dict.fromkeys(houses.servers, "http")
            config = _config(source, mappings.as_posix(), houses)
        (fresh / "config.toml").write_text(config, encoding="utf-8")
        nursery = stack.enter_context(Nursery([(mappings, engines)]))
        reader = HisReader(pack, url)
        stack.callback(reader.close)
        window = sample.window(url)
        stack.callback(window.close)
        nursery.warm(fresh / "config.toml")  # also makes the store: a copy of it is cheaper than another
        yield ChaosSite(engine, pack, url, nursery, reader, window, dict(reader.read([]).sessions), folder, houses)


def wait_for(done: Callable[[], T], what: str, seconds: float = PATIENCE) -> T:
    """Ask until the answer is true. Raises AssertionError."""
    until = time.monotonic() + seconds
    pause = threading.Event()
    while not (answer := done()):
        if time.monotonic() >= until:
            raise AssertionError(f"waited in vain for {what}")
        pause.wait(0.005)
    return answer


def open_database(engine: str, folder: Path, stack: ExitStack) -> str:
    """The url of an empty database, gone when the stack ends. Skips where there is no server."""
    if engine == "sqlite":
        return f"sqlite:///{(folder / 'his.db').as_posix()}"
    if engine == "postgresql":
        at = stack.enter_context(stack.enter_context(running_postgresql()).database())
        secret = f":{at.password}" if at.password else ""
        host = (
            f"/{at.database}?host={at.host}&"
            if at.host.startswith("/")
            else f"{at.host}:{at.port or 5432}/{at.database}?"
        )
        return f"postgresql+psycopg://{at.user}{secret}@{host}application_name=chaos-reader"
    at = stack.enter_context(stack.enter_context(running_mariadb()).database())
    secret = f":{at.password}" if at.password else ""
    return f"mysql+pymysql://{at.user}{secret}@{at.host}:{at.port or 3306}/{at.database}"


def _agent_source(engine: str, url: str, stack: ExitStack) -> SourceSettings:
    """How the agent reaches the HIS: never looking like the harness itself, so that its connections can be counted."""
    source = settings_from_url("his", url.replace("application_name=chaos-reader", "").rstrip("?&"))
    if engine != "mysql":
        return source
    user = f"chaos_{secrets.token_hex(6)}"
    administrate(source, [f"CREATE USER {user} IDENTIFIED BY ''", f"GRANT ALL ON `{source.database}`.* TO {user}"])
    stack.callback(administrate, source, [f"DROP USER {user}"])
    return replace(source, user=user, password="")


def _config(source: SourceSettings, mappings: str, houses: Houses | None = None) -> str:
    keys: dict[str, Any] = {"engine": source.engine, "database": source.database}
    if source.engine != "sqlite":
        keys |= {"host": source.host, "port": source.port, "user": source.user}
    if source.password:
        keys["password"] = "@env:HIS160_CHAOS_PASSWORD"
    lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in keys.items())
    return f"""\
[site]
code = "{SITE}"
instance = "chaos"
[state]
path = "state/his160.db"
sweep = "1h"
[source.his]
{lines}
statement_timeout = "10s"
lock_timeout = "1s"
[mapping]
path = "{mappings}"
watch = "off"
drift = "0s"
[server]
enabled = true
insecure = true
[watch]
enabled = false
[delivery]
sink = "pull"
{_houses(houses) if houses else ""}"""


def _houses(houses: Houses) -> str:
    sources = [
        f'[source.{name}]\nengine = "http"\ndatabase = "{server.url}"\nstatement_timeout = "10s"\n'
        for name, server in houses.servers.items()
    ]
    return f'[insurance]\ninstitution = "{INSTITUTION}"\n' + "".join(sources)


def date_of(day: dt.date) -> date_pb2.Date:
    """As the contract writes it."""
    return date_pb2.Date(year=day.year, month=day.month, day=day.day)
