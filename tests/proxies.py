"""Small proxies for tests: HTTP CONNECT and SOCKS5 (RFC 1928, 1929), with a user and password."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

USER, PASSWORD = "zhaoyun", "cb:po-1"


@dataclass(slots=True)
class Proxy:
    """``asked``: addresses that callers wanted. ``kind``: ``http`` or ``socks5``."""

    kind: str
    port: int = 0
    asked: list[tuple[str, int]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.kind}://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            target = await (self._connect(reader, writer) if self.kind == "http" else self._socks(reader, writer))
            if target is None:
                return
            self.asked.append(target)
            far_reader, far_writer = await asyncio.open_connection(*target)
            try:
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n" if self.kind == "http" else b"\x05\x00\x00\x01\0\0\0\0\0\0")
                await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer), return_exceptions=True)
            finally:
                far_writer.close()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, int] | None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        wanted = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if f"basic {wanted}".lower() not in head.lower():
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return None
        host, _, port = head.split()[1].rpartition(":")
        return host.strip("[]"), int(port)

    async def _socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, int] | None:
        count = (await reader.readexactly(2))[1]
        methods = await reader.readexactly(count)
        if 2 not in methods:
            writer.write(b"\x05\xff")
            await writer.drain()
            return None
        writer.write(b"\x05\x02")
        name = await reader.readexactly((await reader.readexactly(2))[1])
        secret = await reader.readexactly((await reader.readexactly(1))[0])
        is_known = (name.decode(), secret.decode()) == (USER, PASSWORD)
        writer.write(b"\x01\x00" if is_known else b"\x01\x01")
        await writer.drain()
        if not is_known:
            return None
        kind = (await reader.readexactly(4))[3]
        if kind == 1:
            host = socket.inet_ntoa(await reader.readexactly(4))
        else:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        return host, int.from_bytes(await reader.readexactly(2), "big")


@asynccontextmanager
async def proxy(kind: str, port: int = 0) -> AsyncIterator[Proxy]:
    """One that runs."""
    made = Proxy(kind)
    tasks: set[asyncio.Task[None]] = set()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await made.serve(reader, writer)
        except asyncio.CancelledError:
            writer.close()
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(accepted, "127.0.0.1", port)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65536):
        writer.write(chunk)
        await writer.drain()
    writer.write_eof()
