"""Commands of an agent that is gone, found by another one of the site.

Who holds the locks of an order and finds a command of it in state SENT knows that nobody runs it: it becomes UNKNOWN
from now on, because when its agent died, and whether its statement still runs in the HIS, nobody can say.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from sync.key_lock import Locks
from sync.ledger import Ledger
from sync.store import CommandRow, CommandState, Store, Transaction

_LOG: Final = logging.getLogger("his160.sync.orphans")
_DETAIL: Final = "the agent that sent it is gone"
_ORDER: Final = "order:"


class OrphanLocks:
    """``Locks`` before shared ones: once held, the orders and numbers have no command in state SENT any more.

    ``kept``: request_ids whose answer this process knows and could not write down yet; they are no orphans.
    """

    is_shared = True

    def __init__(self, locks: Locks, store: Store, ledger: Ledger, kept: Callable[[str], bool]) -> None:
        self._locks = locks
        self._store = store
        self._ledger = ledger
        self._kept = kept

    @asynccontextmanager
    async def hold(self, keys: Collection[str], *, patience: timedelta | None = None) -> AsyncIterator[None]:
        async with self._locks.hold(keys, patience=patience):
            for row in await self._store.read(lambda transaction: _sent(transaction, keys)):
                if not self._kept(row.request_id):
                    extra = {"operation": row.operation, "request_id": row.request_id}
                    _LOG.warning("a command of an agent that is gone", extra=extra)
                    await self._ledger.advance(row, self._ledger.unknown(row, _DETAIL))
            yield

    async def confirm(self) -> bool:
        return await self._locks.confirm()


def _sent(transaction: Transaction, keys: Collection[str]) -> Sequence[CommandRow]:
    """Commands in state SENT of the orders and numbers that the keys name, and steps of theirs."""
    found: dict[str, CommandRow] = {}
    for key in keys:
        order_key = key.removeprefix(_ORDER) if key.startswith(_ORDER) else ""
        for row in transaction.commands.open_of(order_key, "" if order_key else key):
            found[row.request_id] = row
            found.update((step.request_id, step) for step in transaction.commands.steps_of(row.request_id))
    return [row for row in found.values() if row.state is CommandState.SENT]
