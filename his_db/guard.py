"""The load guard: `HisAccess` as the rest of the agent sees it, with what spares the HIS in front.

Order of a read: kill switch, degraded operation, cache, identical read in flight, then the lane (queue limit, breakers,
quiet hours of its source). A write: kill switch, degraded operation, lane. Repetitions that the ledger answers never
come here. Calls keep the generation they began with; `old_calls` counts those that still run on a former one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

from google.protobuf.message import Message

from his_db.access import HisAccess, Snapshot
from his_db.coalesce import Coalescer, Read
from his_db.compiled_report import CompiledReport, ReportReading, ReportSink
from his_db.compiled_watch import CompiledWatch, FeedLook
from his_db.degradation import Degradation
from his_db.errors import HisChanged, HisRefused, OutcomeUnknown, SwitchedOff
from his_db.feed import Position
from his_db.generation import Capability, CompiledOperation, Generation

_AGAIN: Final = timedelta(minutes=1)
_DEGRADED: Final = "医院系统已变更，接口暂不可用，请联系医院信息科"
_OFF: Final = "已由医院暂停"
REPORTS: Final = "ReportService.ReadReport"
"""The operation that a person switches off to stop all reports."""


@dataclass(slots=True, eq=False)
class _Use:
    """Calls that run on one generation: ``with`` counts one."""

    revision: str
    calls: int = 0

    def __enter__(self) -> None:
        self.calls += 1

    def __exit__(self, *_: object) -> None:
        self.calls -= 1


@dataclass(frozen=True, slots=True)
class Abilities:
    """What can be called now: the generation's capabilities, less what is switched off or degraded."""

    revision: str
    found: tuple[Capability, ...]

    def capabilities(self) -> tuple[Capability, ...]:
        return self.found


class GuardedHis:
    """For one event loop. `switched_off` answers None for an operation that may run, else the note for callers."""

    def __init__(
        self,
        his: HisAccess,
        *,
        switched_off: Callable[[str], str | None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._his = his
        self._switched_off = switched_off
        self._coalescer = Coalescer(clock=clock)
        self._degradation = Degradation(clock=clock)
        self._use = _Use(his.generation.revision)
        self._former: list[_Use] = []
        self._refused_off = 0

    @property
    def generation(self) -> Generation:
        """The mappings in use. Setting it switches at once; calls that run keep the one they began with."""
        return self._his.generation

    @generation.setter
    def generation(self, generation: Generation) -> None:
        self._his.generation = generation
        self._former = [use for use in (*self._former, self._use) if use.calls]
        self._use = _Use(generation.revision)
        self._degradation.forget()
        self._coalescer.forget()

    @property
    def old_calls(self) -> int:
        """Calls that still run on former generations."""
        self._former = [use for use in self._former if use.calls]
        return sum(use.calls for use in self._former)

    async def read(self, operation: str, request: Message, *, deadline: float | None = None) -> Message:
        """`HisAccess.read`. The request must not be changed while it runs: others may wait for the same answer."""
        self.enter(operation)
        compiled = self._his.generation.operations.get(operation)
        if compiled is None or not compiled.is_read:
            return await self._his.read(operation, request, deadline=deadline)  # says what is the matter
        self._degradation.enter(compiled)

        async def work(begun: Callable[[], None]) -> Message:
            with self._use, self._watched(compiled):
                return await self._his.read(operation, request, begun=begun)

        return await self._coalescer.share(_read(compiled, request), work, deadline=deadline)

    async def write(self, operation: str, request: Message, *, key: str, deadline: float | None = None) -> Message:
        """`HisAccess.write`."""
        self.enter(operation)
        compiled = self._his.generation.operations.get(operation)
        if compiled is None:
            return await self._his.write(operation, request, key=key, deadline=deadline)
        self._degradation.enter(compiled)
        with self._coalescer.writing(compiled.source), self._use, self._watched(compiled):
            return await self._his.write(operation, request, key=key, deadline=deadline)

    def maps(self, operation: str) -> bool:
        """`HisAccess.maps`."""
        return self._his.maps(operation)

    def watch_names(self) -> tuple[str, ...]:
        """`HisAccess.watch_names`."""
        return self._his.watch_names()

    def watch(self, name: str) -> CompiledWatch:
        """`HisAccess.watch`."""
        return self._his.watch(name)

    async def snapshot(
        self, name: str, *, watch: CompiledWatch | None = None, keys: Sequence[Any] | None = None
    ) -> Snapshot:
        """`HisAccess.snapshot`."""
        with self._use:
            return await self._his.snapshot(name, watch=watch, keys=keys)

    async def begin_feeds(self, name: str, *, watch: CompiledWatch) -> tuple[Position, ...]:
        """`HisAccess.begin_feeds`."""
        with self._use:
            return await self._his.begin_feeds(name, watch=watch)

    async def look(self, name: str, positions: Sequence[Position], *, watch: CompiledWatch) -> FeedLook:
        """`HisAccess.look`."""
        with self._use:
            return await self._his.look(name, positions, watch=watch)

    def reports(self) -> Mapping[str, CompiledReport]:
        """`HisAccess.reports`."""
        return self._his.reports()

    async def read_report(
        self, report: CompiledReport, days: tuple[date, date], sink: ReportSink, *, stopped: Callable[[], bool]
    ) -> ReportReading:
        """`HisAccess.read_report`. Raises SwitchedOff when a person has switched reports off."""
        self.enter(REPORTS)
        with self._use:
            return await self._his.read_report(report, days, sink, stopped=stopped)

    def abilities(self) -> Abilities:
        """What can be called now, with the reason (Chinese) where something cannot."""
        degraded = self._degradation.degraded()
        found = tuple(self._ability(item, degraded) for item in self.generation.capabilities())
        return Abilities(self.generation.revision, found)

    def degraded(self) -> Mapping[str, str]:
        """Operation -> what is the matter, English, without values."""
        return self._degradation.degraded()

    def drifted(self, found: Mapping[str, str]) -> None:
        """Exactly these operations are no longer as `mappings.lock` says, and why (English, without values)."""
        self._degradation.drifted(found)

    def unknown_codes(self) -> Mapping[tuple[str, str, str], int]:
        """`HisAccess.figures`: (mapping, field, masked code) -> how often a call met it."""
        return self._his.figures()

    def figures(self) -> Mapping[str, float]:
        """Counters since the start, by name."""
        return {
            "unknown_codes": sum(self.unknown_codes().values()),
            "reads_coalesced": self._coalescer.coalesced,
            "reads_cached": self._coalescer.cached,
            "refused_switched_off": self._refused_off,
            "refused_degraded": self._degradation.refused,
            "mapping_old_calls": self.old_calls,
        }

    def _ability(self, item: Capability, degraded: Mapping[str, str]) -> Capability:
        if not item.available:
            return item
        note = self._switched_off(item.operation)
        if note is not None:
            return Capability(item.operation, False, f"{_OFF}：{note}" if note else _OFF)
        return Capability(item.operation, False, _DEGRADED) if item.operation in degraded else item

    def enter(self, operation: str) -> None:
        """Raises SwitchedOff when a person has switched the operation off."""
        note = self._switched_off(operation)
        if note is not None:
            self._refused_off += 1
            raise SwitchedOff(f"{operation} is switched off", note=note, retry_after=_AGAIN)

    @contextmanager
    def _watched(self, compiled: CompiledOperation) -> Iterator[None]:
        """Learn from the call how the operation is; what says nothing about it (busy, lost, values) changes nothing."""
        try:
            yield
        except (HisChanged, OutcomeUnknown) as error:
            changed = error.changed if isinstance(error, OutcomeUnknown) else error
            if changed is not None and self.generation.operations.get(compiled.name) is compiled:
                self._degradation.failed(compiled, changed)
            raise
        except HisRefused:
            self._degradation.succeeded(compiled)
            raise
        self._degradation.succeeded(compiled)


def _read(compiled: CompiledOperation, request: Message) -> Read:
    """`loose`: the caller did not ask for realtime where he could have, or the mapping allows a cache."""
    has_choice = "realtime" in compiled.operation.request.fields_by_name
    realtime = has_choice and bool(getattr(request, "realtime"))  # noqa: B009 - not every request has the field
    loose = not realtime and (has_choice or compiled.cache is not None)
    content = request.SerializeToString(deterministic=True)
    return Read(compiled, content, compiled.source, loose, compiled.cache if loose else None, browses=has_choice)
