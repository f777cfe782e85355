"""What the sink ``nats`` needs to know. Apart from it: a configuration is read also where the library is missing."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class NatsSettings:
    """``servers``: ``nats://host:port`` or ``tls://…``, tried in turn. ``create``: make the stream when there is none.

    ``credentials``: file of a JWT account; or ``user`` and ``password``. ``ca``, ``certificate``, ``key``: PEM files.
    """

    servers: tuple[str, ...]
    stream: str = "HIS160"
    prefix: str = "his160.events"
    create: bool = True
    user: str = ""
    password: str = field(default="", repr=False)
    credentials: Path | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
