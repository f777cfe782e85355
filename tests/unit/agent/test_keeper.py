"""Readiness and signs of life: what systemd is told, by the real process and by each part of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from his160.v1 import agent_pb2

from agent import cli
from agent.liveness import Liveness, one_line, tell_keeper
from agent.notify import SystemdKeeper, systemd_keeper
from agent.supervisor import Supervisor
from his_db.registry import SAMPLES, load
from his_db.sample import SMALL, hospital_now
from tests.bounds import PATIENCE

ROOT = Path(__file__).resolve().parents[3]
SHORT = timedelta(seconds=0.3)
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="systemd is Linux's; Windows has its own host")


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """A NOTIFY_SOCKET and the end that systemd would read."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(30)
        yield str(tmp_path / "notify"), heard


def message(heard: socket.socket) -> dict[str, str]:
    return dict(line.split("=", 1) for line in heard.recv(4096).decode().splitlines())


def test_the_process_is_ready_when_it_serves_and_stops_in_time(ear: tuple[str, socket.socket], tmp_path: Path) -> None:
    address, heard = ear
    load(SAMPLES["zebone"])().create(f"sqlite:///{tmp_path / 'his.db'}", today=hospital_now().date(), size=SMALL)
    config = tmp_path / "config.toml"
    config.write_text(
        'site.code = "440305001"\nmapping.path = "pack:zebone"\ndelivery.sink = "pull"\n'
        'source.his = { engine = "sqlite", database = "his.db" }\n'
        'server = { enabled = true, insecure = true, listen = "127.0.0.1:0" }\n',
        encoding="utf-8",
    )
    path = f"{ROOT}{os.pathsep}{ROOT / 'proto' / 'gen'}"
    environ = {**os.environ, "PYTHONPATH": path, "NOTIFY_SOCKET": address, "WATCHDOG_USEC": "900000"}
    words = [sys.executable, "-m", "agent", "run", "--config", str(config)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environ, encoding="utf-8") as process:
        try:
            first = message(heard)
            assert first["READY"] == "1"
            assert process.stdout is not None
            port = json.loads(process.stdout.readline())["port"]
            target = ["--target", f"127.0.0.1:{port}", "--insecure"]
            assert cli.run(["call", "CatalogService.ListDepartments", "{}", *target]) == 0
            for _ in range(2):
                beat = message(heard)
                assert beat["WATCHDOG"] == "1"
                assert beat["STATUS"]
            process.send_signal(signal.SIGTERM)
            while "STOPPING" not in message(heard):
                pass
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


def status(**more: int) -> agent_pb2.GetStatusResponse:
    down = agent_pb2.Component(name="source:his", health=agent_pb2.HEALTH_DOWN)
    return agent_pb2.GetStatusResponse(health=agent_pb2.HEALTH_DOWN, components=[down], **more)


class Told:
    """A keeper that writes down what it hears; ``wait`` returns when it has heard more."""

    def __init__(self) -> None:
        self.patience: timedelta | None = SHORT
        self.words: list[str] = []
        self.news = asyncio.Event()

    def _say(self, word: str) -> None:
        self.words.append(word)
        self.news.set()

    def ready(self, status: str) -> None:
        self._say("ready")

    def alive(self, status: str) -> None:
        self._say("alive")

    def unwell(self, trouble: str) -> None:
        self._say(trouble)

    def stopping(self, status: str) -> None:
        self._say("stopping")


async def answering() -> agent_pb2.GetStatusResponse:
    return status()


def liveness() -> Liveness:
    return Liveness(answering, lambda: "", lambda: None)


async def hanging() -> agent_pb2.GetStatusResponse:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize(
    ("dead", "trouble"),
    [
        (replace(liveness(), snapshot=hanging), "the state store does not answer"),
        (replace(liveness(), ended=lambda: "delivery"), "delivery has ended"),
        (replace(liveness(), beat=lambda: 1.0, clock=lambda: 100.0), "the scheduler stands still"),
    ],
)
async def test_a_part_that_does_not_live_gives_no_sign_of_life(dead: Liveness, trouble: str) -> None:
    told = Told()
    task = asyncio.create_task(tell_keeper(told, dead))
    async with asyncio.timeout(PATIENCE):
        await told.news.wait()
    task.cancel()
    assert told.words == [trouble]


async def test_an_his_that_is_down_is_no_death() -> None:
    told = Told()
    task = asyncio.create_task(tell_keeper(told, liveness()))
    async with asyncio.timeout(PATIENCE):
        while len(told.words) < 3:
            told.news.clear()
            await told.news.wait()
    task.cancel()
    assert set(told.words) == {"alive"}


async def test_the_supervisor_names_a_part_that_has_ended() -> None:
    supervisor = Supervisor()
    supervisor.start("steady", asyncio.Event().wait())
    assert supervisor.ended() == ""
    supervisor.start("short", asyncio.sleep(0))
    assert await supervisor.watch(asyncio.Event()) == "short"
    assert supervisor.ended() == "short"
    await supervisor.stop(timedelta(0))


def test_the_status_line_says_what_is_not_well() -> None:
    line = one_line(status(outbox_pending=3, unknown_outcomes=1))
    assert line == "故障 down (source:his), 待投递 pending 3, 结果未知 unknown 1"


def test_a_line_cannot_be_forged(ear: tuple[str, socket.socket]) -> None:
    address, heard = ear
    SystemdKeeper(address, None).alive("one\nMAINPID=1")
    assert message(heard) == {"WATCHDOG": "1", "STATUS": "one MAINPID=1"}


def test_an_abstract_socket() -> None:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as heard:
        name = f"his160-test-{os.getpid()}"
        heard.bind("\0" + name)
        heard.settimeout(10)
        SystemdKeeper("@" + name, None).ready("ok")
        assert message(heard)["READY"] == "1"


def test_a_deaf_systemd_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keeper = SystemdKeeper(str(tmp_path / "nobody"), None)
    keeper.ready("ok")
    keeper.alive("ok")
    assert len(caplog.records) == 1


def test_the_environment_says_who_keeps_us() -> None:
    assert systemd_keeper({}) is None
    assert systemd_keeper({"NOTIFY_SOCKET": "vsock:2:1"}) is None
    keeper = systemd_keeper({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())})
    assert keeper is not None
    assert keeper.patience == timedelta(seconds=60)
    other = systemd_keeper({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"})
    assert other is not None
    assert other.patience is None
