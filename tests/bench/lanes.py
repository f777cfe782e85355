"""A read through a lane (event loop → thread with a held session → event loop) beside the bare driver in threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from agent.demo.hospital import Hospital
from his_db.engine import Session
from his_db.source import Source, settings_from_url
from tests.bench import bare
from tests.bench.figures import Figure, against, middle
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
    seconds = plan.micro_seconds * 3

    def by_lane() -> float:
        return runner.run(_read(source, sql, values, case.in_flight, seconds))

    def by_driver() -> float:
        return pool.run_for(bare.read(prepared), case.in_flight, seconds).rate

    works: tuple[Callable[[], float], ...] = (by_lane, by_driver)
    for work in works:
        work()
    found: list[list[float]] = [[], []]
    for _ in range(plan.micro_rounds):
        for at, work in enumerate(works):
            found[at].append(work())
    (value, noise), (base, _) = middle(found[0]), middle(found[1])
    params: dict[str, str | int] = {"his": hospital.kind, "rows": case.rows, "in flight": case.in_flight}
    group = "read through a lane"
    return Figure(group, "read", value, "/s", params, (against("bare driver", value, base),), {}, noise)


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
