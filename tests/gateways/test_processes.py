"""Simulator and agent as processes of their own: called back, killed, started again; the books are still there."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from his160.site.v1 import merchant_pb2 as m

from agent.demo.site import free_port
from his_db.access import HisAccess
from his_db.engine import SourceSettings
from his_db.generation import compile_generation
from his_db.mapping.load import load_mapping_set
from his_db.source import LaneSettings, Source
from sync.clock import utc_now
from sync.store import open_store
from tests.bounds import PATIENCE
from tests.gateways.test_wechatpay import OPEN, TRADE

ROOT = Path(__file__).resolve().parents[2]
NUMBER = TRADE["out_trade_no"]
CONFIG = """\
site.code = "440305001"
mapping.path = "mappings"
source.wechat = {{ engine = "http", database = "{url}" }}
server = {{ enabled = true, insecure = true, listen = "127.0.0.1:0" }}
delivery.sink = "pull"
limits.grace = "2s"
state.path = "state/agent.db"
payment_notify = {{ enabled = true, insecure = true, listen = "127.0.0.1:{port}" }}
"""


@contextmanager
def process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A command that runs until the block ends, and the line it wrote when it was ready."""
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'proto' / 'gen'}", "PYTHONUTF8": "1"}
    command = [sys.executable, "-m", "agent", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environ, encoding="utf-8") as running:
        assert running.stdout is not None
        try:
            yield running, json.loads(running.stdout.readline())
        finally:
            running.kill()


def control(url: str, method: str, path: str, message: Any = None) -> Any:
    """One request to a simulator's control endpoint."""
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(url).port, timeout=PATIENCE)
    try:
        connection.request(method, f"/_control/{path}", None if message is None else json.dumps(message).encode())
        answer = connection.getresponse()
        found = json.loads(answer.read())
        assert answer.status == 200, found
        return found
    finally:
        connection.close()


async def opened_trade(mappings: Path, url: str) -> m.OpenTradeResponse:
    """A trade opened at the simulator through its gateway."""
    generation = compile_generation(load_mapping_set(mappings, sources={"wechat": "http"}, timezone="Asia/Shanghai"))
    settings = SourceSettings("wechat", "http", url, statement_timeout=timedelta(seconds=10))
    lane = LaneSettings(workers=1, queue_limit=9)
    source = Source(settings, {"read": lane, "write": lane})
    try:
        access = HisAccess({"wechat": source}, generation, clock=utc_now)
        answer = await access.write(OPEN, m.OpenTradeRequest(**TRADE), key="0" * 32)
    finally:
        await source.close(timedelta(seconds=1))
    assert isinstance(answer, m.OpenTradeResponse)
    return answer


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
async def test_called_back_killed_and_started_again(tmp_path: Path, wechat_keys: Path) -> None:
    book, port = tmp_path / "wechat.db", free_port()
    simulator = ("simulator", "wechat", "--book", str(book), "--keys", str(wechat_keys))
    with process(*simulator, "--port", "0") as (running, ready):
        url = ready["url"]
        (tmp_path / "mappings").mkdir()
        shutil.copy(ready["mapping"], tmp_path / "mappings")
        assert (await opened_trade(tmp_path / "mappings", url)).prepay_id
        control(url, "POST", "act", {"do": "pay", "out_trade_no": NUMBER})

        (tmp_path / "config.toml").write_text(CONFIG.format(url=url, port=port), encoding="utf-8")
        act = {"do": "notify", "out_trade_no": NUMBER, "to": f"http://127.0.0.1:{port}/notify/wechatpay"}
        with process("run", "--config", str(tmp_path / "config.toml")) as (agent, started):
            assert started["ready"] is True
            assert control(url, "POST", "act", {**act, "probe": True})["status"] == 400
            assert control(url, "POST", "act", act)["status"] == 200
            assert control(url, "POST", "act", act)["status"] == 200
            agent.kill()
        store = open_store(tmp_path / "state" / "agent.db", utc_now, exclusive=False)
        event = "TRANSACTION.SUCCESS"
        is_new = await store.write(lambda work: work.payment_notices.add("wechatpay", event, NUMBER, utc_now()))
        assert not is_new  # what was accepted is on disk
        await store.close()

        with process("run", "--config", str(tmp_path / "config.toml")) as (agent, started):
            assert control(url, "POST", "act", act)["status"] == 200
            agent.send_signal(signal.SIGTERM)
            assert agent.wait(PATIENCE) == 0
        running.send_signal(signal.SIGTERM)
        assert running.wait(PATIENCE) == 0
    with process(*simulator, "--port", str(urlsplit(url).port)) as (_, again):
        assert again["url"] == url
        trades = control(url, "GET", "book")["trade"]
        assert [(row["out_trade_no"], row["state"]) for row in trades] == [(NUMBER, "SUCCESS")]


def test_a_port_that_is_taken_is_said(tmp_path: Path, wechat_keys: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from agent import cli

    simulator = ["simulator", "wechat", "--book", str(tmp_path / "b.db"), "--keys", str(wechat_keys)]
    with process(*simulator, "--port", "0") as (_, ready):
        taken = str(urlsplit(ready["url"]).port)
        assert cli.run([*simulator[:3], str(tmp_path / "c.db"), *simulator[4:], "--port", taken]) == 1
    assert "the simulator cannot start" in capfd.readouterr().err
