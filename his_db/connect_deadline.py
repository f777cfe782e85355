"""A deadline around connecting, for drivers whose own does not bound a listener that accepts and stays silent."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class ConnectTimeout(TimeoutError):
    """Nobody finished the handshake in time: nothing was sent."""


def connect_within(seconds: float, connect: Callable[[], Any]) -> Any:
    """``connect()`` within ``seconds``, else ConnectTimeout; a connection that comes too late is closed.

    A driver that never gives up keeps its daemon thread; the breaker above bounds how many there can be.
    """
    lock = threading.Lock()
    made: list[Any] = []
    failed: list[BaseException] = []
    given_up = False

    def work() -> None:
        try:
            connection = connect()
        except BaseException as error:  # noqa: BLE001 - carried over to the caller's thread
            failed.append(error)
            return
        with lock:
            if not given_up:
                made.append(connection)
                return
        connection.close()

    thread = threading.Thread(target=work, name="his160-connect", daemon=True)
    thread.start()
    thread.join(seconds)
    with lock:
        given_up = not made and not failed
    if failed:
        raise failed[0]
    if not made:
        raise ConnectTimeout(f"the server accepted and then said nothing for {seconds:g} s")
    return made[0]
