"""Runs of reports in every kind of state store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sync.report_book import FileState, PageRow, PushState, RunOrigin, RunRow, RunState
from sync.report_schedule import ReportSchedule
from sync.store import Store, StoreError, open_store
from tests.unit.reports.bench import VALUES, Bed, Hand, bed

NOW = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)
DAY = date(2026, 11, 22)


def run(run_id: str, **changes: Any) -> RunRow:
    row = RunRow(run_id, "R1", run_id, DAY, DAY, RunOrigin.SCHEDULE, RunState.DONE, "agent-1", NOW)
    return replace(row, **changes)


@pytest.fixture
async def store(store_place: str) -> AsyncIterator[Store]:
    opened = open_store(store_place, lambda: NOW)
    yield opened
    await opened.close()


async def put(store: Store, *rows: RunRow) -> None:
    await store.write(lambda work: [work.reports.put(row) for row in rows])


async def test_a_run_comes_back_as_it_went(store: Store) -> None:
    row = run(
        "a",
        finished_time=NOW,
        next_time=NOW + timedelta(microseconds=1),
        rows=2**40,
        input_hash=bytes(range(32)),
        checksum=b"\xff" * 32,
        mapping_revision="abc",
        definition=b"\x00",
        detail="映射",
        push_state=PushState.PENDING,
        pushed_rows=7,
        push_attempts=2,
        push_time=NOW,
    )
    await put(store, row)
    assert await store.read(lambda work: work.reports.get("a")) == row
    changed = replace(row, state=RunState.FAILED, attempt=2)
    await put(store, changed)
    assert await store.read(lambda work: work.reports.of_slot("a")) == changed


async def test_a_slot_exists_once(store: Store) -> None:
    await put(store, run("a", slot="R1/2026-11-22"))
    with pytest.raises(StoreError):
        await put(store, run("b", slot="R1/2026-11-22"))
    assert await store.read(lambda work: work.reports.get("b")) is None


async def test_pages(store: Store) -> None:
    pages = [PageRow("a", 0, 10, b"one"), PageRow("a", 10, 5, b"two"), PageRow("b", 0, 1, b"other")]
    await store.write(lambda work: [work.reports.add_page(page) for page in pages])

    async def at(run_id: str, row: int) -> PageRow | None:
        return await store.read(lambda work: work.reports.page_at(run_id, row))

    assert await asyncio.gather(at("a", 0), at("a", 9), at("a", 10), at("a", 14)) == [pages[0]] * 2 + [pages[1]] * 2
    assert [await at("a", 15), await at("b", 1), await at("c", 0)] == [None] * 3
    await store.write(lambda work: work.reports.drop_pages("a"))
    assert [await at("a", 0), await at("b", 0)] == [None, pages[2]]


async def test_looking_for_runs(store: Store) -> None:
    later = NOW + timedelta(hours=1)
    yesterday = DAY - timedelta(days=1)
    await put(
        store,
        run("a", finished_time=NOW),
        run("b", finished_time=later, begun_time=later, origin=RunOrigin.RELAY),
        run("c", first_day=yesterday, last_day=yesterday, state=RunState.FAILED, next_time=later),
        run("d", first_day=yesterday, last_day=yesterday, state=RunState.FAILED),
        run("e", report="R2", state=RunState.RUNNING, push_state=PushState.PENDING, push_time=later),
        run("f", report="R2", push_state=PushState.PENDING, push_time=NOW),
    )

    async def ids(look: Any) -> list[str]:
        found = await store.read(look)
        return [row.run_id for row in (found if isinstance(found, list) else [found]) if row is not None]

    assert await ids(lambda work: work.reports.newest_done("R1", DAY, DAY)) == ["b"]
    assert await ids(lambda work: work.reports.newest_done("R1", yesterday, yesterday)) == []
    assert await ids(lambda work: work.reports.newest_scheduled("R1")) == ["a"]
    assert await ids(lambda work: work.reports.newest_scheduled("R9")) == []
    assert await ids(lambda work: work.reports.unfinished()) == ["c", "e"]
    assert await ids(lambda work: work.reports.to_push(NOW, 10)) == ["f"]
    assert await ids(lambda work: work.reports.to_push(later, 10)) == ["f", "e"]
    assert await ids(lambda work: work.reports.to_file(10)) == []
    assert await ids(lambda work: work.reports.listed("R1", 2)) == ["d", "b"]
    assert len(await ids(lambda work: work.reports.listed("", 10))) == 6
    assert await store.write(lambda work: work.reports.prune(later, 3)) == 3
    assert await store.write(lambda work: work.reports.prune(later, 10)) == 2
    assert await ids(lambda work: work.reports.listed("", 10)) == ["b"]


async def test_files_that_are_wanted(store: Store) -> None:
    later = NOW + timedelta(seconds=1)
    await put(
        store,
        run("a", finished_time=later, file_state=FileState.PENDING),
        run("b", finished_time=NOW, file_state=FileState.PENDING),
        run("c", finished_time=NOW, file_state=FileState.DONE),
        run("d", state=RunState.RUNNING, file_state=FileState.PENDING),
    )

    async def waiting() -> list[str]:
        return [row.run_id for row in await store.read(lambda work: work.reports.to_file(10))]

    assert await waiting() == ["b", "a"]
    await store.write(lambda work: work.reports.filed("b"))
    assert await waiting() == ["a"]


async def test_two_agents_at_once_leave_one_whole_run(store_place: str, tmp_path: Path) -> None:
    """Even without the lease that keeps the second one from looking at all."""
    clock = Hand()
    stores = [open_store(store_place, clock, exclusive=False) for _ in range(2)]
    more = 'schedule = "30 6 * * *"'
    try:
        async with (
            bed(tmp_path, stores[0], clock, more=more) as one,
            bed(tmp_path, stores[1], clock, more=more, owner="agent-2") as two,
        ):

            async def tick(here: Bed) -> int:
                done: list[RunRow] = []

                async def finished(row: RunRow) -> None:
                    done.append(row)

                week = timedelta(days=7)
                await ReportSchedule(here.runs, clock=clock, catch_up=week, publish=False, finished=finished).tick()
                return len(done)

            assert sum(await asyncio.gather(tick(one), tick(two))) in (1, 2)  # the second may be told of the first's
            assert await asyncio.gather(tick(one), tick(two)) == [0, 0]
            (row,) = await stores[0].read(lambda work: work.reports.listed("R1", 10))
            assert (row.state, row.slot) == (RunState.DONE, "R1/2026-11-22")
            assert await one.values(row) == await two.values(row) == VALUES
    finally:
        for each in stores:
            await each.close()
