"""A heat: a fresh HIS and a fresh store, one life of the agent after the other, each ended by SIGKILL; then the books."""

from __future__ import annotations

import os
import random
import select
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from his_db.feed import FeedSpec
from tests.bounds import PATIENCE
from tests.kills.books import Findings, compare, lines
from tests.kills.victim import Site, forked, generation
from tests.kills.window import Windows, opened
from tests.race.beds import Bed

ORDERS: Final = 400
LABELS: Final = ("before", "inside", "after", "unsent", "sent")
_AT_ANY_TIME: Final = "any time"
_NUMBERS: Final = (1, 3)
_MOMENTS: Final = (0.005, 0.15)  # seconds after the fork
_STEP: Final = 10  # milliseconds between two steps of the windows
_LIFE: Final = 1.5  # seconds after which a life that does not come to its point is ended all the same
_STEPS: Final = 10  # of the windows in one life


@dataclass(slots=True)
class Count:
    """What one rung met on one engine, over all heats. ``kills``: by where they fell."""

    engine: str
    rung: str
    store: str
    kills: Counter[str] = field(default_factory=Counter)
    commits: int = 0
    events: int = 0
    again: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    contradictory: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, found: Findings) -> None:
        self.events += found.events
        self.again += found.again
        self.lost += found.lost
        self.doubled += found.doubled
        self.contradictory += found.contradictory


def feed_toml(spec: FeedSpec | None) -> str:
    """The rung as a mapping says it; None: the whole window, at each poll."""
    if spec is None:
        return ""
    said = [f'rung = "{spec.rung}"', f'table = "{spec.table}"', f'key = "{spec.key}"']
    said += [f'column = "{spec.column}"'] if spec.column else []
    said += [f'margin = "{round(spec.margin.total_seconds() * 1000)}ms"'] if spec.rung == "cursor" else []
    return "\n".join(["[[feed]]", *said, ""])


def play(
    bed: Bed, spec: FeedSpec | None, store: Path | str, folder: Path, count: Count, *, kills: int, seed: int
) -> None:
    """``kills`` deaths and a last life that comes to its end; what the books say goes to ``count``."""
    began = time.monotonic()
    chance = random.Random(seed)
    opened(bed)
    site = Site(bed.settings, generation(folder, bed.settings.engine, feed_toml(spec)), store, folder / "book")
    site.book.touch()
    _ended(forked(site, "never"), "the first look")
    windows = Windows(bed, bed.dialects["clock"], chance)
    for _ in range(kills):
        count.kills[_one_life(site, windows, chance)] += 1
    windows.close()
    _ended(forked(site, "never"), "the last life")
    final = {str(key): state for key, state in bed.final().items()}
    count.add(compare(final, lines(site.book.read_text(encoding="utf-8"))))
    count.commits += windows.commits
    count.seconds += time.monotonic() - began


def _one_life(site: Site, windows: Windows, chance: random.Random) -> str:
    """Lives and dies while the windows work; where it has died."""
    label = chance.choice((*LABELS, _AT_ANY_TIME))
    moment = chance.uniform(*_MOMENTS) if label == _AT_ANY_TIME else _LIFE
    point = "none" if label == _AT_ANY_TIME else f"{label}:{chance.randint(*_NUMBERS)}"
    child = forked(site, point)
    died = _Death(child)
    until = time.monotonic() + moment
    steps = 0
    while not died.within(min(_STEP, max(0.0, (until - time.monotonic()) * 1000))):
        if time.monotonic() >= until:
            os.kill(child, signal.SIGKILL)  # of ours: it is not waited for yet, so its number is nobody else's
            label = _AT_ANY_TIME
            died.within(PATIENCE * 1000)
            break
        if steps < _STEPS:
            windows.step()
            steps += 1
    died.close()
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status), f"{point}: it ended by itself, {status}"
    return label


class _Death:
    """Waits for the end of a process without asking again and again."""

    def __init__(self, child: int) -> None:
        self._descriptor = os.pidfd_open(child)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)

    def within(self, milliseconds: float) -> bool:
        return bool(self._poll.poll(milliseconds))

    def close(self) -> None:
        os.close(self._descriptor)


def _ended(child: int, name: str) -> None:
    status = os.waitpid(child, 0)[1]
    assert status == 0, f"{name} did not come to its end: {status}"
