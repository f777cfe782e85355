"""A run on a real HIS and a real store: claimed once, whole or not at all, explained afterwards."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path

import pytest

from his_db.errors import AnswerTooLarge, DeadlinePassed, HisChanged, MappingMismatch, SwitchedOff
from sync.report_book import PushState, RunOrigin, RunRow, RunState
from sync.report_pages import PAGE_ROWS, Spool, kept_pages
from sync.report_periods import Period
from sync.report_runs import NoSuchReport, RunBusy, RunOrder, slot_of
from sync.store import Store, StoreCorrupt, open_store
from tests.unit.reports.bench import DAY, PERIOD, ROWS, VALUES, Bed, Hand, bed, make_his

SLOT = slot_of("R1", PERIOD)


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
async def store(tmp_path: Path, clock: Hand) -> AsyncIterator[Store]:
    opened = open_store(tmp_path / "state.db", clock)
    yield opened
    await opened.close()


@pytest.fixture
async def here(tmp_path: Path, store: Store, clock: Hand) -> AsyncIterator[Bed]:
    async with bed(tmp_path, store, clock) as found:
        yield found


def write(file: Path, sql: str) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(sql)


async def test_values_are_kept_with_what_explains_them(here: Bed) -> None:
    row = await here.run()
    assert await here.values(row) == VALUES
    kept = await here.runs.store.read(lambda work: work.reports.get(row.run_id))
    assert kept == row
    assert (row.state, row.rows, row.first_day, row.last_day) == (RunState.DONE, 3, DAY, DAY)
    assert row.mapping_revision
    assert row.checksum == hashlib.sha256(b"".join([r async for r in rows_of(here, row)])).digest()
    assert here.report.definition.SerializeToString() == row.definition
    assert not list((here.file.parent / "spool").iterdir())


async def rows_of(here: Bed, row: RunRow) -> AsyncIterator[bytes]:
    async for _, page in kept_pages(here.runs.store, row):
        for each in page:
            yield each


async def test_the_input_hash_tells_whether_the_his_says_the_same(here: Bed) -> None:
    first, second = await here.run(), await here.run()
    assert first.run_id != second.run_id
    assert first.input_hash == second.input_hash
    write(here.file, "UPDATE t SET je = 12.500000001 WHERE mc = '内科'")  # the same fen, another value
    third = await here.run()
    assert third.input_hash != first.input_hash
    assert third.checksum == first.checksum


async def test_days_without_rows_make_an_empty_run(here: Bed) -> None:
    row = await here.run(Period(date(2020, 1, 1), date(2020, 1, 31)))
    assert (row.state, row.rows) == (RunState.DONE, 0)
    assert await here.values(row) == []


async def test_pages_are_cut_and_a_reader_may_begin_anywhere(tmp_path: Path, store: Store, clock: Hand) -> None:
    many = [("20261122", None, f"第{n}行", n, n / 100, None) for n in range(9 * PAGE_ROWS + 7)]
    async with bed(tmp_path, store, clock, make=lambda path: make_his(path, many)) as here:
        row = await here.run()
        assert [values[3] for values in await here.values(row)] == list(range(len(many)))
        for first in (0, 1, PAGE_ROWS - 1, PAGE_ROWS, len(many) - 1, len(many)):
            assert [values[3] for values in await here.values(row, first)] == list(range(first, len(many)))
        await store.write(lambda work: work.reports.drop_pages(row.run_id))
        with pytest.raises(StoreCorrupt):
            await here.values(row)


async def test_a_slot_is_run_once(here: Bed) -> None:
    first = await here.run(slot=SLOT)
    write(here.file, "DELETE FROM t")
    assert await here.run(slot=SLOT) == first
    assert (await here.run()).rows == 0


async def test_two_at_once_in_one_process_are_one_run(here: Bed) -> None:
    done = await asyncio.gather(here.run(slot=SLOT), here.run(slot=SLOT), return_exceptions=True)
    assert sorted(type(each).__name__ for each in done) == ["RunBusy", "RunRow"]


async def test_a_run_of_a_dead_process_is_taken_over_and_the_dead_one_cannot_finish(
    tmp_path: Path, store: Store, clock: Hand
) -> None:
    async with bed(tmp_path, store, clock) as dead, bed(tmp_path, store, clock, owner="agent-2") as other:
        gate, order = asyncio.Event(), RunOrder("R1", PERIOD, RunOrigin.SCHEDULE, slot=SLOT)
        read = dead.his.read_report

        async def slow(*arguments: object, **more: object) -> object:
            found = await read(*arguments, **more)  # type: ignore[arg-type]
            await gate.wait()
            return found

        dead.his.read_report = slow  # type: ignore[method-assign,assignment]
        first = asyncio.ensure_future(dead.runs.run(order))
        while await store.read(lambda work: work.reports.of_slot(SLOT)) is None:
            await asyncio.sleep(0)
        taken = await other.runs.run(order)
        gate.set()
        with pytest.raises(RunBusy):
            await first
        kept = await store.read(lambda work: work.reports.of_slot(SLOT))
        assert kept == taken
        assert (kept.owner, kept.attempt, kept.state) == ("agent-2", 2, RunState.DONE)
        assert await other.values(kept) == VALUES


async def test_a_failure_is_kept_without_values_and_tried_again_later(here: Bed, clock: Hand) -> None:
    write(here.file, "UPDATE t SET rs = '林某某' WHERE mc = '内科'")
    with pytest.raises(MappingMismatch, match="field rs, column rs: str value") as caught:
        await here.run(slot=SLOT)
    assert "林某某" not in str(caught.value)
    row = await here.runs.store.read(lambda work: work.reports.of_slot(SLOT))
    assert row is not None
    assert (row.state, row.next_time) == (RunState.FAILED, clock.now + timedelta(hours=1))
    assert "林某某" not in row.detail
    assert "column rs" in row.detail
    write(here.file, "UPDATE t SET rs = 2 WHERE mc = '内科'")
    again = await here.run(slot=SLOT)
    assert (again.run_id, again.attempt, again.rows) == (row.run_id, 2, 3)


async def test_waits_grow_and_end(here: Bed, clock: Hand) -> None:
    write(here.file, "ALTER TABLE t RENAME TO gone")
    waits = []
    for _ in range(3):
        with pytest.raises(HisChanged):
            await here.run(slot=SLOT)
        row = await here.runs.store.read(lambda work: work.reports.of_slot(SLOT))
        assert row is not None
        assert row.next_time is not None
        waits.append(row.next_time - clock.now)
    assert waits == [timedelta(hours=1)] * 3


async def test_too_many_rows_are_refused_not_cut(tmp_path: Path, store: Store, clock: Hand) -> None:
    async with bed(tmp_path, store, clock, more="max_rows = 2") as here:
        with pytest.raises(AnswerTooLarge, match="max_rows = 2"):
            await here.run()
        row = (await store.read(lambda work: work.reports.listed("R1", 5)))[0]
        assert (row.state, row.next_time) == (RunState.FAILED, None)
        assert await store.read(lambda work: work.reports.page_at(row.run_id, 0)) is None


async def test_a_report_that_nobody_mapped(here: Bed) -> None:
    with pytest.raises(NoSuchReport):
        await here.runs.run(RunOrder("R99", PERIOD, RunOrigin.PERSON))
    assert await here.runs.store.read(lambda work: work.reports.listed("", 5)) == []


async def test_who_has_gone_stops_the_reading(here: Bed) -> None:
    spool = Spool(here.file.parent)
    with pytest.raises(DeadlinePassed):
        await here.his.read_report(here.report, (DAY, DAY), spool, stopped=lambda: True)
    spool.close()


async def test_reports_can_be_switched_off(tmp_path: Path, store: Store, clock: Hand) -> None:
    async with bed(tmp_path, store, clock) as here:
        here.his._switched_off = lambda name: "维护" if name == "ReportService.ReadReport" else None
        with pytest.raises(SwitchedOff):
            await here.run()


async def test_published_runs_wait_for_the_relay(here: Bed, clock: Hand) -> None:
    quiet, loud = await here.run(), await here.run(publish=True)
    assert (quiet.push_state, loud.push_state) == (PushState.NONE, PushState.PENDING)
    due = await here.runs.store.read(lambda work: work.reports.to_push(clock.now, 10))
    assert [row.run_id for row in due] == [loud.run_id]


async def test_old_runs_are_deleted_with_their_rows(here: Bed, clock: Hand) -> None:
    old = await here.run()
    clock.advance(days=2)
    young = await here.run()
    assert await here.runs.store.write(lambda work: work.reports.prune(clock.now - timedelta(days=1), 10)) == 1
    assert await here.runs.store.read(lambda work: work.reports.page_at(old.run_id, 0)) is None
    assert await here.values(young) == VALUES


def test_a_spool_that_begins_again_forgets(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.take([b"old"] * 1500)
    spool.begin()
    spool.take([b"new"])
    assert spool.rows == 1
    assert spool.checksum == hashlib.sha256(b"new").digest()
    assert [(page.first_row, page.rows) for page in spool.pages("run")] == [(0, 1)]
    spool.close()
    assert len(ROWS) == len(VALUES)
