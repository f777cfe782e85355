"""The parts of a process: supervisor, jobs, status, signals, housekeeping."""

from __future__ import annotations

import asyncio
import logging
import signal
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import pytest
from his160.v1 import agent_pb2

from agent.bench_pki import make_authority
from agent.config import load_settings
from agent.figures import Figures
from agent.handler import Identity
from agent.housekeeping import Housekeeping
from agent.jobs import Job, Jobs
from agent.memory import resident_bytes
from agent.signals import EXIT_AT_ONCE, StopRequests
from agent.status import ComponentState, Counts, StatusBoard, worst
from agent.supervisor import Supervisor
from sync.clock import utc_now
from sync.store import StoreUnavailable, open_store
from tests.bounds import PATIENCE, until

OK, DEGRADED, DOWN = agent_pb2.HEALTH_OK, agent_pb2.HEALTH_DEGRADED, agent_pb2.HEALTH_DOWN


def board(figures: Figures | None = None) -> StatusBoard:
    return StatusBoard("440305001", "one", figures=figures or Figures(), clock=utc_now)


async def test_a_part_that_dies_is_named(caplog: pytest.LogCaptureFixture) -> None:
    supervisor, stop = Supervisor(), asyncio.Event()

    async def dies() -> None:
        raise ValueError("张三")

    supervisor.start("steady", asyncio.Event().wait())
    supervisor.start("weak", dies())
    assert await supervisor.watch(stop) == "weak"
    assert "weak has died: builtins.ValueError" in caplog.text
    assert "张三" not in caplog.text
    await supervisor.stop(timedelta(milliseconds=10))


async def test_a_part_that_ends_is_dead_too() -> None:
    supervisor = Supervisor()
    supervisor.start("short", asyncio.sleep(0))
    assert await supervisor.watch(asyncio.Event()) == "short"
    await supervisor.stop(timedelta(0))


async def test_a_stop_that_was_asked_for_is_no_death() -> None:
    supervisor, stop, ended = Supervisor(), asyncio.Event(), []

    async def part(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    supervisor.start("a", part("a"))
    supervisor.start("b", part("b"))
    await asyncio.sleep(0)
    stop.set()
    assert await supervisor.watch(stop) == ""
    await supervisor.stop(timedelta(milliseconds=10))
    assert ended == ["b", "a"]


async def test_jobs_run_and_survive_failure(caplog: pytest.LogCaptureFixture) -> None:
    figures, runs = Figures(), asyncio.Queue[int]()
    states = board(figures)

    async def sometimes() -> None:
        runs.put_nowait(1)
        if runs.qsize() == 1:
            raise ValueError("张三")

    every = timedelta(milliseconds=20)
    jobs = Jobs([Job("sometimes", every, sometimes, first=timedelta(0))], board=states, figures=figures)
    jobs.start()
    await until(lambda: figures.value("job_runs:sometimes") >= 2)
    jobs.stop()
    jobs.stop()
    assert figures.value("job_failures:sometimes") == 1
    assert [c.health for c in states.components()] == [OK]
    assert "job sometimes failed: builtins.ValueError" in caplog.text
    assert "张三" not in caplog.text


async def test_a_slow_job_does_not_run_twice_at_once() -> None:
    running, most = 0, 0

    async def slow() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.06)  # six times its rhythm: what is looked for is a run that begins meanwhile
        running -= 1

    figures = Figures()
    jobs = Jobs([Job("slow", timedelta(milliseconds=10), slow)], board=board(), figures=figures)
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    jobs.start()
    await until(lambda: figures.value("job_runs:slow") >= 2)
    jobs.stop()
    assert most == 1


class SettableClock(datetime):
    """The clock that APScheduler reads, with a hand on it."""

    moved = timedelta(0)

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + cls.moved


@pytest.mark.parametrize("moved", [timedelta(hours=-3), timedelta(days=-400), timedelta(seconds=-40)])
async def test_a_clock_that_is_set_back_does_not_stop_the_jobs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, moved: timedelta
) -> None:
    monkeypatch.setattr("apscheduler.schedulers.base.datetime", SettableClock)
    monkeypatch.setattr(SettableClock, "moved", timedelta(0))
    figures = Figures()
    ran = asyncio.Event()

    async def run() -> None:
        ran.set()

    every = [Job("often", timedelta(milliseconds=10), run), Job("seldom", timedelta(hours=1), run)]
    jobs = Jobs(every, board=board(), figures=figures, clock=lambda: SettableClock.now(UTC))

    def left(name: str) -> timedelta:
        due: datetime = jobs._scheduler.get_job(name).next_run_time
        return due - SettableClock.now(UTC)

    jobs.start()
    try:
        async with asyncio.timeout(PATIENCE):
            await ran.wait()
        before = left("seldom")
        SettableClock.moved = moved
        assert left("often") > -moved - timedelta(seconds=5)  # it would stand still for so long
        jobs.look_at_clock()
        ran.clear()
        async with asyncio.timeout(PATIENCE):
            await ran.wait()
        assert before - timedelta(seconds=30) < left("seldom") <= before
        assert figures.value("clock_set_back") == 1
        assert f"set back by {-moved.total_seconds():.0f} s" in caplog.text
        jobs.look_at_clock()  # told once
        assert figures.value("clock_set_back") == 1
    finally:
        jobs.stop()


async def test_a_clock_that_is_set_forward_lets_everything_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apscheduler.schedulers.base.datetime", SettableClock)
    monkeypatch.setattr(SettableClock, "moved", timedelta(0))
    figures = Figures()
    ran = asyncio.Event()

    async def run() -> None:
        ran.set()

    jobs = Jobs(
        [Job("seldom", timedelta(hours=1), run)], board=board(), figures=figures, clock=lambda: SettableClock.now(UTC)
    )
    jobs.start()
    try:
        SettableClock.moved = timedelta(hours=5)
        jobs.look_at_clock()
        jobs._scheduler.wakeup()  # its own timer would come after an hour of passing time at the latest
        async with asyncio.timeout(PATIENCE):
            await ran.wait()
        assert figures.value("clock_set_back") == 0
        due: datetime = jobs._scheduler.get_job("seldom").next_run_time
        assert timedelta(0) < due - SettableClock.now(UTC) <= timedelta(hours=1)
    finally:
        jobs.stop()


async def test_the_jobs_look_at_the_clock_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.jobs._CLOCK_EVERY", 0.01)
    looked = asyncio.Event()
    reads = iter([datetime(2026, 3, 2, 9, 0, tzinfo=UTC)] * 2)

    def clock() -> datetime:
        """Nine o'clock at the start, then eight."""
        found = next(reads, None)
        if found is None:
            looked.set()
            return datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
        return found

    async def run() -> None:
        return

    figures = Figures()
    jobs = Jobs([Job("seldom", timedelta(days=9999), run)], board=board(), figures=figures, clock=clock)
    jobs.start()
    try:
        async with asyncio.timeout(PATIENCE):
            await looked.wait()
            while not figures.value("clock_set_back"):
                await asyncio.sleep(0)
    finally:
        jobs.stop()
    assert jobs._clock_watch is None


async def test_a_slow_job_keeps_no_other_of_its_rhythm() -> None:
    never = asyncio.Event()
    quick: asyncio.Queue[int] = asyncio.Queue()

    async def run() -> None:
        quick.put_nowait(1)

    async def slow() -> None:
        await never.wait()

    every = timedelta(milliseconds=10)
    jobs = Jobs([Job("slow", every, slow), Job("quick", every, run)], board=board(), figures=Figures())
    jobs.start()
    async with asyncio.timeout(PATIENCE):
        for _ in range(3):
            await quick.get()
    never.set()
    jobs.stop()


async def test_one_snapshot() -> None:
    figures = Figures()
    figures.call_ended("A.B", 0.5, "SLOT_TAKEN")
    states = board(figures)
    states.report("server", OK)
    states.watch(
        lambda: [ComponentState("source:his", DOWN, "no route"), ComponentState("a", agent_pb2.HEALTH_UNSPECIFIED)]
    )

    async def counts() -> Counts:
        return Counts(1, 2, 3)

    states.count_with(counts)
    snapshot = await states.snapshot()
    assert [component.name for component in snapshot.components] == ["a", "server", "source:his", "store"]
    assert snapshot.health == DOWN
    assert (snapshot.outbox_pending, snapshot.outbox_dead, snapshot.unknown_outcomes) == (1, 2, 3)
    assert snapshot.figures["refusals:SLOT_TAKEN"] == 1
    assert snapshot.figures["seconds_max:A.B"] == 0.5
    first = snapshot.components[2].since_time
    again = (await states.snapshot()).components[2].since_time
    assert first == again


async def test_a_store_that_fails_is_a_part_that_is_down() -> None:
    states = board()

    async def counts() -> Counts:
        raise StoreUnavailable("the disk is full")

    states.count_with(counts)
    snapshot = await states.snapshot()
    assert [(c.name, c.health, c.detail) for c in snapshot.components] == [("store", DOWN, "the disk is full")]


def test_the_worst_counts() -> None:
    assert worst([]) == OK
    assert worst([agent_pb2.HEALTH_UNSPECIFIED]) == OK
    assert worst([OK, DOWN, DEGRADED]) == DOWN


def test_memory_is_measured() -> None:
    assert 1_000_000 < resident_bytes() < 10_000_000_000


async def test_the_first_signal_stops_and_the_second_ends() -> None:
    exits: list[int] = []
    before = signal.getsignal(signal.SIGTERM)
    with StopRequests(exit_now=exits.append) as requests:
        signal.raise_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            await requests.asked.wait()
        assert exits == []
        signal.raise_signal(signal.SIGINT)
        await until(lambda: bool(exits))
        assert exits == [EXIT_AT_ONCE]
    assert signal.getsignal(signal.SIGTERM) == before


async def test_the_console_of_windows_waits_for_the_stop() -> None:
    requests = StopRequests(exit_now=lambda code: None)
    assert requests._closing(0) is False  # Ctrl-C comes as a signal
    requests._ended.set()
    assert await asyncio.to_thread(requests._closing, 2) is True
    async with asyncio.timeout(PATIENCE):
        await requests.asked.wait()


async def test_certificates_are_watched(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    authority.issue("agent", Identity("site", "1"), lifetime=timedelta(days=20))
    (tmp_path / "config.toml").write_text(
        """
site.code = "1"
mapping.path = "pack:zebone"
source.his = { engine = "sqlite", database = "x" }
server = { enabled = true, certificate = "agent.pem", key = "agent.key", client_ca = "ca.pem" }
delivery.sink = "pull"
""",
        encoding="utf-8",
    )
    settings = load_settings(tmp_path / "config.toml", {})
    swept: list[str] = []

    class Sweeper:
        async def sweep(self) -> None:
            swept.append("x")

    store = open_store(tmp_path / "state.db", utc_now)
    now = datetime.now(UTC)
    figures = Figures()
    keeping = Housekeeping(settings, Sweeper(), store, lambda: now, figures)
    assert {job.name for job in (*keeping.jobs(), *keeping.site_jobs())} == {"sweep", "prune", "certificates"}

    async def look() -> tuple[int, str]:
        await keeping.check_certificates()
        (state,) = keeping.certificates()
        return state.health, state.detail

    assert await look() == (DEGRADED, "expires in 19 days")
    now += timedelta(days=30)
    assert await look() == (DOWN, "has expired")
    (tmp_path / "agent.pem").write_text("nonsense", encoding="utf-8")
    assert await look() == (DOWN, "cannot be read: CertificateError")
    authority.issue("agent", Identity("site", "1"), lifetime=timedelta(days=400))
    assert await look() == (OK, "")
    await keeping.sweep()
    assert swept == ["x"]
    await keeping.prune()
    assert figures.value("pruned") == 0
    await store.close()
