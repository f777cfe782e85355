"""The hospital's windows: transactions of two orders each, some rolled back, some open while others commit."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any, Final

from tests.kills.books import BOOKED, CANCELLED, PAID
from tests.late_commits import ROWS_EACH, Dialect
from tests.race.beds import Bed

_NEXT: Final = {BOOKED: (PAID, CANCELLED), PAID: (CANCELLED,)}
_ROLLED_BACK: Final = 0.1
_AT_ONCE: Final = 3  # windows, where one need not wait for another


class Windows:
    """One step is the begin of a transaction or its end. Raises what the driver raises."""

    def __init__(self, bed: Bed, dialect: Dialect, chance: random.Random) -> None:
        self._dialect = dialect
        self._chance = chance
        count = _AT_ONCE if dialect.waits else 1
        self._open: dict[Any, dict[int, str]] = {bed.connect(): {} for _ in range(count)}
        self._states = dict.fromkeys(bed.final(), BOOKED)
        self.commits = 0

    def step(self) -> None:
        """Where one window writes at a time, a transaction is one step: nobody may be left waiting for it."""
        connection = self._chance.choice(list(self._open))
        if not self._open[connection]:
            self._begin(connection)
            if self._dialect.waits:
                return
        self._end(connection)

    def close(self) -> None:
        """Ends what is open, and the windows."""
        for connection in self._open:
            self._end(connection)
            with suppress(Exception):
                connection.close()

    def _begin(self, connection: Any) -> None:
        taken = {key for changes in self._open.values() for key in changes}
        free = [key for key, state in self._states.items() if state in _NEXT and key not in taken]
        if len(free) < ROWS_EACH:
            return
        changes = {key: self._chance.choice(_NEXT[self._states[key]]) for key in self._chance.sample(free, ROWS_EACH)}
        cursor = connection.cursor()
        if self._dialect.begin:
            cursor.execute(self._dialect.begin)
        mark, stamp = self._dialect.mark, self._dialect.stamp
        for key, state in changes.items():
            cursor.execute(f"UPDATE reg SET state = {mark}, stamp = {stamp} WHERE id = {mark}", (state, key))
        cursor.execute(self._dialect.also, tuple(changes))
        self._open[connection] = changes

    def _end(self, connection: Any) -> None:
        changes = self._open[connection]
        self._open[connection] = {}
        if not changes or self._chance.random() < _ROLLED_BACK:
            connection.rollback()
            return
        connection.commit()
        self.commits += 1
        self._states.update(changes)


def opened(bed: Bed) -> None:
    """Every order of the bed is booked."""
    connection = bed.connect()
    try:
        connection.cursor().execute(f"UPDATE reg SET state = '{BOOKED}'")
        connection.commit()
    finally:
        connection.close()
