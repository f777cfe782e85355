"""The port to seeing changes in the HIS. Implementations: ``sync/captures/*.py``, listed in ``sync/registry.py``.

A capture compares the HIS with what the store knows and hands over the differences; the watcher makes events of them
and commits both together. What was not confirmed is found again by the next poll.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from google.protobuf.message import Message

from sync.his import CompiledWatchPort
from sync.store import RowState


class CaptureSuspended(Exception):
    """Too many rows have vanished at once: an archive job, a stale replica, a wrong filter. Nothing is reported.

    Heals by itself when the rows are back; a person may ``accept`` the new picture.
    """

    def __init__(self, stream: str, missing: int, known: int) -> None:
        super().__init__(f"{missing} of {known} rows of {stream} have vanished at once")
        self.missing = missing
        self.known = known


@dataclass(frozen=True, slots=True)
class Change:
    """One row that differs from what was known. Messages are without personal data.

    ``before`` is None for a row not known before, ``after`` for one that is gone. ``version`` counts the row's states.
    ``since``: when ``before`` was seen first. ``raw`` is the strategy's own.
    """

    key: str
    before: Message | None
    after: Message | None
    version: int
    since: datetime | None = None
    raw: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """What one poll saw.

    ``baseline``: the stream was never seen before; its rows become known and make no events. ``quiet``: states to be
    kept that make no event either. ``unreadable``: rows that the mapping could not build; they wait.
    """

    watch: CompiledWatchPort
    baseline: bool
    changes: Sequence[Change]
    quiet: Sequence[RowState]
    rows: int
    unreadable: int


class Capture(Protocol):
    """One strategy on one stream."""

    @property
    def stream(self) -> str: ...

    async def poll(self) -> Batch:
        """What has changed.

        Raises HisError, StoreError, CaptureSuspended; then the next poll starts from the same place.
        """

    def confirm(self, changes: Sequence[Change]) -> None:
        """These changes are in the store."""

    def accept(self) -> None:
        """A person says that the vanished rows are right: the next poll takes them for gone, without events."""
