"""Events drained end to end: from the outbox on disk over the relay link into a relay's journal and back to an ack on disk.

Everything of the agent's side is the real thing in this process (store, outbox, delivery, sink, link), the relay is the
sandbox in a process of its own. The trivial stream is the same batches on a bidirectional gRPC stream with the same mutual
TLS to a server in that process that answers STORED and keeps nothing; this side of it keeps nothing either.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from his160.v1 import common_pb2, event_pb2, relay_pb2, relay_pb2_grpc

from agent.bench_pki import BenchPki
from agent.demo.site import SITE
from agent.handler import CallContext, Identity
from agent.link.answering import RegistryAnswerer
from agent.link.channel import LinkTarget, open_channel
from agent.link.event_stream import RelaySink
from agent.link.relay_link import RelayLink, RelayLinks
from agent.link.session import SessionSettings
from sync.clock import utc_now
from sync.delivery import Delivery
from sync.outbox import Outbox
from sync.store import EventCounts, open_store
from tests.bench.figures import Figure, middle, paired

GROUP: Final = "from the outbox to the relay"
BATCH: Final = 200  # as the delivery's
DEAD_AFTER: Final = SessionSettings("", "", "").dead_after
_LIMIT: Final = 120


async def measure(pki: BenchPki, folder: Path, addresses: dict[str, str], events: int, rounds: int) -> list[Figure]:
    """``events`` queued, ``rounds`` times; the trivial stream in turn."""
    folder.mkdir(parents=True)
    ours: list[float] = []
    bare: list[float] = []
    work: list[float] = []
    async with linked(pki, addresses["relay"]) as links:
        for number in range(rounds):
            batch = made_events(events, f"{time.time_ns()}-{number}")
            rate, processor = await drained(folder / f"{number}.db", links, batch)
            ours.append(rate)
            work.append(processor)
            bare.append(await trivial(pki, addresses["trivial"], batch))
    value, noise = middle(ours)
    against = (paired("trivial gRPC stream", ours, bare),)
    more = {"µs of processor an event, agent": middle(work)[0]}
    return [Figure(GROUP, "events, queued → ack on disk", value, "/s", {"queued": events}, against, more, noise)]


def made_events(count: int, name: str) -> list[event_pb2.Event]:
    """Cancellations at a window, each of an order of its own; about 700 bytes each."""
    return [_event(number, name) for number in range(count)]


def _event(number: int, name: str) -> event_pb2.Event:
    before = common_pb2.Appointment(
        order_no=f"T{name}-{number}",
        appointment_id=f"{number:032X}",
        state=common_pb2.APPOINTMENT_STATE_BOOKED,
        patient_id=f"{number % 5000:032X}",
        schedule_id=f"{number % 400:032X}",
        slot_id=f"{number + 7:032X}",
        queue_no=number % 40 + 1,
        department_id="0301",
        department_name="心血管内科门诊",
        doctor_id="1042",
        doctor_name="张医生",
        total_fen=2500,
        operator_id="jk160",
    )
    after = common_pb2.Appointment()
    after.CopyFrom(before)
    after.state, after.operator_id = common_pb2.APPOINTMENT_STATE_CANCELLED, "0931"
    event = event_pb2.Event(
        event_id=f"{name}-{number}",
        site=SITE,
        kind=event_pb2.EVENT_KIND_CANCELLED,
        origin=event_pb2.ORIGIN_ON_SITE,
        order_no=before.order_no,
        appointment_id=before.appointment_id,
        schedule_id=before.schedule_id,
        appointment_before=before,
        appointment_after=after,
        stream="orders",
        mapping_revision="bench",
    )
    event.captured_time.FromDatetime(utc_now())
    return event


class Echo:
    """Answers every call with what it was asked: what is measured is the way."""

    async def dispatch(self, full_method: str, request: bytes, context: CallContext, /) -> bytes:
        return request


@asynccontextmanager
async def linked(pki: BenchPki, address: str, *, dead_after: timedelta = DEAD_AFTER) -> AsyncIterator[RelayLinks]:
    """The agent's link to a relay, up."""
    target = LinkTarget(address, pki.ca, pki.agent.certificate, pki.agent.key)
    settings = SessionSettings(site=SITE, instance="bench", version="0", dead_after=dead_after)
    link = RelayLink(target, lambda: settings, RegistryAnswerer(Echo(), Identity("relay", "bench")))
    up = asyncio.Event()
    link.on_connected(lambda _: up.set())
    links = RelayLinks([link])
    running = asyncio.ensure_future(links.run())
    try:
        async with asyncio.timeout(_LIMIT):
            await up.wait()
        yield links
    finally:
        links.stop()
        await running


async def drained(path: Path, links: RelayLinks, events: Sequence[event_pb2.Event]) -> tuple[float, float]:
    """Events a second from the delivery's start to the last ack in the store, and this process's microseconds of
    processor for each. Raises AssertionError for one that is missing."""
    store = open_store(path, utc_now)
    outbox = Outbox(store, utc_now)
    sink = RelaySink(links)
    delivery = Delivery(outbox, sink, clock=utc_now)
    running: asyncio.Future[Any] | None = None
    try:
        await outbox.append(events)
        done = asyncio.Event()
        outbox.subscribe(lambda: done.set() if delivery.status().delivered + BATCH >= len(events) else None)
        started, worked = time.perf_counter(), time.process_time()
        running = asyncio.ensure_future(delivery.run())
        async with asyncio.timeout(_LIMIT):
            counts = await _acked(outbox, done, len(events))
        taken, work = time.perf_counter() - started, time.process_time() - worked
        if counts.acked != len(events):
            raise AssertionError(f"{counts} of {len(events)}")
        return len(events) / taken, work / len(events) * 1e6
    finally:
        delivery.stop()
        if running is not None:
            await running
        await sink.close()
        await store.close()


async def _acked(outbox: Outbox, done: asyncio.Event, wanted: int) -> EventCounts:
    """The counts once everything is acked. The store is asked only when it is about to be true."""
    while True:
        await done.wait()
        done.clear()
        counts = await outbox.counts()
        if counts.acked + counts.dead >= wanted:
            return counts


async def trivial(pki: BenchPki, address: str, events: Sequence[event_pb2.Event]) -> float:
    """Events a second on a bare stream, batch after batch, as the delivery sends them."""
    channel = open_channel(LinkTarget(address, pki.ca, pki.agent.certificate, pki.agent.key))
    try:
        call = relay_pb2_grpc.RelayServiceStub(channel).PublishEvents()
        started = time.perf_counter()
        async with asyncio.timeout(timedelta(seconds=_LIMIT).total_seconds()):
            for at in range(0, len(events), BATCH):
                batch = events[at : at + BATCH]
                await call.write(relay_pb2.PublishEventsRequest(events=batch))
                answer = await call.read()
                if not isinstance(answer, relay_pb2.PublishEventsResponse) or len(answer.receipts) != len(batch):
                    raise AssertionError("the trivial stream lost a receipt")
        taken = time.perf_counter() - started
        call.cancel()
        return len(events) / taken
    finally:
        await channel.close()
