"""The life of an appointment order as pure data: which state may follow which, and what each command does.

Rule: domain facts 1.11. The HIS has the last word: a transition that is not in here is counted and still reported.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from functools import cache
from types import MappingProxyType
from typing import Final, TypeAlias

from his160.v1 import common_pb2, reason_pb2

State: TypeAlias = common_pb2.AppointmentState.ValueType
Reason: TypeAlias = reason_pb2.Reason.ValueType

NONE: Final[State] = common_pb2.APPOINTMENT_STATE_UNSPECIFIED  # there is no order yet
LOCKED: Final[State] = common_pb2.APPOINTMENT_STATE_LOCKED
BOOKED: Final[State] = common_pb2.APPOINTMENT_STATE_BOOKED
PAID: Final[State] = common_pb2.APPOINTMENT_STATE_PAID
CHECKED_IN: Final[State] = common_pb2.APPOINTMENT_STATE_CHECKED_IN
VISITED: Final[State] = common_pb2.APPOINTMENT_STATE_VISITED
CANCELLED: Final[State] = common_pb2.APPOINTMENT_STATE_CANCELLED
REFUNDED: Final[State] = common_pb2.APPOINTMENT_STATE_REFUNDED
SUSPENDED: Final[State] = common_pb2.APPOINTMENT_STATE_SUSPENDED
NO_SHOW: Final[State] = common_pb2.APPOINTMENT_STATE_NO_SHOW
RELEASED: Final[State] = common_pb2.APPOINTMENT_STATE_RELEASED

TERMINAL: Final = frozenset({VISITED, CANCELLED, REFUNDED, NO_SHOW, RELEASED})

NEXT: Final[Mapping[State, frozenset[State]]] = MappingProxyType(
    {
        NONE: frozenset({LOCKED, BOOKED, PAID}),  # some hospitals book without holding
        LOCKED: frozenset({BOOKED, RELEASED, PAID}),  # 预约即挂号: booking registers at once
        BOOKED: frozenset({PAID, CANCELLED, SUSPENDED, NO_SHOW}),
        PAID: frozenset({CHECKED_IN, REFUNDED, SUSPENDED, NO_SHOW}),
        CHECKED_IN: frozenset({VISITED, REFUNDED}),
        SUSPENDED: frozenset({REFUNDED, CANCELLED, BOOKED, PAID}),  # the last two: the session is resumed
        **{state: frozenset() for state in TERMINAL},
    }
)
"""Legal single steps. 改签 and 替诊 keep the state and are no steps."""


_GIVEN_BACK: Final = frozenset({CANCELLED, RELEASED})
_IS_PAID: Final[Mapping[State, bool]] = {NONE: False, LOCKED: False, BOOKED: False, PAID: True, CHECKED_IN: True}
_BARRED: Final[Mapping[bool | None, frozenset[State]]] = {
    True: frozenset({CANCELLED, BOOKED}),
    False: frozenset({REFUNDED, PAID}),
}


class OrderCommand(enum.Enum):
    """What a command of the platform does to an order."""

    LOCK = "LOCK"
    UNLOCK = "UNLOCK"
    BOOK = "BOOK"
    CANCEL = "CANCEL"
    PAY = "PAY"
    REFUND = "REFUND"


class IllegalTransition(Exception):
    """The state does not allow the command. ``reason`` is the contract's reason for it."""

    def __init__(self, before: State, command: OrderCommand, reason: Reason) -> None:
        super().__init__(f"{common_pb2.AppointmentState.Name(before)} does not allow {command.value}")
        self.reason = reason


_EFFECTS: Final[Mapping[OrderCommand, Mapping[State, State]]] = {
    OrderCommand.LOCK: {NONE: LOCKED},
    OrderCommand.UNLOCK: {LOCKED: RELEASED},
    OrderCommand.BOOK: {NONE: BOOKED, LOCKED: BOOKED},
    OrderCommand.CANCEL: {LOCKED: RELEASED, BOOKED: CANCELLED, SUSPENDED: CANCELLED},
    OrderCommand.PAY: {BOOKED: PAID},
    OrderCommand.REFUND: {PAID: REFUNDED, CHECKED_IN: REFUNDED, SUSPENDED: REFUNDED},
}

_REFUSALS: Final[Mapping[OrderCommand, Mapping[State, Reason]]] = {
    OrderCommand.LOCK: {},
    OrderCommand.UNLOCK: {},
    OrderCommand.BOOK: {
        BOOKED: reason_pb2.REASON_DUPLICATE_APPOINTMENT,
        PAID: reason_pb2.REASON_DUPLICATE_APPOINTMENT,
        CHECKED_IN: reason_pb2.REASON_DUPLICATE_APPOINTMENT,
        SUSPENDED: reason_pb2.REASON_SCHEDULE_SUSPENDED,
        RELEASED: reason_pb2.REASON_LOCK_EXPIRED,
    },
    OrderCommand.CANCEL: {
        NONE: reason_pb2.REASON_APPOINTMENT_NOT_FOUND,
        PAID: reason_pb2.REASON_ALREADY_PAID,
        CHECKED_IN: reason_pb2.REASON_ALREADY_CHECKED_IN,
        VISITED: reason_pb2.REASON_ALREADY_VISITED,
        CANCELLED: reason_pb2.REASON_ALREADY_CANCELLED,
        REFUNDED: reason_pb2.REASON_ALREADY_REFUNDED,
        RELEASED: reason_pb2.REASON_ALREADY_CANCELLED,
        NO_SHOW: reason_pb2.REASON_CANCEL_TOO_LATE,
    },
    OrderCommand.PAY: {
        NONE: reason_pb2.REASON_APPOINTMENT_NOT_FOUND,
        PAID: reason_pb2.REASON_ALREADY_PAID,
        CHECKED_IN: reason_pb2.REASON_ALREADY_PAID,
        VISITED: reason_pb2.REASON_ALREADY_VISITED,
        CANCELLED: reason_pb2.REASON_ALREADY_CANCELLED,
        REFUNDED: reason_pb2.REASON_ALREADY_REFUNDED,
        SUSPENDED: reason_pb2.REASON_SCHEDULE_SUSPENDED,
        RELEASED: reason_pb2.REASON_LOCK_EXPIRED,
        NO_SHOW: reason_pb2.REASON_SCHEDULE_EXPIRED,
    },
    OrderCommand.REFUND: {
        NONE: reason_pb2.REASON_APPOINTMENT_NOT_FOUND,
        LOCKED: reason_pb2.REASON_NOT_PAID,
        BOOKED: reason_pb2.REASON_NOT_PAID,
        VISITED: reason_pb2.REASON_ALREADY_VISITED,
        CANCELLED: reason_pb2.REASON_ALREADY_CANCELLED,
        REFUNDED: reason_pb2.REASON_ALREADY_REFUNDED,
        RELEASED: reason_pb2.REASON_NOT_PAID,
        NO_SHOW: reason_pb2.REASON_CANCEL_TOO_LATE,
    },
}


def transition(before: State, command: OrderCommand) -> State:
    """The state after the command. Raises IllegalTransition with the reason that the contract has for it."""
    after = _EFFECTS[command].get(before)
    if after is None:
        reason = _REFUSALS[command].get(before, reason_pb2.REASON_ILLEGAL_TRANSITION)
        raise IllegalTransition(before, command, reason)
    return after


def is_legal(before: State, after: State) -> bool:
    """Whether the one state may follow the other in one step, or nothing changed."""
    return before == after or after in NEXT[before]


def is_reachable(before: State, after: State) -> bool:
    """Whether legal steps lead from the one to the other: two looks at an order may have several steps between them."""
    return after in _closure(before)


def explains(commands: Collection[OrderCommand], before: State, after: State) -> bool:
    """Whether these commands alone, in some order, lead from the one state to the other (at least one of them).

    A HIS may show a hold that was given back as cancelled, and the other way round: both are the same end.
    """
    seen = _behind(frozenset(commands), before)
    return after in seen or (after in _GIVEN_BACK and not _GIVEN_BACK.isdisjoint(seen))


@cache  # asked for each change of a row: a mass change must not walk the table again and again
def _behind(commands: frozenset[OrderCommand], before: State) -> frozenset[State]:
    """States to which these commands lead."""
    seen: set[State] = set()
    waiting = [before]
    while waiting:
        state = waiting.pop()
        for command in commands:
            following = _EFFECTS[command].get(state)
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)
    return frozenset(seen)


def ends(before: State) -> frozenset[State]:
    """States in which a row may be gone: what was given back; of a hold, what became of it."""
    given_back = frozenset({CANCELLED, RELEASED, REFUNDED})
    return given_back | {BOOKED, PAID} if before == LOCKED else given_back


@cache
def _closure(before: State) -> frozenset[State]:
    """States behind a state. A suspended order remembers whether it was paid: it is refunded or resumed as paid."""
    start = (before, _IS_PAID.get(before))
    seen = {start}
    waiting = [start]
    while waiting:
        state, paid = waiting.pop()
        barred = _BARRED.get(paid, frozenset()) if state == SUSPENDED else frozenset()
        for following in NEXT[state] - barred:
            step = (following, _IS_PAID.get(following, paid))
            if step not in seen:
                seen.add(step)
                waiting.append(step)
    return frozenset(state for state, _ in seen)
