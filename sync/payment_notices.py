"""Call-backs of payment houses and of 医保: kept before they are answered, and then what they are about is asked for.

A call-back says only that it is worth asking now (facts 3.3): it may be late, repeated or lost, so no money and no
state is taken from it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from his_db.errors import HisError
from sync.clock import Clock
from sync.money_book import PaymentNoticeRow
from sync.store import Store

_LOG: Final = logging.getLogger("his160.sync.payment_notices")
_AT_ONCE: Final = 100

Wake = Callable[[str], Awaitable[object]]
"""Asks for what a business number is about (``CommandExecutor.wake``)."""


class PaymentNotices:
    """What was called back. For one event loop."""

    def __init__(self, store: Store, clock: Clock, wake: Wake) -> None:
        self._store = store
        self._clock = clock
        self._wake = wake

    async def keep(self, gateway: str, event: str, number: str) -> bool:
        """Writes a verified call-back to disk; whether it is new. Raises StoreError."""
        now = self._clock()
        return await self._store.write(lambda work: work.payment_notices.add(gateway, event, number, now))

    async def wake(self) -> int:
        """Asks for all that was called back and not asked for yet, once each; how many. Raises StoreError.

        What cannot be asked for now is left to the sweep.
        """
        asked = 0
        while rows := await self._store.read(lambda work: work.payment_notices.waiting(_AT_ONCE)):
            for row in rows:
                await self._ask(row)
            asked += len(rows)
        return asked

    async def _ask(self, row: PaymentNoticeRow) -> None:
        extra = {"gateway": row.gateway, "event": row.event, "number": row.number}
        try:
            await self._wake(row.number)
        except HisError as error:
            _LOG.warning("called back, and cannot be asked for now", extra={**extra, "detail": error.detail})
        else:
            _LOG.info("called back and asked for", extra=extra)
        now = self._clock()
        await self._store.write(lambda work: work.payment_notices.woken(row, now))
