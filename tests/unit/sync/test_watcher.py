"""Changes become events exactly once, ours are not reported back, and the loop never dies."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from google.protobuf.message import Message
from his160.v1 import appointment_pb2, common_pb2, event_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from his_db.errors import HisUnavailable, OutcomeUnknown
from sync import order
from sync.captures.snapshot_diff import SnapshotDiff
from sync.command import CommandExecutor
from sync.outbox import Outbox
from sync.saga_context import SagaRules
from sync.store import Store, StoreUnavailable
from sync.stores.sqlite import SqliteStore
from sync.watcher import Watcher
from tests.bounds import PATIENCE, until_found
from tests.unit.sync.bench import (
    BOOK,
    CANCEL,
    CONFIRM,
    ORDER_RULES,
    REFUND,
    SCHEDULE_RULES,
    Clock,
    Crash,
    FailingStore,
    MemoryHis,
    Rule,
    Watch,
    WatchedHis,
    book,
    cancel,
    confirm,
    lost_after,
    of_kinds,
    open_sqlite,
    refund,
)
from tests.unit.sync.world import INSTITUTION, REVERSE, SETTLE, World, reverse, settle


def watcher(his: WatchedHis, store: Store, clock: Clock, outbox: Outbox | None = None) -> Watcher:
    capture = SnapshotDiff(his, store, "orders", clock=clock)
    return Watcher(capture, store, outbox or Outbox(store, clock), site="H1", clock=clock, revision=lambda: "rev1")


@pytest.fixture
def rows(clock: Clock) -> WatchedHis:
    return WatchedHis(clock)


@pytest.fixture
def outbox(store: SqliteStore, clock: Clock) -> Outbox:
    return Outbox(store, clock)


@pytest.fixture
def watch(rows: WatchedHis, store: SqliteStore, clock: Clock, outbox: Outbox) -> Watcher:
    return watcher(rows, store, clock, outbox)


async def events_of(outbox: Outbox) -> Sequence[event_pb2.Event]:
    return await outbox.read_after(0, 1000)


async def test_a_window_cancellation_becomes_an_event(
    watch: Watcher, rows: WatchedHis, outbox: Outbox, clock: Clock
) -> None:
    rows.order("1", order.PAID, operator_id="jk160", paid_fen=2500)
    baseline = await watch.poll_once()
    assert (baseline.baseline, baseline.changes, baseline.events) == (True, 1, 0)
    told: list[int] = []
    outbox.subscribe(lambda: told.append(1))
    clock.advance(seconds=5)
    happened = datetime(2026, 11, 23, 1, 0, 3, tzinfo=UTC)
    changed = common_pb2.Appointment(
        appointment_id="1",
        order_no="T1",
        state=order.CANCELLED,
        operator_id="2001",
        patient_name="张三",
        schedule_id="D1",
    )
    changed.cancel_time.FromDatetime(happened)
    rows.put("1", changed)
    poll = await watch.poll_once()
    assert (poll.changes, poll.events) == (1, 1)
    (event,) = await events_of(outbox)
    assert event.kind == event_pb2.EVENT_KIND_CANCELLED
    assert event.origin == event_pb2.ORIGIN_ON_SITE
    assert event.subject == common_pb2.SUBJECT_APPOINTMENT
    assert (event.site, event.stream, event.mapping_revision) == ("H1", "orders", "rev1")
    assert (event.order_no, event.appointment_id, event.schedule_id) == ("T1", "1", "D1")
    assert len(event.event_id) == 32
    assert event.appointment_before.state == order.PAID
    assert event.appointment_before.paid_fen == 2500
    assert event.appointment_after.patient_name == event.appointment_before.patient_name == ""
    assert event.occurred_time.ToDatetime(UTC) == happened
    assert event.captured_time.ToDatetime(UTC) == clock.now
    assert event.sequence > 0
    assert told == [1]
    assert watch.status.strange == 1  # paid, then cancelled without a refund: reported all the same


@pytest.mark.parametrize(
    ("before", "operator", "reported"),
    [
        ("2001", "jk160", False),  # the platform's operator came with this change
        ("jk160", "2001", True),
        ("2001", "2001", True),
        ("jk160", "jk160", True),  # stood there before and no command of ours explains it: in doubt reported
        ("jk160", "", True),
        ("", "", True),
    ],
)
async def test_origin_by_operator(
    watch: Watcher, rows: WatchedHis, outbox: Outbox, before: str, operator: str, reported: bool
) -> None:
    rows.order("1", order.BOOKED, operator_id=before)
    await watch.poll_once()
    rows.order("1", order.CANCELLED, operator_id=operator)
    await watch.poll_once()
    assert len(await events_of(outbox)) == int(reported)
    assert watch.status.suppressed == int(not reported)
    await watch.poll_once()
    assert len(await events_of(outbox)) == int(reported)


@pytest.mark.parametrize("operator", ["", "jk160"])
async def test_our_own_commands_do_not_come_back(
    store: SqliteStore, clock: Clock, outbox: Outbox, operator: str
) -> None:
    his = MemoryHis()
    his.operator = operator
    run = CommandExecutor(his, store, clock=clock)
    watch = watcher(WatchedHis(clock, his), store, clock, outbox)
    await watch.poll_once()
    await run.execute(BOOK, book())
    await watch.poll_once()
    clock.advance(hours=1)
    await run.execute(CONFIRM, confirm())
    clock.advance(hours=5)  # the agent was down meanwhile: the ledger still accounts for it
    await watch.poll_once()
    his.faults.append(lost_after)
    with pytest.raises(OutcomeUnknown):
        await run.execute(REFUND, refund())
    await watch.poll_once()
    await run.execute(BOOK, book("T2", "r2"))
    await run.execute(CONFIRM, confirm("T2", "p2", "W2"))
    await watch.poll_once()  # two steps of ours between two looks
    assert await events_of(outbox) == []
    assert watch.status.suppressed == 3  # a new row that is paid already fits no rule here
    his.orders["T2"].state = order.CHECKED_IN
    his.orders["T2"].operator_id = "kiosk" if operator else ""
    await watch.poll_once()
    assert of_kinds(await events_of(outbox)) == ["CHECKED_IN"]


async def test_the_window_after_our_own_change(store: SqliteStore, clock: Clock, outbox: Outbox) -> None:
    """The HIS keeps our operator on the row when the window cancels: the ledger does not account for it."""
    his = MemoryHis()
    run = CommandExecutor(his, store, clock=clock)
    watch = watcher(WatchedHis(clock, his), store, clock, outbox)
    await watch.poll_once()
    await run.execute(BOOK, book())
    await watch.poll_once()
    his.orders["T1"].state = order.CANCELLED
    await watch.poll_once()
    (event,) = await events_of(outbox)
    assert event.origin == event_pb2.ORIGIN_ON_SITE
    refused = await asyncio.gather(run.execute(CANCEL, cancel()), return_exceptions=True)
    assert isinstance(refused[0], Exception)
    his.orders["T1"].state = order.BOOKED
    await watch.poll_once()
    clock.advance(minutes=10)
    his.orders["T1"].state = order.CANCELLED
    await watch.poll_once()
    assert of_kinds(await events_of(outbox)) == ["CANCELLED", "CANCELLED"]


async def test_steps_of_sagas_do_not_come_back(store: SqliteStore, clock: Clock, outbox: Outbox) -> None:
    """The registration and the red row are steps: no command of the platform changes the order itself."""
    his = World()
    his.operator, his.clock = "", clock
    rules = SagaRules(institution=INSTITUTION)
    run = CommandExecutor(his, store, clock=clock, rules=rules)
    watch = watcher(WatchedHis(clock, his), store, clock, outbox)
    await watch.poll_once()
    await run.execute(BOOK, book())
    await watch.poll_once()
    his.pay("W1", 600)
    settled = await run.execute(SETTLE, settle())
    await watch.poll_once()
    clock.advance(hours=1)
    await run.execute(REVERSE, reverse(settled.settlement.setl_id))  # type: ignore[attr-defined]
    await watch.poll_once()
    assert his.orders["T1"].state == order.REFUNDED
    assert watch.status.suppressed == 3
    assert await events_of(outbox) == []


async def test_a_booking_that_registers_at_once(store: SqliteStore, clock: Clock, outbox: Outbox) -> None:
    """预约即挂号: the HIS answers the booking with PAID. Paid at the window after a booking is somebody else's doing."""
    his = MemoryHis()
    his.operator = ""
    run = CommandExecutor(his, store, clock=clock)
    rows = WatchedHis(clock, his)
    rows.current.rules = [Rule(event_pb2.EVENT_KIND_PAID, after=frozenset({order.PAID}), is_new=True), *ORDER_RULES]
    watch = watcher(rows, store, clock, outbox)
    await watch.poll_once()
    original = his._book

    def registering(request: appointment_pb2.BookAppointmentRequest) -> Message:
        original(request)
        his.orders[request.order_no].state = order.PAID
        return appointment_pb2.BookAppointmentResponse(appointment=his.orders[request.order_no])

    his._book = registering  # type: ignore[method-assign]
    answer = await run.execute(BOOK, book())
    assert answer.appointment.state == order.PAID  # type: ignore[attr-defined]
    await watch.poll_once()
    assert watch.status.suppressed == 1
    his._book = original  # type: ignore[method-assign]
    await run.execute(BOOK, book("T2", "r2"))
    await watch.poll_once()
    his.orders["T2"].state = order.PAID
    await watch.poll_once()
    (event,) = await events_of(outbox)
    assert (event.order_no, event.origin) == ("T2", event_pb2.ORIGIN_ON_SITE)


async def test_resuming_a_session_uncovers_our_operator(watch: Watcher, rows: WatchedHis, outbox: Outbox) -> None:
    rows.order("1", order.SUSPENDED, operator_id="2001")
    await watch.poll_once()
    rows.order("1", order.BOOKED, operator_id="jk160")
    rows.current.rules = [Rule(event_pb2.EVENT_KIND_RESUMED, after=frozenset({order.BOOKED}))]
    await watch.poll_once()
    (event,) = await events_of(outbox)
    assert event.origin == event_pb2.ORIGIN_ON_SITE


async def test_patients_of_the_window_make_no_events(watch: Watcher, rows: WatchedHis, outbox: Outbox) -> None:
    await watch.poll_once()
    rows.order("1", order.BOOKED, order_no="", operator_id="2001")
    await watch.poll_once()
    rows.order("1", order.CANCELLED, order_no="", operator_id="2001")
    assert (await watch.poll_once()).changes == 1
    assert await events_of(outbox) == []


async def test_sessions(watch: Watcher, rows: WatchedHis, outbox: Outbox) -> None:
    rows.current = Watch(subject="schedule", message_class=common_pb2.Schedule, rules=SCHEDULE_RULES)
    opened = common_pb2.Schedule(schedule_id="D1", state=common_pb2.SCHEDULE_STATE_OPEN)
    stopped = common_pb2.Schedule(schedule_id="D1", state=common_pb2.SCHEDULE_STATE_SUSPENDED, operator_id="jk160")
    rows.put("D1", opened)
    await watch.poll_once()
    for message in (stopped, opened, stopped):
        rows.put("D1", message)
        await watch.poll_once()
    events = await events_of(outbox)
    assert of_kinds(events) == ["SUSPENDED", "RESUMED", "SUSPENDED"]
    assert len({event.event_id for event in events}) == 3  # the same change twice is two facts
    assert events[0].subject == common_pb2.SUBJECT_SCHEDULE
    assert (events[0].schedule_id, events[0].order_no) == ("D1", "")
    assert events[0].schedule_before.state == common_pb2.SCHEDULE_STATE_OPEN
    assert not events[0].HasField("appointment_after")


async def test_rows_that_vanish(watch: Watcher, rows: WatchedHis, outbox: Outbox) -> None:
    rows.current.vanish = "event"
    rows.order("1", order.PAID)
    rows.order("2", order.LOCKED)
    await watch.poll_once()
    rows.rows.clear()
    for _ in range(4):
        await watch.poll_once()
    (event,) = await events_of(outbox)
    assert event.kind == event_pb2.EVENT_KIND_CANCELLED
    assert event.appointment_before.state == order.PAID
    assert not event.HasField("appointment_after")


@pytest.mark.parametrize("point", ["before", "after"])
@pytest.mark.parametrize("at", ["baseline", "change", "quiet"])
async def test_exactly_once_across_crashes(tmp_path: Path, clock: Clock, point: str, at: str) -> None:
    """The process dies before or after each commit; the next one finds what is missing and repeats nothing."""
    rows = WatchedHis(clock)
    for n in range(3):
        rows.order(str(n), order.BOOKED)
    rows.order("gone", order.BOOKED, schedule_id="yesterday")
    store = FailingStore(open_sqlite(tmp_path, clock))
    steps = {"baseline": 0, "change": 1, "quiet": 2}
    current = watcher(rows, store, clock)

    async def step(name: str) -> None:
        nonlocal current
        if name == at:
            store.fail(point)
            with pytest.raises((StoreUnavailable, Crash)):
                await current.poll_once()
            current = watcher(rows, store, clock)
        await current.poll_once()
        await current.poll_once()

    assert set(steps) == {"baseline", "change", "quiet"}
    await step("baseline")
    rows.order("0", order.CANCELLED, operator_id="2001")
    rows.order("1", order.PAID, operator_id="2001")
    await step("change")
    del rows.rows["gone"]
    rows.current.outside.add("yesterday")
    clock.advance(days=1)
    await step("quiet")
    events = await events_of(Outbox(store, clock))
    assert sorted(of_kinds(events)) == ["CANCELLED", "PAID"]
    await store.close()


async def test_the_same_fact_has_the_same_id(tmp_path: Path, clock: Clock) -> None:
    """Two agents that see the same change from the same state, each with a store of its own."""
    ids = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        rows, store = WatchedHis(clock), open_sqlite(folder, clock)
        rows.order("1", order.BOOKED)
        watch = watcher(rows, store, clock)
        await watch.poll_once()
        rows.order("1", order.CANCELLED, operator_id="2001")
        clock.advance(seconds=1)
        await watch.poll_once()
        (event,) = await events_of(Outbox(store, clock))
        ids.append(event.event_id)
        await store.close()
    assert ids[0] == ids[1]


async def test_many_changes_are_committed_in_parts(watch: Watcher, rows: WatchedHis, outbox: Outbox) -> None:
    for n in range(1100):
        rows.order(str(n), order.BOOKED)
    await watch.poll_once()
    for n in range(1100):
        rows.order(str(n), order.SUSPENDED, operator_id="2001")
    assert (await watch.poll_once()).events == 1100
    assert (await outbox.counts()).pending == 1100


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("point", ["before", "after", "cancelled"])
async def test_many_changes_that_are_cut_off(tmp_path: Path, clock: Clock, point: str, part: int) -> None:
    """One part of three is not kept, or kept and not known to be, while the next one is being made; or the poll is
    cancelled in the middle of it. The same watcher goes on, and everything is told once."""
    rows, store = WatchedHis(clock), FailingStore(open_sqlite(tmp_path, clock))
    current, outbox = watcher(rows, store, clock), Outbox(store, clock)
    for n in range(1100):
        rows.order(str(n), order.BOOKED)
    await current.poll_once()
    for n in range(1100):
        rows.order(str(n), order.SUSPENDED, operator_id="2001")
    if point == "cancelled":
        poll = asyncio.ensure_future(current.poll_once())
        await until_found(lambda: kept(outbox, 500 * part))
        poll.cancel()
        with suppress(asyncio.CancelledError):
            await poll
    else:
        store.fail(point, skip=part)
        with pytest.raises((StoreUnavailable, Crash)):
            await current.poll_once()
    told = (await outbox.counts()).pending
    if point != "cancelled":
        assert told == [0, 500, 1000, 1100][part + (point == "after")]
    await current.poll_once()
    assert (await outbox.counts()).pending == 1100
    assert (await current.poll_once()).changes == 0
    await store.close()


async def kept(outbox: Outbox, count: int) -> bool:
    return (await outbox.counts()).pending >= count


async def test_the_loop_survives_and_says_how_it_stands(
    watch: Watcher, rows: WatchedHis, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    pauses: list[float] = []
    states: list[str] = []
    script: list[object] = [None, HisUnavailable("down"), HisUnavailable("down"), ZeroDivisionError(), "many", None]
    for n in range(100):
        rows.order(str(n), order.BOOKED)
    kept = dict(rows.rows)

    async def wait(wake: asyncio.Event, limit: timedelta) -> None:
        pauses.append(limit.total_seconds())
        states.append(watch.status.state)
        if not script:
            watch.stop()
            return
        todo = script.pop(0)
        rows.error = todo if isinstance(todo, Exception) else None
        rows.rows = {} if todo == "many" else dict(kept)
        await asyncio.sleep(0)

    watch._wait = wait
    await asyncio.wait_for(watch.run(), PATIENCE)
    assert states == ["running", "running", "failing", "failing", "failing", "suspended", "running"]
    assert pauses == [0.5, 0.5, 1, 2, 4, 5, 0.5]
    assert watch.status.failures == 0
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings.count("stream interrupted") == 2  # once for each change of state


async def test_wake_and_stop_with_the_real_wait(watch: Watcher, rows: WatchedHis, outbox: Outbox) -> None:
    rows.current.poll = timedelta(hours=1)
    loop = asyncio.create_task(watch.run())
    async with asyncio.timeout(PATIENCE):
        while watch.status.polls < 1:
            await asyncio.sleep(0)
        rows.order("1", order.CANCELLED, operator_id="2001")
        watch.wake()
        while watch.status.polls < 2:
            await asyncio.sleep(0)
        watch.stop()
        await loop
    assert watch.status.polls == 2


STEPS = st.lists(
    st.tuples(
        st.integers(0, 2), st.sampled_from(sorted(order.NEXT)), st.sampled_from(["", "before", "after", "restart"])
    ),
    max_size=25,
)


@settings(max_examples=25, deadline=None)
@given(STEPS)
def test_whatever_happens_each_change_is_told_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int, str]]
) -> None:
    """Any history of states with crashes anywhere: the events retell exactly the changes that polls could see."""

    async def play() -> None:
        clock = Clock()
        rows, store = WatchedHis(clock), FailingStore(open_sqlite(tmp_path_factory.mktemp("watch"), clock))
        rows.current.rules = [
            type(rule)(rule.kind, rule.before, rule.after) for rule in rows.current.rules if rule.field == "state"
        ][1:]
        kinds = {next(iter(rule.after)): rule.kind for rule in rows.current.rules}
        current = watcher(rows, store, clock)
        expected: dict[str, list[int]] = {str(key): [] for key in range(3)}
        states = {str(key): int(order.BOOKED) for key in range(3)}
        for key, state in states.items():
            rows.order(key, state, operator_id="2001")
        await current.poll_once()
        for number, state, trouble in steps:
            key = str(number)
            if state != states[key] and state in kinds:
                expected[key].append(kinds[state])
            states[key] = state
            rows.order(key, state, operator_id="2001")
            if trouble in ("before", "after"):
                store.fail(trouble)
                await asyncio.gather(current.poll_once(), return_exceptions=True)
                store.points.clear()
            if trouble:
                current = watcher(rows, store, clock)
            await current.poll_once()
        events = await events_of(Outbox(store, clock))
        told = {key: [event.kind for event in events if event.appointment_id == key] for key in states}
        assert told == expected
        await store.close()

    asyncio.run(play())
