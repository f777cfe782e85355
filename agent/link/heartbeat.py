"""Is the peer alive: pings of our own, which no middlebox and no gRPC keepalive rule can forbid."""

from __future__ import annotations

from collections.abc import Callable

from agent.link.errors import LinkBroken
from agent.link.timing import Timing

PINGS_PER_LIFE = 3
"""Pings sent in the time after which silence means death: two may get lost."""


class Heartbeat:
    """Sends pings and watches the silence of one link. Both sides use it."""

    def __init__(self, dead_after: float, send_ping: Callable[[int], None], timing: Timing) -> None:
        """``dead_after`` in seconds; ``send_ping(number)`` queues a ping frame and does not block."""
        self._dead_after = dead_after
        self._interval = dead_after / PINGS_PER_LIFE
        self._send_ping = send_ping
        self._timing = timing
        self._heard = timing.monotonic()
        self._number = 0

    def heard(self) -> None:
        """Any frame of the peer is a sign of life."""
        self._heard = self._timing.monotonic()

    @property
    def in_doubt(self) -> bool:
        """Nothing was heard for half the time after which silence means death: an answer to a ping is missing."""
        return self._timing.monotonic() - self._heard > self._dead_after / 2

    def hurry(self, peer_dead_after: float) -> None:
        """The peer gives up sooner than we do: ping often enough for it."""
        if peer_dead_after > 0:
            self._interval = min(self._interval, peer_dead_after / PINGS_PER_LIFE)

    async def run(self) -> None:
        """Ping until the peer has been silent for ``dead_after``; then raise LinkBroken("silent").

        The last sleep is shortened to the moment of death, so that it is seen at ``dead_after``, not an interval later.
        """
        while True:
            left = self._heard + self._dead_after - self._timing.monotonic()
            if left <= 0:
                raise LinkBroken("silent", f"nothing heard for {self._dead_after:g} s")
            self._number += 1
            self._send_ping(self._number)
            await self._timing.sleep(min(self._interval, left))
