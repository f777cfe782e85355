"""ListSlots and BookAppointment through the real agent, over both borders, beside a trivial handler and the driver."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from his160.v1 import appointment_pb2, catalog_pb2, common_pb2

from agent.demo.hospital import Hospital
from agent.demo.site import SITE, Site
from tests.bench import bare
from tests.bench.figures import Figure, against, middle
from tests.bench.load import Caller, Sample, Target
from tests.bench.packs import BOOK, LIST_SLOTS, Order, Orders, Recorded
from tests.bench.plan import Plan

SERVER: Final = "server border, mTLS"
RELAY: Final = "relay link"
TRIVIAL: Final = "trivial handler"
DRIVER: Final = "bare driver"
PATHS: Final = (SERVER, RELAY, TRIVIAL, DRIVER)


@dataclass(slots=True)
class Bench:
    """What one sample HIS is measured with. ``booked``: HIS ids of orders made so far, by order number."""

    plan: Plan
    hospital: Hospital
    orders: Orders
    recorded: Recorded
    callers: dict[str, Caller]
    pool: bare.BarePool
    booked: dict[str, str] = field(default_factory=dict)

    def book_bare(self, orders: list[Order], in_flight: int) -> Sample:
        """Book by the driver alone."""
        prepared = bare.script(self.hospital.kind, self.recorded.book, self.recorded.order)
        return self.pool.run([bare.write(prepared.of(order)) for order in orders], in_flight)


def agent_targets(site: Site) -> list[Target]:
    """The two borders of a running site."""
    relay = Target(RELAY, site.control_address, metadata=(("his160-site", SITE),))
    return [Target(SERVER, site.server, site.pki), relay]


async def first_answers(orders: Orders, target: Target) -> dict[str, bytes]:
    """One answer of each operation, so that the trivial handler can give the same bytes."""
    caller = Caller(target)
    try:
        slots = await caller.once(LIST_SLOTS, orders.list_slots().SerializeToString())
        booked = await caller.once(BOOK, orders.take(1)[0].request().SerializeToString())
        return {LIST_SLOTS: slots, BOOK: booked}
    finally:
        await caller.close()


async def measure(bench: Bench) -> list[Figure]:
    """Both operations at each number of calls in flight."""
    for in_flight in (1, 8):  # warm-up: connections, prepared statements, caches
        for path in PATHS:
            await _list_slots(bench, path, in_flight, 0.2)
    figures = []
    for in_flight in bench.plan.in_flight:
        samples: dict[str, list[Sample]] = {path: [] for path in PATHS}
        for _ in range(bench.plan.rounds):
            for path in PATHS:
                samples[path].append(await _list_slots(bench, path, in_flight, bench.plan.read_seconds))
        figures += _figures(bench, "ListSlots", in_flight, samples)
    for in_flight in bench.plan.in_flight:
        samples = {path: [] for path in PATHS}
        for _ in range(bench.plan.rounds):
            for path in PATHS:
                samples[path].append(await _book(bench, path, in_flight))
        figures += _figures(bench, "BookAppointment", in_flight, samples)
    return figures


async def _list_slots(bench: Bench, path: str, in_flight: int, seconds: float) -> Sample:
    if path != DRIVER:
        request = bench.orders.list_slots().SerializeToString()
        return await bench.callers[path].run_for(LIST_SLOTS, request, in_flight, seconds)
    prepared = bare.script(bench.hospital.kind, bench.recorded.list_slots).of()
    return await _in_thread(lambda: bench.pool.run_for(bare.read(prepared), in_flight, seconds))


async def _book(bench: Bench, path: str, in_flight: int) -> Sample:
    count = bench.plan.bookings[in_flight]
    if path == TRIVIAL:  # it books nothing: no fresh order is spent, and more calls make its figure steadier
        request = bench.recorded.order.request().SerializeToString()
        sample, _ = await bench.callers[path].run(BOOK, [request] * count * 5, in_flight)
        return sample
    orders = bench.orders.take(count)
    if path == DRIVER:
        return await _in_thread(lambda: bench.book_bare(orders, in_flight))
    requests = [order.request().SerializeToString() for order in orders]
    sample, answers = await bench.callers[path].run(BOOK, requests, in_flight)
    for answer in answers:
        made = appointment_pb2.BookAppointmentResponse.FromString(answer).appointment
        if made.state != common_pb2.APPOINTMENT_STATE_BOOKED:
            raise AssertionError(f"{made.order_no} is not booked")
        bench.booked[made.order_no] = made.appointment_id
    return sample


async def _in_thread(work: Callable[[], Sample]) -> Sample:
    return await asyncio.to_thread(work)


def _figures(bench: Bench, name: str, in_flight: int, samples: dict[str, list[Sample]]) -> list[Figure]:
    """A figure for each border, against the two baselines."""
    rate = {path: middle([sample.rate for sample in found]) for path, found in samples.items()}
    figures = []
    for path in (SERVER, RELAY):
        value, noise = rate[path]
        bases = tuple(against(base, value, rate[base][0]) for base in (TRIVIAL, DRIVER))
        more = {
            f"p{share * 100:.0f} ms": median([sample.ms(share) for sample in samples[path]]) for share in (0.5, 0.99)
        }
        params: dict[str, str | int] = {"path": path, "in flight": in_flight}
        figures.append(Figure(_group(bench), name, value, "/s", params, bases, more, noise))
    return figures


def _group(bench: Bench) -> str:
    return f"calls through the agent ({bench.hospital.pack} on {bench.hospital.kind})"


def slots_in(answer: bytes) -> int:
    """How many slots an answer of ListSlots holds."""
    return len(catalog_pb2.ListSlotsResponse.FromString(answer).slots)
