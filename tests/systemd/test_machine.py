"""The service on a machine that systemd runs: installed, started, watched, broken, mended, removed, for real."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.bench_pki import make_bench_pki
from his_db.registry import SAMPLES, load
from his_db.sample import SMALL, hospital_now
from tests.systemd.machine import ROOT, Machine, booted

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

UNIT = "his160.service"
SITE = "440305001"
CONFIG = f"""\
[site]
code = "{SITE}"

[state]
path = "/var/lib/his160/his160.db"

[source.his]
engine = "sqlite"
database = "/srv/his/his.db"
password = "@credential:his"

[mapping]
path = "mappings"

[server]
enabled = true
listen = "127.0.0.1:50160"
certificate = "pki/agent.pem"
key = "pki/agent.key"
client_ca = "pki/ca.pem"

[delivery]
sink = "file"
folder = "/var/lib/his160/events"

[log]
file = "/var/log/his160/his160.log"
"""
AGENT = ("--config", "/etc/his160/config.toml", "--certs", "/etc/his160/pki", "--as", "operator")
INSTALL = ("service", "install", "--config", "/etc/his160/config.toml", "--credential", "his=/etc/his160/his.password")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our wheel, built from a copy of the sources."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("agent", "sync", "his_db", "service_install", "proto"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, copy)
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    words += ["--wheel-dir", str(out), str(copy)]
    subprocess.run(words, check=True)
    return next(out.glob("his160-*.whl"))


@pytest.fixture(scope="module")
def booted_machine(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    site = tmp_path_factory.mktemp("site")
    make_bench_pki(site / "pki", site=SITE)
    load(SAMPLES["zebone"])().create(f"sqlite:///{site / 'his.db'}", today=hospital_now().date(), size=SMALL)
    shutil.copytree(ROOT / "his_db" / "packs" / "zebone" / "mappings", site / "mappings")
    with booted(tmp_path_factory.mktemp("booted"), wheel, site) as machine:
        yield machine


@pytest.fixture
def machine(booted_machine: Machine) -> Iterator[Machine]:
    """The machine with a hospital's files, the service not installed."""
    booted_machine.must(
        "sh", "-ec", "mkdir -p /etc/his160 /srv/his && cp -r /opt/site/pki /opt/site/mappings /etc/his160/"
    )
    booted_machine.must("sh", "-ec", "cp /opt/site/his.db /srv/his/ && chmod -R go= /etc/his160 /srv/his")
    booted_machine.must("sh", "-ec", "umask 077; cat >/etc/his160/config.toml", text=CONFIG)
    booted_machine.must("sh", "-ec", "umask 077; cat >/etc/his160/his.password", text="geheim\n")
    yield booted_machine
    booted_machine.run("systemctl", "stop", UNIT)
    booted_machine.must(
        "sh",
        "-ec",
        "systemctl -q disable his160 2>/dev/null || true; rm -rf /etc/systemd/system/his160.service* /etc/his160 /srv/his"
        " /var/lib/his160 /var/log/his160; systemctl daemon-reload; systemctl reset-failed; userdel his160 2>/dev/null || true",
    )


def test_it_is_installed_serves_is_kept_alive_and_goes(machine: Machine) -> None:
    done = machine.his160(*INSTALL, "--now")
    assert done.returncode == 0, done.stdout + done.stderr + machine.journal(UNIT)
    assert machine.shown(UNIT, "ActiveState") == "active"
    assert machine.must("systemctl", "is-enabled", UNIT).strip() == "enabled"

    # It works, hardened, under its own account, with the credential.
    called = machine.his160("call", "CatalogService.ListDepartments", "{}", *AGENT[:4], "--as", "relay")
    assert called.returncode == 0, called.stderr
    status = machine.his160("status", *AGENT)
    assert status.returncode == 0, status.stdout + status.stderr
    pid = machine.shown(UNIT, "MainPID")
    assert machine.must("ps", "-o", "user=", "-p", pid).strip() == "his160"
    told = machine.his160("service", "status")
    assert told.returncode == 0
    assert "运行中 running" in told.stdout
    assert "正常" in told.stdout

    # Once more: nothing left to do.
    again = machine.his160(*INSTALL, "--now")
    assert again.returncode == 0, again.stderr
    assert "✓" not in again.stdout
    assert machine.shown(UNIT, "MainPID") == pid

    # A process that is killed comes back.
    machine.must("kill", "-KILL", pid)
    machine.until(UNIT, "NRestarts", "1")
    machine.until(UNIT, "ActiveState", "active")

    # A frozen one is found by the watchdog.
    machine.must("mkdir", "-p", f"/etc/systemd/system/{UNIT}.d")
    machine.must(
        "sh", "-ec", f"cat >/etc/systemd/system/{UNIT}.d/short.conf", text="[Service]\nWatchdogSec=2\nRestartSec=0\n"
    )
    machine.must("systemctl", "daemon-reload")
    assert machine.his160("service", "restart").returncode == 0
    pid = machine.shown(UNIT, "MainPID")
    fed = machine.shown(UNIT, "WatchdogTimestampMonotonic")
    machine.must(
        "sh", "-ec", f"until [ $(systemctl show --value -p WatchdogTimestampMonotonic {UNIT}) != {fed} ]; do :; done"
    )
    machine.must("kill", "-STOP", pid)
    machine.until(UNIT, "NRestarts", "1")
    machine.until(UNIT, "ActiveState", "active")
    assert "watchdog" in machine.journal(UNIT).lower()

    stopped = machine.his160("service", "stop")
    assert stopped.returncode == 0, stopped.stderr
    assert machine.shown(UNIT, "Result") == "success"
    assert machine.his160("service", "status").returncode == 1

    gone = machine.his160("service", "uninstall")
    assert gone.returncode == 0, gone.stderr
    machine.must("sh", "-ec", f"! test -e /etc/systemd/system/{UNIT}; test -s /var/lib/his160/his160.db")
    assert machine.his160("service", "start").returncode == 1
    assert machine.his160("service", "uninstall").returncode == 0


def test_a_failed_start_takes_everything_back(machine: Machine) -> None:
    """The last step fails (the port is taken): unit, account, groups and owners are as before."""
    before = machine.must("sh", "-ec", "find /etc/his160 /srv/his -exec stat -c '%n %a %u %g' {} + | sort")
    held = "import socket,time; s=socket.create_server(('127.0.0.1',50160)); print('held', flush=True); time.sleep(100)"
    machine.must("systemd-run", "--quiet", "--unit=holder", "/opt/python/bin/python3", "-c", held)
    machine.must("sh", "-ec", "until grep -q :C3F0 /proc/net/tcp; do :; done")
    try:
        # Restart=always would try on: systemctl start itself fails at the first exit, the plan stops it.
        done = machine.his160(*INSTALL, "--now")
    finally:
        machine.must("systemctl", "stop", "holder.service")
    assert done.returncode == 1, done.stdout
    assert "cannot listen" in done.stderr + machine.journal(UNIT)
    assert "undone: write" in done.stderr
    # The agent had opened the HIS for a moment: SQLite's own files beside it are nobody's business.
    after = machine.must(
        "sh", "-ec", "find /etc/his160 /srv/his ! -name 'his.db-*' -exec stat -c '%n %a %u %g' {} + | sort"
    )
    assert after == before
    machine.must("sh", "-ec", f"! test -e /etc/systemd/system/{UNIT}; ! getent passwd his160")
    assert machine.shown(UNIT, "ActiveState") in ("inactive", "failed")


def test_a_bad_configuration_stays_down_and_is_told(machine: Machine) -> None:
    assert machine.his160(*INSTALL).returncode == 0
    machine.must("sh", "-ec", "sed -i 's/^engine.*/engine = \"dbase\"/' /etc/his160/config.toml")
    started = machine.his160("service", "start")
    assert started.returncode == 1
    assert "config.toml" in started.stderr
    assert "dbase" in started.stderr or "engine" in started.stderr
    assert machine.shown(UNIT, "ExecMainStatus") == "78"
    assert machine.shown(UNIT, "ActiveState") == "failed"
    assert machine.shown(UNIT, "NRestarts") == "0"


def commands(manual: Path, heading: str) -> list[list[str]]:
    """The commands of the shell blocks below a heading of a manual, in order."""
    text = manual.read_text(encoding="utf-8").partition(f"\n## {heading}")[2].partition("\n## ")[0]
    blocks = text.split("```sh\n")[1:]
    return [line.split() for block in blocks for line in block.partition("```")[0].splitlines() if line.strip()]


def test_the_commands_of_the_manual(machine: Machine) -> None:
    """docs/zh/install.md, from its first command to its last."""
    machine.must("sed", "-i", "s/@credential:his/@file:his.password/", "/etc/his160/config.toml")
    words = commands(ROOT / "docs" / "zh" / "install.md", "Linux")
    assert len(words) >= 10
    for program, *arguments in words:
        assert program == "his160"
        done = machine.his160(*arguments)
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}\n{machine.journal(UNIT)}"


def test_a_unit_that_a_person_edited_is_left_alone(machine: Machine) -> None:
    assert machine.his160(*INSTALL).returncode == 0
    path = f"/etc/systemd/system/{UNIT}"
    machine.must("sed", "-i", "s/^TasksMax=.*/TasksMax=100/", path)
    for words in (INSTALL, ("service", "uninstall")):
        done = machine.his160(*words)
        assert done.returncode == 1, done.stdout
        assert "edited" in done.stderr
        assert "TasksMax=100" in machine.must("cat", path)
    assert machine.his160(*INSTALL, "--force").returncode == 0
    assert "TasksMax=512" in machine.must("cat", path)
