"""RelayService as the sandbox serves it: attaches agents, takes events and reports."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import timedelta
from typing import Any, NoReturn

import grpc
from his160.v1 import event_pb2, relay_pb2, relay_pb2_grpc

from agent.link.errors import LinkBroken
from agent.link.session import OLDEST_REVISION
from agent.sandbox.agents import Agents, AnotherStore
from agent.sandbox.attached import AttachedAgent
from agent.sandbox.faults import Faults
from agent.sandbox.journal import EventJournal
from agent.sandbox.report_store import ChunkRefused, ReportStore
from agent.sandbox.streams import Context, ServerFrames, site_of_peer

log = logging.getLogger(__name__)

RETRY_AFTER = timedelta(seconds=1)

MakeAgent = Callable[[ServerFrames], AttachedAgent]


class SandboxRelay(relay_pb2_grpc.RelayServiceServicer):
    """The relay of the bench. Every stream asks for an agent's certificate, and ends when links are cut."""

    def __init__(
        self,
        agents: Agents,
        journal: EventJournal,
        reports: Callable[[str], ReportStore],
        faults: Faults,
        make_agent: MakeAgent = AttachedAgent,
    ) -> None:
        """``reports(site)``: the store of a site."""
        self._agents = agents
        self._journal = journal
        self._reports = reports
        self._faults = faults
        self._make_agent = make_agent
        self._storing = asyncio.Lock()

    async def Attach(  # type: ignore[override]  # read and write on the context instead of a generator
        self, request_iterator: AsyncIterator[relay_pb2.AttachRequest], context: Context
    ) -> None:
        """Keep an agent until either side leaves."""
        await self._guarded(context, lambda site: self._attach(site, context))

    async def PublishEvents(  # type: ignore[override]  # as above
        self, request_iterator: AsyncIterator[relay_pb2.PublishEventsRequest], context: Context
    ) -> None:
        """Store events and answer with receipts."""
        await self._guarded(context, lambda site: self._take_events(site, context))

    async def PublishReport(
        self, request_iterator: AsyncIterator[relay_pb2.PublishReportRequest], context: Context
    ) -> relay_pb2.PublishReportResponse:
        """Store a report's chunks; a chunk without a page asks how far the run has come."""
        answer = relay_pb2.PublishReportResponse()

        async def take(site: str) -> None:
            store = self._reports(site)
            async for chunk in request_iterator:
                try:
                    async with self._storing:
                        answer.CopyFrom(await asyncio.to_thread(store.take, chunk))
                except ChunkRefused as error:
                    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))

        await self._guarded(context, take)
        return answer

    async def _guarded(self, context: Context, work: Callable[[str], Coroutine[Any, Any, None]]) -> None:
        """Do ``work(site)`` for an agent that may, until links are cut."""
        if self._faults.cut:
            await _refuse(context, grpc.StatusCode.UNAVAILABLE, "the sandbox plays a cut")
        site = site_of_peer(context)
        if site is None:
            await _refuse(context, grpc.StatusCode.PERMISSION_DENIED, "the certificate is not one of a site")
        working = asyncio.ensure_future(work(site))
        cut = asyncio.ensure_future(self._faults.wait_for_cut())
        try:
            await asyncio.wait((working, cut), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)
                await _refuse(context, grpc.StatusCode.UNAVAILABLE, "the sandbox plays a cut")
            await working
        except LinkBroken as error:
            log.info("stream of site %s: %s", site, error)
            await _refuse(context, grpc.StatusCode.UNAVAILABLE, str(error))
        finally:
            working.cancel()
            cut.cancel()
            await asyncio.gather(working, cut, return_exceptions=True)

    async def _attach(self, site: str, context: Context) -> None:
        agent = self._make_agent(ServerFrames(context))
        settings = await agent.greet()
        if settings.site != site:
            await _refuse(context, grpc.StatusCode.PERMISSION_DENIED, "the certificate is one of another site")
        if agent.revision < OLDEST_REVISION:
            await _refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "the revision is too old")
        try:
            self._agents.admit(agent)
        except AnotherStore as error:
            log.warning("site %s: instance %s is refused: %s", site, settings.instance, error)
            await _refuse(context, grpc.StatusCode.FAILED_PRECONDITION, str(error))
        log.info("site %s attached, instance %s", site, settings.instance)
        try:
            await agent.run()
        finally:
            self._agents.remove(agent)
            log.info("site %s left, instance %s", site, settings.instance)

    async def _take_events(self, site: str, context: Context) -> None:
        while isinstance(request := await context.read(), relay_pb2.PublishEventsRequest):
            receipts = await self._store(site, list(request.events))
            if self._faults.ack_delay:
                await asyncio.sleep(self._faults.ack_delay.total_seconds())
            if not self._faults.drops_receipt():
                await context.write(relay_pb2.PublishEventsResponse(receipts=receipts))

    async def _store(self, site: str, events: list[event_pb2.Event]) -> list[relay_pb2.EventReceipt]:
        kept: list[event_pb2.Event] = []
        receipts: list[relay_pb2.EventReceipt] = []
        for event in events:
            receipt = relay_pb2.EventReceipt(event_id=event.event_id)
            if not event.event_id or event.site != site:
                receipt.outcome = relay_pb2.EventReceipt.OUTCOME_REJECTED
                receipt.detail = "event_id is empty" if not event.event_id else "the event is one of another site"
            elif self._faults.retries_event():
                receipt.outcome = relay_pb2.EventReceipt.OUTCOME_RETRY
                receipt.retry_after.FromTimedelta(RETRY_AFTER)
            else:
                receipt.outcome = relay_pb2.EventReceipt.OUTCOME_STORED
                kept.append(event)
            receipts.append(receipt)
        if kept:
            await self._journal.add(kept)
        return receipts


async def _refuse(context: Context, code: grpc.StatusCode, text: str) -> NoReturn:
    await context.abort(code, text)
    raise AssertionError("abort raises")
