"""The port of a call: what a handler gets and gives. A handler never sees a transport.

Implementations: ``agent/handlers/*.py``. The one registry that both borders (gRPC server, relay link) dispatch through
is ``agent.registry.HandlerRegistry``.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from google.protobuf.message import Message

IdentityKind = Literal["relay", "desk", "operator", "site", "local"]
"""``relay``: 160's relay. ``desk``: a window program of the hospital. ``operator``: a person with a certificate.
``site``: an agent (known to a relay only). ``local``: a caller on the loopback of an insecure bench server."""

Border = Literal["server", "link", "http"]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls. ``name`` is the one of the certificate, for authorization, audit and logs; no personal data."""

    kind: IdentityKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class CallContext:
    """What a handler knows about a call beside its request.

    ``deadline`` is a reading of ``time.monotonic()``; None means the agent's own limit. ``call_id`` names the call in
    the logs of this process. ``caller`` is the identity behind the relay that asked, for the audit; empty: ``identity``
    itself.
    """

    identity: Identity
    border: Border
    call_id: str
    deadline: float | None = None
    caller: str = ""
    peer: str = ""
    """Where the call came from: the address of the caller on a server, of the relay on a link."""

    def remaining(self) -> timedelta | None:
        """Time left, never negative; None without a deadline."""
        if self.deadline is None:
            return None
        return timedelta(seconds=max(0.0, self.deadline - time.monotonic()))


Handler = Callable[[Message, CallContext], Awaitable[Message]]
"""One request, one answer. Raises HisError, ``agent.errors.CallRefused`` or a ``sync`` error with a ``reason``."""

StreamHandler = Callable[[Message, CallContext], AsyncIterator[Message]]
"""One request, answers until the handler ends or the caller hangs up (then it is cancelled). Errors: ``Handler``."""
