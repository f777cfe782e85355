"""What systemd wants to hear of a ``Type=notify`` service: sd_notify(3) over its datagram socket, without libsystemd.

``NOTIFY_SOCKET`` names the socket (``@`` at the start: an abstract one), ``WATCHDOG_USEC`` the patience of
``WatchdogSec=``, ``WATCHDOG_PID`` for whom it is meant.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

_LOG: Final = logging.getLogger(__name__)


class SystemdKeeper:
    """Implements Keeper. A message that cannot be sent is logged once and lost, as sd_notify does it."""

    def __init__(self, address: str, patience: timedelta | None) -> None:
        """``address``: of NOTIFY_SOCKET; ``patience``: of the watchdog, None without one."""
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._patience = patience
        self._complained = False

    @property
    def patience(self) -> timedelta | None:
        """``WatchdogSec=`` of the unit."""
        return self._patience

    def ready(self, status: str) -> None:
        """READY=1: units ordered after ours may start."""
        self._send("READY=1", f"STATUS={status}")

    def alive(self, status: str) -> None:
        """WATCHDOG=1."""
        self._send("WATCHDOG=1", f"STATUS={status}")

    def unwell(self, trouble: str) -> None:
        """A status without WATCHDOG=1: systemd ends the process when it stays so."""
        self._send(f"STATUS=故障 not alive: {trouble}")

    def stopping(self, status: str) -> None:
        """STOPPING=1."""
        self._send("STOPPING=1", f"STATUS={status}")

    def _send(self, *lines: str) -> None:
        message = "\n".join(line.replace("\n", " ") for line in lines).encode()
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as out:
                out.connect(self._address)
                out.send(message)
        except OSError as error:
            if not self._complained:
                _LOG.warning("systemd cannot be told anything: %s", error.strerror)
            self._complained = True


def systemd_keeper(environ: Mapping[str, str]) -> SystemdKeeper | None:
    """The keeper that the environment speaks of; None when systemd did not start us, or not as Type=notify."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return None
    micros = environ.get("WATCHDOG_USEC", "")
    meant = environ.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
    patience = timedelta(microseconds=int(micros)) if micros.isdecimal() and int(micros) and meant else None
    return SystemdKeeper(address, patience)
