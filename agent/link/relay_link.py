"""Keeping links to 160's relays: dial, carry, notice a loss, dial again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import grpc
from his160.v1 import relay_pb2_grpc

from agent.link.answering import Answerer
from agent.link.channel import GrpcFrames, LinkTarget, open_channel
from agent.link.errors import LinkBroken, LinkFault
from agent.link.redial import Redial, RedialPolicy
from agent.link.session import LinkSession, SessionEnd, SessionSettings
from agent.link.timing import Timing
from agent.link.way import way_to

log = logging.getLogger(__name__)

Listener = Callable[["RelayLink"], None]


@dataclass(slots=True)
class LinkState:
    """How one link is, for status and metrics. Written by its link only."""

    address: str
    connected_since: datetime | None = None
    lost_since: datetime | None = None
    """When the link was lost, or the first dial failed; None while connected and before the first dial."""
    dials: int = 0
    """Dials since the process started."""
    failures: int = 0
    """Dials that failed since the link was last up."""
    losses: int = 0
    """How often an established link was lost."""
    last_fault: LinkFault | None = None
    last_detail: str = ""
    """English, no personal data."""
    revision: int = 0
    """Revision of the frame protocol in use; 0 while not connected."""

    @property
    def connected(self) -> bool:
        """True while calls can come in."""
        return self.connected_since is not None


class RelayLink:
    """The link to one address. ``run`` keeps it until ``stop``."""

    def __init__(
        self,
        target: LinkTarget,
        settings: Callable[[], SessionSettings],
        answerer: Answerer,
        *,
        policy: RedialPolicy | None = None,
        timing: Timing | None = None,
        dial: Callable[[LinkTarget], grpc.aio.Channel] = open_channel,
    ) -> None:
        """``settings`` is asked at every dial: operations may have been mapped since."""
        self._target = target
        self._settings = settings
        self._answerer = answerer
        self._timing = timing or Timing()
        self._redial = Redial(policy or RedialPolicy(), self._timing.random)
        self._dial = dial
        self._stopping = asyncio.Event()
        self._session: LinkSession | None = None
        self._channel: grpc.aio.Channel | None = None
        self._listeners: list[Listener] = []
        self._stands_since = 0.0
        self.state = LinkState(target.address)

    @property
    def address(self) -> str:
        """The address dialled."""
        return self._target.address

    @property
    def channel(self) -> grpc.aio.Channel | None:
        """The channel, for further streams (events, reports); None while not connected."""
        return self._channel if self.state.connected else None

    @property
    def calls_under_way(self) -> int:
        """Calls not answered yet."""
        return self._session.calls_under_way if self._session is not None else 0

    def on_connected(self, listener: Listener) -> None:
        """Call ``listener`` each time the link is established; it must not block or raise."""
        self._listeners.append(listener)

    def stop(self, reason: str = "the agent stops") -> None:
        """End ``run`` after the calls under way. Returns at once; cancel ``run`` to end now."""
        self._stopping.set()
        if self._session is not None:
            self._session.stop(reason)

    async def run(self) -> None:
        """Keep the link. Ends after ``stop`` only; a lost or refused link is dialled again for ever."""
        while not self._stopping.is_set():
            later = False
            try:
                end = await self._carry()
                log.info("link %s ended: %s", self.address, end.reason)
                later = not end.reconnect
            except LinkBroken as error:
                self._note(error)
            if not self._stopping.is_set():
                await self._pause(self._redial.later() if later else self._redial.delay())

    async def _carry(self) -> SessionEnd:
        """One dial and the session on it."""
        self.state.dials += 1
        async with way_to(self._target) as target:
            return await self._carry_on(self._dial(target))

    async def _carry_on(self, channel: grpc.aio.Channel) -> SessionEnd:
        try:
            call = relay_pb2_grpc.RelayServiceStub(channel).Attach()
            self._channel = channel
            self._session = LinkSession(
                GrpcFrames(call),
                self._settings(),
                self._answerer,
                link=self.address,
                timing=self._timing,
                on_attached=self._established,
            )
            try:
                return await self._session.run()
            finally:
                call.cancel()
        finally:
            self._lost()
            await channel.close()

    def _established(self) -> None:
        assert self._session is not None
        self._redial.established()
        self._stands_since = self._timing.monotonic()
        self.state.connected_since = self._timing.now()
        self.state.lost_since = None
        self.state.failures = 0
        self.state.revision = self._session.revision
        log.info("link %s established, revision %d", self.address, self.state.revision)
        for listener in self._listeners:
            listener(self)

    def _lost(self) -> None:
        if self.state.connected:
            self.state.losses += 1
            self._redial.lost(self._timing.monotonic() - self._stands_since)
        if self.state.lost_since is None:
            self.state.lost_since = self._timing.now()
        self.state.connected_since = None
        self.state.revision = 0
        self._session = self._channel = None

    def _note(self, error: LinkBroken) -> None:
        """Log a loss once per kind of fault, not once per dial: a night without the relay is one line."""
        self.state.failures += 1
        if self.state.failures == 1 or error.fault != self.state.last_fault:
            log.warning("link %s: %s", self.address, error)
        self.state.last_fault = error.fault
        self.state.last_detail = error.detail

    async def _pause(self, seconds: float) -> None:
        """Wait, or less when stopped."""
        sleeping = asyncio.ensure_future(self._timing.sleep(seconds))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((sleeping, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            stopping.cancel()
            await asyncio.gather(sleeping, stopping, return_exceptions=True)


class RelayLinks:
    """One link for each configured address, all at once."""

    def __init__(self, links: Sequence[RelayLink]) -> None:
        self._links = tuple(links)

    @property
    def links(self) -> tuple[RelayLink, ...]:
        """All of them, in the order of the configuration."""
        return self._links

    def connected(self) -> list[RelayLink]:
        """Those that are up now."""
        return [link for link in self._links if link.state.connected]

    def on_connected(self, listener: Listener) -> None:
        """Call ``listener`` each time any link is established."""
        for link in self._links:
            link.on_connected(listener)

    def stop(self, reason: str = "the agent stops") -> None:
        """Let all links leave in order; ``run`` ends when they have."""
        for link in self._links:
            link.stop(reason)

    async def run(self) -> None:
        """Keep all links until ``stop``. Cancel it to end at once."""
        async with asyncio.TaskGroup() as group:
            for link in self._links:
                group.create_task(link.run())
