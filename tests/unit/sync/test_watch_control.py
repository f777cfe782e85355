"""Pause, resume, reseed: nothing is told twice, nothing that happened before is lost, nothing is made up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from his160.v1 import event_pb2

from his_db.errors import HisUnavailable
from sync import order
from sync.audit import Audit
from sync.captures.fed import FedDiff
from sync.outbox import Outbox
from sync.stores.sqlite import SqliteStore
from sync.watch_control import WatchControl
from sync.watch_controls import WatchControls
from sync.watcher import Watcher
from tests.bounds import PATIENCE
from tests.unit.sync.bench import ORDER_RULES, Clock, Crash, FailingStore, Rule, WatchedHis, of_kinds

NEW_CANCELLED = Rule(event_pb2.EVENT_KIND_CANCELLED, after=frozenset({order.CANCELLED}), is_new=True)


class Site:
    """A watch over a store, and what people say to it."""

    def __init__(self, store: SqliteStore, clock: Clock) -> None:
        self.store, self.clock = store, clock
        self.his = WatchedHis(clock)
        self.his.current.rules = [NEW_CANCELLED, *ORDER_RULES]
        self.audit = Audit(store, clock, instance="agent-1")
        self.controls = WatchControls(store, self.audit)
        self.outbox = Outbox(store, clock)
        self.failing = FailingStore(store)
        self.watcher = self.start()

    def start(self, wait: Any = None) -> Watcher:
        capture = FedDiff(self.his, self.store, "orders", clock=self.clock)
        more = {} if wait is None else {"wait": wait}
        self.watcher = Watcher(
            capture, self.failing, self.outbox, site="H1", clock=self.clock, audit=self.audit, **more
        )
        return self.watcher

    async def obey(self) -> bool:
        return self.watcher.obey(await self.control())

    async def control(self) -> WatchControl:
        return await self.controls.get("orders")

    async def reseed(self) -> dict[str, int]:
        """Ask for it, have it done, and what it found."""
        number = await self.controls.reseed("orders", note="restored", now=self.clock())
        await self.obey()
        await self.watcher.poll_once()
        control = await self.control()
        assert control.reseeded == number
        found: dict[str, int] = json.loads(control.result)
        return found

    async def kinds(self) -> list[str]:
        return of_kinds(await self.outbox.read_after(0, 1000))


@pytest.fixture
async def site(store: SqliteStore, clock: Clock) -> Site:
    made = Site(store, clock)
    for number in range(1, 6):
        made.his.order(str(number), order.BOOKED)
    await made.watcher.poll_once()
    return made


async def test_a_paused_watch_reads_nothing_and_tells_on_resume(site: Site) -> None:
    waits: asyncio.Queue[timedelta] = asyncio.Queue()

    async def wait(wake: asyncio.Event, limit: timedelta) -> None:
        waits.put_nowait(limit)
        await wake.wait()

    watcher = site.start(wait)
    assert await site.controls.pause("orders", by="li@dba", note="换库", now=site.clock())
    assert await site.obey()
    running = asyncio.create_task(watcher.run())
    async with asyncio.timeout(PATIENCE):
        await waits.get()
        site.his.order("1", order.CANCELLED, operator_id="2001")
        site.his.order("9", order.BOOKED)
        watcher.wake()  # the desk, or a reload
        await waits.get()
    assert (watcher.status.state, watcher.status.polls) == ("paused", 0)
    assert "li@dba" in watcher.status.paused
    assert "换库" in watcher.status.paused
    assert not await site.controls.pause("orders", by="wang", note="", now=site.clock())  # and li's word stays
    assert (await site.control()).by == "li@dba"
    assert await site.controls.resume("orders", by="li@dba", now=site.clock())
    assert await site.obey()
    async with asyncio.timeout(PATIENCE):
        await waits.get()
    watcher.stop()
    await running
    assert (watcher.status.state, watcher.status.paused) == ("running", "")
    assert sorted(await site.kinds()) == ["BOOKED", "CANCELLED"]
    assert not await site.controls.resume("orders", by="li@dba", now=site.clock())


async def test_what_was_said_is_in_the_audit_and_survives(site: Site) -> None:
    await site.controls.pause("orders", by="li", note="换库", now=site.clock())
    await site.controls.reseed("orders", note="恢复备份", now=site.clock())
    watcher = site.start()  # another process
    await site.obey()
    assert watcher.status.paused
    await site.controls.resume("orders", by="li", now=site.clock())
    await site.obey()
    await watcher.poll_once()
    assert not (await site.control()).waits
    rows = [row.entry for row in await site.audit.newest()]
    actions = ["watch.pause", "watch.reseed", "watch.resume", "watch.reseeded"]
    assert [row.action for row in rows] == actions
    assert {row.target for row in rows} == {"orders"}
    assert "恢复备份" in rows[1].parameters


async def test_a_reseed_tells_what_was_not_told_and_nothing_twice(site: Site) -> None:
    site.his.order("1", order.CANCELLED, operator_id="2001")
    await site.watcher.poll_once()
    site.his.order("2", order.CANCELLED, operator_id="2001")  # happened, and not seen yet
    found = await site.reseed()
    assert (found["rows"], found["changes"], found["events"], found["set_aside"]) == (5, 1, 1, 0)
    assert await site.kinds() == ["CANCELLED", "CANCELLED"]
    assert (await site.reseed())["changes"] == 0
    await site.watcher.poll_once()
    assert site.watcher.status.reseeds == 2
    assert await site.kinds() == ["CANCELLED", "CANCELLED"]


async def test_a_suspension_ends_by_a_reseed_without_events(site: Site) -> None:
    for number in range(100, 160):
        site.his.order(str(number), order.BOOKED)
    await site.watcher.poll_once()
    before = await site.kinds()
    archived = {key: site.his.rows.pop(key) for key in map(str, range(100, 160))}
    site.watcher._interval = timedelta(0)
    await site.watcher._step()
    assert site.watcher.status.state == "suspended"
    site.his.order("1", order.CANCELLED, operator_id="2001")
    assert (await site.reseed())["set_aside"] == 60
    assert await site.kinds() == [*before, "CANCELLED"]
    site.his.rows.update(archived)  # were they only away, they come back silently
    await site.watcher.poll_once()
    assert await site.kinds() == [*before, "CANCELLED"]


async def test_a_row_deleted_before_a_reseed_is_still_a_cancellation_where_the_mapping_says_so(site: Site) -> None:
    site.his.current.vanish = "event"
    site.his.rows.pop("1")
    assert (await site.reseed())["set_aside"] == 0
    assert await site.kinds() == []  # two looks must agree
    await site.watcher.poll_once()
    assert await site.kinds() == ["CANCELLED"]


async def test_orders_under_other_keys_are_the_same_orders(site: Site) -> None:
    """The HIS was moved and has numbered its rows anew; meanwhile one order was cancelled."""
    site.his.order("3", order.CANCELLED, operator_id="2001")
    await site.watcher.poll_once()
    assert await site.kinds() == ["CANCELLED"]
    site.his.rows.clear()
    for number, state in enumerate([order.BOOKED, order.CANCELLED, order.CANCELLED, order.BOOKED, order.BOOKED], 1):
        site.his.order(f"N{number}", state, order_no=f"T{number}")
    found = await site.reseed()
    assert (found["moved"], found["events"], found["set_aside"]) == (5, 1, 0)
    events = await site.outbox.read_after(0)
    assert [(event.order_no, event.appointment_id) for event in events] == [("T3", "3"), ("T2", "N2")]
    assert events[1].appointment_before.appointment_id == "2"
    watcher = site.start()
    site.his.order("N1", order.CANCELLED, order_no="T1", operator_id="2001")
    await watcher.poll_once()
    assert len(await site.kinds()) == 3
    assert (await site.reseed())["moved"] == 0


async def test_a_reseed_that_is_cut_off_is_done_again_and_changes_nothing_more(site: Site) -> None:
    site.his.rows.clear()
    for number in range(1, 6):
        site.his.order(f"N{number}", order.CANCELLED if number == 2 else order.BOOKED, order_no=f"T{number}")
    await site.controls.reseed("orders", note="", now=site.clock())
    for _ in range(3):  # after the old rows were set aside; after the changes; after the word that it is done
        await site.obey()
        site.failing.fail("after")
        with pytest.raises(Crash):
            await site.watcher.poll_once()
        site.start()
    await site.obey()
    await site.watcher.poll_once()
    assert not (await site.control()).waits
    assert await site.kinds() == ["CANCELLED"]


async def test_a_his_that_is_away_delays_a_reseed(site: Site) -> None:
    number = await site.controls.reseed("orders", note="", now=site.clock())
    site.his.error = HisUnavailable("down")
    await site.obey()
    with pytest.raises(HisUnavailable):
        await site.watcher.poll_once()
    assert (await site.control()).waits
    site.his.error = None
    await site.obey()
    await site.watcher.poll_once()
    assert (await site.control()).reseeded == number


async def test_one_order_in_two_rows_is_not_guessed(site: Site) -> None:
    site.his.rows.pop("1")
    site.his.order("N1", order.BOOKED, order_no="T1")
    site.his.order("N2", order.CANCELLED, order_no="T1")
    found = await site.reseed()
    assert (found["moved"], found["set_aside"]) == (0, 1)
    assert sorted(await site.kinds()) == ["BOOKED", "CANCELLED"]


async def test_the_rows_of_a_newer_agent_can_be_read(site: Site) -> None:
    text = WatchControl("orders", is_paused=True).to_json().replace("{", '{"later": 1, ', 1)
    assert WatchControl.from_json(text).is_paused


async def all_controls(site: Site) -> Sequence[WatchControl]:
    return await site.store.read(lambda work: work.watch_controls.all())


async def test_controls_of_several_watches(site: Site) -> None:
    await site.controls.pause("schedules", by="li", note="", now=site.clock())
    await site.controls.pause("orders", by="li", note="", now=site.clock())
    assert [control.stream for control in await all_controls(site)] == ["orders", "schedules"]
    assert await site.controls.is_known("schedules")
    assert await site.controls.is_known("orders")
    assert not await site.controls.is_known("nothing")
