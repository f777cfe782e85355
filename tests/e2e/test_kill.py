"""kill -9 of the agent: events that were captured but not acked, and calls that were under way."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from his160.v1 import appointment_pb2, catalog_pb2, event_pb2

from agent.demo.hospital import Hospital
from agent.demo.site import SiteOptions
from agent.demo.story import request_id
from agent.sandbox.client import CallFailed, SandboxClient
from sync.store import EventState
from tests.e2e.site import CASHIER, SOON, Bench, arrived, bench, of_orders, read_store, tell_until, until

pytestmark = pytest.mark.chaos
_BOOKINGS = 10


def test_events_captured_but_not_acked_survive_kill_9(hospital: Hospital, tmp_path: Path) -> None:
    """The relay stores what comes but its receipts are lost: all of it comes again, and counts once."""
    with bench(tmp_path, hospital, stock=3) as made:
        site, window, book = made.site, made.window, made.book()
        cancelled, refunded, visited, late = made.booked(), made.paid(), made.paid(), made.booked()
        site.client.fault(drop_receipts=1000)
        window.cancel_booking(cancelled.his_id, operator=CASHIER)
        window.refund(refunded.his_id, operator=CASHIER)
        window.check_in(visited.his_id)
        arrived(book, visited, event_pb2.EVENT_KIND_CHECKED_IN)
        window.visit(visited.his_id)  # waits behind 签到 of the same order, which is not acked
        until(lambda: _waiting(made) >= 4, "four events captured")
        assert made.site.agent is not None
        made.site.agent.kill()
        assert _waiting(made) >= 4
        window.cancel_booking(late.his_id, operator=CASHIER)  # while nobody watches
        site.client.fault()
        site.start_agent()
        site.wait_attached()
        for order, kind in (
            (late, event_pb2.EVENT_KIND_CANCELLED),
            (visited, event_pb2.EVENT_KIND_VISITED),
            (cancelled, event_pb2.EVENT_KIND_CANCELLED),
            (refunded, event_pb2.EVENT_KIND_REFUNDED),
        ):
            arrived(book, order, kind)
        site.wait_for(lambda: site.status().outbox_pending == 0, "an empty outbox", SOON)
        stored = of_orders(site.client.events(page_size=1000), [cancelled, refunded, visited, late])
        kinds = sorted((item.event.order_no, event_pb2.EventKind.Name(item.event.kind)) for item in stored)
        assert len(kinds) == len(set(kinds)) == 5, kinds
        assert len({item.event.event_id for item in stored}) == 5
        assert max(item.arrivals for item in stored) > 1  # it did come again
        mine = [item.event.kind for item in of_orders(stored, [visited])]
        assert mine == [event_pb2.EVENT_KIND_CHECKED_IN, event_pb2.EVENT_KIND_VISITED]


def test_calls_under_way_at_kill_9_have_one_effect(hospital: Hospital, tmp_path: Path) -> None:
    """Bookings under way when the agent dies; each is sent again with its request_id until it is answered."""
    # Short time-outs: until they have passed, the agent does not take "not seen in the HIS" for "not done".
    source = hospital.source_section(tmp_path) + '\nstatement_timeout = "1s"\nlock_timeout = "500ms"'
    with bench(tmp_path, hospital, stock=2, options=SiteOptions(source=source)) as made:
        site = made.site
        requests = _requests(made)
        begun = threading.Event()
        with ThreadPoolExecutor(_BOOKINGS) as pool:
            answers = [pool.submit(_insist, site.client, request, begun) for request in requests]
            assert begun.wait(SOON)
            assert site.agent is not None
            site.agent.kill()
            site.start_agent()
            numbers = [answer.result(2 * SOON) for answer in answers]
        wanted = {request.order_no for request in requests}
        rows = [row for row in made.window.orders(channel_only=True, limit=10_000) if row.platform_order_no in wanted]
        assert sorted(str(row.platform_order_no) for row in rows) == sorted(wanted)
        assert sorted(row.number for row in rows) == sorted(numbers)
        assert len({(row.schedule_id, row.number) for row in rows}) == _BOOKINGS
        site.wait_attached()  # all may have been answered by the life before
        assert site.status().unknown_outcomes == 0
        again = [_insist(site.client, request, begun) for request in requests]
        assert again == numbers


def _waiting(made: Bench) -> int:
    return len(read_store(made.site, lambda transaction: transaction.events.listed(EventState.PENDING, 100)))


def _requests(made: Bench) -> list[appointment_pb2.BookAppointmentRequest]:
    """Held numbers, ready to be booked; each for another patient of the hospital."""
    story = made.story()
    tell_until(story, "schedules")
    rows = made.window.orders(channel_only=False, states=("BOOKED", "PAID"), limit=1000)
    patients = list(dict.fromkeys(row.patient_id for row in rows))
    found = []
    for index, patient in zip(range(_BOOKINGS), patients, strict=False):
        schedule = story.sessions[0].schedule_id
        answer = made.site.client.call(
            "CatalogService.ListSlots", catalog_pb2.ListSlotsRequest(schedule_id=schedule, free_only=True)
        )
        request = appointment_pb2.BookAppointmentRequest(
            request_id=request_id(),
            order_no=f"{story.paid.order_no}{index}",
            patient_id=patient,
            schedule_id=schedule,
            slot_id=answer.slots[0].slot_id,
        )
        lock = appointment_pb2.LockSlotRequest(
            request_id=request_id(),
            order_no=request.order_no,
            schedule_id=schedule,
            slot_id=request.slot_id,
            patient_id=patient,
        )
        request.lock_id = made.site.client.call("AppointmentService.LockSlot", lock).lock.lock_id
        found.append(request)
    return found


def _insist(client: SandboxClient, request: appointment_pb2.BookAppointmentRequest, begun: threading.Event) -> int:
    """Send the same request until it is answered; the queue number. Only "send it again" may come meanwhile."""
    pause = threading.Event()

    def once() -> int | None:
        try:
            answer = client.call("AppointmentService.BookAppointment", request, timedelta(seconds=10))
        except CallFailed as error:
            if error.code not in {"UNAVAILABLE", "ABORTED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}:
                raise
            pause.wait(min(1.0, error.retry_after.total_seconds() if error.retry_after else 0.1))
            return None
        begun.set()
        return int(answer.appointment.queue_no)

    return until(once, "an answer")
