"""The load guard on a real SQLite HIS: shared statements, the micro-cache, switches, degraded operations, breakers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.rpc import code_pb2
from his160.v1 import appointment_pb2, catalog_pb2

from agent.config_place import packs_folder
from agent.errors import explain, to_status
from his_db.access import HisAccess
from his_db.coalesce import Coalescer, Read
from his_db.engine import Engine, Rows, Session
from his_db.errors import (
    DeadlinePassed,
    HisBusy,
    HisChanged,
    HisRefused,
    MappingMismatch,
    OutcomeUnknown,
    Overloaded,
    SwitchedOff,
)
from his_db.generation import Generation, compile_generation
from his_db.guard import GuardedHis
from his_db.mapping.load import load_mapping_set
from his_db.quiet_hours import QuietHours, parse_spans
from his_db.registry import load_sample
from his_db.sample import SMALL, hospital_now
from his_db.slow_calls import SlowCalls, SlowCallSettings, SlowState
from his_db.source import LaneSettings, LoadSettings, Source, engine_for, settings_from_url
from tests.bounds import PATIENCE, until

SLOTS = "CatalogService.ListSlots"
DEPARTMENTS = "CatalogService.ListDepartments"
APPOINTMENT = "AppointmentService.GetAppointment"
UNLOCK = "AppointmentService.UnlockSlot"


class Traced:
    """A session that counts what it runs, and waits at the gate before."""

    def __init__(self, inner: Session, engine: TracedEngine) -> None:
        self._inner = inner
        self._engine = engine

    def run(self, sql: str, values: Mapping[str, Any], *, max_rows: int) -> Rows:
        self._engine.statements.append(sql)
        self._engine.begun.release()
        assert self._engine.gate.wait(PATIENCE)
        return self._inner.run(sql, values, max_rows=max_rows)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class TracedEngine:
    """SQLite, counted. ``gate`` holds every statement while it is closed; ``begun`` counts those that came to it."""

    def __init__(self, inner: Engine) -> None:
        self._inner = inner
        self.statements: list[str] = []
        self.begun = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()

    def open(self, *, read_only: bool, statement_timeout: timedelta | None = None) -> Any:
        return Traced(self._inner.open(read_only=read_only, statement_timeout=statement_timeout), self)

    async def wait_begun(self, count: int = 1) -> None:
        for _ in range(count):
            assert await asyncio.to_thread(self.begun.acquire, timeout=PATIENCE)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('his') / 'his.db'}"
    load_sample("zebone").create(url, today=hospital_now().date(), size=SMALL)
    return url


@pytest.fixture(scope="module")
def generation() -> Generation:
    folder = packs_folder() / "zebone" / "mappings"
    return compile_generation(load_mapping_set(folder, sources={"his": "sqlite"}, timezone="Asia/Shanghai"))


@pytest.fixture
def engine(hospital: str) -> TracedEngine:
    return TracedEngine(engine_for(settings_from_url("his", hospital)))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def source(hospital: str, engine: TracedEngine) -> AsyncIterator[Source]:
    made = Source(settings_from_url("his", hospital), {"read": LaneSettings(2, 200)}, engine=engine)  # type: ignore[arg-type]
    yield made
    engine.gate.set()
    await made.close()


@pytest.fixture
def off() -> dict[str, str]:
    return {}


@pytest.fixture
def his(source: Source, generation: Generation, clock: Clock, off: dict[str, str]) -> GuardedHis:
    return GuardedHis(HisAccess({"his": source}, generation), switched_off=off.get, clock=clock)


def with_operation(generation: Generation, name: str, **changes: Any) -> Generation:
    changed = replace(generation.operations[name], **changes)
    return replace(generation, revision="other", operations={**generation.operations, name: changed})


async def a_schedule(his: GuardedHis) -> str:
    today = hospital_now().date()
    request = catalog_pb2.ListSchedulesRequest()
    for day in (request.from_date, request.to_date):
        day.year, day.month, day.day = today.year, today.month, today.day
    found = await his.read("CatalogService.ListSchedules", request)
    assert isinstance(found, catalog_pb2.ListSchedulesResponse)
    return found.schedules[0].schedule_id


def slots_of(schedule_id: str, *, realtime: bool = False) -> catalog_pb2.ListSlotsRequest:
    return catalog_pb2.ListSlotsRequest(schedule_id=schedule_id, realtime=realtime)


async def test_200_identical_reads_are_one_statement(his: GuardedHis, engine: TracedEngine) -> None:
    request = slots_of(await a_schedule(his))
    engine.statements.clear()
    answers = await asyncio.gather(*(his.read(SLOTS, request) for _ in range(200)))
    assert len(engine.statements) <= 2
    assert his.figures()["reads_coalesced"] >= 198
    first = answers[0]
    assert isinstance(first, catalog_pb2.ListSlotsResponse)
    assert first.slots
    assert all(answer == first for answer in answers)
    first.slots[0].slot_id = "changed by its caller"
    assert all(answer.slots[0].slot_id != "changed by its caller" for answer in answers[1:])  # type: ignore[attr-defined]


async def test_a_running_read_is_shared_unless_realtime(his: GuardedHis, engine: TracedEngine) -> None:
    """A realtime read shares only a statement that begins after its call; so do reads that have no such choice."""
    schedule = await a_schedule(his)
    engine.statements.clear()
    await engine.wait_begun()  # the one of a_schedule
    engine.gate.clear()
    first = asyncio.create_task(his.read(SLOTS, slots_of(schedule)))
    await engine.wait_begun()
    shared = [asyncio.create_task(his.read(SLOTS, slots_of(schedule))) for _ in range(100)]
    await asyncio.sleep(0)
    assert len(engine.statements) == 1
    exact = [asyncio.create_task(his.read(SLOTS, slots_of(schedule, realtime=True))) for _ in range(100)]
    await engine.wait_begun()
    # Both workers are held: what comes now waits together.
    late = [asyncio.create_task(his.read(SLOTS, slots_of(schedule, realtime=True))) for _ in range(100)]
    await asyncio.sleep(0)
    engine.gate.set()
    await asyncio.gather(first, *shared, *exact, *late)
    assert len(engine.statements) == 3


async def test_a_probe_never_shares_what_began_before(his: GuardedHis, engine: TracedEngine) -> None:
    request = appointment_pb2.GetAppointmentRequest(order_no="none")
    engine.gate.clear()
    first = asyncio.create_task(his.read(APPOINTMENT, request))
    await engine.wait_begun()
    probe = asyncio.create_task(his.read(APPOINTMENT, request))
    await engine.wait_begun()
    engine.gate.set()
    for task in (first, probe):
        with pytest.raises(HisRefused):
            await task
    assert len(engine.statements) == 2


async def test_a_write_parts_the_reads(his: GuardedHis, engine: TracedEngine) -> None:
    schedule = await a_schedule(his)
    await engine.wait_begun()
    engine.gate.clear()
    before = asyncio.create_task(his.read(SLOTS, slots_of(schedule)))
    await engine.wait_begun()
    write = asyncio.create_task(
        his.write(UNLOCK, appointment_pb2.UnlockSlotRequest(request_id="r", order_no="none"), key="0" * 32)
    )
    await engine.wait_begun()
    engine.gate.set()
    await asyncio.gather(write, return_exceptions=True)
    engine.gate.clear()
    await before
    engine.statements.clear()
    engine.gate.set()
    await his.read(SLOTS, slots_of(schedule))
    assert len(engine.statements) == 1


async def test_one_callers_deadline_and_departure_are_his_own(
    his: GuardedHis, engine: TracedEngine, clock: Clock
) -> None:
    schedule = await a_schedule(his)
    await engine.wait_begun()
    engine.gate.clear()
    hasty = asyncio.create_task(his.read(SLOTS, slots_of(schedule), deadline=clock.now + 0.05))
    await engine.wait_begun()
    gone = asyncio.create_task(his.read(SLOTS, slots_of(schedule)))
    patient = asyncio.create_task(his.read(SLOTS, slots_of(schedule)))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(DeadlinePassed):
        await hasty
    engine.gate.set()
    assert (await patient).slots  # type: ignore[attr-defined]
    assert gone.cancelled()
    with pytest.raises(DeadlinePassed):
        await his.read(SLOTS, slots_of(schedule), deadline=clock.now - 1)


async def test_a_crowd_is_answered_in_steps() -> None:
    """Everybody who asks the same within a step gets an answer that began after he asked; one caller never waits."""
    clock = Clock()
    shared = Coalescer(clock=clock)
    read = Read("mapping", b"request", "his", loose=False, keep=None)
    begun: list[float] = []
    gates: list[asyncio.Event] = []

    async def work(begin: Callable[[], None]) -> catalog_pb2.ListSlotsResponse:
        begin()
        begun.append(clock.now)
        gates.append(asyncio.Event())
        await gates[-1].wait()
        return catalog_pb2.ListSlotsResponse(next_page_token=str(len(begun)))

    async def ask(count: int) -> list[asyncio.Task[Any]]:
        tasks = [asyncio.ensure_future(shared.share(read, work, deadline=None)) for _ in range(count)]
        await settled()
        return tasks

    async def alone() -> str:
        (task,) = await ask(1)
        gates[-1].set()
        return str((await task).next_page_token)

    assert [await alone() for _ in range(5)] == list("12345")  # one after the other: none is kept waiting
    clock.now += 10
    first = await ask(10)
    assert len(begun) == 6
    clock.now += 0.01
    crowd = await ask(9)  # one running for ten, nine who wait: the tenth of them may still come
    assert len(begun) == 6
    gates[-1].set()
    assert {(await task).next_page_token for task in first} == {"6"}
    assert len(begun) == 6
    crowd += await ask(10)  # as many as there were at once: nobody else is expected
    assert len(begun) == 7
    gates[-1].set()
    assert {(await task).next_page_token for task in crowd} == {"7"}
    clock.now += 0.01
    late = await ask(1)
    assert len(begun) == 7
    await until(lambda: len(begun) == 8)  # nobody waits longer than the rest of a step
    gates[-1].set()
    assert (await late[0]).next_page_token == "8"
    clock.now += 5
    assert await alone() == "9"  # the crowd is forgotten


async def test_a_crowd_that_browses_leaves_the_machine_to_who_books() -> None:
    """While there are writes, many who look at one thing or another get one statement of each in a step; few do not,
    nor does a look that belongs to a command, nor anybody when nobody books."""
    clock = Clock()
    shared = Coalescer(clock=clock, chance=lambda: 0.5)
    begun: list[bytes] = []

    async def ask(name: bytes, *, browses: bool = True) -> None:
        async def work(begin: Callable[[], None]) -> catalog_pb2.ListSlotsResponse:
            begin()
            begun.append(name)
            return catalog_pb2.ListSlotsResponse()

        await shared.share(Read("mapping", name, "his", loose=False, keep=None, browses=browses), work, deadline=None)

    async def rounds(crowd: Sequence[bytes], *, browses: bool = True) -> int:
        """How many statements there are for two rounds of the crowd, the second one just after the first."""
        begun.clear()
        clock.now += 10
        await asyncio.gather(*(ask(name, browses=browses) for name in crowd))
        clock.now += 0.01
        again = [asyncio.ensure_future(ask(name, browses=browses)) for name in crowd]
        await settled()
        found = len(begun)
        await asyncio.gather(*again)  # nobody waits longer than the rest of a step
        return found

    crowd = [b"%d" % number for number in range(8)]
    assert await rounds(crowd) == 16
    with shared.writing("other"):
        assert await rounds(crowd) == 16
    with shared.writing("his"):
        assert await rounds(crowd) == 8
        assert len(begun) == 16
        assert await rounds(crowd[:7]) == 14
        assert await rounds(crowd, browses=False) == 16
        assert await rounds([b"0"] * 8) == 1  # all of them wait for it, and it has its time all the same
        assert len(begun) == 2
    begun.clear()
    again = [asyncio.ensure_future(ask(name)) for name in [b"0"] * 8]
    await settled()
    assert begun == []  # the last write has ended, and the next may come
    await asyncio.gather(*again)
    assert begun == [b"0"]
    assert await rounds(crowd) == 16


async def settled() -> None:
    """Let every task run as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_an_error_reaches_all_who_wait(his: GuardedHis, engine: TracedEngine) -> None:
    request = catalog_pb2.ListSlotsRequest(schedule_id="x", page_token="not a token")
    results = await asyncio.gather(*(his.read(SLOTS, request) for _ in range(20)), return_exceptions=True)
    assert {type(result) for result in results} == {HisRefused}


async def test_the_micro_cache(his: GuardedHis, engine: TracedEngine, generation: Generation, clock: Clock) -> None:
    his.generation = with_operation(generation, SLOTS, cache=timedelta(milliseconds=800))
    schedule = await a_schedule(his)
    engine.statements.clear()

    async def asked(*, realtime: bool = False) -> int:
        before = len(engine.statements)
        answer = await his.read(SLOTS, slots_of(schedule, realtime=realtime))
        answer.ClearField("slots")  # type: ignore[arg-type]
        return len(engine.statements) - before

    assert [await asked(), await asked()] == [1, 0]
    clock.now += 0.79
    assert await asked() == 0
    assert await asked(realtime=True) == 1
    clock.now += 0.02
    assert [await asked(), await asked()] == [1, 0]
    await his.write(UNLOCK, appointment_pb2.UnlockSlotRequest(request_id="r", order_no="none"), key="0" * 32)
    assert await asked() == 1  # one after one's own write sees it
    his.generation = with_operation(generation, SLOTS, cache=timedelta(milliseconds=800))
    assert await asked() == 1
    assert his.figures()["reads_cached"] == 3


async def test_without_the_key_nothing_is_cached(his: GuardedHis, engine: TracedEngine) -> None:
    for _ in range(3):
        await his.read(DEPARTMENTS, catalog_pb2.ListDepartmentsRequest())
    assert len(engine.statements) == 3


async def test_the_kill_switch(his: GuardedHis, off: dict[str, str], engine: TracedEngine) -> None:
    off[DEPARTMENTS] = "HIS 升级中"
    with pytest.raises(SwitchedOff) as caught:
        await his.read(DEPARTMENTS, catalog_pb2.ListDepartmentsRequest())
    told = explain(to_status(caught.value, operation=DEPARTMENTS))
    assert (told.code, told.reason) == ("UNAVAILABLE", "SWITCHED_OFF")
    assert told.retry_after is not None
    assert told.text == "医院已暂停此功能：HIS 升级中"
    assert not engine.statements
    off[UNLOCK] = ""
    with pytest.raises(SwitchedOff):
        await his.write(UNLOCK, appointment_pb2.UnlockSlotRequest(), key="0" * 32)
    shown = {item.operation: item for item in his.abilities().capabilities()}
    assert (shown[DEPARTMENTS].available, shown[DEPARTMENTS].note) == (False, "已由医院暂停：HIS 升级中")
    assert shown[SLOTS].available
    off.clear()
    assert await his.read(DEPARTMENTS, catalog_pb2.ListDepartmentsRequest())
    assert his.figures()["refused_switched_off"] == 2


class Failing:
    """A runner whose object the HIS has changed, as long as ``broken``."""

    broken = True
    calls = 0

    def run(self, session: Session, call: Any) -> Any:
        self.calls += 1
        if self.broken:
            raise HisChanged("sqlite schema: no such column NAME")
        return catalog_pb2.ListDepartmentsResponse()


async def test_a_changed_object_degrades_its_operation_alone(
    his: GuardedHis, generation: Generation, clock: Clock
) -> None:
    runner = Failing()
    his.generation = with_operation(generation, DEPARTMENTS, runner=runner)
    request = catalog_pb2.ListDepartmentsRequest()
    for _ in range(5):
        with pytest.raises(MappingMismatch):
            await his.read(DEPARTMENTS, request)
    assert runner.calls == 3
    assert set(his.degraded()) == {DEPARTMENTS}
    shown = {item.operation: item for item in his.abilities().capabilities()}
    assert not shown[DEPARTMENTS].available
    assert shown[DEPARTMENTS].note
    assert await a_schedule(his)  # others run on
    clock.now += 60
    for _ in range(3):
        with pytest.raises(MappingMismatch):
            await his.read(DEPARTMENTS, request)
    assert runner.calls == 4  # one try a minute
    runner.broken = False
    clock.now += 60
    await his.read(DEPARTMENTS, request)
    assert not his.degraded()
    await his.read(DEPARTMENTS, request)
    assert his.figures()["refused_degraded"] == 4
    runner.broken = True
    for _ in range(3):
        with pytest.raises(MappingMismatch):
            await his.read(DEPARTMENTS, request)
    his.generation = generation  # the DBA has mended the mapping
    assert await his.read(DEPARTMENTS, request)


async def test_a_dropped_column_degrades(tmp_path: Path, generation: Generation, clock: Clock) -> None:
    """The whole way: a patch renames a column of the HIS; the engine's fault becomes HisChanged."""
    import sqlite3
    from contextlib import closing

    url = f"sqlite:///{tmp_path / 'his.db'}"
    load_sample("zebone").create(url, today=hospital_now().date(), size=SMALL)
    source = Source(settings_from_url("his", url))
    his = GuardedHis(HisAccess({"his": source}, generation), clock=clock)
    request = catalog_pb2.ListDepartmentsRequest()
    assert await his.read(DEPARTMENTS, request)
    with closing(sqlite3.connect(tmp_path / "his.db")) as connection:
        connection.execute("ALTER TABLE BD_OU_DEPT RENAME TO BD_OU_DEPT_NEW")
        connection.commit()
    for _ in range(3):
        with pytest.raises(HisChanged):
            await his.read(DEPARTMENTS, request)
    assert "no such table" in his.degraded()[DEPARTMENTS] or "BD_OU_DEPT" in his.degraded()[DEPARTMENTS]
    await source.close()


async def test_a_procedure_that_answers_otherwise_degrades_too(his: GuardedHis, generation: Generation) -> None:
    """It commits by itself, so each outcome is unknown: after three it must not be called again and again."""
    runner = Failing()
    his.generation = with_operation(generation, UNLOCK, runner=runner, commits="procedure")
    request = appointment_pb2.UnlockSlotRequest(request_id="r", order_no="none")
    for _ in range(3):
        with pytest.raises(OutcomeUnknown):
            await his.write(UNLOCK, request, key="0" * 32)
    with pytest.raises(MappingMismatch):
        await his.write(UNLOCK, request, key="0" * 32)
    assert runner.calls == 3
    assert set(his.degraded()) == {UNLOCK}


def test_values_do_not_degrade() -> None:
    """An unmapped code in the data, a refusal, a busy HIS: the operation itself is well."""
    assert not issubclass(MappingMismatch, HisChanged)
    assert not issubclass(HisBusy, HisChanged)


async def test_calls_in_flight_keep_their_generation(
    his: GuardedHis, generation: Generation, engine: TracedEngine
) -> None:
    engine.gate.clear()
    running = asyncio.create_task(his.read(DEPARTMENTS, catalog_pb2.ListDepartmentsRequest()))
    await engine.wait_begun()
    his.generation = with_operation(generation, DEPARTMENTS, runner=Failing())
    assert his.old_calls == 1
    assert his.figures()["mapping_old_calls"] == 1
    engine.gate.set()
    assert (await running).departments  # type: ignore[attr-defined]
    assert his.old_calls == 0


async def test_a_full_queue_is_resource_exhausted_with_a_time(hospital: str, engine: TracedEngine) -> None:
    source = Source(settings_from_url("his", hospital), {"read": LaneSettings(1, 1)}, engine=engine)  # type: ignore[arg-type]
    lane = source.lane("read")
    engine.gate.clear()
    calls = [asyncio.create_task(lane.run(lambda s: s.run("SELECT 1", {}, max_rows=1)))]
    await engine.wait_begun()
    calls.append(asyncio.create_task(lane.run(lambda s: s.run("SELECT 1", {}, max_rows=1))))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as caught:
        await lane.run(lambda s: s.run("SELECT 1", {}, max_rows=1))
    status = to_status(caught.value)
    assert status.code == code_pb2.RESOURCE_EXHAUSTED
    assert explain(status).retry_after == timedelta(seconds=1)
    engine.gate.set()
    await asyncio.gather(*calls)
    await source.close()


# -- the breaker of slow calls ----------------------------------------------------------------------------------------


def slow_calls(clock: Clock, percent: int = 60) -> SlowCalls:
    return SlowCalls(SlowCallSettings(timedelta(seconds=3), percent), clock=clock)


def test_slow_calls_open_the_breaker_and_one_fast_one_closes_it(clock: Clock) -> None:
    breaker = slow_calls(clock)
    for seconds in (0.1, 5, 5, 0.1, 5, 5, 0.1, 5, 5):
        breaker.enter()
        breaker.ended(seconds)
    assert breaker.status().state is SlowState.CLOSED  # too few calls to judge by
    breaker.ended(5)
    assert (breaker.status().state, breaker.status().share) == (SlowState.OPEN, 0.7)
    with pytest.raises(HisBusy) as caught:
        breaker.enter()
    assert caught.value.retry_after == timedelta(seconds=2)
    breaker.ended(0.1)  # had begun before
    assert breaker.status().state is SlowState.OPEN
    clock.now += 2
    breaker.enter()
    assert breaker.status().state is SlowState.HALF_OPEN
    with pytest.raises(HisBusy):
        breaker.enter()
    clock.now += 1
    breaker.enter()  # the first try never came back
    breaker.ended(5)
    with pytest.raises(HisBusy) as caught:
        breaker.enter()
    assert caught.value.retry_after == timedelta(seconds=4)  # longer each time
    clock.now += 4
    breaker.enter()
    breaker.ended(0.1)
    assert breaker.status().state is SlowState.CLOSED
    assert (breaker.status().refused, breaker.status().opened) == (3, 2)


def test_old_calls_count_no_more_and_zero_is_never(clock: Clock) -> None:
    breaker = slow_calls(clock)
    for _ in range(9):
        breaker.ended(5)
    clock.now += 31
    breaker.ended(5)
    assert breaker.status().state is SlowState.CLOSED
    never = slow_calls(clock, 0)
    for _ in range(50):
        never.ended(5)
    assert never.status().state is SlowState.CLOSED


async def test_a_slow_source_sheds_reads_and_keeps_writes(hospital: str, engine: TracedEngine, clock: Clock) -> None:
    load = LoadSettings(SlowCallSettings(timedelta(seconds=3), 60))
    source = Source(settings_from_url("his", hospital), engine=engine, clock=clock, load=load)  # type: ignore[arg-type]

    def slow(session: Session) -> None:
        clock.now += 4

    for _ in range(10):
        await source.lane("read").run(slow)
        clock.now -= 4  # all within one window
    for lane in ("read", "report"):
        with pytest.raises(HisBusy):
            await source.lane(lane).run(lambda s: None)
    await source.lane("write").transact(lambda s: None)
    await source.lane("watch").run(lambda s: None)
    assert source.status().slow.state is SlowState.OPEN
    assert source.status().slow.refused == 2
    await source.close()


# -- quiet hours ------------------------------------------------------------------------------------------------------


def at(hour: int, minute: int = 0) -> Callable[[], datetime]:
    """A moment of the hospital's wall clock (UTC+8)."""
    return lambda: datetime(2026, 11, 23, hour, minute, tzinfo=UTC) - timedelta(hours=8)


@pytest.mark.parametrize(
    ("spans", "hour", "minute", "left"),
    [
        ("08:00-09:00", 7, 59, 0),
        ("08:00-09:00", 8, 0, 60),
        ("08:00-09:00", 8, 59, 1),
        ("08:00-09:00", 9, 0, 0),
        ("22:30-01:00", 23, 0, 120),
        ("22:30-01:00", 0, 59, 1),
        ("22:30-01:00", 1, 0, 0),
        ("08:00-09:00, 14:00-24:00", 14, 0, 600),
        ("", 8, 0, 0),
    ],
)
def test_quiet_hours(spans: str, hour: int, minute: int, left: int) -> None:
    quiet = QuietHours(parse_spans(spans), "Asia/Shanghai", clock=at(hour, minute))
    if not left:
        quiet.enter()
        return
    with pytest.raises(SwitchedOff) as caught:
        quiet.enter()
    assert caught.value.retry_after == timedelta(minutes=left)


@pytest.mark.parametrize("text", ["8:00-9:00", "08:00", "08:00-08:00", "25:00-26:00", "08:00-09:00,", "早上"])
def test_hours_that_are_none(text: str) -> None:
    with pytest.raises(ValueError):
        parse_spans(text)


async def test_quiet_hours_are_for_bulk_reads_alone(hospital: str) -> None:
    load = LoadSettings(quiet=parse_spans("08:00-09:00"))
    source = Source(settings_from_url("his", hospital), load=load, wall=at(8, 30))
    with pytest.raises(SwitchedOff) as caught:
        await source.lane("report").run(lambda s: None)
    told = explain(to_status(caught.value))
    assert (told.reason, told.retry_after) == ("SWITCHED_OFF", timedelta(minutes=30))
    for lane in ("read", "watch"):
        await source.lane(lane).run(lambda s: None)
    assert source.status().quiet_refused == 1
    await source.close()
