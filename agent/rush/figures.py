"""Numbers of a rush. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agent.rush.patient import Story


@dataclass(frozen=True, slots=True)
class Times:
    """Latencies of calls: how many, and percentiles in milliseconds."""

    calls: int
    p50: float
    p99: float
    most: float

    def summary(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {"calls": self.calls, "p50_ms": self.p50, "p99_ms": self.p99, "max_ms": self.most}


def times(seconds: Sequence[float]) -> Times:
    """Of latencies in seconds; zeros for none."""
    if not seconds:
        return Times(0, 0.0, 0.0, 0.0)
    found = sorted(seconds)
    return Times(len(found), _ms(_percentile(found, 0.50)), _ms(_percentile(found, 0.99)), _ms(found[-1]))


@dataclass(frozen=True, slots=True)
class Fairness:
    """``in_order``: share of the served who were among the first to arrive, as many as were served (1.0: strictly in
    order; ``by_chance``: what a lottery would give). ``worst_wait``: seconds from arrival to the end, of anybody;
    ``worst_served``: of those who were served."""

    served: int
    in_order: float
    by_chance: float
    worst_wait: float
    worst_served: float

    def summary(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {
            "served": self.served,
            "in_order": round(self.in_order, 3),
            "by_chance": round(self.by_chance, 3),
            "worst_wait_seconds": round(self.worst_wait, 2),
            "worst_wait_of_served_seconds": round(self.worst_served, 2),
        }


def fairness(stories: Sequence[Story]) -> Fairness:
    """How well the order of arrival was kept."""
    served = [story for story in stories if story.end.is_served]
    first = sum(story.arrival < len(served) for story in served)
    return Fairness(
        len(served),
        first / len(served) if served else 0.0,
        len(served) / len(stories) if stories else 0.0,
        max((story.ended - story.began for story in stories), default=0.0),
        max((story.ended - story.began for story in served), default=0.0),
    )


def _percentile(found: Sequence[float], share: float) -> float:
    return found[min(len(found) - 1, int(share * len(found)))]


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)
