"""Scheduled runs: once per period across agents, caught up, quiet, again after a failure."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from his160.v1 import common_pb2, event_pb2

from sync.outbox import Outbox
from sync.report_book import PushState, RunOrigin, RunRow, RunState
from sync.report_ready import ReportReady
from sync.report_schedule import ReportSchedule
from sync.store import Store, StoreUnavailable, Transaction, open_store
from tests.unit.reports.bench import Bed, Hand, bed

SCHEDULE = 'schedule = "30 6 * * *"'
WEEK = timedelta(days=7)


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
async def store(tmp_path: Path, clock: Hand) -> AsyncIterator[Store]:
    opened = open_store(tmp_path / "state.db", clock)
    yield opened
    await opened.close()


def schedule(here: Bed, *, publish: bool = False) -> tuple[ReportSchedule, list[RunRow]]:
    done: list[RunRow] = []

    async def finished(row: RunRow) -> None:
        done.append(row)

    return ReportSchedule(here.runs, clock=here.clock, catch_up=WEEK, publish=publish, finished=finished), done


def rename(file: Path, before: str, after: str) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(f"ALTER TABLE {before} RENAME TO {after}")


async def days(store: Store) -> list[tuple[str, RunState]]:
    rows = await store.read(lambda work: work.reports.listed("R1", 100))
    return [(row.first_day.isoformat(), row.state) for row in rows]


async def test_each_period_once(tmp_path: Path, store: Store, clock: Hand) -> None:
    async with bed(tmp_path, store, clock, more=SCHEDULE) as here:
        work, done = schedule(here, publish=True)
        assert [await work.tick() for _ in range(3)] == [1, 0, 0]
        clock.advance(hours=21)  # 06:00 of the next day
        assert await work.tick() == 0
        clock.advance(minutes=31)
        assert await work.tick() == 1
        assert [(row.first_day.day, row.rows, row.origin, row.push_state) for row in done] == [
            (22, 3, RunOrigin.SCHEDULE, PushState.PENDING),
            (23, 0, RunOrigin.SCHEDULE, PushState.PENDING),
        ]


async def test_another_agent_does_not_run_it_again(tmp_path: Path, store: Store, clock: Hand) -> None:
    async with (
        bed(tmp_path, store, clock, more=SCHEDULE) as one,
        bed(tmp_path, store, clock, more=SCHEDULE, owner="agent-2") as two,
    ):
        assert await schedule(one)[0].tick() == 1
        assert await schedule(two)[0].tick() == 0
        assert len(await days(store)) == 1


async def test_after_downtime_the_missed_days_are_run_oldest_first(tmp_path: Path, store: Store, clock: Hand) -> None:
    async with bed(tmp_path, store, clock, more=SCHEDULE) as here:
        work, done = schedule(here)
        await work.tick()
        clock.advance(days=3)
        assert await work.tick() == 3
        clock.advance(days=30)
        assert await work.tick() == 7
        assert [row.first_day.isoformat()[5:] for row in done[:5]] == ["11-22", "11-23", "11-24", "11-25", "12-19"]


async def test_quiet_hours_put_it_off(tmp_path: Path, store: Store, clock: Hand) -> None:
    more = f'{SCHEDULE}\nquiet_hours = ["07:30-11:30"]'
    async with bed(tmp_path, store, clock, more=more) as here:
        work, _ = schedule(here)
        assert await work.tick() == 0
        assert len(await work.waiting()) == 1
        clock.now = datetime(2026, 11, 23, 3, 30, tzinfo=UTC)
        assert await work.tick() == 1


async def test_a_failed_period_is_run_again_and_the_next_day_does_not_wait(
    tmp_path: Path, store: Store, clock: Hand
) -> None:
    async with bed(tmp_path, store, clock, more=SCHEDULE) as here:
        work, done = schedule(here)
        rename(here.file, "t", "hidden")
        assert await work.tick() == 0
        assert await work.tick() == 0
        assert await days(store) == [("2026-11-22", RunState.FAILED)]
        rename(here.file, "hidden", "t")
        clock.advance(minutes=61)
        assert await work.tick() == 1
        assert (done[0].attempt, done[0].state) == (2, RunState.DONE)
        rename(here.file, "t", "hidden")
        clock.advance(days=1)
        await work.tick()
        rename(here.file, "hidden", "t")
        clock.advance(days=1)
        assert await work.tick() == 2


async def test_what_failed_for_longer_than_the_catch_up_is_given_up(tmp_path: Path, store: Store, clock: Hand) -> None:
    async with bed(tmp_path, store, clock, more=SCHEDULE) as here:
        work, _ = schedule(here)
        rename(here.file, "t", "hidden")
        await work.tick()
        clock.advance(days=10)
        await work.tick()
        rows = await store.read(lambda work: work.reports.listed("R1", 100))
        first = next(row for row in rows if row.first_day.day == 22)
        assert (first.state, first.next_time) == (RunState.FAILED, None)


async def test_an_interrupted_run_is_finished_after_the_restart(tmp_path: Path, store: Store, clock: Hand) -> None:
    async with bed(tmp_path, store, clock, more=SCHEDULE) as here:
        work, done = schedule(here)
        await work.tick()
        await store.write(lambda w: w.reports.put(replace(done[0], state=RunState.RUNNING, owner="dead")))
        assert await work.tick() == 1
        assert (done[1].run_id, done[1].attempt, done[1].owner) == (done[0].run_id, 2, "agent-1")
        assert len(await here.values(done[1])) == 3


async def test_a_month(tmp_path: Path, store: Store, clock: Hand) -> None:
    clock.now = datetime(2026, 12, 1, 0, 0, tzinfo=UTC)
    async with bed(tmp_path, store, clock, more='schedule = "0 5 1 * *"\nperiod = "month"') as here:
        work, done = schedule(here)
        assert await work.tick() == 1
        assert (done[0].slot, done[0].rows) == ("R1/2026-11", 3)
        clock.now = datetime(2027, 1, 20, 0, 0, tzinfo=UTC)  # away around the first of January
        assert await work.tick() == 1
        assert done[1].slot == "R1/2026-12"


async def test_without_a_schedule_nothing_runs_by_itself(tmp_path: Path, store: Store, clock: Hand) -> None:
    async with bed(tmp_path, store, clock) as here:
        assert await schedule(here)[0].tick() == 0


async def test_the_platform_is_told_once_of_each_period(tmp_path: Path, store: Store, clock: Hand) -> None:
    told: list[int] = []
    outbox = Outbox(store, clock)
    outbox.subscribe(lambda: told.append(1))
    async with bed(tmp_path, store, clock, more=SCHEDULE) as here:
        here.runs._ready = ReportReady("H1", outbox.appended)
        work, done = schedule(here)
        rename(here.file, "t", "hidden")
        await work.tick()
        assert await outbox.read_after(0) == [], "a failed run cannot be read"
        rename(here.file, "hidden", "t")
        clock.advance(minutes=61)
        assert [await work.tick() for _ in range(3)] == [1, 0, 0]
        await here.run()  # a person's run is no news
        clock.advance(days=1)
        await work.tick()
        first, second = await outbox.read_after(0)
        assert len(told) == 2
    assert first.event_id != second.event_id
    assert (first.kind, first.subject) == (event_pb2.EVENT_KIND_REPORT_READY, common_pb2.SUBJECT_REPORT)
    assert (first.site, first.stream, first.order_no) == ("H1", "reports", "")
    report = first.report
    assert (report.name, report.run_id, report.row_count) == ("R1", done[0].run_id, 3)
    assert [report.from_date.day, report.to_date.day, second.report.to_date.day] == [22, 22, 23]
    assert report.checksum == done[0].checksum
    assert first.mapping_revision == done[0].mapping_revision
    assert first.occurred_time.ToDatetime(UTC) == done[0].finished_time


async def test_what_cannot_be_told_is_not_done(tmp_path: Path, store: Store, clock: Hand) -> None:
    """Row and event are one unit."""
    async with bed(tmp_path, store, clock, more=SCHEDULE) as here:
        here.runs._ready = ReportReady("H1", lambda: None)
        write = here.runs._done

        def cut(work: Transaction, *arguments: Any) -> RunRow:
            write(work, *arguments)
            raise StoreUnavailable("the disk is full")

        here.runs._done = cut  # type: ignore[method-assign]
        with pytest.raises(StoreUnavailable):
            await schedule(here)[0].tick()
        assert await days(store) == [("2026-11-22", RunState.FAILED)]
        assert await Outbox(store, clock).read_after(0) == []
