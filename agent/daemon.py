"""The process put together: configuration in, parts made, started, watched, stopped.

A bad configuration stops the start (DocumentError), and so do bad mappings when no good set is kept. An HIS that cannot
be reached does not: its calls are answered with UNAVAILABLE and it is found again by itself. A part that dies ends the
process, for a restart.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from his160.v1 import agent_pb2

from agent.border_server import BorderServer
from agent.config import Settings
from agent.event_feed import OutboxFeed, count
from agent.figures import Figures
from agent.handlers.agent_service import get_info, get_status
from agent.handlers.event_service import ack_events, read_events
from agent.housekeeping import Housekeeping
from agent.jobs import Job, Jobs
from agent.link.event_stream import RelaySink
from agent.links import make_links
from agent.mapping_drift import DriftWatch
from agent.mapping_origin import MappingOrigin
from agent.mapping_shelf import MappingShelf, shelf_folder
from agent.probes import (
    delivery_state,
    link_states,
    operation_states,
    source_figures,
    source_states,
    watcher_states,
)
from agent.registry import HandlerRegistry, Limits, build_registry
from agent.reload import Reloader, ReloadSettings, Started, start_mappings
from agent.status import StatusBoard
from agent.supervisor import Supervisor
from agent.switches import Switches, switch_file
from agent.version import VERSION
from agent.watchers import Watchers
from his_db.access import HisAccess
from his_db.canary import Canary
from his_db.errors import HisError
from his_db.generation import Generation, compile_generation
from his_db.guard import GuardedHis
from his_db.mapping.load import load_mapping_set
from his_db.source import Source
from his_db.workbench.revisions import Revisions
from sync import registry as sync_registry
from sync.clock import Clock, utc_now
from sync.command import CommandExecutor
from sync.delivery import Delivery
from sync.outbox import Outbox
from sync.sink import Sink
from sync.store import Store, open_store
from sync.watcher import Watcher

_LOG: Final = logging.getLogger(__name__)
_PING_EVERY: Final = timedelta(seconds=15)
_PING_LIMIT: Final = 10.0
_LAST_BATCH: Final = timedelta(seconds=3)
_HEALTH_EVERY: Final = timedelta(seconds=2)
_SETTLE_MARGIN: Final = timedelta(seconds=2)
_CAPTURE: Final = "snapshot_diff"


@dataclass(frozen=True, slots=True)
class Ready:
    """What the process is once it serves. ``port`` is 0 without a server; ``relays`` are the addresses dialled."""

    site: str
    instance: str
    version: str
    port: int
    relays: tuple[str, ...]


def load_generation(settings: Settings, folder: Path | None = None) -> Generation:
    """The mappings in ``folder`` (default: the configuration's), compiled. Raises DocumentError with every problem."""
    place = settings.mapping.folder if folder is None else folder
    return compile_generation(load_mapping_set(place, sources=settings.engines, timezone=settings.site.timezone))


class Daemon:
    """One agent. ``start``, ``watch`` until it returns, ``stop``; make it in the event loop."""

    def __init__(self, settings: Settings, *, clock: Clock = utc_now) -> None:
        """Make every part; nothing connects, listens or dials yet. Raises DocumentError and StoreError."""
        self._settings = settings
        self._clock = clock
        self.figures = Figures()
        self.board = StatusBoard(settings.site.code, settings.site.instance, figures=self.figures, clock=clock)
        shelf = MappingShelf(shelf_folder(settings.state.path))
        mapping = settings.mapping
        revisions = Revisions(settings.state.path.parent)
        self._origin = MappingOrigin(mapping.folder, revisions, use=mapping.use)
        started = start_mappings(self._origin, self._compiled, shelf, last_good=mapping.start_with_last_good)
        self._store: Store = open_store(_made(settings), clock)
        self._sources = {
            name: Source(source.settings, source.lanes, load=source.load) for name, source in settings.sources.items()
        }
        self._switches = Switches(switch_file(settings.state.path), settings.off)
        self._his = GuardedHis(HisAccess(self._sources, started.generation), switched_off=self._switches.note)
        self._outbox = Outbox(self._store, clock)
        self._executor = CommandExecutor(
            self._his,
            self._store,
            clock=clock,
            revision=self._revision,
            settle=_settle(settings),
            zone=ZoneInfo(settings.site.timezone),
        )
        self._stopping = asyncio.Event()
        self.registry = self._registry()
        self._server = BorderServer(settings.server, self.registry) if settings.server.enabled else None
        self._links = make_links(settings, self.registry, lambda: self._his.generation)
        self._sink = self._make_sink()
        self._delivery = Delivery(self._outbox, self._sink, clock=clock) if self._sink is not None else None
        self._supervisor = Supervisor()
        self._watchers = Watchers(self._make_watcher, self._supervisor)
        self._reloader = self._make_reloader(started, shelf)
        self._drift = self._make_drift(shelf)
        housekeeping = Housekeeping(settings, self._executor, self._store, clock, self.figures)
        self._jobs = Jobs([*housekeeping.jobs(), *self._own_jobs()], board=self.board, figures=self.figures)
        self._describe(housekeeping)

    async def start(self) -> Ready:
        """Recover open commands, then let calls in. Raises OSError when the server's address cannot be had."""
        await self._executor.recover()
        await self._follow_watches()
        if self._delivery is not None:
            if isinstance(self._sink, RelaySink):
                self._sink.on_connected(self._delivery.wake)
            self._supervisor.start("delivery", self._delivery.run())
        if self._server is not None:
            await self._server.start()
        if self._links.links:
            self._supervisor.start("links", self._links.run())
        if self._settings.mapping.watch != "off" or self._origin.is_published:
            self._supervisor.start("mapping", self._reloader.run())
        self._jobs.start()
        site = self._settings.site
        relays = tuple(link.address for link in self._links.links)
        return Ready(site.code, site.instance, VERSION, self._server.port if self._server else 0, relays)

    async def watch(self, stop: asyncio.Event) -> int:
        """Wait until a stop is asked for (0) or a part has died (1): the exit code."""
        return 1 if await self._supervisor.watch(stop) else 0

    async def stop(self) -> None:
        """Take no more calls, finish those under way within the grace, end every part. Also after a failed start."""
        grace = self._settings.limits.grace
        self.registry.close()
        self._stopping.set()
        self._links.stop()
        server = self._server.stop(grace) if self._server is not None else asyncio.sleep(0)
        _, calls, commands = await asyncio.gather(server, self.registry.drain(grace), self._executor.drain(grace))
        if calls or commands:
            _LOG.warning("stopped with calls under way: %d, commands: %d", calls, commands)
        self._jobs.stop()
        self._watchers.stop()
        if self._delivery is not None:
            self._delivery.stop()
        await self._supervisor.release("mapping", timedelta(0))
        await self._supervisor.stop(_LAST_BATCH)
        if isinstance(self._sink, RelaySink):
            await self._sink.close()
        await asyncio.gather(*(source.close() for source in self._sources.values()))
        await self._store.close()

    def _revision(self) -> str:
        return self._his.generation.revision

    def _registry(self) -> HandlerRegistry:
        site, limits = self._settings.site, self._settings.limits
        feed = OutboxFeed(self._outbox)
        return build_registry(
            self._his,
            self._executor,
            figures=self.figures,
            specials={
                "AgentService.GetInfo": get_info(site.code, site.instance, VERSION, self._his.abilities),
                "AgentService.GetStatus": get_status(self.board),
                "EventService.AckEvents": ack_events(feed),
            },
            special_streams={"EventService.ReadEvents": read_events(feed, self._stopping)},
            limits=Limits(calls=limits.calls, time=limits.time),
        )

    def _make_sink(self) -> Sink | None:
        """Where events go; None when a relay reads them."""
        name = self._settings.delivery.sink
        if name == "pull":
            return None
        if name == "relay":
            return RelaySink(self._links)
        sink: Sink = sync_registry.load(sync_registry.SINKS[name])(self._settings.delivery.folder)
        return sink

    def _make_watcher(self, name: str) -> Watcher:
        capture = sync_registry.load(sync_registry.CAPTURES[_CAPTURE])
        return Watcher(
            capture(self._his, self._store, name, clock=self._clock),
            self._store,
            self._outbox,
            site=self._settings.site.code,
            clock=self._clock,
            interval=self._his.watch(name).poll or self._settings.watch.poll,
            revision=self._revision,
        )

    def _make_reloader(self, started: Started, shelf: MappingShelf) -> Reloader:
        """Also keeps what the agent starts with: only now is it sure that no other agent uses this state."""
        mapping = self._settings.mapping
        shelf.keep(started.key, started.taken, started.generation.revision, self._clock())
        shelf.tidy()
        return Reloader(
            ReloadSettings(self._origin, mapping.watch, mapping.quiet),
            started,
            compiled=self._compiled,
            canary=Canary(self._sources, mapping.canary, clock=self._clock),
            switch=self._switch,
            shelf=shelf,
            figures=self.figures,
            now=self._clock,
        )

    def _make_drift(self, shelf: MappingShelf) -> DriftWatch:
        settings = self._settings
        return DriftWatch(
            self._his,
            {name: source.settings for name, source in settings.sources.items()},
            settings.site.timezone,
            places=lambda revision: (*shelf.kept(), *self._origin.places(revision)),
            locks=self._origin.locks,
            every=settings.mapping.drift,
        )

    def _compiled(self, folder: Path) -> Generation:
        return load_generation(self._settings, folder)

    async def _switch(self, generation: Generation) -> None:
        """Other mappings from here on; calls under way end on theirs."""
        self._his.generation = generation
        await self._follow_watches()

    async def _follow_watches(self) -> None:
        if self._settings.watch.enabled:
            await self._watchers.follow(self._his.watch_names())

    def _own_jobs(self) -> list[Job]:
        second = timedelta(seconds=1)
        return [
            Job("sources", _PING_EVERY, self._ping_sources, first=second / 10),
            Job("health", _HEALTH_EVERY, self._tell_health, first=second),
            Job("switches", second, self._switches.watch),
            *self._drift.jobs(),
        ]

    def _describe(self, housekeeping: Housekeeping) -> None:
        """Tell the status board about the parts."""
        self.board.count_with(lambda: count(self._store))
        self.board.watch(source_states(self._sources))
        self.board.watch(housekeeping.certificates)
        self.board.watch(watcher_states(lambda: self._watchers.all))
        self.board.watch(operation_states(self._his, self._switches))
        self.board.watch(self._reloader.state)
        self.board.watch(self._drift.state)
        for gauge in (source_figures(self._sources), self._his.figures, self._reloader.figures, self._drift.figures):
            self.board.measure(gauge)
        if self._server is not None:
            self.board.report("server", agent_pb2.HEALTH_OK)
        if self._links.links:
            self.board.watch(link_states(self._links))
        if self._delivery is not None:
            self.board.watch(delivery_state(self._delivery))

    async def _ping_sources(self) -> None:
        """Ask each HIS for a sign of life, so that the status is true also when nobody calls."""
        await asyncio.gather(*(self._ping(source) for source in self._sources.values()))

    async def _ping(self, source: Source) -> None:
        before = source.status().ok
        try:
            await source.ping(deadline=time.monotonic() + _PING_LIMIT)
        except HisError as error:
            if before:
                _LOG.warning("the HIS %s does not answer: %s", source.name, error)
        else:
            if not before:
                _LOG.info("the HIS %s answers", source.name)

    async def _tell_health(self) -> None:
        """gRPC health: serving while at least one HIS answers."""
        if self._server is not None:
            await self._server.set_serving(any(source.status().ok for source in self._sources.values()))


def _settle(settings: Settings) -> timedelta:
    """How long a write whose connection broke may still be at work in an HIS: its time-outs there, and a margin."""
    limits = []
    for source in settings.sources.values():
        write = source.lanes.get("write")
        statement = write.statement_timeout if write is not None else None
        limits.append((statement or source.settings.statement_timeout) + source.settings.lock_timeout)
    return max(limits) + _SETTLE_MARGIN


def _made(settings: Settings) -> str:
    """The path of the state store, its folder made."""
    settings.state.path.parent.mkdir(parents=True, exist_ok=True)
    return str(settings.state.path)
