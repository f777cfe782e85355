"""One generation: a mapping set compiled once, ready to run; the running one stays whole while a new one is made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from his160.v1 import event_pb2

from his_db import contract, registry
from his_db.compiled_report import CompiledReport, compile_report
from his_db.compiled_watch import CompiledWatch, EventRule
from his_db.contract import ContractOperation
from his_db.engine import Session
from his_db.errors import (
    HisChanged,
    HisError,
    HisRefused,
    MappingMismatch,
    OperationNotMapped,
    OutcomeUnknown,
)
from his_db.feed import Feed, FeedSpec
from his_db.gateway import OfGateway, OpenedGateway
from his_db.kind import Call, Kind, Runner
from his_db.mapping.answer import default_not_found, page_is_keyset, reason_value
from his_db.mapping.binding import compile_binder, entries_for
from his_db.mapping.check_feed import feed_of
from his_db.mapping.check_watch import SUBJECT_DESCRIPTORS, SUBJECTS
from his_db.mapping.load import MappingSet
from his_db.mapping.model import EventSpec, OperationMapping, WatchMapping
from his_db.mapping.paging import open_page
from his_db.mapping.rows import RowPlan
from his_db.mapping.sql_text import binds
from his_db.mapping.tally import Tally
from his_db.mapping.when import compile_when, parse_when


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
        found = getattr(self.read.run(session, request, now=call.moment), self.from_field)
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
    tally: Tally = field(default_factory=Tally, compare=False, repr=False)

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
        page = None
        if self.operation.page_size:
            page = open_page(self.operation, request, is_keyset=self.is_keyset)
        zone: ZoneInfo | None = self.zone
        if now.tzinfo is None:
            now, zone = now.replace(microsecond=0), None
        call = Call(request, now, key, self.lock, page, None, zone)
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
class Generation:
    """Everything that a site can do, ready to run. Immutable: a reload makes a new one."""

    revision: str
    operations: Mapping[str, CompiledOperation]
    watches: Mapping[str, CompiledWatch]
    unsupported: Mapping[str, str]
    reports: Mapping[str, CompiledReport] = field(default_factory=dict)

    def gateway(self, name: str) -> OpenedGateway | None:
        """The gateway of that name, as its operations share it; None where no file maps any."""
        for operation in self.operations.values():
            runner = operation.runner
            if isinstance(runner, OfGateway) and runner.gateway == name:
                return runner.opened
        return None

    def unknown_codes(self) -> Mapping[tuple[str, str, str], int]:
        """Code values that no code map knows: (mapping, field, masked code) -> how often, since it was compiled."""
        tallies = [operation.tally for operation in self.operations.values()]
        tallies += [watch.tally for watch in self.watches.values()]
        tallies += [report.tally for report in self.reports.values()]
        found: Counter[tuple[str, str, str]] = Counter()
        for tally in tallies:
            found.update(tally.figures())
        return found

    def capabilities(self) -> tuple[Capability, ...]:
        """One for every operation of the contract, by name. What the agent answers itself is always available."""
        return tuple(self._capability(name) for name in contract.operation_names())

    def _capability(self, name: str) -> Capability:
        compiled = self.operations.get(name)
        if compiled is not None:
            return Capability(name, True, "")
        return Capability(name, contract.operation(name).is_own, self.unsupported.get(name, ""))

    def maps(self, name: str) -> bool:
        """Whether the site has a mapping for the operation."""
        return name in self.operations

    def operation(self, name: str) -> CompiledOperation:
        """The operation `name`. Raises OperationNotMapped, with the mapping's words when it says `unsupported`."""
        compiled = self.operations.get(name)
        if compiled is None:
            raise OperationNotMapped(name, self.unsupported.get(name, ""))
        return compiled


@dataclass(frozen=True, slots=True)
class Former:
    """What was compiled before, and digests of what it was compiled from: what has not changed is taken over.

    `shared`: of everything that files have in common. Digests, not values: 1 and true are equal and mean two things.
    """

    generation: Generation
    operations: Mapping[str, bytes]
    watches: Mapping[str, bytes]
    shared: tuple[object, ...]

    def operation(self, name: str, digest: bytes, reads: Mapping[str, CompiledOperation]) -> CompiledOperation | None:
        """The operation of the same file, whose answers are read as before; None: it is another one, or new."""
        found = self.generation.operations.get(name)
        if found is None or self.operations.get(name) != digest:
            return None
        return found if all(answer.read is reads[answer.read.name] for answer in found.answers) else None

    def watch(self, name: str, digest: bytes) -> CompiledWatch | None:
        """Likewise. A watch that stays the same object goes on without reading its rows anew."""
        return self.generation.watches.get(name) if self.watches.get(name) == digest else None


def former_of(mapping_set: MappingSet, generation: Generation) -> Former:
    """`generation`, compiled from `mapping_set`, for the next `compile_generation`."""
    digests = mapping_set.digests
    return Former(
        generation,
        {name: digests[mapping.document.file] for name, mapping in mapping_set.operations.items()},
        {name: digests[watch.document.file] for name, watch in mapping_set.watches.items()},
        _shared(mapping_set),
    )


def _shared(mapping_set: MappingSet) -> tuple[object, ...]:
    """Sources, zone, code maps, SQL files and reports: what may matter to every operation and watch."""
    own = {mapping.document.file for mapping in mapping_set.operations.values()}
    own |= {watch.document.file for watch in mapping_set.watches.values()}
    others = tuple(item for item in sorted(mapping_set.digests.items()) if item[0] not in own)
    site = mapping_set.site
    return (tuple(sorted(site.sources.items())), site.timezone, others)


def compile_generation(mapping_set: MappingSet, former: Former | None = None) -> Generation:
    """A mapping set that was loaded without a problem, compiled; what `former` has is taken over."""
    compiled: dict[str, CompiledOperation] = {}
    unsupported: dict[str, str] = {}
    digests = mapping_set.digests
    if former is not None and former.shared != _shared(mapping_set):
        former = None
    # Reads first: an answer of a write holds the compiled read.
    for name, mapping in sorted(mapping_set.operations.items(), key=lambda item: not item[1].operation.is_read):
        kept = None if former is None else former.operation(name, digests[mapping.document.file], compiled)
        if kept is not None:
            compiled[name] = kept
            continue
        kind: Kind = registry.load(registry.KINDS[mapping.kind])()
        try:
            runner = kind.compile(mapping)
        except OperationNotMapped as error:
            unsupported[name] = error.note
            continue
        compiled[name] = _operation(mapping, runner, compiled)
    watches = {
        name: (None if former is None else former.watch(name, digests[watch.document.file])) or _watch(watch)
        for name, watch in mapping_set.watches.items()
    }
    reports = {name: compile_report(report) for name, report in mapping_set.reports.items()}
    return Generation(mapping_set.revision, dict(sorted(compiled.items())), watches, unsupported, reports)


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
        tally=mapping.tally,
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
            descriptor, watch.result.fields, codes=watch.site.codes, zone=zone, label=label, tally=watch.tally
        ),
        key_column=key,
        tally=watch.tally,
        feeds=tuple((_feed(watch.engine, feed.spec), feed.spec) for feed in watch.feeds),
        reconcile=watch.reconcile,
        orders=watch.orders,
        wake=watch.wake,
    )


def _feed(engine: str, spec: FeedSpec) -> Feed:
    found = feed_of(engine, spec.rung)
    if found is None:
        raise ValueError(f"{engine} has no rung {spec.rung}")
    return found


def _rule(event: EventSpec, descriptor: Descriptor, operators: frozenset[str]) -> EventRule:
    conditions = parse_when(event.when)
    if conditions is None:
        raise ValueError(f"not a rule: {event.when}")
    kind = event_pb2.EventKind.Value(f"EVENT_KIND_{event.kind}")
    return EventRule(kind, event.occurred or None, compile_when(conditions, descriptor, operators))
