"""States of the parts for the status board: asked at every snapshot, from what the parts know, without waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from his160.v1 import agent_pb2

from agent.link.relay_link import RelayLinks
from agent.status import ComponentState, Health
from agent.switches import Switches
from his_db.guard import GuardedHis
from his_db.slow_calls import SlowState
from his_db.source import Source
from sync.delivery import Delivery
from sync.watcher import Watcher, WatcherStatus

_OK: Final = agent_pb2.HEALTH_OK
_DEGRADED: Final = agent_pb2.HEALTH_DEGRADED
_DOWN: Final = agent_pb2.HEALTH_DOWN
_CODES: Final = 5
_WATCHER: Final[Mapping[str, Health]] = {
    "starting": agent_pb2.HEALTH_UNSPECIFIED,
    "running": _OK,
    "paused": _DEGRADED,
    "suspended": _DOWN,
    "failing": _DOWN,
}


def source_states(sources: Mapping[str, Source]) -> Callable[[], Iterable[ComponentState]]:
    """``source:his`` and so on: whether the HIS databases answer."""

    def probe() -> Iterable[ComponentState]:
        for name, source in sources.items():
            status = source.status()
            slow = status.slow
            if not status.ok:
                yield ComponentState(f"source:{name}", _DOWN, status.detail, status.since)
            elif slow.state is SlowState.CLOSED:
                yield ComponentState(f"source:{name}", _OK, "", status.since)
            else:
                detail = f"{slow.share:.0%} of {slow.calls} reads were slow: reads are refused"
                yield ComponentState(f"source:{name}", _DEGRADED, detail)

    return probe


def source_figures(sources: Mapping[str, Source]) -> Callable[[], Mapping[str, float]]:
    """What each HIS is asked and spared; see docs/decisions/0009 for the names."""

    def gauge() -> Mapping[str, float]:
        found: dict[str, float] = {}
        for name, source in sources.items():
            status = source.status()
            found[f"breaker_slow:{name}"] = status.slow.state.value
            found[f"breaker_connect:{name}"] = status.failures
            found[f"slow_share:{name}"] = status.slow.share
            found[f"shed_slow:{name}"] = status.slow.refused
            found[f"shed_quiet_hours:{name}"] = status.quiet_refused
            for lane in status.lanes:
                found[f"statements:{name}.{lane.name}"] = lane.calls
                found[f"queued:{name}.{lane.name}"] = lane.queued
                found[f"shed_queue:{name}.{lane.name}"] = lane.refused
        return found

    return gauge


def operation_states(his: GuardedHis, switches: Switches) -> Callable[[], Iterable[ComponentState]]:
    """``operation:PaymentService.RefundPayment`` and so on: those that are switched off or degraded, no others."""

    def probe() -> Iterable[ComponentState]:
        for name, detail in his.degraded().items():
            yield ComponentState(f"operation:{name}", _DEGRADED, f"degraded, {detail}")
        for name in switches.names():
            yield ComponentState(f"operation:{name}", _DEGRADED, "switched off")
        if switches.trouble:
            yield ComponentState("switches", _DEGRADED, switches.trouble)

    return probe


def code_states(his: GuardedHis) -> Callable[[], Iterable[ComponentState]]:
    """``codes``: code values that calls met and no code map knows; not there while there are none."""

    def probe() -> Iterable[ComponentState]:
        found = his.unknown_codes()
        most = sorted(found.items(), key=lambda item: (-item[1], item[0]))[:_CODES]
        if most:
            listed = "; ".join(f"{where} {field} {code} ×{count}" for (where, field, code), count in most)
            rest = f"; and {len(found) - _CODES} more" if len(found) > _CODES else ""
            yield ComponentState("codes", _DEGRADED, f"no code map knows: {listed}{rest} (mapping check --online)")

    return probe


def link_states(links: RelayLinks) -> Callable[[], Iterable[ComponentState]]:
    """``link:0`` and so on, in the order of the configuration. One link of several that is up is enough to work."""

    def probe() -> Iterable[ComponentState]:
        lost = _DEGRADED if links.connected() else _DOWN
        for index, link in enumerate(links.links):
            state = link.state
            detail = "" if state.connected else (state.last_detail or "not connected yet")
            since = state.connected_since or state.lost_since
            yield ComponentState(f"link:{index}", _OK if state.connected else lost, detail, since)

    return probe


def watcher_states(watchers: Callable[[], Iterable[Watcher]]) -> Callable[[], Iterable[ComponentState]]:
    """``watch:orders`` and so on: whether changes of the HIS are seen. Asked anew each time: a reload may add some."""

    def probe() -> Iterable[ComponentState]:
        for watcher in watchers():
            status = watcher.status
            health = _WATCHER.get(status.state, _DEGRADED)
            if health == _OK and (status.unreadable or status.trouble):
                health = _DEGRADED
            unread = f"{status.unreadable} rows cannot be read" if status.unreadable else ""
            detail = status.paused or status.last_error or unread or (_trouble(status))
            yield ComponentState(f"watch:{status.stream}", health, "" if health == _OK else detail)

    return probe


def _trouble(status: WatcherStatus) -> str:
    is_less = status.trouble and status.rung == "D"
    return f"reads the whole window: {status.trouble}" if is_less else status.trouble


def watcher_figures(watchers: Callable[[], Iterable[Watcher]]) -> Callable[[], Mapping[str, float]]:
    """What each stream has seen and made of it."""

    def gauge() -> Mapping[str, float]:
        found: dict[str, float] = {}
        for watcher in watchers():
            status = watcher.status
            for name in ("rows", "unreadable", "changes", "events", "suppressed", "strange", "missed", "reseeds"):
                found[f"watch_{name}:{status.stream}"] = getattr(status, name)
            found[f"watch_paused:{status.stream}"] = float(bool(status.paused))
        return found

    return gauge


def delivery_state(delivery: Delivery) -> Callable[[], Iterable[ComponentState]]:
    """``delivery``: whether events get out. Waiting is no loss, therefore never worse than degraded."""

    def probe() -> Iterable[ComponentState]:
        status = delivery.status()
        yield ComponentState(
            "delivery", _OK if status.connected else _DEGRADED, "" if status.connected else status.last_error
        )

    return probe
