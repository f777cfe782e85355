"""The link is cut between agent and relay: events queue, calls are refused, and it comes back by itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from his160.v1 import agent_pb2, catalog_pb2, event_pb2

from agent.demo.hospital import Hospital
from agent.demo.site import SiteOptions
from agent.sandbox.client import CallFailed
from tests.bounds import in_time
from tests.e2e.site import CASHIER, NO_REPORTS, SOON, Bench, Measured, arrived, bench, of_orders, own_status, until
from tests.tcp_proxy import TcpProxy


@pytest.fixture
def cuttable(sqlite_hospital: Hospital, tmp_path: Path) -> Iterator[tuple[Bench, TcpProxy]]:
    """A running site whose link goes through a proxy."""
    with bench(tmp_path, sqlite_hospital, stock=2, start=False) as made:
        made.site.start_sandbox()
        host, _, port = made.site.relay_address.rpartition(":")
        with TcpProxy((host, int(port))) as proxy:
            made.site.options = SiteOptions(relay=f"127.0.0.1:{proxy.port}", more=NO_REPORTS)
            made.site.write_config()
            made.site.start_agent()
            made.site.wait_attached()
            made.site.wait_watching()
            yield made, proxy
            made.site.stop()


def test_a_cut_link_heals_and_nothing_is_lost(cuttable: tuple[Bench, TcpProxy], measured: Measured) -> None:
    made, proxy = cuttable
    site, book = made.site, made.book()
    first, second = made.booked(), made.paid()
    proxy.cut()
    until(lambda: not site.client.links(), "the relay to notice")
    with pytest.raises(CallFailed) as refusal:
        site.client.call("CatalogService.ListDepartments", catalog_pb2.ListDepartmentsRequest())
    assert (refusal.value.code, refusal.value.reason) == ("UNAVAILABLE", "SITE_NOT_ATTACHED")
    made.window.cancel_booking(first.his_id, operator=CASHIER)
    made.window.check_in(second.his_id)
    until(lambda: own_status(site).outbox_pending == 2, "two events in the outbox")
    links = [part for part in own_status(site).components if part.name == "link:0"]
    assert [part.health for part in links] == [agent_pb2.HEALTH_DOWN]
    made.window.visit(second.his_id)
    until(lambda: own_status(site).outbox_pending == 3, "three events in the outbox")
    assert site.client.events() == []
    proxy.heal()
    healed = time.monotonic()
    until(site.client.links, "the link")
    seconds = time.monotonic() - healed
    measured("seconds_from_heal_to_link", seconds)
    assert in_time(seconds, 3)  # the promise is 1 s
    arrived(book, first, event_pb2.EVENT_KIND_CANCELLED)
    arrived(book, second, event_pb2.EVENT_KIND_VISITED)
    mine = [item.event.kind for item in of_orders(book.events, [second])]
    assert mine == [event_pb2.EVENT_KIND_CHECKED_IN, event_pb2.EVENT_KIND_VISITED]
    site.wait_for(lambda: site.status().outbox_pending == 0, "an empty outbox", SOON)
    answer = site.client.call("CatalogService.ListDepartments", catalog_pb2.ListDepartmentsRequest())
    assert answer.departments


def test_a_cut_by_the_relay_itself_heals(cuttable: tuple[Bench, TcpProxy]) -> None:
    made, _ = cuttable
    site, book = made.site, made.book()
    order = made.booked()
    site.client.fault(cut=True)
    until(lambda: not site.client.links(), "the cut")
    made.window.cancel_booking(order.his_id, operator=CASHIER)
    until(lambda: own_status(site).outbox_pending == 1, "an event in the outbox")
    site.client.fault()
    arrived(book, order, event_pb2.EVENT_KIND_CANCELLED)
    assert [item.event.order_no for item in book.events] == [order.order_no]
