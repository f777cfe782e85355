"""Wake-up signals on real databases: a watch that would look in an hour looks when the window has committed."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from his160.v1 import agent_pb2

from agent.config import load_settings
from agent.daemon import Daemon
from agent.metrics import exposition
from agent.status import ComponentState
from agent.wakes import Wakes
from his_db import registry
from his_db.access import HisAccess
from his_db.document.problem import DocumentError
from his_db.engine import SourceSettings
from his_db.generation import Generation, compile_generation
from his_db.mapping.load import load_mapping_set
from his_db.source import Source, engine_for
from his_db.wake_listener import WakeListener
from sync.captures.fed import FedDiff
from sync.clock import utc_now
from sync.outbox import Outbox
from sync.store import open_store
from sync.watcher import Watcher
from tests.bounds import PATIENCE
from tests.servers import administrate

LONG = timedelta(hours=1)
UNSUPPORTED = 'schema = 1\noperation = "PaymentService.RefundPayment"\nkind = "unsupported"\nwhy = "窗口退费"\n'
WATCH = """
schema = 1
watch = "orders"
subject = "appointment"
key = "appointment_id"
wake = "{wake}"
sql = "SELECT id, order_no, patid, sch, state FROM reg"
fields = [
  {{ to = "appointment_id", column = "id" }},
  {{ to = "order_no", column = "order_no" }},
  {{ to = "patient_id", column = "patid" }},
  {{ to = "schedule_id", column = "sch" }},
  {{ to = "state", column = "state" }},
]
[[event]]
kind = "CANCELLED"
when = "state: BOOKED -> CANCELLED"
"""
TABLE = "CREATE TABLE reg (id INTEGER PRIMARY KEY, order_no VARCHAR(20), patid VARCHAR(20), sch VARCHAR(20), state VARCHAR(20))"
CONFIG = """\
site.code = "440305001"
mapping.path = "mappings"
mapping.canary = []
source.his = {{ engine = "sqlite", database = "{his}" }}
server = {{ enabled = true, insecure = true, listen = "127.0.0.1:0" }}
delivery.sink = "pull"
watch.poll = "1h"
"""
SIGNALS = {"postgresql": "his160_reg", "sqlite": "file"}
ALSO = {"postgresql": ["NOTIFY his160_reg"], "sqlite": list[str]()}


def compiled(folder: Path, engine: str, wake: str) -> Generation:
    folder.mkdir(exist_ok=True)
    (folder / "orders.toml").write_text(WATCH.format(wake=wake), encoding="utf-8")
    (folder / "refund.toml").write_text(UNSUPPORTED, encoding="utf-8")
    return compile_generation(load_mapping_set(folder, sources={"his": engine}, timezone="Asia/Shanghai"))


def his_of(request: pytest.FixtureRequest, engine: str) -> SourceSettings:
    if engine == "sqlite":
        return SourceSettings(name="his", engine="sqlite", database=str(request.getfixturevalue("sqlite_path")))
    factory: Callable[[], SourceSettings] = request.getfixturevalue("postgresql_database")
    return factory()


@dataclass(slots=True)
class Bed:
    """A watcher in its loop, its wakes, and what the outbox has got. ``told``: set with every event, and by ``rest``."""

    settings: SourceSettings
    source: Source
    generation: Generation
    watcher: Watcher
    wakes: Wakes
    outbox: Outbox
    resting: asyncio.Event

    async def events(self, number: int) -> list[str]:
        """Orders with an event, once there are that many."""
        async with asyncio.timeout(PATIENCE):
            while len(found := await self.outbox.read_after(0)) < number:
                self.resting.clear()
                await self.resting.wait()
        return [event.order_no for event in found]

    def cancel(self, key: int) -> None:
        """At the window, in one transaction with the signal."""
        statements = [f"UPDATE reg SET state = 'CANCELLED' WHERE id = {key}", *ALSO[self.settings.engine]]
        administrate(self.settings, statements)

    def state(self) -> ComponentState:
        (state,) = self.wakes.states()
        return state


@pytest.fixture
async def bed(request: pytest.FixtureRequest, engine: str, tmp_path: Path) -> AsyncIterator[Bed]:
    settings = his_of(request, engine)
    rows = ", ".join(f"({key}, 'T{key}', 'P1', 'S1', 'BOOKED')" for key in range(1, 6))
    administrate(settings, [TABLE, f"INSERT INTO reg VALUES {rows}"])
    generation = compiled(tmp_path / "mappings", engine, SIGNALS[engine])
    source = Source(settings, {})
    store = open_store(tmp_path / "state.db", utc_now)
    outbox = Outbox(store, utc_now)
    resting = asyncio.Event()

    async def rest(event: asyncio.Event, limit: timedelta) -> None:
        resting.set()  # a poll is over; the rhythm of an hour is not waited for, only signals
        await event.wait()

    capture = FedDiff(HisAccess({"his": source}, generation), store, "orders", clock=utc_now)
    watcher = Watcher(capture, store, outbox, site="S", clock=utc_now, interval=LONG, wait=rest)
    wakes = Wakes({"his": source}, lambda name: watcher.wake() if name == "orders" else None)
    running = asyncio.ensure_future(watcher.run())
    async with asyncio.timeout(PATIENCE):
        await resting.wait()  # the baseline
    try:
        yield Bed(settings, source, generation, watcher, wakes, outbox, resting)
    finally:
        await wakes.follow(())
        watcher.stop()
        await running
        await store.close()
        await source.close()


@pytest.mark.parametrize("engine", list(SIGNALS))
async def test_a_commit_at_the_window_wakes_the_watch(bed: Bed, engine: str) -> None:
    await bed.wakes.follow(bed.generation.watches.values())
    bed.cancel(1)
    assert await bed.events(1) == ["T1"]
    bed.cancel(2)
    bed.cancel(3)
    assert await bed.events(3) == ["T1", "T2", "T3"]
    assert bed.state() == ComponentState("wake:his", agent_pb2.HEALTH_OK)
    assert bed.wakes.figures()["wakes:his"] >= 1
    await bed.wakes.follow(bed.generation.watches.values())
    assert len(list(bed.wakes.states())) == 1, "the same listener goes on"
    await bed.wakes.follow(())
    assert list(bed.wakes.states()) == []


@pytest.mark.parametrize("engine", list(SIGNALS))
async def test_what_was_committed_before_anybody_listened(bed: Bed, engine: str) -> None:
    bed.cancel(4)
    await bed.wakes.follow(bed.generation.watches.values())
    assert await bed.events(1) == ["T4"]


async def test_through_the_agent(sqlite_path: Path, tmp_path: Path) -> None:
    settings = SourceSettings(name="his", engine="sqlite", database=str(sqlite_path))
    administrate(settings, [TABLE, "INSERT INTO reg VALUES (1, 'T1', 'P1', 'S1', 'BOOKED')"])
    compiled(tmp_path / "mappings", "sqlite", "file")
    config = tmp_path / "config.toml"
    config.write_text(CONFIG.format(his=sqlite_path.as_posix()), encoding="utf-8")
    daemon = Daemon(load_settings(config, {}))
    arrived = asyncio.Event()
    daemon._outbox.subscribe(arrived.set)
    await daemon.start()
    try:
        async with asyncio.timeout(PATIENCE):
            while not {"wake:his", "watch:orders"} <= await healthy(daemon):
                await asyncio.sleep(0.01)
            administrate(settings, ["UPDATE reg SET state = 'CANCELLED'"])
            await arrived.wait()
        assert [event.order_no for event in await daemon._outbox.read_after(0)] == ["T1"]
        assert 'his160_wakes_total{source="his"}' in exposition(await daemon.board.snapshot(), {}).decode()
    finally:
        await daemon.stop()


async def healthy(daemon: Daemon) -> set[str]:
    parts = (await daemon.board.snapshot()).components
    return {part.name for part in parts if part.health == agent_pb2.HEALTH_OK}


class Heard:
    """What a listener has told, to be waited for."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self.all: list[Collection[str]] = []

    def __call__(self, signals: Collection[str]) -> None:
        with self._condition:
            self.all.append(signals)
            self._condition.notify_all()

    def wait(self, number: int) -> None:
        with self._condition:
            assert self._condition.wait_for(lambda: len(self.all) >= number, PATIENCE), self.all


def listener(settings: SourceSettings, signals: Collection[str], heard: Heard) -> WakeListener:
    wake = registry.load(registry.WAKES[settings.engine])()
    return WakeListener("his", wake, engine_for(settings), signals, heard, gap=0.0, first_pause=0.01)


def test_a_session_that_the_server_ends_is_opened_again(request: pytest.FixtureRequest) -> None:
    settings = his_of(request, "postgresql")
    heard = Heard()
    made = listener(settings, {"a", "b"}, heard)
    made.start()
    try:
        heard.wait(1)  # connected
        others = "pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        administrate(settings, ["NOTIFY a"])
        heard.wait(2)
        assert heard.all[1] == {"a"}
        administrate(settings, [f"SELECT pg_terminate_backend(pid) FROM {others}"])
        heard.wait(3)  # connected again: something may have been signalled meanwhile
        administrate(settings, ["NOTIFY b"])
        heard.wait(4)
        assert (set(heard.all[2]), heard.all[3]) == ({"a", "b"}, {"b"})
        assert (made.trouble, made.count) == ("", 2)
    finally:
        made.stop()
    assert not made.is_alive


def test_a_file_that_is_replaced_is_opened_again(sqlite_path: Path) -> None:
    settings = SourceSettings(name="his", engine="sqlite", database=str(sqlite_path))
    administrate(settings, ["CREATE TABLE t (x)"])
    other = sqlite_path.with_name("other.db")
    shutil.copyfile(sqlite_path, other)
    heard = Heard()
    made = listener(settings, {"file"}, heard)
    made.start()
    try:
        heard.wait(1)
        os.replace(other, sqlite_path)
        heard.wait(2)
        administrate(settings, ["INSERT INTO t VALUES (1)"])
        heard.wait(3)
    finally:
        made.stop()


async def test_no_signals_are_said_and_nothing_else_happens(tmp_path: Path) -> None:
    settings = SourceSettings(name="his", engine="postgresql", database="x", host="127.0.0.1", port=1, user="x")
    source = Source(settings, {})
    wakes = Wakes({"his": source}, lambda name: None)
    await wakes.follow(compiled(tmp_path / "m", "postgresql", "his160_reg").watches.values())
    try:
        async with asyncio.timeout(PATIENCE):
            while "OperationalError" not in (state := next(iter(wakes.states()))).detail:
                await asyncio.sleep(0.01)
        assert (state.name, state.health) == ("wake:his", agent_pb2.HEALTH_DEGRADED)
        assert "watches poll in their own rhythm" in state.detail
    finally:
        await wakes.follow(())
        await source.close()


@pytest.mark.parametrize(
    ("engine", "wake", "code"),
    [
        ("mysql", "reg", "H226"),
        ("postgresql", "Reg", "H232"),
        ("postgresql", 'a\\"; x', "H232"),
        ("sqlite", "x", "H232"),
    ],
)
def test_a_mapping_with_a_signal_that_there_is_not(tmp_path: Path, engine: str, wake: str, code: str) -> None:
    with pytest.raises(DocumentError) as caught:
        compiled(tmp_path / "m", engine, wake)
    assert [(problem.code, problem.place.line) for problem in caught.value.problems] == [(code, 6)]
