"""Kept runs out to the relay: PublishReport on the channel of a link that is up, resumed where the relay stopped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import grpc
from his160.v1 import relay_pb2, relay_pb2_grpc

from agent.link.channel import cancelled_by_peer
from agent.link.relay_link import RelayLinks
from sync.audit import Audit, as_json
from sync.clock import Clock
from sync.report_book import PushState, RunRow
from sync.report_pages import responses
from sync.store import Store, Transaction

_LOG: Final = logging.getLogger(__name__)
_AT_ONCE: Final = 4
_PATIENCE: Final = timedelta(seconds=60)
_FIRST_AGAIN: Final = timedelta(seconds=15)
_LAST_AGAIN: Final = timedelta(minutes=30)
_PUBLISHED: Final = "report.publish"

Call = grpc.aio.StreamUnaryCall[relay_pb2.PublishReportRequest, relay_pb2.PublishReportResponse]


class _Cut(Exception):
    """The stream broke, or the relay refused. The text is a status code, without personal data."""


class ReportPusher:
    """``push`` sends what is due; what is cut goes on with the next call. ``patience``: for one chunk, one answer."""

    def __init__(
        self, links: RelayLinks, store: Store, *, clock: Clock, audit: Audit, patience: timedelta = _PATIENCE
    ) -> None:
        self._links = links
        self._store = store
        self._clock = clock
        self._audit = audit
        self._patience = patience.total_seconds()

    async def push(self) -> int:
        """Send runs that are due over a link that is up; how many the relay has now. Raises StoreError."""
        channel = next((link.channel for link in self._links.connected() if link.channel is not None), None)
        if channel is None:
            return 0
        done = 0
        due = await self._store.read(lambda work: work.reports.to_push(self._clock(), _AT_ONCE))
        for row in due:
            try:
                answer = await self._push(channel, row)
            except (_Cut, TimeoutError) as error:
                _LOG.info("report run %s: %s", row.run_id, error or "no answer in time")
                answer = None
            done += await self._keep(row, answer)
        return done

    async def _push(self, channel: grpc.aio.Channel, row: RunRow) -> relay_pb2.PublishReportResponse:
        stub: relay_pb2_grpc.RelayServiceAsyncStub = relay_pb2_grpc.RelayServiceStub(channel)
        has = await self._call(_opened(stub), _once(relay_pb2.PublishReportRequest(run_id=row.run_id)))
        if has.complete:
            return has
        return await self._call(_opened(stub), self._chunks(row, min(has.rows, row.rows)))

    async def _chunks(self, row: RunRow, first_row: int) -> AsyncIterator[relay_pb2.PublishReportRequest]:
        async for page, last in responses(self._store, row, first_row):
            yield relay_pb2.PublishReportRequest(run_id=row.run_id, first_row=page.first_row, page=page, last=last)

    async def _call(
        self, call: Call, chunks: AsyncIterator[relay_pb2.PublishReportRequest]
    ) -> relay_pb2.PublishReportResponse:
        try:
            async for chunk in chunks:
                async with asyncio.timeout(self._patience):
                    await call.write(chunk)
            await call.done_writing()
            async with asyncio.timeout(self._patience):
                return await call
        except grpc.aio.AioRpcError as error:
            raise _Cut(error.code().name) from None
        except (grpc.aio.BaseError, asyncio.InvalidStateError):
            raise _Cut(await _ending(call)) from None
        except asyncio.CancelledError:
            if cancelled_by_peer():
                raise _Cut("the relay cancelled the stream") from None
            raise
        finally:
            call.cancel()

    async def _keep(self, row: RunRow, answer: relay_pb2.PublishReportResponse | None) -> bool:
        now = self._clock()
        if answer is not None and answer.complete:
            entry = self._audit.entry(
                _PUBLISHED,
                target=row.run_id,
                result="DONE",
                parameters=as_json(report=row.report, rows=row.rows),
                mapping_revision=row.mapping_revision,
            )

            def unit(work: Transaction) -> None:
                _change(work, row, push_state=PushState.DONE, pushed_rows=row.rows, push_time=None)
                work.audit.append(entry, now)

            await self._store.write(unit)
            _LOG.info("report run %s: the relay has its %d rows", row.run_id, row.rows)
            return True
        attempts = row.push_attempts + 1
        wait = min(_FIRST_AGAIN * 2 ** min(attempts - 1, 10), _LAST_AGAIN)
        rows = row.pushed_rows if answer is None else answer.rows
        await self._store.write(
            lambda work: _change(work, row, push_attempts=attempts, pushed_rows=rows, push_time=now + wait)
        )
        return False


def _change(work: Transaction, row: RunRow, **values: Any) -> None:
    """In the row as it is now: its files may have been written while it was sent. One that was pruned stays away."""
    now = work.reports.get(row.run_id)
    if now is not None:
        work.reports.put(replace(now, **values))


def _opened(stub: relay_pb2_grpc.RelayServiceAsyncStub) -> Call:
    """A new stream. The link may have closed its channel since it was picked: that is a cut, too. Raises _Cut."""
    try:
        return stub.PublishReport()
    except grpc.aio.BaseError:
        raise _Cut("the link was closed") from None


async def _once(chunk: relay_pb2.PublishReportRequest) -> AsyncIterator[relay_pb2.PublishReportRequest]:
    yield chunk


async def _ending(call: Call) -> str:
    return (await call.code()).name if call.done() else "the stream is over"
