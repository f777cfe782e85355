"""Trying out candidate mappings on the real HIS before they answer anybody: a few reads, a look through each watch.

Only what works with the running mappings and fails with the candidate refuses it: a DBA who mends one of two broken
files must not be stopped by the other. An HIS that does not answer proves nothing: the candidate waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from google.protobuf.message import Message

from his_db import contract
from his_db.access import HisAccess
from his_db.compiled_watch import CompiledWatch
from his_db.document.problem import Place, Problem
from his_db.engine import ProcedurePlan, ProcedureResult, Rows, Session
from his_db.errors import DeadlinePassed, HisBusy, HisError, HisUnavailable, MappingMismatch, Overloaded
from his_db.generation import Generation
from his_db.source import Source

_LIMIT: Final = timedelta(seconds=5)  # for one probe
_ROWS: Final = 20
_NOT_NOW: Final = (HisUnavailable, HisBusy, Overloaded, DeadlinePassed)
_DATES: Final = frozenset({"from_date", "to_date"})


class CannotTell(Exception):
    """The HIS did not answer the canary: neither good nor bad. `str()` is English, without values."""


@dataclass(frozen=True, slots=True)
class _Limited:
    """A session that gives a few rows of every statement, whatever the mapping asks for."""

    inner: Session

    def run(self, sql: str, values: Mapping[str, Any], *, max_rows: int) -> Rows:
        return self.inner.run(sql, values, max_rows=min(max_rows, _ROWS))

    def stream(self, sql: str, values: Mapping[str, Any], *, size: int) -> Iterator[Rows]:
        yield self.inner.run(sql, values, max_rows=min(size, _ROWS))

    def call(self, plan: ProcedurePlan, values: Mapping[str, Any], *, max_rows: int) -> ProcedureResult:
        return self.inner.call(plan, values, max_rows=min(max_rows, _ROWS))

    def begin(self) -> None:
        self.inner.begin()

    def commit(self) -> None:
        self.inner.commit()

    def rollback(self) -> None:
        self.inner.rollback()

    def alive(self) -> bool:
        return self.inner.alive()

    def ping(self) -> bool:
        return self.inner.ping()

    def abort(self) -> None:
        self.inner.abort()

    def close(self) -> None:
        self.inner.close()


class Canary:
    """`operations`: reads to try, by name (see `can_try`); every watch is tried. `clock`: aware datetimes."""

    def __init__(
        self, sources: Mapping[str, Source], operations: Sequence[str], *, clock: Callable[[], datetime]
    ) -> None:
        self._sources = sources
        self._operations = tuple(operations)
        self._clock = clock

    async def try_out(self, candidate: Generation, running: Generation) -> tuple[Problem, ...]:
        """What works now and would not any more; nothing: the candidate is good. Raises CannotTell."""
        problems = []
        for name in self._operations:
            failure = await self._read(name, candidate)
            if failure and not await self._read(name, running):
                problems.append(_problem(name, failure))
        for name, watch in candidate.watches.items():
            failure = await self._look(watch)
            if failure:
                old = running.watches.get(name)
                if old is None or not await self._look(old):
                    problems.append(_problem(f"watch {name}", failure))
        return tuple(problems)

    async def _read(self, name: str, generation: Generation) -> str:
        """Why the read fails; empty when it does not, or is not mapped."""
        compiled = generation.operations.get(name)
        if compiled is None:
            return ""
        request = self._request(name, generation)
        his = HisAccess(self._sources, generation, clock=self._clock)
        try:
            await his.read(name, request, deadline=time.monotonic() + _LIMIT.total_seconds())
        except _NOT_NOW as error:
            raise CannotTell(f"{name}: {error}") from None
        except HisError as error:
            return str(error)
        return ""

    async def _look(self, watch: CompiledWatch) -> str:
        """Why the watch cannot be read, or none of its first rows; empty when it can."""
        if watch.is_file:
            return ""  # files are tried out when they are dropped
        source = self._sources.get(watch.source)
        if source is None:
            return f"there is no source {watch.source}"
        now = self._clock()
        deadline = time.monotonic() + _LIMIT.total_seconds()
        try:
            rows, _ = await source.lane("watch").run(
                lambda session: watch.read(_Limited(session), now=now), deadline=deadline
            )
        except _NOT_NOW as error:
            raise CannotTell(f"watch {watch.name}: {error}") from None
        except HisError as error:
            return str(error)
        failures = [failure for _, row in rows if (failure := _unreadable(watch, row))]
        return failures[0] if rows and len(failures) == len(rows) else ""

    def _request(self, name: str, generation: Generation) -> Message:
        """A first page of one, of today."""
        request = contract.operation(name).request_class()
        today = self._clock().astimezone(generation.operations[name].zone).date()
        fields = request.DESCRIPTOR.fields_by_name
        if "page_size" in fields:
            setattr(request, "page_size", 1)  # noqa: B010 - a field of some requests only
        for field in _DATES & set(fields):
            day = getattr(request, field)
            day.year, day.month, day.day = today.year, today.month, today.day
        return request


def can_try(name: str) -> bool:
    """Whether an operation can serve as canary: a mappable read that needs nothing but dates."""
    if name not in contract.mappable_names():
        return False
    operation = contract.operation(name)
    return operation.is_read and set(contract.required_fields(operation.request)) <= _DATES


def _unreadable(watch: CompiledWatch, row: tuple[Any, ...]) -> str:
    try:
        watch.build(row)
    except MappingMismatch as error:
        return str(error)
    return ""


def _problem(name: str, failure: str) -> Problem:
    return Problem(
        Place(name, 1, 1),
        "H590",
        f"works with the running mappings and fails with the new ones: {failure}",
        f"使用现有映射正常，使用新映射失败：{failure}",
        "correct the mapping; the running one stays in use",
        "请修正映射；在此之前继续使用原有映射",
    )
