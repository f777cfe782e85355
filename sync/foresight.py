"""What the ledger itself knows of an order: checked before a write, where that costs no read of the HIS.

The HIS has the last word: what the ledger's knowledge forbids is asked of the HIS before it is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sync import order
from sync.command_entry import Command
from sync.commands import COMMANDS
from sync.order import OrderCommand
from sync.store import CommandRow, CommandState

# What holds and books is left to the HIS: an order number may come again after its end.
CHECKED = frozenset({OrderCommand.CANCEL, OrderCommand.PAY, OrderCommand.REFUND})


def last_state(history: Sequence[CommandRow]) -> order.State | None:
    """The state in which the last command of ours left the order; None when none has told."""
    told = [row for row in history if row.state is CommandState.DONE and not row.replay_of and _effect(row)]
    if not told:
        return None
    row = max(told, key=lambda row: (row.finished_time or row.sent_time, row.request_id))
    answer: Any = COMMANDS[row.operation].response_class.FromString(row.result)
    if "appointment" in answer.DESCRIPTOR.fields_by_name and answer.appointment.state:
        state: order.State = answer.appointment.state
        return state
    return {OrderCommand.LOCK: order.LOCKED, OrderCommand.UNLOCK: order.RELEASED}.get(_effect(row) or OrderCommand.PAY)


def objection(command: Command, state: order.State | None) -> order.IllegalTransition | None:
    """Why a command makes no sense for an order in this state; None when it does, or nothing is known."""
    if state is None or command.order_command not in CHECKED:
        return None
    try:
        order.transition(state, command.order_command)
    except order.IllegalTransition as error:
        return error
    return None


def _effect(row: CommandRow) -> OrderCommand | None:
    command = COMMANDS.get(row.operation)
    return None if command is None else command.order_command
