"""A watch, compiled: reading its rows, building their messages, asking its feeds, and its rules."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from operator import itemgetter
from typing import Any, Final, cast
from zoneinfo import ZoneInfo

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from his160.v1 import appointment_pb2, catalog_pb2, common_pb2, event_pb2

from his_db.engine import Rows, Session
from his_db.errors import AnswerTooLarge, MappingMismatch
from his_db.feed import Feed, FeedSpec, Position, PositionLost, SessionRun
from his_db.kind import Call, Flow, wall_clock
from his_db.mapping.binding import Binder, window_dates
from his_db.mapping.convert_in import Unconvertible, text
from his_db.mapping.rows import RowPlan
from his_db.mapping.tally import Tally

# Where each kind of message stands in a list: rows are built by way of it.
_LISTED: Final[Mapping[type[Message], tuple[type[Message], str]]] = {
    common_pb2.Appointment: (appointment_pb2.ListAppointmentsResponse, "appointments"),
    common_pb2.Schedule: (catalog_pb2.ListSchedulesResponse, "schedules"),
}
_MAX_WATCHED: int = 50_000
# What may not stand in a derived table everywhere: a list of its own, an order.
_NOT_INSIDE: Final = re.compile(r"^\s*WITH\b|\bORDER\s+BY\b|\bFOR\s+UPDATE\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class EventRule:
    """What one kind of change of a watched row means. `occurred`: the Timestamp field that says when."""

    kind: event_pb2.EventKind.ValueType
    occurred: str | None
    matches: Callable[[Message | None, Message | None], bool] = field(repr=False)
    """Whether a change fits: before, None for a row that is new; after, None when it is gone (vanish = "event")."""


@dataclass(frozen=True, slots=True)
class FeedLook:
    """What the feeds of a watch have seen: positions from here on, native key values by their text.

    ``lost``: why a position is no good any more; then ``everything`` is true and there are no positions.
    """

    positions: tuple[Position, ...]
    keys: Mapping[str, Any]
    everything: bool = False
    lost: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """What a watch read: key text and raw row of each row, rows without a usable key; and all as the driver gave it."""

    rows: list[tuple[str, tuple[Any, ...]]]
    refused: int
    given: Rows


@dataclass(frozen=True, slots=True)
class CompiledWatch:
    """What the capture reads. Raw rows hold the mapped columns only, in one order, whatever the driver's order is."""

    name: str
    source: str
    subject: str
    message_class: type[Message]
    poll: timedelta | None
    window: tuple[int, int] | None
    platform_operators: frozenset[str]
    vanish: str
    rules: tuple[EventRule, ...]
    zone: ZoneInfo
    sql: str = field(repr=False)
    binder: Binder = field(repr=False)
    plan: RowPlan = field(repr=False)
    key_column: str = ""
    tally: Tally = field(default_factory=Tally, compare=False, repr=False)
    feeds: tuple[tuple[Feed, FeedSpec], ...] = ()
    reconcile: timedelta = timedelta(seconds=30)
    orders: timedelta = timedelta(seconds=10)
    wake: str = ""
    """The signal of the database (``his_db.wake``) at which to look at once; empty: in the rhythm of ``poll`` alone."""

    def build(self, row: tuple[Any, ...]) -> Message:
        """The message of a raw row of `read`. Raises MappingMismatch for a value that does not fit."""
        try:
            return self.message_class(**self.plan.builder(self.plan.columns)(row))
        except (ValueError, TypeError) as error:
            raise MappingMismatch(f"{self.name}: a value is no valid text ({type(error).__name__})") from None

    def build_all(self, rows: Sequence[tuple[Any, ...]]) -> Sequence[Message] | None:
        """The messages of raw rows of `read`, in their order: at once, so a quarter of the time that `build` takes.

        None: one of them is not plainly right, or the mapping has what cannot be done at once; `build` decides then.
        """
        list_class, name = _LISTED[self.message_class]
        into = cast(FieldDescriptor, list_class.DESCRIPTOR.fields_by_name[name])
        encode = self.plan.encoder(into, self.plan.columns)
        if encode is None:
            return None
        try:
            listed = list_class.FromString(encode(rows))
        except (ValueError, ArithmeticError, TypeError, LookupError, DecodeError):
            return None
        found: Sequence[Message] = getattr(listed, name)
        return found

    @property
    def is_file(self) -> bool:
        """Whether its rows come from dropped files: nothing is read in a database."""
        return not self.sql

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that are mapped, in lower case; the key's first."""
        key = self.key_column.casefold()
        return (key, *(name for name in self.plan.columns if name != key))

    def given(self, values: Mapping[str, Any]) -> tuple[str | None, tuple[Any, ...]]:
        """Key text and raw row of a row given by column name (lower case)."""
        return _key_text(values.get(self.key_column.casefold())), tuple(values.get(name) for name in self.plan.columns)

    def key_of(self, row: tuple[Any, ...]) -> Any:
        """The native value of a raw row's key."""
        return row[self.plan.columns.index(self.key_column.casefold())]

    @property
    def reads_keys(self) -> bool:
        """Whether `read` can be asked for some keys alone: its SELECT can stand inside another one."""
        return _NOT_INSIDE.search(self.sql) is None

    def read(
        self, session: Session, *, now: datetime, keys: Sequence[Any] | None = None
    ) -> tuple[list[tuple[str, tuple[Any, ...]]], int]:
        """Key text and raw row of every row in the window, and how many rows had no usable key (left out).

        `keys`: native values; only the rows that have one of them.
        """
        picture = self.picture(session, now=now, keys=keys)
        return picture.rows, picture.refused

    def picture(
        self, session: Session, *, now: datetime, keys: Sequence[Any] | None = None, last: Picture | None = None
    ) -> Picture:
        """What `read` gives; `last` itself when the driver gives just what it gave then, as it does nearly always."""
        local = now.replace(microsecond=0) if now.tzinfo is None else wall_clock(now, self.zone)
        window = None if self.window is None else window_dates(local.date(), self.window)
        values = self.binder.values(Call(request=None, moment=local, window=window), Flow())
        sql = self.sql
        if keys is not None:
            names = [f"his160_key{at}" for at in range(len(keys))]
            binds = ", ".join(f":{name}" for name in names)
            sql = f"SELECT * FROM ({sql}) his160_watch WHERE {self.key_column} IN ({binds})"  # noqa: S608 - our names
            values = {**values, **dict(zip(names, keys, strict=True))}
        rows = session.run(sql, values, max_rows=_MAX_WATCHED)
        if len(rows.rows) > _MAX_WATCHED:
            raise AnswerTooLarge(f"watch {self.name}: more than {_MAX_WATCHED} rows; make its window smaller")
        if last is not None and rows == last.given:
            return last
        pick = _picker(self.plan.positions(rows.columns), len(rows.columns))
        key_at = self.plan.columns.index(self.key_column.casefold())
        found: list[tuple[str, tuple[Any, ...]]] = []
        refused = 0
        for row in rows.rows:
            raw = pick(row)
            key = _key_text(raw[key_at])
            if key is None:
                refused += 1
            else:
                found.append((key, raw))
        return Picture(found, refused, rows)

    def begin_feeds(self, session: Session) -> tuple[Position, ...]:
        """Where each feed stands now. Raises MappingMismatch for one that cannot look from there."""
        run = _runner(session)
        try:
            positions = tuple(feed.begin(run, spec) for feed, spec in self.feeds)
            for (feed, spec), position in zip(self.feeds, positions, strict=True):
                feed.look(run, spec, position)  # what it may not read must come up now, not at the first change
        except PositionLost as lost:
            raise MappingMismatch(f"{self.name}: {lost}") from None
        return positions

    def look(self, session: Session, positions: Sequence[Position]) -> FeedLook:
        """What the feeds have seen since. A position that is lost means: everything."""
        found: dict[str, Any] = {}
        everything = False
        after: list[Position] = []
        for (feed, spec), position in zip(self.feeds, positions, strict=True):
            try:
                seen = feed.look(_runner(session), spec, position)
            except PositionLost as lost:
                return FeedLook((), {}, everything=True, lost=str(lost))
            after.append(seen.position)
            everything = everything or seen.everything
            for key in seen.keys:
                name = _key_text(key)
                everything = everything or name is None
                if name is not None:
                    found[name] = key
        return FeedLook(tuple(after), found, everything=everything)

    def window_contains(self, message: Message, now: datetime) -> bool:
        """Whether the message's visit_date lies in the window at `now`; always true for a watch without a window."""
        if self.window is None:
            return True
        if not message.HasField("visit_date"):
            return False
        local = now if now.tzinfo is None else wall_clock(now, self.zone)
        first, last = window_dates(local.date(), self.window)
        day = message.visit_date  # type: ignore[attr-defined]
        return first <= date(day.year, day.month, day.day) <= last


def _runner(session: Session) -> SessionRun:
    return SessionRun(session, max_rows=_MAX_WATCHED)


def _picker(places: tuple[int, ...], width: int) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """From a row as the driver gives it (a tuple of ``width`` values) to the raw row."""
    if places == tuple(range(width)):
        return (
            tuple  # a SELECT that gives just what is mapped, in that order: the row itself, no copy of all the window
        )
    if len(places) == 1:
        at = places[0]
        return lambda row: (row[at],)
    return itemgetter(*places)


def _key_text(value: Any) -> str | None:
    if type(value) is str:  # as nearly always; see `text`
        return value.strip() or None
    try:
        return None if value is None else text(value)
    except Unconvertible:
        return None
