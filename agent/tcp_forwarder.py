"""Bytes from one TCP connection to another, both ways: the way through a proxy, and ``his160 forward``.

It looks into nothing: TLS goes from end to end. An end of one side is passed on to the other; a broken side ends both.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

_LOG: Final = logging.getLogger(__name__)
_CHUNK: Final = 64 * 1024

Connect = Callable[[], Awaitable[socket.socket]]
"""Makes the other side of one connection. Raises OSError."""


def direct(host: str, port: int, limit: timedelta) -> Connect:
    """Without a proxy."""

    async def connect() -> socket.socket:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(limit.total_seconds()):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            family, kind, protocol, _, address = found[0]
            made = socket.socket(family, kind, protocol)
            made.setblocking(False)
            try:
                await loop.sock_connect(made, address)
            except BaseException:
                made.close()
                raise
            return made

    return connect


class TcpForwarder:
    """Listens, and connects each caller to the other side. ``most``: connections at once; one more is closed."""

    def __init__(self, host: str, port: int, connect: Connect, *, most: int = 256) -> None:
        self._host = host
        self._wanted = port
        self._connect = connect
        self._most = most
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self.last_error = ""
        """Why the other side could not be had the last time; empty after a success. English, no personal data."""

    async def start(self) -> None:
        """Raises OSError when the address cannot be had."""
        self._server = await asyncio.start_server(self._accepted, self._host, self._wanted, limit=_CHUNK)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the listener and every connection."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None

    @property
    def connections(self) -> int:
        """Connections that stand now."""
        return len(self._tasks)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._tasks) >= self._most:
            _LOG.warning("one connection too many: closed")
            await _close(writer)
            return
        self._tasks.add(task)
        try:
            await self._carry(reader, writer)
        except asyncio.CancelledError:
            if not (self._server is None or not self._server.is_serving()):
                raise
        finally:
            self._tasks.discard(task)
            await _close(writer)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            other = await self._connect()
        except (OSError, TimeoutError) as error:
            said = str(error) or type(error).__name__
            if said != self.last_error:  # once for each change, not once for each try
                _LOG.warning("cannot connect: %s", said)
            self.last_error = said
            return
        self.last_error = ""
        far_reader, far_writer = await asyncio.open_connection(sock=other, limit=_CHUNK)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, far_writer))
                group.create_task(_pump(far_reader, writer))
        except* (OSError, asyncio.IncompleteReadError):
            pass  # one side broke: both end
        finally:
            await _close(far_writer)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(_CHUNK):
        writer.write(chunk)
        await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):  # the other side is gone already
        writer.write_eof()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, asyncio.CancelledError):
        await writer.wait_closed()
