"""The open orders of the platform among the rows of a watch, those looked at longest ago first.

An order is the platform's by its number: the contract leaves ``order_no`` empty for any other, and it is what the
ledger knows the order by. The number is on the row, so an order that was booked before this ledger began counts too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, Final

from google.protobuf.message import Message
from his160.v1 import common_pb2

from sync import order
from sync.capture import Change
from sync.his import CompiledWatchPort
from sync.store import RowState, Store

_ROWS_A_TURN: Final = 500  # read in one go: a few milliseconds


class OpenOrders:
    """Keys in a queue: whose row was just seen goes to its end. In memory; the store's rows fill it again."""

    def __init__(self) -> None:
        self._queue: dict[str, None] | None = None  # None: to be filled

    def forget(self) -> None:
        """Another mapping, or a reseed: the rows may say something else."""
        self._queue = None

    async def fill(self, store: Store, stream: str, watch: CompiledWatchPort) -> None:
        """From what the store knows, unless that is done. Raises StoreError."""
        if self._queue is not None:
            return
        queue: dict[str, None] = {}
        for number, state in enumerate(await store.read(lambda transaction: transaction.rows.all(stream))):
            if number % _ROWS_A_TURN == _ROWS_A_TURN - 1:
                await asyncio.sleep(0)  # calls have a turn
            if state.message is not None and _is_open(watch.message_class.FromString(state.message)):
                queue[state.key] = None
        self._queue = queue

    def seen(self, changes: Iterable[Change]) -> None:
        """These changes are in the store."""
        if self._queue is not None:
            for change in changes:
                self._queue.pop(change.key, None)
                if _is_open(change.after):
                    self._queue[change.key] = None

    def left(self, states: Iterable[RowState]) -> None:
        """These states are kept quietly: rows whose day has passed are forgotten."""
        if self._queue is not None:
            for state in states:
                if state.message is None:
                    self._queue.pop(state.key, None)

    def next(self, value_of: Callable[[str], Any], most: int) -> Mapping[str, Any]:
        """Those that come next, native values by text. ``value_of``: the native value; None: it cannot be read now."""
        values = ((key, value_of(key)) for key in self._queue or ())
        return dict(islice((pair for pair in values if pair[1] is not None), most))

    def looked(self, keys: Iterable[str]) -> None:
        """They go to the end."""
        if self._queue is not None:
            for key in keys:
                if key in self._queue:
                    del self._queue[key]
                    self._queue[key] = None


def _is_open(message: Message | None) -> bool:
    if not isinstance(message, common_pb2.Appointment) or not message.order_no:
        return False
    return message.state != order.NONE and message.state not in order.TERMINAL
