"""The audit chain: records, the bytes that are hashed, and the check of a chain. Pure.

    hash(n) = SHA-256(hash(n - 1) ‖ canonical(n)),  hash(0) = 32 zero bytes

``canonical`` is a JSON array in UTF-8, so that whoever has an export can check it without this program. The fields are
what GB/T 22239—2019 §8.1.4.3 asks of 安全审计 (date and time, user, type, success), and where the call came from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

GENESIS: Final = bytes(32)
_FORMAT: Final = 1  # a change of what is hashed gets another number, and old rows keep theirs
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing that was done. Nothing in it is personal data of a patient.

    ``action``: an operation of the contract (``AppointmentService.BookAppointment``) or ``part.verb`` (``switch.off``).
    ``actor``: ``relay/NAME`` of a certificate, ``operator/NAME``, ``os/USER@HOST``, ``agent/INSTANCE`` for what it does
    by itself. ``source``: the address or link it came over, ``cli``. ``target``: the order number. ``result``: what
    came of it. ``parameters``: JSON without personal data; ``digest``: SHA-256 of all of them. ``instance``: the agent
    that wrote it down.
    """

    action: str
    actor: str
    source: str = ""
    target: str = ""
    result: str = ""
    parameters: str = ""
    digest: bytes = b""
    duration: timedelta | None = None
    mapping_revision: str = ""
    trace: str = ""
    instance: str = ""


@dataclass(frozen=True, slots=True)
class AuditRow:
    """An entry in its place. ``hash`` is what the store holds, not what it should be."""

    sequence: int
    time: datetime
    entry: AuditEntry
    hash: bytes
    format: int = _FORMAT


@dataclass(frozen=True, slots=True)
class Anchor:
    """A place of the chain: the row with this sequence has, or had, this hash. Sequence 0: before the first row."""

    sequence: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.sequence}:{self.hash.hex()}"

    @classmethod
    def parse(cls, text: str) -> Anchor:
        """Reads what ``str`` wrote. Raises ValueError."""
        sequence, _, digest = text.partition(":")
        anchor = cls(int(sequence), bytes.fromhex(digest))
        if anchor.sequence < 0 or len(anchor.hash) != len(GENESIS):
            raise ValueError("an anchor is a number, a colon and 64 hex digits")
        return anchor


BEGINNING: Final = Anchor(0, GENESIS)


@dataclass(frozen=True, slots=True)
class ChainBreak:
    """The first place where the chain does not hold. ``sequence``: of the row that is wrong, or is not there."""

    sequence: int
    what: str
    what_zh: str


def sealed(entry: AuditEntry, time: datetime, before: Anchor) -> AuditRow:
    """The entry as the row behind ``before``."""
    row = AuditRow(before.sequence + 1, time, entry, b"")
    return AuditRow(row.sequence, time, entry, digest_of(row, before.hash))


def digest_of(row: AuditRow, previous: bytes) -> bytes:
    """The hash that the row must have."""
    return hashlib.sha256(previous + canonical(row)).digest()


def canonical(row: AuditRow) -> bytes:
    """The bytes of a row that are hashed: its values as a JSON array, without blanks, in the order of ``values``."""
    return json.dumps(list(values(row).values()), ensure_ascii=False, separators=(",", ":")).encode()


def values(row: AuditRow) -> dict[str, Any]:
    """The values of a row by name, as exports write them; the hash apart. Times in microseconds since 1970 UTC."""
    entry = row.entry
    return {
        "format": row.format,
        "sequence": row.sequence,
        "time_us": (row.time - _EPOCH) // _MICROSECOND,
        "instance": entry.instance,
        "actor": entry.actor,
        "source": entry.source,
        "action": entry.action,
        "target": entry.target,
        "result": entry.result,
        "parameters": entry.parameters,
        "digest": entry.digest.hex(),
        "duration_us": None if entry.duration is None else entry.duration // _MICROSECOND,
        "mapping_revision": entry.mapping_revision,
        "trace": entry.trace,
    }


class ChainCheck:
    """Walks a chain page by page. ``look`` at rows by sequence, then ``end``; both give the first break, or None."""

    def __init__(self, start: Anchor, *, noted: Anchor | None = None) -> None:
        """``start``: what was pruned. ``noted``: a place that a person wrote down, which must still be so."""
        self._last = start
        self._noted = noted
        self.rows = 0

    @property
    def last(self) -> Anchor:
        """The last row that was looked at."""
        return self._last

    def look(self, rows: Iterable[AuditRow]) -> ChainBreak | None:
        for row in rows:
            expected = self._last.sequence + 1
            if row.sequence != expected:
                return ChainBreak(expected, "the row is missing", "该条记录缺失")
            if row.format != _FORMAT or row.hash != digest_of(row, self._last.hash):
                return ChainBreak(expected, "the row, or the one before it, was changed", "该条或前一条记录被改动")
            self._last = Anchor(row.sequence, row.hash)
            self.rows += 1
            if self._noted is not None and self._noted.sequence == row.sequence and self._noted.hash != row.hash:
                return ChainBreak(expected, "the chain is another than the one noted", "与留存的锚点不一致")
        return None

    def end(self, head: Anchor) -> ChainBreak | None:
        """``head``: the last row, as the store remembers it."""
        if head.sequence > self._last.sequence:
            return ChainBreak(self._last.sequence + 1, "rows at the end are missing", "末尾记录缺失")
        if head != self._last:
            return ChainBreak(self._last.sequence, "the remembered end of the chain is another", "链尾与登记不一致")
        if self._noted is not None and self._noted.sequence > self._last.sequence:
            return ChainBreak(self._last.sequence + 1, "rows that were noted are missing", "留存锚点之前的记录缺失")
        return None
