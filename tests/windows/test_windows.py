"""The agent on Windows Python: the demo, the service through its whole life, secrets. Under wine, see docs/windows.md."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from his160.v1 import catalog_pb2, event_pb2

from agent.demo.hospital import Hospital, create_hospital
from agent.demo.relay_book import RelayBook
from agent.demo.site import Site
from agent.demo.story import Order, put_orders
from tests.e2e.site import arrived, own_status, url_of
from tests.e2e.walk import PAGES, blocks_of
from tests.servers import PostgresqlServer, unavailable
from tests.windows.session import Windows

pytestmark = [pytest.mark.windows, pytest.mark.slow, pytest.mark.timeout(1800)]

NAME = f"his160t{os.getpid()}"
SOON = 300.0
"""Seconds for what takes two on a quiet machine."""
MANUAL = PAGES / "install.md"
CANCELLED = event_pb2.EVENT_KIND_CANCELLED
DEPARTMENTS = ("CatalogService.ListDepartments", catalog_pb2.ListDepartmentsRequest())


def told(done: subprocess.CompletedProcess[str]) -> str:
    return f"{done.returncode}\n{done.stdout}\n{done.stderr}"


def test_the_demo_ends_well_on_windows(windows: Windows, tmp_path: Path) -> None:
    done = windows.his160("demo", "--json", "--small", folder=tmp_path)
    assert done.returncode == 0, told(done)
    report = json.loads(done.stdout)
    assert report["books"]["consistent"]
    assert len(report["steps"]) > 15


def test_the_demo_ends_well_on_windows_with_postgresql(
    windows: Windows, postgresql_server: PostgresqlServer, tmp_path: Path
) -> None:
    if postgresql_server.settings.host.startswith("/"):
        unavailable("windows", "the PostgreSQL server has no TCP address")
    environ = {"HIS160_DEMO_POSTGRESQL_URL": url_of(postgresql_server.settings)}
    done = windows.python(
        "-m", "agent", "demo", "--his", "postgresql", "--json", "--small", folder=tmp_path, environ=environ
    )
    assert done.returncode == 0, told(done)
    assert json.loads(done.stdout)["books"]["consistent"]


class Service:
    """The service of one site, and its hospital's window (on Windows too: SQLite's locks are Windows' there)."""

    def __init__(self, windows: Windows, site: Site, hospital: Hospital) -> None:
        self.windows = windows
        self.site = site
        self.hospital = hospital

    def say(self, action: str, *more: str) -> subprocess.CompletedProcess[str]:
        words = ("service", action, "--name", NAME, "--config", "config.toml", *more)
        return self.windows.his160(*words, folder=self.site.folder)

    def must(self, action: str, *more: str) -> str:
        done = self.say(action, *more)
        assert done.returncode == 0, told(done) + self.log()
        return done.stdout

    def cancel(self, order: Order) -> None:
        done = self.windows.his160("demo", "window", "--workdir", ".", "cancel", order.his_id, folder=self.site.folder)
        assert done.returncode == 0, told(done)

    def up(self) -> None:
        """It is attached to the relay and watches."""
        self.site.wait_attached(SOON)
        self.site.wait_watching(SOON)

    def manual(self, number: int) -> None:
        """A block of commands of the manual of installation, as they stand there; the service has a name of its own."""
        blocks = [block.body for block in blocks_of(MANUAL.read_text(encoding="utf-8")) if block.words == ("bat",)]
        for line in blocks[number].splitlines():
            program, *words = line.split()
            assert program == "his160"
            name = ["--name", NAME] if words[0] == "service" else []
            done = self.windows.his160(*words, *name, folder=self.site.folder)
            assert done.returncode == 0, f"{line}: {told(done)}{self.log()}"

    def processes(self) -> list[int]:
        """Numbers on this machine."""
        return self.windows.agents()

    def log(self) -> str:
        file = self.site.folder / "state" / "logs" / "his160.log"
        return file.read_text(encoding="utf-8") if file.exists() else "no log"


@pytest.fixture
def service(windows: Windows, tmp_path: Path) -> Iterator[tuple[Service, list[Order]]]:
    """A site on drive C: whose relay runs here, nothing installed yet; three orders of the platform in its HIS."""
    folder = windows.drive("医院 接口", tmp_path.name)
    hospital = create_hospital("sqlite", folder, small=True)
    orders = put_orders(hospital, [False, False, False])
    with Site(folder, hospital) as site:
        site.start_sandbox()
        site.write_config()
        # The agent and the window program are in that folder; a path of this machine is none on drive C:.
        text = site.config.read_text(encoding="utf-8")
        assert f"{folder}/his.db" in text
        site.config.write_text(text.replace(f"{folder}/his.db", "his.db"), encoding="utf-8")
        notes = folder / "demo.json"
        notes.write_text(json.dumps({**json.loads(notes.read_text()), "url": "sqlite:///his.db"}))
        made = Service(windows, site, hospital)
        try:
            yield made, orders
        finally:
            made.say("uninstall", "--force")
            assert not made.processes()


def test_the_service_lives_its_whole_life(service: tuple[Service, list[Order]]) -> None:
    made, orders = service
    site, book = made.site, RelayBook(made.site.client)
    assert "尚未安装" in made.say("status").stdout

    # install → start → a call and an on-site cancellation through it
    made.manual(0)
    assert "RUNNING" in made.must("status")
    (first,) = made.processes()
    made.up()
    assert site.client.call(*DEPARTMENTS).departments
    assert own_status(site, SOON).site
    made.cancel(orders[0])
    arrived(book, orders[0], CANCELLED, SOON)

    # its process is killed: nothing of it is left, and the same order is not told twice afterwards
    os.kill(first, signal.SIGKILL)
    site.wait_for(lambda: not site.client.links(), "the link's end", SOON)

    # power cut and boot: it comes up by itself; what happened at the window just before is not lost
    made.windows.power_cut()
    site.wait_for(lambda: not site.client.links(), "the link's end", SOON)
    window = made.hospital.window()
    window.cancel_booking(orders[1].his_id, operator="0931")
    window.close()
    made.windows.boot()
    made.up()
    arrived(book, orders[1], CANCELLED, SOON)

    # restart: another process, the same service
    before = made.processes()
    made.must("restart")
    assert made.processes() != before
    made.up()
    made.cancel(orders[2])
    arrived(book, orders[2], CANCELLED, SOON)
    assert [e.event.order_no for e in book.events if e.event.kind == CANCELLED] == [order.order_no for order in orders]

    # stop → uninstall: no process, no service; the books stay
    made.must("stop")
    assert not made.processes()
    assert "stopped with calls" not in made.log()
    made.manual(1)
    assert "尚未安装" in made.say("status").stdout
    assert site.store.stat().st_size > 0
    again = made.must("uninstall")
    assert "✓" not in again


WEAK = """
import asyncio, os, runpy
from agent.supervisor import Supervisor
start = Supervisor.start
async def weak():
    while not os.path.exists('die'):
        await asyncio.sleep(0.05)
    raise ValueError('secret')
def both(self, name, work):
    start(self, name, work)
    if 'weak' not in self._tasks:
        start(self, 'weak', weak())
Supervisor.start = both
runpy.run_module('service_install.windows_entry', run_name='__main__')
"""


def test_a_part_that_dies_ends_the_process_with_an_error(service: tuple[Service, list[Order]]) -> None:
    """The manager is told that it failed, which is what its recovery actions start it again for. Here a person does."""
    made, _ = service
    folder = made.site.folder
    made.must("install")
    (folder / "weak.py").write_text(WEAK, encoding="utf-8")
    edit = (
        "import os, subprocess, sys, win32service as s; m = s.OpenSCManager(None, None, 1); n = s.SERVICE_NO_CHANGE;"
        f"h = s.OpenService(m, '{NAME}', s.SERVICE_ALL_ACCESS); at = os.path.abspath;"
        f"c = [sys.executable, '-X', 'utf8', at('weak.py'), '--name', '{NAME}', '--config', at('config.toml')];"
        "s.ChangeServiceConfig(h, n, n, n, subprocess.list2cmdline(c), None, 0, None, None, None, None)"
    )
    done = made.windows.python("-c", edit, folder=folder)
    assert done.returncode == 0, told(done)
    made.must("start")
    made.up()
    (folder / "die").touch()
    made.site.wait_for(lambda: not made.site.client.links(), "the link's end", SOON)
    made.site.wait_for(lambda: not made.processes(), "the end of the process", SOON)
    ended = made.say("status")
    assert ended.returncode == 1, told(ended)
    assert "last exit code: 1" in ended.stdout
    assert "weak has died: builtins.ValueError" in made.log()
    assert "secret" not in made.log()
    (folder / "die").unlink()
    made.must("start")
    made.up()


def test_a_bad_configuration_is_told_and_comes_up_once_it_is_mended(service: tuple[Service, list[Order]]) -> None:
    made, _ = service
    made.must("install")
    good = made.site.config.read_text(encoding="utf-8")
    made.site.config.write_text(good.replace('engine = "sqlite"', 'engine = "dbase"'), encoding="utf-8")
    done = made.say("start")
    assert done.returncode == 1, told(done)
    assert "78" in done.stderr, told(done) + made.log()
    refused = made.say("install")
    assert refused.returncode == 78, told(refused)
    assert "config.toml:" in refused.stderr
    made.site.config.write_text(good, encoding="utf-8")
    made.must("start")
    made.up()


def test_a_service_of_somebody_else_is_left_alone(service: tuple[Service, list[Order]]) -> None:
    made, _ = service
    code = (
        "import win32service as s; m = s.OpenSCManager(None, None, s.SC_MANAGER_ALL_ACCESS);"
        f"s.CreateService(m, '{NAME}', 'theirs', s.SERVICE_ALL_ACCESS, 16, 3, 1, 'theirs.exe', None, 0, None, None, None)"
    )
    assert made.windows.python("-c", code, folder=made.site.folder).returncode == 0
    for action in ("install", "uninstall"):
        done = made.say(action)
        assert done.returncode == 1, told(done)
        assert "left alone" in done.stderr
    made.must("install", "--force")
    assert "windows_entry" in made.say("print").stdout


def test_the_host_starts_from_a_virtual_environment(service: tuple[Service, list[Order]]) -> None:
    """The interpreter behind the environment, which has to find the packages by itself: here it is told not to."""
    made, _ = service
    code = (
        "import sys; sys.prefix = 'elsewhere'; from agent.cli import run;"
        f"sys.exit(run(['service', 'install', '--name', '{NAME}', '--config', 'config.toml', '--now']))"
    )
    done = made.windows.python("-c", code, folder=made.site.folder)
    assert done.returncode == 0, told(done) + made.log()
    shown = made.windows.python(
        "-c",
        "import win32service as s; m = s.OpenSCManager(None, None, 1);"
        f"print(s.QueryServiceConfig(s.OpenService(m, '{NAME}', 1))[3])",
        folder=made.site.folder,
    )
    assert "-I -S -X utf8 -c" in shown.stdout
    made.up()


def test_a_secret_protected_by_windows(windows: Windows, tmp_path: Path) -> None:
    done = windows.his160("secret", "protect", "his.password.dpapi", folder=tmp_path, text="秘密 p@ss\n")
    assert done.returncode == 0, told(done)
    kept = (tmp_path / "his.password.dpapi").read_text(encoding="ascii")
    assert "p@ss" not in kept
    again = windows.his160("secret", "protect", "his.password.dpapi", folder=tmp_path, text="other\n")
    assert again.returncode == 1
    assert (tmp_path / "his.password.dpapi").read_text(encoding="ascii") == kept
    (tmp_path / "config.toml").write_text(
        'site.code = "440305001"\nmapping.path = "pack:zebone"\nsource.his = { engine = "postgresql", database = "his",'
        ' host = "127.0.0.1", user = "his", password = "@dpapi:his.password.dpapi" }\n'
        'server = { enabled = true, insecure = true, listen = "127.0.0.1:0" }\ndelivery.sink = "pull"\n',
        encoding="utf-8",
    )
    code = (
        "import os; from pathlib import Path; from agent.config import load_settings;"
        "s = load_settings(Path('config.toml'), os.environ); print(ascii(s.sources['his'].settings.password), repr(s))"
    )
    read = windows.python("-c", code, folder=tmp_path)
    assert read.returncode == 0, told(read)
    assert read.stdout.startswith(ascii("秘密 p@ss"))
    assert read.stdout.count("p@ss") == 1
    (tmp_path / "his.password.dpapi").write_text("AAAA\n")
    bad = windows.his160("check", "--config", "config.toml", folder=tmp_path)
    assert bad.returncode == 78, told(bad)
    assert "his160 secret protect" in bad.stderr
