"""A file is there whole or not at all, and holds the rows as they were kept."""

from __future__ import annotations

import csv
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from sync.report_export import Exporter, file_name
from sync.store import Store, StoreCorrupt, open_store
from tests.unit.reports.bench import ZONE, Bed, Hand, bed


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = open_store(tmp_path / "state.db", Hand())
    yield opened
    await opened.close()


@pytest.fixture
async def here(tmp_path: Path, store: Store) -> AsyncIterator[Bed]:
    async with bed(tmp_path, store, Hand()) as found:
        yield found


def exporter(store: Store) -> Exporter:
    return Exporter(store, "示例医院", ZoneInfo(ZONE))


async def test_a_file_holds_what_was_kept_whatever_the_his_says_now(here: Bed, store: Store, tmp_path: Path) -> None:
    row = await here.run()
    with closing(sqlite3.connect(here.file)) as connection, connection:
        connection.execute("DELETE FROM t")
    path = tmp_path / "out" / file_name(row, "csv")
    await exporter(store).write(row, "csv", path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0] == ["日期", "时间", "名称", "人次", "金额", "率"]
    assert [line[2:5] for line in lines[1:]] == [["内科", "2", "12.50"], ["'=1+1", "1", "-8.00"], ["𠅤科", "", "0.00"]]
    assert path.name == "R1_2026-11-22.csv"
    assert exporter(store).head(row).read_time.isoformat() == "2026-11-23T09:00:00"


@pytest.mark.parametrize("format_name", ["csv", "xlsx"])
async def test_a_file_that_cannot_be_finished_leaves_the_old_one(
    here: Bed, store: Store, tmp_path: Path, format_name: str
) -> None:
    row = await here.run()
    folder = tmp_path / "out"
    folder.mkdir()
    path = folder / file_name(row, format_name)
    path.write_text("the old one", encoding="utf-8")
    await store.write(lambda work: work.reports.drop_pages(row.run_id))
    with pytest.raises(StoreCorrupt):
        await exporter(store).write(row, format_name, path)
    assert path.read_text(encoding="utf-8") == "the old one"
    assert [each.name for each in folder.iterdir()] == [path.name]


async def test_a_folder_that_is_a_file_is_an_oserror(here: Bed, store: Store, tmp_path: Path) -> None:
    row = await here.run()
    (tmp_path / "taken").write_text("", encoding="utf-8")
    with pytest.raises(OSError, match="taken"):
        await exporter(store).write(row, "xlsx", tmp_path / "taken" / "R1.xlsx")
