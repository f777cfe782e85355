"""What this room needs of the HIS: the two protocols that ``his_db.access.HisAccess`` fulfils.

Deadlines are readings of ``time.monotonic()``; None means the operation's own limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from google.protobuf.message import Message


class HisPort(Protocol):
    """Runs canonical operations. Raises the errors of ``his_db.errors``."""

    async def read(self, operation: str, request: Message, *, deadline: float | None = None) -> Message: ...

    async def write(self, operation: str, request: Message, *, key: str, deadline: float | None = None) -> Message:
        """``key``: 32 hex digits, the same for every attempt of one command."""


class EventRulePort(Protocol):
    """One ``[[event]]`` of a watch."""

    @property
    def kind(self) -> int:
        """A value of his160 EventKind."""

    @property
    def occurred(self) -> str | None:
        """Name of the Timestamp field that says when it happened."""

    def matches(self, before: Message | None, after: Message | None) -> bool: ...


class CompiledWatchPort(Protocol):
    """A watch, compiled. ``vanish`` is ``ignore`` or ``event``, ``subject`` is ``appointment`` or ``schedule``."""

    @property
    def name(self) -> str: ...

    @property
    def subject(self) -> str: ...

    @property
    def message_class(self) -> type[Message]: ...

    @property
    def poll(self) -> timedelta | None:
        """How often to look; None: the site's default."""

    @property
    def platform_operators(self) -> frozenset[str]: ...

    @property
    def vanish(self) -> str: ...

    @property
    def rules(self) -> Sequence[EventRulePort]: ...

    def build(self, row: tuple[Any, ...], /) -> Message:
        """The message of a raw row. Raises MappingMismatch."""

    def window_contains(self, message: Message, now: datetime, /) -> bool: ...


class SnapshotPort(Protocol):
    """All rows of a watch's window, read in one statement: key text and raw row.

    ``now``: when it was read. ``refused``: rows left out because they have no key.
    """

    @property
    def rows(self) -> Sequence[tuple[str, tuple[Any, ...]]]: ...

    @property
    def now(self) -> datetime: ...

    @property
    def refused(self) -> int: ...


class WatchPort(Protocol):
    """What the capture needs. Raises the errors of ``his_db.errors``."""

    def watch(self, name: str, /) -> CompiledWatchPort: ...

    async def snapshot(self, name: str, /, *, watch: Any = None) -> SnapshotPort:
        """``watch``: read as this one says, which ``watch(name)`` answered before a reload; None: the one in use."""
