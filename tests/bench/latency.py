"""From a window's commit to the relay's ack, with the same commits seen three ways at once: polling at 500 ms, woken by the
database, and by a bare poller.

Two chains of the agent's own parts in this process (HIS lanes, capture, watcher, wakes, store, outbox, delivery, sink, link),
which differ in ``wake`` alone, and a relay in a process of its own. The bare poller is a thread that reads the same table by the
bare driver each 500 ms and compares tuples: it has seen the row, and has neither kept nor told it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import psycopg

from agent.bench_pki import BenchPki
from agent.demo.site import SITE
from agent.link.event_stream import RelaySink
from agent.wakes import Wakes
from his_db.access import HisAccess
from his_db.generation import compile_generation
from his_db.mapping.load import load_mapping_set
from his_db.source import Source, settings_from_url
from sync.captures.fed import FedDiff
from sync.clock import utc_now
from sync.delivery import Delivery
from sync.outbox import Outbox
from sync.store import EventState, open_store
from sync.watcher import Watcher
from tests.bench.draining import linked
from tests.bench.figures import Figure, against, percentile
from tests.bench.packs import ZONE, psycopg_url

_LIMIT: Final = 60.0
_SIGNAL: Final = {"sqlite": "file", "postgresql": "his160_bench"}
_WATCH: Final = """
schema = 1
watch = "orders"
subject = "appointment"
key = "appointment_id"
{wake}
sql = "SELECT id, order_no, patid, sch, state FROM bench_reg"
fields = [
  {{ to = "appointment_id", column = "id" }},
  {{ to = "order_no", column = "order_no" }},
  {{ to = "patient_id", column = "patid" }},
  {{ to = "schedule_id", column = "sch" }},
  {{ to = "state", column = "state" }},
]
[[event]]
kind = "CANCELLED"
when = "state: BOOKED -> CANCELLED"
"""
_UNSUPPORTED: Final = 'schema = 1\noperation = "PaymentService.RefundPayment"\nkind = "unsupported"\nwhy = "窗口退费"\n'
_TABLE: Final = """
CREATE TABLE bench_reg (id INTEGER PRIMARY KEY, order_no VARCHAR(20), patid VARCHAR(20), sch VARCHAR(20), state VARCHAR(20))
"""
# What the DBA would install.
_TRIGGER: Final = (
    "CREATE FUNCTION bench_told() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN PERFORM pg_notify('his160_bench', ''); RETURN NULL; END $$",
    "CREATE TRIGGER bench_told AFTER UPDATE ON bench_reg FOR EACH STATEMENT EXECUTE FUNCTION bench_told()",
)
_GONE: Final = ("DROP TABLE bench_reg", "DROP FUNCTION bench_told()")


@dataclass(frozen=True, slots=True)
class Pace:
    """``changes`` of ``rows`` watched orders, at random distances; ``poll`` of both pollers in seconds."""

    changes: int
    rows: int = 600
    poll: float = 0.5
    gaps: tuple[float, float] = (0.15, 0.75)


class Window:
    """The HIS by the bare driver: ``kind`` is sqlite or postgresql. Makes the table; ``close`` removes it."""

    def __init__(self, kind: str, url: str, rows: int) -> None:
        self.kind, self.url = kind, url
        self._connection = self.connect()
        self._execute(_TABLE)
        for number in range(rows):
            self._execute(
                f"INSERT INTO bench_reg VALUES ({number}, 'T{number}', 'P{number}', 'S{number % 40}', 'BOOKED')"
            )
        if kind == "postgresql":
            for statement in _TRIGGER:
                self._execute(statement)

    def connect(self) -> Any:
        """A connection in autocommit."""
        if self.kind == "postgresql":
            return psycopg.connect(psycopg_url(self.url), autocommit=True)
        return sqlite3.connect(
            settings_from_url("his", self.url).database, isolation_level=None, timeout=10, check_same_thread=False
        )

    def cancel(self, number: int) -> float:
        """One cancellation; when its commit was done (``time.time``)."""
        self._execute(f"UPDATE bench_reg SET state = 'CANCELLED' WHERE id = {number}")
        return time.time()

    def close(self) -> None:
        """Remove the table and what hangs on it."""
        for statement in _GONE if self.kind == "postgresql" else _GONE[:1]:
            self._execute(statement)
        self._connection.close()

    def _execute(self, sql: str) -> None:
        self._connection.execute(sql)


class BarePoller:
    """``seen``: when a row was first found changed, by its order (``time.time``)."""

    def __init__(self, window: Window, poll: float) -> None:
        self._window, self._poll = window, poll
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bench-poller", daemon=True)
        self.ready = threading.Event()
        self.seen: dict[str, float] = {}
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        known: dict[str, tuple[Any, ...]] = {}
        with contextlib.closing(self._window.connect()) as connection:
            while not self._stop.is_set():
                rows = connection.execute("SELECT order_no, id, patid, sch, state FROM bench_reg").fetchall()
                now = time.time()
                for row in rows:
                    if self.ready.is_set() and known.get(row[0]) != row:
                        self.seen[str(row[0])] = now
                    known[row[0]] = row
                self.ready.set()
                self._stop.wait(self._poll)


@dataclass(slots=True)
class Chain:
    """One agent's way from the HIS to the relay."""

    outbox: Outbox
    wakes: Wakes
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    ends: dict[str, float] = field(default_factory=dict)
    """When the ack of an event was on disk (``time.time``), by its id."""

    async def acked(self, orders: Mapping[str, float]) -> list[float]:
        """Seconds from each order's commit to the ack in the store, once all are acked. Raises TimeoutError."""
        async with asyncio.timeout(_LIMIT):
            while (await self.outbox.counts()).acked < len(orders):
                self.moved.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.moved.wait(), 0.5)
        rows = await self.outbox.list(EventState.ACKED, len(orders) + 1)
        times = {row.event.order_no: row for row in rows}
        if len(rows) != len(orders) or times.keys() != orders.keys():
            raise AssertionError(f"{len(rows)} events of {len(orders)} changes")
        return [self.ends[row.event.event_id] - orders[name] for name, row in times.items()]


class _Noting(Outbox):
    """The outbox, which also notes when an ack is on disk."""

    ends: dict[str, float]

    async def settle(self, stored: Any, rejected: Any, retried: Any) -> None:
        await super().settle(stored, rejected, retried)
        self.ends.update(dict.fromkeys(stored, time.time()))


@asynccontextmanager
async def chain(
    pki: BenchPki, folder: Path, relay: str, window: Window, poll: float, *, wake: bool
) -> AsyncIterator[Chain]:
    """Running, with its baseline taken."""
    mappings = folder / "mappings"
    mappings.mkdir(parents=True)
    line = f'wake = "{_SIGNAL[window.kind]}"' if wake else ""
    (mappings / "orders.toml").write_text(_WATCH.format(wake=line), encoding="utf-8")
    (mappings / "refund.toml").write_text(_UNSUPPORTED, encoding="utf-8")
    found = compile_generation(load_mapping_set(mappings, sources={"his": window.kind}, timezone=ZONE))
    source = Source(settings_from_url("his", window.url))
    store = open_store(folder / "state.db", utc_now)
    outbox = _Noting(store, utc_now)
    outbox.ends = {}
    capture = FedDiff(HisAccess({"his": source}, found), store, "orders", clock=utc_now)
    watcher = Watcher(capture, store, outbox, site=SITE, clock=utc_now, interval=timedelta(seconds=poll))
    wakes = Wakes({"his": source}, lambda _: watcher.wake())
    made = Chain(outbox, wakes, ends=outbox.ends)
    outbox.subscribe(made.moved.set)
    async with linked(pki, relay) as links:
        sink = RelaySink(links)
        delivery = Delivery(outbox, sink, clock=utc_now)
        await watcher.poll_once()
        running = [asyncio.ensure_future(watcher.run()), asyncio.ensure_future(delivery.run())]
        try:
            await wakes.follow(found.watches.values())
            async with asyncio.timeout(_LIMIT):
                while any(state.detail for state in wakes.states()):
                    await asyncio.sleep(0.01)
            yield made
        finally:
            await wakes.follow(())
            watcher.stop()
            delivery.stop()
            await asyncio.gather(*running)
            await sink.close()
            await store.close()
            await source.close()


async def measure(
    pki: BenchPki,
    folder: Path,
    relay: str,
    kind: str,
    url: str,
    pace: Pace,
    *,
    note: Callable[[str], None] = lambda _: None,
) -> list[Figure]:
    """Percentiles of both chains beside the bare poller's of the same changes."""
    window = Window(kind, url, pace.rows)
    chance = random.Random(160)
    try:
        async with AsyncExitStack() as stack:
            slow = await stack.enter_async_context(chain(pki, folder / "poll", relay, window, pace.poll, wake=False))
            quick = await stack.enter_async_context(chain(pki, folder / "wake", relay, window, pace.poll, wake=True))
            poller = BarePoller(window, pace.poll)
            stack.callback(poller.close)
            await asyncio.to_thread(poller.ready.wait, _LIMIT)
            committed: dict[str, float] = {}
            for number in range(pace.changes):
                committed[f"T{number}"] = await asyncio.to_thread(window.cancel, number)
                await asyncio.sleep(chance.uniform(*pace.gaps))
            times = {"polling": await slow.acked(committed), "woken": await quick.acked(committed)}
            async with asyncio.timeout(_LIMIT):
                while poller.seen.keys() != committed.keys():
                    await asyncio.sleep(0.01)
            bare = [poller.seen[name] - at for name, at in committed.items()]
            note(f"{kind}: {quick.wakes.figures()['wakes:his']:.0f} wake-ups of {pace.changes} changes")
    finally:
        window.close()
    group = (
        f"window's commit → relay's ack on disk ({kind}, {pace.rows} orders watched, poll {pace.poll * 1000:.0f} ms)"
    )
    return [_figure(group, name, found, bare) for name, found in times.items()]


def _figure(group: str, name: str, times: list[float], bare: list[float]) -> Figure:
    p50, p99 = (percentile(times, share) * 1000 for share in (0.5, 0.99))
    more = {"p90 ms": percentile(times, 0.9) * 1000, "p99 ms": p99, "bare p99 ms": percentile(bare, 0.99) * 1000}
    base = against("bare poller that has seen it", p50, percentile(bare, 0.5) * 1000)
    return Figure(group, f"{name}, p50", p50, "ms", {"changes": len(times)}, (base,), more)
