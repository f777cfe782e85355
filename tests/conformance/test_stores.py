"""What every state store must do, whatever is behind it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sync.notice import NoticeKind, NoticeRow, SubjectRow
from sync.store import (
    CommandRow,
    CommandState,
    EventState,
    NewEvent,
    RowState,
    Store,
    StoreClosed,
    StoreCorrupt,
    StoreError,
    StoreLocked,
    StoreTooNew,
    StoreUnavailable,
    StreamRow,
    Transaction,
    open_store,
)
from sync.stores.sqlite import SqliteStore
from sync.watch_control import WatchControl

NOW = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)


def clock() -> datetime:
    return NOW


def command(request_id: str, **changes: object) -> CommandRow:
    values: dict[str, object] = {
        "request_id": request_id,
        "operation": "AppointmentService.BookAppointment",
        "payload_hash": b"p",
        "essence_hash": b"e",
        "order_key": "T" + request_id,
        "natural_key": "order_no:T" + request_id,
        "state": CommandState.SENT,
        "received_time": NOW,
        "sent_time": NOW + timedelta(microseconds=1),
    }
    values.update(changes)
    return CommandRow(**values)  # type: ignore[arg-type]


async def put(store: Store, rows: Sequence[CommandRow]) -> None:
    """Puts the rows in, in one unit."""

    def unit(work: Transaction) -> None:
        for row in rows:
            work.commands.put(row)

    await store.write(unit)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
async def store(store_place: str) -> AsyncIterator[Store]:
    opened = open_store(store_place, clock)
    yield opened
    await opened.close()


async def test_a_unit_is_on_disk_when_write_returns(store: Store, store_place: str) -> None:
    row = command("1", state=CommandState.DONE, result=b"\x00\xff", reason=7, finished_time=NOW)
    await store.write(lambda work: work.commands.put(row))
    other = open_store(store_place, clock, exclusive=False)  # as after a crash: nobody has closed the first
    assert await other.read(lambda work: work.commands.get("1")) == row
    assert await other.read(lambda work: work.commands.get("2")) is None
    await other.close()


async def test_a_store_is_the_same_one_for_ever_and_no_other(
    store: Store, store_place: str, path: Path, tmp_path: Path
) -> None:
    """By this a relay knows that a site has two ledgers; a copy cannot be told from its origin."""
    again = open_store(store_place, clock, exclusive=False)
    assert again.identity == store.identity
    await again.close()
    another = open_store(path.with_name("another.db"), clock)
    assert another.identity not in ("", store.identity)
    await another.close()


async def test_a_store_without_its_id_is_damaged(path: Path) -> None:
    await open_store(path, clock).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM metadata WHERE name = 'store_id'")
    with pytest.raises(StoreCorrupt, match="no id of its own"):
        open_store(path, clock)


async def test_a_failing_unit_is_undone_alone(store: Store) -> None:
    def failing(work: Transaction) -> None:
        work.commands.put(command("bad"))
        raise KeyError("defect")

    good = [put(store, [command(str(n))]) for n in range(20)]
    results = await asyncio.gather(*good[:10], store.write(failing), *good[10:], return_exceptions=True)
    assert [type(result) for result in results if result is not None] == [KeyError]
    assert len(await store.read(lambda work: work.commands.open(100))) == 20
    assert await store.read(lambda work: work.commands.get("bad")) is None


async def test_units_see_all_units_before_them(store: Store) -> None:
    def count(work: Transaction) -> int:
        cursor = work.rows.stream("s")
        value = int(cursor.cursor) + 1 if cursor else 1
        work.rows.put_stream(StreamRow("s", NOW, str(value)))
        return value

    assert sorted(await asyncio.gather(*(store.write(count) for _ in range(300)))) == list(range(1, 301))
    assert await store.read(lambda work: work.rows.stream("s")) == StreamRow("s", NOW, "300")


async def test_a_cancelled_caller_does_not_take_its_unit_back(store: Store) -> None:
    task = asyncio.create_task(store.write(lambda work: work.commands.put(command("1"))))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await store.write(lambda work: None)  # behind it in the queue
    assert await store.read(lambda work: work.commands.get("1")) is not None


async def test_reading_cannot_change_anything(store: Store) -> None:
    with pytest.raises(StoreError):
        await store.read(lambda work: work.commands.put(command("1")))
    assert await store.read(lambda work: work.commands.open(10)) == []


async def test_a_stamp_tells_of_every_commit(store: Store, store_place: str) -> None:
    """Of this process and of others; a store that cannot tell says so each time."""
    tool = open_store(store_place, clock, exclusive=False)
    stamps = [await store.stamp(), await store.stamp()]
    await store.read(lambda work: work.commands.get("1"))
    stamps.append(await store.stamp())
    await put(store, [command("1")])
    stamps.append(await store.stamp())
    await put(tool, [command("2")])
    stamps.append(await store.stamp())
    await tool.close()
    if isinstance(store, SqliteStore):
        assert stamps[0] is not None
        assert stamps[0] == stamps[1] == stamps[2]
        assert stamps[2] != stamps[3] != stamps[4] != stamps[2]
    else:
        assert stamps == [None] * 5


async def test_two_agents_cannot_have_one_file(path: Path) -> None:
    store = open_store(path, clock)
    with pytest.raises(StoreLocked, match=str(os.getpid())):
        open_store(path, clock)
    tool = open_store(path, clock, exclusive=False)
    await tool.write(lambda work: work.rows.put_stream(StreamRow("s", NOW)))
    await tool.close()
    await store.close()
    again = open_store(path, clock)  # the lock goes with its holder
    assert await again.read(lambda work: work.rows.stream("s")) == StreamRow("s", NOW)
    await again.close()


async def test_a_closed_store_says_so(store: Store) -> None:
    await store.close()
    await store.close()
    with pytest.raises(StoreClosed):
        await store.write(lambda work: None)
    with pytest.raises(StoreClosed):
        await store.read(lambda work: None)


async def test_open_commands_by_order_and_by_number(store: Store) -> None:
    rows = [
        command("1", state=CommandState.UNKNOWN, probes=2),
        command("2", order_key="", natural_key="document:x"),
        command("3", state=CommandState.DONE, order_key="T1"),
        command("4", order_key="T9", natural_key="order_no:T1"),
    ]
    await put(store, rows)

    def names(found: object) -> list[str]:
        return [row.request_id for row in found]  # type: ignore[attr-defined]

    assert names(await store.read(lambda work: work.commands.open_of("T1", ""))) == ["1"]
    assert names(await store.read(lambda work: work.commands.open_of("T1", "order_no:T1"))) == ["1", "4"]
    assert names(await store.read(lambda work: work.commands.open_of("", "document:x"))) == ["2"]
    assert names(await store.read(lambda work: work.commands.open_of("", ""))) == []
    assert names(await store.read(lambda work: work.commands.open(10))) == ["2", "4", "1"]
    assert await store.write(lambda work: work.commands.interrupt_sent(NOW, "stopped")) == 2
    counts = await store.read(lambda work: work.commands.counts())
    assert counts[CommandState.UNKNOWN] == 3
    assert counts[CommandState.DONE] == 1
    assert counts[CommandState.REJECTED] == 0


async def test_open_commands_are_never_pruned(store: Store) -> None:
    old = NOW - timedelta(days=100)
    rows = [
        command("1", state=CommandState.UNKNOWN, finished_time=old),
        command("2", state=CommandState.DONE, finished_time=old),
        command("3", state=CommandState.DONE, finished_time=NOW),
    ]
    await put(store, rows)
    assert await store.write(lambda work: work.commands.prune(NOW - timedelta(days=30))) == 1
    assert await store.read(lambda work: work.commands.get("2")) is None


async def test_outbox_gives_the_head_of_each_lane(store: Store) -> None:
    def fill(work: Transaction) -> list[int | None]:
        lanes = {"a1": "A", "b1": "B", "a2": "A", "c1": "C", "b2": "B"}
        return [work.events.append(name, lane, name.encode(), NOW) for name, lane in lanes.items()]

    sequences = await store.write(fill)
    assert sequences == sorted(sequences, key=lambda value: value or 0)
    assert await store.write(lambda work: work.events.append("a1", "A", b"again", NOW)) is None

    async def pending(at: datetime = NOW) -> list[str]:
        return [row.event_id for row in await store.read(lambda work: work.events.pending(10, at))]

    assert await pending() == ["a1", "b1", "c1"]
    await store.write(lambda work: work.events.retry_later("a1", NOW + timedelta(seconds=5), "busy"))
    assert await pending() == ["b1", "c1"]
    assert await pending(NOW + timedelta(seconds=5)) == ["a1", "b1", "c1"]
    assert await store.write(lambda work: work.events.ack(["c1", "nothing"], NOW)) == 1
    await store.write(lambda work: work.events.bury("b1", "poison", NOW))
    assert await pending() == []
    assert await store.read(lambda work: work.events.next_due()) == NOW + timedelta(seconds=5)
    counts = await store.read(lambda work: work.events.counts())
    assert (counts.pending, counts.parked, counts.dead, counts.acked) == (3, 1, 1, 1)
    after = await store.read(lambda work: work.events.after(0, 10))
    assert [row.event_id for row in after] == ["a1", "a2", "c1", "b2"]
    assert await store.write(lambda work: work.events.revive(["b1", "a1"], NOW)) == 1
    assert await pending() == ["b1"]
    dead = await store.read(lambda work: work.events.listed(EventState.DEAD, 10))
    assert dead == []


async def test_many_events_at_once(store: Store) -> None:
    """As one by one: an id once, in their order, behind what waits in their lanes."""
    await store.write(lambda work: work.events.append("a1", "A", b"1", NOW))
    names = ["a2", "b1", "a1", "b2", "b1", *(f"n{number}" for number in range(1200))]
    many = [NewEvent(name, name[0].upper() if name[0] != "n" else name, name.encode()) for name in names]
    added = await store.write(lambda work: work.events.append_many(many, NOW))
    assert set(added) == set(names) - {"a1"}
    rows = await store.read(lambda work: work.events.after(0, 2000))
    assert [row.event_id for row in rows] == ["a1", "a2", "b1", "b2", *names[5:]]
    due = [row.event_id for row in await store.read(lambda work: work.events.pending(2000, NOW))]
    assert due == ["a1", "b1", *names[5:]]
    assert await store.write(lambda work: work.events.append_many(many, NOW)) == set()
    assert await store.write(lambda work: work.events.append_many([], NOW)) == set()


async def test_a_sequence_is_never_given_twice(store: Store) -> None:
    first = await store.write(lambda work: work.events.append("1", "A", b"", NOW))
    await store.write(lambda work: work.events.ack(["1"], NOW))
    assert await store.write(lambda work: work.events.prune(NOW + timedelta(days=1))) == 1
    second = await store.write(lambda work: work.events.append("2", "A", b"", NOW))
    assert first is not None
    assert second is not None
    assert second > first


async def test_rows_keep_their_version_behind_a_tombstone(store: Store) -> None:
    rows = [RowState(f"k{n}", 1, b"x", NOW) for n in range(1200)]
    await store.write(lambda work: work.rows.put_many("s", rows))
    gone = RowState("k0", 2, None, NOW)
    await store.write(lambda work: work.rows.put_many("s", [gone, RowState("k1", 5, b"y", NOW, absent=True)]))
    found = await store.read(lambda work: work.rows.get_many("s", [row.key for row in rows] + ["none"]))
    assert len(found) == 1200
    assert found["k0"] == gone
    assert found["k1"].absent
    assert len(await store.read(lambda work: work.rows.all("s"))) == 1199
    assert await store.read(lambda work: work.rows.all("other")) == []
    assert await store.write(lambda work: work.rows.prune(NOW + timedelta(days=1))) == 1


async def test_a_full_disk_is_said_and_healed(path: Path) -> None:
    await SqliteStore(path, clock).close()
    with closing(sqlite3.connect(path)) as file:
        (pages,) = file.execute("PRAGMA page_count").fetchone()
    store = SqliteStore(path, clock, max_pages=pages + 5)
    big = command("big", result=b"x" * 1_000_000, state=CommandState.DONE, finished_time=NOW)
    small = command("small")
    results = await asyncio.gather(
        store.write(lambda work: work.commands.put(small)),
        store.write(lambda work: work.commands.put(big)),
        return_exceptions=True,
    )
    assert results[0] is None
    assert isinstance(results[1], StoreUnavailable)
    assert "full" in str(results[1])
    await store.write(lambda work: work.commands.put(command("next")))
    assert len(await store.read(lambda work: work.commands.open(10))) == 2
    await store.close()
    roomy = SqliteStore(path, clock)
    await roomy.write(lambda work: work.commands.put(big))
    await roomy.close()


async def test_a_writer_shut_out_recovers_by_itself(path: Path) -> None:
    store = SqliteStore(path, clock, busy=timedelta(milliseconds=10))
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable):
            await store.write(lambda work: work.commands.put(command("1")))
        other.execute("ROLLBACK")
    other.close()
    await store.write(lambda work: work.commands.put(command("1")))
    await store.close()


async def test_what_is_no_store_of_ours_is_refused(path: Path) -> None:
    await SqliteStore(path, clock).close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '0099'")
    connection.commit()
    connection.close()
    with pytest.raises(StoreTooNew, match="0099"):
        SqliteStore(path, clock)
    foreign = path.with_name("foreign.db")
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE something (x)")
    connection.close()
    with pytest.raises(StoreCorrupt):
        SqliteStore(foreign, clock)
    noise = path.with_name("noise.db")
    noise.write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreError):
        SqliteStore(noise, clock)
    with pytest.raises(StoreUnavailable):
        SqliteStore(path.parent / "no" / "such" / "folder.db", clock)


def test_killed_in_mid_flight(path: Path) -> None:
    """A process that dies without closing anything: what it was told is on disk is there."""
    program = """
import asyncio, os, sys
sys.path[:0] = sys.argv[2:]
from tests.conformance.test_stores import clock, command
from sync.store import open_store
async def main():
    store = open_store(sys.argv[1], clock)
    for n in range(20):
        await store.write(lambda work: work.commands.put(command(str(n))))
    store.write(lambda work: work.commands.put(command("late"))).close()
    os._exit(9)
asyncio.run(main())
"""
    root = Path(__file__).resolve().parents[2]
    places = [str(root), str(root / "proto" / "gen")]
    done = subprocess.run([sys.executable, "-c", program, str(path), *places], capture_output=True, check=False)
    assert done.returncode == 9, done.stderr.decode()

    async def look() -> int:
        store = open_store(path, clock)
        rows = await store.read(lambda work: work.commands.open(100))
        await store.close()
        return len(rows)

    assert asyncio.run(look()) == 20


async def test_what_people_have_said_about_watches(store: Store) -> None:
    paused = WatchControl("orders", is_paused=True, note="换库", by="li@dba", since="2026-11-23T09:00:00+08:00")
    await store.write(lambda work: work.watch_controls.put(WatchControl("orders", note="first")))
    await store.write(lambda work: work.watch_controls.put(paused))
    await store.write(lambda work: work.watch_controls.put(WatchControl("a_b%", reseed="1")))
    assert await store.read(lambda work: work.watch_controls.get("orders")) == paused
    assert await store.read(lambda work: work.watch_controls.get("none")) is None
    found = await store.read(lambda work: work.watch_controls.all())
    assert [(control.stream, control.waits) for control in found] == [("a_b%", True), ("orders", False)]


async def test_which_of_many_orders_windows_have_told_of(store: Store) -> None:
    notice = NoticeRow("n1", NoticeKind.CANCEL, b"p", "window/1", "0931", b"", NOW)
    subjects = [SubjectRow("n1", f"order:T{number}", NoticeKind.CANCEL, NOW) for number in range(4)]

    def unit(work: Transaction) -> None:
        work.notices.add(notice, subjects)
        work.notices.settle(replace(subjects[1], seen_time=NOW))
        work.notices.settle(replace(subjects[2], given_up=True))

    await store.write(unit)
    asked = [f"order:T{number}" for number in range(1200)]  # more than one statement takes
    found = await store.read(lambda work: set(work.notices.open_among(asked[1:])))
    assert found == {"order:T3"}
    assert await store.read(lambda work: set(work.notices.open_among([]))) == set()
