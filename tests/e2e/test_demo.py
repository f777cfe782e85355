"""``his160 demo`` as a person starts it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import psutil
import pytest

from agent.demo.child import Child
from agent.demo.plot import STEPS
from agent.demo.site import NOTES
from tests.e2e.site import SOON, his160, json_of, until, url_of
from tests.servers import PostgresqlServer

_NAMES = ["attach", *(step.name for step in STEPS), "report_R1", "report_D2", "books"]


@pytest.fixture
def environ(request: pytest.FixtureRequest) -> dict[str, str]:
    """Where the demo finds the PostgreSQL server of the tests."""
    server: PostgresqlServer = request.getfixturevalue("postgresql_server")
    return {"HIS160_DEMO_POSTGRESQL_URL": url_of(server.settings)}


def test_demo_on_sqlite_in_full_size() -> None:
    _prove("sqlite", {})


def test_demo_on_postgresql_in_full_size(environ: dict[str, str]) -> None:
    _prove("postgresql", environ)


def _prove(kind: str, environ: dict[str, str]) -> None:
    done = his160("demo", "--his", kind, "--json", environ=environ)
    report = json_of(done)
    assert done.returncode == 0, report
    assert report["his"] == kind
    assert [step["name"] for step in report["steps"]] == _NAMES
    assert all(step["ok"] is True and step["detail"] for step in report["steps"])
    books = report["books"]
    assert books == {"consistent": True, "his": 5, "ledger": 5, "relay": 5, "differences": []}
    assert report["seconds"] > 0
    assert "林演示" not in done.stdout + done.stderr


def test_a_demo_that_cannot_start_says_so_and_fails() -> None:
    done = his160(
        "demo", "--his", "postgresql", "--json", environ={"HIS160_DEMO_POSTGRESQL_URL": "postgresql://127.0.0.1:1/x"}
    )
    report = json_of(done)
    assert done.returncode == 1
    assert report["books"]["consistent"] is False
    assert "HIS160_DEMO_POSTGRESQL_URL" in report["steps"][-1]["detail"]


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[site]", encoding="utf-8")
    done = his160("demo", "--json", "--workdir", str(tmp_path))
    assert done.returncode == 2
    assert str(tmp_path) in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]


@pytest.mark.skipif(os.name == "nt", reason="SIGTERM is POSIX")
def test_a_demo_that_stays_can_be_played_with_and_leaves_nothing_running(tmp_path: Path) -> None:
    demo = Child("demo", ["demo", "--small", "--stay", "--workdir", str(tmp_path / "site")], tmp_path / "logs")
    try:
        demo.wait_line(lambda line: "Ctrl-C" in line, SOON)
        children = [child for child in psutil.Process(demo.pid).children() if child.is_running()]
        assert len(children) == 2
        listed = his160("demo", "window", "--workdir", str(tmp_path / "site"), "list")
        assert listed.returncode == 0
        rows = [line.split() for line in listed.stdout.splitlines() if line.strip().startswith("16")]
        order = next(row[0] for row in rows if row[1] == "PAID")
        refunded = his160("demo", "window", "--workdir", str(tmp_path / "site"), "refund", order)
        assert refunded.returncode == 0, refunded.stderr
        assert "EU_STATUS" in refunded.stdout
        again = his160("demo", "window", "--workdir", str(tmp_path / "site"), "refund", order)
        assert again.returncode == 1
        assert json.loads((tmp_path / "site" / NOTES).read_text(encoding="utf-8"))["pack"] == "zebone"
        assert demo.running
        os.kill(demo.pid, signal.SIGTERM)
        assert demo.wait(SOON) == 0
        until(lambda: not any(child.is_running() for child in children), "the end of its processes", SOON)
    finally:
        demo.stop()
