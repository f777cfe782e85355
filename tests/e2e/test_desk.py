"""A window program calls the agent: answered in time, with the link and without it, and 160 hears of it once."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from his160.v1 import event_pb2

from agent.demo.hospital import Hospital
from agent.demo.site import SiteOptions, free_port
from agent.desk_keys import line_of, new_key
from tests.bounds import PATIENCE
from tests.e2e.site import CASHIER, Bench, arrived, bench, his160, small_hospital
from tests.tcp_proxy import TcpProxy

KEY = new_key()


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def wire() -> Iterator[list[TcpProxy]]:
    """The proxy on the way to the relay, once there is one."""
    held: list[TcpProxy] = []
    yield held
    for proxy in held:
        proxy.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, port: int, wire: list[TcpProxy]) -> Iterator[Bench]:
    folder: Path = tmp_path_factory.mktemp("desk")
    hospital: Hospital = small_hospital("sqlite", folder)
    (folder / "desk-keys.toml").write_text(line_of("window1", KEY) + "\n", encoding="utf-8")
    more = f"""
[desk]
enabled = true
listen = "127.0.0.1:{port}"
keys = "desk-keys.toml"
insecure = true
patience = "4s"
"""
    with bench(folder, hospital, stock=3, options=SiteOptions(more=more), start=False) as made:
        made.site.start_sandbox()
        host, _, at = made.site.relay_address.rpartition(":")
        wire.append(TcpProxy((host, int(at))))
        made.site.options = replace(made.site.options, relay=f"127.0.0.1:{wire[0].port}")
        made.site.write_config()
        made.site.start_agent()
        made.site.wait_attached()
        made.site.wait_watching()
        yield made


def post(port: int, method: str, **body: Any) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        headers = {"Content-Type": "application/json", "X-Api-Key": KEY}
        connection.request("POST", f"/desk/v1/{method}", json.dumps(body).encode(), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_a_window_that_tells_after_its_commit_hears_that_the_platform_knows(site: Bench, port: int) -> None:
    order, book = site.booked(), site.book()
    site.window.cancel_booking(order.his_id, operator=CASHIER)
    status, answer = post(port, "CancelOnSite", request_id="d1", order_no=order.order_no, operator_id=CASHIER)
    assert (status, answer) == (200, {"acceptance": "ACCEPTANCE_PLATFORM"})
    arrived(book, order, event_pb2.EVENT_KIND_CANCELLED)


def test_a_window_that_tells_before_its_commit_is_answered_in_time_and_reported_once(site: Bench, port: int) -> None:
    order, book = site.paid(), site.book()
    status, shown = post(port, "GetOrder", order_no=order.order_no)
    assert status == 200
    amount = int(shown["appointment"]["paid_fen"])
    told = {"order_no": order.order_no, "operator_id": CASHIER, "refund_receipt_no": "TF1"}
    status, answer = post(port, "RefundOnSite", request_id="d2", amount_fen=amount - 1, **told)
    assert (status, answer["reason"]) == (409, "PARTIAL_REFUND_REFUSED")
    assert answer["message"] == "医院不支持部分退费"
    status, answer = post(port, "RefundOnSite", request_id="d3", amount_fen=amount, **told)
    assert (status, answer["acceptance"], answer["refund"]["state"]) == (
        200,
        "ACCEPTANCE_LOCAL",
        "REFUND_STATE_PROCESSING",
    )
    site.window.refund(order.his_id, operator=CASHIER)
    arrived(book, order, event_pb2.EVENT_KIND_REFUNDED)
    status, answer = post(port, "RefundOnSite", request_id="d3", amount_fen=amount, **told)
    assert (status, answer["acceptance"]) == (200, "ACCEPTANCE_PLATFORM")
    book.take()
    assert [event.kind for event in book.of_order(order.order_no)] == [event_pb2.EVENT_KIND_REFUNDED]


def test_the_window_is_answered_when_the_link_is_down_and_the_platform_hears_it_later(
    site: Bench, port: int, wire: list[TcpProxy]
) -> None:
    order, book = site.booked(), site.book()
    wire[0].cut()
    try:
        site.window.cancel_booking(order.his_id, operator=CASHIER)
        status, answer = post(port, "CancelOnSite", request_id="d4", order_no=order.order_no, operator_id=CASHIER)
        assert (status, answer) == (200, {"acceptance": "ACCEPTANCE_LOCAL"})
    finally:
        wire[0].heal()
    arrived(book, order, event_pb2.EVENT_KIND_CANCELLED, seconds=40)


def test_what_the_his_never_shows_is_listed_and_dismissed_by_a_person(site: Bench, port: int) -> None:
    order = site.booked()
    status, answer = post(port, "CancelOnSite", request_id="d5", order_no=order.order_no, operator_id=CASHIER)
    assert (status, answer) == (200, {"acceptance": "ACCEPTANCE_LOCAL"})
    config = ["--config", str(site.site.config)]
    listed = his160("desk", "list", *config)
    assert listed.returncode == 0, listed.stderr
    assert "d5" in listed.stdout
    assert "desk/window1" in listed.stdout
    assert his160("desk", "dismiss", "d5", "--note", "窗口回滚", *config).returncode == 0
    assert "d5" not in his160("desk", "list", *config).stdout
    assert his160("desk", "dismiss", "d5", "--note", "x", *config).returncode == 1
    assert "desk.dismiss" in his160("audit", "show", *config).stdout
