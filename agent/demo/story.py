"""The story of the demo: a list of steps, each a function that does one thing and proves it, and who runs them."""

from __future__ import annotations

import datetime
import secrets
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from his160.v1 import common_pb2, event_pb2

from agent.demo.child import ChildFailed
from agent.demo.hospital import Hospital
from agent.demo.narrator import Narrator
from agent.demo.relay_book import EventMissing, RelayBook
from agent.demo.rows import RowChange, difference
from agent.demo.site import NotInTime, Site
from agent.sandbox.client import CallFailed, SandboxClient
from his_db.sample import HisRow, WindowProgram, WindowRefusal, hospital_now

CASHIER: Final = "0931"
_SCHEDULE_DAY: Final = {"zebone": ("DATE_WORK", "%Y-%m-%d", 10), "winning": ("zbrq", "%Y%m%d", 8)}
_ENOUGH: Final = 5000  # more orders than the sample has


class StepFailed(Exception):
    """A step did not prove what it should. No personal data."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step says: one line, and the HIS rows it changed."""

    detail: str
    changes: Sequence[RowChange] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """How a step went, as ``--json`` prints it."""

    name: str
    ok: bool
    detail: str


@dataclass(slots=True)
class Order:
    """An order of the story. ``his_id`` empty: not yet in the HIS. ``answers``: of its commands by name."""

    order_no: str
    his_id: str = ""
    schedule_id: str = ""
    slot_id: str = ""
    lock_id: str = ""
    patient_id: str = ""
    out_trade_no: str = ""
    out_refund_no: str = ""
    total_fen: int = 0
    requests: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class EarlierOrders:
    """Platform orders that were in the HIS before the agent was started: to be cancelled, refunded, cancelled last."""

    cancelled: Order
    refunded: Order
    witness: Order


class Story:
    """What the steps share. Calls go over the relay link; the window writes straight into the HIS."""

    def __init__(self, client: SandboxClient, window: WindowProgram, earlier: EarlierOrders, pack: str) -> None:
        self.book = RelayBook(client)
        self.window = window
        self.pack = pack
        self.earlier = earlier
        number = order_number()
        self.paid = Order(f"{number}4", out_trade_no=f"M{number}4", out_refund_no=f"R{number}4")
        self.withdrawn = Order(f"{number}5")
        self.today: datetime.date = hospital_now().date()
        self.birthday = datetime.date(1960, 1, 1) + datetime.timedelta(days=secrets.randbelow(15_000))
        self.person = 100 + secrets.randbelow(800)
        """Sequence in the number of a fictional person; chance enough that nobody has it."""
        self.departments: list[Any] = []
        self.sessions: list[Any] = []
        self.avoid = {earlier.cancelled.schedule_id, earlier.refunded.schedule_id, earlier.witness.schedule_id}
        """Sessions that the platform leaves alone, because the window works on them."""
        self.seconds: dict[str, float] = {}
        """Seconds from the window's commit to the arrival at the relay, by step."""

    @property
    def orders(self) -> list[Order]:
        """All orders of the story."""
        return [self.earlier.cancelled, self.earlier.refunded, self.earlier.witness, self.paid, self.withdrawn]

    def rows(self, order: Order) -> list[HisRow]:
        """HIS rows of an order now."""
        return self.window.raw(order.his_id) if order.his_id else []

    def on_site(
        self,
        step: str,
        order: Order,
        kind: event_pb2.EventKind.ValueType,
        act: Callable[[], None],
        before: Sequence[common_pb2.AppointmentState.ValueType],
        after: common_pb2.AppointmentState.ValueType,
    ) -> Outcome:
        """Let the window do something to an order and wait for its event: before, after, origin, seconds."""
        rows = [*self.rows(order), *self.window.raw_schedule(order.schedule_id)]
        act()
        committed = time.time()
        stored = self.book.wait_event(lambda e: e.order_no == order.order_no and e.kind == kind, order.order_no)
        event = stored.event
        self.seconds[step] = stored.arrival_us / 1e6 - committed
        require(event.origin == event_pb2.ORIGIN_ON_SITE, "the event's origin is not ON_SITE")
        require(event.HasField("appointment_before"), "the event has no state before")
        require(event.appointment_before.state in before, f"before was {state_name(event.appointment_before.state)}")
        require(event.appointment_after.state == after, f"after is {state_name(event.appointment_after.state)}")
        changes = difference(rows, [*self.rows(order), *self.window.raw_schedule(order.schedule_id)])
        require(bool(changes), "no HIS row changed")
        detail = (
            f"{event_pb2.EventKind.Name(kind).removeprefix('EVENT_KIND_')} ON_SITE "
            f"{state_name(event.appointment_before.state)} → {state_name(after)}, {self.seconds[step]:.2f} s"
        )
        return Outcome(detail, changes)


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its name in the JSON, what a person reads, what it does."""

    name: str
    zh: str
    en: str
    act: Callable[[Story], Outcome]


def play(story: Story, steps: Sequence[Step], narrator: Narrator) -> list[Result]:
    """Run the steps in order; after the first that fails, the others are not done, as each builds on those before."""
    results: list[Result] = []
    for number, step in enumerate(steps, 1):
        if results and not results[-1].ok:
            results.append(Result(step.name, False, "not done: an earlier step failed"))
            continue
        started = time.monotonic()
        outcome, ok = _done(step, story)
        results.append(Result(step.name, ok, outcome.detail))
        seconds = time.monotonic() - started
        narrator.step(f"{number}/{len(steps)}", ok, step.zh, step.en, outcome.detail, seconds)
        narrator.rows(outcome.changes)
    return results


def _done(step: Step, story: Story) -> tuple[Outcome, bool]:
    try:
        return step.act(story), True
    except CallFailed as error:
        return Outcome(f"refused: {error} {error.zh}".rstrip()), False
    except (StepFailed, EventMissing, WindowRefusal, NotInTime, ChildFailed) as error:
        return Outcome(f"{type(error).__name__}: {error}"), False


def make_earlier_orders(hospital: Hospital) -> EarlierOrders:
    """Put three platform orders into the HIS as the platform did yesterday. Raises StepFailed."""
    return EarlierOrders(*put_orders(hospital, (False, True, False)))


def put_orders(hospital: Hospital, paid: Sequence[bool]) -> list[Order]:
    """Put platform orders into coming sessions, one after the other. Raises StepFailed."""
    window = hospital.window()
    try:
        number = order_number()
        known = window.orders(channel_only=False, states=("BOOKED", "PAID"), limit=_ENOUGH)
        schedules = [s for s in dict.fromkeys(row.schedule_id for row in known) if is_coming(window, hospital.pack, s)]
        patients = list(dict.fromkeys(row.patient_id for row in known))
        return [
            _put(window, f"{number}{index + 1}", schedules, [*patients[index:], *patients], paid=is_paid)
            for index, is_paid in enumerate(paid)
        ]
    finally:
        window.close()


def _put(
    window: WindowProgram, order_no: str, schedules: Sequence[str], patients: Sequence[str], *, paid: bool
) -> Order:
    """One order in the first session and for the first patient that the HIS takes."""
    for schedule in schedules:
        for patient in patients[:5]:
            try:
                his_id = window.book_for_channel(schedule, patient, order_no, paid=paid)
            except WindowRefusal:
                continue
            return Order(order_no, his_id, schedule, patient_id=patient)
    raise StepFailed("no session of the sample HIS takes an order")


def is_coming(window: WindowProgram, pack: str, schedule_id: str) -> bool:
    """Whether a session lies after today, by its HIS row."""
    column, form, width = _SCHEDULE_DAY[pack]
    rows = [row for _, row in window.raw_schedule(schedule_id) if column in row]
    day = datetime.datetime.strptime(str(rows[0][column])[:width], form).date()  # noqa: DTZ007  # a day has no zone
    return day > hospital_now().date()


def order_number() -> str:
    """The begin of order numbers nobody has used: to the second, and four digits of chance."""
    return f"Y{hospital_now():%y%m%d%H%M%S}{secrets.randbelow(10_000):04d}"


def request_id() -> str:
    """A new request_id."""
    return uuid.uuid4().hex


def require(condition: bool, otherwise: str) -> None:
    """Raise StepFailed with the text unless the condition holds."""
    if not condition:
        raise StepFailed(otherwise)


def state_name(state: common_pb2.AppointmentState.ValueType) -> str:
    """``PAID`` for APPOINTMENT_STATE_PAID."""
    return common_pb2.AppointmentState.Name(state).removeprefix("APPOINTMENT_STATE_")


def story_of(site: Site, window: WindowProgram, earlier: EarlierOrders) -> Story:
    """The story at a site that runs."""
    assert site.hospital is not None
    return Story(site.client, window, earlier, site.hospital.pack)
