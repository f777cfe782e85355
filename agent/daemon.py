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

from agent.abilities import ComposedAbilities, composed
from agent.border_server import BorderServer
from agent.command_rules import saga_rules, settle_times
from agent.config import Settings
from agent.desk_border import DeskBorder
from agent.drops import Drops
from agent.event_feed import OutboxFeed, count
from agent.figures import Figures
from agent.handlers.agent_service import get_info, get_status
from agent.handlers.desk_service import desk_handlers
from agent.handlers.event_service import ack_events, read_events
from agent.housekeeping import Housekeeping
from agent.insurance_check import check_agreement
from agent.jobs import Job, Jobs
from agent.link.event_stream import RelaySink
from agent.links import make_links
from agent.liveness import Liveness
from agent.mapping_compiler import MappingCompiler
from agent.mapping_drift import DriftWatch
from agent.mapping_origin import MappingOrigin
from agent.mapping_shelf import MappingShelf, shelf_folder
from agent.metrics_http import MetricsBorder
from agent.payment_notify import PaymentNotify
from agent.probes import (
    code_states,
    delivery_state,
    link_states,
    operation_states,
    source_figures,
    source_states,
    watcher_figures,
    watcher_states,
)
from agent.registry import HandlerRegistry, Limits, build_registry
from agent.reload import Reloader, ReloadSettings, Started, start_mappings
from agent.report_work import ReportWork
from agent.sinks import make_sink
from agent.state_store import open_state
from agent.status import StatusBoard
from agent.supervisor import Supervisor
from agent.switches import Switches, switch_file
from agent.tenure import SiteWork, make_tenure
from agent.trail import Trail
from agent.version import VERSION
from agent.wakes import Wakes
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
from sync.audit import Audit
from sync.capture import Capture
from sync.clock import Clock, utc_now
from sync.command import CommandExecutor
from sync.composed_reads import ComposedReads
from sync.delivery import Delivery
from sync.desk import Desk
from sync.outbox import Outbox
from sync.payment_notices import PaymentNotices
from sync.store import Store
from sync.watcher import Watcher

_LOG: Final = logging.getLogger(__name__)
_PING_EVERY: Final = timedelta(seconds=15)
_PING_LIMIT: Final = 10.0
_LAST_BATCH: Final = timedelta(seconds=3)
_HEALTH_EVERY: Final = timedelta(seconds=2)
_CAPTURE: Final = "fed"


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
    mappings = load_mapping_set(place, sources=settings.engines, timezone=settings.site.timezone)
    check_agreement(mappings, settings.insurance)
    return compile_generation(mappings)


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
        self._compiled = MappingCompiler(
            settings.engines, settings.site.timezone, agrees=lambda found: check_agreement(found, settings.insurance)
        )
        started = start_mappings(self._origin, self._compiled, shelf, last_good=mapping.start_with_last_good)
        self._compiled.cool()
        self._store: Store = open_state(settings.state, clock, exclusive=True)
        audit = self._audit = Audit(self._store, clock, instance=settings.site.instance)
        self._trail = Trail(audit, settings)
        self._tenure = make_tenure(settings, self._store, audit)
        self._fenced = self._tenure.fenced()
        self._site_work = SiteWork(self._tenure, self._begin_site_work, self._end_site_work)
        self._sources = {
            name: Source(source.settings, source.lanes, load=source.load) for name, source in settings.sources.items()
        }
        self._switches = Switches(switch_file(settings.state.path), settings.off, changed=self._trail.switched)
        self._his = GuardedHis(HisAccess(self._sources, started.generation), switched_off=self._switches.note)
        self._outbox = Outbox(self._store, clock, audit=audit)
        self._rules = saga_rules(settings)
        self._executor = CommandExecutor(
            self._his,
            self._store,
            clock=clock,
            revision=self._revision,
            settle=settle_times(settings, lambda: self._his.generation),
            zone=ZoneInfo(settings.site.timezone),
            audit=audit,
            rules=self._rules,
            appended=self._outbox.appended,
            locks=self._store.locks(),
        )
        self._obeyed: object | None = None
        self._stopping = asyncio.Event()
        self._desk = self._make_desk()
        self._reports = ReportWork(
            settings, self._his, self._store, self._fenced, clock=clock, audit=audit, appended=self._outbox.appended
        )
        self.registry = self._registry()
        self._desk_border = DeskBorder(settings.desk, self.registry, self._desk)
        self._server = BorderServer(settings.server, self.registry) if settings.server.enabled else None
        self._metrics = MetricsBorder(settings.metrics, self.board.snapshot, self.figures)
        self._notify = self._make_notify()
        self._links = make_links(settings, self.registry, self._announced, store=self._store.identity)
        self._sink = make_sink(settings.delivery, self._links)
        self._delivery = (
            Delivery(self._outbox.over(self._fenced), self._sink, clock=clock, delivered=self._trail.provided.delivered)
            if self._sink is not None
            else None
        )
        self._supervisor = Supervisor()
        self._watchers = Watchers(self._make_watcher, self._supervisor)
        self._wakes = Wakes(self._sources, self._watchers.wake_one)
        self._drops = Drops(settings.drops, self._watchers.wake_one)
        self._reloader = self._make_reloader(started, shelf)
        self._drift = self._make_drift(shelf)
        housekeeping = Housekeeping(settings, self._executor, self._fenced, clock, self.figures)
        jobs = [*self._site_work.jobs(housekeeping.site_jobs()), *housekeeping.jobs(), *self._desk_border.jobs()]
        self._jobs = Jobs([*jobs, *self._own_jobs()], board=self.board, figures=self.figures)
        self._describe(housekeeping)

    async def start(self) -> Ready:
        """Recover open commands, then let calls in. Raises OSError when the server's address cannot be had."""
        await self._trail.started(self._revision(), self._switches.names())
        await self._executor.recover()
        if self._delivery is not None and isinstance(self._sink, RelaySink):
            self._sink.on_connected(self._delivery.wake)
        await self._site_work.start()
        self._supervisor.start("site-work", self._site_work.run())
        if self._server is not None:
            await self._server.start()
        await self._desk_border.start()
        await self._metrics.start()
        await self._notify.start()
        if self._notify.is_on:
            self._supervisor.start("payment-notify", self._notify.run())
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

    def liveness(self) -> Liveness:
        """Whether the parts live, for whoever looks after the process."""
        return Liveness(self.board.snapshot, self._supervisor.ended, self._jobs.beat)

    async def stop(self) -> None:
        """Take no more calls, finish those under way within the grace, end every part. Also after a failed start."""
        grace = self._settings.limits.grace
        self.registry.close()
        self._stopping.set()
        self._links.stop()
        server = self._server.stop(grace) if self._server is not None else asyncio.sleep(0)
        _, _, calls, commands = await asyncio.gather(
            server, self._desk_border.stop(grace), self.registry.drain(grace), self._executor.drain(grace)
        )
        await self._notify.stop(grace)
        if calls or commands:
            _LOG.warning("stopped with calls under way: %d, commands: %d", calls, commands)
        await self._metrics.stop(grace)
        self._jobs.stop()
        await self._reports.stop(grace)
        self._site_work.stop()
        self._watchers.stop()
        await self._wakes.follow(())
        await asyncio.to_thread(self._drops.stop)
        if self._delivery is not None:
            self._delivery.stop()
        self._compiled.close()
        await self._supervisor.release("mapping", timedelta(0))
        await self._supervisor.stop(_LAST_BATCH)
        await self._tenure.give_back()
        if self._sink is not None:
            await self._sink.close()
        await asyncio.gather(*(source.close() for source in self._sources.values()))
        await self._trail.stopped(self._revision(), unfinished=calls + commands)
        await self._store.close()

    def _abilities(self) -> ComposedAbilities:
        """What can be called now, less what is switched off or degraded."""
        return composed(self._his.abilities(), self._his.maps, self._rules, switched_off=self._switches.note)

    def _announced(self) -> ComposedAbilities:
        """What the mappings allow, as the relay link announces it."""
        return composed(self._his.generation, self._his.maps, self._rules)

    def _revision(self) -> str:
        return self._his.generation.revision

    def _registry(self) -> HandlerRegistry:
        site, limits = self._settings.site, self._settings.limits
        feed = OutboxFeed(self._outbox)
        return build_registry(
            ComposedReads(self._his, self._store),
            self._executor,
            figures=self.figures,
            specials={
                "AgentService.GetInfo": get_info(site.code, site.instance, VERSION, self._abilities),
                "AgentService.GetStatus": get_status(self.board),
                "EventService.AckEvents": ack_events(feed),
                **desk_handlers(self._desk, self._settings.desk.patience),
                **self._reports.specials(),
            },
            special_streams={
                "EventService.ReadEvents": read_events(feed, self._stopping),
                **self._reports.streams(),
            },
            limits=Limits(calls=limits.calls, time=limits.time),
            answered=self._trail.provided.answered,
        )

    def _make_desk(self) -> Desk:
        return Desk(
            self._his,
            self._store,
            self._outbox,
            site=self._settings.site.code,
            clock=self._clock,
            zone=ZoneInfo(self._settings.site.timezone),
            wake=lambda: self._watchers.wake(),
            trust=self._settings.desk.trust,
        )

    def _make_notify(self) -> PaymentNotify:
        notices = PaymentNotices(self._store, self._clock, self._executor.wake)
        place, opened = self._settings.payment_notify, lambda name: self._his.generation.gateway(name)
        return PaymentNotify(place, opened, notices, self._clock, self.figures)

    def _make_watcher(self, name: str) -> Watcher:
        return Watcher(
            self._make_capture(name),
            self._fenced,
            self._outbox.over(self._fenced),
            site=self._settings.site.code,
            clock=self._clock,
            interval=self._his.watch(name).poll or self._settings.watch.poll,
            revision=self._revision,
            audit=self._audit,
        )

    def _make_capture(self, name: str) -> Capture:
        watch = self._his.watch(name)
        if watch.is_file:
            return self._drops.capture(self._his, self._fenced, name, watch.source, self._clock)
        capture: Capture = sync_registry.load(sync_registry.CAPTURES[_CAPTURE])(
            self._his, self._fenced, name, clock=self._clock
        )
        return capture

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
            drops=tuple(settings.drops),
        )

    async def _switch(self, generation: Generation) -> None:
        """Other mappings from here on; calls under way end on theirs."""
        before, self._his.generation = self._revision(), generation
        self._trail.mapped(before, self._revision())
        await self._follow_watches()

    async def _begin_site_work(self) -> None:
        await self._obey_people()  # before a watch reads anything: a pause holds over restarts
        await self._follow_watches()
        if self._delivery is not None:
            self._delivery.resume()
            self._supervisor.start("delivery", self._delivery.run())

    async def _end_site_work(self) -> None:
        await self._wakes.follow(())
        await self._watchers.follow(())
        await asyncio.to_thread(self._drops.stop)
        if self._delivery is not None:
            self._delivery.stop()
            await self._supervisor.release("delivery", _LAST_BATCH)

    async def _obey_people(self) -> None:
        """Pause, go on, begin anew, as ``his160 watch`` has written it into the store. Raises StoreError."""
        stamp = await self._store.stamp()
        if stamp is not None and stamp == self._obeyed:
            return
        controls = await self._store.read(lambda work: work.watch_controls.all())
        self._obeyed = stamp
        self._trail.watches(self._watchers.obey(controls))

    async def _follow_watches(self) -> None:
        if self._settings.watch.enabled and self._site_work.is_here:
            names = self._his.watch_names()
            await self._watchers.follow(names)
            await self._wakes.follow(self._his.watch(name) for name in names)

    def _own_jobs(self) -> list[Job]:
        second = timedelta(seconds=1)
        return [
            Job("sources", _PING_EVERY, self._ping_sources, first=second / 10),
            Job("health", _HEALTH_EVERY, self._tell_health, first=second),
            Job("switches", second, self._switches.watch),
            *self._trail.jobs(),
            *self._site_work.jobs([Job("watches", second, self._obey_people), *self._trail.site_jobs()]),
            *self._site_work.jobs(self._reports.site_jobs(self._links)),
            *self._drift.jobs(),
        ]

    def _describe(self, housekeeping: Housekeeping) -> None:
        """Tell the status board about the parts."""
        self.board.count_with(lambda: count(self._store))
        self.board.watch(source_states(self._sources))
        self.board.watch(housekeeping.certificates)
        self.board.watch(self._desk_border.state)
        self.board.watch(watcher_states(lambda: self._watchers.all))
        self.board.watch(operation_states(self._his, self._switches))
        self.board.watch(code_states(self._his))
        self.board.watch(self._reloader.state)
        self.board.watch(self._drift.state)
        self.board.watch(self._site_work.state)
        self.board.watch(self._drops.states)
        self.board.watch(self._wakes.states)
        self.board.watch(self._reports.state)
        watched = watcher_figures(lambda: self._watchers.all)
        parts = (self._drops, self._wakes, self._his, self._reloader, self._drift, self._site_work, self._reports)
        for gauge in (source_figures(self._sources), watched, *(part.figures for part in parts)):
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
