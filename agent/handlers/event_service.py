"""EventService: events for a relay that dials in, and its acks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final, Protocol

from google.protobuf.message import Message
from his160.v1 import event_pb2

from agent.handler import CallContext, Handler, StreamHandler

_PAGE: Final = 100
_LOOK_AGAIN: Final = 1.0  # seconds: how long an event may stay unseen that the outbox told nobody of


class EventFeed(Protocol):
    """The outbox as a reader sees it (``agent.event_feed.OutboxFeed``)."""

    def change(self) -> asyncio.Event:
        """Set once events have come in after this call: ask before reading, and no event falls in between."""

    async def after(self, sequence: int, limit: int) -> Sequence[event_pb2.Event]:
        """Events above ``sequence`` in its order, at most ``limit``."""

    async def ack(self, event_ids: Sequence[str]) -> int:
        """Close events; returns how many were open until now."""


def read_events(feed: EventFeed, stopping: asyncio.Event) -> StreamHandler:
    """EventService.ReadEvents: pages from a position on, then new ones as they come, until caller or agent ends."""

    async def handle(request: Message, context: CallContext) -> AsyncIterator[Message]:
        assert isinstance(request, event_pb2.ReadEventsRequest)
        sequence = request.after_sequence
        while not stopping.is_set():
            changed = feed.change()
            events = await feed.after(sequence, request.page_size or _PAGE)
            if events:
                sequence = events[-1].sequence
                yield event_pb2.ReadEventsResponse(events=events)
            else:
                await _first_of(changed, stopping)

    return handle


def ack_events(feed: EventFeed) -> Handler:
    """EventService.AckEvents."""

    async def handle(request: Message, context: CallContext) -> Message:
        assert isinstance(request, event_pb2.AckEventsRequest)
        return event_pb2.AckEventsResponse(newly_acked=await feed.ack(list(request.event_ids)))

    return handle


async def _first_of(*events: asyncio.Event) -> None:
    """Return when one of the events is set, or after a while."""
    tasks = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, timeout=_LOOK_AGAIN, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
