"""The periodic work itself: open commands, old rows, certificates. When is said here, how in ``agent.jobs``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from his160.v1 import agent_pb2

from agent.certificate import CertificateError, read_expiry
from agent.config import Settings
from agent.figures import Figures
from agent.jobs import Job
from agent.status import ComponentState
from sync.clock import Clock
from sync.store import PRUNED_AT_ONCE, Store, Transaction

_WARN_BEFORE: Final = timedelta(days=30)
_PRUNE_EVERY: Final = timedelta(hours=1)
_CHECK_EVERY: Final = timedelta(hours=1)
_SECOND: Final = timedelta(seconds=1)
# A refund may come, and an insurance settlement be undone, long after the command: a year, and its closing.
_KEEP_MONEY: Final = timedelta(days=400)


class Sweeper(Protocol):
    """Probes commands whose outcome is not known (``sync.command.CommandExecutor``)."""

    async def sweep(self) -> object: ...


class Housekeeping:
    """The jobs of one agent, and what the certificates of its files look like."""

    def __init__(self, settings: Settings, sweeper: Sweeper, store: Store, clock: Clock, figures: Figures) -> None:
        self._settings = settings
        self._sweeper = sweeper
        self._store = store
        self._clock = clock
        self._figures = figures
        self._certificates: tuple[ComponentState, ...] = ()

    def jobs(self) -> list[Job]:
        """Those of this agent."""
        return [Job("certificates", _CHECK_EVERY, self.check_certificates, first=_SECOND)]

    def site_jobs(self) -> list[Job]:
        """Those that one agent of the site does for all."""
        return [
            Job("sweep", self._settings.state.sweep, self.sweep),
            Job("prune", _PRUNE_EVERY, self.prune, first=timedelta(minutes=1)),
        ]

    def certificates(self) -> tuple[ComponentState, ...]:
        """The certificates as last looked at, for the status board."""
        return self._certificates

    async def sweep(self) -> None:
        """Probe open commands. Raises StoreError."""
        await self._sweeper.sweep()

    async def prune(self) -> None:
        """Delete finished rows older than ``[state] keep``, never open commands or waiting events; StoreError."""
        now = self._clock()
        before, money_before = now - self._settings.state.keep, now - max(_KEEP_MONEY, self._settings.state.keep)

        def unit(work: Transaction) -> int:
            money = work.settlements.prune(money_before) + work.refunds.prune(money_before)
            money += work.trades.prune(before)
            money += work.payment_notices.prune(before)
            kept = work.events.prune(before) + work.commands.prune(before) + work.rows.prune(before)
            return kept + work.notices.prune(before) + money

        pruned = PRUNED_AT_ONCE
        while pruned >= PRUNED_AT_ONCE:  # after a long rest there is much: in pieces, and commands go between them
            pruned = await self._store.write(unit)
            self._figures.add("pruned", pruned)

    async def check_certificates(self) -> None:
        """Look at the expiry of every certificate in use. An unreadable one is a state, not an error."""
        now = self._clock()
        self._certificates = tuple(_state(name, path, now) for name, path in self._paths())

    def _paths(self) -> Iterator[tuple[str, Path]]:
        server, relay = self._settings.server, self._settings.relay
        if server.enabled and server.certificate is not None:
            yield "certificate:server", server.certificate
        desk = self._settings.desk.place
        if desk is not None and desk.certificate is not None:
            yield "certificate:desk", desk.certificate
        notify = self._settings.payment_notify
        if notify is not None and notify.certificate is not None:
            yield "certificate:payment_notify", notify.certificate
        if relay.enabled and relay.certificate is not None:
            yield "certificate:relay", relay.certificate


def _state(name: str, path: Path, now: datetime) -> ComponentState:
    try:
        left = read_expiry(path) - now
    except (OSError, CertificateError) as error:
        return ComponentState(name, agent_pb2.HEALTH_DOWN, f"cannot be read: {type(error).__name__}")
    if left <= timedelta(0):
        return ComponentState(name, agent_pb2.HEALTH_DOWN, "has expired")
    if left <= _WARN_BEFORE:
        return ComponentState(name, agent_pb2.HEALTH_DEGRADED, f"expires in {left.days} days")
    return ComponentState(name, agent_pb2.HEALTH_OK, "")
