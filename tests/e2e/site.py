"""A running site for the end-to-end tests: the demo's own, small, with a stock of platform orders to work on."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from his160.sandbox.v1 import sandbox_pb2
from his160.v1 import agent_pb2, event_pb2

from agent.commands.options import Target
from agent.demo.hospital import Hospital, create_hospital
from agent.demo.plot import STEPS
from agent.demo.relay_book import RelayBook
from agent.demo.site import Site, SiteOptions, wait_for
from agent.demo.story import EarlierOrders, Order, Outcome, Story, put_orders
from his_db.engine import SourceSettings
from his_db.sample import WindowProgram
from sync.clock import utc_now
from sync.store import Transaction, open_store
from tests.bounds import PATIENCE

CASHIER = "0931"
NO_REPORTS = "[report]\nenabled = false"
"""For tests that count what waits in the outbox: the agent tells of each report that is due, at some hours of the day."""
SOON = PATIENCE
PROMISE = 5.0
"""Generous: the promise is 2 s, on a machine that does nothing else. The measured time is in the test's properties."""

T = TypeVar("T")
Measured = Callable[[str, float], None]
"""Takes a measured time by name; shown at the end of the run."""


@dataclass(slots=True)
class Bench:
    """A site that runs, the hospital's window, and orders that the HIS held before the agent was started."""

    site: Site
    hospital: Hospital
    window: WindowProgram
    _booked: list[Order] = field(default_factory=list)
    _paid: list[Order] = field(default_factory=list)

    def booked(self) -> Order:
        """An unpaid platform order that no other test uses."""
        return self._booked.pop()

    def paid(self) -> Order:
        """A paid platform order that no other test uses."""
        return self._paid.pop()

    def book(self) -> RelayBook:
        """What the relay is told from now on."""
        return RelayBook(self.site.client)

    def story(self) -> Story:
        """A story of the demo with orders of the stock; the sessions of the whole stock are left alone."""
        earlier = EarlierOrders(self.booked(), self.paid(), self.booked())
        story = Story(self.site.client, self.window, earlier, self.hospital.pack)
        story.avoid |= {order.schedule_id for order in (*self._booked, *self._paid)}
        return story


def tell(story: Story, *names: str) -> Outcome:
    """Do these steps of the demo; the outcome of the last. Raises what the step raises."""
    steps = {step.name: step for step in STEPS}
    return [steps[name].act(story) for name in names][-1]


def tell_until(story: Story, last: str) -> Outcome:
    """Do the steps of the demo up to the named one."""
    names = [step.name for step in STEPS]
    return tell(story, *names[: names.index(last) + 1])


def small_hospital(kind: str, folder: Path, settings: SourceSettings | None = None) -> Hospital:
    """A small sample HIS; ``settings``: the empty database to make it in (PostgreSQL)."""
    return create_hospital(kind, folder, small=True, url="" if settings is None else url_of(settings))


def url_of(settings: SourceSettings) -> str:
    """SQLAlchemy's URL of a PostgreSQL database, TCP or socket directory."""
    login = quote(settings.user) + (f":{quote(settings.password)}" if settings.password else "")
    if settings.host.startswith("/"):
        return f"postgresql+psycopg://{login}@/{settings.database}?{urlencode({'host': settings.host})}"
    return f"postgresql+psycopg://{login}@{settings.host}:{settings.port or 5432}/{settings.database}"


@contextmanager
def bench(
    folder: Path, hospital: Hospital, *, stock: int = 0, options: SiteOptions | None = None, start: bool = True
) -> Iterator[Bench]:
    """Make a stock of ``stock`` unpaid and as many paid orders, start everything, stop it afterwards."""
    orders = put_orders(hospital, [index % 2 == 1 for index in range(2 * stock)])
    window = hospital.window()
    try:
        with Site(folder, hospital, options=options) as site:
            if start:
                site.start()
            try:
                yield Bench(site, hospital, window, orders[0::2], orders[1::2])
            except BaseException:
                print(site.tails(60))
                raise
    finally:
        window.close()
        hospital.remove()


def arrived(
    book: RelayBook, order: Order, kind: event_pb2.EventKind.ValueType, seconds: float = SOON
) -> sandbox_pb2.StoredEvent:
    """The event of that kind for that order, waiting for it."""
    name = event_pb2.EventKind.Name(kind)
    return book.wait_event(lambda e: e.order_no == order.order_no and e.kind == kind, name, seconds)


def latency(stored: sandbox_pb2.StoredEvent, committed: float) -> float:
    """Seconds from the window's commit to the relay."""
    return stored.arrival_us / 1e6 - committed


def own_status(site: Site, seconds: float = SOON) -> agent_pb2.GetStatusResponse:
    """GetStatus at the agent's own mTLS server, for when there is no link."""
    target = Target(site.server, site.pki.folder, "operator", "")
    with target.channel() as channel:
        method: Any = channel.unary_unary(
            "/his160.v1.AgentService/GetStatus",
            request_serializer=agent_pb2.GetStatusRequest.SerializeToString,
            response_deserializer=agent_pb2.GetStatusResponse.FromString,
        )
        answer = method(agent_pb2.GetStatusRequest(), timeout=seconds, wait_for_ready=True)
    assert isinstance(answer, agent_pb2.GetStatusResponse)
    return answer


def read_store(site: Site, unit: Callable[[Transaction], T]) -> T:
    """Read the agent's store, beside a running agent or after its death."""

    async def read() -> T:
        store = open_store(site.store, utc_now, exclusive=False)
        try:
            return await store.read(unit)
        finally:
            await store.close()

    return asyncio.run(read())


def write_store(site: Site, unit: Callable[[Transaction], T]) -> T:
    """Write into the agent's store."""

    async def write() -> T:
        store = open_store(site.store, utc_now, exclusive=False)
        try:
            return await store.write(unit)
        finally:
            await store.close()

    return asyncio.run(write())


def his160(
    *arguments: str, environ: Mapping[str, str] | None = None, seconds: float = PATIENCE
) -> subprocess.CompletedProcess[str]:
    """``his160 …`` as a process of its own, to its end, which must come within so many seconds."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "agent", *arguments],
        capture_output=True,
        encoding="utf-8",
        timeout=seconds,
        check=False,
        env={**os.environ, **(environ or {})},
    )


def json_of(done: subprocess.CompletedProcess[str]) -> Any:
    """Standard output as one JSON value; shows standard error when it is none."""
    try:
        return json.loads(done.stdout)
    except json.JSONDecodeError:
        raise AssertionError(f"no JSON: {done.stdout!r} {done.stderr!r}") from None


def until(done: Callable[[], T | None], what: str, seconds: float = SOON) -> T:
    """Ask until the answer is true."""
    return wait_for(done, what, seconds)


def timed(act: Callable[[], object]) -> float:
    """Do it; the time right after, which is that of the window's commit."""
    act()
    return time.time()


def of_orders(stored: Sequence[sandbox_pb2.StoredEvent], orders: Sequence[Order]) -> list[sandbox_pb2.StoredEvent]:
    """The events of these orders."""
    numbers = {order.order_no for order in orders}
    return [item for item in stored if item.event.order_no in numbers]
