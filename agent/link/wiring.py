"""From ``[relay]`` of the configuration to links."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from agent.config import RelaySettings
from agent.handler import Identity
from agent.link.answering import Dispatcher, RegistryAnswerer
from agent.link.channel import LinkTarget
from agent.link.redial import RedialPolicy
from agent.link.relay_link import RelayLink, RelayLinks
from agent.link.session import SessionSettings
from agent.link.timing import Timing


def relay_links(
    relay: RelaySettings,
    said: Callable[[], SessionSettings],
    dispatcher: Dispatcher,
    *,
    timing: Timing | None = None,
) -> RelayLinks:
    """One link for each configured address; none when the section is switched off.

    ``said`` gives site, instance, version, operations and the limit of a call's time at each dial; ``max_calls`` and
    ``dead_after`` are those of the configuration. Must be called inside the event loop.
    """
    if not relay.enabled:
        return RelayLinks(())
    if relay.ca is None or relay.certificate is None or relay.key is None:
        raise ValueError("[relay] is enabled without certificate files")  # the configuration's own check says it first

    def settings() -> SessionSettings:
        return replace(said(), max_calls=relay.calls, dead_after=relay.dead_after)

    policy = RedialPolicy(base=relay.redial_first.total_seconds(), cap=relay.redial_most.total_seconds())
    links = []
    for address in relay.addresses:
        target = LinkTarget(
            address=address,
            ca=relay.ca,
            certificate=relay.certificate,
            key=relay.key,
            authority=relay.authority,
            http_proxy=relay.http_proxy,
        )
        answerer = RegistryAnswerer(dispatcher, Identity("relay", target.relay_name))
        links.append(RelayLink(target, settings, answerer, policy=policy, timing=timing))
    return RelayLinks(links)
