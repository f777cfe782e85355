"""`[segments]`: one session row (起止 + 间隔) becomes several slots, with numbers and free counts; three slot models.

Rows of one session may repeat, one for each booking (`taken`) or each group of bookings (`taken_count`): that is the
derived model. `used` is the counter model: numbers fill the segments in order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.type import timeofday_pb2
from his160.v1 import common_pb2

from his_db.errors import MappingMismatch
from his_db.mapping.convert_in import Unconvertible, time_converter, whole
from his_db.mapping.model import SegmentsSpec
from his_db.mapping.rows import column_places

_MOST: Final = 1_440  # one a minute
FIELDS: Final = ("begin_time", "end_time", "free_count", "queue_no", "state")
"""Fields of a Slot that the segments fill."""

Row = Sequence[Any]


@dataclass(slots=True)
class _Session:
    """One session: what its fields say, its clock in minutes of the day, and what is taken."""

    values: dict[str, Any]
    begin: int
    end: int
    minutes: int | None
    count: int | None
    each: int | None
    total: int | None
    used: int
    taken: list[tuple[int, int]]

    def edges(self) -> list[int]:
        """Begin of each segment, and the end of the last one."""
        length = self.end - self.begin
        if self.count is not None:
            return [self.begin + length * at // self.count for at in range(self.count + 1)]
        assert self.minutes is not None
        return [*range(self.begin, self.end, self.minutes), self.end]

    def capacities(self, count: int) -> list[int]:
        """Patients of each segment. A total is spread evenly; the first segments get one more."""
        if self.total is not None:
            return [self.total // count + (at < self.total % count) for at in range(count)]
        return [1 if self.each is None else self.each] * count


class SegmentPlan:
    """`[segments]`, compiled. Immutable."""

    __slots__ = ("_clock", "_label", "_spec")

    def __init__(self, spec: SegmentsSpec, label: str) -> None:
        self._spec = spec
        self._label = label
        self._clock = time_converter(spec.formats)

    def expand(
        self, columns: tuple[str, ...], rows: Sequence[Row], build: Callable[[Row], dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Keyword arguments of every Slot. Raises MappingMismatch for times and counts that make no sense."""
        places = column_places(columns, self._spec.columns(), self._label)
        sessions: dict[str, _Session] = {}
        for row in rows:
            values = build(row)
            session = sessions.get(values["slot_id"])
            if session is None:
                session = sessions[values["slot_id"]] = self._session(values, row, places)
            self._take(session, row, places)
        return [slot for session in sessions.values() for slot in self._slots(session)]

    def _session(self, values: dict[str, Any], row: Row, places: Mapping[str, int]) -> _Session:
        spec = self._spec
        found = _Session(
            values=values,
            begin=self._minute(spec.begin, row, places),
            end=self._minute(spec.end, row, places),
            minutes=self._number(spec.minutes, row, places),
            count=self._number(spec.count, row, places),
            each=self._number(spec.each, row, places),
            total=self._number(spec.total, row, places),
            used=self._number(spec.used, row, places) or 0 if spec.used else 0,
            taken=[],
        )
        if found.begin >= found.end:
            raise MappingMismatch(f"{self._label}: segments: a session ends before it begins")
        if not 0 < (found.minutes or found.count or 0) <= _MOST or found.end - found.begin < (found.count or 0):
            raise MappingMismatch(f"{self._label}: segments: no usable length or number of segments")
        if min(found.each or 0, found.total or 0) < 0:
            raise MappingMismatch(f"{self._label}: segments: a negative number of patients")
        return found

    def _take(self, session: _Session, row: Row, places: Mapping[str, int]) -> None:
        spec = self._spec
        if not spec.taken or row[places[spec.taken.casefold()]] in (None, ""):
            return
        count = self._number(spec.taken_count, row, places) if spec.taken_count else 1
        session.taken.append((self._minute(spec.taken, row, places), count or 0))

    def _slots(self, session: _Session) -> list[dict[str, Any]]:
        edges = session.edges()
        capacities = session.capacities(len(edges) - 1)
        stopped = session.values.get("state", common_pb2.SLOT_STATE_FREE) != common_pb2.SLOT_STATE_FREE
        found = []
        first, left = 1, session.used
        for at, capacity in enumerate(capacities):
            begin, end = edges[at], edges[at + 1]
            taken = sum(count for minute, count in session.taken if begin <= minute < end) + min(left, capacity)
            left -= min(left, capacity)
            free = 0 if stopped else max(0, capacity - taken)
            state = common_pb2.SLOT_STATE_FREE if free else common_pb2.SLOT_STATE_TAKEN
            found.append(
                {
                    **session.values,
                    "slot_id": f"{session.values['slot_id']}#{begin // 60:02}{begin % 60:02}",
                    "begin_time": timeofday_pb2.TimeOfDay(hours=begin // 60, minutes=begin % 60),
                    "end_time": timeofday_pb2.TimeOfDay(hours=end // 60, minutes=end % 60),
                    "free_count": free,
                    "queue_no": first + taken if free else 0,  # the number that the next patient gets
                    "state": session.values["state"] if stopped else state,
                }
            )
            first += capacity
        return found

    def _minute(self, column: str, row: Row, places: Mapping[str, int]) -> int:
        """A time of day in minutes; seconds do not count. Error texts never hold the value."""
        value = row[places[column.casefold()]]
        try:
            if value is None or value == "":
                raise Unconvertible("is empty")
            clock = self._clock(value)
        except (ValueError, ArithmeticError, TypeError) as error:
            raise self._bad(column, error) from None
        return int(clock.hours * 60 + clock.minutes)

    def _number(self, source: str | int | None, row: Row, places: Mapping[str, int]) -> int | None:
        """A fixed number, or that of a column; NULL is 0, None is "not said"."""
        if source is None or isinstance(source, int):
            return source
        value = row[places[source.casefold()]]
        try:
            return 0 if value is None else whole(value)
        except (ValueError, ArithmeticError, TypeError) as error:
            raise self._bad(source, error) from None

    def _bad(self, column: str, error: Exception) -> MappingMismatch:
        why = str(error) if isinstance(error, Unconvertible) else "cannot be converted"
        return MappingMismatch(f"{self._label}: segments: column {column}: the value {why}")
