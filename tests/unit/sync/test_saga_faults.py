"""Every saga, struck at every one of its calls and at every one of its commits; then retried or left alone; then the books.

Three books: the HIS, the payment house and 医保, each of which counts what it really did; and what the ledger answers.
Nothing happens twice, nothing is lost, no answer contradicts them.

``HIS160_STRIKES=all``: every point (``make chaos``); otherwise a few of each command, others on other days.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from his160.site.v1 import mobile_payment_pb2 as mobile
from his160.v1 import common_pb2, payment_pb2, reason_pb2

from his_db.errors import HisError, HisRefused, HisUnavailable
from sync.command import CommandExecutor
from sync.store import CommandState, StoreError, StoreUnavailable
from tests.unit.sync.bench import (
    CANCEL,
    CONFIRM,
    FEE,
    REFUND,
    cancel,
    confirm,
    crash_after,
    lost_after,
    lost_before,
    raising,
    refund,
)
from tests.unit.sync.test_sagas import AUTO, RULES, Scene
from tests.unit.sync.world import CREATE, QUOTE, REVERSE, SETTLE, create, quote, reverse, settle

R = reason_pb2
_FEW = 6
S = common_pb2
# Refusals that say only "not yet" or "ask again".
AGAIN = frozenset({R.REASON_ORDER_BUSY, R.REASON_HIS_UNAVAILABLE, R.REASON_NOT_PAID})
CALLS: dict[str, Any] = {
    "lost before": lost_before,
    "lost after": lost_after,
    "dies before": raising(asyncio.CancelledError()),
    "dies after": crash_after,
    "unavailable": raising(HisUnavailable("down")),
}
COMMITS = ("full", "dies before", "dies after")


class Points:
    """Stands before his and store, counts their points, and strikes at one of them."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.reset("", 0, "")
        self.write, self.read = scene.his.write, scene.his.read
        scene.his.write = self._call  # type: ignore[method-assign]
        scene.his.read = self._look  # type: ignore[method-assign]
        self.commit = scene.store.write
        scene.store.write = self._commit  # type: ignore[method-assign]

    def reset(self, kind: str, at: int, fault: str) -> None:
        self.counts = {"call": 0, "commit": 0, "look": 0}
        self.kind, self.at, self.fault = kind, at, fault

    def _strikes(self, kind: str) -> bool:
        self.counts[kind] += 1
        return (self.kind, self.at) == (kind, self.counts[kind])

    async def _call(self, operation: str, request: Message, **others: Any) -> Message:
        if self._strikes("call"):
            self.scene.his.faults.append(CALLS[self.fault])
        return await self.write(operation, request, **others)

    async def _look(self, operation: str, request: Message, **others: Any) -> Message:
        if self._strikes("look"):
            raise HisUnavailable("down")
        return await self.read(operation, request, **others)

    async def _commit(self, unit: Callable[[Any], Any]) -> Any:
        if not self._strikes("commit"):
            return await self.commit(unit)
        if self.fault == "full":
            raise StoreUnavailable("disk full")
        if self.fault == "dies after":
            await self.commit(unit)
        raise asyncio.CancelledError


@dataclass(frozen=True)
class Case:
    """A command, what comes before it, and what the books must say after it. ``spoil`` makes it be refused."""

    operation: str
    request: Callable[[Scene], Message]
    prepare: Callable[[Scene], Any]
    books: Callable[[Scene, CommandState | None], None]
    variant: str = "gateway"
    spoil: Callable[[Scene], None] | None = None


async def booked(scene: Scene) -> None:
    """The order is there already."""


async def paid(scene: Scene) -> None:
    scene.his.pay("W1")


async def paid_in_part(scene: Scene) -> None:
    scene.his.pay("W1", 600)


async def registered(scene: Scene) -> None:
    scene.his.pay("W1")
    await scene.run.execute(CONFIRM, confirm())


async def offered(scene: Scene) -> None:
    await scene.run.execute(CREATE, create())


async def settled(scene: Scene) -> None:
    scene.his.pay("W1", 600)
    await scene.run.execute(SETTLE, settle())


async def quoted(scene: Scene) -> None:
    scene.his.pay("W1", 600)
    await scene.run.execute(QUOTE, quote())


def setl_id(scene: Scene) -> str:
    return scene.his.insured["T1"].setl_id


def refunds(scene: Scene) -> dict[str, int]:
    return scene.his.trades["W1"].refunds


def standing(scene: Scene) -> list[Any]:
    """What 医保 has paid and not taken back."""
    at_centre = [
        order for order in scene.his.centre.values() if order.state == mobile.MOBILE_ORDER_STATE_INSURANCE_DONE
    ]
    return [*at_centre, *(found for visit in scene.his.visits.values() for found in visit.standing)]


def waiting(scene: Scene) -> int:
    """Visits and orders that are open at 医保 without a settlement."""
    open_visits = sum(visit.is_open and not visit.standing for visit in scene.his.visits.values())
    return open_visits + sum(order.state == mobile.MOBILE_ORDER_STATE_QUOTED for order in scene.his.centre.values())


def confirm_books(scene: Scene, state: CommandState | None) -> None:
    if state is CommandState.DONE:
        assert scene.order.state == S.APPOINTMENT_STATE_PAID
        assert refunds(scene) == {}
    elif state is CommandState.REJECTED:
        assert scene.order.state == S.APPOINTMENT_STATE_BOOKED
        assert refunds(scene) == {AUTO: FEE}
    else:
        assert state is None, "paid, and nobody sees to it"
        assert scene.order.state == S.APPOINTMENT_STATE_BOOKED
        assert refunds(scene) == {}
    assert scene.his.effects[CONFIRM, "W1"] == (state is CommandState.DONE)


def refund_books(scene: Scene, state: CommandState | None) -> None:
    if state is CommandState.DONE:
        assert scene.order.state == S.APPOINTMENT_STATE_REFUNDED
        assert refunds(scene) == {"R1": scene.his.trades["W1"].amount}
        assert standing(scene) == []
    else:
        assert scene.order.state == S.APPOINTMENT_STATE_PAID
        assert refunds(scene) == {}
        assert len(standing(scene)) == len(scene.his.insured)
    assert scene.his.effects["cash back", "W1"] <= 1


def settle_books(scene: Scene, state: CommandState | None) -> None:
    if state is CommandState.DONE:
        assert scene.order.state == S.APPOINTMENT_STATE_PAID
        (found,) = standing(scene)
        assert found.setl_id == setl_id(scene)
        assert refunds(scene) == {}
    else:
        assert scene.order.state == S.APPOINTMENT_STATE_BOOKED
        assert standing(scene) == []
        assert refunds(scene) == ({AUTO: 600} if state is CommandState.REJECTED else {})
        assert state in (None, CommandState.REJECTED), "paid, and nobody sees to it"
    assert scene.his.effects["registered", "T1"] == (state is CommandState.DONE)


def reverse_books(scene: Scene, state: CommandState | None) -> None:
    if state is CommandState.DONE:
        assert scene.order.state == S.APPOINTMENT_STATE_REFUNDED
        assert standing(scene) == []
        assert waiting(scene) == 0
        assert refunds(scene) == {AUTO: 600}
    else:
        assert scene.order.state == S.APPOINTMENT_STATE_PAID
        assert len(standing(scene)) == 1
        assert refunds(scene) == {}


def quote_books(scene: Scene, state: CommandState | None) -> None:
    assert waiting(scene) == (state is CommandState.DONE)
    assert standing(scene) == []


def create_books(scene: Scene, state: CommandState | None) -> None:
    assert len(scene.his.trades) <= 2
    payable = [trade for trade in scene.his.trades.values() if trade.state == payment_pb2.PAYMENT_STATE_UNPAID]
    assert len(payable) <= 1
    assert ("W2" in scene.his.trades) >= (state is CommandState.DONE)


def cancel_books(scene: Scene, state: CommandState | None) -> None:
    if scene.order.state == S.APPOINTMENT_STATE_CANCELLED:  # nobody pays for a slot that is released
        assert scene.his.trades["W1"].state == payment_pb2.PAYMENT_STATE_CLOSED
    else:
        assert scene.order.state == S.APPOINTMENT_STATE_BOOKED
        assert state is not CommandState.DONE
    assert scene.his.effects[CANCEL, "T1"] <= 1


def refusing(operation: str, reason: Any = R.REASON_SCHEDULE_SUSPENDED) -> Callable[[Scene], None]:
    return lambda scene: scene.his.refuse.update({operation: HisRefused(reason, "no")})


REGISTER = "InsuredRegistrationService.RegisterInsured"
CASES: dict[str, Case] = {
    "create": Case(CREATE, lambda _: create(request_id="w2", number="W2"), offered, create_books),
    "confirm": Case(CONFIRM, lambda _: confirm(), paid, confirm_books),
    "confirm, refused": Case(CONFIRM, lambda _: confirm(), paid, confirm_books, spoil=refusing(CONFIRM)),
    "cancel": Case(CANCEL, lambda _: cancel(), offered, cancel_books),
    "refund": Case(REFUND, lambda _: refund(), registered, refund_books),
    "refund, insured": Case(REFUND, lambda _: refund(amount=600), settled, refund_books),
    "quote": Case(QUOTE, lambda _: quote(), booked, quote_books),
    "settle": Case(SETTLE, lambda _: settle(), paid_in_part, settle_books),
    "settle after a quote": Case(SETTLE, lambda _: settle(), quoted, settle_books),
    "settle, 2207A refused": Case(
        SETTLE,
        lambda _: settle(),
        paid_in_part,
        settle_books,
        spoil=refusing("InsuranceGatewayService.Settle", R.REASON_INSURANCE_REFUSED),
    ),
    "settle, not registered": Case(SETTLE, lambda _: settle(), paid_in_part, settle_books, spoil=refusing(REGISTER)),
    "reverse": Case(REVERSE, lambda scene: reverse(setl_id(scene)), settled, reverse_books),
    "quote by the centre": Case(QUOTE, lambda _: quote(), booked, quote_books, "centre"),
    "settle by the centre": Case(SETTLE, lambda _: settle(), paid_in_part, settle_books, "centre"),
    "settle by the centre, not registered": Case(
        SETTLE, lambda _: settle(), paid_in_part, settle_books, "centre", refusing(REGISTER)
    ),
    "reverse by the centre": Case(REVERSE, lambda scene: reverse(setl_id(scene)), settled, reverse_books, "centre"),
}


class Play:
    """One command, struck once."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.case = case
        self.scene = Scene(folder, case.variant)
        self.answers: list[Message | tuple[int, Any]] = []

    async def begin(self) -> None:
        await self.case.prepare(self.scene)
        self.request = self.case.request(self.scene)
        if self.case.spoil is not None:
            self.case.spoil(self.scene)
        self.scene.his.effects.pop(("cash back", "W1"), None)
        self.points = Points(self.scene)

    async def ask(self) -> bool:
        """Whether there is a final answer. All final answers are one."""
        try:
            answer: Any = await self.scene.run.execute(self.case.operation, self.request)
        except HisRefused as error:
            if error.reason in AGAIN:
                return False
            answer = (error.reason, dict(error.metadata))
        except (HisError, StoreError):
            return False
        except asyncio.CancelledError:
            await self.restarted()
            return False
        self.answers.append(answer)
        return True

    async def restarted(self) -> None:
        self.points.reset("", 0, "")
        scene = self.scene
        scene.run = CommandExecutor(
            scene.his,
            scene.store,
            clock=scene.clock,
            settle=scene.run._prober._settle,
            monotonic=lambda: scene.clock.now.timestamp(),
            rules=RULES,
        )
        await scene.run.recover()

    async def struck(self, kind: str, at: int, fault: str, *, retried: bool) -> None:
        await self.begin()
        self.points.reset(kind, at, fault)
        final = await self.ask()
        self.points.reset("", 0, "")
        self.scene.his.faults.clear()
        request_id = self.request.request_id  # type: ignore[attr-defined]
        for _ in range(6):
            if retried and not final:
                self.scene.clock.advance(seconds=20)
                final = await self.ask()
            elif not retried:
                self.scene.clock.advance(minutes=1)
                await self.scene.run.sweep()
        state = await self.scene.state(request_id)
        assert state is None or not state.is_open, "it never came to an end"
        assert final or not retried, "a caller who asks again gets his answer"
        self.check(state)
        if state in (CommandState.DONE, CommandState.REJECTED):
            assert await self.ask()
            assert all(answer == self.answers[0] for answer in self.answers)
            self.check(state)
        self.scene.clock.advance(hours=2)
        await self.scene.run.sweep()
        assert waiting(self.scene) == 0, "a visit stays open at 医保"
        assert len(self.scene.run._locks) == 0

    def check(self, state: CommandState | None) -> None:
        if state is CommandState.RETRYABLE:  # nothing happened: as if it had never come
            state = None
        self.case.books(self.scene, state)
        for trade in self.scene.his.trades.values():
            assert len(trade.refunds) <= 1
            assert sum(trade.refunds.values()) <= trade.amount


@pytest.fixture
def quick() -> Iterator[Path]:
    """A folder in memory where there is one: a thousand plays of a hundred commits."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    yield folder
    shutil.rmtree(folder)


def chosen(strikes: list[tuple[str, int, str]], name: str) -> list[tuple[str, int, str]]:
    """All strikes, or a few spread over them: the same on one day, so that a failure can be repeated."""
    if os.environ.get("HIS160_STRIKES") == "all":
        return strikes
    first = zlib.crc32(f"{name}{datetime.now(UTC):%Y%m%d}".encode()) % len(strikes)
    step = max(1, len(strikes) // _FEW)
    return [strikes[(first + at * step) % len(strikes)] for at in range(_FEW)]


async def points_of(case: Case, folder: Path) -> dict[str, int]:
    """How many calls, commits and looks the command makes when nothing happens to it."""
    play = Play(case, folder)
    await play.begin()
    play.points.reset("", 0, "")
    assert await play.ask()
    counts = dict(play.points.counts)
    await play.scene.store.close()
    return counts


@pytest.mark.parametrize("retried", [True, False], ids=["retried", "left alone"])
@pytest.mark.parametrize("name", sorted(CASES))
async def test_struck_at_every_point(name: str, retried: bool, quick: Path) -> None:
    case = CASES[name]
    numbers = itertools.count()

    def place() -> Path:
        folder = quick / str(next(numbers))
        folder.mkdir()
        return folder

    counts = await points_of(case, place())
    strikes = [("call", at, fault) for at in range(1, counts["call"] + 1) for fault in CALLS]
    strikes += [("commit", at, fault) for at in range(1, counts["commit"] + 1) for fault in COMMITS]
    strikes += [("look", at, "unavailable") for at in range(1, counts["look"] + 1)]
    assert len(strikes) > 15
    for kind, at, fault in chosen(strikes, name):
        play = Play(case, place())
        try:
            await play.struck(kind, at, fault, retried=retried)
        except AssertionError as error:
            rows = await play.scene.steps(play.request.request_id)  # type: ignore[attr-defined]
            row = await play.scene.run.ledger.get(play.request.request_id)  # type: ignore[attr-defined]
            states = {step: state.value for step, state in rows.items()}
            raise AssertionError(f"{name}: {kind} {at} {fault}: {error}\n{row}\n{states}") from error
        finally:
            await play.scene.store.close()
