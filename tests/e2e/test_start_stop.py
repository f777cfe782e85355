"""Starting without an HIS, with a bad configuration; stopping in order, and at once."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from his160.v1 import appointment_pb2, catalog_pb2

from agent.demo.hospital import Hospital
from agent.demo.site import SiteOptions
from agent.demo.story import request_id
from agent.sandbox.client import CallFailed
from his_db.engine import SourceSettings
from sync.store import CommandState
from tests.e2e.site import SOON, Bench, bench, his160, read_store, small_hospital, tell_until, until
from tests.servers import PostgresqlServer
from tests.tcp_proxy import TcpProxy

_DEPARTMENTS = ("CatalogService.ListDepartments", catalog_pb2.ListDepartmentsRequest())


def test_a_missing_sqlite_file_is_waited_for(tmp_path: Path) -> None:
    away = tmp_path / "away"
    away.mkdir()
    hospital = small_hospital("sqlite", away)
    source = '[source.his]\nengine = "sqlite"\ndatabase = "his.db"'
    with bench(tmp_path, hospital, options=SiteOptions(source=source), start=False) as made:
        made.window.close()
        _recovers(made, lambda: (away / "his.db").rename(tmp_path / "his.db"))


def test_a_closed_port_is_waited_for(
    tmp_path: Path, postgresql_server: PostgresqlServer, postgresql_database: Callable[[], SourceSettings]
) -> None:
    settings = postgresql_database()
    hospital = small_hospital("postgresql", tmp_path, settings)
    with TcpProxy(postgresql_server.wire) as proxy:
        proxy.cut()
        near = replace(settings, host="127.0.0.1", port=proxy.port)
        source = "\n".join(
            [
                "[source.his]",
                'engine = "postgresql"',
                f'host = "{near.host}"\nport = {near.port}\nuser = "{near.user}"\ndatabase = "{near.database}"',
                *(['password = "@env:HIS160_TEST_PASSWORD"'] if near.password else []),
            ]
        )
        options = SiteOptions(source=source, environ={"HIS160_TEST_PASSWORD": near.password})
        with bench(tmp_path, hospital, options=options, start=False) as made:
            _recovers(made, proxy.heal)
            made.site.stop()


def _recovers(made: Bench, appear: Callable[[], object]) -> None:
    """The agent attaches and answers UNAVAILABLE; once the HIS is there, it answers, without a restart."""
    site = made.site
    site.start_sandbox()
    site.write_config()
    site.start_agent()
    site.wait_attached()
    with pytest.raises(CallFailed) as refusal:
        site.client.call(*_DEPARTMENTS)
    assert (refusal.value.code, refusal.value.reason) == ("UNAVAILABLE", "HIS_UNAVAILABLE")
    assert refusal.value.retry_after is not None
    assert any(part.name == "source:his" and part.detail for part in site.status().components)
    appear()

    def answered() -> bool:
        try:
            return bool(site.client.call(*_DEPARTMENTS).departments)
        except CallFailed as error:
            if error.code != "UNAVAILABLE":
                raise
            return False

    site.wait_for(answered, "an answer of the HIS", SOON)
    site.wait_watching()


_BAD = """\
[site]
code = "没有"

[source.his]
engine = "dbase"
database = "his.db"
password = "geheim"

[mapping]
path = "pack:nobody"

[relay]
enabled = true
addresses = ["nowhere"]
spelling = 1
"""


@pytest.mark.parametrize("command", ["run", "check", "outbox list"])
def test_a_bad_configuration_is_told_whole(tmp_path: Path, command: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text(_BAD, encoding="utf-8")
    done = his160(*command.split(), "--config", str(config))
    assert done.returncode == 78, done.stderr
    assert not done.stdout
    for line in (2, 5, 7, 14, 15):
        assert f"config.toml:{line}:" in done.stderr, done.stderr
    assert "geheim" not in done.stderr


def test_an_unreadable_configuration_is_78(tmp_path: Path) -> None:
    done = his160("run", "--config", str(tmp_path / "nothing.toml"))
    assert done.returncode == 78, done.stderr
    (tmp_path / "torn.toml").write_text("[site\n", encoding="utf-8")
    torn = his160("run", "--config", str(tmp_path / "torn.toml"))
    assert torn.returncode == 78, torn.stderr
    assert "torn.toml:1:" in torn.stderr


@pytest.fixture
def stopping(
    sqlite_hospital: Hospital, tmp_path: Path
) -> Iterator[tuple[Bench, sqlite3.Connection, threading.Thread, list[object]]]:
    """A site that has been asked to stop while a booking waits for the HIS, whose file somebody holds."""
    source = sqlite_hospital.source_section(tmp_path) + '\nlock_timeout = "30s"\nstatement_timeout = "40s"'
    options = SiteOptions(source=source, more='[limits]\ngrace = "30s"')
    with bench(tmp_path, sqlite_hospital, stock=2, options=options) as made:
        story = made.story()
        tell_until(story, "ensure_patient")
        order = story.paid
        request = appointment_pb2.LockSlotRequest(
            request_id=request_id(), order_no=order.order_no, schedule_id=order.schedule_id, slot_id=order.slot_id
        )
        outcome: list[object] = []

        def call() -> None:
            try:
                outcome.append(made.site.client.call("AppointmentService.LockSlot", request, timedelta(seconds=40)))
            except CallFailed as error:
                outcome.append(error)

        with closing(sqlite3.connect(tmp_path / "his.db", isolation_level=None, check_same_thread=False)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            thread = threading.Thread(target=call)
            thread.start()
            until(lambda: read_store(made.site, lambda t: t.commands.listed(CommandState.SENT, 1)), "the command")
            agent = made.site.agent
            assert agent is not None
            agent.ask_to_stop()
            agent.wait_line(lambda line: "asked to stop" in line, SOON)
            yield made, holder, thread, outcome
            thread.join(SOON)
            assert not thread.is_alive()


def test_a_stop_lets_a_write_finish(
    stopping: tuple[Bench, sqlite3.Connection, threading.Thread, list[object]],
) -> None:
    made, holder, thread, outcome = stopping
    agent = made.site.agent
    assert agent is not None
    assert agent.running
    holder.execute("ROLLBACK")
    assert agent.wait(SOON) == 0, agent.tail()
    thread.join(SOON)
    assert len(outcome) == 1
    assert isinstance(outcome[0], appointment_pb2.LockSlotResponse), outcome[0]


def test_a_second_signal_ends_at_once(
    stopping: tuple[Bench, sqlite3.Connection, threading.Thread, list[object]],
) -> None:
    made, _, thread, outcome = stopping
    agent = made.site.agent
    assert agent is not None
    agent.ask_to_stop()
    assert agent.wait(SOON) == 130, agent.tail()
    thread.join(SOON)
    assert len(outcome) == 1
    assert isinstance(outcome[0], CallFailed)
    assert (outcome[0].code, outcome[0].reason) == ("UNAVAILABLE", "OUTCOME_UNKNOWN")


@pytest.mark.skipif(os.name == "nt", reason="exit codes of signals are POSIX")
def test_an_idle_agent_stops_with_0(sqlite_hospital: Hospital, tmp_path: Path) -> None:
    with bench(tmp_path, sqlite_hospital) as made:
        agent, sandbox = made.site.agent, made.site.sandbox
        assert agent is not None
        assert sandbox is not None
        agent.ask_to_stop()
        assert agent.wait(SOON) == 0, agent.tail()
        sandbox.ask_to_stop()
        assert sandbox.wait(SOON) == 0, sandbox.tail()
        assert not [
            line for line in agent.tail(400) if "Traceback" in line or " ERROR " in line or " CRITICAL " in line
        ]
