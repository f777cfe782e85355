"""Two agents of one site, two real processes on one PostgreSQL store: both answer, one watches and delivers.

kill -9 of the one that watches, and SIGSTOP with SIGCONT: the other takes over, nothing is lost, nothing happens twice.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import grpc
import pytest
from his160.v1 import agent_pb2, agent_pb2_grpc, appointment_pb2, appointment_pb2_grpc

from agent.demo.hospital import Hospital
from agent.demo.story import Order, put_orders
from his_db.engine import SourceSettings
from sync.audit import Audit
from sync.clock import utc_now
from sync.store import CommandState, Store, Transaction, open_store
from tests.bounds import PATIENCE, in_time
from tests.e2e.site import small_hospital, until
from tests.servers import url_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals of POSIX, states of threads of Linux")
ROOT = Path(__file__).resolve().parents[2]
CONFIG = """\
site.code = "440305001"
site.instance = "{name}"
mapping.path = "pack:zebone"
source.his = {{ engine = "sqlite", database = "{his}", statement_timeout = "2s", lock_timeout = "5s" }}
server = {{ enabled = true, insecure = true, listen = "127.0.0.1:0" }}
state = {{ url = "{store}", {password}lease = "2s", sweep = "1s" }}
delivery = {{ sink = "file", folder = "events" }}
watch.poll = "100ms"
report.enabled = false
limits.grace = "2s"
"""
TAKEOVER = 20.0
T = TypeVar("T")


@dataclass(slots=True)
class Agent:
    """A process, its folder and a channel to its own server."""

    name: str
    folder: Path
    process: subprocess.Popen[str]
    channel: grpc.Channel

    def status(self) -> agent_pb2.GetStatusResponse:
        return agent_pb2_grpc.AgentServiceStub(self.channel).GetStatus(agent_pb2.GetStatusRequest(), timeout=PATIENCE)

    def lease(self) -> str:
        return next(part.detail for part in self.status().components if part.name == "lease")

    def watches(self) -> bool:
        health = [part.health for part in self.status().components if part.name.startswith("watch:")]
        return bool(health) and all(each == agent_pb2.HEALTH_OK for each in health)

    def cancel(self, order_no: str, request_id: str) -> appointment_pb2.CancelAppointmentResponse:
        request = appointment_pb2.CancelAppointmentRequest(request_id=request_id, order_no=order_no)
        return appointment_pb2_grpc.AppointmentServiceStub(self.channel).CancelAppointment(request, timeout=PATIENCE)

    def delivered(self) -> list[tuple[str, str]]:
        """(event_id, order_no) of every line in its files."""
        found = []
        for file in sorted((self.folder / "events").glob("*.jsonl")):
            for line in file.read_text(encoding="utf-8").splitlines():
                event = json.loads(line)
                found.append((event["event_id"], event.get("order_no", "")))
        return found

    def send(self, what: signal.Signals) -> None:
        self.process.send_signal(what)


@dataclass(slots=True)
class Pair:
    """A site with two agents; ``holder`` has the lease, ``standby`` waits."""

    hospital: Hospital
    orders: list[Order]
    store: str
    holder: Agent
    standby: Agent

    def cancel_at_window(self) -> str:
        """The cashier cancels a platform order; its number."""
        order = self.orders.pop()
        window = self.hospital.window()
        try:
            window.cancel_booking(order.his_id, operator="0931")
        finally:
            window.close()
        return order.order_no

    def read(self, unit: Callable[[Transaction], T]) -> T:
        return with_store(self.store, lambda store: store.read(unit))


def with_store(url: str, act: Callable[[Store], Any]) -> Any:
    import asyncio

    async def run() -> Any:
        store = open_store(url, utc_now, exclusive=False)
        try:
            return await act(store)
        finally:
            await store.close()

    return asyncio.run(run())


@contextmanager
def agent(name: str, folder: Path, his: Path, store: str) -> Iterator[Agent]:
    folder.mkdir()
    parts = urlsplit(store)
    bare = store.replace(f":{parts.password or ''}@", "@")
    reference = 'password = "@env:HIS160_TEST_STATE", ' if parts.password else ""
    (folder / "config.toml").write_text(
        CONFIG.format(name=name, his=his, store=bare, password=reference), encoding="utf-8"
    )
    command = [sys.executable, "-W", "error", "-m", "agent", "run", "--config", str(folder / "config.toml")]
    path = f"{ROOT}{os.pathsep}{ROOT / 'proto' / 'gen'}"
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": path,
                "PYTHONUTF8": "1",
                "HIS160_TEST_STATE": unquote(parts.password or ""),
            },
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, (folder / "log").read_text()
            with grpc.insecure_channel(f"127.0.0.1:{json.loads(line)['port']}") as channel:
                yield Agent(name, folder, process, channel)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()


@pytest.fixture
def pair(tmp_path: Path, postgresql_database: Callable[[], SourceSettings]) -> Iterator[Pair]:
    his = tmp_path / "his"
    his.mkdir()
    hospital = small_hospital("sqlite", his)
    orders = put_orders(hospital, [False] * 6)
    store = url_of(postgresql_database())
    with ExitStack() as stack:
        stack.callback(hospital.remove)
        first = stack.enter_context(agent("one", tmp_path / "one", his / "his.db", store))
        until(lambda: first.watches() and first.lease() == "term 1", "what must follow")
        second = stack.enter_context(agent("two", tmp_path / "two", his / "his.db", store))
        until(lambda: second.lease().startswith("standby: one"), "what must follow")
        assert not second.watches()
        try:
            yield Pair(hospital, orders, store, first, second)
        except BaseException:
            for each in (first, second):
                print((each.folder / "log").read_text()[-6000:])
            raise


def delivers(which: Agent, order_no: str) -> Callable[[], bool]:
    return lambda: order_no in [number for _, number in which.delivered()]


def assert_each_once(pair: Pair, numbers: list[str]) -> None:
    """Each fact is one event of the outbox, delivered, with one id; a second delivery is for a receipt that was lost."""
    lines = {*pair.holder.delivered(), *pair.standby.delivered()}
    assert sorted(number for _, number in lines) == sorted(numbers)
    counts = pair.read(lambda work: work.events.counts())
    assert (counts.acked, counts.pending, counts.dead) == (len(numbers), 0, 0)


@contextmanager
def his_locked(pair: Pair) -> Iterator[None]:
    """Nobody can write into the HIS."""
    path = pair.hospital.url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None, timeout=PATIENCE)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        yield
        holder.execute("ROLLBACK")


def called(which: Agent, order_no: str, request_id: str) -> tuple[threading.Thread, list[object]]:
    """A call under way, and where its answer goes."""
    outcome: list[object] = []

    def call() -> None:
        try:
            outcome.append(which.cancel(order_no, request_id))
        except grpc.RpcError as error:
            outcome.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    return thread, outcome


def rests(pid: int) -> bool:
    """No thread of the process runs: each is stopped, or the process is dead."""
    try:
        return all(thread_state(task) in "TZX" for task in Path(f"/proc/{pid}/task").iterdir())
    except FileNotFoundError:
        return True


def thread_state(task: Path) -> str:
    return (task / "stat").read_text().rpartition(")")[2].split()[0]


def interrupted(pair: Pair, request_id: str, how: signal.Signals) -> tuple[str, threading.Thread, list[object]]:
    """The holder gets a signal in the middle of a command, which the other agent is then asked for, too."""
    order = pair.orders.pop().order_no
    with his_locked(pair):
        thread, outcome = called(pair.holder, order, request_id)
        until(lambda: pair.read(lambda work: work.commands.listed(CommandState.SENT, 1)), "what must follow")
        pair.holder.send(how)
        until(lambda: rests(pair.holder.process.pid), "threads at rest")  # one that runs would take the lock with it
    with pytest.raises(grpc.RpcError) as caught:
        pair.standby.cancel(order, request_id)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "outcome" in caught.value.details()
    return order, thread, outcome


def assert_done_once(pair: Pair, order_no: str, request_id: str, *, attempts: int) -> None:
    """The other agent answers in the end, and the HIS shows the order cancelled."""

    def answered() -> bool:
        try:
            return pair.standby.cancel(order_no, request_id) is not None
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE, error
            return False

    until(answered, "what must follow", 100)
    row = pair.read(lambda work: work.commands.get(request_id))
    assert row is not None
    assert (row.state, row.attempt) == (CommandState.DONE, attempts)
    window = pair.hospital.window()
    try:
        states = [
            found.state for found in window.orders(channel_only=True, limit=1000) if found.platform_order_no == order_no
        ]
    finally:
        window.close()
    assert states == ["CANCELLED"]


def test_one_agent_is_frozen(pair: Pair) -> None:
    """SIGSTOP in the middle of a command; SIGCONT when another one has the lease: it knows, and tries to get it again."""
    order, thread, outcome = interrupted(pair, "c1", signal.SIGSTOP)
    first = pair.cancel_at_window()
    until(delivers(pair.standby, first), "what must follow")
    assert pair.standby.lease() == "term 2"
    second = pair.cancel_at_window()
    pair.holder.send(signal.SIGCONT)
    until(delivers(pair.standby, second), "what must follow")
    until(lambda: pair.holder.lease().startswith("standby: two has term "), "what must follow")
    assert not [part for part in pair.holder.status().components if part.name.startswith("watch:")]
    third = pair.cancel_at_window()
    until(delivers(pair.standby, third), "what must follow")
    assert_each_once(pair, [first, second, third])
    assert not pair.holder.delivered()
    assert "lease is lost" in (pair.holder.folder / "log").read_text()
    assert_done_once(pair, order, "c1", attempts=1)
    thread.join(PATIENCE)
    assert isinstance(outcome[0], appointment_pb2.CancelAppointmentResponse), outcome
    pair.standby.send(signal.SIGTERM)
    assert pair.standby.process.wait(PATIENCE) == 0
    stopped = time.monotonic()
    until(lambda: pair.holder.lease().startswith("term ") and pair.holder.watches(), "what must follow")
    assert in_time(time.monotonic() - stopped, 10)  # a lease that is given back is not waited for


def test_one_agent_is_killed(pair: Pair) -> None:
    """One request at both agents at once; then kill -9 in the middle of a command of the one that watches."""
    shared = pair.orders.pop().order_no
    calls = [called(which, shared, "c0") for which in (pair.holder, pair.standby) * 3]
    for thread, _ in calls:
        thread.join(PATIENCE)
    answers = [answer for _, outcome in calls for answer in outcome]
    assert [type(answer) for answer in answers] == [appointment_pb2.CancelAppointmentResponse] * 6, answers
    assert all(answer == answers[0] for answer in answers)
    assert_done_once(pair, shared, "c0", attempts=1)
    first = pair.cancel_at_window()
    until(delivers(pair.holder, first), "what must follow")
    order, thread, _ = interrupted(pair, "c1", signal.SIGKILL)
    killed = time.monotonic()
    second = pair.cancel_at_window()
    until(delivers(pair.standby, second), "what must follow")
    assert in_time(time.monotonic() - killed, TAKEOVER)
    assert pair.standby.lease() == "term 2"
    assert_each_once(pair, [first, second])
    assert_done_once(pair, order, "c1", attempts=2)
    thread.join(PATIENCE)
    found = with_store(pair.store, lambda store: Audit(store, utc_now).verify())
    assert found.broken is None
