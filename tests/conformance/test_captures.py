"""What every capture strategy must see, whatever it reads: rows in, changes out, nothing lost, nothing made up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from his160.v1 import common_pb2

from his_db.errors import MappingMismatch
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
    capture.reseed()
    for _ in range(3):
        assert await poll(store, capture, clock) == []
    his.order("050", PAID)
    assert await poll(store, capture, clock) == [("050", BOOKED, PAID, 2)]


class Corrected(Watch):
    """Another mapping of the same rows: it reads another doctor, and sees no row that is ``hidden``."""

    doctor = "D2"

    def build(self, row: tuple[object, ...], /) -> common_pb2.Appointment:
        message = Watch.build(self, row)
        assert isinstance(message, common_pb2.Appointment)
        message.doctor_id = self.doctor
        return message


async def test_a_changed_mapping_invents_nothing_and_loses_nothing(
    capture: Capture, store: Store, his: WatchedHis, clock: Clock
) -> None:
    for key in "123":
        his.order(key, BOOKED, doctor_id="D1")
    await poll(store, capture, clock)
    his.current = Corrected()
    assert await poll(store, capture, clock) == []  # every row reads otherwise, and nothing has happened
    assert await poll(store, capture, clock) == []
    his.order("2", PAID, doctor_id="D1")
    batch = await capture.poll()
    (change,) = batch.changes
    assert change.before is not None
    assert change.after is not None
    assert (change.before.doctor_id, change.after.doctor_id) == ("D2", "D2")  # type: ignore[attr-defined]
    assert (change.before.state, change.after.state, change.version) == (BOOKED, PAID, 2)  # type: ignore[attr-defined]


async def test_what_happens_during_a_reload_is_reported(
    capture: Capture, store: Store, his: WatchedHis, clock: Clock
) -> None:
    for key in "123":
        his.order(key, BOOKED, doctor_id="D1")
    await poll(store, capture, clock)
    his.current = Corrected()
    his.order("1", CANCELLED, doctor_id="D1")
    batch = await capture.poll()
    (change,) = batch.changes  # as the mapping saw it under which it happened
    assert (change.before.doctor_id, change.after.doctor_id) == ("D1", "D1")  # type: ignore[union-attr]
    await commit(store, capture, batch, clock)
    his.order("3", PAID, doctor_id="D1")
    assert await poll(store, capture, clock) == [("3", BOOKED, PAID, 2)]
    assert await poll(store, capture, clock) == []
    his.order("2", PAID, doctor_id="D1")
    assert await poll(store, capture, clock) == [("2", BOOKED, PAID, 2)]


async def test_a_rebase_that_was_not_committed_is_made_again(
    capture: Capture, store: Store, his: WatchedHis, clock: Clock
) -> None:
    his.order("1", BOOKED, doctor_id="D1")
    await poll(store, capture, clock)
    his.current = Corrected()
    lost = await capture.poll()
    assert lost.quiet
    assert await poll(store, capture, clock) == []
    third = Corrected()
    third.doctor = "D3"
    his.current = third
    assert await poll(store, capture, clock) == []
    his.order("1", PAID, doctor_id="D1")
    batch = await capture.poll()
    assert [change.before.doctor_id for change in batch.changes if change.before is not None] == ["D3"]  # type: ignore[attr-defined]


async def test_rows_that_a_new_mapping_brings_or_hides_are_no_events(
    capture: Capture, store: Store, his: WatchedHis, clock: Clock
) -> None:
    his.order("1", BOOKED, schedule_id="S1")
    his.order("2", BOOKED, schedule_id="S2")
    await poll(store, capture, clock)

    class Wider(Watch):
        pass

    whole = his.snapshot

    async def snapshot(name: str, /, *, watch: object = None) -> object:
        """The former mapping does not see row 3, the new one does not see row 2."""
        found = await whole(name)
        hidden = "3" if watch is not None else "2"
        return type(found)([row for row in found.rows if row[0] != hidden], found.now)

    his.order("3", BOOKED, schedule_id="S3")
    his.current = Wider()
    his.snapshot = snapshot  # type: ignore[method-assign, assignment]
    assert await poll(store, capture, clock) == []
    assert await poll(store, capture, clock) == []
    his.snapshot = whole  # type: ignore[method-assign]
    assert await poll(store, capture, clock) == []  # the hidden row comes back as it was
    his.order("3", PAID, schedule_id="S3")
    his.order("2", PAID, schedule_id="S2")
    assert await poll(store, capture, clock) == [("2", BOOKED, PAID, 2), ("3", BOOKED, PAID, 2)]


async def test_rows_that_the_former_mapping_could_not_read_are_compared(
    capture: Capture, store: Store, his: WatchedHis, clock: Clock
) -> None:
    """An unmapped code kept a cancellation from being seen; the mended mapping sees it."""
    his.order("1", BOOKED)
    await poll(store, capture, clock)
    cancelled = common_pb2.Appointment(appointment_id="1", state=CANCELLED)
    his.rows["1"] = b"?"
    assert await poll(store, capture, clock) == []

    class Mended(Watch):
        def build(self, row: tuple[object, ...], /) -> common_pb2.Appointment:
            return cancelled if row[0] == b"?" else common_pb2.Appointment.FromString(row[0])  # type: ignore[arg-type]

    his.current = Mended()
    seen = await poll(store, capture, clock) + await poll(store, capture, clock)
    assert seen == [("1", BOOKED, CANCELLED, 2)]


async def test_a_former_mapping_that_fails_leaves_the_comparison_with_the_store(
    capture: Capture, store: Store, his: WatchedHis, clock: Clock
) -> None:
    his.order("1", BOOKED)
    await poll(store, capture, clock)
    his.order("1", CANCELLED)
    whole = his.snapshot

    async def snapshot(name: str, /, *, watch: object = None) -> object:
        if watch is not None:
            raise MappingMismatch("the column is gone")
        return await whole(name)

    his.snapshot = snapshot  # type: ignore[method-assign, assignment]
    his.current = Corrected()
    assert await poll(store, capture, clock) == [("1", BOOKED, CANCELLED, 2)]


async def test_rows_that_stay_cost_nothing_until_the_day_changes(
    make: type, store: Store, his: WatchedHis, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a row that cannot be read: it is tried again when anything has changed."""
    capture: Capture = make()
    his.order("1", BOOKED)
    his.rows["2"] = b"?"
    await poll(store, capture, clock)
    await poll(store, capture, clock)
    built: list[bytes] = []
    build = Watch.build

    def noted(watch: Watch, row: tuple[bytes]) -> object:
        built.append(row[0])
        return build(watch, row)

    monkeypatch.setattr(Watch, "build", noted)
    assert [(await capture.poll()).unreadable for _ in range(3)] == [1, 1, 1]
    assert built == []
    clock.advance(days=1)
    assert await poll(store, capture, clock) == []
    assert built == [b"?"]
    his.order("1", PAID)
    assert await poll(store, capture, clock) == [("1", BOOKED, PAID, 2)]
    assert built[1:] == [his.rows["1"], b"?"]
    his.order("2", BOOKED)
    assert await poll(store, capture, clock) == [("2", -1, BOOKED, 1)]
