"""Commands over several systems: what each does when all goes well, and each way in which it is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from his160.site.v1 import mobile_payment_pb2 as mobile
from his160.v1 import appointment_pb2, common_pb2, event_pb2, insurance_pb2, payment_pb2, reason_pb2

from his_db.errors import HisError, HisRefused, HisUnavailable, OutcomeUnknown, SwitchedOff
from sync import numbers
from sync.command import CommandExecutor
from sync.money_book import RefundProgress, SettlementState
from sync.saga_context import SagaRules
from sync.store import CommandState, EventState
from sync.stores.sqlite import SqliteStore
from tests.unit.sync.bench import (
    BOOK,
    CANCEL,
    CONFIRM,
    FEE,
    LOCK,
    REFUND,
    Clock,
    book,
    cancel,
    confirm,
    lock,
    lost_after,
    lost_before,
    open_sqlite,
    refund,
)
from tests.unit.sync.world import (
    CREATE,
    INSTITUTION,
    PERSON,
    QUOTE,
    REVERSE,
    SETTLE,
    World,
    create,
    quote,
    reverse,
    settle,
    split,
)

R = reason_pb2
RULES = SagaRules(site="szh01", institution=INSTITUTION)
AUTO = numbers.automatic_refund_no("W1")


class Scene:
    """A hospital with an order that is booked, and an agent."""

    def __init__(self, folder: Path, variant: str = "gateway") -> None:
        self.clock = Clock()
        self.his = World(variant)
        self.his.clock = self.clock
        self.store: SqliteStore = open_sqlite(folder, self.clock)
        self.start()
        self.his._write(BOOK, book())
        self.his.effects.clear()

    def start(self) -> None:
        self.run = CommandExecutor(
            self.his,
            self.store,
            clock=self.clock,
            settle=timedelta(seconds=15),
            monotonic=lambda: self.clock.now.timestamp(),
            rules=RULES,
        )

    @property
    def order(self) -> common_pb2.Appointment:
        return self.his.orders["T1"]

    async def refusal(self, operation: str, request: Any) -> HisRefused:
        with pytest.raises(HisRefused) as caught:
            await self.run.execute(operation, request)
        return caught.value

    async def state(self, request_id: str) -> CommandState | None:
        row = await self.run.ledger.get(request_id)
        return None if row is None else row.state

    async def steps(self, request_id: str) -> dict[str, CommandState]:
        rows = await self.store.read(lambda work: work.commands.steps_of(request_id))
        return {row.step: row.state for row in rows}

    async def settlement(self) -> SettlementState | None:
        rows = await self.store.read(lambda work: work.settlements.of_order("T1"))
        return rows[0].state if rows else None

    async def events(self) -> list[event_pb2.Event]:
        rows = await self.store.read(lambda work: work.events.listed(EventState.PENDING, 99))
        return [event_pb2.Event.FromString(row.payload) for row in rows]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    made = Scene(tmp_path)
    yield made
    await made.store.close()


@pytest.fixture
async def centre(tmp_path: Path) -> AsyncIterator[Scene]:
    made = Scene(tmp_path, "centre")
    yield made
    await made.store.close()


# --- CreatePayment ---


async def test_a_trade_is_opened_for_what_the_his_wants(scene: Scene) -> None:
    answer: Any = await scene.run.execute(CREATE, create())
    assert dict(answer.pay_parameters) == {"package": "prepay"}
    assert scene.his.trades["W1"].amount == FEE
    assert scene.his.trades["W1"].expire == scene.clock.now + timedelta(minutes=15)
    assert await scene.run.execute(CREATE, create()) == answer
    assert scene.his.calls["MerchantService.OpenTrade"] == 1


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda his: his.orders.clear(), R.REASON_APPOINTMENT_NOT_FOUND),
        (lambda his: setattr(his.orders["T1"], "total_fen", FEE + 1), R.REASON_AMOUNT_MISMATCH),
        (lambda his: setattr(his.orders["T1"], "state", common_pb2.APPOINTMENT_STATE_PAID), R.REASON_ALREADY_PAID),
        (
            lambda his: setattr(his.orders["T1"], "state", common_pb2.APPOINTMENT_STATE_SUSPENDED),
            R.REASON_SCHEDULE_SUSPENDED,
        ),
        (lambda his: setattr(his.orders["T1"], "state", common_pb2.APPOINTMENT_STATE_RELEASED), R.REASON_LOCK_EXPIRED),
    ],
)
async def test_no_trade_for_an_order_that_cannot_be_paid(
    scene: Scene, spoil: Callable[[World], None], reason: int
) -> None:
    spoil(scene.his)
    error = await scene.refusal(CREATE, create())
    assert error.reason == reason
    assert scene.his.trades == {}
    assert (await scene.refusal(CREATE, create())).reason == reason


async def test_a_trade_does_not_outlive_the_hold(scene: Scene) -> None:
    original = scene.his._lock

    def held(request: Any) -> Any:
        answer: Any = original(request)
        answer.lock.expire_time.FromDatetime(scene.clock.now + timedelta(minutes=5))
        return answer

    scene.his._lock = held  # type: ignore[method-assign]
    await scene.run.execute(LOCK, lock())
    until = scene.clock.now + timedelta(minutes=5)
    scene.clock.advance(minutes=1)
    await scene.run.execute(CREATE, create())
    assert scene.his.trades["W1"].expire == until
    scene.clock.advance(minutes=3, seconds=30)
    assert (await scene.refusal(CREATE, create(request_id="w2", number="W2"))).reason == R.REASON_LOCK_EXPIRED
    scene.clock.advance(minutes=1)  # the hold is over, and the HIS says that it is booked all the same
    await scene.run.execute(CREATE, create(request_id="w3", number="W3"))
    assert scene.his.trades["W3"].expire == scene.clock.now + timedelta(minutes=15)


async def test_an_older_trade_is_closed_first(scene: Scene) -> None:
    await scene.run.execute(CREATE, create())
    await scene.run.execute(CREATE, create(request_id="w2", number="W2"))
    assert scene.his.trades["W1"].state == payment_pb2.PAYMENT_STATE_CLOSED
    scene.his.pay("W2")
    error = await scene.refusal(CREATE, create(request_id="w3", number="W3"))
    assert error.reason == R.REASON_ALREADY_PAID
    assert "W3" not in scene.his.trades


# --- ConfirmPayment ---


async def test_paid_and_registered(scene: Scene) -> None:
    scene.his.pay("W1")
    answer: Any = await scene.run.execute(CONFIRM, confirm())
    assert answer.appointment.state == common_pb2.APPOINTMENT_STATE_PAID
    assert await scene.run.execute(CONFIRM, confirm()) == answer
    assert scene.his.effects[CONFIRM, "W1"] == 1
    assert scene.his.trades["W1"].refunds == {}
    assert await scene.events() == []


@pytest.mark.parametrize(
    "state",
    [None, payment_pb2.PAYMENT_STATE_UNPAID, payment_pb2.PAYMENT_STATE_PAYING],
)
async def test_what_is_not_paid_is_not_registered_and_may_be_asked_again(scene: Scene, state: int | None) -> None:
    if state is not None:
        scene.his.pay("W1")
        scene.his.trades["W1"].state = state
    assert (await scene.refusal(CONFIRM, confirm())).reason == R.REASON_NOT_PAID
    assert await scene.state("p1") is CommandState.RETRYABLE
    assert scene.his.writes == []
    scene.his.trades.clear()
    scene.his.pay("W1")
    await scene.run.execute(CONFIRM, confirm())  # the very same request


REFUSALS = [
    R.REASON_AMOUNT_MISMATCH,
    R.REASON_SCHEDULE_SUSPENDED,
    R.REASON_ALREADY_CANCELLED,
    R.REASON_LOCK_EXPIRED,
    R.REASON_APPOINTMENT_NOT_FOUND,
    R.REASON_SCHEDULE_EXPIRED,
    R.REASON_HIS_REFUSED,
    R.REASON_NO_SLOT_LEFT,
    R.REASON_PATIENT_IN_ARREARS,
]


@pytest.mark.parametrize("reason", REFUSALS)
async def test_paid_and_not_registered_goes_back(scene: Scene, reason: R.Reason.ValueType) -> None:
    """Facts 1.3: 医生已停诊无法完成支付, HIS结算金额与支付金额不符 …: money was taken, and there is no slot."""
    scene.his.pay("W1")
    scene.his.refuse[CONFIRM] = HisRefused(reason, "no")
    error = await scene.refusal(CONFIRM, confirm())
    assert error.reason == reason
    assert error.metadata == {"out_refund_no": AUTO, "refund_fen": str(FEE), "refund_state": "DONE"}
    again = await scene.refusal(CONFIRM, confirm())
    assert (again.reason, again.metadata) == (error.reason, error.metadata)
    assert scene.his.trades["W1"].refunds == {AUTO: FEE}
    (event,) = await scene.events()
    assert (event.kind, event.origin) == (event_pb2.EVENT_KIND_REFUNDED, event_pb2.ORIGIN_PLATFORM)
    assert (event.order_no, event.reason, event.refund.out_refund_no) == ("T1", reason, AUTO)
    other = await scene.refusal(CONFIRM, confirm(request_id="p2"))  # the same payment under another request
    assert other.reason == R.REASON_ALREADY_REFUNDED
    assert len(scene.his.trades["W1"].refunds) == 1


async def test_a_payment_that_is_another_orders_is_not_given_back(scene: Scene) -> None:
    scene.his.pay("W1")
    scene.his.refuse[CONFIRM] = HisRefused(R.REASON_PAYMENT_NUMBER_REUSED, "another order's")
    error = await scene.refusal(CONFIRM, confirm())
    assert error.reason == R.REASON_PAYMENT_NUMBER_REUSED
    assert scene.his.trades["W1"].refunds == {}


async def test_a_refusal_of_what_was_done_is_not_believed(scene: Scene) -> None:
    """已支付勿重复 after a lost answer: the HIS has registered it, so nothing goes back."""
    scene.his.pay("W1")
    scene.his._write(CONFIRM, confirm())
    answer: Any = await scene.run.execute(CONFIRM, confirm())
    assert answer.payment.out_trade_no == "W1"
    assert scene.his.trades["W1"].refunds == {}


async def test_an_order_that_was_paid_twice_gets_the_second_payment_back(scene: Scene) -> None:
    for number in ("W1", "W2"):
        scene.his.pay(number)
    await scene.run.execute(CONFIRM, confirm())
    error = await scene.refusal(CONFIRM, confirm(request_id="p2", number="W2"))
    assert error.reason == R.REASON_ALREADY_PAID
    assert scene.his.trades["W1"].refunds == {}
    assert scene.his.trades["W2"].refunds == {numbers.automatic_refund_no("W2"): FEE}
    assert scene.order.state == common_pb2.APPOINTMENT_STATE_PAID


async def test_another_amount_than_was_paid(scene: Scene) -> None:
    scene.his.pay("W1", FEE - 100)
    error = await scene.refusal(CONFIRM, confirm())
    assert error.reason == R.REASON_AMOUNT_MISMATCH
    assert scene.his.trades["W1"].refunds == {AUTO: FEE - 100}
    assert scene.his.writes == ["MerchantService.RefundTrade"]


async def test_another_amount_of_a_payment_that_the_order_stands_on_gives_nothing_back(scene: Scene) -> None:
    """The cash part of a settlement, confirmed as if it were the whole: the HIS has it, so the hospital keeps it."""
    scene.his.pay("W1", FEE - 100)
    scene.his._write(CONFIRM, confirm())  # registered under this number by somebody else than a confirmation
    scene.order.paid_fen = FEE - 100
    error = await scene.refusal(CONFIRM, confirm())
    assert error.reason == R.REASON_PAYMENT_NUMBER_REUSED
    assert scene.his.trades["W1"].refunds == {}
    assert scene.his.writes == []


async def test_another_amount_waits_for_a_his_that_cannot_say_what_the_order_stands_on(scene: Scene) -> None:
    scene.his.pay("W1", FEE - 100)
    scene.his.down["AppointmentService.GetAppointment"] = HisUnavailable("down")
    with pytest.raises(HisError):
        await scene.run.execute(CONFIRM, confirm())
    assert scene.his.trades["W1"].refunds == {}
    scene.his.down.clear()
    error = await scene.refusal(CONFIRM, confirm())
    assert error.reason == R.REASON_AMOUNT_MISMATCH
    assert scene.his.trades["W1"].refunds == {AUTO: FEE - 100}


async def test_a_paid_order_is_registered_by_the_agent_alone(scene: Scene) -> None:
    """The HIS is away when it is confirmed, and nobody asks again: the sweep brings it to its end."""
    scene.his.pay("W1")
    scene.his.down[CONFIRM] = HisUnavailable("down")
    with pytest.raises(OutcomeUnknown):
        await scene.run.execute(CONFIRM, confirm())
    assert await scene.state("p1") is CommandState.UNKNOWN
    assert (await scene.refusal(CANCEL, cancel())).reason == R.REASON_ORDER_BUSY
    scene.his.down.clear()
    await scene.run.sweep()
    assert await scene.state("p1") is CommandState.DONE
    assert scene.order.state == common_pb2.APPOINTMENT_STATE_PAID


async def test_a_refund_is_repeated_until_it_is_taken(scene: Scene) -> None:
    scene.his.pay("W1")
    scene.his.refuse[CONFIRM] = HisRefused(R.REASON_SCHEDULE_SUSPENDED, "stopped")
    scene.his.down["MerchantService.RefundTrade"] = HisUnavailable("down")
    with pytest.raises(OutcomeUnknown):
        await scene.run.execute(CONFIRM, confirm())
    for _ in range(3):
        await scene.run.sweep()
    assert await scene.state("p1") is CommandState.UNKNOWN
    assert await scene.events() == []
    scene.his.down.clear()
    await scene.run.sweep()
    error = await scene.refusal(CONFIRM, confirm())
    assert (error.reason, error.metadata["out_refund_no"]) == (R.REASON_SCHEDULE_SUSPENDED, AUTO)
    assert len(await scene.events()) == 1


async def test_a_refund_on_its_way_is_followed_until_it_is_back(scene: Scene) -> None:
    scene.his.pay("W1")
    scene.his.refuse[CONFIRM] = HisRefused(R.REASON_SCHEDULE_SUSPENDED, "stopped")
    scene.his.refund_state = payment_pb2.REFUND_STATE_PROCESSING
    error = await scene.refusal(CONFIRM, confirm())
    assert error.metadata["refund_state"] == "PROCESSING"

    async def progress() -> RefundProgress:
        row = await scene.store.read(lambda work: work.refunds.get(AUTO))
        assert row is not None
        return row.state

    asked = scene.his.calls["MerchantService.QueryRefund"]
    await scene.run.sweep()
    assert scene.his.calls["MerchantService.QueryRefund"] == asked  # not before a minute
    for minutes in (1, 1, 1, 1, 1, 1, 2, 4):
        scene.clock.advance(minutes=minutes)
        await scene.run.sweep()
    assert scene.his.calls["MerchantService.QueryRefund"] == asked + 8
    assert await progress() is RefundProgress.PROCESSING
    scene.his.refund_state = payment_pb2.REFUND_STATE_ABNORMAL
    scene.clock.advance(hours=1)
    await scene.run.sweep()
    assert await progress() is RefundProgress.ABNORMAL
    scene.clock.advance(hours=9)
    await scene.run.sweep()
    assert await progress() is RefundProgress.ABNORMAL  # a person's work now


async def test_a_refund_that_was_called_back_is_asked_for_at_once(scene: Scene) -> None:
    scene.his.pay("W1")
    scene.his.refuse[CONFIRM] = HisRefused(R.REASON_SCHEDULE_SUSPENDED, "stopped")
    scene.his.refund_state = payment_pb2.REFUND_STATE_PROCESSING
    await scene.refusal(CONFIRM, confirm())
    await scene.run.wake("unknown")
    await scene.run.wake(AUTO)  # a call-back that lies, or comes early, is no evidence
    row = await scene.store.read(lambda work: work.refunds.get(AUTO))
    assert row is not None
    assert (row.state, row.asked) == (RefundProgress.PROCESSING, 1)
    scene.his.refund_state = payment_pb2.REFUND_STATE_DONE
    await scene.run.wake(AUTO)
    row = await scene.store.read(lambda work: work.refunds.get(AUTO))
    assert row is not None
    assert row.state is RefundProgress.DONE
    asked = scene.his.calls["MerchantService.QueryRefund"]
    await scene.run.wake(AUTO)
    assert scene.his.calls["MerchantService.QueryRefund"] == asked


async def test_a_trade_that_was_called_back_wakes_the_command_that_waits_for_it(scene: Scene) -> None:
    scene.his.pay("W1")
    scene.his.down[CONFIRM] = OutcomeUnknown("lost")
    with pytest.raises(OutcomeUnknown):
        await scene.run.execute(CONFIRM, confirm())
    scene.his.down.clear()
    scene.clock.advance(seconds=20)
    assert await scene.run.wake("W2") == 0
    assert await scene.state("p1") is CommandState.UNKNOWN
    assert await scene.run.wake("W1") == 1
    assert await scene.state("p1") is not CommandState.UNKNOWN


# --- CancelAppointment ---


async def test_a_trade_is_closed_before_the_slot_is_released(scene: Scene) -> None:
    await scene.run.execute(CREATE, create())
    await scene.run.execute(CANCEL, cancel())
    assert scene.his.writes[-2:] == ["MerchantService.CloseTrade", CANCEL]
    assert scene.his.trades["W1"].state == payment_pb2.PAYMENT_STATE_CLOSED


async def test_an_order_that_was_paid_meanwhile_is_not_cancelled(scene: Scene) -> None:
    await scene.run.execute(CREATE, create())
    scene.his.pay("W1")
    error = await scene.refusal(CANCEL, cancel())
    assert error.reason == R.REASON_ALREADY_PAID
    assert scene.order.state == common_pb2.APPOINTMENT_STATE_BOOKED
    await scene.run.execute(CONFIRM, confirm())


# --- RefundPayment ---


async def paid(scene: Scene) -> None:
    scene.his.pay("W1")
    await scene.run.execute(CONFIRM, confirm())
    scene.his.effects.clear()
    scene.his.writes.clear()


async def test_cash_first_then_the_red_row(scene: Scene) -> None:
    await paid(scene)
    scene.his.refund_state = payment_pb2.REFUND_STATE_PROCESSING
    answer: Any = await scene.run.execute(REFUND, refund())
    assert scene.his.writes == ["MerchantService.RefundTrade", REFUND]
    assert answer.refund.state == payment_pb2.REFUND_STATE_PROCESSING  # accepted is not refunded
    assert answer.appointment.state == common_pb2.APPOINTMENT_STATE_REFUNDED
    assert scene.his.trades["W1"].refunds == {"R1": FEE}
    again = await scene.refusal(REFUND, refund(request_id="f2", number="R2"))
    assert again.reason == R.REASON_ALREADY_REFUNDED
    assert scene.his.trades["W1"].refunds == {"R1": FEE}


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (common_pb2.APPOINTMENT_STATE_VISITED, R.REASON_ALREADY_VISITED),
        (common_pb2.APPOINTMENT_STATE_BOOKED, R.REASON_NOT_PAID),
        (common_pb2.APPOINTMENT_STATE_CANCELLED, R.REASON_ALREADY_CANCELLED),
        (common_pb2.APPOINTMENT_STATE_NO_SHOW, R.REASON_CANCEL_TOO_LATE),
    ],
)
async def test_the_his_is_asked_before_money_moves(scene: Scene, state: Any, reason: int) -> None:
    await paid(scene)
    scene.order.state = state
    assert (await scene.refusal(REFUND, refund())).reason == reason
    assert scene.his.trades["W1"].refunds == {}


async def test_a_stopped_order_that_was_never_registered_has_nothing_to_refund(scene: Scene) -> None:
    """Paid at the payment house and not confirmed: the confirmation is what sends that money back."""
    scene.his.pay("W1")
    scene.order.state = common_pb2.APPOINTMENT_STATE_SUSPENDED
    assert (await scene.refusal(REFUND, refund())).reason == R.REASON_NOT_PAID
    assert scene.his.trades["W1"].refunds == {}
    scene.his.refuse[CONFIRM] = HisRefused(R.REASON_SCHEDULE_SUSPENDED, "stopped")
    await scene.refusal(CONFIRM, confirm())
    assert scene.his.trades["W1"].refunds == {AUTO: FEE}


async def test_rules_that_only_the_his_knows_are_asked_before_money_moves(scene: Scene) -> None:
    """已日结, 存在处方: the site's own procedure says so before, not the red row after."""
    await paid(scene)
    scene.his.mapped.add("RefundCheckService.CheckRefund")
    scene.his.down["RefundCheckService.CheckRefund"] = HisRefused(R.REASON_DAY_CLOSED, "closed")
    error = await scene.refusal(REFUND, refund())
    assert error.reason == R.REASON_DAY_CLOSED
    assert scene.his.trades["W1"].refunds == {}


@pytest.mark.parametrize(
    ("amount", "reason"),
    [(FEE - 1, R.REASON_PARTIAL_REFUND_REFUSED), (FEE + 1, R.REASON_AMOUNT_MISMATCH)],
)
async def test_a_registration_goes_back_whole(scene: Scene, amount: int, reason: int) -> None:
    await paid(scene)
    assert (await scene.refusal(REFUND, refund(amount=amount))).reason == reason
    assert scene.his.trades["W1"].refunds == {}


async def test_a_red_row_that_is_refused_after_the_money_went_back(scene: Scene) -> None:
    """Neither a failure nor silence: a person's work, with the evidence; the caller hears where the money is."""
    await paid(scene)
    scene.his.refuse[REFUND] = HisRefused(R.REASON_DAY_CLOSED, "closed")
    with pytest.raises(OutcomeUnknown) as caught:
        await scene.run.execute(REFUND, refund())
    assert caught.value.metadata == {"out_refund_no": "R1", "refund_fen": str(FEE), "refund_state": "DONE"}
    row = await scene.run.ledger.get("f1")
    assert row is not None
    assert row.state is CommandState.UNKNOWN
    assert row.detail == "a person must look: red was refused: closed"
    for _ in range(3):
        scene.clock.advance(minutes=5)
        await scene.run.sweep()
    assert scene.his.calls[REFUND] == 1  # what was refused is not asked for again and again
    # The person has had the day opened again and says: try again.
    (red,) = [row for row in await scene.store.read(lambda work: work.commands.steps_of("f1")) if row.step == "red"]
    await scene.run.ledger.advance(red, scene.run.ledger.retryable(red, 0, "by a person"))
    scene.his.refuse.clear()
    await scene.run.sweep()
    assert await scene.state("f1") is CommandState.DONE
    assert scene.his.trades["W1"].refunds == {"R1": FEE}


# --- 医保 by the national protocol ---


async def test_quote_then_settle_on_the_same_visit(scene: Scene) -> None:
    quoted: Any = await scene.run.execute(QUOTE, quote())
    assert quoted.settlement.state == insurance_pb2.INSURANCE_STATE_QUOTED
    assert quoted.settlement.split == split()
    scene.his.pay("W1", 600)
    answer: Any = await scene.run.execute(SETTLE, settle(agreed=quoted.settlement.split))
    assert answer.settlement.state == insurance_pb2.INSURANCE_STATE_SETTLED
    assert answer.settlement.setl_id
    assert answer.appointment.state == common_pb2.APPOINTMENT_STATE_PAID
    assert len(scene.his.visits) == 1
    assert scene.his.effects["settled", "T1"] == 1
    assert await scene.settlement() is SettlementState.SETTLED
    assert await scene.run.execute(SETTLE, settle(agreed=quoted.settlement.split)) == answer


async def test_settle_without_a_quote(scene: Scene) -> None:
    scene.his.pay("W1", 600)
    await scene.run.execute(SETTLE, settle())
    assert [name.partition(".")[2] for name in scene.his.writes] == [
        "OpenVisit",
        "UploadVisit",
        "UploadFees",
        "PreSettle",
        "Settle",
        "RegisterInsured",
    ]
    assert scene.his.insured["T1"].person_no == PERSON


async def test_a_quote_that_is_too_old_or_another_persons_is_undone(scene: Scene) -> None:
    await scene.run.execute(QUOTE, quote())
    scene.clock.advance(minutes=31)
    scene.his.pay("W1", 600)
    await scene.run.execute(SETTLE, settle())
    assert [visit.is_open for visit in scene.his.visits.values()] == [False, True]


async def test_a_quote_for_another_person_is_not_taken_over(scene: Scene) -> None:
    await scene.run.execute(QUOTE, quote())
    scene.his.person = "9" * 20
    scene.his.pay("W1", 600)
    await scene.run.execute(SETTLE, settle())
    assert [visit.is_open for visit in scene.his.visits.values()] == [False, True]
    assert scene.his.insured["T1"].person_no == "9" * 20


async def test_a_quote_that_nobody_settles_is_undone_by_the_sweep(scene: Scene) -> None:
    await scene.run.execute(QUOTE, quote())
    await scene.run.sweep()
    assert await scene.settlement() is SettlementState.QUOTED
    scene.clock.advance(minutes=31)
    scene.his.down["InsuranceGatewayService.CancelVisit"] = HisUnavailable("down")
    await scene.run.sweep()
    await scene.run.execute(CANCEL, cancel())  # 医保 being away keeps nobody from the order
    scene.his.down.clear()
    await scene.run.sweep()
    assert await scene.settlement() is SettlementState.CLOSED
    assert not scene.his.visits["M1"].is_open
    calls = scene.his.calls["InsuranceGatewayService.CancelVisit"]
    await scene.run.sweep()
    assert scene.his.calls["InsuranceGatewayService.CancelVisit"] == calls


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda scene: setattr(scene.his, "doctor_code", ""), R.REASON_INSURANCE_REFUSED),
        (lambda scene: setattr(scene.his, "name", "另一人"), R.REASON_PATIENT_NAME_MISMATCH),
        (lambda scene: scene.his.splits.update(T1=split(fund=1600, cash=500)), R.REASON_AMOUNT_MISMATCH),
        (lambda scene: scene.his.splits.update(T1=split(fund=1600)), R.REASON_INSURANCE_REFUSED),
        (
            lambda scene: setattr(scene.order, "state", common_pb2.APPOINTMENT_STATE_SUSPENDED),
            R.REASON_SCHEDULE_SUSPENDED,
        ),
        (
            lambda scene: scene.his.refuse.update(
                {"InsuranceGatewayService.Settle": HisRefused(R.REASON_INSURANCE_REFUSED, "no")}
            ),
            R.REASON_INSURANCE_REFUSED,
        ),
        (
            lambda scene: scene.his.refuse.update(
                {"InsuredRegistrationService.RegisterInsured": HisRefused(R.REASON_SCHEDULE_SUSPENDED, "stopped")}
            ),
            R.REASON_SCHEDULE_SUSPENDED,
        ),
    ],
    ids=["doctor", "person", "agreed", "sums", "order", "2207A", "register"],
)
async def test_a_settlement_that_is_refused_leaves_nothing_behind(
    scene: Scene, spoil: Callable[[Scene], None], reason: int
) -> None:
    scene.his.pay("W1", 600)
    spoil(scene)
    error = await scene.refusal(SETTLE, settle())
    assert error.reason == reason
    assert error.metadata["out_refund_no"] == AUTO
    assert scene.his.trades["W1"].refunds == {AUTO: 600}
    assert not any(visit.is_open or visit.standing or visit.lines for visit in scene.his.visits.values())
    assert not (await scene.settlement() or SettlementState.CLOSED).is_live
    assert [event.kind for event in await scene.events()] == [event_pb2.EVENT_KIND_REFUNDED]
    assert (await scene.refusal(SETTLE, settle())).metadata == error.metadata


async def test_a_refused_settlement_closes_the_trade_of_its_cash(scene: Scene) -> None:
    """Closing comes before anybody could pay for what will not be."""
    scene.his.open_trade(_trade("W1", 600))
    scene.his.doctor_code = ""
    error = await scene.refusal(SETTLE, settle())
    assert error.metadata == {}
    assert scene.his.trades["W1"].state == payment_pb2.PAYMENT_STATE_CLOSED


def _trade(number: str, amount: int) -> Any:
    from his160.site.v1 import merchant_pb2

    return merchant_pb2.OpenTradeRequest(out_trade_no=number, amount_fen=amount, payer_openid="o")


async def test_cash_that_is_not_paid_yet(scene: Scene) -> None:
    """Nothing is settled and nothing stays open, but the patient may still pay, and the same request comes again."""
    scene.his.open_trade(_trade("W1", 600))
    assert (await scene.refusal(SETTLE, settle())).reason == R.REASON_NOT_PAID
    assert await scene.state("s1") is CommandState.RETRYABLE
    assert scene.his.trades["W1"].state == payment_pb2.PAYMENT_STATE_UNPAID
    assert not any(visit.is_open for visit in scene.his.visits.values())
    scene.his.pay("W1", 600)
    await scene.run.execute(SETTLE, settle())
    assert scene.his.effects["settled", "T1"] == 1


async def test_the_split_must_add_up_before_anything(scene: Scene) -> None:
    assert (await scene.refusal(SETTLE, settle(agreed=split(cash=700)))).reason == R.REASON_INVALID_REQUEST
    assert (await scene.refusal(SETTLE, settle(request_id="s2", number=""))).reason == R.REASON_INVALID_REQUEST
    assert scene.his.calls == {}


@pytest.mark.parametrize("fault", [lost_before, lost_after])
async def test_a_settlement_that_is_never_answered(scene: Scene, fault: Any) -> None:
    """Facts 2.3: asked for by 5203; found, it is completed; not found, it is voided by 2601 with its own msgid."""
    scene.his.pay("W1", 600)
    for _ in range(4):
        scene.his.faults.append(lambda work: work())
    scene.his.faults.append(fault)
    if fault is lost_after:
        await scene.run.execute(SETTLE, settle())
        assert scene.his.effects["settled", "T1"] == 1
        return
    with pytest.raises(OutcomeUnknown):
        await scene.run.execute(SETTLE, settle())
    assert "InsuranceGatewayService.ReverseTransaction" not in scene.his.writes  # it may still arrive
    scene.clock.advance(seconds=20)
    scene.his.down["InsuranceGatewayService.ReverseTransaction"] = HisUnavailable("down")
    await scene.run.sweep()
    assert await scene.state("s1") is CommandState.UNKNOWN
    scene.his.down.clear()
    await scene.run.sweep()
    error = await scene.refusal(SETTLE, settle())
    assert error.metadata["out_refund_no"] == AUTO
    assert await scene.settlement() is SettlementState.VOIDED
    assert scene.his.effects["settled", "T1"] == 0


async def test_a_token_is_never_stored_and_a_retry_may_bring_a_new_one(scene: Scene) -> None:
    scene.his.pay("W1", 600)
    scene.his.down["InsuranceGatewayService.PreSettle"] = HisUnavailable("down")
    with pytest.raises(OutcomeUnknown):
        await scene.run.execute(SETTLE, settle())
    await scene.run.sweep()  # waits for the caller
    assert scene.his.visits["M1"].is_open
    scene.his.down.clear()
    second = settle()
    second.credential.certificate_no = "TOKEN-2"
    await scene.run.execute(SETTLE, second)
    assert scene.his.effects["settled", "T1"] == 1
    rows = await scene.store.read(lambda work: [row.request + row.result for row in work.commands.of_order("T1")])
    for secret in (b"TOKEN", b"AUTH-1", PERSON.encode(), b"openid-1"):
        assert not any(secret in row for row in rows), secret
    sealed = await scene.store.read(lambda work: work.settlements.of_order("T1")[0].record)
    assert PERSON.encode() in sealed


async def test_a_caller_who_never_comes_back(scene: Scene) -> None:
    scene.his.pay("W1", 600)
    scene.his.down["InsuranceGatewayService.PreSettle"] = HisUnavailable("down")
    with pytest.raises(OutcomeUnknown):
        await scene.run.execute(SETTLE, settle())
    scene.clock.advance(minutes=3)
    await scene.run.sweep()
    assert not scene.his.visits["M1"].is_open
    assert scene.his.trades["W1"].refunds == {AUTO: 600}
    assert await scene.state("s1") is CommandState.REJECTED


async def test_reverse(scene: Scene) -> None:
    scene.his.pay("W1", 600)
    settled: Any = await scene.run.execute(SETTLE, settle())
    scene.his.writes.clear()
    answer: Any = await scene.run.execute(REVERSE, reverse(settled.settlement.setl_id))
    assert [name.partition(".")[2] for name in scene.his.writes] == [
        "CancelSettlement",
        "CancelFees",
        "CancelVisit",
        "RefundTrade",
        "CancelInsured",
    ]
    assert answer.settlement.state == insurance_pb2.INSURANCE_STATE_REVERSED
    assert answer.settlement.split.fund_fen == -1500
    assert scene.his.trades["W1"].refunds == {AUTO: 600}
    assert scene.order.state == common_pb2.APPOINTMENT_STATE_REFUNDED
    assert await scene.settlement() is SettlementState.REVERSED
    again = await scene.run.execute(REVERSE, reverse(settled.settlement.setl_id, request_id="v2"))
    assert again == answer
    assert scene.his.calls["InsuranceGatewayService.CancelSettlement"] == 1


async def test_a_settlement_that_the_agent_did_not_make_is_undone_as_the_his_has_it(scene: Scene) -> None:
    scene.his.pay("W1", 600)
    settled: Any = await scene.run.execute(SETTLE, settle())
    await scene.store.write(lambda work: [work.settlements.prune(scene.clock.now + timedelta(days=1))])
    assert await scene.settlement() is None
    await scene.run.execute(REVERSE, reverse(settled.settlement.setl_id))
    assert not any(visit.standing or visit.is_open for visit in scene.his.visits.values())
    assert scene.order.state == common_pb2.APPOINTMENT_STATE_REFUNDED
    unknown = await scene.refusal(REVERSE, reverse("S99", order_no="T9", request_id="v9"))
    assert unknown.reason in (R.REASON_PAYMENT_NOT_FOUND, R.REASON_APPOINTMENT_NOT_FOUND)


async def test_a_visited_patient_keeps_his_settlement(scene: Scene) -> None:
    scene.his.pay("W1", 600)
    settled: Any = await scene.run.execute(SETTLE, settle())
    scene.order.state = common_pb2.APPOINTMENT_STATE_VISITED
    error = await scene.refusal(REVERSE, reverse(settled.settlement.setl_id))
    assert error.reason == R.REASON_ALREADY_VISITED
    assert scene.his.visits["M1"].standing


async def test_refunding_an_insured_order_gives_the_insurance_its_part_first(scene: Scene) -> None:
    scene.his.pay("W1", 600)
    await scene.run.execute(SETTLE, settle())
    scene.his.writes.clear()
    await scene.run.execute(REFUND, refund(amount=600))
    assert [name.partition(".")[2] for name in scene.his.writes] == [
        "CancelSettlement",
        "CancelFees",
        "CancelVisit",
        "RefundTrade",
        "CancelInsured",
    ]
    assert scene.his.trades["W1"].refunds == {"R1": 600}
    assert not any(visit.standing or visit.is_open for visit in scene.his.visits.values())


# --- 医保 by the mobile payment centre ---


async def test_the_centre_quotes_settles_and_gives_back(centre: Scene) -> None:
    quoted: Any = await centre.run.execute(QUOTE, quote())
    assert quoted.settlement.split == split()
    centre.his.pay("W1", 600)
    answer: Any = await centre.run.execute(SETTLE, settle(agreed=quoted.settlement.split))
    assert len(centre.his.centre) == 1
    assert answer.settlement.setl_id
    await centre.run.execute(REVERSE, reverse(answer.settlement.setl_id))
    (order,) = centre.his.centre.values()
    assert order.state == mobile.MOBILE_ORDER_STATE_INSURANCE_REFUNDED
    assert centre.his.trades["W1"].refunds == {AUTO: 600}
    assert centre.order.state == common_pb2.APPOINTMENT_STATE_REFUNDED


@pytest.mark.parametrize(
    "state",
    [state for state in mobile.MobileOrderState.values() if state != mobile.MOBILE_ORDER_STATE_QUOTED],
)
async def test_states_of_the_centre_fail_closed(centre: Scene, state: Any) -> None:
    """Facts 2.4: 4, 5, 6 are candidates for success; 12 and 15 are refusals; everything else is neither."""
    centre.his.pay("W1", 600)
    original = centre.his.pay_order

    def paid_somehow(request: Any) -> Any:
        original(request)
        order = centre.his.centre[request.pay_order_id]
        order.state = state
        return mobile.PayOrderResponse(order=order)

    from tests.unit.sync import world

    world._WRITES["MobilePaymentService.PayOrder"] = lambda his, request: paid_somehow(request)
    try:
        good = state in (
            mobile.MOBILE_ORDER_STATE_INSURANCE_DONE,
            mobile.MOBILE_ORDER_STATE_HOSPITAL_DONE,
            mobile.MOBILE_ORDER_STATE_DONE,
        )
        bad = state in (mobile.MOBILE_ORDER_STATE_CANCELLED, mobile.MOBILE_ORDER_STATE_FAILED)
        if good:
            await centre.run.execute(SETTLE, settle())
        elif bad:
            assert (await centre.refusal(SETTLE, settle())).reason == R.REASON_INSURANCE_REFUSED
            assert centre.his.trades["W1"].refunds == {AUTO: 600}
        else:
            with pytest.raises(OutcomeUnknown):
                await centre.run.execute(SETTLE, settle())
            assert centre.his.trades["W1"].refunds == {}
            assert centre.order.state == common_pb2.APPOINTMENT_STATE_BOOKED
    finally:
        world._WRITES["MobilePaymentService.PayOrder"] = World.pay_order


# --- a site that does these things itself ---


async def test_what_the_site_maps_itself_stays_one_row(scene: Scene) -> None:
    scene.his.mapped |= {CREATE, SETTLE}
    for operation, request in ((CREATE, create()), (SETTLE, settle())):
        with pytest.raises(Exception, match="not mapped"):  # the small HIS does not know how
            await scene.run.execute(operation, request)
        assert await scene.steps(request.request_id) == {}
    scene.his.mapped -= {"MerchantService.QueryTrade"}
    await scene.run.execute(CONFIRM, confirm())
    assert await scene.steps("p1") == {}


async def test_a_command_that_is_switched_off_does_not_begin_but_comes_to_its_end(scene: Scene) -> None:
    scene.his.off.add(CONFIRM)
    scene.his.pay("W1")
    with pytest.raises(SwitchedOff):
        await scene.run.execute(CONFIRM, confirm())
    assert await scene.state("p1") is CommandState.RETRYABLE
    scene.his.off.clear()
    scene.his.down[CONFIRM] = HisUnavailable("down")
    with pytest.raises(OutcomeUnknown):
        await scene.run.execute(CONFIRM, confirm())
    scene.his.off.add(CONFIRM)
    scene.his.down.clear()
    await scene.run.sweep()
    assert await scene.state("p1") is CommandState.DONE


async def test_nobody_sends_steps_from_outside(scene: Scene) -> None:
    with pytest.raises(KeyError):
        await scene.run.execute("MerchantService.RefundTrade", appointment_pb2.GetAppointmentRequest())
