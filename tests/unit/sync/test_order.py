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
    (N, L), (N, B), (L, B), (L, F), (B, P), (B, X), (B, S), (B, W), (P, I), (P, R), (P, S), (P, W),
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


@pytest.mark.parametrize(
    ("state", "command", "reason"),
    [
        (P, C.CANCEL, reason_pb2.REASON_ALREADY_PAID),
        (B, C.REFUND, reason_pb2.REASON_NOT_PAID),
        (R, C.REFUND, reason_pb2.REASON_ALREADY_REFUNDED),
        (V, C.REFUND, reason_pb2.REASON_ALREADY_VISITED),
        (S, C.PAY, reason_pb2.REASON_SCHEDULE_SUSPENDED),
        (F, C.BOOK, reason_pb2.REASON_LOCK_EXPIRED),
        (V, C.LOCK, reason_pb2.REASON_ILLEGAL_TRANSITION),
    ],
)
def test_refusals_have_the_reason_of_the_contract(state: order.State, command: C, reason: int) -> None:
    with pytest.raises(order.IllegalTransition) as caught:
        order.transition(state, command)
    assert caught.value.reason == reason


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
