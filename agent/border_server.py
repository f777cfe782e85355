"""The gRPC server: one of the two borders. Bytes in, bytes out; what a call means is the registry's business.

Mutual TLS; the identity is the client certificate's. Certificates are read again when their files change, so a renewed
one needs no restart. Without TLS only on the loopback (the configuration says so), and the caller is ``local``.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from typing import Any, Final, NoReturn

import grpc
from google.rpc import status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # no stubs
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]  # no stubs
from his160.v1 import reason_pb2

from agent.certificate import CertificateError, identity_of
from agent.config import ServerSettings
from agent.errors import CallFailed, CallRefused, to_status
from agent.handler import CallContext, Identity
from agent.registry import MAX_ANSWER_BYTES, MAX_REQUEST_BYTES, HandlerRegistry
from agent.server_credentials import server_credentials

DETAILS_KEY: Final = "grpc-status-details-bin"
_ENVELOPE: Final = 64 * 1024
_LOG: Final = logging.getLogger(__name__)

# Pings as often as every 5 s are welcome: a 网闸 closes idle connections after minutes, and gRPC's own default answers
# pings below 300 s with GOAWAY. The agent pings too, so that a dead caller's streams end.
OPTIONS: Final[Sequence[tuple[str, int]]] = (
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES + _ENVELOPE),
    ("grpc.max_send_message_length", MAX_ANSWER_BYTES + _ENVELOPE),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 4500),  # pings of 5 s, some of them early
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_metadata_size", 16 * 1024),
    # Two agents on one port would share the calls without knowing.
    ("grpc.so_reuseport", 0),
)
_LOCAL: Final = Identity("local", "loopback")
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


class BorderServer:
    """The server. ``start``, then ``stop``; ``port`` is the one really bound."""

    def __init__(self, settings: ServerSettings, registry: HandlerRegistry) -> None:
        self._settings = settings
        self._registry = registry
        self._server: grpc.aio.Server | None = None
        self._health = health.aio.HealthServicer()
        self._numbers = itertools.count(1)
        self.port = 0

    async def start(self) -> None:
        """Bind and serve. Raises OSError when the address cannot be had or a certificate's file cannot be read."""
        server = grpc.aio.server(options=list(OPTIONS))
        server.add_generic_rpc_handlers((_Methods(self._registry, self._context),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (*self._registry.services, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        self.port = self._bind(server)
        await server.start()
        self._server = server
        await self.set_serving(True)
        _LOG.info("server listens on port %d%s", self.port, " without TLS" if self._settings.insecure else "")

    async def set_serving(self, is_serving: bool) -> None:
        """Tell gRPC health, overall and for each service."""
        status = health_pb2.HealthCheckResponse
        now = status.SERVING if is_serving else status.NOT_SERVING
        for name in ("", *self._registry.services):
            await self._health.set(name, now)

    async def stop(self, grace: timedelta) -> None:
        """Refuse new calls at once; those under way have ``grace`` to end, then they are cancelled."""
        if self._server is None:
            return
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace.total_seconds())
        self._server = None

    def _bind(self, server: grpc.aio.Server) -> int:
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        address = f"{host}:{self._settings.port}"
        try:
            if self._settings.insecure:
                port = server.add_insecure_port(address)
            else:
                port = server.add_secure_port(address, server_credentials(self._settings))
        except RuntimeError as error:
            raise OSError(f"the server cannot listen on {address}") from error
        if port == 0:
            raise OSError(f"the server cannot listen on {address}")
        return port

    def _context(self, context: grpc.aio.ServicerContext[Any, Any]) -> CallContext:
        """Who calls and until when. Raises CallFailed for a certificate that names nobody."""
        left = context.time_remaining()
        number = f"s{next(self._numbers)}"
        try:
            identity = self._identity(context)
        except CertificateError as error:
            refused = CallRefused(reason_pb2.REASON_NOT_AUTHORIZED, str(error))
            _LOG.warning("call=%s %s", number, error)
            raise CallFailed(to_status(refused, call_id=number)) from error
        deadline = None if left is None else time.monotonic() + left
        return CallContext(identity, "server", number, deadline, peer=context.peer())

    def _identity(self, context: grpc.aio.ServicerContext[Any, Any]) -> Identity:
        if self._settings.insecure:
            return _LOCAL
        certificates = context.auth_context().get("x509_pem_cert", ())
        for certificate in certificates:
            return identity_of(certificate if isinstance(certificate, bytes) else certificate.encode())
        raise CertificateError("the caller has shown no certificate")


class _Methods(grpc.GenericRpcHandler):
    """Every method of the registry, over raw bytes."""

    def __init__(
        self, registry: HandlerRegistry, context: Callable[[grpc.aio.ServicerContext[Any, Any]], CallContext]
    ) -> None:
        self._handlers = {name: self._handler(registry, name, context) for name in registry.methods}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        """The handler of one method; None answers UNIMPLEMENTED."""
        return self._handlers.get(handler_call_details.method)

    def _handler(
        self,
        registry: HandlerRegistry,
        name: str,
        describe: Callable[[grpc.aio.ServicerContext[Any, Any]], CallContext],
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        async def unary(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
            try:
                answer = await registry.dispatch(name, request, describe(context))
                assert isinstance(answer, bytes)
                return answer
            except CallFailed as failed:
                await _abort(context, failed.status)

        async def stream(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[bytes]:
            try:
                answers = await registry.dispatch(name, request, describe(context))
                assert not isinstance(answers, bytes)
                async for answer in answers:
                    yield answer
            except CallFailed as failed:
                await _abort(context, failed.status)

        if registry.is_streaming(name):
            return grpc.unary_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(unary)


async def _abort(context: grpc.aio.ServicerContext[Any, Any], status: status_pb2.Status) -> NoReturn:
    """End a call with the rich status. Never returns."""
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    await context.abort(code, status.message, ((DETAILS_KEY, status.SerializeToString()),))
