"""Rows to messages: the compiled builder beside a bare fetch of tuples, and beside a naive dict for each row."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime
from typing import Any, Final

from google.type import timeofday_pb2
from his160.v1 import catalog_pb2, common_pb2

from his_db.engine import Rows
from his_db.kind import Call
from his_db.mapping.answer import ResultPlan
from his_db.mapping.paging import open_page
from tests.bench.figures import Figure, against, middle, rounds_of, timer
from tests.bench.packs import LIST_SLOTS, mapping_of
from tests.bench.plan import Plan

GROUP: Final = "rows to messages (ListSlots of zebone, 7 columns)"
SIZES: Final = (1, 50, 200)
_COLUMNS: Final = ("ticket", "pk_sch", "ticket_no", "begin_time", "end_time", "state", "free")
_FORMAT: Final = "%Y-%m-%d %H:%M:%S"


def measure(plan: Plan) -> list[Figure]:
    """One figure for each number of rows; microseconds for an answer, fetch included, serialisation not."""
    mapping = mapping_of("zebone").operations[LIST_SLOTS]
    request = catalog_pb2.ListSlotsRequest(schedule_id="S", page_size=1000)
    call = Call(request, datetime(2026, 11, 23, 8), page=open_page(mapping.operation, request, is_keyset=True))
    compiled = ResultPlan(mapping)
    with closing(sqlite3.connect(":memory:")) as connection:
        _fill(connection, max(SIZES))
        return [_figure(plan, connection, compiled, call, size) for size in SIZES]


def _figure(plan: Plan, connection: sqlite3.Connection, compiled: ResultPlan, call: Call, size: int) -> Figure:
    sql = f"SELECT {', '.join(_COLUMNS)} FROM slots ORDER BY ticket_no LIMIT {size}"

    def tuples() -> Any:
        return connection.execute(sql).fetchall()

    def built() -> Any:
        cursor = connection.execute(sql)
        rows = Rows(tuple(column[0] for column in cursor.description), cursor.fetchall(), -1)
        return compiled.answer(call, (rows,))

    def naive() -> Any:
        return _naive(connection.execute(sql))

    if built() != naive():
        raise AssertionError("the naive conversion and the compiled one do not agree")
    works = (built, tuples, naive)
    found = rounds_of(plan.micro_rounds, [timer(work, plan.micro_seconds) for work in works])
    (value, noise), (bare, _), (by_dict, _) = (middle(times) for times in found)
    return Figure(
        GROUP,
        "compiled builder",
        value,
        "µs/answer",
        {"rows": size},
        (against("bare tuples", value, bare), against("dict per row", value, by_dict)),
        {"per row µs": (value - bare) / size},
        noise,
    )


def _fill(connection: sqlite3.Connection, count: int) -> None:
    connection.execute(f"CREATE TABLE slots ({', '.join(_COLUMNS)})")
    rows = [
        (
            f"{number:032X}",
            f"{160:032X}",
            number,
            f"2026-11-24 {8 + number // 60:02d}:{number % 60:02d}:00",
            f"2026-11-24 {8 + (number + 5) // 60:02d}:{(number + 5) % 60:02d}:00",
            ("FREE", "TAKEN", "LOCKED")[number % 3],
            int(number % 3 == 0),
        )
        for number in range(1, count + 1)
    ]
    connection.executemany(f"INSERT INTO slots VALUES ({', '.join('?' * len(_COLUMNS))})", rows)


def _naive(cursor: sqlite3.Cursor) -> catalog_pb2.ListSlotsResponse:
    """What one writes first: a dict for each row, formats parsed for each value."""
    names = [column[0] for column in cursor.description]
    answer = catalog_pb2.ListSlotsResponse()
    for values in cursor.fetchall():
        row = dict(zip(names, values, strict=True))
        slot = answer.slots.add()
        slot.slot_id = str(row["ticket"])
        slot.schedule_id = str(row["pk_sch"])
        slot.queue_no = int(row["ticket_no"])
        for field in ("begin_time", "end_time"):
            moment = datetime.strptime(row[field], _FORMAT)
            time_of_day = timeofday_pb2.TimeOfDay(hours=moment.hour, minutes=moment.minute, seconds=moment.second)
            getattr(slot, field).CopyFrom(time_of_day)
        slot.state = common_pb2.SlotState.Value(f"SLOT_STATE_{row['state']}")
        slot.free_count = int(row["free"])
    return answer
