"""The process put together: on the sample HIS in SQLite, and on an HIS that is not there."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.type.date_pb2 import Date
from his160.v1 import (
    agent_pb2,
    agent_pb2_grpc,
    appointment_pb2,
    catalog_pb2,
    catalog_pb2_grpc,
    event_pb2,
    event_pb2_grpc,
)

from agent import cli
from agent.config import load_settings
from agent.daemon import Daemon
from his_db.registry import SAMPLES, load
from his_db.sample import SMALL, hospital_now
from tests.bounds import PATIENCE, in_time, until_found

ROOT = Path(__file__).resolve().parents[3]
CONFIG = """\
site.code = "440305001"
mapping.path = "pack:zebone"
source.his = {{ {source} }}
server = {{ enabled = true, insecure = true, listen = "127.0.0.1:0" }}
delivery.sink = "pull"
watch.poll = "100ms"
limits.grace = "2s"
"""
SQLITE = 'engine = "sqlite", database = "his.db"'
# Nobody listens on port 1.
NOWHERE = 'engine = "postgresql", database = "his", host = "127.0.0.1", port = 1, connect_timeout = "1s"'


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a small sample HIS."""
    file = tmp_path_factory.mktemp("his") / "his.db"
    load(SAMPLES["zebone"])().create(f"sqlite:///{file}", today=hospital_now().date(), size=SMALL)
    return file


@pytest.fixture
def config(tmp_path: Path, hospital: Path) -> Path:
    file = tmp_path / "config.toml"
    (tmp_path / "his.db").write_bytes(hospital.read_bytes())
    file.write_text(CONFIG.format(source=SQLITE), encoding="utf-8")
    return file


@pytest.fixture
async def daemon(config: Path) -> AsyncIterator[tuple[Daemon, grpc.aio.Channel]]:
    running = Daemon(load_settings(config, {}))
    ready = await running.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{ready.port}") as channel:
        yield running, channel
    await running.stop()


async def test_it_answers_from_the_his(daemon: tuple[Daemon, grpc.aio.Channel]) -> None:
    _, channel = daemon
    catalog = catalog_pb2_grpc.CatalogServiceStub(channel)
    departments = await catalog.ListDepartments(catalog_pb2.ListDepartmentsRequest())
    assert len(departments.departments) >= 4
    today = hospital_now().date()
    day = Date(year=today.year, month=today.month, day=today.day)
    schedules = await catalog.ListSchedules(catalog_pb2.ListSchedulesRequest(from_date=day, to_date=day))
    assert schedules.schedules


async def test_its_status_is_good(daemon: tuple[Daemon, grpc.aio.Channel]) -> None:
    _, channel = daemon
    stub = agent_pb2_grpc.AgentServiceStub(channel)

    async def well() -> Any:
        status = await stub.GetStatus(agent_pb2.GetStatusRequest())
        healths = {component.name: component.health for component in status.components}
        wanted = {"server", "store", "source:his", "watch:orders", "watch:schedules"}
        return status if wanted <= set(healths) and set(healths.values()) == {agent_pb2.HEALTH_OK} else None

    status = await until_found(well)
    assert status.health == agent_pb2.HEALTH_OK
    info = await stub.GetInfo(agent_pb2.GetInfoRequest())
    assert info.mapping_revision
    assert sum(capability.available for capability in info.capabilities) > 15


async def test_a_change_at_the_window_can_be_read(daemon: tuple[Daemon, grpc.aio.Channel], config: Path) -> None:
    _, channel = daemon
    stub = agent_pb2_grpc.AgentServiceStub(channel)

    async def watching() -> bool:
        status = await stub.GetStatus(agent_pb2.GetStatusRequest())
        return all(c.health == agent_pb2.HEALTH_OK for c in status.components if c.name.startswith("watch:"))

    await until_found(watching)
    window = load(SAMPLES["zebone"])().window(f"sqlite:///{config.parent / 'his.db'}")
    schedules = await catalog_pb2_grpc.CatalogServiceStub(channel).ListSchedules(_coming())
    open_one = next(item for item in schedules.schedules if item.state == 1)
    window.suspend_schedule(open_one.schedule_id, operator="0931", reason="停诊")
    window.close()
    events = event_pb2_grpc.EventServiceStub(channel)
    pages = events.ReadEvents(event_pb2.ReadEventsRequest())
    async with asyncio.timeout(PATIENCE):
        async for page in pages:
            kinds = {(event.kind, event.schedule_id): event for event in page.events}
            event = kinds.get((event_pb2.EVENT_KIND_SUSPENDED, open_one.schedule_id))
            if event is not None:
                break
    pages.cancel()
    assert event is not None
    assert event.site == "440305001"
    acked = await events.AckEvents(event_pb2.AckEventsRequest(event_ids=[event.event_id]))
    assert acked.newly_acked == 1


def _coming() -> catalog_pb2.ListSchedulesRequest:
    first, last = hospital_now().date(), hospital_now().date() + timedelta(days=2)
    return catalog_pb2.ListSchedulesRequest(
        from_date=Date(year=first.year, month=first.month, day=first.day),
        to_date=Date(year=last.year, month=last.month, day=last.day),
    )


async def test_a_part_that_dies_ends_the_process(daemon: tuple[Daemon, grpc.aio.Channel]) -> None:
    running, _ = daemon
    running._supervisor._tasks["watch:orders"].cancel()
    async with asyncio.timeout(PATIENCE):
        assert await running.watch(asyncio.Event()) == 1


async def test_a_second_agent_on_the_store_is_refused(
    daemon: tuple[Daemon, grpc.aio.Channel], config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await asyncio.to_thread(subprocess.call, command(config), stderr=subprocess.DEVNULL) == 1


async def test_an_his_that_is_not_there_does_not_stop_the_start(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(CONFIG.format(source=NOWHERE), encoding="utf-8")
    running = Daemon(load_settings(file, {}))
    ready = await running.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{ready.port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await catalog_pb2_grpc.CatalogServiceStub(channel).ListDepartments(catalog_pb2.ListDepartmentsRequest())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert caught.value.details() == "his unavailable"
        status = await agent_pb2_grpc.AgentServiceStub(channel).GetStatus(agent_pb2.GetStatusRequest())
        assert status.health == agent_pb2.HEALTH_DOWN
    started = time.monotonic()
    await running.stop()
    assert in_time(time.monotonic() - started, 10)


def command(config: Path) -> list[str]:
    return [sys.executable, "-m", "agent", "run", "--config", str(config)]


def environ() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'proto' / 'gen'}", "PYTHONUTF8": "1"}


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX; Windows has its own test")
def test_the_process_says_that_it_is_ready_and_stops_when_asked(config: Path) -> None:
    with subprocess.Popen(command(config), stdout=subprocess.PIPE, env=environ(), encoding="utf-8") as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["ready"] is True
        assert ready["site"] == "440305001"
        target = ["--target", f"127.0.0.1:{ready['port']}", "--insecure"]
        assert cli.run(["status", "--json", *target]) == 0
        assert cli.run(["call", "CatalogService.ListDepartments", "{}", *target]) == 0
        assert cli.run(["call", "AppointmentService.GetAppointment", '{"order_no": "none"}', *target]) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_a_port_that_is_taken_is_1(config: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        variables = {**environ(), "HIS160__SERVER__LISTEN": f"127.0.0.1:{port}"}
        done = subprocess.run(
            command(config), capture_output=True, env=variables, encoding="utf-8", timeout=PATIENCE, check=False
        )
    assert done.returncode == 1
    assert "cannot listen" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_online(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["check", "--online", "--config", str(config)]) == 0
    assert "his 已连接" in capsys.readouterr().out
    config.write_text(CONFIG.format(source=NOWHERE), encoding="utf-8")
    assert cli.run(["check", "--online", "--timeout", "5", "--config", str(config)]) == 1


def test_the_contract_is_here() -> None:
    assert appointment_pb2.DESCRIPTOR.package == "his160.v1"
