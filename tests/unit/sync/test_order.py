from __future__ import annotations

from itertools import product

import pytest
from his160.v1 import common_pb2, reason_pb2

from sync import order
from sync.order import OrderCommand as C

STATES = [value.number for value in common_pb2.AppointmentState.DESCRIPTOR.values]
N, L, B, P, I, V, X, R, S, W, F = (  # noqa: E741 - one letter for each column of the table
    order.NONE, order.LOCKED, order.BOOKED, order.PAID, order.CHECKED_IN, order.VISITED,
    order.CANCELLED, order.REFUNDED, order.SUSPENDED, order.NO_SHOW, order.RELEASED,
)  # fmt: skip
LEGAL = {
    (N, L), (N, B), (N, P), (L, B), (L, F), (L, P), (B, P), (B, X), (B, S), (B, W), (P, I), (P, R), (P, S), (P, W),
    (I, V), (I, R), (S, R), (S, X), (S, B), (S, P),
}  # fmt: skip
EFFECTS = {
    (N, C.LOCK): L, (L, C.UNLOCK): F, (N, C.BOOK): B, (L, C.BOOK): B, (L, C.CANCEL): F, (B, C.CANCEL): X,
    (S, C.CANCEL): X, (B, C.PAY): P, (P, C.REFUND): R, (I, C.REFUND): R, (S, C.REFUND): R,
}  # fmt: skip


@pytest.mark.parametrize(("before", "after"), list(product(STATES, STATES)))
def test_every_pair_of_states(before: int, after: int) -> None:
    assert order.is_legal(before, after) == (before == after or (before, after) in LEGAL)  # type: ignore[arg-type]


@pytest.mark.parametrize(("before", "command"), list(product(STATES, C)))
def test_every_state_and_command(before: int, command: C) -> None:
    expected = EFFECTS.get((before, command))  # type: ignore[arg-type]
    if expected is None:
        with pytest.raises(order.IllegalTransition) as caught:
            order.transition(before, command)  # type: ignore[arg-type]
        assert caught.value.reason != reason_pb2.REASON_UNSPECIFIED
    else:
        after = order.transition(before, command)  # type: ignore[arg-type]
        assert after == expected
        assert order.is_reachable(before, after)  # type: ignore[arg-type]


def test_every_state_is_in_the_table_and_terminal_states_end() -> None:
    assert set(order.NEXT) == set(STATES)
    assert {state for state, following in order.NEXT.items() if not following} == order.TERMINAL


# What each command is refused with in each state, where not ILLEGAL_TRANSITION.
REASONS = {
    C.BOOK: {B: "DUPLICATE_APPOINTMENT", P: "DUPLICATE_APPOINTMENT", I: "DUPLICATE_APPOINTMENT",
             S: "SCHEDULE_SUSPENDED", F: "LOCK_EXPIRED"},
    C.CANCEL: {N: "APPOINTMENT_NOT_FOUND", P: "ALREADY_PAID", I: "ALREADY_CHECKED_IN", V: "ALREADY_VISITED",
               X: "ALREADY_CANCELLED", R: "ALREADY_REFUNDED", F: "ALREADY_CANCELLED", W: "CANCEL_TOO_LATE"},
    C.PAY: {N: "APPOINTMENT_NOT_FOUND", P: "ALREADY_PAID", I: "ALREADY_PAID", V: "ALREADY_VISITED",
            X: "ALREADY_CANCELLED", R: "ALREADY_REFUNDED", S: "SCHEDULE_SUSPENDED", F: "LOCK_EXPIRED",
            W: "SCHEDULE_EXPIRED"},
    C.REFUND: {N: "APPOINTMENT_NOT_FOUND", L: "NOT_PAID", B: "NOT_PAID", V: "ALREADY_VISITED",
               X: "ALREADY_CANCELLED", R: "ALREADY_REFUNDED", F: "NOT_PAID", W: "CANCEL_TOO_LATE"},
}  # fmt: skip


@pytest.mark.parametrize(("state", "command"), [pair for pair in product(STATES, C) if pair not in EFFECTS])
def test_every_refusal_has_the_reason_of_the_contract(state: order.State, command: C) -> None:
    with pytest.raises(order.IllegalTransition) as caught:
        order.transition(state, command)
    wanted = REASONS.get(command, {}).get(state, "ILLEGAL_TRANSITION")
    assert reason_pb2.Reason.Name(caught.value.reason) == f"REASON_{wanted}"


def test_several_steps_between_two_looks() -> None:
    assert order.is_reachable(L, V)
    assert not order.is_reachable(P, X)  # paid and cancelled without refund
    assert not order.is_reachable(R, P)


def test_commands_explain_only_what_they_alone_lead_to() -> None:
    assert order.explains({C.BOOK, C.PAY}, L, P)
    assert order.explains({C.LOCK, C.BOOK, C.CANCEL}, N, X)
    assert not order.explains({C.BOOK}, L, P)
    assert not order.explains({C.PAY}, B, I)  # the check-in was somebody else
    assert order.explains({C.CANCEL}, L, X)  # a HIS that shows a hold given back as cancelled
    assert not order.explains(set(), B, B)
