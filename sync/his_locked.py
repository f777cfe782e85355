"""The HIS as several agents share it: nothing is written for an order whose locks were lost on the way.

A process that was frozen for long, or a store's database that was restarted, may have given the order to another agent.
Then nothing has been sent yet, and nothing is: the command can be repeated, by whichever agent.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from google.protobuf.message import Message

from his_db.errors import HisUnavailable
from sync.his import HisPort
from sync.key_lock import Locks

_RETRY: Final = timedelta(seconds=2)


class LockedHis:
    """``HisPort`` before another one."""

    def __init__(self, his: HisPort, locks: Locks) -> None:
        self._his = his
        self._locks = locks

    async def read(self, operation: str, request: Message, *, deadline: float | None = None) -> Message:
        return await self._his.read(operation, request, deadline=deadline)

    async def write(self, operation: str, request: Message, *, key: str, deadline: float | None = None) -> Message:
        """Raises HisUnavailable when the running task no longer holds what it took: nothing was sent."""
        if not await self._locks.confirm():
            raise HisUnavailable("the lock of the order was lost before the command was sent", retry_after=_RETRY)
        return await self._his.write(operation, request, key=key, deadline=deadline)

    def enter(self, operation: str, /) -> None:
        self._his.enter(operation)

    def maps(self, operation: str, /) -> bool:
        return self._his.maps(operation)
