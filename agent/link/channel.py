"""From an address and certificate files to a channel, and from a gRPC stream to frames."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
from his160.v1 import relay_pb2

from agent.config_place import split_address
from agent.link.assembly import MAX_MESSAGE_BYTES
from agent.link.errors import LinkBroken, LinkFault
from his_db.proxy import ProxySettings

ENVELOPE_BYTES = 64 * 1024
"""What a frame adds to the message it carries, with room to spare."""
DETAIL_LENGTH = 200

_REFUSED = (
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.FAILED_PRECONDITION,  # its version, or another store of the site is attached
)


@dataclass(frozen=True, slots=True)
class LinkTarget:
    """One relay to dial. Files are PEM and read at every dial, so that renewed certificates need no restart.

    ``authority``: name in the relay's certificate (and SNI) when it is not the one in ``address``.
    ``proxy``: on the way to it; the environment's proxies are never used.
    ``name``: identity of the relay in audit and logs; empty: the host of the address.
    """

    address: str
    ca: Path
    certificate: Path
    key: Path
    authority: str = ""
    proxy: ProxySettings | None = None
    name: str = ""

    @property
    def relay_name(self) -> str:
        """Name of the relay for its Identity."""
        return self.name or self.authority or self.address.rpartition(":")[0].strip("[]")

    def options(self) -> Sequence[tuple[str, str | int]]:
        """Channel options.

        No gRPC keepalive: a relay with default settings answers its pings with GOAWAY; our own Ping frames do the work.
        A subchannel pool of its own: with the shared one, a new channel inherits the back-off of the one that failed.
        """
        options: list[tuple[str, str | int]] = [
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES + ENVELOPE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES + ENVELOPE_BYTES),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_retries", 0),
            ("grpc.enable_http_proxy", 0),
        ]
        if self.authority:
            options.append(("grpc.ssl_target_name_override", self.authority))
            options.append(("grpc.default_authority", self.authority))
        return options

    def by(self, port: int) -> LinkTarget:
        """The same relay, reached over a port of this machine; its certificate must still name the relay."""
        host, _ = split_address(self.address)
        return replace(self, address=f"127.0.0.1:{port}", authority=self.authority or host, name=self.relay_name)


def open_channel(target: LinkTarget) -> grpc.aio.Channel:
    """A channel to the relay with mutual TLS. Raises LinkBroken("credentials") when a file cannot be read."""
    try:
        credentials = grpc.ssl_channel_credentials(
            root_certificates=target.ca.read_bytes(),
            private_key=target.key.read_bytes(),
            certificate_chain=target.certificate.read_bytes(),
        )
    except OSError as error:
        raise LinkBroken("credentials", f"cannot read {error.filename}: {error.strerror}") from None
    return grpc.aio.secure_channel(target.address, credentials, options=list(target.options()))


def broken_by(error: grpc.aio.AioRpcError) -> LinkBroken:
    """What a failed stream means for the link."""
    fault: LinkFault = "refused" if error.code() in _REFUSED else "unreachable"
    # The text is gRPC's own or the relay's; neither has reason to hold patient data, and it is cut short.
    detail = " ".join((error.details() or "").split())[:DETAIL_LENGTH]
    return LinkBroken(fault, f"{error.code().name}: {detail}")


def cancelled_by_peer() -> bool:
    """A stream that the peer ends with CANCELLED raises CancelledError here, though nobody cancelled this task."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() == 0


class GrpcFrames:
    """An Attach stream of grpc.aio as a FrameStream."""

    def __init__(self, call: grpc.aio.StreamStreamCall[relay_pb2.AttachRequest, relay_pb2.AttachResponse]) -> None:
        self._call = call
        self.unreadable = 0
        """Frames that were no protobuf; gRPC gives None for them."""

    async def read(self) -> relay_pb2.AttachResponse | None:
        """Implements FrameStream. A frame that cannot be read is passed over: it must not cost the others the link."""
        while True:
            frame = await self._read()
            if isinstance(frame, relay_pb2.AttachResponse):
                return frame
            if frame is grpc.aio.EOF:
                return None
            self.unreadable += 1

    async def _read(self) -> object:
        try:
            return await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise broken_by(error) from None
        except asyncio.CancelledError:
            if cancelled_by_peer():
                raise LinkBroken("closed", "the relay cancelled the stream") from None
            raise

    async def write(self, frame: relay_pb2.AttachRequest) -> None:
        """Implements FrameStream."""
        try:
            await self._call.write(frame)
        except grpc.aio.AioRpcError as error:
            raise broken_by(error) from None
        except (asyncio.InvalidStateError, grpc.aio.BaseError):
            raise LinkBroken("closed", "the stream is over") from None
        except asyncio.CancelledError:
            if cancelled_by_peer():
                raise LinkBroken("closed", "the relay cancelled the stream") from None
            raise

    async def end(self) -> None:
        """Implements FrameStream."""
        try:
            await self._call.done_writing()
        except (grpc.aio.AioRpcError, grpc.aio.BaseError, asyncio.InvalidStateError):
            raise LinkBroken("closed", "the stream is over") from None
