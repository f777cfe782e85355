"""Where an HTTP listener is. Apart from the listener, so that reading a configuration loads no web server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class HttpPlace:
    """Where to listen. Without ``certificate`` there is no TLS; ``client_ca``: callers must show one of that CA."""

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
