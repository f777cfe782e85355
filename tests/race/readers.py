"""Readers of the late-commit race: the rungs as a watch uses them, the whole window, and the naive poller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Protocol

from his_db.feed import FeedSpec, SessionRun
from his_db.mapping.check_feed import feed_of
from his_db.source import engine_for
from tests.race.beds import Bed

_ROWS = 100_000
_PATIENCE = timedelta(minutes=10)
_KEYS = 200  # read by one statement, as a watch does


class RaceReader(Protocol):
    """Looks again and again; ``known`` is what it would have told."""

    known: dict[int, str]
    looks: int
    windows: int
    """Looks after which everything was read."""

    def look(self) -> None: ...

    def close(self) -> None: ...


class _Session:
    """A read session of the engine under test."""

    def __init__(self, bed: Bed) -> None:
        # The race asks what is missed, not how long a look takes on a machine that is busy.
        self._engine = engine_for(replace(bed.settings, statement_timeout=_PATIENCE))
        self._session = self._engine.open(read_only=True)
        self.run = SessionRun(self._session, max_rows=_ROWS)
        self.looks = 0
        self.windows = 0
        self.known = self.states("")

    def states(self, where: str, values: Mapping[str, Any] | None = None) -> dict[int, str]:
        """States of rows, read in one statement."""
        rows = self.run(f"SELECT id, state FROM reg{where}", values or {}).rows
        return {int(key): str(state) for key, state in rows}

    def close(self) -> None:
        self._session.close()
        self._engine.dispose()


class Rung(_Session):
    """What a watch does with the keys that a feed names: reads these rows, and knows their last state."""

    def __init__(self, bed: Bed, spec: FeedSpec) -> None:
        super().__init__(bed)
        found = feed_of(bed.settings.engine, spec.rung)
        assert found is not None
        self.feed, self.spec = found, spec
        self.named = 0
        self.position = self.feed.begin(self.run, spec)
        self.known = self.states("")  # behind the feed's beginning

    def look(self) -> None:
        seen = self.feed.look(self.run, self.spec, self.position)
        self.position = seen.position
        self.looks += 1
        self.named += len(seen.keys)
        if seen.everything:
            self.windows += 1
            self.known = self.states("")
            return
        keys = list(seen.keys)
        for first in range(0, len(keys), _KEYS):
            names = {f"k{at}": key for at, key in enumerate(keys[first : first + _KEYS])}
            self.known.update(self.states(f" WHERE id IN ({', '.join(f':{name}' for name in names)})", names))


class Window(_Session):
    """Rung D: the whole window in one statement, each time."""

    def look(self) -> None:
        self.looks += 1
        self.windows += 1
        self.known = self.states("")


class Naive(_Session):
    """``stamp > the highest seen``: what everybody writes first."""

    def __init__(self, bed: Bed) -> None:
        super().__init__(bed)
        self._last: Any = None

    def look(self) -> None:
        self.looks += 1
        bound = "" if self._last is None else " AND stamp > :last"
        values = {} if self._last is None else {"last": self._last}
        for key, state, stamp in self.run(
            f"SELECT id, state, stamp FROM reg WHERE stamp IS NOT NULL{bound}", values
        ).rows:
            self.known[int(key)] = str(state)
            self._last = stamp if self._last is None or stamp > self._last else self._last


def missed(known: Mapping[int, str], final: Mapping[int, str]) -> int:
    """Rows whose final state a reader does not know."""
    return sum(known.get(key) != state for key, state in final.items())
