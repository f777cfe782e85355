"""Rows of a run out to a real relay over mutual TLS: whole, once, and on from where they were cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest
from his160.sandbox.v1 import sandbox_pb2
from his160.v1 import relay_pb2

from agent.link.relay_link import RelayLinks
from agent.link.report_stream import ReportPusher
from agent.sandbox.report_store import ReportStore
from sync.audit import Audit
from sync.report_book import PushState, RunRow
from sync.report_pages import PAGE_ROWS
from sync.store import Store, open_store
from tests.bounds import until
from tests.unit.link.bench import SITE, Bench
from tests.unit.reports.bench import Hand, bed, make_his

ROWS = 5 * PAGE_ROWS + 1


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
async def store(tmp_path: Path, clock: Hand) -> AsyncIterator[Store]:
    opened = open_store(tmp_path / "state.db", clock)
    yield opened
    await opened.close()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def a_run(folder: Path, store: Store, clock: Hand, count: int = ROWS) -> RunRow:
    many = [("20261122", None, f"第{n}行", n, n / 100, None) for n in range(count)]
    async with bed(folder, store, clock, make=lambda path: make_his(path, many)) as here:
        return await here.run(publish=True)


def at_relay(bench: Bench, run_id: str) -> relay_pb2.PublishReportResponse:
    """What a relay that is started anew finds in its folder."""
    place = bench.settings.store
    return ReportStore(place.with_name(f"{place.name}.reports") / SITE).take(
        relay_pb2.PublishReportRequest(run_id=run_id)
    )


async def kept(store: Store, run_id: str) -> RunRow:
    row = await store.read(lambda work: work.reports.get(run_id))
    assert row is not None
    return row


def pusher(links: Any, store: Store, clock: Hand) -> ReportPusher:
    return ReportPusher(
        links, store, clock=clock, audit=Audit(store, clock, instance="a"), patience=timedelta(seconds=5)
    )


@pytest.mark.parametrize("count", [0, 1, ROWS])
async def test_a_run_reaches_the_relay_once(
    tmp_path: Path, bench: Bench, store: Store, clock: Hand, count: int
) -> None:
    run = await a_run(tmp_path, store, clock, count)
    async with bench.sandbox() as sandbox, bench.links(bench.link(sandbox.listen)) as links:
        push = pusher(links, store, clock)
        assert [await push.push(), await push.push()] == [1, 0]
    answer = at_relay(bench, run.run_id)
    assert (answer.rows, answer.complete) == (count, True)
    row = await kept(store, run.run_id)
    assert (row.push_state, row.pushed_rows, row.push_time) == (PushState.DONE, count, None)
    audited = await store.read(lambda work: work.audit.after(0, 10))
    assert [(each.entry.action, each.entry.target) for each in audited] == [("report.publish", run.run_id)]


async def test_a_cut_upload_goes_on(tmp_path: Path, bench: Bench, store: Store, clock: Hand) -> None:
    run = await a_run(tmp_path, store, clock)
    async with bench.sandbox() as sandbox, bench.links(bench.link(sandbox.listen)) as links:
        push, loop = pusher(links, store, clock), asyncio.get_running_loop()
        reports = sandbox._report_store(SITE)
        take, taken = reports.take, []

        def cutting(chunk: relay_pb2.PublishReportRequest) -> relay_pb2.PublishReportResponse:
            answer = take(chunk)
            taken.append(len(chunk.page.rows))
            if len(taken) == 3:
                loop.call_soon_threadsafe(sandbox.faults.set, sandbox_pb2.SetFaultRequest(cut=True))
            return answer

        reports.take = cutting  # type: ignore[method-assign]
        assert await push.push() == 0
        row = await kept(store, run.run_id)
        assert (row.push_state, row.push_attempts) == (PushState.PENDING, 1)
        await until(lambda: not links.connected())  # the upload may hear of the cut before the link does
        sandbox.faults.set(sandbox_pb2.SetFaultRequest())
        await until(lambda: bool(links.connected()))
        assert await push.push() == 0, "not before its time"
        clock.advance(minutes=1)
        before = sum(taken)
        assert before >= PAGE_ROWS
        assert await push.push() == 1
        assert sum(taken) == ROWS
    assert at_relay(bench, run.run_id).complete


async def test_a_link_that_closes_before_the_upload_begins_is_a_cut(
    tmp_path: Path, bench: Bench, store: Store, clock: Hand
) -> None:
    """It dials again between two runs, or while the store is asked what is due."""
    run = await a_run(tmp_path, store, clock, 10)
    channel = grpc.aio.insecure_channel("127.0.0.1:1")
    await channel.close()
    links = SimpleNamespace(connected=lambda: [SimpleNamespace(channel=channel)])
    assert await pusher(cast("RelayLinks", links), store, clock).push() == 0
    row = await kept(store, run.run_id)
    assert (row.push_state, row.push_attempts) == (PushState.PENDING, 1)


async def test_a_relay_that_lost_the_rows_gets_them_anew(
    tmp_path: Path, bench: Bench, store: Store, clock: Hand
) -> None:
    run = await a_run(tmp_path, store, clock, 10)
    async with bench.sandbox() as sandbox, bench.links(bench.link(sandbox.listen)) as links:
        reports = sandbox._report_store(SITE)
        other = relay_pb2.PublishReportRequest(run_id=run.run_id)
        other.page.rows.add().values.add(text="of another time")
        reports.take(other)
        push = pusher(links, store, clock)
        assert await push.push() == 0, "the checksum cannot hold"
        clock.advance(minutes=1)
        assert await push.push() == 1
    assert at_relay(bench, run.run_id).rows == 10


async def test_without_a_link_everything_waits(tmp_path: Path, bench: Bench, store: Store, clock: Hand) -> None:
    run = await a_run(tmp_path, store, clock, 1)
    async with bench.links(bench.link("127.0.0.1:1"), wait=False) as links:
        assert await pusher(links, store, clock).push() == 0
    assert (await kept(store, run.run_id)).push_attempts == 0
