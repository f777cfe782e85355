"""The process of a Windows service: what it reports, when it gives itself up, how the real agent runs in it."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from his160.v1 import catalog_pb2, catalog_pb2_grpc

from his_db.registry import SAMPLES, load
from his_db.sample import SMALL, hospital_now
from service_install import windows_entry
from service_install.windows_host import (
    CONTROL_INTERROGATE,
    CONTROL_PRESHUTDOWN,
    CONTROL_SHUTDOWN,
    CONTROL_STOP,
    ServiceHost,
)
from service_install.windows_status import ACCEPTED, Report, ServiceStatus, State

MINUTE = timedelta(minutes=1)
# Seconds for what takes two; loading the agent takes a minute on a machine with forty busy processes.
PATIENCE = 200.0
pytestmark = pytest.mark.timeout(600)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Desk:
    """The manager's side: reports, and reasons to give up."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.given_up: list[str] = []
        self.clock = Clock()
        self.status = ServiceStatus(self.reports.append, self.given_up.append, clock=self.clock)

    @property
    def last(self) -> Report:
        return self.reports[-1]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_progress_is_reported_while_it_starts_and_stops(desk: Desk) -> None:
    for state in (State.START_PENDING, State.STOP_PENDING):
        desk.status.pending(state, MINUTE)
        for number in range(2, 5):
            desk.clock.now += 1
            desk.status.tick()
            assert (desk.last.state, desk.last.checkpoint) == (state, number)
            assert desk.last.wait_hint > 1000
            assert desk.last.accepts == 0
        if state is State.START_PENDING:
            desk.status.running()
            assert desk.last == Report(State.RUNNING, accepts=ACCEPTED)
    desk.status.stopped(0)
    assert desk.last == Report(State.STOPPED)
    assert not desk.given_up


@pytest.mark.parametrize("state", [State.START_PENDING, State.STOP_PENDING])
def test_what_takes_too_long_is_given_up(desk: Desk, state: State) -> None:
    desk.status.pending(state, MINUTE)
    desk.clock.now = 61
    desk.status.tick()
    assert desk.given_up == [f"{state.name} took too long"]


def test_a_stop_cannot_be_prolonged_or_undone(desk: Desk) -> None:
    desk.status.pending(State.STOP_PENDING, MINUTE)
    desk.clock.now = 50
    desk.status.pending(State.STOP_PENDING, MINUTE)
    desk.status.running()
    assert desk.last.state is State.STOP_PENDING
    desk.clock.now = 61
    desk.status.tick()
    assert desk.given_up


def test_a_loop_that_hangs_is_given_up(desk: Desk) -> None:
    desk.status.running()
    desk.clock.now = 50
    desk.status.heard()
    desk.clock.now = 100
    desk.status.tick()
    assert not desk.given_up
    desk.clock.now = 111
    desk.status.tick()
    assert desk.given_up == ["no sign of life from the event loop and the parts"]


def test_a_failure_is_told_as_one(desk: Desk) -> None:
    desk.status.stopped(78)
    assert desk.last == Report(State.STOPPED, exit_code=1066, service_code=78)
    desk.status.stopped(0)
    assert desk.last.service_code == 78


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)  # the host changes into the configuration's folder
    load(SAMPLES["zebone"])().create(f"sqlite:///{tmp_path / 'his.db'}", today=hospital_now().date(), size=SMALL)
    file = tmp_path / "config.toml"
    file.write_text(
        'site.code = "440305001"\nmapping.path = "pack:zebone"\ndelivery.sink = "pull"\n'
        'source.his = { engine = "sqlite", database = "his.db" }\n'
        'server = { enabled = true, insecure = true, listen = "127.0.0.1:0" }\n',
        encoding="utf-8",
    )
    return file


class Running:
    """The real agent in a host, in a thread that is not the main one, as Windows has it."""

    def __init__(self, config: Path) -> None:
        self.events: list[tuple[str, bool]] = []
        self.reports: list[Report] = []
        self.news = threading.Condition()
        self.given_up: list[str] = []
        self.status = ServiceStatus(self._report, self.given_up.append)
        self.host = ServiceHost(config, self.status, lambda text, bad: self.events.append((text, bad)))
        self.code: int | None = None
        self.thread = threading.Thread(target=self._run)
        self.status.pending(State.START_PENDING, 10 * MINUTE)
        self.thread.start()

    def _run(self) -> None:
        self.code = self.host.run()
        self.status.stopped(self.code)

    def _report(self, report: Report) -> None:
        with self.news:
            self.reports.append(report)
            self.news.notify_all()

    def until(self, wanted: Callable[[], bool]) -> None:
        with self.news:
            assert self.news.wait_for(wanted, PATIENCE), (self.reports, self.events)

    def until_running(self) -> int:
        """Its port, from the event log."""
        self.until(lambda: self.reports[-1].state is State.RUNNING)
        self.until(lambda: bool(self.events))
        return int(self.events[0][0].rpartition("port ")[2])

    def join(self) -> int | None:
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        return self.code


@pytest.fixture
def logging_as_before() -> Any:
    """The host sets up the logging of a process; here it is the test's."""
    import logging

    root = logging.getLogger()
    handlers, level, raising = list(root.handlers), root.level, logging.raiseExceptions
    yield
    for handler in list(root.handlers):
        if handler not in handlers:
            root.removeHandler(handler)
            handler.close()
    for handler in handlers:
        if handler not in root.handlers:
            root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(False)
    logging.raiseExceptions = raising


@pytest.mark.usefixtures("logging_as_before")
@pytest.mark.parametrize("control", [CONTROL_STOP, CONTROL_SHUTDOWN, CONTROL_PRESHUTDOWN])
def test_the_agent_serves_and_stops_when_told(config: Path, control: int) -> None:
    running = Running(config)
    port = running.until_running()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert catalog_pb2_grpc.CatalogServiceStub(channel).ListDepartments(
            catalog_pb2.ListDepartmentsRequest(), timeout=30
        )
    assert running.host.control(CONTROL_INTERROGATE) == 0
    assert running.host.control(77) == 120
    assert running.host.control(control) == 0
    assert running.join() == 0
    states = [report.state for report in running.reports]
    assert states[0] is State.START_PENDING
    assert states[-2:] == [State.STOP_PENDING, State.STOPPED]
    assert running.reports[-1].exit_code == 0
    assert "serving site 440305001" in (config.parent / "state" / "logs" / "his160.log").read_text(encoding="utf-8")


@pytest.mark.usefixtures("logging_as_before")
def test_a_stop_that_comes_while_it_starts_is_not_lost(config: Path) -> None:
    running = Running(config)
    running.host.control(CONTROL_STOP)
    assert running.join() == 0
    assert State.RUNNING not in [report.state for report in running.reports]


@pytest.mark.usefixtures("logging_as_before")
def test_a_part_that_dies_is_an_error_exit(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from agent.daemon import Daemon

    async def dead(self: Daemon, stop: object) -> int:
        return 1

    monkeypatch.setattr(Daemon, "watch", dead)
    running = Running(config)
    assert running.join() == 1
    assert running.reports[-1] == Report(State.STOPPED, exit_code=1066, service_code=1)


@pytest.mark.usefixtures("logging_as_before")
def test_a_bad_configuration_is_in_the_event_log(config: Path) -> None:
    config.write_text(config.read_text(encoding="utf-8").replace("sqlite", "dbase", 1), encoding="utf-8")
    running = Running(config)
    assert running.join() == 78
    assert running.reports[-1].service_code == 78
    assert any(bad and "config.toml:4:" in text for text, bad in running.events)


class Refusal(Exception):
    """``pywintypes.error``."""

    winerror = 1502


@pytest.mark.usefixtures("logging_as_before")
@pytest.mark.parametrize("is_full", [False, True])
def test_the_entry_speaks_to_pywin32_as_it_wants(config: Path, monkeypatch: pytest.MonkeyPatch, is_full: bool) -> None:
    """The order of calls that pywin32's servicemanager needs; the real one is in tests/windows. ``is_full``: the event
    log takes nothing (ERROR_LOG_FILE_FULL), which stops neither the service nor its reports."""
    calls: list[str] = []
    statuses: list[tuple[int, ...]] = []
    hosted: list[type] = []
    controls: list[Callable[[int, int, object], int]] = []

    def register(name: str, control: Callable[[int, int, object], int], extended: bool) -> int:
        calls.append(f"register {name} {extended}")
        controls.append(control)
        return 99

    def service_main() -> None:
        """As pywin32 ends it: with a report of its own, which forgets the exit code."""
        hosted[0](["his160"]).SvcRun()
        calls.append("stopped again" if not left else "too late")

    def dispatch() -> None:
        """ServiceMain in a thread of its own, and a stop once it runs."""
        thread = threading.Thread(target=service_main)
        thread.start()
        with news:
            assert news.wait_for(lambda: any(status[1] == State.RUNNING for status in statuses), PATIENCE)
        controls[0](CONTROL_STOP, 0, None)
        thread.join(PATIENCE)

    news = threading.Condition()
    left: list[int] = []

    def set_status(handle: int, status: tuple[int, ...]) -> None:
        assert handle == 99
        with news:
            statuses.append(status)
            news.notify_all()

    said: list[str] = []

    def log(text: str) -> None:
        if is_full:
            raise Refusal
        said.append(text)

    manager = SimpleNamespace(
        __file__="servicemanager.pyd",
        Initialize=lambda name, file: calls.append(f"initialize {name}"),
        PrepareToHostSingle=hosted.append,
        StartServiceCtrlDispatcher=dispatch,
        RegisterServiceCtrlHandler=register,
        LogInfoMsg=log,
        LogErrorMsg=log,
    )
    service = SimpleNamespace(SERVICE_WIN32_OWN_PROCESS=16, SetServiceStatus=set_status)
    monkeypatch.setitem(sys.modules, "servicemanager", manager)  # type: ignore[arg-type]  # stands for a module
    monkeypatch.setitem(sys.modules, "win32service", service)  # type: ignore[arg-type]  # as above
    monkeypatch.setitem(sys.modules, "pywintypes", SimpleNamespace(error=Refusal))  # type: ignore[arg-type]  # as above
    windows_entry.main(["--name", "his160", "--config", str(config)], leave=left.append)
    assert calls == ["initialize his160", "register his160 True", "too late"]
    assert set(left) == {0}
    assert statuses[0][:2] == (16, State.START_PENDING)
    assert statuses[-1][:5] == (16, State.STOPPED, 0, 0, 0)
    log_file = (config.parent / "state" / "logs" / "his160.log").read_text(encoding="utf-8")
    if is_full:
        assert "the event log takes nothing (1502): serving" in log_file
    else:
        assert said[-1] == "his160: stopped, exit code 0"


def test_the_entry_imports_nothing_heavy() -> None:
    """The manager waits 30 s for a process to speak to it."""
    import subprocess

    code = "import sys, service_install.windows_entry as w; print([m for m in ('grpc', 'sqlalchemy', 'agent.config') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "[]"
