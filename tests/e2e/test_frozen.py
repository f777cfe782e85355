"""SIGSTOP: the agent's process stands still for a while (a suspended machine, a debugger) and goes on."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest
from his160.v1 import event_pb2

from agent.demo.hospital import Hospital
from tests.e2e.site import CASHIER, SOON, arrived, bench, of_orders, until

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(os.name != "posix", reason="signals of POSIX"),
]


def test_an_agent_that_stood_still_misses_nothing(sqlite_hospital: Hospital, tmp_path: Path) -> None:
    """What the window did meanwhile arrives once; a call that came meanwhile is answered or has one effect at most."""
    with bench(tmp_path, sqlite_hospital, stock=2) as made:
        site, book = made.site, made.book()
        cancelled, refunded = made.booked(), made.paid()
        assert site.agent is not None
        process = psutil.Process(site.agent.pid)
        process.suspend()
        until(lambda: process.status() == psutil.STATUS_STOPPED, "a process that stands still")
        made.window.cancel_booking(cancelled.his_id, operator=CASHIER)
        made.window.refund(refunded.his_id, operator=CASHIER)
        assert book.of_order(cancelled.order_no) == []
        process.resume()
        arrived(book, cancelled, event_pb2.EVENT_KIND_CANCELLED)
        arrived(book, refunded, event_pb2.EVENT_KIND_REFUNDED)
        site.wait_for(lambda: site.status().outbox_pending == 0, "an empty outbox", SOON)
        stored = of_orders(site.client.events(page_size=1000), [cancelled, refunded])
        assert len(stored) == 2
