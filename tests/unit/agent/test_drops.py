"""Dropped files through the real agent: ``[drop.<name>]``, its watch in the mappings, status, metrics, a restart."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from his160.v1 import agent_pb2, event_pb2

from agent import cli
from agent.config import load_settings
from agent.daemon import Daemon
from agent.metrics import exposition
from his_db.document.problem import DocumentError
from his_db.registry import SAMPLES, load
from his_db.sample import SMALL, hospital_now
from tests.bounds import until_found

PACK = Path(__file__).resolve().parents[3] / "his_db" / "packs" / "zebone" / "mappings"
CONFIG = """\
site.code = "440305001"
mapping.path = "mappings"
source.his = { engine = "sqlite", database = "his.db" }
server = { enabled = true, insecure = true, listen = "127.0.0.1:0" }
delivery.sink = "pull"
watch.poll = "50ms"
[drop.windows]
folder = "in"
quiet = "100ms"
"""
WATCH = """\
schema = 1
watch = "window_file"
subject = "appointment"
source = "windows"
key = "appointment_id"
fields = [
  { to = "appointment_id", column = "流水号" },
  { to = "order_no", column = "订单号" },
  { to = "state", column = "状态" },
  { to = "patient_id", column = "流水号" },
  { to = "schedule_id", column = "流水号" },
]
[[event]]
kind = "CANCELLED"
when = "state: BOOKED|new -> CANCELLED"
"""
TEXT = "流水号,订单号,状态\n1,T1,CANCELLED\n"


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("his") / "his.db"
    load(SAMPLES["zebone"])().create(f"sqlite:///{file}", today=hospital_now().date(), size=SMALL)
    return file


@pytest.fixture
def config(tmp_path: Path, hospital: Path) -> Path:
    (tmp_path / "his.db").write_bytes(hospital.read_bytes())
    shutil.copytree(PACK, tmp_path / "mappings")
    (tmp_path / "mappings" / "watch" / "window_file.toml").write_text(WATCH, encoding="utf-8")
    file = tmp_path / "config.toml"
    file.write_text(CONFIG, encoding="utf-8")
    return file


@pytest.fixture
async def daemon(config: Path) -> AsyncIterator[Daemon]:
    running = Daemon(load_settings(config, {}))
    await running.start()
    yield running
    await running.stop()


async def cancelled(daemon: Daemon) -> list[str]:
    events = await daemon._outbox.read_after(0, 1000)
    return [event.order_no for event in events if event.kind == event_pb2.EVENT_KIND_CANCELLED]


async def test_a_dropped_file_through_the_agent(daemon: Daemon, config: Path) -> None:
    folder = config.parent / "in"
    (folder / "a.csv.tmp").write_bytes(TEXT.encode("gbk"))
    os.replace(folder / "a.csv.tmp", folder / "a.csv")
    assert await until_found(lambda: cancelled(daemon)) == ["T1"]
    (folder / "b.json").write_text("[1, 2", encoding="utf-8")
    (folder / "c.xml").write_text("<a><b></a>", encoding="utf-8")

    async def refused() -> bool:
        parts = {part.name: part for part in (await daemon.board.snapshot()).components}
        part = parts.get("drop:windows")
        return part is not None and part.health == agent_pb2.HEALTH_DEGRADED and "quarantine" in part.detail

    await until_found(refused)
    status = await daemon.board.snapshot()
    assert status.figures["drop_files:windows"] == 1
    assert status.figures["watch_events:window_file"] == 1
    assert (
        next(part for part in status.components if part.name == "watch:window_file").detail
        == "1 files are in quarantine"
    )
    text = exposition(status, {}).decode()
    assert 'his160_drop_quarantine{drop="windows"} 1.0' in text
    assert 'his160_drop_waiting{drop="windows"} 1.0' in text  # b.json may still be written to
    assert "SYNTAX" in (folder / "quarantine" / "c.xml.reason.txt").read_text(encoding="utf-8-sig")


async def test_what_was_dropped_while_the_agent_was_down(config: Path) -> None:
    folder = config.parent / "in"
    folder.mkdir()
    (folder / "a.csv").write_text(TEXT, encoding="utf-8")
    running = Daemon(load_settings(config, {}))
    await running.start()
    assert await until_found(lambda: cancelled(running)) == ["T1"]
    await running.stop()


def test_the_tools_know_the_watch(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["check", "--config", str(config)]) == 0
    assert cli.run(["mapping", "check", "--online", "--config", str(config)]) == 0
    capsys.readouterr()
    row = '{"流水号": 1, "订单号": "T1", "状态": "CANCELLED"}'
    assert cli.run(["mapping", "preview", "watch:window_file", "--after", row, "--config", str(config)]) == 0
    assert "CANCELLED" in capsys.readouterr().out
    assert cli.run(["mapping", "preview", "watch:window_file", "--config", str(config)]) == 2


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ('[drop.his]\nfolder = "other"', "同名"),
        ('[drop.again]\nfolder = "in"', "同一个目录"),
        ('[drop.w]\nfolder = "x"\nformat = "xls"', "xls"),
    ],
)
def test_a_configuration_that_cannot_be(config: Path, more: str, word: str) -> None:
    config.write_text(CONFIG + more, encoding="utf-8")
    with pytest.raises(DocumentError) as caught:
        load_settings(config, {})
    assert word in str(caught.value)


def test_operations_and_reports_read_no_files(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    operation = config.parent / "mappings" / "catalog" / "list_departments.toml"
    text = operation.read_text(encoding="utf-8")
    operation.write_text(text.replace("schema = 1\n", 'schema = 1\nsource = "windows"\n', 1), encoding="utf-8")
    assert cli.run(["mapping", "check", "--config", str(config)]) == 78
    assert "H233" in capsys.readouterr().out
