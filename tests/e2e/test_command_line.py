"""The command line against a running agent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from his160.v1 import event_pb2

from agent.demo.site import SiteOptions
from agent.version import VERSION
from sync.clock import utc_now
from sync.store import EventState
from tests.e2e.site import (
    CASHIER,
    NO_REPORTS,
    SOON,
    Bench,
    arrived,
    bench,
    his160,
    json_of,
    own_status,
    small_hospital,
    until,
    write_store,
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One running site for this module."""
    folder: Path = tmp_path_factory.mktemp("cli")
    with bench(folder, small_hospital("sqlite", folder), stock=3, options=SiteOptions(more=NO_REPORTS)) as made:
        yield made


@pytest.fixture
def own(site: Bench) -> list[str]:
    """Options that lead to the agent's own server, with the operator's certificate."""
    return ["--config", str(site.site.config), "--certs", str(site.site.pki.folder), "--as", "operator"]


def test_status(site: Bench, own: list[str]) -> None:
    done = his160("status", "--json", *own)
    assert done.returncode == 0, done.stderr
    status = json_of(done)
    names = {part["name"] for part in status["components"]}
    assert {"source:his", "link:0", "watch:orders", "watch:schedules", "delivery", "server"} <= names
    for_people = his160("status", *own)
    assert for_people.returncode == 0
    assert "link:0" in for_people.stdout
    twice = his160("top", "--count", "2", "--every", "0.3", *own)
    assert twice.returncode == 0, twice.stderr
    assert twice.stdout.count("link:0") == 2
    assert "/s  calls:AgentService.GetStatus" in twice.stdout


def test_call_at_the_agents_own_server_and_through_the_sandbox(site: Bench, own: list[str]) -> None:
    relay = [*own[:-1], "relay"]
    direct = his160("call", "CatalogService.ListDepartments", *relay)
    assert direct.returncode == 0, direct.stderr
    through = his160("call", "CatalogService.ListDepartments", "--target", site.site.control_address, "--insecure")
    assert through.returncode == 0, through.stderr
    assert json_of(direct) == json_of(through)
    assert json_of(direct)["departments"]


def test_a_refused_call_says_why(site: Bench) -> None:
    target = ["--target", site.site.control_address, "--insecure"]
    done = his160("call", "AppointmentService.GetAppointment", json.dumps({"order_no": "NOBODY"}), *target)
    assert done.returncode == 1
    assert "APPOINTMENT_NOT_FOUND" in done.stderr
    assert his160("call", "CatalogService.ListNothing", *target).returncode == 2


def test_an_operation_without_mapping_is_unimplemented(site: Bench) -> None:
    target = ["--target", site.site.control_address, "--insecure"]
    request = json.dumps(
        {"request_id": "r1", "order_no": "T1", "credential": {"certificate_type": "01", "certificate_no": "x"}}
    )
    done = his160("call", "InsuranceService.QuoteInsurance", request, *target)
    assert done.returncode == 1
    assert "UNIMPLEMENTED OPERATION_NOT_MAPPED" in done.stderr


def test_a_dead_event_is_listed_and_sent_again(site: Bench) -> None:
    config = ["--config", str(site.site.config)]
    made, order, book = site.site, site.booked(), site.book()
    made.client.fault(cut=True)
    site.window.cancel_booking(order.his_id, operator=CASHIER)
    until(lambda: own_status(made).outbox_pending == 1, "the event in the outbox")
    listed = his160("outbox", "list", "--state", "pending", *config)
    assert listed.returncode == 0, listed.stderr
    assert order.order_no in listed.stdout
    event_id = listed.stdout.split()[1]
    write_store(made, lambda transaction: transaction.events.bury(event_id, "refused", utc_now()))
    dead = his160("outbox", "list", *config)
    assert event_id in dead.stdout
    assert order.order_no in dead.stdout
    made.client.fault()
    made.wait_attached()
    assert own_status(made).outbox_dead == 1
    retried = his160("outbox", "retry", event_id, *config)
    assert retried.returncode == 0, retried.stderr
    stored = arrived(book, order, event_pb2.EVENT_KIND_CANCELLED, SOON)
    assert stored.event.event_id == event_id
    assert his160("outbox", "retry", "f" * 32, *config).returncode == 1
    acked = his160("outbox", "list", "--state", "acked", *config)
    assert event_id in acked.stdout


def test_a_dead_event_is_shown_corrected_and_sent_with_the_same_id(site: Bench, tmp_path: Path) -> None:
    config = ["--config", str(site.site.config)]
    made, order, book = site.site, site.booked(), site.book()
    made.client.fault(cut=True)
    site.window.cancel_booking(order.his_id, operator=CASHIER)
    until(lambda: own_status(made).outbox_pending == 1, "the event in the outbox")
    event_id = his160("outbox", "list", "--state", "pending", *config).stdout.split()[1]
    write_store(made, lambda transaction: transaction.events.bury(event_id, "refused", utc_now()))
    made.client.fault()
    made.wait_attached()
    shown = his160("outbox", "show", event_id, *config)
    content = json.loads(shown.stdout[: shown.stdout.rindex("}") + 1])
    content["appointment_after"]["note"] = "核实后更正"
    file = tmp_path / "event.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps({**content, "order_no": "T-other"}), encoding="utf-8")
    assert his160("outbox", "correct", event_id, "--file", str(wrong), "--note", "x", *config).returncode == 1
    done = his160("outbox", "correct", event_id, "--file", str(file), "--note", "备注有误", *config)
    assert done.returncode == 0, done.stderr
    stored = arrived(book, order, event_pb2.EVENT_KIND_CANCELLED, SOON)
    assert (stored.event.event_id, stored.event.appointment_after.note) == (event_id, "核实后更正")
    assert "outbox.correct" in his160("audit", "show", *config).stdout
    assert his160("outbox", "show", "f" * 32, *config).returncode == 1


def test_check_and_version(site: Bench) -> None:
    checked = his160("check", "--online", "--config", str(site.site.config))
    assert checked.returncode == 0, checked.stderr
    told = his160("version")
    assert told.returncode == 0
    assert VERSION in told.stdout
    assert his160("nonsense").returncode == 2


def test_a_second_agent_on_the_same_store_is_refused(site: Bench) -> None:
    done = his160("run", "--config", str(site.site.config))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_states_of_the_store_are_the_commands_words() -> None:
    assert {state.value.lower() for state in EventState} == {"dead", "pending", "acked"}
