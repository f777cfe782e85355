from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest
from his160.v1 import relay_pb2, report_pb2

from agent.sandbox.journal import EventJournal, JournalDamaged
from agent.sandbox.report_store import ChunkRefused, ReportStore
from tests.bounds import PATIENCE
from tests.unit.link.bench import event


def journal(path: Path) -> EventJournal:
    return EventJournal(path, lambda: 1_700_000_000_000_000)


async def test_the_journal_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "events"
    first = journal(path)
    await first.add([event(1), event(2), event(1)])
    await first.add([event(2), event(3)])
    before = first.after(0, 10)
    first.close()
    second = journal(path)
    assert second.after(0, 10) == before
    assert [entry.arrivals for entry in before] == [2, 2, 1]
    assert [entry.position for entry in second.after(1, 1)] == [2]
    await second.add([event(3), event(4)])
    assert [entry.arrivals for entry in second.after(2, 10)] == [2, 1]
    assert second.after(3, 1)[0].position == 4
    second.close()


@pytest.mark.parametrize("cut", [1, 7, 8, 20])
async def test_a_torn_tail_is_cut_off(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "events"
    first = journal(path)
    await first.add([event(1)])
    size = path.stat().st_size
    await first.add([event(2)])
    first.close()
    path.write_bytes(path.read_bytes()[: size + cut])
    second = journal(path)
    assert len(second) == 1
    assert path.stat().st_size == size
    await second.add([event(2)])
    second.close()
    third = journal(path)
    assert len(third) == 2
    third.close()


async def test_zeros_at_the_end_are_a_torn_tail(tmp_path: Path) -> None:
    path = tmp_path / "events"
    first = journal(path)
    await first.add([event(1)])
    first.close()
    path.write_bytes(path.read_bytes() + bytes(4096))
    second = journal(path)
    assert len(second) == 1
    second.close()


async def test_damage_in_the_middle_is_told(tmp_path: Path) -> None:
    path = tmp_path / "events"
    first = journal(path)
    await first.add([event(1), event(2)])
    first.close()
    content = bytearray(path.read_bytes())
    content[12] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(JournalDamaged):
        journal(path)


async def test_waiting_for_an_event(tmp_path: Path) -> None:
    store = journal(tmp_path / "events")
    await store.add([event(1)])
    waiting = asyncio.create_task(store.wait_after(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    await store.add([event(2)])
    async with asyncio.timeout(PATIENCE):
        await waiting
    store.close()


def rows(first: int, number: int) -> report_pb2.ReadReportResponse:
    page = report_pb2.ReadReportResponse(first_row=first)
    for index in range(number):
        page.rows.add().values.add(number=first + index)
    return page


def checksum(*pages: report_pb2.ReadReportResponse) -> bytes:
    digest = hashlib.sha256()
    for page in pages:
        for row in page.rows:
            digest.update(row.SerializeToString(deterministic=True))
    return digest.digest()


def chunk(page: report_pb2.ReadReportResponse | None, *, last: bool = False) -> relay_pb2.PublishReportRequest:
    first = page.first_row if page is not None else 0
    return relay_pb2.PublishReportRequest(run_id="R1-20261101", first_row=first, page=page, last=last)


def test_a_report_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    store = ReportStore(tmp_path)
    assert store.take(chunk(rows(0, 3))).rows == 3
    with (tmp_path / "R1-20261101.pages").open("ab") as file:
        file.write(b"\0\0\1")  # torn by a power cut
    store = ReportStore(tmp_path)
    assert store.take(chunk(None)).rows == 3
    assert store.take(chunk(rows(0, 3))).rows == 3, "rows that are there are passed over"
    with pytest.raises(ChunkRefused):
        store.take(chunk(rows(5, 1)))
    with pytest.raises(ChunkRefused):
        store.take(chunk(rows(2, 3)))
    last = rows(3, 2)
    last.checksum = checksum(rows(0, 3), last)
    answer = store.take(chunk(last, last=True))
    assert (answer.rows, answer.complete) == (5, True)
    assert ReportStore(tmp_path).take(chunk(None)).complete


def test_a_wrong_checksum_begins_again(tmp_path: Path) -> None:
    store = ReportStore(tmp_path)
    page = rows(0, 2)
    page.checksum = b"wrong"
    with pytest.raises(ChunkRefused):
        store.take(chunk(page, last=True))
    assert store.take(chunk(None)).rows == 0


@pytest.mark.parametrize("run_id", ["", "../x", "a/b", ".x", "x" * 200])
def test_a_run_id_is_a_name(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(ChunkRefused):
        ReportStore(tmp_path).take(relay_pb2.PublishReportRequest(run_id=run_id, page=rows(0, 1)))
    assert list(tmp_path.iterdir()) == []
