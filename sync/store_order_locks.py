"""Locks by name among the agents of one site: advisory locks of the store's database.

They belong to a session, so they outlive neither the process nor its machine, and they outlive every pause of either: a
process that is stopped in the middle of a command keeps its order from the others until it goes on or is killed. Who
holds the locks of an order and finds a command of it in state SENT therefore knows that nobody runs it any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import queue
import random
import threading
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import SQLAlchemyError

from sync.clock import uptime
from sync.key_lock import KeyLocks, KeysHeld
from sync.store import StoreClosed, StoreError, StoreLocked, StoreTooNew
from sync.store_postgresql import AT_WORK, connected, typed_error
from sync.store_revision import head
from sync.store_schema import REVISION

_LOG = logging.getLogger("his160.sync.locks")
_PATIENCE: Final = timedelta(seconds=8)
_FIRST_PAUSE: Final = 0.02  # seconds between tries, growing to the longest
_LONGEST_PAUSE: Final = 0.25
_SURE: Final = 0.5  # seconds after an answer of the session in which it is not asked again
_GROUP: Final = 256

_TRY = "SELECT key, pg_try_advisory_lock(key) FROM unnest(%(keys)s::bigint[]) AS key"
_FREE = "SELECT count(pg_advisory_unlock(key)) FROM unnest(%(keys)s::bigint[]) AS key"


@dataclass(frozen=True, slots=True)
class _Ask:
    """``keys``: to be had, all or none; empty: only whether the session lives. Answered by its life, or None."""

    keys: tuple[int, ...]
    future: asyncio.Future[int | None]
    loop: asyncio.AbstractEventLoop

    def answer(self, value: int | None, error: StoreError | None = None) -> None:
        def settle() -> None:
            if self.future.done():
                return
            if error is None:
                self.future.set_result(value)
            else:
                self.future.set_exception(error)

        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(settle)


class LockSession:
    """One connection and its thread. ``life`` counts its connections: locks of an earlier life are gone.

    Raises StoreError when the first connection cannot be had.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._queue: queue.SimpleQueue[_Ask | None] = queue.SimpleQueue()
        self._guard = threading.Lock()
        self._closed = False
        self._to_free: list[tuple[int, tuple[int, ...]]] = []
        self._heard = 0.0
        self.life = 0
        self._connection: Connection | None = self._open()
        self._thread = threading.Thread(target=self._work, name="his160-store-locks", daemon=True)
        self._thread.start()

    async def ask(self, keys: Sequence[int]) -> int | None:
        """Takes all keys; the life they belong to, None when one of them is taken. Raises StoreError."""
        loop = asyncio.get_running_loop()
        ask = _Ask(tuple(keys), loop.create_future(), loop)
        with self._guard:
            if self._closed:
                raise StoreClosed("the state store is closed")
            self._queue.put(ask)
        return await ask.future

    def free(self, keys: Sequence[int], life: int) -> None:
        """Gives keys back soon, without waiting."""
        with self._guard:
            self._to_free.append((life, tuple(keys)))
            if not self._closed and self._queue.empty():
                loop = asyncio.get_running_loop()
                self._queue.put(_Ask((), loop.create_future(), loop))

    async def lives(self, life: int) -> bool:
        """Whether the session is still the one of that life."""
        if life != self.life:
            return False
        if uptime() - self._heard < _SURE:
            return True
        try:
            return await self.ask(()) == life
        except StoreError:
            return False

    def stop(self) -> None:
        """Ends the thread and the session; its locks go."""
        with self._guard:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    def _open(self) -> Connection:
        """A new life. Raises StoreError."""
        try:
            connection = connected(self._engine)
            try:
                revision = connection.execute(select(REVISION.c.version_num)).scalar()
                if revision != head():
                    raise StoreTooNew(f"the state store has meanwhile schema revision {revision}: restart the agent")
                if not connection.exec_driver_sql(f"SELECT {AT_WORK}").scalar():
                    raise StoreLocked("the tables of the state store are being upgraded")
            except BaseException:
                connection.close()
                raise
        except SQLAlchemyError as error:
            raise typed_error(error) from error
        self.life += 1
        self._heard = uptime()
        return connection

    def _work(self) -> None:
        while asks := self._take():
            held = self._connection is not None
            try:
                try:
                    self._serve(asks)
                except SQLAlchemyError as error:
                    if not held:
                        raise
                    self._lost(error)
                    self._serve(asks)  # it may have been broken for long
            except Exception as error:  # noqa: BLE001 - border of the thread: who waits must get an answer
                self._lost(error)
                failure = typed_error(error)
                for ask in asks:
                    ask.answer(None, failure)
        self._disconnect()

    def _take(self) -> list[_Ask]:
        """What waits, at least one; nothing at the end."""
        first = self._queue.get()
        asks = [] if first is None else [first]
        while asks and len(asks) < _GROUP and not self._queue.empty():
            more = self._queue.get()
            if more is None:
                self._queue.put(None)
                break
            asks.append(more)
        return asks

    def _serve(self, asks: Sequence[_Ask]) -> None:
        if self._connection is None:
            self._connection = self._open()
        has_freed = self._free_now()
        wanted = sorted({key for ask in asks for key in ask.keys})
        got = {key for key, is_ours in self._run(_TRY, wanted) if is_ours} if wanted else set()
        if not wanted and not has_freed:
            self._connection.exec_driver_sql("SELECT 1")
        self._heard = uptime()
        used: set[int] = set()
        answers: list[tuple[_Ask, int | None]] = []
        for ask in asks:
            # Keys that two asks want are not given twice; within the process nobody asks for what is held.
            success = got.issuperset(ask.keys) and used.isdisjoint(ask.keys)
            used.update(ask.keys if success else ())
            answers.append((ask, self.life if success else None))
        if got - used:
            self._run(_FREE, sorted(got - used))
        for ask, answer in answers:
            ask.answer(answer)

    def _free_now(self) -> bool:
        """Whether there was something to give back."""
        with self._guard:
            freed, self._to_free = self._to_free, []
        keys = [key for life, group in freed if life == self.life for key in group]
        if keys:
            self._run(_FREE, keys)
        return bool(keys)

    def _run(self, statement: str, keys: Sequence[int]) -> Sequence[Any]:
        assert self._connection is not None
        return self._connection.exec_driver_sql(statement, {"keys": list(keys)}).all()

    def _lost(self, error: BaseException) -> None:
        _LOG.error("the session of order locks is lost", extra={"error": type(error).__name__})
        self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self.life += 1  # whoever holds something holds it no more
        if connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                connection.close()


_LIFE: ContextVar[int | None] = ContextVar("his160_lock_life", default=None)


class SharedLocks:
    """``Locks`` in a session. ``wait`` and ``chance``: between tries for a key that another agent has."""

    is_shared = True

    def __init__(
        self,
        session: LockSession,
        *,
        patience: timedelta = _PATIENCE,
        wait: Callable[[float], Any] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._session = session
        self._patience = patience
        self._wait = wait
        self._chance = chance
        self._own = KeyLocks()

    @asynccontextmanager
    async def hold(self, keys: Collection[str], *, patience: timedelta | None = None) -> AsyncIterator[None]:
        async with self._own.hold(keys):
            numbers = sorted({_number(key) for key in keys})
            life = await self._taken(numbers, self._patience if patience is None else patience)
            token = _LIFE.set(life)
            try:
                yield
            finally:
                _LIFE.reset(token)
                self._session.free(numbers, life)

    async def confirm(self) -> bool:
        life = _LIFE.get()
        return life is None or await self._session.lives(life)

    async def _taken(self, numbers: Sequence[int], patience: timedelta) -> int:
        until = uptime() + patience.total_seconds()
        pause = _FIRST_PAUSE
        while True:
            life = await self._session.ask(numbers)
            if life is not None:
                return life
            if uptime() >= until:
                raise KeysHeld("another agent of the site runs a command of the order")
            await self._wait(pause * (0.5 + self._chance()))
            pause = min(2 * pause, _LONGEST_PAUSE)


def _number(key: str) -> int:
    """64 bits of a name, as the database wants them: signed."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big", signed=True)
