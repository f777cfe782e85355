"""The machine's clock is wrong for a while and is set right: nothing waits for it, nothing is told again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from his160.v1 import common_pb2, event_pb2

from his_db.errors import OutcomeUnknown
from sync import order
from sync.captures.snapshot_diff import SnapshotDiff
from sync.command import CommandExecutor
from sync.delivery import Delivery
from sync.money_book import RefundProgress, RefundRow
from sync.outbox import Backoff, Outbox
from sync.sink import Outcome, Receipt
from sync.stores.sqlite import SqliteStore
from sync.watcher import Watcher
from tests.unit.sync.bench import (
    BOOK,
    ORDER_RULES,
    Clock,
    MemoryHis,
    Rule,
    Watch,
    WatchedHis,
    book,
    lost_before,
    of_kinds,
)
from tests.unit.sync.test_outbox_delivery import ScriptedSink, event, store_all

NEW_CANCELLED = Rule(event_pb2.EVENT_KIND_CANCELLED, after=frozenset({order.CANCELLED}), is_new=True)
CAP = timedelta(seconds=8)


@pytest.mark.parametrize("ahead", [timedelta(minutes=10), timedelta(days=400)])
async def test_events_of_a_clock_that_was_ahead_leave_at_once(
    store: SqliteStore, clock: Clock, ahead: timedelta
) -> None:
    outbox = Outbox(store, clock, backoff=Backoff(timedelta(seconds=1), CAP))
    sink = ScriptedSink()
    delivery = Delivery(outbox, sink, clock=clock)
    clock.now += ahead
    await outbox.append([event("a", "T1", clock), event("b", "T1", clock)])
    clock.now -= ahead
    assert await delivery.deliver_once() == 1
    assert await delivery.deliver_once() == 1
    assert sink.stored == ["a", "b"]


async def test_a_wait_that_was_asked_for_is_kept(store: SqliteStore, clock: Clock) -> None:
    """What the other side has asked for, up to the cap, is no jump of the clock."""
    outbox = Outbox(store, clock, backoff=Backoff(timedelta(seconds=1), CAP))
    sink = ScriptedSink()
    sink.scripts.append(
        lambda events: [Receipt(e.event_id, Outcome.RETRY, "busy", timedelta(minutes=5)) for e in events]
    )
    delivery = Delivery(outbox, sink, clock=clock)
    await outbox.append([event("a", "T1", clock)])
    await delivery.deliver_once()
    clock.advance(seconds=7)
    assert await delivery.deliver_once() == 0
    clock.advance(seconds=1)
    assert await delivery.deliver_once() == 1
    assert store_all([]) == []


async def test_an_unknown_outcome_settles_though_its_time_is_still_to_come(store: SqliteStore, clock: Clock) -> None:
    his = MemoryHis()
    seconds = 50.0
    run = CommandExecutor(his, store, clock=clock, settle=timedelta(seconds=10), monotonic=lambda: seconds)
    clock.advance(days=30)
    his.faults.append(lost_before)
    with pytest.raises(OutcomeUnknown):
        await run.execute(BOOK, book())
    clock.advance(days=-30)
    with pytest.raises(OutcomeUnknown) as caught:  # "not found" does not count yet
        await run.execute(BOOK, book())
    assert caught.value.retry_after is not None
    assert caught.value.retry_after <= timedelta(seconds=10)
    seconds += 11
    answer: Any = await run.execute(BOOK, book())
    assert answer.appointment.order_no == "T1"
    assert his.effects[BOOK, "T1"] == 1


async def test_refunds_of_a_clock_that_was_ahead_are_asked_for(store: SqliteStore, clock: Clock) -> None:
    now = clock()
    ahead = now + timedelta(days=400)
    rows = [
        RefundRow("R1", "T1", "W1", 100, RefundProgress.PROCESSING, ahead, ahead + timedelta(minutes=1)),
        RefundRow("R2", "T2", "W2", 100, RefundProgress.PROCESSING, now, now + timedelta(minutes=1)),
    ]

    def unit(work: Any) -> list[str]:
        for row in rows:
            work.refunds.put(row)
        return [row.out_refund_no for row in work.refunds.due(now, 9, longest=timedelta(hours=6))]

    assert await store.write(unit) == ["R1"]


class Windowed(WatchedHis):
    """Rows have a day; the HIS shows those of the window of the day that our clock says."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.current = Watch(rules=[NEW_CANCELLED, *ORDER_RULES])
        self.current.outside = Outside(clock)  # type: ignore[assignment]

    async def snapshot(self, name: str, /, *, watch: Any = None) -> Any:
        everything = dict(self.rows)
        wanted = {key: row for key, row in everything.items() if _day(row) not in self.current.outside}
        self.rows = wanted
        try:
            return await super().snapshot(name, watch=watch)
        finally:
            self.rows = everything


class Outside:
    """Days (as schedule_id) more than two weeks away from the clock's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __contains__(self, day: str) -> bool:
        return abs((self._clock().date() - type(self._clock().date()).fromisoformat(day)).days) > 14


def _day(row: bytes) -> str:
    return common_pb2.Appointment.FromString(row).schedule_id


@pytest.mark.parametrize("days", [60, -60])
async def test_a_window_that_jumped_tells_nothing_again(store: SqliteStore, clock: Clock, days: int) -> None:
    """All rows leave the window and come back. What is as it was told is not told again; what changed meanwhile is."""
    his = Windowed(clock)
    today = clock().date().isoformat()
    outbox = Outbox(store, clock)

    def started() -> Watcher:
        return Watcher(SnapshotDiff(his, store, "orders", clock=clock), store, outbox, site="H1", clock=clock)

    watcher = started()
    for number in range(1, 5):
        his.order(str(number), order.BOOKED, schedule_id=today)
    await watcher.poll_once()
    for number in (1, 2):
        his.order(str(number), order.CANCELLED, schedule_id=today, operator_id="2001")
    await watcher.poll_once()
    assert of_kinds(await outbox.read_after(0)) == ["CANCELLED", "CANCELLED"]
    clock.advance(days=days)
    await watcher.poll_once()
    his.order("3", order.CANCELLED, schedule_id=today, operator_id="2001")
    clock.advance(days=-days)
    await watcher.poll_once()
    await started().poll_once()
    events = [e for e in await outbox.read_after(0) if e.kind == event_pb2.EVENT_KIND_CANCELLED]
    assert sorted(e.order_no for e in events) == ["T1", "T2", "T3"]
