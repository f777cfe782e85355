"""Figures of the process for status and, later, metrics: plain counters by name, no personal data in a name.

Written from the event loop only; reading a snapshot from another thread is safe.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping


class Figures:
    """Counters and sums: ``calls``, ``calls:CatalogService.ListSlots``, ``refusals:SLOT_TAKEN``, ``seconds:…``."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
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

    def call_ended(self, operation: str, seconds: float, refusal: str = "") -> None:
        """Count one call: its time, and the name of its reason when it was refused."""
        self.add("calls")
        self.add(f"calls:{operation}")
        self.add(f"seconds:{operation}", seconds)
        self.highest(f"seconds_max:{operation}", seconds)
        if refusal:
            self.add("refusals")
            self.add(f"refusals:{refusal}")
            self.add(f"refusals:{operation}")
