"""Events into a JetStream stream of NATS: for hospital groups that read the events of many sites from one bus.

Subject ``<prefix>.<site>.<KIND>``, payload the serialised Event, header ``Nats-Msg-Id`` the event_id: what is sent
again within the stream's duplicate window is stored once, later a reader tells by the event_id in the payload.
STORED means: the stream has acknowledged it, and it keeps its messages in files.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from datetime import timedelta
from math import ceil
from typing import Any, Final

from his160.v1 import event_pb2
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, NotFoundError

from sync.nats_settings import NatsSettings
from sync.sink import Outcome, Receipt, SinkUnavailable

_CONNECT: Final = timedelta(seconds=5)
_RECEIPT: Final = timedelta(seconds=10)
_DUPLICATES: Final = timedelta(hours=24)


class NatsSink:
    """``Sink`` that publishes into one stream. A broken connection is given up and made anew with the next batch."""

    name = "nats"

    def __init__(self, settings: NatsSettings, *, connect: timedelta = _CONNECT, receipt: timedelta = _RECEIPT) -> None:
        """``receipt``: for the acknowledgements of one batch."""
        self._settings = settings
        self._connect_limit = connect
        self._receipt_limit = receipt
        self._client: Client | None = None
        self._opening = asyncio.Lock()

    async def deliver(self, events: Sequence[event_pb2.Event]) -> Sequence[Receipt]:
        if not events:
            return []
        stream = (await self._open()).jetstream(timeout=self._receipt_limit.total_seconds())
        try:
            async with asyncio.timeout(self._receipt_limit.total_seconds()):
                found = await asyncio.gather(*(self._publish(stream, event) for event in events))
        except (NatsError, APIError, TimeoutError, OSError) as error:
            await self.close()  # a half-open connection must not take the next batch too
            raise SinkUnavailable(_words(error)) from None
        return found

    async def examine(self) -> bool:
        """Whether the stream is there and keeps what it takes; makes none. Raises SinkUnavailable, with what to do."""
        client = await self._connect()
        try:
            return await self._check_stream(client.jetstream(), make=False)
        except (NatsError, APIError, TimeoutError, OSError) as error:
            raise SinkUnavailable(_words(error)) from None
        finally:
            await _end(client)

    async def close(self) -> None:
        """Ends the connection. Nothing waits in it: what was not acknowledged is sent again."""
        client, self._client = self._client, None
        if client is not None:
            await _end(client)

    async def _publish(self, stream: JetStreamContext, event: event_pb2.Event) -> Receipt:
        kind = event_pb2.EventKind.Name(event.kind).removeprefix("EVENT_KIND_")
        subject = f"{self._settings.prefix}.{token(event.site)}.{kind}"
        headers = {"Nats-Msg-Id": event.event_id}
        try:
            await stream.publish(
                subject, event.SerializeToString(deterministic=True), stream=self._settings.stream, headers=headers
            )
        except MaxPayloadError:
            return Receipt(event.event_id, Outcome.REJECTED, "the event is larger than the NATS server takes")
        return Receipt(event.event_id, Outcome.STORED)

    async def _open(self) -> Client:
        async with self._opening:
            if self._client is not None and self._client.is_connected:
                return self._client
            await self.close()
            client = await self._connect()
            try:
                await self._check_stream(client.jetstream())
            except (NatsError, APIError, TimeoutError, OSError, SinkUnavailable) as error:
                await _end(client)
                raise error if isinstance(error, SinkUnavailable) else SinkUnavailable(_words(error)) from None
            self._client = client
            return client

    async def _connect(self) -> Client:
        settings = self._settings
        options: dict[str, Any] = {
            "allow_reconnect": False,
            "max_reconnect_attempts": 1,
            "error_cb": _quiet,
            "name": "his160",
        }
        if settings.user:
            options |= {"user": settings.user, "password": settings.password}
        if settings.credentials is not None:
            options["user_credentials"] = str(settings.credentials)
        client = Client()
        try:
            if settings.ca is not None or settings.certificate is not None:
                options["tls"] = _tls(settings)
            # The library opens a socket with its own limit, but waits for the server's first line without one.
            async with asyncio.timeout(self._connect_limit.total_seconds()):
                await client.connect(
                    list(settings.servers), connect_timeout=ceil(self._connect_limit.total_seconds()), **options
                )
        except (NatsError, TimeoutError, OSError, ValueError) as error:
            await _end(client)
            raise SinkUnavailable(f"NATS cannot be reached: {_words(error)}") from None
        return client

    async def _check_stream(self, streams: JetStreamContext, *, make: bool = True) -> bool:
        """The stream is there and keeps what it acknowledges; False: it is still to be made (``make`` False).

        Raises SinkUnavailable with what the operator must do."""
        settings = self._settings
        subject = f"{settings.prefix}.>"
        try:
            config = (await streams.stream_info(settings.stream)).config
        except NotFoundError:
            if not settings.create:
                raise SinkUnavailable(f"NATS has no stream {settings.stream}: make it, or set create = true") from None
            if not make:
                return False
            config = (
                await streams.add_stream(
                    StreamConfig(
                        name=settings.stream,
                        subjects=[subject],
                        storage=StorageType.FILE,
                        # A full stream refuses (and we wait) instead of throwing the oldest event away.
                        discard=DiscardPolicy.NEW,
                        duplicate_window=_DUPLICATES.total_seconds(),
                    )
                )
            ).config
        if StorageType(config.storage) is not StorageType.FILE:  # the library leaves it a text
            raise SinkUnavailable(f"the NATS stream {settings.stream} keeps its messages in memory only")
        if config.no_ack:
            raise SinkUnavailable(f"the NATS stream {settings.stream} gives no acknowledgements (no_ack)")
        return True


def token(text: str) -> str:
    """The text as one token of a subject: NATS gives a meaning to dots, blanks and wildcards."""
    return "".join(char if char.isalnum() or char in "-_" else "_" for char in text) or "_"


async def _end(client: Client) -> None:
    """Closes also what is half open."""
    with contextlib.suppress(NatsError, TimeoutError, OSError):
        await client.close()


def _tls(settings: NatsSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.ca)
    if settings.certificate is not None:
        context.load_cert_chain(settings.certificate, settings.key)
    return context


def _words(error: BaseException) -> str:
    """The library's own sentence; it names servers, streams and limits, never the content of a message."""
    return f"{type(error).__name__}: {error}".removesuffix(": ")


async def _quiet(error: Exception) -> None:
    """The library's errors arrive at the call that they belong to; here they would be logged a second time."""
