"""The snapshot as Prometheus metrics. Names and labels hold operations, parts and reasons, never a value of a patient.

One table says what the figures of the process mean; a figure that is not in it is shown as ``his160_figure`` under its
own name, so that none is hidden.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from his160.v1 import agent_pb2
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from agent.figures import Histogram
from agent.version import VERSION

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What ``kind`` or ``kind:label`` counts. Without ``label`` the figure stands alone. ``rises``: it is a counter."""

    name: str
    help: str
    label: str = ""
    rises: bool = True


_CALLS: Final = frozenset({"seconds", "seconds_max", "calls"})  # the histogram says it better
_MEANINGS: Final[Mapping[str, _Meaning]] = {
    "refusals": _Meaning("refusals", "Calls refused, by reason or operation.", "of"),
    "statements": _Meaning("statements", "Statements of a lane that reached the HIS.", "lane"),
    "queued": _Meaning("lane_queue", "Calls that wait in a lane.", "lane", rises=False),
    "shed_queue": _Meaning("shed_queue", "Calls refused because a lane was full.", "lane"),
    "shed_slow": _Meaning("shed_slow", "Reads refused because the HIS was slow.", "source"),
    "shed_quiet_hours": _Meaning("shed_quiet_hours", "Bulk reads refused in quiet hours.", "source"),
    "breaker_slow": _Meaning("breaker_slow", "0 closed, 1 half-open, 2 open.", "source", rises=False),
    "breaker_connect": _Meaning("breaker_connect_failures", "Failed connects in a row.", "source", rises=False),
    "slow_share": _Meaning("slow_share", "Share of slow reads.", "source", rises=False),
    "reads_coalesced": _Meaning("reads_coalesced", "Reads that shared another's statement."),
    "reads_cached": _Meaning("reads_cached", "Reads answered from the micro-cache."),
    "refused_switched_off": _Meaning("refused_switched_off", "Calls of operations that are switched off."),
    "refused_degraded": _Meaning("refused_degraded", "Calls of operations whose HIS objects have changed."),
    "mapping_old_calls": _Meaning("mapping_old_calls", "Calls that still run on a former mapping.", rises=False),
    "job_runs": _Meaning("job_runs", "Runs of periodic work that went well.", "job"),
    "job_failures": _Meaning("job_failures", "Runs of periodic work that failed.", "job"),
    "pruned": _Meaning("pruned_rows", "Finished rows deleted from the state store."),
    "refunds": _Meaning("refunds", "Refunds not back yet; ABNORMAL ones wait for a person.", "state", rises=False),
    "trades_unconfirmed": _Meaning("trades_unconfirmed", "Paid, never confirmed, and not back yet.", rises=False),
    "watch_changes": _Meaning("watch_changes", "Changes seen in the HIS.", "stream"),
    "watch_events": _Meaning("watch_events", "Events made of changes.", "stream"),
    "watch_suppressed": _Meaning("watch_suppressed", "Changes that were the platform's own.", "stream"),
    "watch_strange": _Meaning("watch_strange", "Changes of order that the state machine does not know.", "stream"),
    "watch_rows": _Meaning("watch_rows", "Rows in the window of a watch.", "stream", rises=False),
    "watch_unreadable": _Meaning("watch_unreadable", "Rows that the mapping cannot read.", "stream", rises=False),
    "wakes": _Meaning("wakes", "Wake-up signals of a database.", "source"),
    "drop_files": _Meaning("drop_files", "Dropped files that were taken.", "drop"),
    "drop_duplicates": _Meaning("drop_duplicates", "Dropped files whose content was taken before.", "drop"),
    "drop_refused": _Meaning("drop_refused", "Dropped files that were refused as a whole.", "drop"),
    "drop_bad_rows": _Meaning("drop_bad_rows", "Rows of dropped files that could not be used.", "drop"),
    "drop_waiting": _Meaning("drop_waiting", "Dropped files that wait.", "drop", rises=False),
    "drop_quarantine": _Meaning("drop_quarantine", "Files in quarantine: for a person.", "drop", rises=False),
    "watch_paused": _Meaning("watch_paused", "1 while a person has paused the watch.", "stream", rises=False),
    "watch_reseeds": _Meaning("watch_reseeds", "Times that a person has had the watch begin anew.", "stream"),
    "watch_missed": _Meaning(
        "watch_missed",
        "Changes that no feed named, seen by the reconciler or among open orders: the miss rate.",
        "stream",
    ),
}


class _Snapshot(Collector):
    """One scrape."""

    def __init__(self, status: agent_pb2.GetStatusResponse, calls: Mapping[str, Histogram]) -> None:
        self._status = status
        self._calls = calls

    def collect(self) -> Iterable[Metric]:
        status = self._status
        about = GaugeMetricFamily("his160_info", "What this agent is.", labels=("site", "instance", "version"))
        about.add_metric((status.site, status.instance, VERSION), 1)
        yield about
        health = GaugeMetricFamily("his160_health", "1 ok, 2 degraded, 3 down, 0 not known.", labels=("part",))
        health.add_metric(("",), status.health)
        for component in status.components:
            health.add_metric((component.name,), component.health)
        yield health
        yield from self._gauges()
        yield from _calls(self._calls)
        yield from _figures(status.figures)

    def _gauges(self) -> Iterable[Metric]:
        status = self._status
        for name, words, value in (
            ("outbox_pending", "Events on their way.", status.outbox_pending),
            ("outbox_dead", "Events that wait for a person.", status.outbox_dead),
            ("unknown_outcomes", "Commands whose outcome is not known.", status.unknown_outcomes),
            ("resident_bytes", "Memory of the process.", status.resident_bytes),
            ("start_time_seconds", "When the process started.", status.start_time.seconds),
        ):
            yield GaugeMetricFamily(f"his160_{name}", words, value=float(value))


def exposition(status: agent_pb2.GetStatusResponse, calls: Mapping[str, Histogram]) -> bytes:
    """The text that Prometheus reads."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(status, calls))
    return generate_latest(registry)


def _calls(calls: Mapping[str, Histogram]) -> Iterable[Metric]:
    family = HistogramMetricFamily("his160_call_seconds", "Time of calls, by operation.", labels=("operation",))
    for operation, histogram in calls.items():
        family.add_metric((operation,), buckets=histogram.cumulative(), sum_value=histogram.total)
    yield family


def _figures(figures: Mapping[str, float]) -> Iterable[Metric]:
    by_kind: dict[str, list[tuple[str, float]]] = defaultdict(list)
    rest: list[tuple[str, float]] = []
    for name, value in figures.items():
        kind, _, label = name.partition(":")
        if kind in _CALLS:
            continue
        meaning = _MEANINGS.get(kind)
        if meaning is None or bool(label) != bool(meaning.label):
            if not (meaning is not None and meaning.label):  # the sum over a label is the reader's to make
                rest.append((name, value))
        else:
            by_kind[kind].append((label, value))
    for kind, values in by_kind.items():
        meaning = _MEANINGS[kind]
        labels = (meaning.label,) if meaning.label else ()
        make = CounterMetricFamily if meaning.rises else GaugeMetricFamily
        family = make(f"his160_{meaning.name}", meaning.help, labels=labels)
        for label, value in values:
            family.add_metric((label,) if labels else (), value)
        yield family
    other = GaugeMetricFamily("his160_figure", "Figures without a name of their own.", labels=("name",))
    for name, value in rest:
        other.add_metric((name,), value)
    yield other
