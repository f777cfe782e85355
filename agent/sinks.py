"""Where events go, made from the configuration. The relay's sink is this room's; the others are in ``sync/sinks``."""

from __future__ import annotations

from agent.config import DeliverySettings
from agent.link.event_stream import RelaySink
from agent.link.relay_link import RelayLinks
from sync import registry
from sync.sink import Sink


def make_sink(settings: DeliverySettings, links: RelayLinks) -> Sink | None:
    """The sink; None when a relay reads events by itself (``pull``). Nothing connects yet."""
    if settings.sink == "pull":
        return None
    if settings.sink == "relay":
        return RelaySink(links)
    place = settings.nats if settings.sink == "nats" else settings.folder
    sink: Sink = registry.load(registry.SINKS[settings.sink])(place)
    return sink
