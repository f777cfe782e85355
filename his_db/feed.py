"""The port to a feed: what tells, cheaply and without missing one, which rows of a table have changed.

A feed is a rung of the capture ladder (A: the engine's own feed in order of commits, B: a column that is safe against
late commits, C: a time column behind a barrier on open transactions). It says which keys of a watch must be read anew;
reading, comparing and the events are those of the snapshot diff, which goes on behind every feed as reconciler. So a
feed may name a key too often, never too seldom. Positions live in memory: whoever begins reads the whole window once.

Implementations: ``his_db/feeds/<engine>.py``, listed in ``his_db/registry.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

from his_db.document.finding import Words
from his_db.engine import Rows, Session

Position = Mapping[str, Any]
"""Where a feed stands. Values are the database's own, never rounded; only the feed that made it reads it."""

Run = Callable[[str, Mapping[str, Any]], Rows]
"""Runs one statement with named binds on the watch's connection, in a transaction of its own."""


class SessionRun:
    """``Run`` on a session. Feeds that need more than statements (a replication connection) find it in ``session``."""

    def __init__(self, session: Session, *, max_rows: int) -> None:
        self.session = session
        self._max_rows = max_rows

    def __call__(self, sql: str, values: Mapping[str, Any]) -> Rows:
        return self.session.run(sql, values, max_rows=self._max_rows)


class PositionLost(Exception):
    """The feed cannot go on from here: expired, restored database, truncated table. The whole window must be read.

    The text is English, without values of rows.
    """


@dataclass(frozen=True, slots=True)
class FeedSpec:
    """One ``[[feed]]`` of a watch.

    ``key``: column with the value of the watch's key; empty: a change means that the whole window is read. ``column``:
    what the rung goes by (a time, a rowversion). ``where``: SQL that bounds what is looked at. ``margin``: subtracted
    from every stamp, for clocks that differ. ``gap``: how long a missing number may still come.
    """

    rung: str
    table: str
    key: str = ""
    column: str = ""
    where: str = ""
    margin: timedelta = timedelta(seconds=2)
    gap: timedelta = timedelta(minutes=10)
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def selected(self) -> str:
        """What a look selects: the key, or a constant where there is none."""
        return self.key or "1"

    def also(self) -> str:
        """The bound as a further condition."""
        return f" AND ({self.where})" if self.where else ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look has found. ``keys``: native values of changed keys. ``everything``: the whole window must be read."""

    position: Position
    keys: frozenset[Any] = frozenset()
    everything: bool = False


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a rung cannot be used here, and what the DBA would have to do."""

    words: Words
    fix: Words


class Feed(Protocol):
    """One rung on one engine. Stateless; used by the lane's thread. Methods raise the driver's exceptions."""

    rung: str
    grade: str
    """``A``, ``B`` or ``C``."""
    needs_column: bool

    def begin(self, run: Run, spec: FeedSpec) -> Position:
        """Where it stands now: every change that commits from here on will be told."""

    def look(self, run: Run, spec: FeedSpec, position: Position) -> Seen:
        """What has changed since. Raises PositionLost."""

    def obstacles(self, run: Run, spec: FeedSpec) -> list[Obstacle]:
        """Why it cannot be used here; empty when it can. Raises the driver's exceptions for what it may not ask."""


def seen(spec: FeedSpec, position: Position, rows: Rows, at: int = 0) -> Seen:
    """The keys in a column of rows; a row without a key, or a spec without one, means everything."""
    if not rows.rows:
        return Seen(position)
    if not spec.key:
        return Seen(position, everything=True)
    keys = {row[at] for row in rows.rows}
    return Seen(position, frozenset(key for key in keys if key is not None), everything=None in keys)
