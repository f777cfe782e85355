"""The lane against a scripted engine: queueing, deadlines, cancellation, breaker, closing, outcome of every fault."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from his160.v1 import reason_pb2

from his_db.breaker import LONGEST, SHORTEST, Breaker
from his_db.engine import Fault, ProcedurePlan, ProcedureResult, Rows, Session
from his_db.errors import (
    DeadlinePassed,
    HisBusy,
    HisChanged,
    HisError,
    HisRefused,
    HisUnavailable,
    MappingMismatch,
    OutcomeUnknown,
    Overloaded,
)
from his_db.lane import Lane
from tests.bounds import PATIENCE

GRACE = timedelta(seconds=5)


class ScriptedError(Exception):
    """A driver's exception that knows its fault."""

    def __init__(self, fault: Fault) -> None:
        super().__init__("姓名=张三")
        self.fault = fault


class ScriptedSession:
    """Notes what is done to it; raises what the script says for a step."""

    def __init__(self, engine: ScriptedEngine) -> None:
        self.engine = engine
        self.open = True

    def _step(self, step: str) -> None:
        self.engine.log.append(step)
        fault = self.engine.script.pop(step, None)
        if fault is not None:
            if fault in (Fault.LOST, Fault.CONNECT):
                self.open = False
            raise ScriptedError(fault)

    def run(self, sql: str, values: Mapping[str, Any], *, max_rows: int) -> Rows:
        self._step("run")
        return Rows(("x",), [(1,)], 0)

    def call(self, plan: ProcedurePlan, values: Mapping[str, Any], *, max_rows: int) -> ProcedureResult:
        raise NotImplementedError

    def begin(self) -> None:
        self._step("begin")

    def commit(self) -> None:
        self._step("commit")

    def rollback(self) -> None:
        self._step("rollback")

    def alive(self) -> bool:
        return self.open

    def ping(self) -> bool:
        self.engine.log.append("ping")
        return self.open and not self.engine.script.pop("ping", None)

    def abort(self) -> None:
        self.engine.log.append("abort")
        self.open = False
        self.engine.aborted.set()

    def close(self) -> None:
        self.engine.log.append("close")
        self.open = False


class ScriptedEngine:
    name = "scripted"
    driver_errors: tuple[type[Exception], ...] = (ScriptedError,)

    def __init__(self) -> None:
        self.script: dict[str, Fault] = {}
        self.log: list[str] = []
        self.aborted = threading.Event()

    def open(self, *, read_only: bool, statement_timeout: timedelta | None = None) -> ScriptedSession:
        session = ScriptedSession(self)
        session._step("open")
        return session

    def classify(self, error: BaseException, *, sent: bool) -> Fault:
        return error.fault if isinstance(error, ScriptedError) else Fault.OTHER

    def describe(self, error: BaseException) -> str:
        return "E1 gh_table"

    def sentence(self, error: BaseException) -> str:
        return "号已被取走"

    def server_version(self, session: Session) -> str:
        return "1"

    def dispose(self) -> None:
        self.log.append("dispose")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def laned(engine: ScriptedEngine, **options: Any) -> AsyncIterator[Lane]:
    lane = Lane("test", engine, **{"workers": 1, "queue_limit": 3, "read_only": False, **options})
    try:
        yield lane
    finally:
        await lane.close(GRACE)


class Blocker:
    """Work that waits until it is let go; ``entered`` says that a thread is inside."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go = threading.Event()

    def __call__(self, session: Session) -> str:
        self.entered.set()
        assert self.go.wait(PATIENCE)
        return "done"

    async def inside(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, PATIENCE)


def query(session: Session) -> Any:
    return session.run("SELECT 1", {}, max_rows=1).rows[0][0]


async def test_read_holds_its_session_and_never_begins() -> None:
    engine = ScriptedEngine()
    async with laned(engine) as lane:
        assert [await lane.run(query) for _ in range(3)] == [1, 1, 1]
        stats = lane.stats()
        assert (stats.calls, stats.open_sessions, stats.queued, stats.busy) == (3, 1, 0, 0)
    assert engine.log == ["open", "run", "run", "run", "close"]


async def test_threads_are_named_and_end() -> None:
    names: list[str] = []
    async with laned(ScriptedEngine(), source="his") as lane:
        assert not any(t.name.startswith("his160-his-test") for t in threading.enumerate())
        await lane.run(lambda s: names.append(threading.current_thread().name))
        assert not threading.current_thread().daemon
    assert names == ["his160-his-test-1"]
    assert not any(t.name.startswith("his160-his-test") for t in threading.enumerate())


async def test_write_order() -> None:
    engine = ScriptedEngine()
    async with laned(engine) as lane:
        assert await lane.transact(query) == 1
        await lane.transact(query, autocommit=True)
    assert engine.log == ["open", "begin", "run", "commit", "run", "close"]


async def test_read_only_lane_refuses_writes() -> None:
    async with laned(ScriptedEngine(), read_only=True) as lane:
        with pytest.raises(MappingMismatch):
            await lane.transact(query)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.DEADLOCK, HisBusy),
        (Fault.LOCK_TIMEOUT, HisBusy),
        (Fault.TIMEOUT, HisBusy),
        (Fault.CONSTRAINT, HisRefused),
        (Fault.RIGHTS, HisChanged),
        (Fault.SCHEMA, HisChanged),
        (Fault.SYNTAX, HisChanged),
        (Fault.DATA, MappingMismatch),
        (Fault.READ_ONLY, MappingMismatch),
        (Fault.OTHER, HisRefused),
        (Fault.CONNECT, HisUnavailable),
        (Fault.LOST, HisUnavailable),
    ],
)
async def test_fault_in_a_statement(fault: Fault, error: type[HisError]) -> None:
    for method in ("run", "transact"):
        engine = ScriptedEngine()
        engine.script["run"] = fault
        async with laned(engine) as lane:
            with pytest.raises(error) as caught:
                await getattr(lane, method)(query)
            assert type(caught.value) is error
            assert "张三" not in str(caught.value)
            assert caught.value.__context__ is None
            assert lane.stats().faults == {fault.value: 1}
            broken = fault in (Fault.CONNECT, Fault.LOST)
            assert ("close" in engine.log) == broken
            if method == "transact":
                assert "commit" not in engine.log
                assert ("rollback" in engine.log) == (not broken)
            if error is HisBusy:
                assert caught.value.retry_after is not None
            if fault is Fault.CONSTRAINT and isinstance(caught.value, HisRefused):
                assert caught.value.reason == reason_pb2.REASON_HIS_REFUSED
                assert caught.value.text == "号已被取走"


KNOWN = (Fault.RIGHTS, Fault.SCHEMA, Fault.SYNTAX, Fault.READ_ONLY, Fault.CONNECT)


@pytest.mark.parametrize("fault", list(Fault))
async def test_fault_in_a_procedure_that_may_commit(fault: Fault) -> None:
    engine = ScriptedEngine()
    engine.script["run"] = fault
    async with laned(engine) as lane:
        with pytest.raises(HisError) as caught:
            await lane.transact(query, may_commit_inside=True)
    assert isinstance(caught.value, OutcomeUnknown) == (fault not in KNOWN)


ROLLED_BACK = (Fault.CONSTRAINT, Fault.DEADLOCK, Fault.LOCK_TIMEOUT, Fault.RIGHTS, Fault.SCHEMA, Fault.SYNTAX,
               Fault.DATA, Fault.READ_ONLY)  # fmt: skip


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("fault", list(Fault))
async def test_fault_at_commit(fault: Fault, inside: bool) -> None:
    """Only what the server answered is known; whatever else happens at COMMIT is not."""
    engine = ScriptedEngine()
    engine.script["commit"] = fault
    async with laned(engine) as lane:
        with pytest.raises(HisError) as caught:
            await lane.transact(query, may_commit_inside=inside)
        assert isinstance(caught.value, OutcomeUnknown) == (inside or fault not in ROLLED_BACK)
        assert await lane.transact(query) == 1


async def test_a_bug_in_the_work_rolls_back_and_passes() -> None:
    engine = ScriptedEngine()

    def bug(session: Session) -> None:
        query(session)
        raise KeyError("column")

    def stop(session: Session) -> None:
        raise StopIteration

    async with laned(engine) as lane:
        with pytest.raises(KeyError):
            await lane.transact(bug)
        assert engine.log == ["open", "begin", "run", "rollback"]
        with pytest.raises(OutcomeUnknown):
            await lane.transact(bug, may_commit_inside=True)
        with pytest.raises(HisRefused):
            await lane.run(stop)
        with pytest.raises(DeadlinePassed):
            await lane.transact(lambda s: (_ for _ in ()).throw(DeadlinePassed("own")))
        assert await lane.run(query) == 1


async def test_rollback_that_fails_closes_the_session() -> None:
    engine = ScriptedEngine()
    engine.script.update(run=Fault.DEADLOCK, rollback=Fault.OTHER)
    async with laned(engine) as lane:
        with pytest.raises(HisBusy):
            await lane.transact(query)
        assert engine.log == ["open", "begin", "run", "rollback", "close"]


@pytest.mark.parametrize(("step", "method"), [("run", "run"), ("begin", "transact")])
async def test_idle_connection_lost_is_replaced_once(step: str, method: str) -> None:
    engine = ScriptedEngine()
    async with laned(engine) as lane:
        await lane.run(query)
        engine.script[step] = Fault.LOST
        assert await getattr(lane, method)(query) == 1
        assert engine.log.count("open") == 2
        engine.log.clear()
        engine.script.update({step: Fault.LOST, "open": Fault.CONNECT})
        with pytest.raises(HisUnavailable):
            await getattr(lane, method)(query)


async def test_fresh_connection_lost_at_begin_is_unavailable() -> None:
    engine = ScriptedEngine()
    engine.script["begin"] = Fault.LOST
    async with laned(engine) as lane:
        with pytest.raises(HisUnavailable):
            await lane.transact(query)
    assert engine.log == ["open", "begin", "close"]


async def test_lost_write_is_never_repeated() -> None:
    engine = ScriptedEngine()
    async with laned(engine) as lane:
        await lane.transact(query)
        engine.log.clear()
        engine.script["run"] = Fault.LOST
        with pytest.raises(HisUnavailable):
            await lane.transact(query)
        assert engine.log == ["begin", "run", "close"]


async def test_idle_check() -> None:
    engine, clock = ScriptedEngine(), Clock()
    async with laned(engine, clock=clock, idle_check_after=timedelta(seconds=30)) as lane:
        await lane.run(query)
        clock.now += 29
        await lane.run(query)
        assert "ping" not in engine.log
        clock.now += 31
        engine.script["ping"] = Fault.LOST
        await lane.run(query)
        assert engine.log == ["open", "run", "run", "ping", "close", "open", "run"]


async def test_queue_full_and_count() -> None:
    block = Blocker()
    async with laned(ScriptedEngine(), queue_limit=2) as lane:
        running = asyncio.create_task(lane.run(block))
        await block.inside()
        waiting = [asyncio.create_task(lane.run(query)) for _ in range(2)]
        await asyncio.sleep(0)
        assert (lane.stats().queued, lane.stats().busy) == (2, 1)
        with pytest.raises(Overloaded) as caught:
            await lane.run(query)
        assert caught.value.retry_after is not None
        waiting[0].cancel()  # a dropped call gives its place back
        await asyncio.sleep(0)
        third = asyncio.create_task(lane.run(query))
        block.go.set()
        assert await asyncio.gather(running, waiting[1], third) == ["done", 1, 1]
        assert lane.stats().refused == 1


async def test_deadline_passed_before_and_in_the_queue() -> None:
    engine, clock, block = ScriptedEngine(), Clock(), Blocker()
    async with laned(engine, clock=clock) as lane:
        with pytest.raises(DeadlinePassed):
            await lane.run(query, deadline=clock.now)
        with pytest.raises(Overloaded):
            await lane.transact(query, deadline=clock.now)
        running = asyncio.create_task(lane.transact(block, deadline=clock.now + 50))
        await block.inside()
        read = asyncio.create_task(lane.run(query, deadline=clock.now + 50))
        write = asyncio.create_task(lane.transact(query, deadline=clock.now + 50))
        await asyncio.sleep(0)
        clock.now += 60
        block.go.set()
        assert await running == "done"  # it was running: its deadline bounds only the waiting
        with pytest.raises(DeadlinePassed):
            await read
        with pytest.raises(Overloaded):
            await write
    assert engine.log == ["open", "begin", "commit", "close"]


async def test_deadline_needs_no_free_thread() -> None:
    """A queued call and a running read end at their deadline; a running write is told its outcome."""
    engine, block, hold = ScriptedEngine(), Blocker(), Blocker()
    async with laned(engine) as lane:
        loop_now = lane._clock()
        read = asyncio.create_task(lane.run(block, deadline=loop_now + 0.05))
        await block.inside()
        with pytest.raises(Overloaded):
            await lane.transact(query, deadline=lane._clock() + 0.05)
        with pytest.raises(DeadlinePassed):
            await read
        block.go.set()
        write = asyncio.create_task(lane.transact(hold, deadline=lane._clock() + 0.05))
        await hold.inside()
        await asyncio.wait([write], timeout=0.1)
        hold.go.set()
        assert await write == "done"


async def test_cancelled_write_commits_and_queued_one_is_dropped() -> None:
    engine, block = ScriptedEngine(), Blocker()
    async with laned(engine) as lane:
        running = asyncio.create_task(lane.transact(block))
        await block.inside()
        queued = asyncio.create_task(lane.transact(query))
        await asyncio.sleep(0)
        for task in (running, queued):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        block.go.set()
    assert engine.log == ["open", "begin", "commit", "close"]


async def test_close_refuses_the_queue_and_breaks_what_hangs() -> None:
    engine = ScriptedEngine()
    entered = threading.Event()

    def hang(session: Session) -> None:
        entered.set()
        assert engine.aborted.wait(PATIENCE)
        raise ScriptedError(Fault.LOST)

    lane = Lane("test", engine, workers=1, queue_limit=5, read_only=False)
    running = asyncio.create_task(lane.transact(hang))
    assert await asyncio.to_thread(entered.wait, PATIENCE)
    queued = asyncio.create_task(lane.run(query))
    await asyncio.sleep(0)
    await lane.close(timedelta(0))
    results = await asyncio.gather(running, queued, lane.run(query), return_exceptions=True)
    assert [type(result) for result in results] == [HisUnavailable] * 3
    assert engine.log == ["open", "begin", "abort", "close"]
    await lane.close(GRACE)


async def test_close_waits_for_a_running_write() -> None:
    engine, block = ScriptedEngine(), Blocker()
    lane = Lane("test", engine, workers=1, queue_limit=5, read_only=False)
    running = asyncio.create_task(lane.transact(block))
    await block.inside()
    closing = asyncio.create_task(lane.close(GRACE))
    await asyncio.sleep(0)
    block.go.set()
    await closing
    assert await running == "done"
    assert engine.log == ["open", "begin", "commit", "close"]


async def test_breaker_lets_one_probe() -> None:
    engine, clock = ScriptedEngine(), Clock()
    breaker = Breaker(clock=clock, jitter=lambda: 1.0)
    async with laned(engine, clock=clock, breaker=breaker) as lane:
        waits: list[float] = []
        for _ in range(8):
            engine.script["open"] = Fault.CONNECT
            with pytest.raises(HisUnavailable) as caught:
                await lane.run(query)
            assert caught.value.retry_after is not None
            waits.append(caught.value.retry_after.total_seconds())
            with pytest.raises(HisUnavailable):
                await lane.run(query)  # not tried
            clock.now += waits[-1]
        assert waits == [0.2, 0.4, 0.8, 1.6, 3.2, LONGEST, LONGEST, LONGEST]
        assert waits[0] == SHORTEST
        assert engine.log == ["open"] * 8
        assert await lane.run(query) == 1
        assert breaker.state().failures == 0


def test_breaker_half_open() -> None:
    clock = Clock()
    breaker = Breaker(clock=clock, jitter=lambda: 0.0)
    assert breaker.state().ok is None
    breaker.enter()
    breaker.enter()  # closed: all may connect
    assert breaker.failed("down").total_seconds() == SHORTEST / 2
    clock.now += 1
    breaker.enter()
    with pytest.raises(HisUnavailable, match="down"):
        breaker.enter()  # one is probing
    breaker.succeeded()
    breaker.enter()
    assert (breaker.state().ok, breaker.state().detail) == (True, "connected")


def test_one_lane_serves_several_loops() -> None:
    engine = ScriptedEngine()
    lane = Lane("test", engine, workers=2, queue_limit=100, read_only=True)

    async def many() -> list[Any]:
        return await asyncio.gather(*(lane.run(query) for _ in range(50)))

    results: list[list[Any]] = []
    threads = [threading.Thread(target=lambda: results.append(asyncio.run(many()))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(lane.close(GRACE))
    assert results == [[1] * 50] * 2
    assert lane.stats().calls == 100


async def test_sizes_are_checked() -> None:
    make: Callable[..., Lane] = Lane
    for sizes in ({"workers": 0, "queue_limit": 1}, {"workers": 1, "queue_limit": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            make("test", ScriptedEngine(), read_only=True, **sizes)


async def test_results_without_news_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also behind one with news, or an error; and at once when nothing waits behind them."""
    loop = asyncio.get_running_loop()
    wakes: list[Any] = []
    call = loop.call_soon_threadsafe
    told: list[str] = []

    def counted(work: Callable[..., Any], *rest: Any, **more: Any) -> asyncio.Handle:
        if threading.current_thread().name.startswith("his160-"):
            wakes.append(work)
        return call(work, *rest, **more)

    async def ask(name: str, *, news: bool) -> None:
        await lane.run(query, news=lambda _: news)
        told.append(name)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    async with laned(ScriptedEngine(), queue_limit=50, clock=Clock()) as lane:
        blocker = Blocker()
        first = asyncio.create_task(lane.run(blocker))
        await blocker.inside()
        asked = [asyncio.create_task(ask(f"old {number}", news=False)) for number in range(20)]
        await asyncio.sleep(0)
        blocker.go.set()
        while lane.stats().calls < 21:  # the loop gets no turn meanwhile, so nothing is told one by one by chance
            pass
        await asyncio.gather(first, *asked)
        assert len(told) == 20
        assert len(wakes) <= 2  # the blocker's, and one for twenty
        await asyncio.wait_for(ask("alone", news=False), 10)
        wakes.clear()
        await asyncio.wait_for(ask("news", news=True), 10)
        assert len(wakes) == 1


async def test_a_result_without_news_does_not_wait_behind_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty milliseconds at most, and never when its own statement was long: the next may be as well."""
    clock = Clock()
    blockers = [Blocker() for _ in range(2)]

    def long(session: Session) -> str:
        clock.now += 1.0
        return "long"

    def short(session: Session) -> str:
        clock.now += 0.0045
        return "short"

    async with laned(ScriptedEngine(), queue_limit=50, clock=clock) as lane:
        for work, count in ((long, 1), (short, 6)):
            before, behind = blockers.pop(), Blocker()
            gate = asyncio.create_task(lane.run(before))
            await before.inside()
            asked = [asyncio.create_task(lane.run(work, news=lambda _: False)) for _ in range(count)]
            last = asyncio.create_task(lane.run(behind))
            await asyncio.sleep(0)
            before.go.set()
            await behind.inside()
            await asyncio.wait_for(asyncio.gather(*asked), 10)  # though the last one is still under way
            behind.go.set()
            assert await asyncio.gather(gate, last) == ["done", "done"]
