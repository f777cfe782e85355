"""Files of scheduled runs: again after trouble, once when all is well."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from agent.config_report import ReportSettings
from agent.report_files import ReportFiles
from sync.report_book import FileState, RunRow
from sync.report_export import Exporter
from sync.store import Store, open_store
from tests.unit.reports.bench import ZONE, Bed, Hand, bed


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


@pytest.fixture
def files(tmp_path: Path, store: Store, clock: Hand) -> ReportFiles:
    settings = ReportSettings(enabled=True, folder=tmp_path / "reports", files=("csv",))
    return ReportFiles(settings, store, Exporter(store, "样例医院", ZoneInfo(ZONE)), clock)


async def states(store: Store) -> list[FileState]:
    return [row.file_state for row in await store.read(lambda work: work.reports.listed("", 100))]


async def test_a_missing_file_is_written_and_not_again(
    here: Bed, store: Store, files: ReportFiles, clock: Hand
) -> None:
    await here.run(files=True)
    clock.advance(seconds=1)  # runs are listed by their time
    await here.run()  # a person's: its file is that person's affair
    await files.look()
    (path,) = here.file.parent.glob("reports/*")
    assert path.name == "R1_2026-11-22.csv"
    assert await states(store) == [FileState.DONE, FileState.NONE]
    path.unlink()  # somebody has moved it: that is no trouble
    await files.look()
    assert not path.exists()


async def test_a_folder_that_cannot_be_written(here: Bed, store: Store, files: ReportFiles, clock: Hand) -> None:
    (here.file.parent / "reports").write_text("in the way", encoding="utf-8")
    first, second = await here.run(files=True), await here.run(files=True)
    await files.look()
    (state,) = files.states()
    assert state.name == "report-files"
    assert first.run_id in state.detail or second.run_id in state.detail
    assert "(2 runs)" in state.detail
    (here.file.parent / "reports").unlink()
    await files.look()
    assert await states(store) == [FileState.PENDING] * 2, "not before its time"
    clock.advance(seconds=31)
    await files.look()
    assert list(files.states()) == []
    assert await states(store) == [FileState.DONE] * 2


async def test_a_damaged_run_does_not_stop_the_others(here: Bed, store: Store, files: ReportFiles, clock: Hand) -> None:
    damaged = await here.run(files=True)
    clock.advance(seconds=1)
    await here.run(files=True)
    await store.write(lambda work: work.reports.drop_pages(damaged.run_id))
    await files.look()
    assert await states(store) == [FileState.PENDING, FileState.DONE]
    (state,) = files.states()
    assert damaged.run_id in state.detail
    assert not [name for name in os.listdir(here.file.parent / "reports") if name.endswith(".part")]
    await store.write(lambda work: work.reports.put(replace(damaged, file_state=FileState.NONE)))
    await files.look()
    assert list(files.states()) == []


async def test_without_formats_there_is_nothing_to_write(tmp_path: Path, here: Bed, store: Store, clock: Hand) -> None:
    """They were taken out of the configuration while a run waited."""
    row: RunRow = await here.run(files=True)
    settings = ReportSettings(enabled=True, folder=tmp_path / "reports", files=())
    none = ReportFiles(settings, store, Exporter(store, "样例医院", ZoneInfo(ZONE)), clock)
    assert not none.wanted
    await none.look()
    assert (await states(store), row.file_state) == ([FileState.DONE], FileState.PENDING)
