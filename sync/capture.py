"""The port to seeing changes in the HIS. Implementations: ``sync/captures/*.py``, listed in ``sync/registry.py``.

A capture compares the HIS with what the store knows and hands over the differences; the watcher makes events of them
and commits both together. What was not confirmed is found again by the next poll.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from google.protobuf.message import Message

from sync.his import CompiledWatchPort
from sync.store import RowState


class CaptureSuspended(Exception):
    """Too many rows have vanished at once: an archive job, a stale replica, a wrong filter. Nothing is reported.

    Heals by itself when the rows are back; a person who knows better may ``reseed``.
    """

    def __init__(self, stream: str, missing: int, known: int) -> None:
        super().__init__(f"{missing} of {known} rows of {stream} have vanished at once")
        self.missing = missing
        self.known = known


class Change(NamedTuple):
    """One row that differs from what was known. Messages are without personal data.

    ``before`` is None for a row not known before, ``after`` for one that is gone. ``version`` counts the row's states.
    ``since``: when ``before`` was seen first. ``raw`` is the strategy's own. ``known`` and ``content``: ``before`` and
    ``after`` as the store keeps them, where the strategy has them at hand; see ``contents``.
    """

    key: str
    before: Message | None
    after: Message | None
    version: int
    since: datetime | None = None
    raw: tuple[Any, ...] = ()
    known: bytes | None = None
    content: bytes | None = None


def contents(change: Change) -> tuple[bytes | None, bytes | None]:
    """``before`` and ``after`` of a change as the store keeps them; None for one that is not there."""
    _, before, after, _, _, _, known, content = change
    if known is None and before is not None:
        known = before.SerializeToString(deterministic=True)
    if content is None and after is not None:
        content = after.SerializeToString(deterministic=True)
    return known, content


@dataclass(frozen=True, slots=True)
class Batch:
    """What one poll saw.

    ``baseline``: the stream was never seen before; its rows become known and make no events. ``quiet``: states to be
    kept that make no event either. ``unreadable``: rows that the mapping could not build; they wait. ``moved``: changes
    that are orders found again under another key by a reseed. ``has_more``: poll again at once.
    """

    watch: CompiledWatchPort
    baseline: bool
    changes: Sequence[Change]
    quiet: Sequence[RowState]
    rows: int
    unreadable: int
    moved: int = 0
    has_more: bool = False


class Capture(Protocol):
    """One strategy on one stream.

    ``rung``: what it goes by now (``D``, or the rungs of the feeds). ``missed``: changes that no feed named.
    ``trouble``: why it goes by less than the mapping says; empty when it does not.
    """

    rung: str
    missed: int
    trouble: str

    @property
    def stream(self) -> str: ...

    async def poll(self) -> Batch:
        """What has changed.

        Raises HisError, StoreError, CaptureSuspended; then the next poll starts from the same place.
        """

    def confirm(self, changes: Sequence[Change]) -> None:
        """These changes are in the store."""

    def reseed(self) -> None:
        """The next poll begins anew, as a person wants it after a restore, a move of tables, or a suspension.

        Positions and the picture in memory are dropped; the whole window is compared with the stored rows, which are
        what 160 was told. So what happened before, seen or not, is a difference and becomes an event now, and what 160
        was told already is none. Two things are otherwise than in any poll: rows that have vanished, however many, are
        set aside without events (with ``vanish = "event"``: only when they are too many to be believed, else two looks
        decide as ever); and an order that stands under another key than before is the same order, not a new one.
        """
