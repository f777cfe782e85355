"""The outbox keeps order and drops nothing; the delivery gets everything across whatever the sink does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest
from his160.v1 import event_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.delivery import Delivery
from sync.outbox import Backoff, Outbox
from sync.sink import Outcome, Receipt, SinkUnavailable
from sync.sinks.file import FileSink
from sync.store import EventState, Transaction
from sync.stores.sqlite import SqliteStore
from tests.bounds import PATIENCE
from tests.unit.sync.bench import Clock, Crash, FailingStore, open_sqlite


def event(name: str, order_no: str, clock: Clock) -> event_pb2.Event:
    made = event_pb2.Event(event_id=name, order_no=order_no, kind=event_pb2.EVENT_KIND_CANCELLED)
    made.captured_time.FromDatetime(clock.now)
    return made


T = TypeVar("T")
Script = Callable[[Sequence[event_pb2.Event]], Sequence[Receipt]]


class ScriptedSink:
    """Answers as the next script says, stores everything when there is none. ``stored`` is the other side's book."""

    name = "scripted"

    def __init__(self) -> None:
        self.scripts: list[Script] = []
        self.stored: list[str] = []
        self.batches: list[list[str]] = []

    async def deliver(self, events: Sequence[event_pb2.Event]) -> Sequence[Receipt]:
        await asyncio.sleep(0)
        self.batches.append([event.event_id for event in events])
        receipts = self.scripts.pop(0)(events) if self.scripts else store_all(events)
        self.stored += [receipt.event_id for receipt in receipts if receipt.outcome is Outcome.STORED]
        return receipts


def store_all(events: Sequence[event_pb2.Event]) -> Sequence[Receipt]:
    return [Receipt(event.event_id, Outcome.STORED) for event in events]


def unreachable(events: Sequence[event_pb2.Event]) -> Sequence[Receipt]:
    raise SinkUnavailable("no link")


@pytest.fixture
def sink() -> ScriptedSink:
    return ScriptedSink()


@pytest.fixture
def outbox(store: SqliteStore, clock: Clock) -> Outbox:
    return Outbox(store, clock, backoff=Backoff(timedelta(seconds=1), timedelta(seconds=8)))


@pytest.fixture
def delivery(outbox: Outbox, sink: ScriptedSink, clock: Clock) -> Delivery:
    return Delivery(outbox, sink, clock=clock, chance=lambda: 1.0)


async def test_an_id_comes_in_once(outbox: Outbox, clock: Clock) -> None:
    told: list[int] = []
    unsubscribe = outbox.subscribe(lambda: told.append(1))
    assert await outbox.append([event("a", "T1", clock), event("b", "T1", clock)]) == 2
    assert await outbox.append([event("a", "T1", clock)]) == 0
    assert told == [1]
    unsubscribe()
    assert [found.event_id for found in await outbox.pending(10)] == ["a"]
    assert [found.event_id for found in await outbox.read_after(0)] == ["a", "b"]
    first, second = await outbox.read_after(0)
    assert 0 < first.sequence < second.sequence
    assert await outbox.ack(["a", "b", "a"]) == 2
    assert await outbox.ack(["a"]) == 0
    assert len(await outbox.read_after(first.sequence)) == 1
    clock.advance(days=31)
    assert await outbox.prune() == 2


async def test_orders_stay_in_order_others_flow(
    outbox: Outbox, delivery: Delivery, sink: ScriptedSink, clock: Clock
) -> None:
    await outbox.append([event(f"{o}{n}", o, clock) for n in range(3) for o in ("A", "B")])
    while await delivery.deliver_once():
        pass
    assert sink.batches == [["A0", "B0"], ["A1", "B1"], ["A2", "B2"]]
    assert delivery.status().delivered == 6


async def test_a_poison_event_parks_its_order_until_retried(
    outbox: Outbox, delivery: Delivery, sink: ScriptedSink, clock: Clock
) -> None:
    await outbox.append([event(f"{o}{n}", o, clock) for n in range(2) for o in ("A", "B")])
    sink.scripts.append(lambda events: [Receipt("A0", Outcome.REJECTED, "bad"), Receipt("B0", Outcome.STORED)])
    while await delivery.deliver_once():
        pass
    assert sink.stored == ["B0", "B1"]
    counts = await outbox.counts()
    assert (counts.pending, counts.parked, counts.dead) == (1, 1, 1)
    (dead,) = await outbox.list(EventState.DEAD)
    assert (dead.event.event_id, dead.detail) == ("A0", "bad")
    assert await outbox.retry(["A0"]) == 1
    while await delivery.deliver_once():
        pass
    assert sink.stored == ["B0", "B1", "A0", "A1"]


async def test_retry_waits_as_long_as_it_is_told(
    outbox: Outbox, delivery: Delivery, sink: ScriptedSink, clock: Clock
) -> None:
    await outbox.append([event("a", "T1", clock)])
    later = Receipt("a", Outcome.RETRY, "busy", timedelta(seconds=3))
    sink.scripts += [lambda events: [later], lambda events: [Receipt("a", Outcome.RETRY)], lambda events: []]
    for wait in (3, 2, 4):
        assert await delivery.deliver_once() == 1
        due = await outbox.next_due()
        assert due == clock.now + timedelta(seconds=wait)
        clock.advance(seconds=wait - 0.001)
        assert await delivery.deliver_once() == 0
        clock.advance(seconds=0.001)
    assert await delivery.deliver_once() == 1
    assert sink.stored == ["a"]
    assert delivery.status().retried == 3
    assert delivery.status().latency_max == timedelta(seconds=9)


async def test_odd_receipts(outbox: Outbox, delivery: Delivery, sink: ScriptedSink, clock: Clock) -> None:
    """Out of order, twice, contradictory, for events that were never sent."""
    await outbox.append([event("a", "A", clock), event("b", "B", clock)])
    sink.scripts.append(
        lambda events: [
            Receipt("b", Outcome.RETRY),
            Receipt("ghost", Outcome.REJECTED),
            Receipt("b", Outcome.STORED),
            Receipt("b", Outcome.RETRY),
            Receipt("a", Outcome.STORED),
            Receipt("a", Outcome.STORED),
        ]
    )
    await delivery.deliver_once()
    counts = await outbox.counts()
    assert (counts.acked, counts.pending, counts.dead) == (2, 0, 0)


async def test_a_crash_between_receipt_and_ack_sends_again(sink: ScriptedSink, tmp_path: Path, clock: Clock) -> None:
    failing = FailingStore(open_sqlite(tmp_path, clock))
    outbox = Outbox(failing, clock)
    await outbox.append([event("a", "T1", clock), event("b", "T1", clock)])
    failing.fail("before")
    with pytest.raises(Exception, match="disk full"):
        await Delivery(outbox, sink, clock=clock).deliver_once()
    failing.fail("after")
    with pytest.raises(Crash):
        await Delivery(outbox, sink, clock=clock).deliver_once()
    again = Delivery(outbox, sink, clock=clock)
    while await again.deliver_once():
        pass
    assert sink.stored == ["a", "a", "b"]  # twice with one id: the other side knows it
    await failing.close()


async def drive(delivery: Delivery, waits: list[float], until: Callable[[], bool]) -> None:
    """Runs the loop with a wait that notes how long it was to be, and stops it."""

    async def wait(wake: asyncio.Event, limit: timedelta) -> None:
        waits.append(limit.total_seconds())
        await asyncio.sleep(0)
        if until():
            delivery.stop()

    delivery._wait = wait
    await asyncio.wait_for(delivery.run(), PATIENCE)


async def test_backoff_doubles_to_its_cap_and_ends_with_success(
    outbox: Outbox, delivery: Delivery, sink: ScriptedSink, clock: Clock
) -> None:
    await outbox.append([event("a", "T1", clock)])
    sink.scripts += [unreachable] * 7
    waits: list[float] = []
    await drive(delivery, waits, lambda: len(waits) == 9)
    assert waits[:-1] == [1, 2, 4, 8, 16, 30, 30, 0]
    assert waits[-1] > 0  # idle
    assert delivery.status().connected
    assert delivery.status().last_error == "no link"


async def test_a_defect_of_the_sink_does_not_end_the_loop(
    outbox: Outbox, delivery: Delivery, sink: ScriptedSink, clock: Clock
) -> None:
    def broken(events: Sequence[event_pb2.Event]) -> Sequence[Receipt]:
        raise ZeroDivisionError

    await outbox.append([event("a", "T1", clock)])
    sink.scripts.append(broken)
    await drive(delivery, [], lambda: bool(sink.stored))
    assert sink.stored == ["a"]


async def test_wake_ends_a_backoff_at_once(outbox: Outbox, sink: ScriptedSink, clock: Clock) -> None:
    """With the real wait: an append wakes the idle loop, ``wake`` ends the pause after a failure."""
    delivery = Delivery(
        outbox, sink, clock=clock, chance=lambda: 1.0, backoff=Backoff(timedelta(hours=1), timedelta(hours=1))
    )
    loop = asyncio.create_task(delivery.run())
    sink.scripts.append(unreachable)
    await outbox.append([event("a", "T1", clock)])
    async with asyncio.timeout(PATIENCE):
        while delivery.status().failures == 0:
            await asyncio.sleep(0)
        delivery.wake()
        while not sink.stored:
            await asyncio.sleep(0)
    delivery.stop()
    await asyncio.wait_for(loop, PATIENCE)


async def test_an_empty_outbox_is_not_read_again_until_somebody_has_committed(
    store: SqliteStore, tmp_path: Path, sink: ScriptedSink, clock: Clock
) -> None:
    """Somebody: also another process, which can wake nobody (``his160 outbox retry``)."""
    reads: list[int] = []
    whole = store.read

    async def counted(unit: Callable[[Transaction], T]) -> T:
        reads.append(1)
        return await whole(unit)

    store.read = counted  # type: ignore[method-assign]
    steps: list[int] = []
    tool = open_sqlite(tmp_path, clock)

    async def wait(event: asyncio.Event, limit: timedelta) -> None:
        steps.append(len(reads))
        if len(steps) == 5:
            await Outbox(tool, clock).append([event_of_a_tool])
        if sink.stored and len(steps) > 8:
            delivery.stop()

    event_of_a_tool = event("a", "T1", clock)
    delivery = Delivery(Outbox(store, clock), sink, clock=clock, wait=wait)
    await asyncio.wait_for(delivery.run(), 10)
    await tool.close()
    assert sink.stored == ["a"]
    assert steps[0] == steps[4] > 0  # five looks, and only the first has read
    assert steps[5] > steps[4]
    assert steps[-1] == steps[-2]  # delivered: at rest again


@settings(max_examples=25, deadline=None)
@given(
    lanes=st.lists(st.sampled_from("ABC"), min_size=1, max_size=12),
    outcomes=st.lists(st.sampled_from([*Outcome, None]), max_size=20),
)
def test_whatever_the_sink_answers_order_holds(
    tmp_path_factory: pytest.TempPathFactory, lanes: list[str], outcomes: list[Outcome | None]
) -> None:
    """Any mix of stored, rejected, retry and silence: each lane arrives in order, behind a dead event nothing does."""

    async def play() -> None:
        clock = Clock()
        store = open_sqlite(tmp_path_factory.mktemp("outbox"), clock)
        outbox, sink = Outbox(store, clock), ScriptedSink()
        delivery = Delivery(outbox, sink, clock=clock)
        left = list(outcomes)

        def script(events: Sequence[event_pb2.Event]) -> Sequence[Receipt]:
            picked = [(item.event_id, left.pop(0) if left else Outcome.STORED) for item in events]
            return [Receipt(name, outcome) for name, outcome in picked if outcome is not None]

        sink.scripts = [script] * 100
        await outbox.append([event(f"{lane}{n:02}", lane, clock) for n, lane in enumerate(lanes)])
        for _ in range(40):
            await delivery.deliver_once()
            clock.advance(minutes=10)
        dead = {found.event.event_id for found in await outbox.list(EventState.DEAD)}
        for lane in "ABC":
            sent = [name for name in sink.stored if name[0] == lane]
            stop = min((name for name in dead if name[0] == lane), default="Z")
            assert sent == [f"{lane}{n:02}" for n, of in enumerate(lanes) if of == lane and f"{lane}{n:02}" < stop]
        await store.close()

    asyncio.run(play())


async def test_files_are_complete_when_they_have_their_name(outbox: Outbox, tmp_path: Path, clock: Clock) -> None:
    folder = tmp_path / "out" / "events"
    delivery = Delivery(outbox, FileSink(folder), clock=clock)
    await outbox.append([event("a", "A", clock), event("b", "B", clock), event("c", "A", clock)])
    batch = await outbox.pending(10)
    assert [receipt.outcome for receipt in await FileSink(folder).deliver(batch)] == [Outcome.STORED] * 2
    while await delivery.deliver_once():
        pass
    names = sorted(folder.iterdir())
    assert [name.suffix for name in names] == [".jsonl", ".jsonl"]  # the repeated batch replaced itself
    lines = [json.loads(line) for name in names for line in name.read_text("utf-8").splitlines()]
    assert [line["event_id"] for line in lines] == ["a", "b", "c"]
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SinkUnavailable):
        await FileSink(tmp_path / "file").deliver(batch)


async def test_a_dead_event_is_corrected_by_a_person_and_keeps_its_id_and_place(
    outbox: Outbox, store: SqliteStore, clock: Clock
) -> None:
    wrong = event("e1", "T1", clock)
    wrong.appointment_after.note = "坏"
    await outbox.append([wrong, event("e2", "T1", clock)])
    await outbox.settle([], [("e1", "the relay cannot read it")], [])
    assert await outbox.pending(10) == []  # its order waits behind it
    item = await outbox.get("e1")
    assert item is not None
    better = item.event
    better.appointment_after.note = "窗口取消"
    better.appointment_after.patient_name = "张三"
    await outbox.correct(better, "文字有误")
    (sent,) = await outbox.pending(10)
    assert (sent.event_id, sent.appointment_after.note, sent.appointment_after.patient_name) == ("e1", "窗口取消", "")
    with pytest.raises(ValueError, match="given up"):
        await outbox.correct(better, "again")
    (row,) = await store.read(lambda work: work.audit.newest(10, action="outbox.correct"))
    told = json.loads(row.entry.parameters)  # a note may name a patient: how long it was, and the digest of all
    assert [json.loads(told[at])["appointment_after"]["note"] for at in ("before", "after")] == ["***(1)", "***(4)"]
    assert row.entry.digest
    assert "文字有误" in row.entry.parameters


async def test_what_an_event_is_about_cannot_be_corrected(outbox: Outbox, clock: Clock) -> None:
    await outbox.append([event("e1", "T1", clock)])
    await outbox.settle([], [("e1", "refused")], [])
    with pytest.raises(ValueError, match="cannot be corrected"):
        await outbox.correct(event("e1", "T2", clock), "x")
