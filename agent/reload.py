"""Live reload of the mappings: see a change, wait until it is quiet, check, try out, switch; or keep what runs.

    change → quiet for ``[mapping] quiet`` → copy, check and compile (agent.mapping_compiler) → canary → switch → keep

A candidate with any problem never touches the running generation: its problems are in the status, in the log once, and
whole in ``<state>/mappings/refused.txt``. Calls under way end on the generation they began with.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final, Protocol

from his160.v1 import agent_pb2

from agent.config import WatchMode
from agent.figures import Figures
from agent.log import frames
from agent.mapping_origin import MappingOrigin
from agent.mapping_shelf import MappingShelf
from agent.mapping_watch import Fingerprint, FolderWatch
from agent.status import ComponentState
from his_db.canary import CannotTell
from his_db.document.problem import DocumentError, Problem
from his_db.generation import Generation
from sync.clock import Clock, Wait, wait_for

_LOG: Final = logging.getLogger(__name__)
_LOOK_EVERY: Final = timedelta(seconds=5)
_LOOK_PUBLISHED: Final = timedelta(seconds=1)  # one small file, which gives no events
_LONGEST: Final = timedelta(seconds=5)  # somebody who never stops typing is not waited for longer
_LOGGED: Final = 20  # problems of one candidate


class Tryer(Protocol):
    """Tries a candidate out (``his_db.canary.Canary``)."""

    async def try_out(self, candidate: Generation, running: Generation) -> tuple[Problem, ...]:
        """What would not work any more. Raises CannotTell."""


@dataclass(frozen=True, slots=True)
class ReloadSettings:
    """Where mappings come from, how changes are seen, and for how long it must be quiet before they are read."""

    origin: MappingOrigin
    mode: WatchMode
    quiet: timedelta = timedelta(milliseconds=500)


@dataclass(frozen=True, slots=True)
class Started:
    """The mappings that the agent starts with. ``problems``: of the origin, when they are the last good ones."""

    generation: Generation
    taken: Path
    key: Path
    seen: Fingerprint
    problems: tuple[Problem, ...] = ()


Compile = Callable[[Path], Generation]
"""Load, check and compile the set in a folder. Raises DocumentError. Called in a thread."""


def start_mappings(origin: MappingOrigin, compiled: Compile, shelf: MappingShelf, *, last_good: bool) -> Started:
    """The set of ``origin``; when it is broken and ``last_good``, the set that ran last. Raises DocumentError."""
    seen = origin.look()
    try:
        wanted = origin.taken()
        taken = shelf.take(wanted.folder)
        generation = compiled(taken)
        wanted.check(generation.revision)
        return Started(generation, taken, wanted.key, seen)
    except DocumentError as error:
        key = origin.key()
        kept = shelf.last_good(key) if last_good else None
        if kept is None:
            raise
        try:
            return Started(compiled(kept), kept, key, seen, error.problems)
        except DocumentError:
            raise error from None


class Reloader:
    """``run`` never ends by an error. For one event loop; ``clock`` in seconds, ``now`` for the copies."""

    def __init__(
        self,
        settings: ReloadSettings,
        started: Started,
        *,
        compiled: Compile,
        canary: Tryer,
        switch: Callable[[Generation], Awaitable[None]],
        shelf: MappingShelf,
        figures: Figures,
        now: Clock,
        clock: Callable[[], float] = time.monotonic,
        wait: Wait = wait_for,
    ) -> None:
        self._settings = settings
        self._origin = settings.origin
        self._running = started.generation
        self._compiled = compiled
        self._canary = canary
        self._switch = switch
        self._shelf = shelf
        self._figures = figures
        self._now = now
        self._clock = clock
        self._wait = wait
        self._change = asyncio.Event()
        self._seen = started.seen
        self._again = False
        self._first_change = 0.0
        self._problems: tuple[Problem, ...] = ()
        self._waits_for = ""
        self._waiting: tuple[Fingerprint, Generation, Path, Path] | None = None
        self._from_last_good = bool(started.problems)
        self._refuse(started.problems)

    def changed(self) -> None:
        """The folder may have changed. In the event loop."""
        self._change.set()

    @property
    def problems(self) -> Sequence[Problem]:
        """Of the candidate that was refused last; empty when the folder is what runs."""
        return self._problems

    async def run(self) -> None:
        """Watch, until cancelled."""
        loop = asyncio.get_running_loop()

        def changed() -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self.changed)

        mode: WatchMode = "off" if self._origin.is_published else self._settings.mode
        watch = FolderWatch(self._origin.folder, mode, changed)
        try:
            await asyncio.to_thread(watch.start)
            if await asyncio.to_thread(self._has_moved, watch):  # edited before the first event could come
                self._change.set()
            while True:
                await self._step(watch)
        finally:
            await asyncio.to_thread(watch.stop)

    async def _step(self, watch: FolderWatch) -> None:
        await self._wait(self._change, _LOOK_PUBLISHED if self._origin.is_published else _LOOK_EVERY)
        try:
            if not self._change.is_set() and not self._again and not await asyncio.to_thread(self._has_moved, watch):
                return
            await self.settle()
            await self.reload()
        except Exception as error:  # noqa: BLE001 - loop border: a defect in a check must not end the watching
            _LOG.error("reload failed unexpectedly: %s", frames(error))
            self._figures.add("reload_defects")

    async def settle(self) -> None:
        """Wait until nothing has changed for the quiet time, or somebody has been typing for too long."""
        self._first_change = self._clock()
        while True:
            self._change.clear()
            await self._wait(self._change, self._settings.quiet)
            if not self._change.is_set() or self._is_late():
                return

    async def reload(self) -> None:
        """Read the folder once: switch, refuse, or wait for the HIS."""
        self._again = False
        self._change.clear()
        candidate, taken, key = await asyncio.to_thread(self._load)
        if self._change.is_set() and not self._is_late():
            self._figures.add("reloads_overtaken")
            return  # it may be half of two sets; the next round reads it whole
        if isinstance(candidate, DocumentError):
            self._refuse(candidate.problems)
            return
        if candidate.revision == self._running.revision:
            self._refuse(())
            return
        try:
            problems = await self._canary.try_out(candidate, self._running)
        except CannotTell as error:
            self._waits_for, self._again = str(error), True
            self._waiting = (self._seen, candidate, taken, key)
            return
        if problems:
            self._refuse(problems)
            return
        await self._switch(candidate)
        _LOG.warning("mappings switched", extra={"from": self._running.revision, "to": candidate.revision})
        self._running = candidate
        self._figures.add("reloads")
        self._refuse(())
        await asyncio.to_thread(self._shelf.keep, key, taken, candidate.revision, self._now())

    def state(self) -> tuple[ComponentState, ...]:
        """``mapping`` for the status board: where the first problem is, not what it says; which revisions there are."""
        found = self._problems
        trouble = []
        if found:
            what = "started with the last good mappings; " if self._from_last_good else ""
            count = f"{len(found)} problem{'s' if len(found) > 1 else ''}"
            trouble.append(f"{what}candidate refused: {count}, first {found[0].place} {found[0].code}")
        elif self._waits_for:
            trouble.append(f"candidate waits: {self._waits_for}")
        elif self._origin.is_published and not self._origin.published_revision:
            trouble.append("nothing is published yet, the folder as it was at the start runs")
        health = agent_pb2.HEALTH_DEGRADED if trouble else agent_pb2.HEALTH_OK
        return (ComponentState("mapping", health, "; ".join([*trouble, self._revisions()])),)

    def _revisions(self) -> str:
        """The running revision, and those of the folder and of the last publication."""
        others = (("folder", self._origin.folder_revision), ("published", self._origin.published_revision))
        return ", ".join([f"running {self._running.revision}", *(f"{name} {it or '-'}" for name, it in others)])

    def figures(self) -> Mapping[str, float]:
        """``mapping_problems``: of the refused candidate, now."""
        return {"mapping_problems": len(self._problems)}

    def _load(self) -> tuple[Generation | DocumentError, Path, Path]:
        self._seen = self._origin.look()
        waiting, self._waiting = self._waiting, None
        if waiting is not None and waiting[0] == self._seen:
            return waiting[1:]  # only the HIS was missing
        try:
            wanted = self._origin.taken()
        except DocumentError as error:
            return error, self._origin.folder, self._origin.folder
        taken = self._shelf.take(wanted.folder)
        try:
            generation = self._compiled(taken)
            wanted.check(generation.revision)
        except DocumentError as error:
            self._again = taken == wanted.folder  # no copy could be made: locked by an editor, perhaps
            return error, taken, wanted.key
        return generation, taken, wanted.key

    def _has_moved(self, watch: FolderWatch) -> bool:
        """Whether what should run differs from what was read last, events or not. Blocks."""
        is_other = self._origin.look() != self._seen
        return is_other or (not self._origin.is_published and watch.renew())

    def _is_late(self) -> bool:
        return self._clock() - self._first_change >= _LONGEST.total_seconds()

    def _refuse(self, problems: Sequence[Problem]) -> None:
        """Note what is wrong with the folder; nothing: it is what runs."""
        self._waits_for = ""
        if tuple(problems) == self._problems:
            return
        self._problems = tuple(problems)
        self._from_last_good = self._from_last_good and bool(problems)
        self._shelf.tell_refused(self._problems, self._now())
        if not problems:
            _LOG.info("the mapping folder is what runs")
            return
        self._figures.add("reloads_refused")
        _LOG.error("mappings refused, %d problems; the running ones stay", len(problems))
        for problem in problems[:_LOGGED]:
            _LOG.error("%s", problem.render())
