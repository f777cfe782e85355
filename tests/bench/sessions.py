"""``ListSlots`` on a held session of the engine beside the bare driver: the same SQL, rows a second of both.

The figure is rows/s through ``CompiledOperation.run`` (binds, fetch, page, messages) ÷ rows/s of the driver's execute and
fetchall of the very statement that it sent, in one thread, call by call in turn, medians. The HIS is a plain indexed table of seven columns, one row a
slot: cheaper to read than any real HIS, so the ratio is a lower bound. Serialisation is not in it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any, Final
from zoneinfo import ZoneInfo

from his160.v1 import catalog_pb2

from agent.demo.hospital import Hospital
from his_db.generation import CompiledOperation, compile_generation
from his_db.mapping.load import load_mapping_set
from his_db.source import engine_for, settings_from_url
from tests.bench import bare
from tests.bench.figures import Figure, middle, paired
from tests.bench.packs import LIST_SLOTS, ZONE, RecordingSession
from tests.bench.plan import Plan

GROUP: Final = "ListSlots on a held session, one row a slot, 7 columns"
SIZES: Final = (1, 50, 200)
_MAPPING: Final = """
schema = 1
operation = "CatalogService.ListSlots"
kind = "query"
sql = '''
SELECT ticket, pk_sch, ticket_no, begin_time, end_time, state, free FROM bench_slots
WHERE pk_sch = :schedule_id AND (:free_only = 0 OR free > 0)
  AND (:page_after IS NULL OR ticket_no > CAST(:page_after AS INTEGER))
ORDER BY ticket_no LIMIT :page_limit
'''
[[result]]
page_key = "ticket_no"
fields = [
  { to = "slot_id", column = "ticket" },
  { to = "schedule_id", column = "pk_sch" },
  { to = "queue_no", column = "ticket_no" },
  { to = "begin_time", column = "begin_time", time = "%Y-%m-%d %H:%M:%S" },
  { to = "end_time", column = "end_time", time = "%Y-%m-%d %H:%M:%S" },
  { to = "state", column = "state" },
  { to = "free_count", column = "free" },
]
"""
_TABLE: Final = """
CREATE TABLE bench_slots (ticket CHAR(32) NOT NULL, pk_sch CHAR(32) NOT NULL, ticket_no INTEGER NOT NULL,
  begin_time CHAR(19), end_time CHAR(19), state VARCHAR(10), free INTEGER, PRIMARY KEY (pk_sch, ticket_no))
"""


def measure(plan: Plan, hospital: Hospital) -> list[Figure]:
    """One figure for each number of rows. The table is made in the sample HIS and dropped again."""
    driver = bare.connect(hospital)
    try:
        driver.run((_TABLE, {}))
        try:
            _fill(driver)
            with tempfile.TemporaryDirectory(prefix="his160-bench-") as folder:
                operation = compiled(hospital.kind, Path(folder))
                return _figures(plan, hospital, driver, operation)
        finally:
            driver.run(("DROP TABLE bench_slots", {}))
    finally:
        driver.close()


def compiled(engine: str, folder: Path) -> CompiledOperation:
    """The operation over ``bench_slots``; ``folder`` takes its mapping."""
    (folder / "slots.toml").write_text(_MAPPING, encoding="utf-8")
    mappings = load_mapping_set(folder, sources={"his": engine}, timezone=ZONE)
    return compile_generation(mappings).operation(LIST_SLOTS)


def _figures(plan: Plan, hospital: Hospital, driver: bare.Driver, operation: CompiledOperation) -> list[Figure]:
    engine = engine_for(settings_from_url("his", hospital.url))
    session = engine.open(read_only=True, statement_timeout=timedelta(seconds=10))
    now = datetime.now(ZoneInfo(ZONE))
    figures = []
    try:
        for size in SIZES:
            request = catalog_pb2.ListSlotsRequest(schedule_id=_schedule(size), page_size=500)
            recording = RecordingSession(session)
            noted: Any = recording
            answer = operation.run(noted, request, now=now)
            (prepared,) = bare.script(hospital.kind, recording.statements).of()

            (statement,) = recording.statements
            raw = answer.SerializeToString()
            works: list[Callable[[], Any]] = [
                lambda request=request: operation.run(session, request, now=now),  # type: ignore[misc]
                lambda prepared=prepared: driver.run(prepared),  # type: ignore[misc]
                lambda it=statement, most=size + 1: session.run(it.sql, it.values, max_rows=most),  # type: ignore[misc]
                lambda raw=raw: catalog_pb2.ListSlotsResponse.FromString(raw),  # type: ignore[misc]
            ]
            if not len(works[1]()) == size == len(getattr(answer, "slots", ())):
                raise AssertionError("the driver and the operation do not agree")
            figures.append(_figure(plan, hospital.kind, size, works))
    finally:
        session.close()
        engine.dispose()
    return figures


def _figure(plan: Plan, kind: str, size: int, works: Sequence[Callable[[], Any]]) -> Figure:
    """Of the operation, the driver, and two pieces: the engine's session, and protobuf's parsing of the same answer."""
    rounds = [_alternating(works, plan.micro_seconds * 4) for _ in range(plan.micro_rounds)]
    taken, noise = middle([one[0] for one in rounds])
    session, parse = (median(one[at] for one in rounds) for at in (2, 3))
    rates, bare_rates = ([size / one[at] * 1e6 for one in rounds] for at in (0, 1))
    params: dict[str, str | int] = {"his": kind, "rows": size}
    base = paired("bare driver", rates, bare_rates)
    more = {
        "µs an answer": taken,
        "bare µs": size / base.value * 1e6,
        "session µs": session,
        "protobuf's parse µs": parse,
        "rest µs": taken - session - parse,
    }
    return Figure(GROUP, "CompiledOperation.run", size / taken * 1e6, "rows/s", params, (base,), more, noise)


def _alternating(works: Sequence[Callable[[], Any]], seconds: float) -> list[float]:
    """Median microseconds of each, call by call in turn, back and forth: what other processes take of the machine hits
    few calls, and none has a better place."""
    clock = time.perf_counter
    times: list[list[float]] = [[] for _ in works]
    order = list(zip(works, times, strict=True))
    until = clock() + seconds
    while clock() < until or len(times[0]) < 3:
        for work, found in order:
            started = clock()
            work()
            found.append(clock() - started)
        order.reverse()
    return [median(found) * 1e6 for found in times]


def _schedule(size: int) -> str:
    return f"{size:032X}"


def _fill(driver: bare.Driver) -> None:
    for size in SIZES:
        driver.begin()
        for number in range(1, size + 1):
            driver.run((_insert(_row(size, number)), {}))
        driver.commit()


def _insert(row: Mapping[str, str | int]) -> str:
    values = ", ".join(f"'{value}'" if isinstance(value, str) else str(value) for value in row.values())
    return f"INSERT INTO bench_slots ({', '.join(row)}) VALUES ({values})"


def _row(size: int, number: int) -> dict[str, str | int]:
    return {
        "ticket": f"{size * 1000 + number:032X}",
        "pk_sch": _schedule(size),
        "ticket_no": number,
        "begin_time": f"2026-11-24 {8 + number // 60:02d}:{number % 60:02d}:00",
        "end_time": f"2026-11-24 {8 + (number + 5) // 60:02d}:{(number + 5) % 60:02d}:00",
        "state": ("FREE", "TAKEN", "LOCKED")[number % 3],
        "free": int(number % 3 == 0),
    }
