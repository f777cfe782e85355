"""What this room needs of the HIS: the two protocols that ``his_db.access.HisAccess`` fulfils.

Deadlines are readings of ``time.monotonic()``; None means the operation's own limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from google.protobuf.message import Message


class HisPort(Protocol):
    """Runs canonical operations. Raises the errors of ``his_db.errors``."""

    async def read(self, operation: str, request: Message, *, deadline: float | None = None) -> Message: ...

    async def write(self, operation: str, request: Message, *, key: str, deadline: float | None = None) -> Message:
        """``key``: 32 hex digits, the same for every attempt of one command."""

    def enter(self, operation: str, /) -> None:
        """Raises SwitchedOff when a person has switched the operation off."""

    def maps(self, operation: str, /) -> bool:
        """Whether the site has a mapping for the operation."""


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

    @property
    def feeds(self) -> Sequence[Any]:
        """What tells which rows have changed; empty: the whole window is read at each poll."""

    @property
    def reads_keys(self) -> bool:
        """Whether rows can be read by their keys."""

    @property
    def reconcile(self) -> timedelta:
        """How often the whole window is read behind the feeds."""

    @property
    def orders(self) -> timedelta:
        """How often open orders of the platform are read by key behind the feeds; zero: never."""

    def key_of(self, row: tuple[Any, ...], /) -> Any:
        """The native value of a raw row's key."""

    @property
    def columns(self) -> Sequence[str]:
        """Columns that are mapped, in lower case; the key's first."""

    def given(self, values: Mapping[str, Any], /) -> tuple[str | None, tuple[Any, ...]]:
        """Key text and raw row of a row given by column name (lower case); no key text: it cannot be told apart."""

    def build(self, row: tuple[Any, ...], /) -> Message:
        """The message of a raw row. Raises MappingMismatch."""

    def build_all(self, rows: Sequence[tuple[Any, ...]], /) -> Sequence[Message] | None:
        """The messages of raw rows in their order, cheaper than one by one. None: ask ``build``, it is for it to say
        whether each of them is right."""

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


class FeedLookPort(Protocol):
    """What feeds have seen: positions from here on, native key values by their text.

    ``everything``: the whole window must be read. ``lost``: why the positions are no good any more.
    """

    @property
    def positions(self) -> Sequence[Any]: ...

    @property
    def keys(self) -> Mapping[str, Any]: ...

    @property
    def everything(self) -> bool: ...

    @property
    def lost(self) -> str: ...


class WatchPort(Protocol):
    """What the capture needs. Raises the errors of ``his_db.errors``."""

    def watch(self, name: str, /) -> CompiledWatchPort: ...

    async def snapshot(self, name: str, /, *, watch: Any = None, keys: Sequence[Any] | None = None) -> SnapshotPort:
        """``watch``: read as this one says, which ``watch(name)`` answered before a reload; None: the one in use.

        ``keys``: native key values; only their rows.
        """

    async def begin_feeds(self, name: str, /, *, watch: Any) -> Sequence[Any]:
        """Where the feeds of a watch stand now: every change that commits from here on will be seen."""

    async def look(self, name: str, positions: Sequence[Any], /, *, watch: Any) -> FeedLookPort:
        """What the feeds have seen since."""
