"""From a gRPC server's context to frames and identities."""

from __future__ import annotations

from typing import Any

import grpc
from his160.v1 import relay_pb2

from agent.certificate import CertificateError, site_of
from agent.link.errors import LinkBroken

Context = grpc.aio.ServicerContext[Any, Any]


class ServerFrames:
    """An Attach stream of a grpc.aio server as an AgentStream."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def read(self) -> relay_pb2.AttachRequest | None:
        """Implements AgentStream. A frame that is no protobuf (gRPC gives None for it) is passed over."""
        while True:
            try:
                frame = await self._context.read()
            except grpc.aio.BaseError as error:
                raise LinkBroken("unreachable", type(error).__name__) from None
            if isinstance(frame, relay_pb2.AttachRequest):
                return frame
            if frame is grpc.aio.EOF:
                return None

    async def write(self, frame: relay_pb2.AttachResponse) -> None:
        """Implements AgentStream."""
        try:
            await self._context.write(frame)
        except grpc.aio.BaseError as error:
            raise LinkBroken("unreachable", type(error).__name__) from None


def site_of_peer(context: Context) -> str | None:
    """The site in the peer's certificate; None when it is no agent's."""
    certificates = context.auth_context().get("x509_pem_cert", [])
    for certificate in certificates:
        try:
            return site_of(certificate if isinstance(certificate, bytes) else certificate.encode())
        except CertificateError:
            return None
    return None
