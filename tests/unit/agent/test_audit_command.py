"""``his160 audit`` over the store of a real agent: what it did is there, whole, and can be given to others."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import socket
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from his160.v1 import appointment_pb2, appointment_pb2_grpc

from agent import cli
from agent.config import load_settings
from agent.daemon import Daemon
from his_db.registry import SAMPLES, load
from his_db.sample import SMALL, hospital_now
from sync.audit_chain import AuditRow
from sync.clock import utc_now
from sync.store import StoreUnavailable, open_store

CONFIG = """\
site.code = "440305001"
site.instance = "agent-1"
mapping.path = "pack:zebone"
source.his = { engine = "sqlite", database = "his.db" }
server = { enabled = true, insecure = true, listen = "127.0.0.1:0" }
delivery.sink = "pull"
"""
LOCK = "AppointmentService.LockSlot"


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("his") / "his.db"
    load(SAMPLES["zebone"])().create(f"sqlite:///{file}", today=hospital_now().date(), size=SMALL)
    return file


@pytest.fixture
def config(tmp_path: Path, hospital: Path) -> Path:
    (tmp_path / "his.db").write_bytes(hospital.read_bytes())
    file = tmp_path / "config.toml"
    file.write_text(CONFIG, encoding="utf-8")
    return file


def state(config: Path) -> Path:
    return config.parent / "state" / "his160.db"


async def his160(config: Path, *arguments: str) -> int:
    return await asyncio.to_thread(cli.run, [*arguments, "--config", str(config)])


async def rows(config: Path) -> list[AuditRow]:
    store = open_store(state(config), utc_now, exclusive=False)
    try:
        return list(await store.read(lambda work: work.audit.after(0, 1000)))
    finally:
        await store.close()


async def a_day(config: Path) -> AsyncIterator[None]:
    """Start, a command that the HIS refuses, a switch, stop."""
    daemon = Daemon(load_settings(config, {}))
    ready = await daemon.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{ready.port}") as channel:
        request = appointment_pb2.LockSlotRequest(
            request_id="lock-1", order_no="T1", schedule_id="none", slot_id="none", patient_id="none"
        )
        with pytest.raises(grpc.aio.AioRpcError):
            await appointment_pb2_grpc.AppointmentServiceStub(channel).LockSlot(request)
        assert await his160(config, "switch", "off", LOCK, "--note", "对账") == 0
        daemon._switches.look()
        yield
    await daemon.stop()


async def test_a_day_of_an_agent(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async for _ in a_day(config):
        assert await his160(config, "audit", "verify") == 0  # beside the running agent
    found = [(row.entry.action, row.entry.result) for row in await rows(config)]
    assert [action for action, _ in found] == ["agent.start", LOCK, "switch.off", "switch.applied", "agent.stop"]
    assert found[1][1].startswith("REJECTED ")
    start, lock, switch, applied, _ = [row.entry for row in await rows(config)]
    assert (start.actor, start.instance) == ("agent/agent-1", "agent-1")
    assert start.digest == hashlib.sha256(config.read_bytes()).digest()
    assert start.mapping_revision == lock.mapping_revision != ""
    assert lock.actor == "local/loopback"
    assert lock.source.startswith("server ipv4:127.0.0.1:")
    assert lock.target == "T1"
    assert json.loads(lock.parameters)["order_no"] == "T1"
    assert re.fullmatch(r"os/.+@.+", switch.actor)
    assert json.loads(switch.parameters) == {"operation": LOCK, "note": "对账"}
    assert list(json.loads(applied.parameters)["off"]) == [LOCK]
    capsys.readouterr()
    assert await his160(config, "audit", "show", "--order", "T1") == 0
    shown = capsys.readouterr().out
    assert LOCK in shown
    assert "agent.start" not in shown
    assert await his160(config, "audit", "show", "--what", "switch.") == 0
    assert "switch.applied" in capsys.readouterr().out


def change_second_row(config: Path) -> None:
    with closing(sqlite3.connect(state(config))) as connection:
        connection.execute("DROP TRIGGER audit_no_update")
        connection.execute("UPDATE audit SET result = 'DONE' WHERE sequence = 2")
        connection.commit()


async def test_a_broken_chain_is_told(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async for _ in a_day(config):
        pass
    assert await his160(config, "audit", "verify") == 0
    anchor = re.search(r"\d+:[0-9a-f]{64}", capsys.readouterr().out)
    assert anchor
    assert await his160(config, "audit", "verify", "--noted", anchor[0]) == 0
    assert await his160(config, "audit", "verify", "--noted", "9:" + "0" * 64) == 1
    assert await his160(config, "audit", "verify", "--noted", "nonsense") == 2
    change_second_row(config)
    capsys.readouterr()
    assert await his160(config, "audit", "verify") == 1
    told = capsys.readouterr().err
    assert "第 2 条" in told
    assert "broken at 2" in told


async def test_exports(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async for _ in a_day(config):
        pass
    capsys.readouterr()
    assert await his160(config, "audit", "export", "--since", "1", "--until", "3") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["sequence"] for line in lines] == [2, 3]
    file = tmp_path / "audit.log"
    assert await his160(config, "audit", "export", "--format", "syslog", "--file", str(file)) == 0
    assert "--since 5" in capsys.readouterr().err
    messages = file.read_text(encoding="utf-8").splitlines()
    assert len(messages) == 5
    assert all(re.match(r"<10[89]>1 \d{4}-", message) for message in messages)
    assert await syslog_over_tcp(config) == messages
    assert await syslog_over_udp(config) == messages


async def test_an_export_says_that_its_rows_were_changed(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of it goes out all the same: who collects the audit needs the evidence."""
    async for _ in a_day(config):
        pass
    change_second_row(config)
    capsys.readouterr()
    file = tmp_path / "audit.jsonl"
    for since, rows in ((0, 5), (1, 4), (2, 3)):  # row 3 stands behind the one that was changed
        assert await his160(config, "audit", "export", "--since", str(since), "--file", str(file)) == (since < 2)
        said = capsys.readouterr().err
        assert ("断裂" in said) is (since < 2)
        assert len(file.read_text(encoding="utf-8").splitlines()) == rows


async def syslog_over_tcp(config: Path) -> list[str]:
    received = bytearray()

    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            while part := connection.recv(65536):
                received.extend(part)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        to = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        assert await his160(config, "audit", "export", "--to", to) == 0
        thread.join(10)
    found = []
    while received:  # RFC 6587: length, blank, message
        length, _, rest = bytes(received).partition(b" ")
        found.append(rest[: int(length)].decode())
        received = bytearray(rest[int(length) :])
    return found


async def syslog_over_udp(config: Path) -> list[str]:
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        to = f"udp://127.0.0.1:{server.getsockname()[1]}"
        assert await his160(config, "audit", "export", "--to", to) == 0
        return [server.recv(65536).decode() for _ in range(5)]


async def test_a_receiver_that_is_not_there(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await his160(config, "audit", "verify") == 1  # the agent has not run yet
    async for _ in a_day(config):
        pass
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert await his160(config, "audit", "export", "--to", f"tcp://127.0.0.1:{port}") == 1
    assert await his160(config, "audit", "export", "--to", "http://127.0.0.1:1") == 2
    assert "tcp://" in capsys.readouterr().err


async def test_a_store_that_fails_delays_the_audit_of_the_process(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk at the start: the agent runs, and its start is written down when there is room."""
    daemon = Daemon(load_settings(config, {}))
    store: Any = daemon._store
    write = store.write

    async def full(unit: object) -> None:
        raise StoreUnavailable("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(store, "write", full)
        await daemon._trail.started("rev", [])
    assert await rows(config) == []
    assert store.write == write
    await daemon._trail.jobs()[0].run()
    assert [row.entry.action for row in await rows(config)] == ["agent.start"]
    await daemon.stop()
