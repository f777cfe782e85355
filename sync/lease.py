"""Having the lease of a site: take it, keep it, know when it is lost, and commit nothing without it.

    lease = Lease(store, holder="agent-1", audit=audit)
    fenced = lease.fenced()      # the store for watchers, delivery, periodic work
    await lease.take()           # waits for it
    await lease.lost()           # waits until it is gone

A process that was frozen finds out by itself when it goes on (its own clock says that the span is over), and if it is
too quick for that, by its next unit: the term is checked inside the transaction. A thread renews it (``lease_keeper``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Final, Protocol, TypeVar

from sync.audit import Audit, as_json
from sync.clock import Wait, uptime, wait_for
from sync.key_lock import Locks
from sync.lease_keeper import Keeper
from sync.lease_term import LeaseRow, Renewals
from sync.store import LeaseLost, Store, StoreError, Transaction

T = TypeVar("T")
_LOG: Final = logging.getLogger("his160.sync.lease")
SITE_LEASE: Final = "site"
# A holder that dies is followed after SPAN and a look of the other one, so well within 20 s.
SPAN: Final = timedelta(seconds=12)
_BEATS: Final = 12  # of the event loop within the span
_LOOK: Final = timedelta(seconds=2)


class Tenure(Protocol):
    """Whether this agent is the one that watches and delivers."""

    @property
    def term(self) -> int | None:
        """The present term of this agent; None while another agent has the lease, or nobody."""

    def fenced(self) -> Store:
        """The store, committing only within the term in which a unit is handed over; else LeaseLost."""

    async def take(self) -> int:
        """Waits until this agent has the lease; its term."""

    async def lost(self) -> None:
        """Waits until it has not."""

    def give_up(self) -> None:
        """It is lost from now on."""

    async def give_back(self) -> None:
        """Lets another agent take it at once. Never raises StoreError."""


class Lease:
    """``Tenure`` in a shared store. ``clock``: seconds that pass also in a frozen process (``sync.clock.uptime``)."""

    def __init__(
        self,
        store: Store,
        *,
        holder: str,
        audit: Audit,
        span: timedelta = SPAN,
        clock: Callable[[], float] = uptime,
        wait: Wait = wait_for,
    ) -> None:
        self._store = store
        self._holder = holder
        self._audit = audit
        self._span = span
        self._clock = clock
        self._wait = wait
        self._kept: Keeper | None = None
        self._gone = asyncio.Event()
        self._trouble = ""
        self.seen: LeaseRow | None = None
        """The lease as it was when it was last looked at."""

    @property
    def term(self) -> int | None:
        if self._kept is not None and self._kept.left <= 0:
            self.give_up()
        return None if self._kept is None else self._kept.term

    def fenced(self) -> Store:
        return FencedStore(self._store, self)

    async def take(self) -> int:
        """Looks for a chance until there is one. Never ends by an error of the store."""
        never = asyncio.Event()
        while True:
            try:
                if (term := await self._try()) is not None:
                    return term
                self._trouble = ""
            except StoreError as error:
                if str(error) != self._trouble:
                    _LOG.warning("the lease cannot be asked for: %s", error)
                self._trouble = str(error)
            left = self._span if self.seen is None else max(self.seen.left, timedelta(0))
            await self._wait(never, min(_LOOK, left + _LOOK / 20, self._span / 2))

    async def lost(self) -> None:
        """Shows that the event loop lives, for as long as the term lasts."""
        while self.term is not None:
            assert self._kept is not None
            self._kept.beat()
            await self._wait(self._gone, min(self._span / _BEATS, timedelta(seconds=max(0.0, self._kept.left))))

    def give_up(self) -> None:
        if self._kept is not None:
            term, left = self._kept.term, round(self._kept.left, 2)
            _LOG.warning("the lease is lost", extra={"term": term, "left": left})
            self._audit.note("lease.lost", parameters=as_json(term=term))
        self._end()

    async def give_back(self) -> None:
        kept = self._kept
        self._end()
        if kept is None:
            return
        try:
            await self._store.write(lambda work: work.leases.give_back(SITE_LEASE, kept.term))
        except StoreError as error:
            _LOG.warning("the lease could not be given back, it runs out: %s", error)

    def _end(self) -> None:
        if self._kept is not None:
            self._kept.end()
        self._kept = None
        self._gone.set()

    async def _try(self) -> int | None:
        holder, span = self._holder, self._span
        entry = self._audit.entry("lease.taken")
        now = self._audit.now()

        def unit(work: Transaction) -> tuple[int | None, float, LeaseRow | None]:
            asked = self._clock()  # only now: the unit may have waited for other writers longer than the span
            term = work.leases.take(SITE_LEASE, holder, span)
            if term is not None:
                work.audit.append(replace(entry, parameters=as_json(term=term, holder=holder)), now)
            return term, asked, work.leases.get(SITE_LEASE)

        self.seen = await self._store.read(lambda work: work.leases.get(SITE_LEASE))
        if self.seen is not None and timedelta(0) < self.seen.left <= span:
            return None  # the usual case costs no commit
        term, asked, self.seen = await self._store.write(unit)
        if term is None:
            return None
        self._gone.clear()
        self._kept = self._keep(term, asked + span.total_seconds())
        _LOG.info("the lease is taken", extra={"term": term, "holder": holder})
        return term

    def _keep(self, term: int, until: float) -> Keeper:
        loop = asyncio.get_running_loop()

        def over() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._told, term)

        renewals: Renewals = self._store.renewals()
        return Keeper(renewals, SITE_LEASE, term, self._span, until=until, clock=self._clock, over=over)

    def _told(self, term: int) -> None:
        """The database says that the term is over."""
        if self._kept is not None and self._kept.term == term:
            self.give_up()


class SoleTenure:
    """``Tenure`` of the one agent that a store can have: its lock is the lease."""

    term: int | None = 1

    def __init__(self, store: Store) -> None:
        self._store = store

    def fenced(self) -> Store:
        return self._store

    async def take(self) -> int:
        return 1

    async def lost(self) -> None:
        await asyncio.Event().wait()

    def give_up(self) -> None:
        """It cannot be lost."""

    async def give_back(self) -> None:
        """The lock goes with the process."""


class FencedStore:
    """``Store`` that commits only within the term in which the unit was handed over. Raises LeaseLost."""

    def __init__(self, store: Store, tenure: Tenure) -> None:
        self._store = store
        self._tenure = tenure

    @property
    def identity(self) -> str:
        return self._store.identity

    async def write(self, unit: Callable[[Transaction], T]) -> T:
        term = self._present()

        def fenced(work: Transaction) -> T:
            work.leases.check(SITE_LEASE, term)
            return unit(work)

        try:
            return await self._store.write(fenced)
        except LeaseLost:
            if self._tenure.term == term:
                self._tenure.give_up()
            raise

    async def read(self, unit: Callable[[Transaction], T]) -> T:
        self._present()
        return await self._store.read(unit)

    async def stamp(self) -> object | None:
        self._present()
        return await self._store.stamp()

    def locks(self) -> Locks:
        return self._store.locks()

    def renewals(self) -> Renewals:
        return self._store.renewals()

    async def close(self) -> None:
        """The store is closed by whoever opened it."""

    def _present(self) -> int:
        term = self._tenure.term
        if term is None:
            raise LeaseLost("another agent has the lease of the site")
        return term
