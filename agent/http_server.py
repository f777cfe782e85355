"""One HTTP listener of this process: uvicorn inside our event loop, started and stopped by us.

The caller's certificate, if TLS asks for one, is in ``request.state.certificate`` (DER, empty without one).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from agent.http_place import HttpPlace

_IDLE: Final = timedelta(seconds=75)  # window programs keep their connection between two patients


class HttpServer:
    """``start``, then ``stop``; ``port`` is the one really bound."""

    def __init__(self, place: HttpPlace, application: Any) -> None:
        self._place = place
        self._application = application
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self.port = 0

    async def start(self) -> None:
        """Bind and serve. Raises OSError when the address cannot be had or a certificate cannot be read."""
        place = self._place
        listener = _listener(place)
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._application,
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=int(_IDLE.total_seconds()),
            limit_concurrency=512,
        )
        config.load()
        try:
            config.ssl = _tls(place)
        except (OSError, ssl.SSLError) as error:
            listener.close()
            raise OSError(f"the certificate of {place.host}:{place.port} cannot be used: {error}") from error
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve([listener]), name="http")
        while not self._server.started:
            if self._serving.done():
                await self._serving
            await asyncio.sleep(0)

    async def stop(self, grace: timedelta) -> None:
        """Take no more calls; those under way have ``grace`` to end."""
        if self._server is None or self._serving is None:
            return
        self._server.config.timeout_graceful_shutdown = max(1, int(grace.total_seconds()))
        self._server.should_exit = True
        await self._serving
        self._server = self._serving = None


class _Server(uvicorn.Server):
    """Signals are the process's own (``agent/signals.py``)."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Protocol(H11Protocol):
    """HTTP/1.1, with the caller's certificate in the state of each request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn does
        tls = transport.get_extra_info("ssl_object")
        shown = tls.getpeercert(binary_form=True) if tls is not None else None
        self.app_state = {**self.app_state, "certificate": shown or b""}
        super().connection_made(transport)


def _listener(place: HttpPlace) -> socket.socket:
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    try:
        # Windows lets two programs share an address with SO_REUSEADDR; create_server knows better.
        return socket.create_server((place.host, place.port), family=family, backlog=128)
    except OSError as error:
        raise OSError(f"cannot listen on {place.host}:{place.port}: {error.strerror}") from error


def _tls(place: HttpPlace) -> ssl.SSLContext | None:
    if place.certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=place.client_ca)
    context.load_cert_chain(place.certificate, place.key)
    if place.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context
