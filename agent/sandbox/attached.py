"""One attached agent, the relay's side of an Attach stream: calls go in, answers come out."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta
from typing import Protocol

from google.protobuf.message import DecodeError
from google.rpc import code_pb2, status_pb2
from his160.v1 import reason_pb2, relay_pb2

from agent.errors import CallFailed, CallRefused, to_status
from agent.link.assembly import Assembly, MessageTooLarge
from agent.link.errors import LinkBroken
from agent.link.heartbeat import Heartbeat
from agent.link.outgoing import WINDOW_BYTES
from agent.link.timing import Timing
from agent.precedence import is_urgent_method
from agent.sandbox.places import Places

REVISION = 1
GREETING_SECONDS = 5.0


class AgentStream(Protocol):
    """The two directions of an Attach stream, seen by the relay."""

    async def read(self) -> relay_pb2.AttachRequest | None:
        """The next frame; None when the agent has ended its side. Raises LinkBroken."""
        ...

    async def write(self, frame: relay_pb2.AttachResponse) -> None:
        """Send one frame. Raises LinkBroken."""
        ...


class AttachedAgent:
    """The relay's side of one Attach stream. ``greet``, then ``run`` once; meanwhile ``call``."""

    def __init__(
        self,
        stream: AgentStream,
        *,
        revision: int = REVISION,
        window_bytes: int = WINDOW_BYTES,
        dead_after: timedelta = timedelta(seconds=15),
        timing: Timing | None = None,
    ) -> None:
        """``window_bytes`` 0: answers come without credit."""
        self._stream = stream
        self._settings = relay_pb2.LinkSettings(revision=revision, window_bytes=window_bytes)
        self._settings.dead_after.FromTimedelta(dead_after)
        self._heartbeat = Heartbeat(dead_after.total_seconds(), self._ping, timing or Timing())
        self._out: deque[relay_pb2.AttachResponse] = deque()
        self._something = asyncio.Event()
        self._numbers = itertools.count(1)
        self._answers: dict[int, Assembly] = {}
        self._places = Places(0)
        self._agent_leaves = False
        self._goodbye_said = False
        self.agent = relay_pb2.LinkSettings()
        """What the agent said of itself, after ``greet``."""
        self.revision = 0
        """Revision in use, after ``greet``."""

    @property
    def takes_calls(self) -> bool:
        """False once either side has said goodbye."""
        return not (self._agent_leaves or self._goodbye_said)

    @property
    def in_doubt(self) -> bool:
        """The agent has been silent for so long that another connection, if there is one, is the better choice."""
        return self._heartbeat.in_doubt

    async def greet(self) -> relay_pb2.LinkSettings:
        """The agent's Settings. Raises LinkBroken. The caller checks them, then lets ``run`` answer with ours."""
        try:
            async with asyncio.timeout(GREETING_SECONDS):
                frame = await self._stream.read()
        except TimeoutError:
            raise LinkBroken("silent", "no settings came") from None
        if frame is None or frame.WhichOneof("frame") != "settings":
            raise LinkBroken("protocol", "the first frame is no settings")
        self.agent = frame.settings
        self.revision = min(self.agent.revision, self._settings.revision)
        self._places = Places(self.agent.max_calls)
        peer = self.agent.dead_after
        self._heartbeat.hurry(peer.seconds + peer.nanos / 1e9)
        self._send(relay_pb2.AttachResponse(settings=self._settings))
        return self.agent

    async def run(self) -> None:
        """Carry frames until the agent ends its side. Raises LinkBroken. Calls under way fail as not known."""
        self._heartbeat.heard()
        reader = asyncio.ensure_future(self._read_frames())
        tasks = [reader, asyncio.ensure_future(self._write_frames()), asyncio.ensure_future(self._heartbeat.run())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            # Before anything is awaited: gRPC may cancel a broken stream's handler twice, and a second cancellation
            # in the middle of this would leave the callers waiting for their deadlines.
            self._fail_calls()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _fail_calls(self) -> None:
        self._agent_leaves = True
        for answer in self._answers.values():
            # The agent may have done it: only the retry with the same request_id can tell.
            answer.fail(CallFailed(to_status(CallRefused(reason_pb2.REASON_OUTCOME_UNKNOWN))))

    def goodbye(self, reason: str, *, reconnect: bool) -> None:
        """Ask the agent to leave: it finishes the calls under way and ends its side."""
        if not self._goodbye_said:
            self._goodbye_said = True
            frame = relay_pb2.LinkGoodbye(reason=reason, reconnect=reconnect)
            self._send(relay_pb2.AttachResponse(goodbye=frame))

    async def call(
        self, method: str, payload: bytes, *, timeout: timedelta | None = None, caller: str = ""
    ) -> AsyncGenerator[bytes, None]:
        """Call into the site: the serialised responses. Raises CallFailed with the status that came back.

        Waits for its turn when the agent works on as many calls as it is ready for. Closing the iterator early gives
        the call up (LinkCancel).
        """
        until = None if timeout is None else time.monotonic() + timeout.total_seconds()
        answers = self._call(method, payload, until, caller)
        async with self._places.one(urgent=is_urgent_method(method)), aclosing(answers):
            async for answer in answers:
                yield answer

    async def _call(self, method: str, payload: bytes, until: float | None, caller: str) -> AsyncGenerator[bytes, None]:
        if not self.takes_calls:
            raise CallFailed(to_status(CallRefused(reason_pb2.REASON_SITE_NOT_ATTACHED)))
        call_id = next(self._numbers)
        frame = relay_pb2.LinkCall(call_id=call_id, method=method, payload=payload, caller=caller)
        if until is not None:
            frame.timeout.FromTimedelta(timedelta(seconds=max(0.0, until - time.monotonic())))
        answer = self._answers[call_id] = Assembly(lambda size: self._grant(call_id, size))
        self._send(relay_pb2.AttachResponse(call=frame))
        try:
            while (message := await answer.next_message()) is not None:
                yield message
            status = _status(answer.status)
            if status.code != code_pb2.OK:
                raise CallFailed(status)
        finally:
            del self._answers[call_id]
            if not answer.over:
                self._send(relay_pb2.AttachResponse(cancel=relay_pb2.LinkCancel(call_id=call_id)))

    async def _read_frames(self) -> None:
        while (frame := await self._stream.read()) is not None:
            self._heartbeat.heard()
            self._take(frame)

    def _take(self, frame: relay_pb2.AttachRequest) -> None:
        match frame.WhichOneof("frame"):
            case "reply":
                self._take_reply(frame.reply)
            case "ping" if not frame.ping.answer:
                answer = relay_pb2.LinkPing(number=frame.ping.number, answer=True)
                self._send(relay_pb2.AttachResponse(ping=answer))
            case "goodbye":
                self._agent_leaves = True
            case _:
                pass  # an answered ping, or a frame of a later revision

    def _take_reply(self, reply: relay_pb2.LinkReply) -> None:
        answer = self._answers.get(reply.call_id)
        if answer is None or answer.over:
            return  # given up; the last frames were on their way
        try:
            if reply.payload or reply.end_of_message:
                answer.part(reply.payload, end_of_message=reply.end_of_message)
        except MessageTooLarge:
            answer.fail(CallFailed(to_status(CallRefused(reason_pb2.REASON_ANSWER_TOO_LARGE))))
            self._send(relay_pb2.AttachResponse(cancel=relay_pb2.LinkCancel(call_id=reply.call_id)))
            return
        if reply.end_of_call:
            answer.end(reply.status)

    async def _write_frames(self) -> None:
        while True:
            while self._out:
                await self._stream.write(self._out.popleft())
            self._something.clear()
            await self._something.wait()

    def _grant(self, call_id: int, size: int) -> None:
        if self._settings.window_bytes > 0:
            window = relay_pb2.LinkWindow(call_id=call_id, bytes=size)
            self._send(relay_pb2.AttachResponse(window=window))

    def _ping(self, number: int) -> None:
        self._send(relay_pb2.AttachResponse(ping=relay_pb2.LinkPing(number=number)))

    def _send(self, frame: relay_pb2.AttachResponse) -> None:
        self._out.append(frame)
        self._something.set()


def _status(content: bytes) -> status_pb2.Status:
    """The status of a call's end; one that cannot be read leaves the outcome unknown."""
    try:
        return status_pb2.Status.FromString(content)
    except DecodeError:
        return to_status(CallRefused(reason_pb2.REASON_OUTCOME_UNKNOWN))
