"""From a change at the window to the relay: latency of single cancellations, and a burst of many at once."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, Self

import psycopg
from google.protobuf.timestamp_pb2 import Timestamp
from his160.sandbox.v1 import sandbox_pb2

from agent.demo.hospital import Hospital
from agent.demo.site import Site
from his_db.sample import hospital_now
from his_db.source import settings_from_url
from tests.bench import bare
from tests.bench.calls import Bench
from tests.bench.figures import Figure, against, middle, percentile
from tests.bench.packs import Recorded, psycopg_url

OPERATOR: Final = "0931"
POLL: Final = 0.5  # the agent's own default
_SHARES: Final = {"p50 s": 0.5, "p90 s": 0.9, "p99 s": 0.99, "max s": 1.0}
_LIMIT: Final = 60.0

# What the window's 取消预约 writes, for many orders in one transaction: an archive job, a whole department.
_ZEBONE: Final = (
    "UPDATE SCH_APPT SET FLAG_CANCEL='1', EU_STATUS='9', NAME_EMP_CANCEL='窗口', DATE_CANCEL=:now, TS=:now, "
    "PK_EMP_CANCEL=(SELECT PK_EMP FROM BD_OU_EMPLOYEE WHERE CODE_EMP=:operator) WHERE PK_SCHAPPT=:id AND EU_STATUS='0'"
)
_WINNING: Final = (
    "UPDATE his.gh_ghyyk SET jlzt = 2, qxczyh = %(operator)s, qxrq = his.fn_rq16(his.fn_dqsj()), qxyy = '窗口取消' "
    "WHERE xh = %(id)s::numeric AND jlzt = 0"
)


class BarePoller:
    """The floor: a thread that runs the watch's own SQL by the bare driver each 500 ms and compares tuples.

    ``seen``: when a row was first found changed, by its key (``time.time``).
    """

    def __init__(self, hospital: Hospital, recorded: Recorded) -> None:
        self._driver = bare.connect(hospital)
        self._prepared = bare.script(hospital.kind, recorded.watch).of()
        self._key = recorded.watch_key.casefold()
        self._hospital = hospital
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="bench-poller", daemon=True)
        self.seen: dict[str, float] = {}
        self.rows = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._driver.close()

    def _poll(self) -> None:
        known: dict[str, tuple[Any, ...]] = {}
        while True:
            for prepared in self._prepared:
                rows = self._driver.run(prepared)
            now = time.time()
            current = {str(row[0]): row for row in rows}  # both packs select the key first
            for key, row in current.items():
                if known.get(key) != row:
                    self.seen[key] = now
            known, self.rows = current, len(current)
            if self._stop.wait(POLL):
                return


def measure(bench: Bench, site: Site) -> list[Figure]:
    """Single cancellations by the window program, then bursts. Uses orders that were booked before."""
    plan = bench.plan
    wanted = plan.singles + plan.bursts * plan.burst
    if len(bench.booked) < wanted:
        _book_more(bench, wanted - len(bench.booked))
    ids = dict(list(bench.booked.items())[:wanted])
    threading.Event().wait(3 * POLL)  # both watchers know all of them
    with BarePoller(bench.hospital, bench.recorded) as poller:
        threading.Event().wait(2 * POLL)
        names = list(ids)
        singles = _singles(bench, site, {name: ids[name] for name in names[: plan.singles]}, poller)
        bursts = []
        for at in range(plan.bursts):
            start = plan.singles + at * plan.burst
            bursts.append(_burst(bench, site, {name: ids[name] for name in names[start : start + plan.burst]}, poller))
    group = f"from the HIS to the relay ({bench.hospital.pack} on {bench.hospital.kind}, {poller.rows} orders watched)"
    return [*_single_figures(group, singles), *_burst_figures(group, plan.burst, bursts)]


def _book_more(bench: Bench, count: int) -> None:
    orders = bench.orders.take(count)
    bench.book_bare(orders, bare.CONNECTIONS)
    if bench.hospital.kind == "sqlite":
        bench.booked.update({order.order_no: order.key.upper() for order in orders})
        return
    with psycopg.connect(psycopg_url(bench.hospital.url)) as connection:
        sql = "SELECT wbddh, xh::text FROM his.gh_ghyyk WHERE wbddh = ANY(%s)"
        bench.booked.update(connection.execute(sql, [[order.order_no for order in orders]]).fetchall())


Times = dict[str, list[float]]
"""Seconds from the commit: ``seen`` by the agent, ``arrival`` at the relay, ``ack`` in the agent's store, and when the
``bare`` poller saw it."""


def _singles(bench: Bench, site: Site, ids: Mapping[str, str], poller: BarePoller) -> Times:
    """Cancel one after the other at random distances, so that no phase of the poll is preferred."""
    position = _position(site)
    chance = random.Random(160)
    committed: dict[str, float] = {}
    window = bench.hospital.window()
    pause = threading.Event()
    try:
        for name, his_id in ids.items():
            window.cancel_booking(his_id, operator=OPERATOR)
            committed[name] = time.time()
            pause.wait(chance.uniform(0, bench.plan.gap))
    finally:
        window.close()
    return _collect(site, position, ids, committed, poller)


def _burst(bench: Bench, site: Site, ids: Mapping[str, str], poller: BarePoller) -> Times:
    """All in one transaction."""
    position = _position(site)
    threading.Event().wait(random.Random(len(poller.seen)).uniform(0, POLL))
    _cancel_all(bench.hospital, list(ids.values()))
    committed = dict.fromkeys(ids, time.time())
    return _collect(site, position, ids, committed, poller)


def _cancel_all(hospital: Hospital, ids: Sequence[str]) -> None:
    now = f"{hospital_now():%Y-%m-%d %H:%M:%S}"
    binds = [{"id": his_id, "now": now, "operator": OPERATOR} for his_id in ids]
    if hospital.kind == "sqlite":
        with closing(sqlite3.connect(settings_from_url("his", hospital.url).database)) as file, file:
            file.executemany(_ZEBONE, binds)
        return
    with psycopg.connect(psycopg_url(hospital.url)) as connection, connection.cursor() as cursor:
        cursor.executemany(_WINNING, binds)


def _position(site: Site) -> int:
    position = 0
    while page := site.client.events(position, page_size=1000):
        position = page[-1].position
    return position


def _collect(
    site: Site, position: int, ids: Mapping[str, str], committed: Mapping[str, float], poller: BarePoller
) -> Times:
    """Wait for one event of each order and for its ack. Raises AssertionError when one is missing or there twice."""
    found: dict[str, sandbox_pb2.StoredEvent] = {}
    until = time.monotonic() + _LIMIT
    while len(found) < len(ids):
        page = site.client.events(position, timedelta(seconds=1), 1000)
        for stored in page:
            position = stored.position
            name = stored.event.order_no
            if name in ids:
                if name in found:
                    raise AssertionError(f"two events of {name}")
                found[name] = stored
        if time.monotonic() > until:
            raise AssertionError(f"{len(ids) - len(found)} of {len(ids)} events did not arrive")
    acked = _acks(site, {stored.event.event_id: name for name, stored in found.items()}, until)
    while any(poller.seen.get(key, 0.0) < committed[name] - POLL for name, key in ids.items()):
        if time.monotonic() > until:
            raise AssertionError("the bare poller did not see every change")
        threading.Event().wait(0.05)
    return {
        "seen": [_seconds(stored.event.captured_time) - committed[name] for name, stored in found.items()],
        "arrival": [stored.arrival_us / 1e6 - committed[name] for name, stored in found.items()],
        "ack": [at - committed[name] for name, at in acked.items()],
        "bare": [poller.seen[key] - committed[name] for name, key in ids.items()],
    }


def _seconds(stamp: Timestamp) -> float:
    return float(stamp.seconds) + stamp.nanos / 1e9


def _acks(site: Site, names: Mapping[str, str], until: float) -> dict[str, float]:
    """When the agent's own store had each receipt, by order."""
    address = f"{site.store.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True)) as connection:
        while True:
            rows = connection.execute("SELECT event_id, finished_time FROM events WHERE state = 'ACKED'").fetchall()
            acked = {names[event_id]: at / 1e6 for event_id, at in rows if event_id in names}
            if len(acked) == len(names):
                return acked
            if time.monotonic() > until:
                raise AssertionError(f"{len(names) - len(acked)} events were not acked")
            threading.Event().wait(0.02)


def _single_figures(group: str, times: Times) -> list[Figure]:
    figures = []
    for name, key in (("window's commit → arrival at the relay", "arrival"), ("window's commit → ack", "ack")):
        more = {title: percentile(times[key], share) for title, share in _SHARES.items()}
        value, base = more.pop("p50 s"), percentile(times["bare"], 0.5)
        params: dict[str, str | int] = {"changes": len(times[key])}
        figures.append(Figure(group, f"{name}, p50", value, "s", params, (against("bare poller", value, base),), more))
    return figures


def _burst_figures(group: str, size: int, bursts: Sequence[Times]) -> list[Figure]:
    """Events a second from the commit to the last ack; and from the agent's first sight of it, without the poll."""
    params: dict[str, str | int] = {"burst": size}
    whole, noise = middle([size / max(times["ack"]) for times in bursts])
    floor, _ = middle([size / max(times["bare"]) for times in bursts])
    more = {f"{key} s": middle([max(times[key]) for times in bursts])[0] for key in ("seen", "arrival", "ack")}
    drained = [size / max(0.001, max(times["ack"]) - min(times["seen"])) for times in bursts]
    rate, drain_noise = middle(drained)
    return [
        Figure(
            group,
            "events, commit → last ack",
            whole,
            "/s",
            params,
            (against("bare poller", whole, floor),),
            more,
            noise,
        ),
        Figure(group, "events, seen by the agent → last ack", rate, "/s", params, (), {}, drain_noise),
    ]
