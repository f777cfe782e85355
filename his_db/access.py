"""One canonical operation at a time: the current generation's mapping, in the right lane of its source."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final

from google.protobuf.message import Message

from his_db.compiled_report import CompiledReport, ReportReading, ReportSink
from his_db.compiled_watch import CompiledWatch, FeedLook, Picture
from his_db.engine import Session
from his_db.errors import AnswerTooLarge, HisUnavailable, OperationNotMapped
from his_db.feed import Position
from his_db.generation import CompiledOperation, Generation
from his_db.lane import Lane
from his_db.source import Source

MAX_BYTES: Final = 4 * 1024 * 1024  # design 2-contract: an agent never returns more than this in one message


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a watch sees: key text and raw row of each row, when it was read (aware), rows left out without a key."""

    rows: list[tuple[str, tuple[Any, ...]]]
    now: datetime
    refused: int = 0


class HisAccess:
    """The HIS of one site. Every error is one of `his_db.errors`. Deadlines are instants of `time.monotonic`.

    `clock` gives aware datetimes; its zone does not matter, for mappings use the zone of their site.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        generation: Generation,
        *,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self._sources = sources
        self._generation = generation
        self._clock = clock or _now
        self._pictures: dict[str, tuple[CompiledWatch, Picture | None]] = {}

    @property
    def generation(self) -> Generation:
        """The mappings in use. Setting it switches at once; calls that run keep the one they began with."""
        return self._generation

    @generation.setter
    def generation(self, generation: Generation) -> None:
        self._generation = generation

    async def read(
        self,
        operation: str,
        request: Message,
        *,
        deadline: float | None = None,
        begun: Callable[[], None] | None = None,
    ) -> Message:
        """Run a reading operation in the read lane. Raises OperationNotMapped and the other errors of the room.

        `begun` is called from the lane's thread before the first statement.
        """
        compiled = self._compiled(operation, reads=True)
        now = self._clock()

        def work(session: Session) -> Message:
            if begun is not None:
                begun()
            return compiled.run(session, request, now=now)

        if compiled.timeout is not None:
            limit = time.monotonic() + compiled.timeout.total_seconds()
            deadline = limit if deadline is None else min(deadline, limit)
        response = await self._lane(compiled.source, "read").run(work, deadline=deadline)
        if response.ByteSize() > MAX_BYTES:
            raise AnswerTooLarge(f"{operation}: the answer is larger than {MAX_BYTES} bytes")
        return response

    async def write(self, operation: str, request: Message, *, key: str, deadline: float | None = None) -> Message:
        """Run a writing operation in one transaction of the write lane, its answers included.

        `key` seeds `$key`: the same for every retry of the same request_id. `deadline` bounds the waiting only.
        """
        compiled = self._compiled(operation, reads=False)
        now = self._clock()

        def work(session: Session) -> Message:
            return compiled.run(session, request, now=now, key=key)

        return await self._lane(compiled.source, "write").transact(
            work,
            deadline=deadline,
            may_commit_inside=compiled.commits != "caller",
            autocommit=compiled.commits == "procedure",
        )

    def enter(self, operation: str) -> None:
        """Nothing here keeps a command from beginning; see `GuardedHis.enter`."""

    def maps(self, operation: str) -> bool:
        """Whether the current generation has a mapping for the operation."""
        return operation in self._generation.operations

    def watch_names(self) -> tuple[str, ...]:
        """Names of the watches in use."""
        return tuple(self._generation.watches)

    def watch(self, name: str) -> CompiledWatch:
        """A watch by name. Raises KeyError when the generation has none."""
        return self._generation.watches[name]

    async def snapshot(
        self, name: str, *, watch: CompiledWatch | None = None, keys: Sequence[Any] | None = None
    ) -> Snapshot:
        """All rows that a watch sees now, read in the watch lane. Raises KeyError, and the errors of the room.

        `watch`: one of a former generation, to be read once more; None: the one in use. `keys`: native values; the rows
        of these alone. Without them the same list as before when the HIS gives just the same rows.
        """
        watch = watch or self.watch(name)
        now = self._clock()
        of, last = self._pictures.get(name, (watch, None)) if keys is None else (watch, None)
        known = last if of is watch else None
        picture = await self._lane(watch.source, "watch").run(
            lambda session: watch.picture(session, now=now, keys=keys, last=known),
            news=lambda found: found is not known,
        )
        if keys is None:
            self._pictures[name] = (watch, picture)
        return Snapshot(picture.rows, now.astimezone(watch.zone), picture.refused)

    async def begin_feeds(self, name: str, *, watch: CompiledWatch) -> tuple[Position, ...]:
        """Where the feeds of a watch stand now. Raises the errors of the room."""
        return await self._lane(watch.source, "watch").run(watch.begin_feeds)

    async def look(self, name: str, positions: Sequence[Position], *, watch: CompiledWatch) -> FeedLook:
        """What the feeds of a watch have seen since. Raises the errors of the room."""
        return await self._lane(watch.source, "watch").run(
            lambda session: watch.look(session, positions),
            news=lambda look: bool(look.keys or look.everything or look.lost),
        )

    def reports(self) -> Mapping[str, CompiledReport]:
        """The reports in use, by name."""
        return self._generation.reports

    async def read_report(
        self, report: CompiledReport, days: tuple[date, date], sink: ReportSink, *, stopped: Callable[[], bool]
    ) -> ReportReading:
        """Read a report in its lane. Raises the errors of the room, and what the sink raises."""
        now = self._clock()

        def work(session: Session) -> ReportReading:
            sink.begin()  # again, when an idle connection was lost and is replaced
            return report.read(session, days=days, now=now, take=sink.take, stopped=stopped)

        return await self._lane(report.source, "report").run(work)

    def figures(self) -> Mapping[tuple[str, str, str], int]:
        """Code values that no code map of the current generation knows: (mapping, field, masked code) -> how often.

        A file that a reload changed begins anew: the mapping that was mended starts at nothing.
        """
        return self._generation.unknown_codes()

    def _compiled(self, operation: str, *, reads: bool) -> CompiledOperation:
        compiled = self._generation.operation(operation)
        if compiled.is_read != reads:
            raise OperationNotMapped(operation, "")
        return compiled

    def _lane(self, source: str, lane: str) -> Lane:
        found = self._sources.get(source)
        if found is None:
            raise HisUnavailable(f"there is no source {source}")
        return found.lane(lane)


def _now() -> datetime:
    return datetime.now(UTC)
