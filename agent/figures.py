"""Figures of the process for status and, later, metrics: plain counters by name, no personal data in a name.

Written from the event loop only; reading a snapshot from another thread is safe.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds in seconds; one more bucket holds what is above."""


@dataclass(slots=True)
class Histogram:
    """How long calls took. ``counts``: one for each of ``BUCKETS`` and the rest, not cumulative."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        """One more call."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        """Upper bound and how many calls took at most that long, as Prometheus wants it."""
        bounds = [*map(str, BUCKETS), "+Inf"]
        return [(bound, float(count)) for bound, count in zip(bounds, accumulate(self.counts), strict=True)]


class Figures:
    """Counters and sums: ``calls``, ``calls:CatalogService.ListSlots``, ``refusals:SLOT_TAKEN``, ``seconds:…``."""

    __slots__ = ("_histograms", "_values")

    def __init__(self) -> None:
        self._histograms: dict[str, Histogram] = {}
        self._values: defaultdict[str, float] = defaultdict(float)

    def add(self, name: str, value: float = 1.0) -> None:
        """Add to a figure."""
        self._values[name] += value

    def put(self, name: str, value: float) -> None:
        """Set a figure to what it is now."""
        self._values[name] = value

    def highest(self, name: str, value: float) -> None:
        """Keep the highest value seen."""
        if value > self._values[name]:
            self._values[name] = value

    def value(self, name: str) -> float:
        """A figure; 0 when it was never written."""
        return self._values.get(name, 0.0)

    def snapshot(self) -> Mapping[str, float]:
        """All figures now, by name."""
        return dict(sorted(self._values.items()))

    def histograms(self) -> Mapping[str, Histogram]:
        """The time of calls, by operation."""
        return dict(sorted(self._histograms.items()))

    def call_ended(self, operation: str, seconds: float, refusal: str = "") -> None:
        """Count one call: its time, and the name of its reason when it was refused."""
        self._histograms.setdefault(operation, Histogram()).add(seconds)
        self.add("calls")
        self.add(f"calls:{operation}")
        self.add(f"seconds:{operation}", seconds)
        self.highest(f"seconds_max:{operation}", seconds)
        if refusal:
            self.add("refusals")
            self.add(f"refusals:{refusal}")
            self.add(f"refusals:{operation}")
