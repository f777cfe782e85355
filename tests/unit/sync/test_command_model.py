"""Any history of commands, faults, crashes and window changes: what the ledger says is what the HIS did, once."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from his160.v1 import common_pb2, reason_pb2
from hypothesis import example, given, settings
from hypothesis import strategies as st

from his_db.errors import HisError, HisRefused, HisUnavailable, OutcomeUnknown
from sync import order
from sync.command import CommandExecutor
from sync.commands import COMMANDS
from sync.store import CommandState, StoreError
from tests.unit.sync.bench import (
    BOOK,
    CANCEL,
    CONFIRM,
    REFUND,
    Clock,
    Crash,
    FailingStore,
    Fault,
    MemoryHis,
    book,
    cancel,
    confirm,
    crash_after,
    lost_after,
    lost_before,
    open_sqlite,
    raising,
    refund,
)

REQUESTS: dict[str, tuple[str, Message]] = {
    "r1": (BOOK, book()),
    "r2": (BOOK, book(request_id="r2")),
    "c1": (CANCEL, cancel()),
    "p1": (CONFIRM, confirm()),
    "p2": (CONFIRM, confirm(request_id="p2")),
    "f1": (REFUND, refund()),
    "f2": (REFUND, refund(request_id="f2")),
    "f3": (REFUND, refund(request_id="f3", number="R2")),
}
ENDED = (common_pb2.APPOINTMENT_STATE_CANCELLED, common_pb2.APPOINTMENT_STATE_REFUNDED)
ENDINGS = (reason_pb2.REASON_ALREADY_CANCELLED, reason_pb2.REASON_ALREADY_REFUNDED)
FAULTS: dict[str, Fault] = {
    "lost before": lost_before,
    "lost after": lost_after,
    "unavailable": raising(HisUnavailable("down")),
    "dies before": raising(asyncio.CancelledError()),
    "dies after": crash_after,
    "defect": raising(ValueError("defect")),
}
STORE_FAULTS = {
    "store before": ("before", 0),
    "store after": ("after", 0),
    "record before": ("before", 1),
    "record after": ("after", 1),
}
STEP = st.one_of(
    st.tuples(st.sampled_from(sorted(REQUESTS)), st.sampled_from(["", *FAULTS, *STORE_FAULTS])),
    st.tuples(st.sampled_from(["window cancels", "restart", "sweep", "later"]), st.just("")),
)


class Play:
    def __init__(self, folder: object) -> None:
        self.clock = Clock()
        self.his = MemoryHis()
        self.store = FailingStore(open_sqlite(folder, self.clock))  # type: ignore[arg-type]
        self.answers: dict[str, Message] = {}
        self.unrecorded: set[str] = set()
        self.refused: dict[str, int] = {}
        self.ended: set[str] = set()
        self.restart()

    def restart(self) -> None:
        self.run = CommandExecutor(self.his, self.store, clock=self.clock, settle=timedelta(seconds=15))

    async def ask(self, request_id: str) -> bool:
        """True when there is a final answer. A DONE answer never changes, once the store has it.

        An answer that the store could not take before the process died is made anew from what the HIS holds then: the
        same order, perhaps further on.
        """
        operation, request = REQUESTS[request_id]
        try:
            answer = await self.run.execute(operation, request)
        except HisError as error:
            row = await self.run.ledger.get(request_id)
            if row is not None and row.state is CommandState.REJECTED:
                self.check_refusal(request_id, error)
            return row is None or not row.state.is_open
        except (StoreError, Crash, asyncio.CancelledError):
            return False
        assert request_id not in self.refused
        if operation == BOOK and request_id not in self.answers:
            assert answer.appointment.state not in ENDED, "an order that has ended is told as booked"  # type: ignore[attr-defined]
        first = self.answers.setdefault(request_id, answer)
        if first != answer:
            assert request_id in self.unrecorded
            was, now = first.appointment, answer.appointment  # type: ignore[attr-defined]
            assert was.appointment_id == now.appointment_id
            assert order.is_reachable(was.state, now.state)
            self.answers[request_id] = answer
            self.unrecorded.discard(request_id)  # now it is on disk, and changes no more
        return True

    def check_refusal(self, request_id: str, error: HisError) -> None:
        """A refusal stays; and a booking is called cancelled when its order is, also where its answer got lost on the way
        to the store."""
        assert self.refused.setdefault(request_id, error.reason) == error.reason
        assert request_id not in self.answers or (request_id in self.unrecorded and error.reason in ENDINGS)
        self.answers.pop(request_id, None)
        if REQUESTS[request_id][0] == BOOK and error.reason in ENDINGS:
            self.ended.add(request_id)

    async def step(self, what: str, fault: str) -> None:
        self.clock.advance(seconds=1)
        match what:
            case "window cancels":
                held = self.his.orders.get("T1")
                if held is not None and held.state == common_pb2.APPOINTMENT_STATE_BOOKED:
                    held.state = common_pb2.APPOINTMENT_STATE_CANCELLED
            case "restart":
                await self.recovered()
            case "sweep":
                await self.run.sweep()
            case "later":
                self.clock.advance(seconds=30)
            case _:
                if fault in FAULTS:
                    self.his.faults.append(FAULTS[fault])
                elif fault:
                    self.store.fail(*STORE_FAULTS[fault])
                    self.unrecorded.add(what)
                await self.ask(what)
                self.his.faults.clear()
                self.store.points.clear()
                if fault in ("store after", "record after", "dies before", "dies after"):
                    await self.recovered()

    async def recovered(self) -> None:
        self.restart()
        await self.run.recover()

    async def check(self, asked: set[str]) -> None:
        self.clock.advance(seconds=30)
        await self.recovered()
        self.clock.advance(seconds=30)
        await self.run.sweep()
        for request_id in sorted(asked):
            assert await self.ask(request_id), request_id
        done: Counter[tuple[str, str]] = Counter()
        for row in await self.run.ledger.listed(CommandState.DONE):
            if not row.replay_of:
                done[row.operation, row.natural_key.partition(":")[2]] += 1
        effects = self.his.effects
        assert effects[CONFIRM, "W1"] == done[CONFIRM, "W1"] <= 1
        assert effects[REFUND, "R1"] + effects[REFUND, "R2"] == done[REFUND, "R1"] + done[REFUND, "R2"] <= 1
        # A booking whose order was found cancelled, by whomever, is refused as cancelled, whether it was done before or not.
        assert done[BOOK, "T1"] <= effects[BOOK, "T1"] <= done[BOOK, "T1"] + len(self.ended)
        assert effects[CANCEL, "T1"] <= done[CANCEL, "T1"]  # a cancellation at the window answers ours as well
        assert not await self.run.ledger.open(10)
        assert len(self.run._locks) == 0


@settings(max_examples=80, deadline=None)
@given(st.lists(STEP, max_size=14))
@example([("r1", "record before"), ("window cancels", "")])
@example([("r2", ""), ("c1", ""), ("r1", "lost before")])
def test_any_history(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str]]) -> None:
    async def play() -> None:
        scene = Play(tmp_path_factory.mktemp("model"))
        for what, fault in steps:
            await scene.step(what, fault)
        await scene.check({what for what, _ in steps if what in REQUESTS})
        await scene.store.close()

    assert set(COMMANDS) >= {operation for operation, _ in REQUESTS.values()}
    asyncio.run(play())


@pytest.mark.parametrize("booked_by", ["an older request", "this request"])
def test_a_booking_found_cancelled_is_refused_and_a_new_one_is_free(tmp_path: Path, booked_by: str) -> None:
    """Whoever booked what the probe finds: nothing stands, nothing is booked again, and the same request hears the same."""

    async def play() -> None:
        scene = Play(tmp_path)
        if booked_by == "an older request":
            await scene.step("r2", "")
            await scene.step("c1", "")
            await scene.step("r1", "lost before")
        else:
            await scene.step("r1", "lost after")
            await scene.step("window cancels", "")
        with pytest.raises(OutcomeUnknown):  # the statement may still be running
            await scene.run.execute(BOOK, book())
        scene.clock.advance(seconds=30)
        for _ in range(2):
            with pytest.raises(HisRefused) as caught:
                await scene.run.execute(BOOK, book())
            assert caught.value.reason == reason_pb2.REASON_ALREADY_CANCELLED
        assert scene.his.effects[BOOK, "T1"] == 1
        anew: Any = await scene.run.execute(BOOK, book(request_id="r3"))
        assert anew.appointment.state == common_pb2.APPOINTMENT_STATE_BOOKED
        await scene.store.close()

    asyncio.run(play())
