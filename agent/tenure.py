"""What one agent of a site does at a time: watch the HIS, deliver events, the periodic work of all.

The agent of a SQLite store does it always. Of several agents on one PostgreSQL it is the one with the lease; the others
answer calls all the same, and one of them follows within 20 s when that agent dies, hangs or loses the database.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from his160.v1 import agent_pb2

from agent.config import Settings
from agent.jobs import Job
from agent.status import ComponentState
from sync.audit import Audit
from sync.lease import Lease, SoleTenure, Tenure
from sync.store import Store

_LOG: Final = logging.getLogger(__name__)
Act = Callable[[], Awaitable[None]]


def make_tenure(settings: Settings, store: Store, audit: Audit) -> Tenure:
    """The tenure that the store of the configuration needs."""
    if not settings.state.url:
        return SoleTenure(store)
    # Two processes with the same instance name are two holders.
    holder = f"{settings.site.instance}#{os.getpid()}.{secrets.token_hex(4)}"
    return Lease(store, holder=holder, audit=audit, span=settings.state.lease)


class SiteWork:
    """Runs ``begin`` when this agent gets the lease and ``end`` when it has lost it, again and again.

    ``run`` never ends but by ``stop``, or by an error of ``begin`` or ``end``.
    """

    def __init__(self, tenure: Tenure, begin: Act, end: Act) -> None:
        self._tenure = tenure
        self._begin = begin
        self._end = end
        self._stopping = asyncio.Event()
        self.is_here = False
        """Whether the work has begun and not ended."""

    async def start(self) -> None:
        """Begins at once where nobody else can; call it before ``run``."""
        if self._tenure.term is not None:
            await self._begins()

    async def run(self) -> None:
        while await self._until(self._tenure.take()):
            if not self.is_here:
                await self._begins()
            if not await self._until(self._tenure.lost()):
                return  # the parts end with the process
            self.is_here = False
            _LOG.warning("another agent has, or may have, the lease: watchers and delivery end here")
            await self._end()

    def stop(self) -> None:
        """Ends ``run``; the lease is given back by whoever has ended the parts."""
        self._stopping.set()

    def jobs(self, jobs: Iterable[Job]) -> list[Job]:
        """The jobs, doing nothing while the lease is not here."""
        return [replace(job, run=self._guarded(job.run)) for job in jobs]

    def state(self) -> Iterable[ComponentState]:
        """``lease``, where several agents may have it."""
        if isinstance(self._tenure, Lease):
            seen = self._tenure.seen
            other = f"standby: {seen.holder.partition('#')[0]} has term {seen.term}" if seen is not None else "standby"
            detail = f"term {self._tenure.term}" if self.is_here else other
            yield ComponentState("lease", agent_pb2.HEALTH_OK, detail)

    def figures(self) -> Mapping[str, float]:
        """Whether the work is here."""
        return {"lease_held": float(self.is_here)}

    async def _begins(self) -> None:
        self.is_here = True
        await self._begin()

    async def _until(self, waiting: Awaitable[Any]) -> bool:
        """Whether it came to its end before ``stop``."""
        task = asyncio.ensure_future(waiting)
        stop = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
            if self._stopping.is_set():
                return False
            await task
            return True
        finally:
            for each in (task, stop):
                each.cancel()
            await asyncio.gather(task, stop, return_exceptions=True)

    def _guarded(self, run: Act) -> Act:
        async def guarded() -> None:
            if self._tenure.term is not None:
                await run()

        return guarded
