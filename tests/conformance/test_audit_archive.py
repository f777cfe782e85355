"""The archive of the audit in every kind of state store: packed, walked through, dropped when its time is over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sync.audit import Audit
from sync.audit_chain import BEGINNING
from sync.store import open_store
from tests.unit.reports.bench import Hand

KEEP, ARCHIVE = timedelta(days=180), timedelta(days=1096)


async def test_years_of_audit(store_place: str) -> None:
    clock = Hand(datetime(2026, 1, 1, tzinfo=UTC))
    store = open_store(store_place, clock)
    try:
        audit = Audit(store, clock, instance="a")
        for _ in range(5):
            await audit.append(*(audit.entry("test.done", target=f"订单{n}", result="DONE") for n in range(3)))
            clock.advance(days=200)
        before = [row async for row in audit.rows()]
        assert await audit.prune(KEEP, ARCHIVE) == 15
        found = await audit.verify()
        assert (found.broken, found.pruned, found.rows) == (None, BEGINNING, 16)
        assert [row async for row in audit.rows()][:15] == before
        noted = found.last
        clock.advance(days=300)
        await audit.prune(KEEP, ARCHIVE)
        found = await audit.verify(noted)
        assert (found.broken, found.pruned) == (None, BEGINNING), "one pack, whose last row is young enough"
        clock.advance(days=1000)
        await audit.prune(KEEP, ARCHIVE)
        found = await audit.verify(noted)
        assert found.broken is None
        assert found.pruned.sequence >= 15
    finally:
        await store.close()
