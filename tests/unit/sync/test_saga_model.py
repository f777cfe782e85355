"""Patients at once on few slots, with faults, deaths, windows and stopped sessions: the books agree in the end.

Any history that Hypothesis thinks of. Invariants by the books of the HIS, the payment house and 医保, not by the agent's
memory: no slot sold twice, nothing charged or given back twice, no paid order without a slot or a refund, no settlement
without a registration, no answer that contradicts the one before.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from his160.site.v1 import mobile_payment_pb2 as mobile
from his160.v1 import appointment_pb2, common_pb2, payment_pb2, reason_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from his_db.errors import HisError, HisRefused, HisUnavailable
from sync.command import CommandExecutor
from sync.store import CommandState, StoreError
from tests.unit.sync.bench import (
    BOOK,
    CANCEL,
    CONFIRM,
    FEE,
    REFUND,
    Clock,
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
from tests.unit.sync.test_sagas import RULES
from tests.unit.sync.world import CREATE, QUOTE, REVERSE, SETTLE, Trade, World, create, quote, reverse, settle

R = reason_pb2
S = common_pb2
PATIENTS = ("a", "b", "c")
SLOTS = {"a": "S1", "b": "S1", "c": "S2"}  # two patients want the same one
LIVE = (S.APPOINTMENT_STATE_BOOKED, S.APPOINTMENT_STATE_PAID, S.APPOINTMENT_STATE_SUSPENDED)
FAULTS: dict[str, Any] = {
    "lost before": lost_before,
    "lost after": lost_after,
    "dies before": raising(asyncio.CancelledError()),
    "dies after": crash_after,
    "unavailable": raising(HisUnavailable("down")),
    "refused": raising(HisRefused(R.REASON_HIS_REFUSED, "no")),
}


class Hospital(World):
    """With slots that only one live order can have, taken by compare-and-set."""

    def _book(self, request: appointment_pb2.BookAppointmentRequest) -> Message:
        for order in self.orders.values():
            if order.slot_id == request.slot_id and order.state in LIVE and order.order_no != request.order_no:
                raise HisRefused(R.REASON_SLOT_TAKEN, "taken")
        return super()._book(request)


def requests(patient: str) -> dict[str, tuple[str, Message]]:
    order, cash, part = f"T{patient}", f"W{patient}-self", f"W{patient}-part"
    paid_back = refund(order, f"f{patient}", f"R{patient}")
    paid_back.out_trade_no = cash
    return {
        f"book {patient}": (BOOK, book(order, f"r{patient}", SLOTS[patient])),
        f"create {patient}": (CREATE, create(order, f"w{patient}", cash)),
        f"confirm {patient}": (CONFIRM, confirm(order, f"p{patient}", cash)),
        f"cancel {patient}": (CANCEL, cancel(order, f"c{patient}")),
        f"refund {patient}": (REFUND, paid_back),
        f"quote {patient}": (QUOTE, quote(order, f"q{patient}")),
        f"settle {patient}": (SETTLE, settle(order, f"s{patient}", part)),
    }


COMMANDS = {name: found for patient in PATIENTS for name, found in requests(patient).items()}
REVERSALS = [f"reverse {patient}" for patient in PATIENTS]
HAPPENINGS = [
    *(f"{what} {patient}" for what in ("pays", "pays part", "window", "stopped", "resumed") for patient in PATIENTS),
    "restart",
    "sweep",
    "later",
    "much later",
]
ROUND = st.tuples(
    st.lists(st.sampled_from([*sorted(COMMANDS), *REVERSALS]), min_size=1, max_size=4, unique=True),
    st.lists(st.sampled_from(["", "", *FAULTS]), max_size=6),
    st.lists(st.sampled_from(HAPPENINGS), max_size=3),
)


class Play:
    def __init__(self, folder: Path, variant: str) -> None:
        self.clock = Clock()
        self.his = Hospital(variant)
        self.his.clock = self.clock
        self.store = open_sqlite(folder, self.clock)
        self.answers: dict[str, Any] = {}
        self.asked: dict[str, tuple[str, Message]] = {}
        self.died = False
        for patient in PATIENTS:  # the trade of a cash part is open before 医保 settles
            self.his.trades[f"W{patient}-part"] = Trade(600)
        self.start()

    def start(self) -> None:
        self.run = CommandExecutor(
            self.his,
            self.store,
            clock=self.clock,
            settle=timedelta(seconds=15),
            monotonic=lambda: self.clock.now.timestamp(),
            rules=RULES,
        )

    def request(self, name: str) -> tuple[str, Message] | None:
        if not name.startswith("reverse"):
            return COMMANDS[name]
        patient = name.rpartition(" ")[2]
        found = self.his.insured.get(f"T{patient}")
        return self.asked.get(name) or (
            None if found is None else (REVERSE, reverse(found.setl_id, f"T{patient}", f"v{patient}"))
        )

    async def ask(self, name: str) -> None:
        found = self.request(name)
        if found is None:
            return
        self.asked[name] = found
        try:
            answer: Any = await self.run.execute(*found)
        except HisRefused as error:
            row = await self.run.ledger.get(found[1].request_id)  # type: ignore[attr-defined]
            if row is None or row.state is not CommandState.REJECTED:
                return
            answer = (error.reason, dict(error.metadata))
        except (HisError, StoreError):
            return
        except asyncio.CancelledError:
            self.died = True
            return
        assert self.answers.setdefault(name, answer) == answer, name

    async def round(self, names: list[str], faults: list[str], happenings: list[str]) -> None:
        self.clock.advance(seconds=1)
        self.his.faults.extend(FAULTS[fault] if fault else (lambda work: work()) for fault in faults)
        await asyncio.gather(*(self.ask(name) for name in names))
        self.his.faults.clear()
        if self.died:
            await self.restarted()
        for what in happenings:
            await self.happens(*what.rsplit(" ", 1))

    async def restarted(self) -> None:
        self.died = False
        self.start()
        await self.run.recover()

    async def happens(self, what: str, who: str = "") -> None:
        order = self.his.orders.get(f"T{who}")
        match what:
            case "pays" | "pays part":
                self.pay(f"W{who}-{'self' if what == 'pays' else 'part'}", FEE if what == "pays" else 600)
            case "window" if order is not None and order.state == S.APPOINTMENT_STATE_BOOKED:
                order.state = S.APPOINTMENT_STATE_CANCELLED
            case "stopped" if order is not None and order.state == S.APPOINTMENT_STATE_BOOKED:
                order.state = S.APPOINTMENT_STATE_SUSPENDED
            case "resumed" if order is not None and order.state == S.APPOINTMENT_STATE_SUSPENDED:
                order.state = S.APPOINTMENT_STATE_BOOKED
            case "restart":
                await self.restarted()
            case "sweep":
                await self.run.sweep()
            case "later":
                self.clock.advance(seconds=30)
            case "much":
                self.clock.advance(minutes=40)

    def pay(self, number: str, amount: int) -> None:
        trade = self.his.trades.setdefault(number, Trade(amount))
        if trade.state == payment_pb2.PAYMENT_STATE_UNPAID:
            trade.state = payment_pb2.PAYMENT_STATE_PAID

    async def decided(self) -> None:
        """A person looks at what was refused where that must not be, has it mended, and says: try again."""
        ledger = self.run.ledger
        for row in await ledger.open(100):
            if not row.detail.startswith("a person must look"):
                continue
            steps = await self.store.read(lambda work, row=row: work.commands.steps_of(row.request_id))
            for step in steps:
                if row.detail.startswith(f"a person must look: {step.step} was refused"):
                    await ledger.advance(step, ledger.retryable(step, 0, "by a person"))

    async def settled(self) -> None:
        """The faults are over; callers ask again for what they asked; time passes."""
        await self.restarted()
        for _ in range(4):
            self.clock.advance(minutes=3)
            await self.decided()
            await self.run.sweep()
            for name in sorted(self.asked):
                await self.ask(name)
        self.clock.advance(hours=2)
        await self.run.sweep()

    async def left_open(self) -> set[str]:
        """Orders whose visit 医保 would not cancel: it moves no money, and the refused step is the evidence."""
        rows = [row for patient in PATIENTS for row in await self.store.read(_of_order(f"T{patient}"))]
        back = ("InsuranceGatewayService.CancelVisit", "MobilePaymentService.CancelOrder")
        return {row.order_key for row in rows if row.operation in back and row.state is CommandState.REJECTED}

    async def check(self) -> None:
        self.excused = await self.left_open()
        assert not await self.run.ledger.open(10), "something never came to an end"
        self.check_slots()
        for patient in PATIENTS:
            self.check_cash(patient)
            self.check_insurance(patient)
        assert len(self.run._locks) == 0

    def check_slots(self) -> None:
        taken = [order.slot_id for order in self.his.orders.values() if order.state in LIVE]
        assert len(set(taken)) == len(taken), "a slot is sold twice"

    def check_cash(self, patient: str) -> None:
        order = self.his.orders.get(f"T{patient}")
        for kind, command in (("self", "confirm"), ("part", "settle")):
            trade = self.his.trades.get(f"W{patient}-{kind}")
            if trade is None:
                continue
            assert len(trade.refunds) <= 1, "given back twice"
            is_paid = trade.state == payment_pb2.PAYMENT_STATE_PAID
            serves = order is not None and order.out_trade_no == f"W{patient}-{kind}"
            is_registered = serves and order is not None and order.state == S.APPOINTMENT_STATE_PAID
            if is_registered:
                assert is_paid
                assert not trade.refunds, "registered and given back"
            elif is_paid and f"{command} {patient}" in self.asked:
                assert trade.refunds, f"paid, and neither a slot nor a refund: {patient} {kind}"

    def check_insurance(self, patient: str) -> None:
        order = self.his.orders.get(f"T{patient}")
        visits = [visit for visit in self.his.visits.values() if visit.visit_no == f"T{patient}"]
        standing = [found.setl_id for visit in visits for found in visit.standing]
        assert len(standing) <= 1, "settled twice"
        if f"T{patient}" not in self.excused:
            assert not any(visit.is_open and not visit.standing for visit in visits), "a visit stays open"
        insured = self.his.insured.get(f"T{patient}")
        is_registered = (
            insured is not None
            and order is not None
            and order.state == S.APPOINTMENT_STATE_PAID
            and order.out_trade_no == f"W{patient}-part"
        )
        if not self.his.centre:
            assert bool(standing) == is_registered, "医保 and the HIS do not agree"

    def check_centre(self) -> None:
        done = [order for order in self.his.centre.values() if order.state == mobile.MOBILE_ORDER_STATE_INSURANCE_DONE]
        registered = [
            found.setl_id
            for order_no, found in self.his.insured.items()
            if self.his.orders[order_no].state == S.APPOINTMENT_STATE_PAID
            and self.his.orders[order_no].out_trade_no.endswith("-part")
        ]
        assert sorted(order.setl_id for order in done) == sorted(registered)
        waiting = [order for order in self.his.centre.values() if order.state == mobile.MOBILE_ORDER_STATE_QUOTED]
        assert self.excused or not waiting


def _of_order(order_no: str) -> Callable[[Any], Any]:
    return lambda work: work.commands.of_order(order_no)


def played(variant: str, rounds: list[tuple[list[str], list[str], list[str]]]) -> Play:
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))

    async def play() -> Play:
        scene = Play(folder, variant)
        try:
            for names, faults, happenings in rounds:
                await scene.round(names, faults, happenings)
            await scene.settled()
            await scene.check()
            if variant == "centre":
                scene.check_centre()
        finally:
            await scene.store.close()
        return scene

    try:
        return asyncio.run(play())
    finally:
        shutil.rmtree(folder)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["gateway", "centre"]), st.lists(ROUND, max_size=10))
def test_any_history_of_patients(variant: str, rounds: list[tuple[list[str], list[str], list[str]]]) -> None:
    played(variant, rounds)


def test_a_history_with_everything_in_it() -> None:
    """The model really moves money: an order of each kind, so that a check that never bites would be seen."""
    scene = played(
        "gateway",
        [
            (["book a", "book b", "book c"], [], []),
            (["create a", "quote c"], [], ["pays a", "pays part c"]),
            (["confirm a", "settle c"], ["lost after", "", "lost after"], ["sweep"]),
            (["reverse c"], ["dies after"], []),
        ],
    )
    taken = [name for name in ("Ta", "Tb") if name in scene.his.orders]
    assert len(taken) == 1, "one of the two has the slot"
    assert scene.his.orders["Tc"].state == S.APPOINTMENT_STATE_REFUNDED
    assert scene.his.trades["Wc-part"].refunds
    winner: Callable[[], bool] = lambda: scene.his.trades["Wa-self"].refunds == {}  # noqa: E731
    assert winner() == (taken == ["Ta"])
