"""A proxy of the hospital on the way to an address: HTTP CONNECT or SOCKS5. The address's name it resolves itself."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, field
from typing import Final

_URL: Final = re.compile(r"(http|socks5)://(\[[0-9A-Fa-f:]+\]|[^/:@\[\]]+):([0-9]{1,5})/?")


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """One proxy. ``kind`` is ``http`` (CONNECT) or ``socks5``."""

    kind: str
    host: str
    port: int
    user: str = ""
    password: str = field(default="", repr=False)


def parse_proxy(url: str, user: str = "", password: str = "") -> ProxySettings:
    """``http://host:port`` or ``socks5://host:port``. Raises ValueError; a password never stands in the URL."""
    match = _URL.fullmatch(url)
    if match is None or not 0 < int(match[3]) < 65536:
        raise ValueError("a proxy is written http://host:port or socks5://host:port")
    return ProxySettings(match[1], match[2].strip("[]"), int(match[3]), user, password)


def dial(proxy: ProxySettings, host: str, port: int, timeout: float) -> socket.socket:
    """A connection to the address through the proxy. Raises OSError with what the proxy said, without credentials."""

    # Loaded when there is a proxy: most sites need not carry the library.
    from python_socks import ProxyConnectionError, ProxyError, ProxyTimeoutError, ProxyType
    from python_socks.sync import Proxy

    kinds = {"http": ProxyType.HTTP, "socks5": ProxyType.SOCKS5}
    way = Proxy(kinds[proxy.kind], proxy.host, proxy.port, proxy.user or None, proxy.password or None, rdns=True)
    try:
        return way.connect(host, port, timeout=timeout)
    except (ProxyConnectionError, ProxyTimeoutError):
        raise OSError(f"the proxy {proxy.host}:{proxy.port} cannot be reached") from None
    except UnicodeError:
        raise OSError("the user or the password of the proxy is not ASCII") from None
    except ProxyError as error:
        raise OSError(f"the proxy {proxy.host}:{proxy.port} refused: {error}") from None
