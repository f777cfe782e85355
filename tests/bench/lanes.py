"""A read through a lane (event loop → thread with a held session → event loop) beside the bare driver in threads.

Same statement, rows, number of threads. The bare driver's threads feed themselves and never leave their thread, so the
driver behind an ideal hop (``hop``) is measured too: what the way to a thread and back costs before a lane does anything.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from agent.demo.hospital import Hospital
from his_db.engine import Session
from his_db.source import Source, settings_from_url
from tests.bench import bare, hop
from tests.bench.figures import Figure, in_turn, middle, paired
from tests.bench.packs import Statement
from tests.bench.plan import Plan

IN_FLIGHT: Final = (1, 8)
_TABLES: Final = {
    "sqlite": "SELECT PK_SCHTICKET, PK_SCH, TICKETNO, BEGIN_TIME, END_TIME, FLAG_USED FROM SCH_TICKET LIMIT :most",
    "postgresql": "SELECT pbmxid, zbrq, kssj, jssj, zgh, ygh FROM his.gh_yy_pbzbmx LIMIT :most",
}


@dataclass(frozen=True, slots=True)
class _Case:
    rows: int
    in_flight: int


def measure(plan: Plan, hospital: Hospital) -> list[Figure]:
    """1 and 200 rows, 1 and 8 in flight. Reads a second."""
    cases = [_Case(rows, at) for rows in (1, 200) for at in IN_FLIGHT]
    pool = bare.BarePool(hospital)
    try:
        with asyncio.Runner() as runner:
            source = Source(settings_from_url("his", hospital.url))
            try:
                return [_figure(plan, hospital, runner, source, pool, case) for case in cases]
            finally:
                runner.run(source.close())
    finally:
        pool.close()


def _figure(
    plan: Plan, hospital: Hospital, runner: asyncio.Runner, source: Source, pool: bare.BarePool, case: _Case
) -> Figure:
    sql, values = _TABLES[hospital.kind], {"most": case.rows}
    prepared = bare.script(hospital.kind, [Statement(sql, values)]).of()
    seconds = plan.micro_seconds / 2  # short, so that some are not disturbed
    read = bare.read(prepared)

    def by_lane() -> float:
        return runner.run(_read(source, sql, values, case.in_flight, seconds))

    def by_driver() -> float:
        return pool.run_for(read, case.in_flight, seconds).rate

    def by_hop() -> float:
        return runner.run(hop.rate(pool.drivers, read, case.in_flight, seconds))

    def empty_hop() -> float:
        return runner.run(hop.rate(pool.drivers, _nothing, case.in_flight, seconds))

    works: tuple[Callable[[], float], ...] = (by_lane, by_driver, by_hop, empty_hop)
    for work in works:
        work()
    lane, driver, floor, empty = in_turn(plan.micro_rounds * 6, works)
    value, noise = middle(lane)
    params: dict[str, str | int] = {"his": hospital.kind, "rows": case.rows, "in flight": case.in_flight}
    base = (
        paired("bare driver", lane, driver),
        paired("driver behind an ideal hop", lane, floor),
    )
    more = {"µs": 1e6 / value, "driver µs": 1e6 / base[0].value, "empty hop µs": 1e6 / middle(empty)[0]}
    more["hop ÷ driver"] = paired("", floor, driver).ratio
    more["best ÷ best"] = max(lane) / max(driver)  # of the rounds that nothing else on the machine disturbed
    return Figure("read through a lane", "read", value, "/s", params, base, more, noise)


def _nothing(_: bare.Driver) -> None:
    """An empty job."""


async def _read(source: Source, sql: str, values: dict[str, Any], in_flight: int, seconds: float) -> float:
    lane = source.lane("read")
    until = time.perf_counter() + seconds
    count = 0

    def work(session: Session) -> Any:
        return session.run(sql, values, max_rows=1000)

    async def loop() -> None:
        nonlocal count
        while time.perf_counter() < until:
            await lane.run(work)
            count += 1

    started = time.perf_counter()
    await asyncio.gather(*(loop() for _ in range(in_flight)))
    return count / (time.perf_counter() - started)
