"""Figures of a run: a value, the baselines it was measured beside, and the noise; as a table and as JSON."""

from __future__ import annotations

import math
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Final

SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class Against:
    """A baseline of the same run. ``ratio`` is the figure's value divided by the baseline's, same unit."""

    name: str
    value: float
    ratio: float


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured thing. ``noise``: half the range over the rounds, as a share of the median; None for one round."""

    group: str
    name: str
    value: float
    unit: str
    params: dict[str, str | int] = field(default_factory=dict)
    against: tuple[Against, ...] = ()
    more: dict[str, float] = field(default_factory=dict)
    noise: float | None = None


@dataclass(slots=True)
class Report:
    """Everything of one run."""

    is_quick: bool
    date: str
    machine: dict[str, Any]
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    load_before: float = 0.0
    load_after: float = 0.0
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """The one JSON object of ``--json``."""
        return {
            "schema": SCHEMA,
            "quick": self.is_quick,
            "date": self.date,
            "machine": self.machine,
            "load": {"before": self.load_before, "after": self.load_after},
            "seconds": round(self.seconds, 1),
            "notes": list(self.notes),
            "figures": [asdict(figure) for figure in self.figures],
        }


def against(name: str, value: float, baseline: float) -> Against:
    """The ratio to a baseline."""
    return Against(name, baseline, value / baseline if baseline else 0.0)


def paired(name: str, values: Sequence[float], baselines: Sequence[float]) -> Against:
    """The median of the ratios of rounds that ran side by side: what the machine did meanwhile falls out."""
    ratios = [value / base for value, base in zip(values, baselines, strict=True) if base]
    return Against(name, float(median(baselines)), float(median(ratios)) if ratios else 0.0)


def in_turn(rounds: int, works: Sequence[Callable[[], float]]) -> list[list[float]]:
    """What each work says in each round. Every second round begins with the last, so that no place is better."""
    found: list[list[float]] = [[] for _ in works]
    for number in range(rounds):
        order = range(len(works)) if number % 2 == 0 else reversed(range(len(works)))
        for at in order:
            found[at].append(works[at]())
    return found


def middle(values: Sequence[float]) -> tuple[float, float | None]:
    """Median, and half the range as a share of it (None for fewer than two values)."""
    found = float(median(values))
    if len(values) < 2 or not found:
        return found, None
    return found, (max(values) - min(values)) / 2 / found


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest-rank percentile; 0 for no values."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def describe_machine() -> dict[str, Any]:
    """What the run stood on: processor, cores, Python. No host name, no user."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def load_average() -> float:
    """Load of the last minute; 0 where the system has no such thing."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return 0.0


def table(report: Report) -> str:
    """The figures for people, one line each, group by group."""
    lines: list[str] = []
    group = ""
    for figure in report.figures:
        if figure.group != group:
            group = figure.group
            lines += ["", f"── {group}"]
        lines.append(_line(figure))
    return "\n".join(lines)


def _line(figure: Figure) -> str:
    title = " · ".join([figure.name, *(_param(*item) for item in figure.params.items())])
    noise = "" if figure.noise is None else f"±{figure.noise * 100:.0f}%"
    parts = [f"{title:<58}", f"{number(figure.value):>9} {figure.unit:<11}", f"{noise:<6}"]
    parts.append(f"{'  '.join(f'{name} {number(value)}' for name, value in figure.more.items()):<40}")
    parts += [f"{item.ratio:.2f} × {item.name} ({number(item.value)})" for item in figure.against]
    return "  " + "  ".join(parts).rstrip()


def _param(name: str, value: str | int) -> str:
    return f"{name}={value}" if isinstance(value, int) else value


def number(value: float) -> str:
    """Three significant digits or so."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def rounds_of(count: int, measures: Sequence[Callable[[], float]]) -> list[list[float]]:
    """Run the measures in turn, ``count`` times round, so that a slow minute hits all alike; values by measure."""
    found: list[list[float]] = [[] for _ in measures]
    for _ in range(count):
        for at, measure in enumerate(measures):
            found[at].append(measure())
    return found


def timer(work: Callable[[], Any], seconds: float) -> Callable[[], float]:
    """Microseconds for one ``work``, measured over about that long, warmed up before."""

    def measure_once() -> float:
        work()
        started, count = time.perf_counter(), 0
        while (now := time.perf_counter()) < started + seconds:
            work()
            count += 1
        return (now - started) / max(1, count) * 1e6

    return measure_once
