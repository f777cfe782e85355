"""Every path of a command, and the process dying at every step of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from google.protobuf.message import Message
from his160.v1 import appointment_pb2, common_pb2, patient_pb2, payment_pb2, reason_pb2

from his_db.errors import (
    DeadlinePassed,
    HisBusy,
    HisError,
    HisRefused,
    HisUnavailable,
    MappingMismatch,
    OutcomeUnknown,
    Overloaded,
)
from sync.command import CommandExecutor
from sync.commands import COMMANDS
from sync.store import CommandState, Store, StoreUnavailable
from sync.stores.sqlite import SqliteStore
from tests.bounds import until
from tests.unit.sync.bench import (
    BOOK,
    CANCEL,
    CONFIRM,
    ENSURE,
    FEE,
    LOCK,
    REFUND,
    UNLOCK,
    Clock,
    FailingStore,
    Fault,
    MemoryHis,
    book,
    cancel,
    confirm,
    crash_after,
    ensure,
    lock,
    lost_after,
    lost_before,
    open_sqlite,
    raising,
    refund,
)

SETTLE = timedelta(seconds=15)


def executor(
    his: MemoryHis, store: Store, clock: Clock, *, settle: timedelta = SETTLE, places: int = 512
) -> CommandExecutor:
    return CommandExecutor(
        his, store, clock=clock, settle=settle, places=places, monotonic=lambda: clock.now.timestamp()
    )


@pytest.fixture
def run(his: MemoryHis, store: SqliteStore, clock: Clock) -> CommandExecutor:
    return executor(his, store, clock)


async def refusal(work: object) -> HisRefused:
    with pytest.raises(HisRefused) as caught:
        await work  # type: ignore[misc]
    return caught.value


async def state_of(run: CommandExecutor, request_id: str) -> CommandState | None:
    row = await run.ledger.get(request_id)
    return None if row is None else row.state


async def test_the_first_answer_is_given_again(run: CommandExecutor, his: MemoryHis) -> None:
    first = await run.execute(BOOK, book())
    his.orders["T1"].state = common_pb2.APPOINTMENT_STATE_CANCELLED
    second = await run.execute(BOOK, book())
    assert first == second
    assert first is not second
    assert his.effects[BOOK, "T1"] == 1
    assert his.writes == [BOOK]


async def test_a_refusal_is_given_again_without_its_text(run: CommandExecutor, his: MemoryHis) -> None:
    await run.execute(BOOK, book())
    first = await refusal(run.execute(BOOK, book(request_id="r2", slot="S9")))
    assert first.reason == reason_pb2.REASON_DUPLICATE_APPOINTMENT
    refused = await refusal(run.execute(CANCEL, cancel("T9")))
    again = await refusal(run.execute(CANCEL, cancel("T9")))
    assert refused.reason == again.reason == reason_pb2.REASON_APPOINTMENT_NOT_FOUND
    assert again.text == ""
    assert his.writes.count(CANCEL) == 1


@pytest.mark.parametrize(
    "error",
    [
        HisUnavailable("down"),
        HisBusy("deadlock"),
        Overloaded("full"),
        MappingMismatch("column"),
        DeadlinePassed("waited"),
        HisRefused(reason_pb2.REASON_HIS_BUSY, "busy"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_did_not_happen_runs_again(run: CommandExecutor, his: MemoryHis, error: HisError) -> None:
    his.faults.append(raising(error))
    with pytest.raises(type(error)):
        await run.execute(BOOK, book())
    assert await state_of(run, "r1") is CommandState.RETRYABLE
    await run.execute(BOOK, book())
    row = await run.ledger.get("r1")
    assert row is not None
    assert (row.state, row.attempt) == (CommandState.DONE, 2)
    assert len(set(his.keys)) == 1
    assert len(his.keys[0]) == 32


async def test_a_reused_request_id_is_refused(run: CommandExecutor, his: MemoryHis) -> None:
    await run.execute(BOOK, book())
    for operation, request in ((BOOK, book(slot="S2")), (CANCEL, cancel(request_id="r1"))):
        error = await refusal(run.execute(operation, request))
        assert error.reason == reason_pb2.REASON_REQUEST_ID_REUSED
    his.gate = asyncio.Event()
    running = asyncio.create_task(run.execute(BOOK, book("T2", "r2")))
    await until(lambda: his.writes.count(BOOK) == 2)
    error = await refusal(run.execute(BOOK, book("T3", "r2")))
    assert error.reason == reason_pb2.REASON_REQUEST_ID_REUSED
    his.gate.set()
    await running
    error = await refusal(run.execute(BOOK, book(request_id="")))
    assert error.reason == reason_pb2.REASON_INVALID_REQUEST


async def test_fifty_at_once_are_one(run: CommandExecutor, his: MemoryHis) -> None:
    answers = await asyncio.gather(*(run.execute(BOOK, book()) for _ in range(50)))
    assert all(answer == answers[0] for answer in answers)
    assert len({id(answer) for answer in answers}) == 50
    assert his.writes == [BOOK]


UNKNOWN_CASES: list[tuple[str, Message, Callable[[MemoryHis], None]]] = []


def paid(his: MemoryHis) -> None:
    his._write(BOOK, book())
    his._write(CONFIRM, confirm())
    his.effects.clear()


def booked(his: MemoryHis) -> None:
    his._write(BOOK, book())
    his.effects.clear()


def nothing(his: MemoryHis) -> None:
    return


CASES = [
    pytest.param(BOOK, book(), "r1", nothing, (BOOK, "T1"), id="book"),
    pytest.param(CANCEL, cancel(), "c1", booked, (CANCEL, "T1"), id="cancel"),
    pytest.param(CONFIRM, confirm(), "p1", booked, (CONFIRM, "W1"), id="confirm"),
    pytest.param(REFUND, refund(), "f1", paid, (REFUND, "R1"), id="refund"),
    pytest.param(ENSURE, ensure(), "e1", nothing, (ENSURE, "11010519491231002X"), id="ensure"),
]
Prepare = Callable[[MemoryHis], None]


@pytest.mark.parametrize(("operation", "request_", "request_id", "prepare", "effect"), CASES)
@pytest.mark.parametrize("fault", [lost_before, lost_after, raising(ValueError("defect"))])
async def test_unknown_then_the_truth(
    run: CommandExecutor,
    his: MemoryHis,
    clock: Clock,
    operation: str,
    request_: Message,
    request_id: str,
    prepare: Prepare,
    effect: tuple[str, str],
    fault: Fault,
) -> None:
    prepare(his)
    his.faults.append(fault)
    with pytest.raises(OutcomeUnknown):
        await run.execute(operation, request_)
    assert await state_of(run, request_id) is CommandState.UNKNOWN
    if fault is not lost_after:  # absence is not believed while the statement may still run
        with pytest.raises(OutcomeUnknown) as caught:
            await run.execute(operation, request_)
        assert caught.value.retry_after is not None
        assert caught.value.retry_after <= SETTLE
        clock.advance(seconds=15)
    answer = await run.execute(operation, request_)
    assert isinstance(answer, COMMANDS[operation].response_class)
    assert his.effects[effect] == 1
    if "appointment" in answer.DESCRIPTOR.fields_by_name:
        assert answer.HasField("appointment")
    assert await run.execute(operation, request_) == answer
    assert his.effects[effect] == 1


@pytest.mark.parametrize(("operation", "request_", "request_id", "prepare", "effect"), CASES)
@pytest.mark.parametrize(
    "point", ["before sent", "after sent", "before the HIS", "in the HIS", "before done", "after done"]
)
@pytest.mark.parametrize("caller_retries", [True, False])
async def test_killed_at_every_step(
    tmp_path: Path,
    his: MemoryHis,
    clock: Clock,
    operation: str,
    request_: Message,
    request_id: str,
    prepare: Prepare,
    effect: tuple[str, str],
    point: str,
    caller_retries: bool,
) -> None:
    """The process dies at the point; a new one opens the same store. The three books agree in the end."""
    prepare(his)
    dying = FailingStore(open_sqlite(tmp_path, clock))
    first = executor(his, dying, clock)
    match point:
        case "before sent":
            dying.fail("before")
        case "after sent":
            dying.fail("after")
        case "before the HIS":
            his.faults.append(raising(asyncio.CancelledError()))
        case "in the HIS":
            his.faults.append(crash_after)
        case "before done":
            dying.fail("before", skip=1)
        case "after done":
            dying.fail("after", skip=1)
    done = await asyncio.gather(first.execute(operation, request_), return_exceptions=True)
    assert (not isinstance(done[0], BaseException)) == (point == "before done")  # it happened, so it is no error
    store = open_sqlite(tmp_path, clock)
    second = executor(his, store, clock)
    await second.recover()
    clock.advance(seconds=15)
    if caller_retries:
        await second.execute(operation, request_)
        assert his.effects[effect] == 1
        assert await state_of(second, request_id) is CommandState.DONE
    else:
        await second.sweep()
        happened = his.effects[effect]
        expected = {0: (None, CommandState.RETRYABLE), 1: (CommandState.DONE,)}[happened]
        assert await state_of(second, request_id) in expected
    assert (await second.sweep()).looked_at == 0
    await store.close()
    await dying.close()


async def test_a_kept_answer_is_written_down_when_the_store_is_back(
    his: MemoryHis, store: SqliteStore, clock: Clock
) -> None:
    failing = FailingStore(store)
    run = executor(his, failing, clock)
    failing.fail("before", skip=1)
    answer = await run.execute(BOOK, book())
    assert await state_of(run, "r1") is CommandState.SENT
    assert await run.execute(BOOK, book()) == answer
    await run.sweep()
    assert await state_of(run, "r1") is CommandState.DONE
    assert his.reads == []


async def test_a_failing_store_keeps_commands_from_the_his(his: MemoryHis, store: SqliteStore, clock: Clock) -> None:
    failing = FailingStore(store)
    run = executor(his, failing, clock)
    failing.fail("before")
    with pytest.raises(StoreUnavailable):
        await run.execute(BOOK, book())
    assert his.writes == []
    await run.execute(BOOK, book())


async def test_an_unresolved_command_keeps_its_order(run: CommandExecutor, his: MemoryHis, clock: Clock) -> None:
    booked(his)
    his.faults.append(lost_before)
    with pytest.raises(OutcomeUnknown):
        await run.execute(CONFIRM, confirm())
    error = await refusal(run.execute(CANCEL, cancel()))
    assert error.reason == reason_pb2.REASON_ORDER_BUSY
    assert error.retry_after is not None
    his.read_faults.append(HisUnavailable("down"))
    clock.advance(seconds=15)
    error = await refusal(run.execute(CANCEL, cancel()))
    assert error.reason == reason_pb2.REASON_ORDER_BUSY
    await run.execute(BOOK, book("T2", "r2"))  # other orders go on
    await run.execute(CANCEL, cancel())  # the probe clears the way
    assert await state_of(run, "p1") is CommandState.RETRYABLE
    error = await refusal(run.execute(CONFIRM, confirm()))
    assert error.reason == reason_pb2.REASON_ALREADY_CANCELLED


async def test_an_order_runs_one_command_at_a_time_orders_in_parallel(run: CommandExecutor, his: MemoryHis) -> None:
    his.gate = asyncio.Event()
    tasks = [asyncio.create_task(run.execute(BOOK, book(f"T{n}", f"r{n}"))) for n in range(5)]
    tasks.append(asyncio.create_task(run.execute(CANCEL, cancel("T0"))))
    await until(lambda: len(his.writes) == 5 and len(run._running) == 6)
    await run.ledger.get("r0")  # behind whatever the sixth may have asked of the store
    assert his.writes == [BOOK] * 5
    assert await run.drain(timedelta(0)) == 6
    his.gate.set()
    await asyncio.gather(*tasks)
    assert his.writes[5:] == [CANCEL]
    assert len(run._locks) == 0


async def test_an_order_that_is_stuck_keeps_no_other_from_its_place(
    his: MemoryHis, store: SqliteStore, clock: Clock
) -> None:
    """Places are few and one order is asked for again and again: the others go on, and its own keep their order."""
    run = executor(his, store, clock, places=40)
    his.gate = asyncio.Event()
    first = asyncio.create_task(run.execute(BOOK, book("T0", "r0")))
    await until(lambda: his.writes == [BOOK])
    stuck = [asyncio.create_task(run.execute(BOOK, book("T0", f"r0-{n}"))) for n in range(100)]
    await until(lambda: sum(task.done() for task in stuck) == 100 - 15)
    assert len(run._running) == 16
    refused = [task for task in stuck if task.done()]
    assert len(refused) == 100 - 15
    for task in refused:
        error = task.exception()
        assert isinstance(error, HisRefused)
        assert error.reason == reason_pb2.REASON_ORDER_BUSY
        assert error.retry_after is not None
    others = [asyncio.create_task(run.execute(LOCK, lock(f"T{n}", f"l{n}"))) for n in range(1, 24)]
    await until(
        lambda: his.writes.count(LOCK) == 23
    )  # every other order comes to the HIS while the first is stuck there
    his.gate.set()
    await asyncio.gather(first, *others)
    done = await asyncio.gather(*(task for task in stuck if task not in refused))
    assert len(done) == 15
    assert his.writes.count(BOOK) == 1


async def test_commands_of_an_order_run_in_the_order_of_asking(run: CommandExecutor, his: MemoryHis) -> None:
    his.gate = asyncio.Event()
    tasks = [asyncio.create_task(run.execute(LOCK, lock(request_id=f"l{n}", slot=f"S{n}"))) for n in range(8)]
    await until(lambda: len(run._running) == 8)
    his.gate.set()
    held: list[str] = []
    answers = await asyncio.gather(*tasks)
    held = [answer.lock.slot_id for answer in answers]  # type: ignore[attr-defined]
    assert held == [f"S{n}" for n in range(8)]
    rows = [await run.ledger.get(f"l{n}") for n in range(8)]
    ended = [row.finished_time for row in rows if row is not None]
    assert ended == sorted(ended)  # type: ignore[type-var]


async def test_what_the_ledger_knows_is_asked_before_it_is_refused(
    run: CommandExecutor, his: MemoryHis, clock: Clock
) -> None:
    """No write for what our own commands have ended; but the HIS has the last word, and a window may have opened it."""
    await run.execute(BOOK, book())
    clock.advance(seconds=1)
    await run.execute(CANCEL, cancel())
    writes = len(his.writes)
    error = await refusal(run.execute(CONFIRM, confirm()))
    assert error.reason == reason_pb2.REASON_ALREADY_CANCELLED
    assert await state_of(run, "p1") is CommandState.REJECTED
    assert len(his.writes) == writes
    his.orders["T1"].state = common_pb2.APPOINTMENT_STATE_BOOKED  # at the window
    clock.advance(seconds=1)
    await run.execute(CONFIRM, confirm(request_id="p2"))
    assert his.orders["T1"].state == common_pb2.APPOINTMENT_STATE_PAID
    clock.advance(seconds=1)
    reads = len(his.reads)
    await run.execute(REFUND, refund())  # what makes sense costs no read
    assert len(his.reads) == reads
    clock.advance(seconds=1)
    his.read_faults.append(HisUnavailable("down"))
    error = await refusal(run.execute(CONFIRM, confirm(request_id="p3", number="W3")))
    assert his.writes[-1] == CONFIRM  # it could not be asked, so it was told


async def test_the_same_number_is_the_same_command(run: CommandExecutor, his: MemoryHis) -> None:
    await run.execute(BOOK, book())
    again = await run.execute(BOOK, book(request_id="r2"))
    paid_first = await run.execute(CONFIRM, confirm())
    paid_again = await run.execute(CONFIRM, confirm(request_id="p2"))
    assert paid_first == paid_again
    money_back = await run.execute(REFUND, refund())
    assert await run.execute(REFUND, refund(request_id="f2", note="another text")) == money_back
    assert isinstance(again, appointment_pb2.BookAppointmentResponse)
    assert his.effects == {(BOOK, "T1"): 1, (CONFIRM, "W1"): 1, (REFUND, "R1"): 1}
    row = await run.ledger.get("f2")
    assert row is not None
    assert row.replay_of == "f1"


async def test_the_same_number_with_another_content_is_refused(run: CommandExecutor, his: MemoryHis) -> None:
    await run.execute(BOOK, book())
    await run.execute(CONFIRM, confirm())
    error = await refusal(run.execute(CONFIRM, confirm(request_id="p2", amount=1)))
    assert error.reason == reason_pb2.REASON_PAYMENT_NUMBER_REUSED
    await run.execute(BOOK, book("T2", "r2"))
    error = await refusal(run.execute(CONFIRM, confirm("T2", "p3")))
    assert error.reason == reason_pb2.REASON_PAYMENT_NUMBER_REUSED
    await run.execute(REFUND, refund())
    error = await refusal(run.execute(REFUND, refund(request_id="f2", amount=1)))
    assert error.reason == reason_pb2.REASON_REQUEST_ID_REUSED
    error = await refusal(run.execute(CONFIRM, confirm(request_id="p4")))
    assert error.reason == reason_pb2.REASON_ALREADY_REFUNDED
    assert his.writes.count(CONFIRM) == his.writes.count(REFUND) == 1


async def test_a_stale_answer_is_not_given_again(run: CommandExecutor, his: MemoryHis, clock: Clock) -> None:
    await run.execute(BOOK, book())
    clock.advance(seconds=1)
    await run.execute(CANCEL, cancel())
    clock.advance(seconds=1)
    await run.execute(BOOK, book(request_id="r2"))  # this HIS books the number anew
    assert his.effects[BOOK, "T1"] == 2
    clock.advance(seconds=1)
    await run.execute(CANCEL, cancel(request_id="c2"))
    assert his.effects[CANCEL, "T1"] == 2


async def test_holds_are_held_anew(run: CommandExecutor, his: MemoryHis, clock: Clock) -> None:
    await run.execute(LOCK, lock())
    await run.execute(LOCK, lock(request_id="l2"))
    assert his.effects[LOCK, "T1"] == 2
    his.faults.append(lost_after)
    with pytest.raises(OutcomeUnknown):
        await run.execute(LOCK, lock(request_id="l3"))
    error = await refusal(run.execute(UNLOCK, appointment_pb2.UnlockSlotRequest(request_id="u1", order_no="T1")))
    assert error.reason == reason_pb2.REASON_ORDER_BUSY
    await run.execute(LOCK, lock(request_id="l3"))  # its repetition is harmless and needs no waiting
    his.faults.append(lost_before)
    with pytest.raises(OutcomeUnknown):
        await run.execute(LOCK, lock(request_id="l4"))
    clock.advance(seconds=15)
    assert (await run.sweep()).resolved == 1
    assert his.writes.count(LOCK) == 5  # a sweep holds nothing that nobody waits for


async def test_a_caller_that_goes_away_loses_nothing(run: CommandExecutor, his: MemoryHis) -> None:
    his.gate = asyncio.Event()
    caller = asyncio.create_task(run.execute(BOOK, book()))
    await until(lambda: his.writes == [BOOK])
    waiting = asyncio.create_task(run.execute(CANCEL, cancel()))
    await until(lambda: len(run._running) == 2)
    for task in (caller, waiting):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    his.gate.set()
    assert await run.drain(timedelta(seconds=5)) == 0
    assert await state_of(run, "r1") is CommandState.DONE
    assert await state_of(run, "c1") is None  # nobody waited for it and it was not sent
    assert await run.execute(BOOK, book()) == appointment_pb2.BookAppointmentResponse(appointment=his.orders["T1"])


async def test_a_deadline_keeps_from_beginning_only(run: CommandExecutor, his: MemoryHis, clock: Clock) -> None:
    with pytest.raises(DeadlinePassed):
        await run.execute(BOOK, book(), deadline=clock.now.timestamp())
    assert his.writes == []
    await run.execute(BOOK, book(), deadline=clock.now.timestamp() + 1)


async def test_places_are_bounded(his: MemoryHis, store: SqliteStore, clock: Clock) -> None:
    run = executor(his, store, clock, places=1)
    his.gate = asyncio.Event()
    first = asyncio.create_task(run.execute(BOOK, book()))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await run.execute(BOOK, book("T2", "r2"))
    his.gate.set()
    await first


@pytest.mark.parametrize("witness", ["payment", "order"])
async def test_money_seen_by_the_second_witness_is_not_moved_again(
    run: CommandExecutor, his: MemoryHis, clock: Clock, witness: str
) -> None:
    paid(his)
    his.faults.append(lost_before)
    with pytest.raises(OutcomeUnknown):
        await run.execute(REFUND, refund())
    order = his.orders["T1"]
    order.state = common_pb2.APPOINTMENT_STATE_REFUNDED  # the window gave the money back meanwhile
    order.refunded_fen = FEE
    clock.advance(seconds=60)
    with pytest.raises(OutcomeUnknown):
        await run.execute(REFUND, refund())
    await run.sweep()
    (row,) = await run.ledger.listed(CommandState.UNKNOWN)
    assert row.detail == "the order is refunded but names no refund number"
    assert row.probes == 2
    order.out_refund_no = "window-7"
    error = await refusal(run.execute(REFUND, refund()))
    assert error.reason == reason_pb2.REASON_ALREADY_REFUNDED
    assert his.writes == [REFUND]


async def test_probes_that_are_not_mapped(run: CommandExecutor, his: MemoryHis, clock: Clock) -> None:
    booked(his)
    his.unmapped = {"PaymentService.GetPayment"}
    his.faults.append(lost_after)
    with pytest.raises(OutcomeUnknown):
        await run.execute(CONFIRM, confirm())
    answer = await run.execute(CONFIRM, confirm())
    assert isinstance(answer, payment_pb2.ConfirmPaymentResponse)
    assert answer.appointment.out_trade_no == "W1"
    his.unmapped = {"PaymentService.GetRefund", "AppointmentService.GetAppointment"}
    his.faults.append(lost_after)
    with pytest.raises(OutcomeUnknown):
        await run.execute(REFUND, refund())
    clock.advance(days=1)
    with pytest.raises(OutcomeUnknown):
        await run.execute(REFUND, refund())
    assert his.effects[REFUND, "R1"] == 1


async def test_personal_data_stays_only_while_the_probe_needs_it(
    run: CommandExecutor, his: MemoryHis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    his.faults.append(lost_after)
    with pytest.raises(OutcomeUnknown):
        await run.execute(ENSURE, ensure())
    row = await run.ledger.get("e1")
    assert row is not None
    kept = patient_pb2.EnsurePatientRequest.FromString(row.request)
    assert kept.document_no == "11010519491231002X"
    assert kept.mobile == ""
    assert "11010519491231002X" not in row.natural_key
    answer = await run.execute(ENSURE, ensure())
    assert isinstance(answer, patient_pb2.EnsurePatientResponse)
    assert answer.patient.sex == "2"
    row = await run.ledger.get("e1")
    assert row is not None
    kept = patient_pb2.EnsurePatientRequest.FromString(row.request)
    assert kept.document_no == kept.name == ""
    for record in caplog.records:
        assert "11010519491231002" not in str(vars(record))
        assert "测试甲" not in str(vars(record))


async def test_a_patient_is_found_before_one_is_made(run: CommandExecutor, his: MemoryHis) -> None:
    """Facts 1.8: several records of one document are common; the one with the name is taken, none is overwritten."""
    for number, name in enumerate(("另一人", "测试甲")):
        his.patients.append(patient_pb2.Patient(patient_id=f"P{number}", name=name, document_no="11010519491231002X"))
    answer = await run.execute(ENSURE, ensure())
    assert isinstance(answer, patient_pb2.EnsurePatientResponse)
    assert (answer.patient.patient_id, answer.created) == ("P1", False)
    del his.patients[1]
    error = await refusal(run.execute(ENSURE, ensure("e2")))
    assert error.reason == reason_pb2.REASON_PATIENT_NAME_MISMATCH
    assert his.writes == []
    his.read_faults.append(HisUnavailable("down"))  # a HIS that cannot be asked finds the patient itself
    await run.execute(ENSURE, ensure("e3"))
    assert his.writes == [ENSURE]


async def test_a_name_that_does_not_fit_the_document(run: CommandExecutor, his: MemoryHis, clock: Clock) -> None:
    his.faults.append(lost_before)
    with pytest.raises(OutcomeUnknown):
        await run.execute(ENSURE, ensure())
    his.patients.append(patient_pb2.Patient(patient_id="P0", name="另一人", document_no="11010519491231002X"))
    clock.advance(seconds=15)
    error = await refusal(run.execute(ENSURE, ensure()))
    assert error.reason == reason_pb2.REASON_PATIENT_NAME_MISMATCH


async def test_recover_comes_first(run: CommandExecutor, his: MemoryHis) -> None:
    his.gate = asyncio.Event()
    task = asyncio.create_task(run.execute(BOOK, book()))
    await until(lambda: his.writes == [BOOK])
    with pytest.raises(RuntimeError):
        await run.recover()
    his.gate.set()
    await task
    with pytest.raises(KeyError):
        await run.execute("AppointmentService.GetAppointment", appointment_pb2.GetAppointmentRequest())


async def test_every_write_operation_of_the_contract_is_in_the_table() -> None:
    from his_db.contract import mappable_names, operation

    writes = {name for name in mappable_names() if not operation(name).is_read}
    assert writes == set(COMMANDS)
    for name, command in COMMANDS.items():
        about = operation(name)
        assert (command.request_class, command.response_class) == (about.request_class, about.response_class)
        fields = set(about.request_class.DESCRIPTOR.fields_by_name)
        assert set(command.essence) <= fields
        assert command.undone_by <= set(COMMANDS)
