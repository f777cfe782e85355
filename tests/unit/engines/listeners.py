"""Listeners on loopback that behave as a listener in trouble does: refuse, close, or accept and stay silent."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

from tests.bounds import PATIENCE


def _refusal(code: int) -> bytes:
    """A TNS REFUSE packet, as a real listener sends it for ORA-``code``."""
    text = f"(DESCRIPTION=(TMP=)(VSNNUM=318767104)(ERR={code})(ERROR_STACK=(ERROR=(CODE={code})(EMFI=4))))".encode()
    body = struct.pack(">BBH", 34, 0, len(text)) + text
    return struct.pack(">HHBBH", 8 + len(body), 0, 4, 0, 0) + body


@contextlib.contextmanager
def listening(manner: str | int) -> Iterator[int]:
    """A port. ``manner``: ``close``, ``silent``, or the number of an Oracle error to refuse with."""
    server = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            if manner == "silent":
                held.append(client)
                continue
            with client, contextlib.suppress(OSError):
                client.recv(4096)
                if isinstance(manner, int):
                    client.sendall(_refusal(manner))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(PATIENCE)
        for client in held:
            client.close()
