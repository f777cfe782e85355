"""Old rows of the audit chain, packed: lines of JSON as an export writes them, compressed. Pure.

Packed it takes a third of what it took as rows with their indexes (measured), and nobody looks for one of them by
its order. The chain goes through the archive: nothing of it can be changed without ``audit verify`` seeing it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sync.audit_chain import Anchor, AuditEntry, AuditRow, values

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LEVEL = 6


@dataclass(frozen=True, slots=True)
class ArchivePack:
    """Rows that follow one another. ``last``: the last of them; ``last_time``: its time."""

    first_sequence: int
    last: Anchor
    last_time: datetime
    content: bytes


def packed(rows: Sequence[AuditRow]) -> ArchivePack:
    """The rows (one at least, in order) as a pack."""
    lines = (json.dumps({**values(row), "hash": row.hash.hex()}, ensure_ascii=False) for row in rows)
    last = rows[-1]
    content = zlib.compress("\n".join(lines).encode(), _LEVEL)
    return ArchivePack(rows[0].sequence, Anchor(last.sequence, last.hash), last.time, content)


def unpacked(pack: ArchivePack) -> list[AuditRow]:
    """The rows of a pack; none when it is damaged, so that the chain is seen to break there."""
    try:
        return [_row(line) for line in zlib.decompress(pack.content).decode().split("\n")]
    except (zlib.error, ValueError, KeyError, TypeError):
        return []


def _row(line: str) -> AuditRow:
    found = json.loads(line)
    span = found["duration_us"]
    entry = AuditEntry(
        action=found["action"],
        actor=found["actor"],
        source=found["source"],
        target=found["target"],
        result=found["result"],
        parameters=found["parameters"],
        digest=bytes.fromhex(found["digest"]),
        duration=None if span is None else timedelta(microseconds=span),
        mapping_revision=found["mapping_revision"],
        trace=found["trace"],
        instance=found["instance"],
    )
    time = _EPOCH + timedelta(microseconds=found["time_us"])
    return AuditRow(found["sequence"], time, entry, bytes.fromhex(found["hash"]), found["format"])
