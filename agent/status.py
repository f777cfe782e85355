"""How the agent is: one snapshot, behind GetStatus, gRPC health and the command line."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from his160.v1 import agent_pb2

from agent.figures import Figures
from agent.memory import resident_bytes
from sync.money_book import RefundProgress
from sync.store import StoreError

Health: TypeAlias = agent_pb2.Health.ValueType
Clock = Callable[[], datetime]
_NOT_BACK = (RefundProgress.PROCESSING, RefundProgress.ABNORMAL)


@dataclass(frozen=True, slots=True)
class ComponentState:
    """How one part is. ``detail`` is English, without personal data; ``since`` None: since the board saw the change."""

    name: str
    health: Health
    detail: str = ""
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """Figures of the state store."""

    outbox_pending: int = 0
    outbox_dead: int = 0
    unknown_outcomes: int = 0
    refunds: Mapping[str, int] = field(default_factory=dict)
    """Refunds that are not back yet, by state."""
    trades_unconfirmed: int = 0

    def figures(self) -> dict[str, float]:
        """Those that have no place of their own in the snapshot; a state without a refund is 0, not absent."""
        found = {f"refunds:{state.value}": float(self.refunds.get(state.value, 0)) for state in _NOT_BACK}
        return {**found, "trades_unconfirmed": float(self.trades_unconfirmed)}


Probe = Callable[[], Iterable[ComponentState]]
"""States of some parts now; must not block, wait or raise."""


Gauge = Callable[[], Mapping[str, float]]
"""Figures now, by name; must not block, wait or raise."""


class StatusBoard:
    """Collects the parts. Parts that tell by themselves use ``report``; parts that are asked are added by ``watch``."""

    def __init__(self, site: str, instance: str, *, figures: Figures, clock: Clock) -> None:
        self._site = site
        self._instance = instance
        self._figures = figures
        self._clock = clock
        self._started = clock()
        self._reported: dict[str, ComponentState] = {}
        self._seen: dict[str, tuple[Health, datetime]] = {}
        self._probes: list[Probe] = []
        self._gauges: list[Gauge] = []
        self._counts: Callable[[], Awaitable[Counts]] | None = None

    def report(self, name: str, health: Health, detail: str = "") -> None:
        """Say how a part is from now on."""
        self._reported[name] = ComponentState(name, health, detail)

    def watch(self, probe: Probe) -> None:
        """Ask ``probe`` at every snapshot."""
        self._probes.append(probe)

    def measure(self, gauge: Gauge) -> None:
        """Ask ``gauge`` at every snapshot, for figures that a part keeps itself."""
        self._gauges.append(gauge)

    def figures(self) -> dict[str, float]:
        """All figures now, by name."""
        found = dict(self._figures.snapshot())
        for gauge in self._gauges:
            found.update(gauge())
        return found

    def count_with(self, counts: Callable[[], Awaitable[Counts]]) -> None:
        """Take the figures of the state store from ``counts``, which may fail."""
        self._counts = counts

    def components(self) -> list[agent_pb2.Component]:
        """The parts now, ordered by name."""
        states = dict(self._reported)
        for probe in self._probes:
            states.update((state.name, state) for state in probe())
        return [self._component(states[name]) for name in sorted(states)]

    def health(self) -> Health:
        """Worst of the parts now; a part not known yet is not worse than one that works."""
        return worst(component.health for component in self.components())

    async def snapshot(self) -> agent_pb2.GetStatusResponse:
        """Everything, now. Never raises: a store that does not answer is a part that is down."""
        counts = await self._counted()
        components = self.components()
        answer = agent_pb2.GetStatusResponse(
            site=self._site,
            instance=self._instance,
            health=worst(component.health for component in components),
            components=components,
            outbox_pending=counts.outbox_pending,
            outbox_dead=counts.outbox_dead,
            unknown_outcomes=counts.unknown_outcomes,
            figures=self.figures() | counts.figures(),
            resident_bytes=resident_bytes(),
        )
        answer.start_time.FromDatetime(self._started)
        return answer

    async def _counted(self) -> Counts:
        if self._counts is None:
            return Counts()
        try:
            counts = await self._counts()
        except StoreError as error:
            self.report("store", agent_pb2.HEALTH_DOWN, str(error))
            return Counts()
        self.report("store", agent_pb2.HEALTH_OK)
        return counts

    def _component(self, state: ComponentState) -> agent_pb2.Component:
        before = self._seen.get(state.name)
        if state.since is not None:
            since = state.since
        elif before is not None and before[0] == state.health:
            since = before[1]
        else:
            since = self._clock()
        self._seen[state.name] = (state.health, since)
        component = agent_pb2.Component(name=state.name, health=state.health, detail=state.detail)
        component.since_time.FromDatetime(since)
        return component


def worst(healths: Iterable[Health]) -> Health:
    """The worst of several; OK when nothing is known to be worse."""
    return max(healths, default=agent_pb2.HEALTH_OK) or agent_pb2.HEALTH_OK
