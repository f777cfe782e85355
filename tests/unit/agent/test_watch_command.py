"""``his160 watch pause|resume|reseed`` beside a running agent on the sample HIS, over its restart."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from his160.v1 import agent_pb2, event_pb2

from agent import cli
from agent.config import load_settings
from agent.daemon import Daemon
from agent.metrics import exposition
from his_db.registry import SAMPLES, load
from his_db.sample import SMALL, WindowProgram, hospital_now
from sync.clock import utc_now
from sync.store import open_store
from tests.bounds import until_found

CONFIG = """\
site.code = "440305001"
site.instance = "agent-1"
mapping.path = "pack:zebone"
source.his = { engine = "sqlite", database = "his.db" }
server = { enabled = true, insecure = true, listen = "127.0.0.1:0" }
delivery.sink = "pull"
watch.poll = "50ms"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    load(SAMPLES["zebone"])().create(f"sqlite:///{tmp_path / 'his.db'}", today=hospital_now().date(), size=SMALL)
    file = tmp_path / "config.toml"
    file.write_text(CONFIG, encoding="utf-8")
    return file


async def his160(config: Path, *arguments: str) -> int:
    return await asyncio.to_thread(cli.run, ["watch", *arguments, "--config", str(config)])


async def orders(daemon: Daemon) -> agent_pb2.Component | None:
    status = await daemon.board.snapshot()
    return next((part for part in status.components if part.name == "watch:orders"), None)


async def is_watching(daemon: Daemon) -> bool:
    part = await orders(daemon)
    return part is not None and part.health == agent_pb2.HEALTH_OK


async def cancellations(daemon: Daemon) -> list[str]:
    events = await daemon._outbox.read_after(0, 1000)
    return [event.order_no for event in events if event.kind == event_pb2.EVENT_KIND_CANCELLED]


async def test_a_pause_holds_over_a_restart_and_nothing_is_lost(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    window: WindowProgram = load(SAMPLES["zebone"])().window(f"sqlite:///{config.parent / 'his.db'}")
    first, second = [row for row in window.orders(channel_only=True, limit=500) if row.state == "BOOKED"][:2]
    assert await his160(config, "pause", "nothing") == 1
    assert await his160(config, "pause", "order") == 1
    assert "orders" in capsys.readouterr().err
    daemon = Daemon(load_settings(config, {}))
    await daemon.start()
    await until_found(lambda: is_watching(daemon))
    assert await his160(config, "pause", "orders", "--note", "换库") == 0

    async def is_paused() -> bool:
        part = await orders(daemon)
        return part is not None and part.health == agent_pb2.HEALTH_DEGRADED and "换库" in part.detail

    await until_found(is_paused)
    text = exposition(await daemon.board.snapshot(), {}).decode()
    assert 'his160_watch_paused{stream="orders"} 1.0' in text
    assert 'his160_watch_paused{stream="schedules"} 0.0' in text
    await asyncio.to_thread(window.cancel_booking, first.his_id, operator="0931")
    await daemon.stop()

    daemon = Daemon(load_settings(config, {}))
    await daemon.start()
    await until_found(is_paused)
    assert await his160(config, "reseed", "orders") == 0
    assert "恢复后重建" in capsys.readouterr().out
    assert await cancellations(daemon) == []
    assert await his160(config, "resume", "orders") == 0
    assert await until_found(lambda: cancellations(daemon)) == [first.platform_order_no]
    await until_found(lambda: is_watching(daemon))

    await asyncio.to_thread(window.cancel_booking, second.his_id, operator="0931")
    capsys.readouterr()
    assert await his160(config, "reseed", "orders", "--note", "恢复备份") == 0
    assert "rows=" in capsys.readouterr().out
    assert sorted(await cancellations(daemon)) == sorted([first.platform_order_no, second.platform_order_no])
    assert daemon.figures.snapshot().get("job_failures:watches", 0) == 0
    assert (await daemon.board.snapshot()).figures["watch_reseeds:orders"] == 2
    await daemon.stop()
    window.close()
    assert await his160(config, "reseed", "orders") == 0
    assert "下次启动" in capsys.readouterr().out

    store = open_store(config.parent / "state" / "his160.db", utc_now, exclusive=False)
    rows = await store.read(lambda work: work.audit.newest(100, action="watch."))
    await store.close()
    said = [row.entry.action for row in rows if row.entry.actor.startswith("os/")]
    done = [row.entry.action for row in rows if row.entry.actor.startswith("agent/")]
    assert said == ["watch.pause", "watch.reseed", "watch.resume", "watch.reseed", "watch.reseed"]
    assert sorted(done) == ["watch.paused", "watch.reseeded", "watch.reseeded", "watch.running"]
    assert {row.entry.target for row in rows} == {"orders"}


def test_the_help_says_what_each_does(capsys: pytest.CaptureFixture[str]) -> None:
    for action, words in (("pause", "past_days"), ("resume", "补发"), ("reseed", "Nothing is made up")):
        assert cli.run(["watch", action, "--help"]) == 0
        assert words in capsys.readouterr().out
