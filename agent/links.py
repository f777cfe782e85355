"""Relay links from the configuration: the other border."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from agent.config import RelaySettings, Settings
from agent.handler import Identity
from agent.handlers.agent_service import Abilities, available_operations
from agent.link.answering import RegistryAnswerer
from agent.link.channel import LinkTarget
from agent.link.redial import RedialPolicy
from agent.link.relay_link import RelayLink, RelayLinks
from agent.link.session import SessionSettings
from agent.registry import HandlerRegistry
from agent.version import VERSION


def make_links(
    settings: Settings, registry: HandlerRegistry, generation: Callable[[], Abilities], *, store: str
) -> RelayLinks:
    """One link for each address; none when the relay is not enabled. ``store``: id of the state store."""
    if not settings.relay.enabled:
        return RelayLinks([])
    process = "" if settings.state.url else secrets.token_hex(8)

    def session() -> SessionSettings:
        return SessionSettings(
            site=settings.site.code,
            instance=settings.site.instance,
            version=VERSION,
            operations=available_operations(generation()),
            max_calls=settings.relay.calls,
            dead_after=settings.relay.dead_after,
            default_timeout=settings.limits.time,
            store=store,
            process=process,
        )

    policy = RedialPolicy(
        base=settings.relay.redial_first.total_seconds(), cap=settings.relay.redial_most.total_seconds()
    )
    links = []
    for address in settings.relay.addresses:
        target = _target(settings.relay, address)
        answerer = RegistryAnswerer(registry, Identity("relay", target.relay_name))
        links.append(RelayLink(target, session, answerer, policy=policy))
    return RelayLinks(links)


def _target(settings: RelaySettings, address: str) -> LinkTarget:
    if settings.ca is None or settings.certificate is None or settings.key is None:
        raise ValueError("a relay link needs ca, certificate and key")
    return LinkTarget(
        address=address,
        ca=settings.ca,
        certificate=settings.certificate,
        key=settings.key,
        authority=settings.authority,
        proxy=settings.proxy,
    )
