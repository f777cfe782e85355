"""Open orders of the platform under a feed that misses: seen within a cycle of their own, read by key, and counted.

Real tables and the real feed on SQLite: a change table whose trigger has forgotten something.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from his_db.engine import SourceSettings
from tests.integration.patterns import Bed, watch_file

FIELDS = {
    "appointment_id": "id",
    "order_no": "yuyue_id",
    "state": "state",
    "patient_id": "id",
    "schedule_id": "id",
}
SESSIONS = {
    "schedule_id": "id",
    "visit_date": 'day, date = "%Y-%m-%d"',
    "period": "wb",
    "state": "state",
    "department_id": "ks",
    "doctor_id": "ys",
    "fee_fen": 'fee, money = "fen"',
    "free_count": "fee",
}
SQL = "SELECT id, yuyue_id, state FROM reg"
SESSION_SQL = "SELECT id, '2026-03-03' AS day, 'MORNING' AS wb, state, 'K1' AS ks, 'D1' AS ys, 0 AS fee FROM reg"
FEED = '[[feed]]\nrung = "change_table"\ntable = "changes"\nkey = "reg_id"\ncolumn = "n"\n'
TABLES = """CREATE TABLE reg (id INTEGER PRIMARY KEY, yuyue_id TEXT, state TEXT);
CREATE TABLE changes (n INTEGER PRIMARY KEY AUTOINCREMENT, reg_id INTEGER)"""


@dataclass
class Fed:
    """A watch under a feed, with the keys of every read (None: the whole window)."""

    bed: Bed
    seconds: float = 0.0
    reads: list[list[Any] | None] = field(default_factory=list)

    async def begin(self, rows: str, watch: str, *, name: str = "orders") -> None:
        await self.bed.begin(f"{TABLES};INSERT INTO reg VALUES {rows}", watch + FEED, name=name)
        plain = self.bed.his.snapshot

        async def counted(*names: Any, **options: Any) -> Any:
            keys = options.get("keys")
            self.reads.append(None if keys is None else sorted(keys))
            return await plain(*names, **options)

        self.bed.his.snapshot = counted  # type: ignore[method-assign]

    async def poll_at(self, seconds: float) -> list[str]:
        """The events of one poll: kind and order."""
        self.seconds = seconds
        await self.bed.poll()
        return [f"{kind} {subject}" for kind, subject in await self.bed.after()]

    @property
    def missed(self) -> int:
        return self.bed.watcher.status.missed


@pytest.fixture
async def fed(sqlite_path: Path, tmp_path: Path) -> AsyncIterator[Fed]:
    made = Fed(Bed(SourceSettings(name="his", engine="sqlite", database=str(sqlite_path)), tmp_path))
    made.bed.monotonic = lambda: made.seconds
    yield made
    await made.bed.end([])


ROWS = "(1, 'T1', 'BOOKED'), (2, 'T2', 'PAID'), (3, 'T3', 'CANCELLED'), (4, NULL, 'BOOKED')"
RULES = ["CANCELLED: state: BOOKED -> CANCELLED", "PAID: state: BOOKED|new -> PAID"]
HOURLY = 'reconcile = "1h"'
ORDERS = watch_file(SQL, FIELDS, RULES, more=HOURLY)


async def test_a_cancellation_that_the_feed_missed_is_seen_within_a_cycle_and_counted(fed: Fed) -> None:
    await fed.begin(ROWS, ORDERS)
    fed.bed.commit("UPDATE reg SET state = 'CANCELLED' WHERE id IN (1, 4)")
    assert await fed.poll_at(9.5) == []
    assert fed.reads == []
    assert await fed.poll_at(10) == ["CANCELLED T1"]
    assert fed.reads == [[1, 2]]  # open ones of the platform, by key: neither the ended one nor the window's own
    assert await fed.poll_at(19.5) == []
    assert fed.reads == [[1, 2]]
    assert fed.missed == 0  # the feed may be late
    assert await fed.poll_at(20) == []
    assert fed.missed == 1
    assert fed.reads[1:] == [[2]]  # the cancelled order is none of them any more


async def test_a_new_order_is_one_of_them_and_what_the_feed_names_is_not_counted(fed: Fed) -> None:
    await fed.begin(ROWS, ORDERS)
    fed.bed.commit("INSERT INTO reg VALUES (5, 'T5', 'BOOKED'); INSERT INTO changes (reg_id) VALUES (5)")
    await fed.poll_at(1)
    assert fed.reads == [[5]]
    fed.bed.commit("UPDATE reg SET state = 'CANCELLED' WHERE id = 5; INSERT INTO changes (reg_id) VALUES (5)")
    fed.bed.commit("UPDATE reg SET state = 'PAID' WHERE id = 1")
    assert sorted(await fed.poll_at(10)) == ["CANCELLED T5", "PAID T1"]
    assert fed.reads[1:] == [[1, 2, 5]]
    await fed.poll_at(20)
    assert fed.missed == 1


async def test_what_commits_between_the_feeds_and_the_rows_is_not_counted(fed: Fed) -> None:
    await fed.begin(ROWS, ORDERS)
    plain = fed.bed.his.snapshot

    async def late(*names: Any, **options: Any) -> Any:
        fed.bed.commit("UPDATE reg SET state = 'CANCELLED' WHERE id = 1; INSERT INTO changes (reg_id) VALUES (1)")
        return await plain(*names, **options)

    fed.bed.his.snapshot = late  # type: ignore[method-assign]
    assert await fed.poll_at(10) == ["CANCELLED T1"]
    fed.bed.his.snapshot = plain  # type: ignore[method-assign]
    await fed.poll_at(10.5)
    await fed.poll_at(20)
    assert fed.missed == 0


async def test_an_order_that_is_gone_is_told_when_two_windows_agree(fed: Fed) -> None:
    rules = ["CANCELLED: state: BOOKED -> gone"]
    await fed.begin(ROWS, watch_file(SQL, FIELDS, rules, vanish="event", more=HOURLY))
    fed.bed.commit("DELETE FROM reg WHERE id = 1")
    assert await fed.poll_at(10) == []
    assert fed.reads == [[1, 2], None]
    assert await fed.poll_at(19) == []
    assert await fed.poll_at(20) == ["CANCELLED T1"]
    assert fed.reads[2:] == [[1, 2], None]
    assert fed.missed == 1
    await fed.poll_at(30)
    assert fed.reads[4:] == [[2]]


async def test_more_orders_than_one_look_takes_have_their_turn(fed: Fed) -> None:
    await fed.begin(", ".join(f"({key}, 'T{key}', 'BOOKED')" for key in range(1, 251)), ORDERS)
    fed.bed.commit("UPDATE reg SET state = 'CANCELLED' WHERE id IN (7, 240)")
    told = await fed.poll_at(10) + await fed.poll_at(20)
    assert sorted(told) == ["CANCELLED T240", "CANCELLED T7"]
    first, second = (set(keys or ()) for keys in fed.reads)
    assert (len(first), len(second)) == (200, 200)
    assert first | second == set(range(1, 251))
    await fed.poll_at(30)
    assert fed.missed == 2


async def test_zero_reads_none(fed: Fed) -> None:
    await fed.begin(ROWS, watch_file(SQL, FIELDS, RULES, more=HOURLY + '\norders = "0s"'))
    fed.bed.commit("UPDATE reg SET state = 'CANCELLED' WHERE id = 1")
    assert await fed.poll_at(3599) == []
    assert fed.reads == []
    assert await fed.poll_at(3600) == ["CANCELLED T1"]


async def test_a_watch_of_sessions_reads_none(fed: Fed) -> None:
    watch = watch_file(
        SESSION_SQL,
        SESSIONS,
        ["SUSPENDED: state: OPEN -> SUSPENDED"],
        name="schedules",
        subject="schedule",
        key="schedule_id",
        more=HOURLY,
    )
    await fed.begin("(1, 'T1', 'OPEN')", watch, name="schedules")
    fed.bed.commit("UPDATE reg SET state = 'SUSPENDED' WHERE id = 1")
    assert await fed.poll_at(3599) == []
    assert fed.reads == []
    assert len(await fed.poll_at(3600)) == 1
