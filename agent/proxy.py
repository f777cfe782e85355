"""Reaching an address through a proxy of the hospital: HTTP CONNECT or SOCKS5."""

from __future__ import annotations

import socket
from datetime import timedelta

from agent.tcp_forwarder import Connect
from his_db.proxy import ProxySettings


def through(proxy: ProxySettings, host: str, port: int, limit: timedelta) -> Connect:
    """Connections to an address through the proxy. They raise OSError with what it said, without credentials."""

    # Loaded when there is a proxy: most sites need not carry the library.
    from python_socks import ProxyConnectionError, ProxyError, ProxyTimeoutError, ProxyType
    from python_socks.async_.asyncio import Proxy

    kinds = {"http": ProxyType.HTTP, "socks5": ProxyType.SOCKS5}

    async def connect() -> socket.socket:
        way = Proxy(kinds[proxy.kind], proxy.host, proxy.port, proxy.user or None, proxy.password or None, rdns=True)
        try:
            return await way.connect(host, port, timeout=limit.total_seconds())
        except (ProxyConnectionError, ProxyTimeoutError) as error:
            raise OSError(f"the proxy {proxy.host}:{proxy.port} cannot be reached: {error}") from None
        except UnicodeError:
            raise OSError("the user or the password of the proxy is not ASCII") from None
        except ProxyError as error:
            raise OSError(f"the proxy {proxy.host}:{proxy.port} refused: {error}") from None

    return connect
