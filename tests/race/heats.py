"""The long race: heats on fresh tables, every rung of an engine beside the same writers; counts for the table."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field

from his_db.feed import FeedSpec
from his_db.mapping.check_feed import feed_of
from tests.late_commits import Race
from tests.race.beds import START, Bed
from tests.race.readers import Naive, RaceReader, Rung, Window, missed

WRITERS = 24
HEAT = 10_000
"""Transactions of one heat."""
ROWS = 3_996
"""Rows of one heat: each is changed about five times, so a state that was missed is seldom made good by a later one."""


@dataclass(slots=True)
class Count:
    """What one rung met on one engine, over all heats."""

    engine: str
    rung: str
    grade: str
    transactions: int = 0
    rolled_back: int = 0
    looks: int = 0
    windows: int = 0
    final: int = 0
    missed: int = 0
    naive: int = 0
    seconds: float = 0.0
    examples: list[str] = field(default_factory=list)


def heats(
    engine: str,
    bed: Callable[[int], AbstractContextManager[Bed]],
    rungs: Mapping[str, FeedSpec],
    *,
    stamp: str,
    transactions: int,
    seed: int,
    heat: int = HEAT,
) -> list[Count]:
    """At least ``transactions`` committed ones, in as many heats as that takes. Raises what a writer or reader raises."""
    counts = {rung: Count(engine, rung, _grade(spec)) for rung, spec in rungs.items()}
    counts["window"] = Count(engine, "window", "D")
    committed = 0
    while committed < transactions:
        with bed(ROWS) as made:
            race = Race(made.connect, made.dialects[stamp], WRITERS, heat // WRITERS, ROWS, seed + committed)
            committed += _heat(made, race, rungs, counts)
    return list(counts.values())


def _heat(bed: Bed, race: Race, rungs: Mapping[str, FeedSpec], counts: Mapping[str, Count]) -> int:
    """One heat; the transactions that it has committed."""
    began = time.monotonic()
    with ExitStack() as stack:
        readers: dict[str, RaceReader] = {rung: Rung(bed, spec) for rung, spec in rungs.items()}
        readers |= {"window": Window(bed), "naive": Naive(bed)}
        for reader in readers.values():
            stack.callback(reader.close)
        race.run_all([reader.look for reader in readers.values()])
        final = {key: state for key, state in bed.final().items() if state != START}
        naive = missed(readers["naive"].known, final)
        for name, count in counts.items():
            lost = missed(readers[name].known, final)
            count.transactions += race.commits - race.rolled_back
            count.rolled_back += race.rolled_back
            count.looks += readers[name].looks
            count.windows += readers[name].windows
            count.final += len(final)
            count.missed += lost
            count.naive += naive
            count.seconds += time.monotonic() - began
            if lost:
                count.examples.append(f"seed {race.seed}: {lost} of {len(final)}")
    return race.commits - race.rolled_back


def _grade(spec: FeedSpec) -> str:
    for engine in ("postgresql", "mysql", "sqlite"):
        found = feed_of(engine, spec.rung)
        if found is not None:
            return found.grade
    raise LookupError(spec.rung)
