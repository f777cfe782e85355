"""One Attach stream, the agent's side: settings, calls in, answers out, heartbeat, farewell.

Nothing a frame holds can end the link except the first frame being no Settings: a bad call gets a status, a frame of an
unknown kind or for an unknown call is counted and passed over. Payloads are never logged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from his160.v1 import relay_pb2

from agent.link.answering import Answerer, leaving
from agent.link.calls import Calls
from agent.link.errors import LinkBroken
from agent.link.heartbeat import Heartbeat
from agent.link.outgoing import WINDOW_BYTES, Outgoing
from agent.link.timing import Timing

log = logging.getLogger(__name__)

REVISION = 1
OLDEST_REVISION = 1


class FrameStream(Protocol):
    """The two directions of an Attach stream."""

    async def read(self) -> relay_pb2.AttachResponse | None:
        """The next frame; None when the relay has ended the stream in order. Raises LinkBroken."""
        ...

    async def write(self, frame: relay_pb2.AttachRequest) -> None:
        """Send one frame; waits while the transport is full. Raises LinkBroken."""
        ...

    async def end(self) -> None:
        """No more frames from this side. Raises LinkBroken."""
        ...


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What this side says of itself in its first frame."""

    site: str
    instance: str
    version: str
    operations: tuple[str, ...] = ()
    revision: int = REVISION
    window_bytes: int = WINDOW_BYTES
    max_calls: int = 64
    dead_after: timedelta = timedelta(seconds=15)
    default_timeout: timedelta = timedelta(seconds=30)
    """For calls without a timeout. Not sent."""
    greet_within: timedelta = timedelta(seconds=5)
    """From dialling to the relay's Settings. Not sent."""
    store: str = ""
    """Lasting id of the state store: a site has one."""
    process: str = ""
    """Id of this process where its store has one process at a time; empty: several share it."""

    def frame(self) -> relay_pb2.AttachRequest:
        """As the first frame."""
        settings = relay_pb2.LinkSettings(
            revision=self.revision,
            site=self.site,
            instance=self.instance,
            version=self.version,
            operations=self.operations,
            window_bytes=self.window_bytes,
            max_calls=self.max_calls,
            store=self.store,
            process=self.process,
        )
        settings.dead_after.FromTimedelta(self.dead_after)
        return relay_pb2.AttachRequest(settings=settings)


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """How a link ended in order."""

    reason: str
    reconnect: bool
    """True: dial again at once."""


class LinkSession:
    """The agent's side of one Attach stream. ``run`` once."""

    def __init__(
        self,
        stream: FrameStream,
        settings: SessionSettings,
        answerer: Answerer,
        *,
        link: str = "",
        timing: Timing | None = None,
        on_attached: Callable[[], None] = lambda: None,
    ) -> None:
        """``link`` is the relay's address, for logs and contexts.

        ``on_attached`` is called once both sides have said their settings.
        """
        self._stream = stream
        self._settings = settings
        self._link = link
        self._outgoing = Outgoing()
        self._calls = Calls(answerer, self._outgoing, settings.max_calls, settings.default_timeout, link)
        self._heartbeat = Heartbeat(settings.dead_after.total_seconds(), self._ping, timing or Timing())
        self._leaving = asyncio.Event()
        self._end = SessionEnd("the relay ended the stream", reconnect=False)
        self._on_attached = on_attached
        self.revision = 0
        """Revision in use; 0 until both settings are said."""
        self.passed_over = 0
        """Frames that meant nothing to this side."""

    async def run(self) -> SessionEnd:
        """Carry calls until either side leaves. Raises LinkBroken when the link ends any other way."""
        await self._greet()
        reader = asyncio.ensure_future(self._read_frames())
        tasks: list[asyncio.Future[None]] = [
            reader,
            asyncio.ensure_future(self._write_frames()),
            asyncio.ensure_future(self._heartbeat.run()),
            asyncio.ensure_future(self._leave()),
        ]
        try:
            while not reader.done():
                running = [task for task in tasks if not task.done()]
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            if not self._leaving.is_set():
                raise LinkBroken("closed", "the relay ended the stream without a goodbye")
            return self._end
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._calls.abandon()

    def stop(self, reason: str, *, reconnect: bool = False) -> None:
        """Leave in order: no more calls, those under way are finished, then the stream ends. Returns at once."""
        if not self._leaving.is_set():
            self._end = SessionEnd(reason, reconnect)
            self._leaving.set()

    @property
    def calls_under_way(self) -> int:
        """Calls not answered yet."""
        return len(self._calls)

    async def _greet(self) -> None:
        """Exchange Settings and agree on the lower revision."""
        limit = self._settings.greet_within.total_seconds()
        try:
            async with asyncio.timeout(limit):
                await self._stream.write(self._settings.frame())
                frame = await self._stream.read()
        except TimeoutError:
            raise LinkBroken("silent", f"no connection or no settings within {limit:g} s") from None
        if frame is None:
            raise LinkBroken("closed", "the relay ended the stream before its settings")
        if frame.WhichOneof("frame") != "settings":
            raise LinkBroken("protocol", "the first frame is no settings")
        peer = frame.settings
        self.revision = min(peer.revision, self._settings.revision)
        if self.revision < OLDEST_REVISION:
            raise LinkBroken("protocol", f"the relay speaks revision {peer.revision}, which is too old")
        self._outgoing.peer_window(peer.window_bytes)
        self._heartbeat.hurry(peer.dead_after.seconds + peer.dead_after.nanos / 1e9)
        self._heartbeat.heard()
        self._on_attached()

    async def _read_frames(self) -> None:
        while (frame := await self._stream.read()) is not None:
            self._heartbeat.heard()
            self._take(frame)

    def _take(self, frame: relay_pb2.AttachResponse) -> None:
        kind = frame.WhichOneof("frame")
        match kind:
            case "call" if self._leaving.is_set():
                self._calls.refuse(frame.call.call_id, leaving())
            case "call":
                self._calls.start(frame.call)
            case "cancel":
                self._calls.cancel(frame.cancel.call_id)
            case "window":
                self._calls.grant(frame.window.call_id, frame.window.bytes)
            case "ping" if not frame.ping.answer:
                answer = relay_pb2.LinkPing(number=frame.ping.number, answer=True)
                self._outgoing.control(relay_pb2.AttachRequest(ping=answer))
            case "ping":
                pass  # a sign of life like every frame
            case "goodbye":
                log.info("link %s: the relay says goodbye", self._link)
                self.stop("the relay said goodbye", reconnect=frame.goodbye.reconnect)
            case _:
                self.passed_over += 1

    async def _write_frames(self) -> None:
        while (frame := await self._outgoing.next_frame()) is not None:
            await self._stream.write(frame)
        await self._stream.end()

    async def _leave(self) -> None:
        """Wait for the order to leave, then let the calls finish and close this side; the relay closes the other."""
        await self._leaving.wait()
        goodbye = relay_pb2.LinkGoodbye(reason=self._end.reason, reconnect=self._end.reconnect)
        self._outgoing.control(relay_pb2.AttachRequest(goodbye=goodbye))
        await self._calls.finished()
        self._outgoing.close()

    def _ping(self, number: int) -> None:
        self._outgoing.control(relay_pb2.AttachRequest(ping=relay_pb2.LinkPing(number=number)))
