"""Drift while the agent runs: the live catalogue against ``mappings.lock``, every ``[mapping] drift``.

Operations that a breaking change concerns are degraded, no others, until the catalogue or the lock is right again. What
cannot be compared (an HIS that does not answer, a damaged lock) changes nothing: the last findings stay.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, Final, TypeVar

from his160.v1 import agent_pb2

from agent.jobs import Job
from agent.status import ComponentState
from his_db.contract import mappable_names
from his_db.document.problem import DocumentError
from his_db.engine import SourceSettings
from his_db.guard import GuardedHis
from his_db.mapping.load import MappingSet
from his_db.workbench.drift import LOCK, Change, LockUnreadable, compare, lock_of, read_lock
from his_db.workbench.site import Site, SourceFailed

_LOG: Final = logging.getLogger(__name__)
_LOOK_EVERY: Final = timedelta(seconds=5)  # whether the mappings or the lock are others: no question to the HIS

_T = TypeVar("_T")
_A = TypeVar("_A")
_Places = Callable[[str], Iterable[Path]]


class _NotCompared(Exception):
    """Why it cannot be said; English, without values."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was compared last: another one is compared at once."""

    revision: str
    locks: tuple[tuple[int, int, int] | None, ...]


class DriftWatch:
    """``places``: folders that may hold a revision; ``locks``: where its lock may be. For one event loop."""

    def __init__(
        self,
        his: GuardedHis,
        sources: Mapping[str, SourceSettings],
        timezone: str,
        *,
        places: _Places,
        locks: _Places,
        every: timedelta,
        clock: Callable[[], float] = time.monotonic,
        drops: tuple[str, ...] = (),
    ) -> None:
        self._his = his
        self._sources = sources
        self._timezone = timezone
        self._drops = drops
        self._places = places
        self._locks = locks
        self._every = every
        self._clock = clock
        self._seen: _Seen | None = None
        self._due = 0.0
        self._changes: tuple[Change, ...] | None = None
        self._trouble = ""

    def jobs(self) -> list[Job]:
        """None when drift is switched off."""
        if not self._every:
            return []
        return [Job("drift", min(self._every, _LOOK_EVERY), self.look, first=timedelta(seconds=1))]

    async def look(self) -> None:
        """Compare when it is time, or when the mappings or the lock are others than before."""
        revision = self._his.generation.revision
        seen = await asyncio.to_thread(self._look, revision)
        if seen == self._seen and self._clock() < self._due:
            return
        try:
            changes = await _aside(lambda: self._compare(revision))
            trouble = ""
        except _NotCompared as error:
            changes, trouble = self._changes, str(error)
        if self._his.generation.revision != revision:
            return  # switched meanwhile: the next look
        if trouble and trouble != self._trouble:
            _LOG.warning("the HIS is not compared with %s: %s", LOCK, trouble)
        self._seen, self._due = seen, self._clock() + self._every.total_seconds()
        self._changes, self._trouble = changes, trouble
        self._his.drifted(_by_operation(changes or ()))

    def state(self) -> tuple[ComponentState, ...]:
        """``drift``: watches and reports that break, and why nothing is compared. Operations are parts of their own."""
        if self._changes is None and not self._trouble:
            return ()  # no lock
        others = sorted({name for change in self._breaking() for name in change.operations} - set(mappable_names()))
        details = [f"not compared: {self._trouble}"] if self._trouble else []
        details += [f"breaks {', '.join(others)}"] if others else []
        health = agent_pb2.HEALTH_DEGRADED if details else agent_pb2.HEALTH_OK
        return (ComponentState("drift", health, "; ".join(details)),)

    def figures(self) -> Mapping[str, float]:
        """``drift_changes``: everything that is not as locked; ``drift_breaking``: what degrades something."""
        return {"drift_changes": len(self._changes or ()), "drift_breaking": len(self._breaking())}

    def _breaking(self) -> list[Change]:
        return [change for change in self._changes or () if change.breaks]

    def _look(self, revision: str) -> _Seen:
        return _Seen(revision, tuple(_identity(folder / LOCK) for folder in self._locks(revision)))

    def _compare(self, revision: str) -> tuple[Change, ...] | None:
        """None: there is no lock. Raises _NotCompared."""
        lock = self._lock(revision)
        if lock is None:
            return None
        for folder in self._places(revision):
            site = Site(folder, self._sources, self._timezone, drops=self._drops)
            mapping_set = _loaded(site)
            if mapping_set is None or mapping_set.revision != revision:
                continue
            try:
                return compare(lock, lock_of(site, mapping_set, lock))
            except SourceFailed as error:
                raise _NotCompared(f"{error.source}: {error.fault.value}") from error
        raise _NotCompared("the files of the running revision are not at hand")

    def _lock(self, revision: str) -> dict[str, Any] | None:
        """That of this very revision; else the first there is: the archive's, then the folder's."""
        try:
            found = [lock for folder in self._locks(revision) if (lock := read_lock(folder)) is not None]
        except LockUnreadable as error:
            raise _NotCompared(f"{LOCK}: {error}") from error
        exact = [lock for lock in found if lock.get("revision") == revision]
        return next(iter([*reversed(exact), *found]), None)


def _by_operation(changes: Iterable[Change]) -> dict[str, str]:
    found: dict[str, str] = {}
    for change in changes:
        detail = change.detail.partition(" / ")[0]
        for name in change.operations if change.breaks else ():
            if name in mappable_names():
                found.setdefault(name, f"not as in {LOCK}: {change.object} {change.what} {detail}")
    return found


def _loaded(site: Site) -> MappingSet | None:
    try:
        return site.load(is_checked=True)  # it is, if it is the revision that runs; others are left out
    except DocumentError:  # not the running one, or just being replaced
        return None


async def _aside(work: Callable[[], _T]) -> _T:
    """Run in a thread that no stop waits for: a catalogue may take a minute, an HIS that hangs longer."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def run() -> None:
        result: Callable[[], None]
        try:
            found = work()
        except Exception as error:  # noqa: BLE001 - the border of the thread: whoever waits gets it
            result = partial(_settle, done, done.set_exception, error)
        else:
            result = partial(_settle, done, done.set_result, found)
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(result)

    Thread(target=run, name="drift", daemon=True).start()
    return await done


def _settle(done: asyncio.Future[_T], settle: Callable[[_A], None], value: _A) -> None:
    if not done.done():
        settle(value)


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino
