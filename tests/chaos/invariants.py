"""What must hold after any history of commands, deaths and restarts. Pure: judges books that were read, nothing else.

Each invariant is a function from books to findings; ``INVARIANTS`` is the only list. That each can fail is shown by
``tests/chaos/test_invariants.py``.
"""

from __future__ import annotations

import enum
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from sync.commands import COMMANDS
from sync.store import CommandRow, CommandState
from tests.chaos.books import Books, HisBook, Said

LOCK: Final = "AppointmentService.LockSlot"
UNLOCK: Final = "AppointmentService.UnlockSlot"
BOOK: Final = "AppointmentService.BookAppointment"
CANCEL: Final = "AppointmentService.CancelAppointment"
PAY: Final = "PaymentService.ConfirmPayment"
REFUND: Final = "PaymentService.RefundPayment"
PATIENT: Final = "PatientService.EnsurePatient"
CREATE: Final = "PaymentService.CreatePayment"
QUOTE: Final = "InsuranceService.QuoteInsurance"
SETTLE: Final = "InsuranceService.SettleInsurance"
REVERSE: Final = "InsuranceService.ReverseInsurance"

# Refusals that say nothing about the command: nobody may be told them about something that was sent.
_SAYING_NOTHING: Final = frozenset({"INTERNAL", "UNKNOWN", "CANCELLED", "DATA_LOSS"})


class Kind(enum.Enum):
    """What kind of harm: the columns of the table."""

    LOST = "lost"
    DOUBLED = "doubled"
    CONTRADICTORY = "contradictory"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that must not be. No personal data."""

    kind: Kind
    invariant: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.invariant}: {self.text}"


def effect(operation: str, order_no: str, number: str, his: HisBook) -> bool | None:
    """Whether the HIS shows that the command was done, whatever came later; None where it cannot be told."""
    orders = his.of(order_no)
    if operation == LOCK:
        return bool(orders or his.holds_of(order_no))
    if operation == BOOK:
        return bool(orders)
    if operation == CANCEL:
        return any(order.state in {"CANCELLED", "REFUNDED"} for order in orders)
    if operation == PAY:
        return any(money.number == number for order in orders for money in order.charges)
    if operation == REFUND:
        return any(money.number == number for order in orders for money in order.refunds)
    if operation == SETTLE:
        return any(order.insured for order in orders)
    if operation == REVERSE:
        return any(not stands for order in orders for stands in order.insured)
    if operation == PATIENT and number:
        return his.patients.get(number, 0) > 0
    return None


def _stands(operation: str, order_no: str, number: str, his: HisBook) -> bool:
    """Whether the HIS shows this command itself, so that "refused" would be untrue. A hold that became an order is no hold
    any more, a refund is no cancellation, and a record of a patient may be older."""
    if operation == LOCK:
        return bool(his.holds_of(order_no))
    if operation == CANCEL:
        return any(order.state == "CANCELLED" for order in his.of(order_no))
    if operation == BOOK:  # whose order is cancelled meanwhile is refused as cancelled: it does not stand
        return any(order.state not in {"CANCELLED", "REFUNDED"} for order in his.of(order_no))
    return operation != PATIENT and bool(effect(operation, order_no, number, his))


def no_oversell(books: Books) -> Iterator[Finding]:
    """A place belongs to one order at a time, and a counter stays below its limit."""
    holders: dict[str, set[str]] = defaultdict(set)
    for order in books.his.orders:
        if order.is_live:
            holders[order.place].add(f"{order.order_no} ({order.his_id})")
    for hold in books.his.holds:
        if not any(order.is_live and order.order_no == hold.order_no for order in books.his.orders):
            holders[hold.place].add(f"{hold.order_no} (hold)")
    for place, found in holders.items():
        if len(found) > 1:
            yield Finding(Kind.DOUBLED, "no_oversell", f"{place} is given to {', '.join(sorted(found))}")
    for session in books.his.sessions.values():
        before = books.before.get(session.schedule_id)
        most = max(session.limit, before.counted if before else 0, before.taken if before else 0)
        if max(session.counted, session.taken) > most:
            text = f"session {session.schedule_id}: {session.counted} counted, {session.taken} taken of {session.limit}"
            yield Finding(Kind.DOUBLED, "no_oversell", text)


def counters_count(books: Books) -> Iterator[Finding]:
    """What a session's counter says moves with the rows that take a place."""
    for session in books.his.sessions.values():
        before = books.before.get(session.schedule_id)
        if before is not None and session.counted - session.taken != before.counted - before.taken:
            text = (
                f"session {session.schedule_id}: {session.counted} counted for {session.taken} taken, "
                f"was {before.counted} for {before.taken}"
            )
            yield Finding(Kind.DOUBLED, "counters_count", text)


def one_order(books: Books) -> Iterator[Finding]:
    """An order number has one order that lives."""
    for order_no, count in Counter(order.order_no for order in books.his.orders if order.is_live).items():
        if count > 1:
            yield Finding(Kind.DOUBLED, "one_order", f"{order_no} has {count} live orders in the HIS")


def no_double_charge(books: Books) -> Iterator[Finding]:
    """An order is charged once, with its own amount."""
    for order in books.his.orders:
        if len(order.charges) > 1:
            yield Finding(Kind.DOUBLED, "no_double_charge", f"{order.order_no} is charged {len(order.charges)} times")
        for money in order.charges:
            if money.fen != order.total_fen:
                text = f"{order.order_no} costs {order.total_fen} fen and is charged {money.fen}"
                yield Finding(Kind.DOUBLED, "no_double_charge", text)


def no_double_refund(books: Books) -> Iterator[Finding]:
    """No more goes back than came in, and a refund number once."""
    for order in books.his.orders:
        back, paid = sum(money.fen for money in order.refunds), sum(money.fen for money in order.charges)
        if back > paid:
            text = f"{order.order_no} paid {paid} fen and got {back} back"
            yield Finding(Kind.DOUBLED, "no_double_refund", text)
    numbers = Counter(money.number for order in books.his.orders for money in order.refunds if money.number)
    for number, count in numbers.items():
        if count > 1:
            yield Finding(Kind.DOUBLED, "no_double_refund", f"refund {number} stands in the HIS {count} times")


def no_halves(books: Books) -> Iterator[Finding]:
    """All rows of a payment or a refund are there, or none."""
    for order in books.his.orders:
        for half in order.halves:
            yield Finding(Kind.DOUBLED, "no_halves", f"{order.order_no}: {half}")


def one_patient(books: Books) -> Iterator[Finding]:
    """A document number that was new has one record."""
    for digest, count in books.his.patients.items():
        if count > 1:
            yield Finding(Kind.DOUBLED, "one_patient", f"document {digest} has {count} records")


def paid_has_place(books: Books) -> Iterator[Finding]:
    """Money that did not go back belongs to an order that lives, or a person or a saga is at work on it."""
    at_work = {row.order_key for row in books.ledger if row.state is CommandState.UNKNOWN}
    for order in books.his.orders:
        kept = sum(money.fen for money in order.charges) - sum(money.fen for money in order.refunds)
        if kept > 0 and not order.is_live and order.order_no not in at_work:
            text = f"{order.order_no} is {order.state} and the hospital keeps {kept} fen"
            yield Finding(Kind.LOST, "paid_has_place", text)


def money_is_where_the_his_says(books: Books) -> Iterator[Finding]:
    """The payment house has of an order what the HIS has registered, unless the agent is still at work on it, or was never
    told of the payment. A trade is given back once, and no more than was paid."""
    at_work = {row.order_key for row in books.ledger if row.state.is_open}
    told_of = {row.order_key for row in books.ledger if row.operation in {PAY, SETTLE}}
    for order_no, house in books.houses.items():
        for trade in house.trades:
            if trade.kept_fen < 0 or len(trade.refunds) > 1:
                text = f"trade {trade.number} of {trade.fen} fen has {len(trade.refunds)} refunds"
                yield Finding(Kind.DOUBLED, "money_is_where_the_his_says", text)
        kept = sum(trade.kept_fen for trade in house.trades)
        registered = sum(order.cash_fen or 0 for order in books.his.of(order_no))
        if order_no in at_work or kept == registered or (kept > registered and order_no not in told_of):
            continue
        text = f"{order_no}: the payment house keeps {kept} fen, the HIS has registered {registered}"
        yield Finding(Kind.LOST, "money_is_where_the_his_says", text)


def insurance_is_what_the_his_says(books: Books) -> Iterator[Finding]:
    """医保 has at most one settlement of an order that stands, and has it exactly when the HIS has."""
    at_work = {row.order_key for row in books.ledger if row.state.is_open}
    for order_no, house in books.houses.items():
        standing = sum(state == "SETTLED" for state in house.settled)
        registered = sum(stands for order in books.his.of(order_no) for stands in order.insured)
        if max(standing, registered) > 1:
            text = f"{order_no} has {standing} settlements at 医保 that stand, {registered} in the HIS"
            yield Finding(Kind.DOUBLED, "insurance_is_what_the_his_says", text)
        elif standing != registered and order_no not in at_work:
            text = f"{order_no}: {standing} settlements at 医保 that stand, {registered} in the HIS"
            yield Finding(Kind.LOST, "insurance_is_what_the_his_says", text)


def done_is_done(books: Books) -> Iterator[Finding]:
    """What a caller was told is done stands in the HIS. (A hold may have been given back since.)"""
    undone = {said.order_no for said in books.told if said.operation in {UNLOCK, CANCEL}}
    for said in books.told:
        if said.answer is None or not said.answer.is_done:
            continue
        if said.operation == LOCK and said.order_no in undone:
            continue
        if _effect_of(said, books.his) is False:
            yield Finding(Kind.LOST, "done_is_done", f"{said.request_id} was told {said.answer}, the HIS shows nothing")
    yield from _unlocked(books)


def _unlocked(books: Books) -> Iterator[Finding]:
    """An order whose last command was to give its hold back has none. (A repetition is no later command.)"""
    last: dict[str, Said] = {}
    first_asked = {said.request_id: at for at, said in reversed(list(enumerate(books.told)))}
    for said in sorted(books.told, key=lambda said: first_asked[said.request_id]):
        if said.operation in {LOCK, UNLOCK, BOOK}:
            last[said.order_no] = said
    for order_no, said in last.items():
        released = said.operation == UNLOCK and said.answer is not None and said.answer.is_done
        if released and books.his.holds_of(order_no):
            yield Finding(Kind.LOST, "done_is_done", f"{order_no} was told that its hold is gone, and has one")


def refused_is_not_done(books: Books) -> Iterator[Finding]:
    """What a caller was told is refused does not stand in the HIS under that number."""
    for said in books.told:
        if said.answer is None or said.answer.is_done or not said.answer.is_final:
            continue
        if _stands(said.operation, said.order_no, said.number, books.his):
            text = f"{said.request_id} was told {said.answer}, and the HIS shows that it was done"
            yield Finding(Kind.CONTRADICTORY, "refused_is_not_done", text)


def unknown_is_no_failure(books: Books) -> Iterator[Finding]:
    """An outcome that is not known is UNAVAILABLE; and no answer may say nothing at all."""
    open_ids = {row.request_id for row in books.ledger if row.state.is_open}
    for said in books.told:
        if said.answer is None or said.answer.is_done:
            continue
        if said.answer.code in _SAYING_NOTHING:
            text = f"{said.request_id} was told {said.answer}"
            yield Finding(Kind.CONTRADICTORY, "unknown_is_no_failure", text)
        elif said.answer.is_final and said.request_id in open_ids:
            text = f"{said.request_id} was told {said.answer} while its outcome is not known"
            yield Finding(Kind.CONTRADICTORY, "unknown_is_no_failure", text)


def same_id_same_answer(books: Books) -> Iterator[Finding]:
    """One request_id has one final answer, to the byte."""
    answers: dict[str, set[bytes]] = defaultdict(set)
    for said in books.told:
        if said.answer is not None and said.answer.is_final:
            is_done = said.answer.is_done
            content = said.answer.content if is_done else f"{said.answer.code} {said.answer.reason}".encode()
            answers[said.request_id].add(bytes([is_done]) + content)
    for request_id, different in answers.items():
        if len(different) > 1:
            text = f"{request_id} was answered in {len(different)} ways"
            yield Finding(Kind.CONTRADICTORY, "same_id_same_answer", text)


def ledger_is_true(books: Books) -> Iterator[Finding]:
    """DONE stands in the HIS; REJECTED and RETRYABLE do not, unless another command with the same number did it."""
    done = {(row.operation, row.natural_key) for row in books.ledger if row.state is CommandState.DONE}
    undone = {row.order_key for row in books.ledger if row.operation in {UNLOCK, CANCEL}}
    for row in books.ledger:
        shown = effect(row.operation, row.order_key, _number_of(row), books.his)
        if row.state is CommandState.DONE and shown is False:
            if row.operation == LOCK and row.order_key in undone:
                continue
            yield Finding(Kind.CONTRADICTORY, "ledger_is_true", f"{row.request_id} is DONE, the HIS shows nothing")
        stands = _stands(row.operation, row.order_key, _number_of(row), books.his)
        if row.state in (CommandState.REJECTED, CommandState.RETRYABLE) and stands:
            repeatable = row.operation in COMMANDS and COMMANDS[row.operation].is_repeatable
            if not repeatable and (row.operation, row.natural_key) not in done:
                text = f"{row.request_id} is {row.state.value}, and the HIS shows that it was done"
                yield Finding(Kind.CONTRADICTORY, "ledger_is_true", text)


def ledger_is_final(books: Books) -> Iterator[Finding]:
    """Nothing stays SENT; what stays UNKNOWN says why, for the person who must look."""
    for row in books.ledger:
        if row.state is CommandState.SENT:
            yield Finding(Kind.CONTRADICTORY, "ledger_is_final", f"{row.request_id} is still SENT")
        if row.state is CommandState.UNKNOWN and not (row.detail and row.probes):
            yield Finding(Kind.CONTRADICTORY, "ledger_is_final", f"{row.request_id} is UNKNOWN without evidence")


def audit_is_whole(books: Books) -> Iterator[Finding]:
    """The chain of the audit verifies."""
    if books.audit_break:
        yield Finding(Kind.LOST, "audit_is_whole", books.audit_break)


Invariant = Callable[[Books], Iterator[Finding]]

INVARIANTS: Final[tuple[Invariant, ...]] = (
    no_oversell,
    counters_count,
    one_order,
    no_double_charge,
    no_double_refund,
    no_halves,
    one_patient,
    paid_has_place,
    money_is_where_the_his_says,
    insurance_is_what_the_his_says,
    done_is_done,
    refused_is_not_done,
    unknown_is_no_failure,
    same_id_same_answer,
    ledger_is_true,
    ledger_is_final,
    audit_is_whole,
)


def judge(books: Books) -> list[Finding]:
    """Everything that must not be."""
    return [finding for invariant in INVARIANTS for finding in invariant(books)]


def _effect_of(said: Said, his: HisBook) -> bool | None:
    return effect(said.operation, said.order_no, said.number, his)


def _number_of(row: CommandRow) -> str:
    """The business number in a row, as far as it is the HIS's number too."""
    kind, _, number = row.natural_key.partition(":")
    return number if kind in {"out_trade_no", "out_refund_no"} else ""
