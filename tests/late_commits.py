"""The late-commit race: writers that stamp early and commit late, roll back, share stamps; a reader must not miss.

    race = Race(connect, dialect)   # on a table reg (id, state, stamp) with rows 0 to rows-1
    race.run(look)                  # writers in threads, `look` called again and again beside them
    race.run_all([one, other])      # several readers beside the same writers, each in a thread of its own

A transaction is one BEGIN … COMMIT (or ROLLBACK, one in ten) of a connection of its own that changes two rows: their
state, their stamp, and two rows of the change table. Half of them stay open until others have committed meanwhile, one
in a hundred until very many have. What a reader holds at the end is compared with the table's final states. Everything
is bounded by counts; pauses inside a transaction are waits for other writers' commits, so that late commits really
happen, however slow the machine is.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

Connect = Callable[[], Any]
"""A DB-API connection with autocommit off."""
ROWS_EACH = 2
"""Rows that one transaction changes."""
_LONG = 0.01  # of the transactions
_MANY = (50, 300)  # commits of others that a long one waits for
_FEW = (1, 6)
_BETWEEN = 150  # a reader looks after 1 to that many commits: none looks in step with another


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one database writes what the race needs.

    ``mark``: placeholder of the driver. ``stamp``: SQL of the stamp. ``begin``: run first in each transaction.
    ``also``: run once in each transaction with the ids of its ``ROWS_EACH`` rows (a change table's trigger, played by
    the writer).
    """

    mark: str
    stamp: str
    begin: str = ""
    also: str = ""
    waits: bool = True
    """Whether others can commit while a transaction is open; not where there is one writer at a time."""


@dataclass(slots=True)
class Race:
    """``writers`` threads, each with ``rounds`` transactions on its share of ``rows`` rows."""

    connect: Connect
    dialect: Dialect
    writers: int = 6
    rounds: int = 25
    rows: int = 40
    seed: int = 7
    commits: int = field(default=0)
    """Transactions that have ended so far, also those that were rolled back."""
    rolled_back: int = field(default=0)
    _turn: threading.Condition = field(default_factory=threading.Condition)
    _live: int = field(default=0)

    def run(self, look: Callable[[], None]) -> None:
        """Run the writers; ``look`` in this thread until they are done, and twice more. Raises what a writer raises."""
        with ThreadPoolExecutor(self.writers) as pool:
            writing = self._start(pool)
            while self._live:
                look()
            for ended in writing:
                ended.result()
        look()
        look()

    def run_all(self, looks: Sequence[Callable[[], None]]) -> None:
        """Run the writers and beside them each of ``looks`` in a thread, now and then; twice more when they are done.

        Raises what a writer or a reader raises.
        """
        with ThreadPoolExecutor(self.writers + len(looks)) as pool:
            writing = self._start(pool)
            reading = [pool.submit(self._read, look, number) for number, look in enumerate(looks)]
            for ended in [*writing, *reading]:
                ended.result()

    def _start(self, pool: ThreadPoolExecutor) -> list[Any]:
        self._live = self.writers
        return [pool.submit(self._write, number) for number in range(self.writers)]

    def _read(self, look: Callable[[], None], number: int) -> None:
        chance = random.Random(f"{self.seed}/{number}")
        while self._live:
            with self._turn:
                until = self.commits + chance.randrange(1, _BETWEEN)
                self._turn.wait_for(lambda until=until: self.commits >= until or not self._live)
            look()
        look()
        look()

    def _write(self, number: int) -> None:
        chance = random.Random(self.seed * 1000 + number)
        # Rows of its own: the race is about commits, not about locks.
        own = range(number, self.rows, self.writers)
        try:
            connection = self.connect()
            try:
                for turn in range(self.rounds):
                    self._transaction(connection, chance, own, f"{number}-{turn}")
            finally:
                connection.close()
        finally:
            with self._turn:
                self._live -= 1
                self._turn.notify_all()

    def _transaction(self, connection: Any, chance: random.Random, own: range, state: str) -> None:
        cursor = connection.cursor()
        mark = self.dialect.mark
        if self.dialect.begin:
            cursor.execute(self.dialect.begin)
        keys = chance.sample(own, k=ROWS_EACH)
        cursor.execute(
            f"UPDATE reg SET state = {mark}, stamp = {self.dialect.stamp} WHERE id IN ({mark}, {mark})", (state, *keys)
        )
        if self.dialect.also:
            cursor.execute(self.dialect.also, keys)
        if self.dialect.waits and chance.random() < 0.5:  # others commit while this one is open
            self._wait_for_others(chance.randrange(*(_MANY if chance.random() < 2 * _LONG else _FEW)))
        back = chance.random() < 0.1
        if back:
            connection.rollback()
        else:
            connection.commit()
        with self._turn:
            self.commits += 1
            self.rolled_back += back
            self._turn.notify_all()

    def _wait_for_others(self, count: int) -> None:
        with self._turn:
            until = self.commits + count
            # Bounded: all others may be waiting, too.
            self._turn.wait_for(lambda: self.commits >= until or self._live <= 1, timeout=0.2)
