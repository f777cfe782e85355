"""The audit: who did what, when, from where, to which order, and what came of it. Append-only, hash-chained, kept.

An entry belongs into the transaction of the thing that it records. It is made in the event loop, where it is known who
asks, and appended inside the unit:

    entry = audit.entry("outbox.retry", result=f"{len(ids)} events")
    await store.write(lambda work: (work.events.revive(ids, now), work.audit.append(entry, now)))

What has no transaction (a file of switches, the start of the process) is written by ``append``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from sync.audit_archive import ArchivePack, unpacked
from sync.audit_chain import Anchor, AuditEntry, AuditRow, ChainBreak, ChainCheck
from sync.clock import Clock
from sync.redaction import for_showing
from sync.store import PRUNED_AT_ONCE, Store, Transaction

SHORTEST_KEEP: Final = timedelta(days=180)  # 网络安全法 第二十一条（三）: logs are kept for six months at least
# 网络数据安全管理条例 第十二条: what was given to another processor is on record for three years at least.
SHORTEST_ARCHIVE: Final = timedelta(days=1096)
ARCHIVE_KEEP: Final = timedelta(days=1130)
_PAGE: Final = 1000
_AS_THEY_ARE: Final = frozenset(
    {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BOOL, FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_UINT32}
)
_AS_TEXT: Final = frozenset({FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT64})  # JSON's own numbers are floats
_LONGEST: Final = 4000  # characters of parameters; the digest stands for all of them


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, from where, and the number of the call."""

    actor: str
    source: str = ""
    trace: str = ""


_CALLER: ContextVar[Caller | None] = ContextVar("his160_caller", default=None)


@contextmanager
def acting(caller: Caller) -> Iterator[None]:
    """What is done inside, and by tasks begun inside, is done for this caller."""
    token = _CALLER.set(caller)
    try:
        yield
    finally:
        _CALLER.reset(token)


@dataclass(frozen=True, slots=True)
class Verification:
    """What a walk over the chain found, the archive first. ``pruned``: where it begins; ``last``: the last good row;
    ``broken``: or None.

    ``last`` is what to write down elsewhere: whoever owns the database can make a whole chain anew, but none that ends
    at a place that was noted.
    """

    rows: int
    pruned: Anchor
    last: Anchor
    broken: ChainBreak | None


class Audit:
    """The audit in a store. ``instance`` names this agent among those of the site. Methods raise StoreError."""

    def __init__(self, store: Store, clock: Clock, *, instance: str = "") -> None:
        self._store = store
        self._clock = clock
        self._instance = instance
        self._noted: list[tuple[AuditEntry, datetime]] = []
        self._flushing = asyncio.Lock()

    def entry(
        self,
        action: str,
        *,
        target: str = "",
        result: str = "",
        parameters: str = "",
        digest: bytes = b"",
        duration: timedelta | None = None,
        mapping_revision: str = "",
        caller: Caller | None = None,
    ) -> AuditEntry:
        """An entry of the caller given, else of the one that acts here, else of the agent itself."""
        who = caller or _CALLER.get() or Caller(f"agent/{self._instance}")
        return AuditEntry(
            action=action,
            actor=who.actor,
            source=who.source,
            target=target,
            result=result,
            parameters=parameters[:_LONGEST],
            digest=digest,
            duration=duration,
            mapping_revision=mapping_revision,
            trace=who.trace,
            instance=self._instance,
        )

    def now(self) -> datetime:
        """The time of an entry that is made now."""
        return self._clock()

    async def append(self, *entries: AuditEntry) -> None:
        """Writes entries down, in one commit of their own."""
        now = self._clock()

        def unit(transaction: Transaction) -> None:
            for entry in entries:
                transaction.audit.append(entry, now)

        await self._store.write(unit)

    def note(
        self,
        action: str,
        *,
        target: str = "",
        result: str = "",
        parameters: str = "",
        digest: bytes = b"",
        mapping_revision: str = "",
        caller: Caller | None = None,
    ) -> None:
        """Keeps an entry, of this moment, for the next ``flush``: for what has no transaction and must not wait."""
        entry = self.entry(
            action,
            target=target,
            result=result,
            parameters=parameters,
            digest=digest,
            mapping_revision=mapping_revision,
            caller=caller,
        )
        self._noted.append((entry, self._clock()))

    async def flush(self) -> None:
        """Writes down what was noted. What the store does not take now is kept for the next time."""
        async with self._flushing:
            noted = tuple(self._noted)

            def unit(transaction: Transaction) -> None:
                for entry, time in noted:
                    transaction.audit.append(entry, time)

            if noted:
                await self._store.write(unit)
                del self._noted[: len(noted)]

    async def newest(
        self, limit: int = 100, *, action: str = "", target: str = "", actor: str = ""
    ) -> Sequence[AuditRow]:
        """The last rows, oldest first."""
        return await self._store.read(
            lambda transaction: transaction.audit.newest(limit, action=action, target=target, actor=actor)
        )

    async def rows(self, after: int = 0) -> AsyncIterator[AuditRow]:
        """All rows above a sequence, oldest first, page by page; those of the archive as well."""
        while page := (await self._page(after)).rows:
            for row in page:
                yield row
            after = page[-1].sequence

    async def anchor(self, sequence: int) -> Anchor:
        """The place in the chain at a sequence, for who goes on behind it; where the chain begins, if that is later."""
        begin = await self._store.read(lambda work: work.audit.dropped())
        if sequence > begin.sequence:
            async for row in self.rows(sequence - 1):
                return Anchor(row.sequence, row.hash)
        return begin

    async def verify(self, noted: Anchor | None = None) -> Verification:
        """Walks the whole chain. ``noted``: a place that somebody wrote down earlier."""
        # The end first: rows that come in meanwhile lie behind it and are not asked for.
        begin, head = await self._store.read(lambda work: (work.audit.dropped(), work.audit.head()))
        check, archived = ChainCheck(begin, noted=noted), begin
        while (page := await self._page(check.last.sequence)).rows:
            within = [row for row in page.rows if row.sequence <= head.sequence]
            broken = check.look(within)
            if broken is not None:
                return Verification(check.rows, begin, check.last, broken)
            archived = check.last if page.is_archived else archived
            if len(within) < len(page.rows):
                break
        broken = check.end(head) or await self._behind_the_end() or await self._end_of_archive(archived)
        return Verification(check.rows, begin, check.last, broken)

    async def prune(self, keep: timedelta, archive_keep: timedelta = ARCHIVE_KEEP) -> int:
        """Packs what is older than ``keep`` into the archive, and drops from there what is older than ``archive_keep``.

        The chain says where it was cut. The number of rows packed. Raises ValueError for less than 180 days, or three
        years.
        """
        if keep < SHORTEST_KEEP or archive_keep < SHORTEST_ARCHIVE:
            days = (SHORTEST_KEEP.days, SHORTEST_ARCHIVE.days)
            raise ValueError(f"the audit is kept for {days[0]} days at least, its archive for {days[1]}")
        total, pruned = 0, PRUNED_AT_ONCE
        while pruned >= PRUNED_AT_ONCE:
            pruned = await self._prune_some(keep)
            total += pruned
        dropped = PRUNED_AT_ONCE
        while dropped >= PRUNED_AT_ONCE:
            dropped = await self._drop_some(archive_keep)
        return total

    async def _prune_some(self, keep: timedelta) -> int:
        now = self._clock()
        entry = self.entry("audit.prune")

        def unit(transaction: Transaction) -> int:
            pruned = transaction.audit.prune(now - keep)
            if pruned:
                cut = json.dumps({"rows": pruned, "last": str(transaction.audit.pruned())})
                transaction.audit.append(replace(entry, parameters=cut), now)
            return pruned

        return await self._store.write(unit)

    async def _drop_some(self, keep: timedelta) -> int:
        now = self._clock()
        entry = self.entry("audit.drop")

        def unit(transaction: Transaction) -> int:
            dropped = transaction.audit.drop(now - keep)
            if dropped:
                cut = json.dumps({"rows": dropped, "last": str(transaction.audit.dropped())})
                transaction.audit.append(replace(entry, parameters=cut), now)
            return dropped

        return await self._store.write(unit)

    async def _end_of_archive(self, archived: Anchor) -> ChainBreak | None:
        """Where the archive ends is written down; what lies behind that place cannot be deleted."""
        more, pruned = await self._store.read(
            lambda work: (work.audit.archived(archived.sequence) is not None, work.audit.pruned())
        )
        if more or pruned == archived:  # more: packed since we looked
            return None
        return ChainBreak(archived.sequence + 1, "the remembered end of the archive is another", "归档末尾与登记不一致")

    async def _behind_the_end(self) -> ChainBreak | None:
        """A row behind the remembered end was put there by somebody else."""
        strange = await self._store.read(lambda work: work.audit.after(work.audit.head().sequence, 1))
        if not strange:
            return None
        return ChainBreak(strange[0].sequence, "a row was put behind the end", "链尾之后有多余记录")

    async def _page(self, after: int) -> _Page:
        """The next rows above a sequence, of the archive or of the table; both are looked at in one snapshot."""

        def look(work: Transaction) -> tuple[ArchivePack | None, Sequence[AuditRow]]:
            pack = work.audit.archived(after)
            return pack, () if pack is not None else work.audit.after(after, _PAGE)

        pack, rows = await self._store.read(look)
        if pack is None:
            return _Page(rows, is_archived=False)
        found = [row for row in await asyncio.to_thread(unpacked, pack) if row.sequence > after]
        # Of a pack that is damaged there is nothing: what comes behind it shows that rows are missing.
        return _Page(found, is_archived=True) if found else await self._page(pack.last.sequence)


@dataclass(frozen=True, slots=True)
class _Page:
    rows: Sequence[AuditRow]
    is_archived: bool


def masked(message: Message) -> str:
    """A message as JSON on one line, without what the contract marks as personal and without free text."""
    shown = for_showing(message)
    plain = _plain(shown)
    if plain is not None:
        return json.dumps(plain, ensure_ascii=False)
    return json_format.MessageToJson(shown, indent=None, preserving_proto_field_name=True, ensure_ascii=False)


def _plain(message: Message) -> dict[str, Any] | None:
    """What protobuf's JSON has of a message that holds nothing but single texts, whole numbers and truths, in a tenth
    of its time; None for any other. Most requests are such messages, and each command writes one down."""
    found: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.is_repeated:
            return None
        if field.type in _AS_THEY_ARE:
            found[field.name] = value
        elif field.type in _AS_TEXT:
            found[field.name] = str(value)
        else:
            return None
    return found


def as_json(**parameters: Any) -> str:
    """Parameters as JSON on one line; the caller leaves out what is personal."""
    return json.dumps(parameters, ensure_ascii=False, sort_keys=True, default=str)
