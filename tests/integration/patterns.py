"""A watch on tables as a vendor has them, in a real database, up to the outbox: what the tests of window patterns share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from his160.v1 import event_pb2

from his_db.access import HisAccess
from his_db.engine import SourceSettings
from his_db.generation import compile_generation
from his_db.mapping.load import load_mapping_set
from his_db.source import Source, engine_for
from sync.captures.fed import FedDiff
from sync.outbox import Outbox
from sync.store import CommandRow, CommandState
from sync.stores.sqlite import SqliteStore
from sync.watcher import Poll, Watcher

ZONE = "Asia/Shanghai"
# A set that maps no operation at all is taken for an empty folder.
AN_OPERATION = """\
schema = 1
operation = "PaymentService.RefundPayment"
kind = "unsupported"
why = "本院不支持在线退号"
"""
HEAD = """\
schema = 1
watch = "{name}"
subject = "{subject}"
key = "{key}"
vanish = "{vanish}"
platform_operators = ["jk160"]
{more}
sql = '''{sql}'''
fields = [
{fields}
]
{events}
"""


class Clock:
    """Stands still until it is turned."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)  # 09:00 in the hospital

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **parts: float) -> None:
        self.now += timedelta(**parts)


def watch_file(
    sql: str,
    fields: dict[str, str],
    events: list[str],
    *,
    name: str = "orders",
    subject: str = "appointment",
    key: str = "appointment_id",
    vanish: str = "ignore",
    more: str = "",
) -> str:
    """A watch's TOML. ``fields``: field -> column, with conversions behind a comma. ``events``: "KIND: when"."""
    lines = []
    for to, source in fields.items():
        column, _, conversion = source.partition(",")
        lines.append(f'  {{ to = "{to}", column = "{column}"{"," + conversion if conversion else ""} }},')
    rules = []
    for rule in events:
        kind, _, when = rule.partition(": ")
        rules.append(f"[[event]]\nkind = \"{kind}\"\nwhen = '{when}'\n")
    values = {"name": name, "subject": subject, "key": key, "vanish": vanish, "more": more, "sql": sql}
    return HEAD.format(**values, fields="\n".join(lines), events="\n".join(rules))


@dataclass
class Bed:
    """One vendor's tables under one watch."""

    settings: SourceSettings
    folder: Path
    clock: Clock = field(default_factory=Clock)
    monotonic: Callable[[], float] = time.monotonic
    watcher: Watcher = field(init=False, default=None)  # type: ignore[assignment]
    _seen: int = 0

    def __post_init__(self) -> None:
        self.engine = engine_for(self.settings)
        self.window = self.engine.open(read_only=False)

    async def begin(self, tables: str, watch: str, *, name: str = "orders") -> None:
        """Make the tables and rows, and take the first look."""
        self.commit(tables)
        mappings = self.folder / "mappings"
        mappings.mkdir()
        (mappings / "watch.toml").write_text(watch, encoding="utf-8")
        (mappings / "refund.toml").write_text(AN_OPERATION, encoding="utf-8")
        loaded = load_mapping_set(mappings, sources={"his": self.settings.engine}, timezone=ZONE)
        self.source = Source(self.settings, None)
        self.his = HisAccess({"his": self.source}, compile_generation(loaded), clock=self.clock)
        self.store = SqliteStore(self.folder / "state.db", self.clock)
        self.outbox = Outbox(self.store, self.clock)
        capture = FedDiff(self.his, self.store, name, clock=self.clock, monotonic=self.monotonic)
        self.watcher = Watcher(capture, self.store, self.outbox, site="H1", clock=self.clock)
        assert (await self.watcher.poll_once()).baseline

    async def end(self, tables: Iterable[str]) -> None:
        """Close what ``begin`` came to, and drop the tables."""
        if self.watcher is not None:
            await self.source.close()
            await self.store.close()
        for name in tables:
            self.commit(f"DROP TABLE IF EXISTS {name}")
        self.window.close()
        self.engine.dispose()

    def commit(self, *statements: str) -> None:
        """Statements of the vendor's program, each its own transaction; ``;`` divides those of one."""
        for text in statements:
            self.window.begin()
            for part in text.split(";"):
                if part.strip():
                    self.window.run(part, {}, max_rows=1)
            self.window.commit()

    async def poll(self) -> Poll:
        self.clock.advance(seconds=1)
        return await self.watcher.poll_once()

    async def after(self, *statements: str, polls: int = 1) -> list[tuple[str, str]]:
        """Kind and order (session) of the events that these transactions make, a poll behind each of them."""
        for text in statements:
            self.commit(text)
            for _ in range(polls):
                await self.poll()
        return [(event_pb2.EventKind.Name(e.kind).removeprefix("EVENT_KIND_"), _subject(e)) for e in await self.new()]

    async def new(self) -> list[event_pb2.Event]:
        """The events since the last look at them."""
        found = list(await self.outbox.read_after(self._seen, 1000))
        self._seen = max([self._seen, *(event.sequence for event in found)])
        assert all(event.origin == event_pb2.ORIGIN_ON_SITE for event in found)
        return found

    async def did(self, operation: str, order_no: str, *, state: CommandState = CommandState.DONE) -> None:
        """A command of 160 as the ledger has it."""
        now = self.clock()
        row = CommandRow(
            request_id=f"{operation}/{order_no}/{now.timestamp()}",
            operation=operation,
            payload_hash=b"p",
            essence_hash=b"e",
            order_key=order_no,
            natural_key="",
            state=state,
            received_time=now,
            sent_time=now,
            finished_time=None if state is CommandState.SENT else now,
        )
        await self.store.write(lambda work: work.commands.put(row))


def _subject(event: event_pb2.Event) -> str:
    return event.order_no or event.schedule_id
