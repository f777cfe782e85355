"""The audit chain's rows in SQL.

Entries are sealed when their transaction ends, all of them at once: the chain has one place where rows are added, and a
commit of many units asks for the end of the chain once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, select, update

from sync.audit_archive import ArchivePack, packed
from sync.audit_chain import BEGINNING, Anchor, AuditEntry, AuditRow, sealed
from sync.store import PRUNED_AT_ONCE
from sync.store_prepared import Prepared, micros
from sync.store_schema import AUDIT, AUDIT_ANCHORS, AUDIT_ARCHIVE

_MICROSECOND = timedelta(microseconds=1)
_HEAD = "head"
_PRUNED = "pruned"
_DROPPED = "dropped"
_ANCHOR = select(AUDIT_ANCHORS.c.sequence, AUDIT_ANCHORS.c.hash).where(AUDIT_ANCHORS.c.name == bindparam("wanted"))
_HIGHEST = select(func.max(AUDIT.c.sequence))
_END = Prepared(_ANCHOR.add_columns(_HIGHEST.scalar_subquery().label("highest")), "wanted")
_MOVE = Prepared(
    update(AUDIT_ANCHORS)
    .where(AUDIT_ANCHORS.c.name == bindparam("wanted"))
    .values(sequence=bindparam("to"), hash=bindparam("digest")),
    "to",
    "digest",
    "wanted",
)
_ENTRY = tuple(AuditEntry.__slots__)
_INSERT = Prepared(AUDIT.insert(), "sequence", "time", "hash", "format", *_ENTRY)
_OF_ENTRY = attrgetter(*_ENTRY)
_DURATION = _ENTRY.index("duration")
_LOG = logging.getLogger("his160.sync.audit")
_SELECT = select(
    AUDIT.c.sequence,
    AUDIT.c.time,
    AUDIT.c.hash,
    AUDIT.c.format,
    AUDIT.c.action,
    AUDIT.c.actor,
    AUDIT.c.source,
    AUDIT.c.target,
    AUDIT.c.result,
    AUDIT.c.parameters,
    AUDIT.c.digest,
    AUDIT.c.duration,
    AUDIT.c.mapping_revision,
    AUDIT.c.trace,
    AUDIT.c.instance,
)


class SqlAuditTable:
    """``AuditTable`` over a connection with an open transaction. ``seal`` before the commit."""

    __slots__ = ("_connection", "_waiting")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: list[tuple[AuditEntry, datetime]] = []

    @property
    def waiting(self) -> int:
        """How many entries are not sealed yet."""
        return len(self._waiting)

    def forget(self, waiting: int) -> None:
        """Takes back the entries behind the first ``waiting``: their unit was undone."""
        del self._waiting[waiting:]

    def append(self, entry: AuditEntry, time: datetime) -> None:
        self._waiting.append((entry, time))

    def seal(self) -> None:
        """Gives the entries that wait their places in the chain."""
        if not self._waiting:
            return
        last = self._end()
        rows = []
        for entry, time in self._waiting:
            row = sealed(entry, time, last)
            last = Anchor(row.sequence, row.hash)
            rows.append(_values(row))
        self._waiting.clear()
        _INSERT.tell_many(self._connection, rows)
        self._move(_HEAD, last)

    def head(self) -> Anchor:
        return self._anchor(_HEAD)

    def pruned(self) -> Anchor:
        return self._anchor(_PRUNED)

    def after(self, sequence: int, limit: int) -> Sequence[AuditRow]:
        statement = _SELECT.where(AUDIT.c.sequence > sequence).order_by(AUDIT.c.sequence).limit(limit)
        return [_row(row) for row in self._connection.execute(statement)]

    def newest(self, limit: int, *, action: str = "", target: str = "", actor: str = "") -> Sequence[AuditRow]:
        statement = _SELECT.order_by(AUDIT.c.sequence.desc()).limit(limit)
        for column, wanted in ((AUDIT.c.target, target), (AUDIT.c.actor, actor)):
            if wanted:
                statement = statement.where(column == wanted)
        if action:
            statement = statement.where(AUDIT.c.action.startswith(action, autoescape=True))
        return [_row(row) for row in self._connection.execute(statement)][::-1]

    def prune(self, before: datetime, limit: int = PRUNED_AT_ONCE) -> int:
        kept = select(func.min(AUDIT.c.sequence)).where(AUDIT.c.time >= before).scalar_subquery()
        first_kept = self._connection.execute(select(func.coalesce(kept, self.head().sequence + 1))).scalar_one()
        first_kept = min(first_kept, self.pruned().sequence + 1 + limit)
        place = select(AUDIT.c.sequence, AUDIT.c.hash).where(AUDIT.c.sequence == first_kept - 1)
        last = self._connection.execute(place).first()
        if last is None:
            return 0
        rows = self.after(self.pruned().sequence, limit)
        self._pack([row for row in rows if row.sequence <= last.sequence])
        self._move(_PRUNED, Anchor(last.sequence, last.hash))  # first: rows behind it cannot be deleted
        return self._connection.execute(delete(AUDIT).where(AUDIT.c.sequence <= last.sequence)).rowcount

    def archived(self, sequence: int) -> ArchivePack | None:
        found = self._connection.execute(
            select(AUDIT_ARCHIVE)
            .where(AUDIT_ARCHIVE.c.last_sequence > sequence)
            .order_by(AUDIT_ARCHIVE.c.last_sequence)
            .limit(1)
        ).first()
        if found is None:
            return None
        last = Anchor(found.last_sequence, found.last_hash)
        return ArchivePack(found.first_sequence, last, found.last_time, found.content)

    def dropped(self) -> Anchor:
        return self._anchor(_DROPPED)

    def drop(self, before: datetime, limit: int = PRUNED_AT_ONCE) -> int:
        first, dropped = self.dropped().sequence, 0
        while dropped < limit and (pack := self.archived(first + dropped)) is not None and pack.last_time < before:
            dropped = pack.last.sequence - first
            self._move(_DROPPED, pack.last)  # first: what is behind it cannot be deleted
            gone = delete(AUDIT_ARCHIVE).where(AUDIT_ARCHIVE.c.first_sequence == pack.first_sequence)
            self._connection.execute(gone)
        return dropped

    def _pack(self, rows: Sequence[AuditRow]) -> None:
        if not rows:
            return  # somebody has deleted them: the chain breaks there
        pack = packed(rows)
        self._connection.execute(
            AUDIT_ARCHIVE.insert().values(
                first_sequence=pack.first_sequence,
                last_sequence=pack.last.sequence,
                last_time=pack.last_time,
                last_hash=pack.last.hash,
                content=pack.content,
            )
        )

    def _end(self) -> Anchor:
        """Where the next row goes. Rows that somebody put behind the end stay there, for ``verify`` to find."""
        found = _END.ask(self._connection, _HEAD)
        if found:
            sequence, digest, highest = found[0]
            head, highest = Anchor(sequence, digest), highest or 0
        else:
            head, highest = BEGINNING, self._connection.execute(_HIGHEST).scalar() or 0
        if highest <= head.sequence:
            return head
        _LOG.critical("rows that no agent wrote stand in the audit", extra={"behind": head.sequence})
        return Anchor(highest, head.hash)

    def _anchor(self, name: str) -> Anchor:
        found = self._connection.execute(_ANCHOR, {"wanted": name}).first()
        return BEGINNING if found is None else Anchor(found.sequence, found.hash)

    def _move(self, name: str, anchor: Anchor) -> None:
        if not _MOVE.tell(self._connection, anchor.sequence, anchor.hash, name):
            place = {"sequence": anchor.sequence, "hash": anchor.hash}
            self._connection.execute(AUDIT_ANCHORS.insert().values(name=name, **place))


def _values(row: AuditRow) -> Sequence[Any]:
    """As ``_INSERT`` takes them."""
    entry = [*_OF_ENTRY(row.entry)]
    if row.entry.duration is not None:
        entry[_DURATION] = row.entry.duration // _MICROSECOND
    return row.sequence, micros(row.time), row.hash, row.format, *entry


def _row(found: Sequence[Any]) -> AuditRow:
    sequence, time, digest, form, *entry = found
    return AuditRow(sequence, time, AuditEntry(*entry), digest, form)
