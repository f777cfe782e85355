"""The way of one link to its relay: straight, or through a proxy by a forwarder on a port of this machine.

gRPC itself knows HTTP CONNECT only, and says of a proxy's refusal no more than "unavailable"; this way knows both kinds
and what the proxy said.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from agent.config_place import split_address
from agent.link.channel import LinkTarget
from agent.link.errors import LinkBroken
from agent.proxy import through
from agent.tcp_forwarder import TcpForwarder

_LIMIT: Final = timedelta(seconds=10)


@asynccontextmanager
async def way_to(target: LinkTarget) -> AsyncIterator[LinkTarget]:
    """What to dial while the way stands. A loss that the proxy explains is told in its words (LinkBroken)."""
    if target.proxy is None:
        yield target
        return
    host, port = split_address(target.address)
    forwarder = TcpForwarder("127.0.0.1", 0, through(target.proxy, host, port, _LIMIT))
    try:
        await forwarder.start()
    except OSError as error:
        raise LinkBroken("unreachable", f"no port of this machine for the way through the proxy: {error}") from None
    try:
        yield target.by(forwarder.port)
    except LinkBroken as error:
        if forwarder.last_error:
            raise LinkBroken(error.fault, forwarder.last_error) from None
        raise
    finally:
        await forwarder.stop()
