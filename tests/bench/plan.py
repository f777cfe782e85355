"""How much a run measures: the full form and the quick one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of a run. Times in seconds; ``bookings`` by number of calls in flight."""

    kinds: tuple[str, ...]
    in_flight: tuple[int, ...]
    rounds: int
    read_seconds: float
    bookings: dict[int, int]
    idle_seconds: float
    singles: int
    gap: float
    bursts: int
    burst: int
    micro_rounds: int
    micro_seconds: float
    commands: int
    reload_seconds: float


FULL: Final = Plan(
    kinds=("sqlite", "postgresql"),
    in_flight=(1, 8, 32),
    rounds=3,
    read_seconds=0.6,
    bookings={1: 60, 8: 120, 32: 160},
    idle_seconds=10,
    singles=80,
    gap=0.4,
    bursts=3,
    burst=500,
    micro_rounds=5,
    micro_seconds=0.15,
    commands=400,
    reload_seconds=5,
)
QUICK: Final = Plan(
    kinds=("sqlite",),
    in_flight=(1, 8),
    rounds=1,
    read_seconds=0.3,
    bookings={1: 20, 8: 40},
    idle_seconds=2,
    singles=8,
    gap=0.4,
    bursts=1,
    burst=100,
    micro_rounds=2,
    micro_seconds=0.05,
    commands=60,
    reload_seconds=2.5,
)
