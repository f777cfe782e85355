"""A TCP proxy between a client and a server under test, to cut, stall and heal the wire on command.

    with TcpProxy(("127.0.0.1", 5432)) as proxy:          # or TcpProxy("/run/postgresql/.s.PGSQL.5432")
        connect("127.0.0.1", proxy.port)
        proxy.cut()                    # closes every connection and refuses new ones until heal()
        proxy.heal()                   # accepts again, lets stalled bytes flow, forgets cut_at, slow and corrupt
    proxy.slow(2000)               # bytes per second, each way
    proxy.corrupt("down")          # one bit of each read turns over on its way
        proxy.stall("down")            # "up" client->server, "down" server->client, "both": bytes wait
        proxy.cut_at(b"COMMIT")        # the moment these bytes go up: deliver them, lose every answer, cut
        proxy.cut_at(b"COMMIT", deliver=False)   # lose them as well
        proxy.drained.wait(5)          # after cut_at: the server has closed its side, so it has decided

Threads only, so it serves blocking drivers and asyncio alike. ``cut_at`` looks at single reads of up to 64 KB.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from tests.bounds import PATIENCE

Direction = Literal["up", "down", "both"]


@dataclass(slots=True, eq=False)
class _Link:
    """One connection on its way through. ``sprung``: cut_at has fired on it."""

    client: socket.socket
    server: socket.socket
    sprung: bool = False
    pumping: int = 2

    def shut(self) -> None:
        for wire in (self.client, self.server):
            with contextlib.suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)


class TcpProxy:
    """See the module. ``upstream`` is an address or the path of a Unix socket. Listens on 127.0.0.1:``port``."""

    def __init__(self, upstream: tuple[str, int] | str) -> None:
        self._upstream = upstream
        self._condition = threading.Condition()
        self._stalled: set[str] = set()
        self._refusing = False
        self._closed = False
        self._corrupting: set[str] = set()
        self._rate = 0
        self._trap: bytes = b""
        self._deliver = True
        self._links: set[_Link] = set()
        self._threads: list[threading.Thread] = []
        self.tripped = threading.Event()  # cut_at has fired
        self.drained = threading.Event()  # after cut_at: the server closed its side
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def cut(self) -> None:
        """Close all connections; new ones are accepted and closed at once, until ``heal``."""
        with self._condition:
            self._refusing = True
            links = list(self._links)
            self._condition.notify_all()
        for link in links:
            link.shut()

    def stall(self, direction: Direction = "both") -> None:
        """Hold bytes back without closing anything, as a firewall that drops silently."""
        with self._condition:
            self._stalled |= {"up", "down"} if direction == "both" else {direction}

    def slow(self, rate: int) -> None:
        """Let so many bytes through in a second, in small pieces."""
        with self._condition:
            self._rate = rate

    def corrupt(self, direction: Direction = "both") -> None:
        """Turn one bit of everything that is read, in its middle."""
        with self._condition:
            self._corrupting |= {"up", "down"} if direction == "both" else {direction}

    def cut_at(self, pattern: bytes, *, deliver: bool = True) -> None:
        """Arm: when the client sends ``pattern``, cut that connection (see the module)."""
        self.tripped.clear()
        self.drained.clear()
        with self._condition:
            self._trap, self._deliver = pattern, deliver

    def heal(self) -> None:
        """As if nothing had been."""
        with self._condition:
            self._refusing = False
            self._trap = b""
            self._stalled.clear()
            self._corrupting.clear()
            self._rate = 0
            self._condition.notify_all()

    def close(self) -> None:
        """Cut and end all threads."""
        self._closed = True
        self.cut()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True, name="tcp-proxy")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refusing:
                client.close()
                continue
            try:
                server = self._connect()
            except OSError:
                client.close()
                continue
            link = _Link(client, server)
            with self._condition:
                self._links.add(link)
                if self._refusing:  # cut while we were connecting
                    link.shut()
            self._start(self._pump_up, link)
            self._start(self._pump_down, link)

    def _connect(self) -> socket.socket:
        if isinstance(self._upstream, str):
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._upstream)
            return server
        server = socket.create_connection(self._upstream, 5)
        server.settimeout(None)
        return server

    def _pump_up(self, link: _Link) -> None:
        try:
            while chunk := link.client.recv(65536):
                self._wait("up")
                if self._trap and self._trap in chunk:
                    self._spring(link, chunk)
                    return  # the way down goes on until the server closes its side
                self._send(link.server, chunk, "up")
            link.shut()
        except OSError:
            link.shut()
        finally:
            self._ended(link)

    def _pump_down(self, link: _Link) -> None:
        try:
            while chunk := link.server.recv(65536):
                self._wait("down")
                # After cut_at the answers are read and dropped: unread ones would reset the server's side.
                if not link.sprung:
                    self._send(link.client, chunk, "down")
        except OSError:
            pass
        finally:
            link.shut()
            if link.sprung:
                self.drained.set()
            self._ended(link)

    def _ended(self, link: _Link) -> None:
        with self._condition:
            link.pumping -= 1
            if link.pumping:
                return
            self._links.discard(link)
        link.client.close()  # only now: a descriptor closed under the other pump could be somebody else's already
        link.server.close()

    def _send(self, wire: socket.socket, chunk: bytes, direction: str) -> None:
        if direction in self._corrupting:
            at = len(chunk) // 2
            chunk = chunk[:at] + bytes([chunk[at] ^ 0x10]) + chunk[at + 1 :]
        if not self._rate:
            wire.sendall(chunk)
            return
        piece = max(1, self._rate // 20)
        for start in range(0, len(chunk), piece):
            wire.sendall(chunk[start : start + piece])
            with self._condition:
                self._condition.wait_for(lambda: not self._rate or self._refusing, timeout=0.05)

    def _wait(self, direction: str) -> None:
        with self._condition:
            self._condition.wait_for(lambda: direction not in self._stalled or self._refusing)

    def _spring(self, link: _Link, chunk: bytes) -> None:
        self._trap = b""
        link.sprung = True  # before delivering: the answer must not slip through
        self.tripped.set()
        if self._deliver:
            link.server.sendall(chunk)
        with contextlib.suppress(OSError):
            link.client.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            link.server.shutdown(socket.SHUT_WR)
