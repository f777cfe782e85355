"""The ladder: feeds say what to read, the window is read behind them, and whatever fails costs a look, never a change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from his160.v1 import common_pb2

from his_db.errors import HisBusy, MappingMismatch
from sync.capture import Batch, CaptureSuspended
from sync.captures.fed import FedDiff
from sync.open_orders import OpenOrders
from sync.store import RowState, StreamRow
from sync.stores.sqlite import SqliteStore
from tests.unit.sync.bench import Clock, Snapshot, Watch, WatchedHis

BOOKED, PAID, CANCELLED = (
    common_pb2.APPOINTMENT_STATE_BOOKED,
    common_pb2.APPOINTMENT_STATE_PAID,
    common_pb2.APPOINTMENT_STATE_CANCELLED,
)


@dataclass(frozen=True, slots=True)
class Look:
    positions: Sequence[Any]
    keys: dict[str, Any]
    everything: bool = False
    lost: str = ""


@dataclass(frozen=True, slots=True)
class Rung:
    grade: str = "B"


@dataclass
class FedHis(WatchedHis):
    """A HIS with a log of changed keys; ``silent`` keys are changed without the feed knowing."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.current = Watch(feeds=((Rung(), None),))
        self.log: list[str] = []
        self.reads: list[list[Any] | None] = []
        self.failures: list[Exception] = []
        self.lost = ""
        self.everything = False

    def change(self, key: str, state: int, *, silent: bool = False, **fields: Any) -> None:
        self.order(key, state, **fields)
        if not silent:
            self.log.append(key)

    async def begin_feeds(self, name: str, /, *, watch: Any) -> Sequence[Any]:
        if self.failures:
            raise self.failures.pop(0)
        return (len(self.log),)

    async def look(self, name: str, positions: Sequence[Any], /, *, watch: Any) -> Look:
        if self.failures:
            raise self.failures.pop(0)
        if self.lost:
            return Look((), {}, everything=True, lost=self.lost)
        (after,) = positions
        return Look((len(self.log),), {key: key for key in self.log[after:]}, self.everything)

    async def snapshot(self, name: str, /, *, watch: Any = None, keys: Sequence[Any] | None = None) -> Snapshot:
        self.reads.append(None if keys is None else list(keys))
        found = await super().snapshot(name, watch=watch)
        return found if keys is None else replace(found, rows=[row for row in found.rows if row[0] in keys])


@dataclass
class Run:
    """A capture, and what the watcher does with it."""

    his: FedHis
    store: SqliteStore
    clock: Clock
    seconds: float = 0.0
    capture: FedDiff = field(init=False)

    def __post_init__(self) -> None:
        self.capture = FedDiff(self.his, self.store, "orders", clock=self.clock, monotonic=lambda: self.seconds)

    async def poll(self, *, commit: bool = True) -> dict[str, int]:
        batch = await self.capture.poll()
        if commit:
            await self.commit(batch)
        return {change.key: getattr(change.after, "state", -1) for change in batch.changes}

    async def commit(self, batch: Batch) -> None:
        rows = [
            RowState(c.key, c.version, None if c.after is None else c.after.SerializeToString(), self.clock())
            for c in batch.changes
        ]
        await self.store.write(lambda work: work.rows.put_many("orders", [*batch.quiet, *rows]))
        if batch.baseline:
            await self.store.write(lambda work: work.rows.put_stream(StreamRow("orders", self.clock())))
        self.capture.confirm(batch.changes)


@pytest.fixture
async def run(store: SqliteStore, clock: Clock) -> Run:
    made = Run(FedHis(clock), store, clock)
    for key in ("1", "2", "3"):
        made.his.order(key, BOOKED)
    await made.poll()
    return made


async def test_quiet_polls_read_nothing_and_a_change_reads_its_row_alone(run: Run) -> None:
    assert run.capture.rung == "B"
    run.his.reads.clear()
    assert await run.poll() == {}
    assert run.his.reads == []
    run.his.change("2", PAID)
    assert await run.poll() == {"2": PAID}
    assert run.his.reads == [["2"]]
    assert await run.poll() == {}
    assert run.his.reads == [["2"]]


async def test_new_rows_come_by_key_and_a_key_named_for_nothing_changes_nothing(run: Run) -> None:
    run.his.change("9", BOOKED)
    run.his.log += ["1", "1"]
    assert await run.poll() == {"9": BOOKED}


async def test_a_change_that_did_not_come_into_the_store_is_handed_over_again(run: Run) -> None:
    run.his.change("2", PAID)
    assert await run.poll(commit=False) == {"2": PAID}
    assert await run.poll() == {"2": PAID}
    assert await run.poll() == {}


async def test_what_no_feed_names_is_found_by_the_reconciler_and_counted(run: Run) -> None:
    run.his.change("2", CANCELLED, silent=True)
    run.his.change("3", PAID)
    assert await run.poll() == {"3": PAID}
    run.seconds = 31
    assert await run.poll() == {"2": CANCELLED}
    assert run.capture.missed == 1
    run.his.change("1", PAID)  # named, and found in the window only because it is time
    run.seconds = 62
    assert await run.poll() == {"1": PAID}
    assert run.capture.missed == 1


async def test_a_lost_position_reads_the_window_and_says_why(run: Run) -> None:
    run.his.change("2", CANCELLED, silent=True)
    run.his.lost = "the changes were cleaned up"
    assert await run.poll() == {"2": CANCELLED}
    run.his.lost = ""
    run.his.reads.clear()
    assert await run.poll() == {}
    assert (run.his.reads, run.capture.rung) == ([], "B")


async def test_feeds_that_fail_leave_the_snapshot_diff_and_are_taken_up_again(run: Run) -> None:
    run.his.failures = [MappingMismatch("no right on the table")] * 4
    run.his.change("2", PAID)
    assert await run.poll() == {"2": PAID}
    assert run.capture.rung == "D"
    assert "no right" in run.capture.trouble
    run.his.change("3", PAID, silent=True)
    assert await run.poll() == {"3": PAID}
    await run.poll()
    await run.poll()
    assert (run.capture.rung, run.capture.trouble) == ("B", "")


async def test_rows_that_go_away_are_judged_by_the_whole_window(run: Run) -> None:
    run.his.rows.pop("2")
    run.his.log.append("2")
    assert await run.poll() == {}  # one look is not enough to take it for gone
    assert run.his.reads[-1] is None


async def test_a_suspended_window_stays_suspended_until_it_is_well(run: Run) -> None:
    for key in map(str, range(100, 160)):
        run.his.order(key, BOOKED)
    run.seconds = 31
    await run.poll()
    kept, run.his.rows = run.his.rows, {}
    run.seconds = 62
    for _ in range(2):
        with pytest.raises(CaptureSuspended):
            await run.poll()
    run.his.rows = kept
    assert await run.poll() == {}


async def test_an_error_of_the_window_comes_up_again(run: Run) -> None:
    run.his.error = HisBusy("locked")
    run.seconds = 31
    for _ in range(2):
        with pytest.raises(HisBusy):
            await run.poll()
    run.his.error = None
    run.his.change("1", PAID)
    assert await run.poll() == {"1": PAID}


@pytest.mark.parametrize("reason", ["everything", "many", "statement"])
async def test_too_much_for_single_rows_reads_the_window(run: Run, reason: str) -> None:
    run.his.change("2", PAID)
    if reason == "everything":
        run.his.everything = True
    elif reason == "many":
        run.his.log += [f"x{number}" for number in range(300)]
    else:
        run.his.current.reads_keys = False
        await run.poll()
        run.his.change("2", CANCELLED)
    run.his.reads.clear()
    assert await run.poll() == {"2": CANCELLED if reason == "statement" else PAID}
    assert run.his.reads == [None]


async def test_another_mapping_begins_anew(run: Run) -> None:
    run.his.change("2", CANCELLED, silent=True)
    run.his.current = Watch(feeds=((Rung("A"), None),))
    seen: dict[str, int] = {}
    for _ in range(4):
        seen |= await run.poll()
    assert seen == {"2": CANCELLED}
    assert run.capture.rung == "A"


async def test_open_orders_are_known_again_after_a_start_and_a_reload(run: Run) -> None:
    run.his.order("7", CANCELLED)
    run.his.order("8", BOOKED, order_no="")
    run.seconds = 31
    run.his.current.reconcile = timedelta(hours=1)
    await run.poll()
    for begin in ("start", "reload", "reseed"):
        if begin == "start":
            run.capture = FedDiff(run.his, run.store, "orders", clock=run.clock, monotonic=lambda: run.seconds)
        elif begin == "reload":
            run.his.current = Watch(feeds=((Rung("A"), None),), reconcile=timedelta(hours=1))
        else:
            run.capture.reseed()
        for _ in range(3):  # a reload is taken up by a second look at the window
            await run.poll()
            run.seconds += 10
        run.his.reads.clear()
        await run.poll()
        assert run.his.reads == [["1", "2", "3"]], begin


async def test_a_look_at_open_orders_that_fails_is_made_again(run: Run) -> None:
    run.his.change("2", CANCELLED, silent=True)
    run.his.error = HisBusy("locked")
    run.seconds = 10
    with pytest.raises(HisBusy):
        await run.poll()
    run.his.error = None
    assert await run.poll(commit=False) == {"2": CANCELLED}
    assert await run.poll() == {"2": CANCELLED}  # did not come into the store
    run.seconds = 20
    assert await run.poll() == {}
    assert run.capture.missed == 1


@pytest.mark.parametrize("known", ["later", "by the window", "lost", "everything", "never"])
async def test_an_order_seen_before_a_feed_that_is_late_names_it_is_not_missed(run: Run, known: str) -> None:
    run.seconds = 25 if known == "by the window" else 10
    run.his.change("2", CANCELLED, silent=True)
    assert await run.poll() == {"2": CANCELLED}
    if known == "later":
        run.his.log.append("2")
    elif known == "by the window":
        run.seconds = 30
        run.his.log.append("2")
    elif known == "lost":
        run.his.lost = "the changes were cleaned up"
    run.his.everything = known == "everything"
    await run.poll()
    run.his.lost, run.his.everything = "", False
    for seconds in (10, 20):
        run.seconds += seconds
        await run.poll()
    assert run.capture.missed == (known == "never")


async def test_orders_that_cannot_be_read_wait_and_hold_up_no_other(run: Run) -> None:
    run.his.rows["1"] = b"?"
    run.his.change("2", CANCELLED, silent=True)
    run.seconds = 10
    assert await run.poll() == {"2": CANCELLED}
    run.his.order("1", CANCELLED)
    run.seconds = 20
    assert await run.poll() == {"1": CANCELLED}


async def test_orders_whose_day_has_passed_are_looked_at_no_more(run: Run) -> None:
    run.his.order("1", BOOKED, schedule_id="D0")
    run.his.log.append("1")
    await run.poll()
    run.his.rows.pop("1")
    run.his.current.outside.add("D0")
    run.seconds = 10
    assert await run.poll() == {}
    run.his.reads.clear()
    run.seconds = 20
    assert await run.poll() == {}
    assert run.his.reads == [["2", "3"]]


async def test_the_queue_lets_go_of_rows_that_are_forgotten_and_keeps_those_set_aside(run: Run) -> None:
    orders = OpenOrders()
    await orders.fill(run.store, "orders", run.his.current)
    orders.left([RowState("1", 2, None, run.clock()), RowState("2", 2, b"", run.clock(), absent=True)])
    assert list(orders.next(lambda key: key, 10)) == ["2", "3"]
    orders.looked(["2"])
    assert list(orders.next(lambda key: key, 1)) == ["3"]


async def test_without_reading_by_key_the_window_alone_shows_orders(run: Run) -> None:
    run.his.current.reads_keys = False
    run.his.reads.clear()
    run.seconds = 29
    assert await run.poll() == {}
    assert run.his.reads == []
