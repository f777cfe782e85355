"""A watch tried out: what it reads now, which rows cannot be read and why, and which events changes would make.

Changes go through the capture and the event rules of the agent itself, with a state store of their own that is thrown
away: what the ledger of the real one knows of the platform's own commands is not known here.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from google.protobuf.message import Message
from his160.v1 import event_pb2

from his_db.access import HisAccess
from his_db.compiled_watch import CompiledWatch
from his_db.document.finding import Words
from his_db.errors import HisError
from his_db.generation import compile_generation
from his_db.mapping.model import MappingSet, WatchMapping
from his_db.source import LaneSettings, Source, engine_for
from his_db.workbench.masking import Masker, without_personal
from his_db.workbench.recording import Record, RecordingEngine
from his_db.workbench.site import Site
from his_db.workbench.trial_run import ShownStep, shown_step
from sync import events
from sync.capture import Batch, Change
from sync.captures.snapshot_diff import SnapshotDiff
from sync.redaction import clear_personal
from sync.store import RowState, Store, StreamRow, open_store

SHOWN: Final = 20
_ONE: Final = LaneSettings(workers=1, queue_limit=10)


@dataclass(frozen=True, slots=True)
class UnreadableRows:
    """Rows that cannot be read for one reason. `keys`: the first of them, as they may be shown."""

    reason: str
    count: int
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WatchLook:
    """One reading. `messages`: key and message of the first rows, personal fields masked; `keyless`: rows without a
    key; `repeated`: keys that come with different rows. `error`: why nothing was read."""

    name: str
    step: ShownStep | None
    rows: int
    keyless: int
    repeated: int
    unreadable: tuple[UnreadableRows, ...]
    messages: tuple[tuple[str, dict[str, Any]], ...]
    error: HisError | None = None


@dataclass(frozen=True, slots=True)
class WatchChange:
    """One changed row. `what`: new, changed, gone; `fields`: path -> (before, after), as they may be shown.

    `event`: short name of the kind, empty when none fits; `rule`: number of the `[[event]]` that decided, 0 for none;
    `occurred`: when it happened, as the rule says; `note`: what else decides whether 160 is told."""

    key: str
    what: str
    fields: Mapping[str, tuple[str, str]]
    event: str
    rule: int
    occurred: str
    note: Words


class WatchTrial:
    """One watch on the live database. Use as an async context: `async with watch_trial(…) as trial`."""

    def __init__(
        self, watch: WatchMapping, compiled: CompiledWatch, access: HisAccess, record: Record, store: Store, site: Site
    ) -> None:
        self._compiled = compiled
        self._access = access
        self._record = record
        self._store = store
        self._site = site
        self._masker = Masker(watch)
        self._capture = SnapshotDiff(access, store, compiled.name, clock=site.clock)

    async def look(self) -> WatchLook:
        """Read once."""
        self._record.steps.clear()
        try:
            snapshot = await self._access.snapshot(self._compiled.name)
        except HisError as error:
            return WatchLook(self._compiled.name, self._step(), 0, 0, 0, (), (), error)
        reasons: Counter[str] = Counter()
        keys: dict[str, list[str]] = {}
        messages: list[tuple[str, dict[str, Any]]] = []
        for key, row in snapshot.rows:
            try:
                message = self._compiled.build(row)
            except HisError as error:
                reasons[error.detail] += 1
                keys.setdefault(error.detail, []).append(self._key(key))
                continue
            if len(messages) < SHOWN:
                messages.append((self._key(key), without_personal(message)))
        seen = Counter(key for key, _ in set(snapshot.rows))
        return WatchLook(
            self._compiled.name,
            self._step(),
            len(snapshot.rows),
            snapshot.refused,
            sum(count > 1 for count in seen.values()),
            tuple(UnreadableRows(reason, count, tuple(keys[reason][:5])) for reason, count in reasons.most_common()),
            tuple(messages),
        )

    async def poll(self) -> tuple[WatchChange, ...]:
        """What differs from the poll before; the first one only learns. A row that is gone is read for a second time.

        Raises HisError, CaptureSuspended.
        """
        batch = await self._capture.poll()
        found = await self._changes(batch)
        if not batch.baseline and not found:
            batch = await self._capture.poll()  # a row that is missing twice is gone
            found = await self._changes(batch)
        return found

    async def _changes(self, batch: Batch) -> tuple[WatchChange, ...]:
        now = self._site.clock()

        def content(change: Change) -> bytes | None:
            return None if change.after is None else change.after.SerializeToString(deterministic=True)

        states = [RowState(change.key, change.version, content(change), now) for change in batch.changes]
        name = self._compiled.name
        await self._store.write(lambda work: work.rows.put_many(name, [*batch.quiet, *states]))
        if batch.baseline:
            await self._store.write(lambda work: work.rows.put_stream(StreamRow(name, now)))
        self._capture.confirm(batch.changes)
        return () if batch.baseline else tuple([await self._change(change) for change in batch.changes])

    async def given(self, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> WatchChange:
        """What the agent would make of a row (column -> value) that was one and is the other; None: not there.

        Reads nothing. Raises HisError for a row that cannot be read."""
        one, two = self._given(before), self._given(after)
        key = next((value for row in (after, before) if (value := self._key_of(row))), "")
        return await self._change(Change(key, one, two, 2, None if one is None else self._site.clock()))

    def _given(self, row: Mapping[str, Any] | None) -> Message | None:
        if row is None:
            return None
        folded = {name.casefold(): value for name, value in row.items()}
        message = self._compiled.build(tuple(folded.get(name) for name in self._compiled.plan.columns))
        clear_personal(message)
        return message

    def _key_of(self, row: Mapping[str, Any] | None) -> str:
        wanted = self._compiled.key_column.casefold()
        return next((str(value) for name, value in (row or {}).items() if name.casefold() == wanted), "")

    async def _change(self, change: Change) -> WatchChange:
        source = events.Source("trial", self._compiled.name, "trial")
        now = self._site.clock()
        event = await self._store.read(lambda work: events.event_of(work, source, self._compiled, change, now))
        rules = enumerate(self._compiled.rules, 1)
        rule = next((at for at, item in rules if item.matches(change.before, change.after)), 0)
        what = "new" if change.before is None else "gone" if change.after is None else "changed"
        return WatchChange(
            self._key(change.key),
            what,
            _differences(change.before, change.after),
            "" if event is None else event_pb2.EventKind.Name(event.kind).removeprefix("EVENT_KIND_"),
            rule,
            "" if event is None or not event.HasField("occurred_time") else self._local(event),
            _note(event, rule, change, self._compiled),
        )

    def _local(self, event: event_pb2.Event) -> str:
        zone = self._compiled.zone
        return event.occurred_time.ToDatetime(tzinfo=zone).isoformat(" ")

    def _key(self, key: str) -> str:
        return self._masker.column(self._compiled.key_column, key)

    def _step(self) -> ShownStep | None:
        return shown_step(self._record.steps[-1], self._masker) if self._record.steps else None


@asynccontextmanager
async def watch_trial(site: Site, mapping_set: MappingSet, name: str) -> AsyncIterator[WatchTrial]:
    """The trial of a watch of the set. Raises KeyError for one that is not there."""
    watch, record = mapping_set.watches[name], Record()
    generation = compile_generation(mapping_set)
    settings = site.sources.get(watch.source)  # None: its rows come from files
    sources = {}
    if settings is not None:
        sources[watch.source] = Source(settings, {"watch": _ONE}, engine=RecordingEngine(engine_for(settings), record))
    try:
        with tempfile.TemporaryDirectory(prefix="his160-", ignore_cleanup_errors=True) as folder:
            store = open_store(Path(folder) / "trial.db", site.clock)
            try:
                access = HisAccess(sources, generation, clock=site.clock)
                yield WatchTrial(watch, generation.watches[name], access, record, store, site)
            finally:
                await store.close()
    finally:
        for source in sources.values():
            await source.close()


def _differences(before: Message | None, after: Message | None) -> dict[str, tuple[str, str]]:
    one, two = ({} if message is None else without_personal(message) for message in (before, after))
    names = [field for field in dict.fromkeys([*one, *two]) if one.get(field) != two.get(field)]
    return {name: (_plain(one.get(name)), _plain(two.get(name))) for name in names}


def _plain(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, dict) and "year" in value:
        return "-".join(f"{value.get(part, 0):02d}" for part in ("year", "month", "day"))
    if isinstance(value, dict) and not value.keys() - {"hours", "minutes", "seconds", "nanos"}:
        return ":".join(f"{value.get(part, 0):02d}" for part in ("hours", "minutes", "seconds"))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _note(event: event_pb2.Event | None, rule: int, change: Change, watch: CompiledWatch) -> Words:
    if event is not None and event.origin == event_pb2.ORIGIN_PLATFORM:
        return Words(
            "the operator is the platform's own: 160 is told only of what it does not know yet",
            "操作人是平台账号：只有 160 还不知道的变化才会通知",
        )
    if event is not None and change.after is None and watch.vanish != "event":
        return Words('a row that is gone makes no event (vanish = "ignore")', '行消失不产生事件（vanish = "ignore"）')
    if event is not None:
        return Words("160 is told", "会通知 160")
    if rule:
        return Words("the row has no order number of 160: no event", "该行没有 160 订单号：不产生事件")
    return Words("no [[event]] fits: it becomes known, and nothing is told", "没有符合的 [[event]]：只记下，不通知")
