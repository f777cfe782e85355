"""Calls over the link while a report stream is stalled: a relay that opens PublishReport and reads nothing more.

The stream runs on the link's own channel, so it shares a connection with the calls. Two links to two relays carry the same
calls at the same time, one of them beside a stalled stream, and change places: what the machine does meanwhile hits both
alike. (In turn instead of at once, the same thing twice gave ratios from 0.95 to 1.45 on a busy machine.) A round begins when
the stream stands; what it costs to fill the windows of HTTP/2 is not in it. The report is larger than these.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

from his160.v1 import report_pb2

from agent.bench_pki import BenchPki
from agent.demo.site import SITE
from agent.link.relay_link import RelayLinks
from agent.link.report_stream import ReportPusher
from sync.audit import Audit
from sync.clock import utc_now
from sync.report_book import PageRow, PushState, RunOrigin, RunRow, RunState
from sync.store import Store, Transaction, open_store
from tests.bench.draining import linked
from tests.bench.figures import Figure, against, percentile
from tests.bench.load import Caller, Sample, Target

GROUP: Final = "calls over the relay link beside a stalled report"
IN_FLIGHT: Final = 4
_RUN: Final = "bench-report"
_LONG: Final = timedelta(minutes=10)


async def measure(
    pki: BenchPki,
    folder: Path,
    addresses: Sequence[Mapping[str, str]],
    hears: Callable[[bool], None],
    seconds: float,
    rounds: int,
    *,
    pages: int = 80,
    settle: float = 0.4,
) -> list[Figure]:
    """``addresses``: of two relays. ``hears(False)`` makes them deaf for reports.

    Raises AssertionError when the report was not stalled.
    """
    folder.mkdir(parents=True)
    store = open_store(folder / "state.db", utc_now)
    metadata = (("his160-site", SITE),)
    callers = [Caller(Target("relay link", place["control"], metadata=metadata)) for place in addresses]
    times: dict[bool, list[float]] = {True: [], False: []}
    try:
        await keep_report(store, pages)
        async with linked(pki, addresses[0]["relay"]) as one, linked(pki, addresses[1]["relay"]) as other:
            await _both(callers, min(seconds, 0.3))
            for number in range(rounds):
                async with stalled((one, other)[number % 2], store, hears):
                    await asyncio.sleep(settle)
                    samples = await _both(callers, seconds)
                for at, sample in enumerate(samples):
                    times[at == number % 2] += sample.times
            await heard(one, store)
    finally:
        for caller in callers:
            await caller.close()
        await store.close()
    return [_figure(times, share) for share in (0.5, 0.99)]


async def _both(callers: Sequence[Caller], seconds: float) -> list[Sample]:
    work = [caller.run_for("AgentService.GetInfo", b"", IN_FLIGHT, seconds) for caller in callers]
    return await asyncio.gather(*work)


def _figure(times: Mapping[bool, list[float]], share: float) -> Figure:
    with_it, without = (percentile(times[side], share) * 1000 for side in (True, False))
    base = (against("a link without it, at the same time", with_it, without),)
    more = {"calls": float(len(times[True]))}
    return Figure(GROUP, f"call p{share * 100:.0f}", with_it, "ms", {"in flight": IN_FLIGHT}, base, more)


@asynccontextmanager
async def stalled(links: RelayLinks, store: Store, hears: Callable[[bool], None]) -> AsyncIterator[None]:
    """A push under way to a relay that does not read. Raises AssertionError if it should come to an end."""
    hears(False)
    push = asyncio.ensure_future(pusher(links, store).push())
    try:
        yield
        if push.done():
            raise AssertionError("the report was not stalled")
    finally:
        push.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await push
        hears(True)


async def heard(links: RelayLinks, store: Store) -> None:
    """Once the relay reads again, the same run arrives whole. Raises AssertionError."""
    if await pusher(links, store).push() != 1:
        raise AssertionError("the stalled report did not arrive")


def pusher(links: RelayLinks, store: Store) -> ReportPusher:
    """With the patience of a relay that is only slow."""
    return ReportPusher(links, store, clock=utc_now, audit=Audit(store, utc_now), patience=_LONG)


async def keep_report(store: Store, pages: int) -> None:
    """A run that is done and waits to be sent: ``pages`` of 1000 rows, some 120 KB each on the wire."""
    now = datetime.now(UTC)
    texts = ("心血管内科门诊" * 4, "T160440305160000000000")
    row = report_pb2.ReportRow(values=[report_pb2.ReportValue(text=text) for text in texts])
    page = report_pb2.ReadReportResponse(rows=[row] * 1000).SerializeToString()
    digest = hashlib.sha256(row.SerializeToString() * 1000 * pages)
    run = RunRow(
        _RUN, "R1", _RUN, date(2026, 11, 22), date(2026, 11, 22), RunOrigin.PERSON, RunState.DONE, "bench", now,
        rows=1000 * pages, checksum=digest.digest(), push_state=PushState.PENDING, push_time=now,
    )  # fmt: skip

    def unit(work: Transaction) -> None:
        work.reports.put(run)
        for number in range(pages):
            work.reports.add_page(PageRow(_RUN, number * 1000, 1000, zlib.compress(page, 1)))

    await store.write(unit)
