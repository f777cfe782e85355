"""A relay that dials in misses no event, also one that comes while the outbox is being read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from his160.v1 import event_pb2

from agent.event_feed import OutboxFeed, count
from agent.handler import CallContext, Identity
from agent.handlers import event_service
from agent.handlers.event_service import ack_events, read_events
from sync.clock import utc_now
from sync.outbox import Outbox
from sync.store import open_store
from tests.bounds import PATIENCE

CONTEXT = CallContext(Identity("relay", "test"), "server", "s1")


class Interrupted(OutboxFeed):
    """An event comes in after each empty reading, before its reader waits."""

    def __init__(self, outbox: Outbox) -> None:
        super().__init__(outbox)
        self.box = outbox

    async def after(self, sequence: int, limit: int) -> Sequence[event_pb2.Event]:
        found = await super().after(sequence, limit)
        if not found:
            await self.box.append([event_pb2.Event(event_id=f"{sequence + 1:032x}", order_no="o1")])
        return found


async def test_an_event_between_reading_and_waiting_is_seen_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_service, "_LOOK_AGAIN", 3600.0)  # the look-again is not needed
    store = open_store(tmp_path / "state.db", utc_now)
    outbox, stopping = Outbox(store, utc_now), asyncio.Event()
    feed = Interrupted(outbox)
    pages = read_events(feed, stopping)(event_pb2.ReadEventsRequest(), CONTEXT)
    async with asyncio.timeout(PATIENCE):
        seen = [page async for page in _first(pages, 5)]
    ids = [event.event_id for page in seen for event in page.events]
    assert len(ids) == len(set(ids)) == 5
    acked = await ack_events(feed)(event_pb2.AckEventsRequest(event_ids=[*ids, "unknown"]), CONTEXT)
    assert acked == event_pb2.AckEventsResponse(newly_acked=5)
    assert (await count(store)).outbox_pending == 0
    await store.close()


async def _first(pages: object, most: int):  # type: ignore[no-untyped-def]  # a helper of one test
    number = 0
    async for page in pages:  # type: ignore[attr-defined]
        yield page
        number += 1
        if number == most:
            break
    await pages.aclose()  # type: ignore[attr-defined]
