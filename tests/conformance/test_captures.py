"""What every capture strategy must see, whatever it reads: rows in, changes out, nothing lost, nothing made up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from his160.v1 import common_pb2

from sync.capture import Batch, Capture, CaptureSuspended, Change
from sync.registry import CAPTURES, load
from sync.store import RowState, Store, StreamRow
from sync.stores.sqlite import SqliteStore
from tests.unit.sync.bench import Clock, Watch, WatchedHis

BOOKED, PAID = common_pb2.APPOINTMENT_STATE_BOOKED, common_pb2.APPOINTMENT_STATE_PAID
CANCELLED = common_pb2.APPOINTMENT_STATE_CANCELLED


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def his(clock: Clock) -> WatchedHis:
    return WatchedHis(clock)


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[Store]:
    opened = SqliteStore(tmp_path / "state.db", clock)
    yield opened
    await opened.close()


@pytest.fixture(params=sorted(CAPTURES))
def make(request: pytest.FixtureRequest, his: WatchedHis, store: Store, clock: Clock) -> type:
    class Made:
        def __new__(cls) -> Capture:  # type: ignore[misc]
            capture: Capture = load(CAPTURES[request.param])(his, store, "orders", clock=clock)
            return capture

    return Made


@pytest.fixture
def capture(make: type) -> Capture:
    made: Capture = make()
    return made


async def commit(store: Store, capture: Capture, batch: Batch, clock: Clock) -> None:
    """What the watcher does, without events."""

    def content(change: Change) -> bytes | None:
        return None if change.after is None else change.after.SerializeToString(deterministic=True)

    rows = [RowState(change.key, change.version, content(change), clock()) for change in batch.changes]
    await store.write(lambda work: work.rows.put_many("orders", [*batch.quiet, *rows]))
    if batch.baseline:
        await store.write(lambda work: work.rows.put_stream(StreamRow("orders", clock())))
    capture.confirm(batch.changes)


async def poll(store: Store, capture: Capture, clock: Clock) -> list[tuple[str, int, int, int]]:
    """Key, state before, state after, version of every change of one committed poll."""
    batch = await capture.poll()
    await commit(store, capture, batch, clock)

    def state(message: object) -> int:
        return -1 if message is None else int(message.state)  # type: ignore[attr-defined]

    return sorted((change.key, state(change.before), state(change.after), change.version) for change in batch.changes)


async def test_a_baseline_then_changes(capture: Capture, store: Store, his: WatchedHis, clock: Clock) -> None:
    his.order("1", BOOKED)
    batch = await capture.poll()
    assert batch.baseline
    assert batch.rows == 1
    await commit(store, capture, batch, clock)
    assert await poll(store, capture, clock) == []
    his.order("1", PAID)
    his.order("2", BOOKED)
    assert await poll(store, capture, clock) == [("1", BOOKED, PAID, 2), ("2", -1, BOOKED, 1)]
    assert await poll(store, capture, clock) == []


async def test_what_was_not_committed_is_seen_again(
    capture: Capture, store: Store, his: WatchedHis, clock: Clock
) -> None:
    first = await capture.poll()
    await commit(store, capture, first, clock)
    his.order("1", BOOKED)
    lost = await capture.poll()
    again = await capture.poll()
    assert lost.changes == again.changes
    await commit(store, capture, again, clock)
    assert (await capture.poll()).changes == []


async def test_a_restart_sees_what_happened_meanwhile(make: type, store: Store, his: WatchedHis, clock: Clock) -> None:
    his.order("1", BOOKED)
    his.order("2", BOOKED)
    await poll(store, make(), clock)
    his.order("2", CANCELLED)
    again: Capture = make()
    assert await poll(store, again, clock) == [("2", BOOKED, CANCELLED, 2)]
    assert await poll(store, again, clock) == []


async def test_personal_data_never_comes_in(capture: Capture, store: Store, his: WatchedHis, clock: Clock) -> None:
    his.order("1", BOOKED, patient_name="张三", take_no="884422")
    batch = await capture.poll()
    change = batch.changes[0]
    assert isinstance(change.after, common_pb2.Appointment)
    assert change.after.patient_name == change.after.take_no == ""
    await commit(store, capture, batch, clock)
    his.order("1", BOOKED, patient_name="李四")
    assert await poll(store, capture, clock) == []


async def test_rows_that_cannot_be_read_wait(capture: Capture, store: Store, his: WatchedHis, clock: Clock) -> None:
    his.order("1", BOOKED)
    await poll(store, capture, clock)
    his.rows["1"] = b"?"
    his.rows["2"] = b"?"
    batch = await capture.poll()
    assert (batch.unreadable, list(batch.changes)) == (2, [])
    his.order("1", PAID)
    his.order("2", BOOKED)
    assert await poll(store, capture, clock) == [("1", BOOKED, PAID, 2), ("2", -1, BOOKED, 1)]


async def test_two_rows_with_one_key_wait(capture: Capture, store: Store, his: WatchedHis, clock: Clock) -> None:
    his.order("1", BOOKED)
    await poll(store, capture, clock)
    other = common_pb2.Appointment(appointment_id="1", state=PAID).SerializeToString()
    his.extra = [("1", (other,))]
    batch = await capture.poll()
    assert (batch.unreadable, list(batch.changes)) == (1, [])
    his.extra = [("1", (his.rows["1"],))]  # a true copy is no contradiction
    assert (await capture.poll()).unreadable == 0


async def test_a_row_that_leaves_the_window_is_forgotten(
    capture: Capture, store: Store, his: WatchedHis, clock: Clock
) -> None:
    his.order("1", BOOKED, schedule_id="yesterday")
    await poll(store, capture, clock)
    del his.rows["1"]
    his.current.outside.add("yesterday")
    his.current.vanish = "event"
    clock.advance(days=1)
    for _ in range(3):
        assert await poll(store, capture, clock) == []
    his.order("1", BOOKED, schedule_id="today")  # moved to another day: a new row with a higher version
    assert await poll(store, capture, clock) == [("1", -1, BOOKED, 2)]


async def test_two_snapshots_must_agree_that_a_row_is_gone(
    capture: Capture, store: Store, his: WatchedHis, clock: Clock
) -> None:
    his.current.vanish = "event"
    his.order("1", BOOKED)
    await poll(store, capture, clock)
    kept = his.rows.pop("1")
    assert await poll(store, capture, clock) == []
    his.rows["1"] = kept
    assert await poll(store, capture, clock) == []
    del his.rows["1"]
    assert await poll(store, capture, clock) == []
    assert await poll(store, capture, clock) == [("1", BOOKED, -1, 2)]
    assert await poll(store, capture, clock) == []
    his.rows["1"] = kept
    assert await poll(store, capture, clock) == [("1", -1, BOOKED, 3)]


async def test_rows_set_aside_come_back_silently(make: type, store: Store, his: WatchedHis, clock: Clock) -> None:
    capture: Capture = make()
    for n in range(100):
        his.order(str(n), BOOKED)
    await poll(store, capture, clock)
    gone = {key: his.rows.pop(key) for key in [str(n) for n in range(15)]}
    for _ in range(3):
        assert await poll(store, capture, clock) == []
    more = {key: his.rows.pop(key) for key in [str(n) for n in range(15, 30)]}
    for _ in range(3):
        assert await poll(store, capture, clock) == []
    again: Capture = make()  # 30 of 100 are away, but not suddenly: a restart must not take it for a catastrophe
    assert await poll(store, again, clock) == []
    his.rows.update(gone)
    his.rows.update(more)
    his.order("3", CANCELLED)
    assert await poll(store, again, clock) == [("3", BOOKED, CANCELLED, 2)]
    assert all(not row.absent for row in await store.read(lambda work: work.rows.all("orders")))


@pytest.mark.parametrize("vanish", ["ignore", "event"])
async def test_too_many_gone_at_once_suspend_the_stream(
    make: type, store: Store, his: WatchedHis, clock: Clock, vanish: str
) -> None:
    his.current.vanish = vanish
    capture: Capture = make()
    for n in range(100):
        his.order(f"{n:03}", BOOKED)
    await poll(store, capture, clock)
    kept = dict(his.rows)
    for n in range(21):
        del his.rows[f"{n:03}"]
    his.order("099", PAID)  # a stale replica shows wrong states as well: nothing is reported
    for current in (capture, make(), capture):
        with pytest.raises(CaptureSuspended) as caught:
            await current.poll()
        assert (caught.value.missing, caught.value.known) == (21, 100)
    his.rows.update(kept)
    assert await poll(store, capture, clock) == []
    for n in range(21):
        del his.rows[f"{n:03}"]
    with pytest.raises(CaptureSuspended):
        await capture.poll()
    capture.accept()
    for _ in range(3):
        assert await poll(store, capture, clock) == []
    his.order("050", PAID)
    assert await poll(store, capture, clock) == [("050", BOOKED, PAID, 2)]


async def test_a_new_mapping_reads_everything_anew(
    capture: Capture, store: Store, his: WatchedHis, clock: Clock
) -> None:
    his.order("1", BOOKED)
    await poll(store, capture, clock)

    class Corrected(Watch):
        def build(self, row: tuple[object, ...], /) -> common_pb2.Appointment:
            message = common_pb2.Appointment.FromString(row[0])  # type: ignore[arg-type]
            message.department_name = "内科"
            return message

    his.current = Corrected()
    batch = await capture.poll()
    assert [change.key for change in batch.changes] == ["1"]
    assert batch.watch is his.current
