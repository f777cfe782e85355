"""One generation: a mapping set compiled once, ready to run; the running one stays whole while a new one is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from operator import itemgetter
from typing import Any
from zoneinfo import ZoneInfo

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from his160.v1 import event_pb2

from his_db import contract, registry
from his_db.contract import ContractOperation
from his_db.engine import Session
from his_db.errors import (
    AnswerTooLarge,
    HisChanged,
    HisError,
    HisRefused,
    MappingMismatch,
    OperationNotMapped,
    OutcomeUnknown,
)
from his_db.kind import Call, Flow, Kind, Runner
from his_db.mapping.answer import default_not_found, page_is_keyset, reason_value
from his_db.mapping.binding import Binder, compile_binder, entries_for, wall_clock, window_dates
from his_db.mapping.check_watch import SUBJECT_DESCRIPTORS, SUBJECTS
from his_db.mapping.convert_in import Unconvertible, text
from his_db.mapping.load import MappingSet
from his_db.mapping.model import EventSpec, OperationMapping, WatchMapping
from his_db.mapping.paging import open_page
from his_db.mapping.rows import RowPlan
from his_db.mapping.sql_text import binds
from his_db.mapping.tally import Tally
from his_db.mapping.when import compile_when, parse_when

_MAX_WATCHED: int = 50_000


@dataclass(frozen=True, slots=True)
class Capability:
    """What the site can do with one operation. `note` is Chinese, as the mapping's author wrote it."""

    operation: str
    available: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class CompiledAnswer:
    """A read that follows a write in its transaction: its message becomes field `to`."""

    read: CompiledOperation
    to: str
    fields: tuple[str, ...]
    from_field: str
    from_list: bool

    def add(self, session: Session, call: Call, response: Message) -> None:
        """Ask, and put what was answered into the response. Raises like the read."""
        request = self.read.operation.request_class()
        for name in self.fields:
            value = getattr(call.request, name)
            if value:
                setattr(request, name, value)
        found = getattr(self.read.run(session, request, now=call.now), self.from_field)
        if self.from_list:
            if not found:
                name = self.read.operation.name
                raise HisRefused(reason_value(default_not_found(name)), f"{name}: nothing to answer with")
            found = found[0]
        target = response
        *outer, last = self.to.split(".")
        for name in outer:
            target = getattr(target, name)
        getattr(target, last).CopyFrom(found)


@dataclass(frozen=True, slots=True)
class CompiledOperation:
    """One operation of this site. `commits` is caller, procedure or unknown (docs/mapping.md); reads are caller."""

    operation: ContractOperation
    source: str
    timeout: timedelta | None
    probe: str
    commits: str
    note: str
    lock: timedelta
    zone: ZoneInfo
    is_keyset: bool
    runner: Runner = field(repr=False)
    answers: tuple[CompiledAnswer, ...] = field(default=(), repr=False)
    cache: timedelta | None = None
    """How old an answer may be, of a read that is not `realtime`; None: nothing is kept."""

    @property
    def name(self) -> str:
        return self.operation.name

    @property
    def is_read(self) -> bool:
        return self.operation.is_read

    def run(self, session: Session, request: Message, *, now: datetime, key: str = "") -> Message:
        """The response, by the held session. `now` is aware, or naive on the hospital's wall clock.

        Neither begins nor commits. Raises errors of `his_db.errors`, and the driver's exceptions as they are.
        A procedure that may have committed and whose answer then cannot be read leaves the outcome unknown.
        """
        local = now.replace(microsecond=0) if now.tzinfo is None else wall_clock(now, self.zone)
        page = None
        if self.operation.page_size:
            page = open_page(self.operation, request, is_keyset=self.is_keyset)
        call = Call(request=request, now=local, key=key, lock=self.lock, page=page)
        try:
            response = self.runner.run(session, call)
        except MappingMismatch as error:
            raise self._after_commit(error) from None
        try:
            for answer in self.answers:
                answer.add(session, call, response)
        except HisError as error:  # also a refusal: what is done is done
            raise self._after_commit(error) from None
        return response

    def _after_commit(self, error: HisError) -> HisError:
        """The error itself, or OutcomeUnknown where the HIS may have committed before it."""
        if self.commits == "caller":
            return error
        unknown = OutcomeUnknown(f"the HIS was called and may have committed; then: {error.detail}")
        unknown.changed = error if isinstance(error, HisChanged) else None
        return unknown


@dataclass(frozen=True, slots=True)
class EventRule:
    """What one kind of change of a watched row means. `occurred`: the Timestamp field that says when."""

    kind: event_pb2.EventKind.ValueType
    occurred: str | None
    test: Callable[[Message | None, Message | None], bool] = field(repr=False)

    def matches(self, before: Message | None, after: Message | None) -> bool:
        """Whether the change fits. `before` None: the row is new; `after` None: it is gone (vanish = "event")."""
        return self.test(before, after)


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

    def build(self, row: tuple[Any, ...]) -> Message:
        """The message of a raw row of `read`. Raises MappingMismatch for a value that does not fit."""
        try:
            return self.message_class(**self.plan.builder(self.plan.columns)(row))
        except (ValueError, TypeError) as error:
            raise MappingMismatch(f"{self.name}: a value is no valid text ({type(error).__name__})") from None

    def read(self, session: Session, *, now: datetime) -> tuple[list[tuple[str, tuple[Any, ...]]], int]:
        """Key text and raw row of every row in the window, and how many rows had no usable key (left out)."""
        local = now.replace(microsecond=0) if now.tzinfo is None else wall_clock(now, self.zone)
        window = None if self.window is None else window_dates(local.date(), self.window)
        values = self.binder.values(Call(request=None, now=local, window=window), Flow())
        rows = session.run(self.sql, values, max_rows=_MAX_WATCHED)
        if len(rows.rows) > _MAX_WATCHED:
            raise AnswerTooLarge(f"watch {self.name}: more than {_MAX_WATCHED} rows; make its window smaller")
        pick = _picker(self.plan.positions(rows.columns))
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
        return found, refused

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


def _picker(places: tuple[int, ...]) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    if len(places) == 1:
        at = places[0]
        return lambda row: (row[at],)
    return itemgetter(*places)


def _key_text(value: Any) -> str | None:
    try:
        return None if value is None else text(value)
    except Unconvertible:
        return None


@dataclass(frozen=True, slots=True)
class Generation:
    """Everything that a site can do, ready to run. Immutable: a reload makes a new one."""

    revision: str
    operations: Mapping[str, CompiledOperation]
    watches: Mapping[str, CompiledWatch]
    unsupported: Mapping[str, str]
    tally: Tally = field(default_factory=Tally, compare=False, repr=False)

    def capabilities(self) -> tuple[Capability, ...]:
        """One for every operation of the contract, by name. What the agent answers itself is always available."""
        return tuple(self._capability(name) for name in contract.operation_names())

    def _capability(self, name: str) -> Capability:
        compiled = self.operations.get(name)
        if compiled is not None:
            return Capability(name, True, "")
        return Capability(name, contract.operation(name).is_own, self.unsupported.get(name, ""))

    def operation(self, name: str) -> CompiledOperation:
        """The operation `name`. Raises OperationNotMapped, with the mapping's words when it says `unsupported`."""
        compiled = self.operations.get(name)
        if compiled is None:
            raise OperationNotMapped(name, self.unsupported.get(name, ""))
        return compiled


def compile_generation(mapping_set: MappingSet) -> Generation:
    """A mapping set that was loaded without a problem, compiled."""
    compiled: dict[str, CompiledOperation] = {}
    unsupported: dict[str, str] = {}
    # Reads first: an answer of a write holds the compiled read.
    for name, mapping in sorted(mapping_set.operations.items(), key=lambda item: not item[1].operation.is_read):
        kind: Kind = registry.load(registry.KINDS[mapping.kind])()
        try:
            runner = kind.compile(mapping)
        except OperationNotMapped as error:
            unsupported[name] = error.note
            continue
        compiled[name] = _operation(mapping, runner, compiled)
    watches = {name: _watch(watch) for name, watch in mapping_set.watches.items()}
    return Generation(
        mapping_set.revision, dict(sorted(compiled.items())), watches, unsupported, mapping_set.site.tally
    )


def _operation(mapping: OperationMapping, runner: Runner, reads: Mapping[str, CompiledOperation]) -> CompiledOperation:
    return CompiledOperation(
        operation=mapping.operation,
        source=mapping.source,
        timeout=mapping.timeout,
        probe=mapping.probe,
        commits="caller" if mapping.operation.is_read else mapping.values.get("commits", "caller"),
        note=mapping.note,
        lock=mapping.lock,
        zone=ZoneInfo(mapping.site.timezone),
        is_keyset=page_is_keyset(mapping),
        runner=runner,
        answers=tuple(_answer(mapping, spec.to, reads[spec.read]) for spec in mapping.answers),
        cache=mapping.values.get("cache"),
    )


def _answer(mapping: OperationMapping, to: str, read: CompiledOperation) -> CompiledAnswer:
    own = mapping.operation.request.fields_by_name
    asked = read.operation.request.fields
    shared = tuple(
        field.name
        for field in asked
        if field.message_type is None and field.name in own and own[field.name].type == field.type
    )
    descriptor = mapping.operation.response
    for name in to.split("."):
        inner = descriptor.fields_by_name[name].message_type
        assert inner is not None
        descriptor = inner
    source = next(field for field in read.operation.response.fields if field.message_type is descriptor)
    return CompiledAnswer(read, to, shared, source.name, source.is_repeated)


def _watch(watch: WatchMapping) -> CompiledWatch:
    zone = ZoneInfo(watch.site.timezone)
    message_class = SUBJECTS[watch.subject]
    descriptor = SUBJECT_DESCRIPTORS[watch.subject]
    sql = watch.sql()
    label = f"watch {watch.name}"
    key = next(spec.column for spec in watch.result.fields if spec.to == watch.key)
    return CompiledWatch(
        name=watch.name,
        source=watch.source,
        subject=watch.subject,
        message_class=message_class,
        poll=watch.poll,
        window=watch.window,
        platform_operators=watch.platform_operators,
        vanish=watch.vanish,
        rules=tuple(_rule(event, descriptor, watch.platform_operators) for event in watch.events),
        zone=zone,
        sql=sql,
        binder=compile_binder(
            entries_for(binds(sql, watch.engine), watch.params, in_watch=True),
            request=None,
            codes=watch.site.codes,
            zone=zone,
            label=label,
        ),
        plan=RowPlan(
            descriptor, watch.result.fields, codes=watch.site.codes, zone=zone, label=label, tally=watch.site.tally
        ),
        key_column=key,
    )


def _rule(event: EventSpec, descriptor: Descriptor, operators: frozenset[str]) -> EventRule:
    conditions = parse_when(event.when)
    if conditions is None:
        raise ValueError(f"not a rule: {event.when}")
    kind = event_pb2.EventKind.Value(f"EVENT_KIND_{event.kind}")
    return EventRule(kind, event.occurred or None, compile_when(conditions, descriptor, operators))
