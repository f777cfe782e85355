"""Locks by name: what shares a name runs one after another; names in no use cost nothing.

The port, and the locks of a process that is alone with its store. Of several agents: ``sync/store_order_locks.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Protocol


class KeysHeld(Exception):
    """Another agent of the site holds one of the names, and has not given it back in time."""


class Locks(Protocol):
    """Locks by name. For one event loop."""

    @property
    def is_shared(self) -> bool:
        """Whether other processes take them too, so that something may go on in them that is not known here."""

    def hold(self, keys: Collection[str], *, patience: timedelta | None = None) -> AbstractAsyncContextManager[None]:
        """Holds all keys; within the process in the order of asking.

        ``patience``: how long to wait for other processes; None: the usual. Raises KeysHeld, StoreError.
        """

    async def confirm(self) -> bool:
        """Whether what the running task holds was held without a break until now: it may act."""


class KeyLocks:
    """``Locks`` within the process: a lock for each key in use, taken in the order of asking."""

    __slots__ = ("_entries",)

    is_shared = False

    def __init__(self) -> None:
        self._entries: dict[str, tuple[asyncio.Lock, int]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @asynccontextmanager
    async def hold(self, keys: Collection[str], *, patience: timedelta | None = None) -> AsyncIterator[None]:
        """Taken in sorted order, so that two holders never wait for each other. There is nobody else to wait for."""
        async with AsyncExitStack() as stack:
            for key in sorted(set(keys)):
                await stack.enter_async_context(self._hold_one(key))
            yield

    async def confirm(self) -> bool:
        return True

    @asynccontextmanager
    async def _hold_one(self, key: str) -> AsyncIterator[None]:
        lock, users = self._entries.get(key, (asyncio.Lock(), 0))
        self._entries[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._entries[key]
            if users == 1:
                del self._entries[key]
            else:
                self._entries[key] = (lock, users - 1)
