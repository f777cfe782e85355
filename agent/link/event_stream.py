"""Events out to the relay: the sink ``relay``, over PublishEvents on the channel of a link that is up."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

import grpc
from his160.v1 import event_pb2, relay_pb2, relay_pb2_grpc

from agent.link.channel import DETAIL_LENGTH, cancelled_by_peer
from agent.link.relay_link import RelayLink, RelayLinks
from sync.sink import Outcome, Receipt, SinkUnavailable

log = logging.getLogger(__name__)

Call = grpc.aio.StreamStreamCall[relay_pb2.PublishEventsRequest, relay_pb2.PublishEventsResponse]

RECEIPT_TIMEOUT = timedelta(seconds=30)
MAX_RETRY_SECONDS = 3600
"""A relay that asks for more patience is asked again after this."""


class _Stream:
    """One PublishEvents stream and the receipts that are awaited on it."""

    def __init__(self, link: RelayLink, channel: grpc.aio.Channel) -> None:
        self.link = link
        self._channel = channel
        self._call: Call = relay_pb2_grpc.RelayServiceStub(channel).PublishEvents()
        self._awaited: dict[str, list[asyncio.Future[relay_pb2.EventReceipt]]] = {}
        self._writing = asyncio.Lock()
        self._reader = asyncio.ensure_future(self._read())

    @property
    def usable(self) -> bool:
        """The stream stands, and so does the link it belongs to."""
        return not self._reader.done() and self.link.channel is self._channel

    async def exchange(self, events: Sequence[event_pb2.Event]) -> list[relay_pb2.EventReceipt]:
        """Send a batch and wait for all its receipts. Raises SinkUnavailable when the stream breaks."""
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in events]
        for event, future in zip(events, futures, strict=True):
            self._awaited.setdefault(event.event_id, []).append(future)
        try:
            async with self._writing:
                if self._reader.done():
                    raise SinkUnavailable("the event stream is over")
                await self._write(relay_pb2.PublishEventsRequest(events=events))
            return list(await asyncio.gather(*futures))
        finally:
            self._forget(zip(events, futures, strict=True))

    async def close(self) -> None:
        """End the stream; those who wait for receipts get SinkUnavailable."""
        self._call.cancel()
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(self._reader, return_exceptions=True)
        self._fail()

    def _forget(self, waiters: Iterable[tuple[event_pb2.Event, asyncio.Future[relay_pb2.EventReceipt]]]) -> None:
        for event, future in waiters:
            if future.done() and not future.cancelled():
                future.exception()  # looked at: one broken stream fails many futures
            future.cancel()
            waiting = self._awaited.get(event.event_id)
            if waiting is not None and future in waiting:
                waiting.remove(future)
                if not waiting:
                    del self._awaited[event.event_id]

    async def _write(self, request: relay_pb2.PublishEventsRequest) -> None:
        try:
            await self._call.write(request)
        except (grpc.aio.AioRpcError, grpc.aio.BaseError, asyncio.InvalidStateError) as error:
            raise SinkUnavailable(_words(error)) from None
        except asyncio.CancelledError:
            if cancelled_by_peer():
                raise SinkUnavailable("the relay cancelled the event stream") from None
            raise

    async def _read(self) -> None:
        try:
            while isinstance(answer := await self._call.read(), relay_pb2.PublishEventsResponse):
                for receipt in answer.receipts:
                    for future in self._awaited.pop(receipt.event_id, ()):
                        if not future.done():
                            future.set_result(receipt)
        except grpc.aio.AioRpcError as error:
            log.info("event stream to %s: %s", self.link.address, _words(error))
        except asyncio.CancelledError:
            if not cancelled_by_peer():
                raise
            log.info("event stream to %s: cancelled by the relay", self.link.address)
        finally:
            self._fail()

    def _fail(self) -> None:
        awaited, self._awaited = self._awaited, {}
        for futures in awaited.values():
            for future in futures:
                if not future.done():
                    future.set_exception(SinkUnavailable("the event stream broke"))


class RelaySink:
    """Sink over whichever link is up. Batches may be delivered concurrently."""

    name = "relay"

    def __init__(self, links: RelayLinks, *, receipt_timeout: timedelta = RECEIPT_TIMEOUT) -> None:
        """``receipt_timeout``: for all receipts of one batch."""
        self._links = links
        self._receipt_timeout = receipt_timeout
        self._stream: _Stream | None = None
        self._opening = asyncio.Lock()
        self._listeners: list[Callable[[], None]] = []
        links.on_connected(self._connected)

    def on_connected(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` each time a link is up: what waits can be delivered now. Must not block or raise."""
        self._listeners.append(listener)

    async def deliver(self, events: Sequence[event_pb2.Event]) -> Sequence[Receipt]:
        """Send the batch; the receipts in the order of the events.

        Raises SinkUnavailable when no link is up, the stream breaks or receipts fail to come: then nothing is known of
        the batch, and it is sent again (the relay knows events by their id).
        """
        if not events:
            return []
        stream = await self._open()
        try:
            async with asyncio.timeout(self._receipt_timeout.total_seconds()):
                receipts = await stream.exchange(events)
        except TimeoutError:
            await self._discard(stream)
            raise SinkUnavailable("the relay sent no receipts in time") from None
        except SinkUnavailable:
            await self._discard(stream)
            raise
        return [_receipt(receipt) for receipt in receipts]

    async def close(self) -> None:
        """End the stream."""
        if self._stream is not None:
            await self._discard(self._stream)

    async def _open(self) -> _Stream:
        async with self._opening:
            if self._stream is not None and self._stream.usable:
                return self._stream
            if self._stream is not None:
                await self._discard(self._stream)
            for link in self._links.connected():
                channel = link.channel
                if channel is not None:
                    self._stream = _Stream(link, channel)
                    return self._stream
            raise SinkUnavailable("no link to the relay is up")

    async def _discard(self, stream: _Stream) -> None:
        if self._stream is stream:
            self._stream = None
        await stream.close()

    def _connected(self, link: RelayLink) -> None:
        for listener in self._listeners:
            listener()


def _words(error: Exception) -> str:
    return error.code().name if isinstance(error, grpc.aio.AioRpcError) else "the stream is over"


_OUTCOMES = {
    relay_pb2.EventReceipt.OUTCOME_STORED: Outcome.STORED,
    relay_pb2.EventReceipt.OUTCOME_REJECTED: Outcome.REJECTED,
}


def _receipt(receipt: relay_pb2.EventReceipt) -> Receipt:
    """The relay's word in the terms of the port. What we do not understand is sent again."""
    outcome = _OUTCOMES.get(receipt.outcome, Outcome.RETRY)
    wait = None
    if outcome is Outcome.RETRY and receipt.HasField("retry_after"):
        wait = timedelta(seconds=max(0, min(receipt.retry_after.seconds, MAX_RETRY_SECONDS)))
    return Receipt(receipt.event_id, outcome, receipt.detail[:DETAIL_LENGTH], wait)
