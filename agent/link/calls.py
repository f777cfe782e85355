"""Calls under way on one link: each in a task of its own, with its deadline and its flow of answers."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from google.rpc import status_pb2
from his160.v1 import relay_pb2

from agent.link import answering
from agent.link.answering import Answerer, IncomingCall
from agent.link.assembly import MAX_MESSAGE_BYTES
from agent.link.outgoing import Outgoing, ReplyFlow
from agent.precedence import places

log = logging.getLogger(__name__)

MAX_METHOD_LENGTH = 200
MAX_TIMEOUT = timedelta(hours=1)
"""The most that a call gets, whatever the relay says: a report that a slow reader takes in small steps."""


class _TooLarge(Exception):
    """A message of the answer is above the contract's limit."""


class Calls:
    """The calls of one link."""

    def __init__(
        self, answerer: Answerer, outgoing: Outgoing, max_calls: int, default_timeout: timedelta, link: str
    ) -> None:
        """``max_calls`` 0: no limit."""
        self._answerer = answerer
        self._outgoing = outgoing
        self._max_calls = max_calls
        self._default_timeout = default_timeout
        self._link = link
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._flows: dict[int, ReplyFlow] = {}
        self._verdicts: dict[int, status_pb2.Status] = {}
        self._none_left = asyncio.Event()
        self._none_left.set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, frame: relay_pb2.LinkCall) -> None:
        """Begin a call, or refuse it with a status. Never raises for what is in the frame."""
        call_id = frame.call_id
        if call_id in self._tasks:
            # One end frame serves both: the relay cannot tell them apart.
            self._give_up(call_id, answering.ambiguous_call())
            return
        timeout = self._timeout(frame)
        if timeout is None:
            self.refuse(call_id, answering.bad_call())
        elif timeout <= timedelta(0):
            self.refuse(call_id, answering.deadline_passed())
        elif not 0 < len(frame.method) <= MAX_METHOD_LENGTH:
            self.refuse(call_id, answering.bad_call())
        elif self._is_full(frame.method):
            self.refuse(call_id, answering.too_many_calls())
        else:
            call = IncomingCall(
                call_id=call_id,
                method=frame.method,
                payload=frame.payload,
                deadline=asyncio.get_running_loop().time() + timeout.total_seconds(),
                caller=frame.caller,
                link=self._link,
            )
            self._begin(call_id, call)

    def refuse(self, call_id: int, status: status_pb2.Status) -> None:
        """End a call that was not started. Raises LinkBroken when the peer floods the link and never reads."""
        reply = relay_pb2.LinkReply(call_id=call_id, end_of_call=True, status=status.SerializeToString())
        self._outgoing.control(relay_pb2.AttachRequest(reply=reply))

    def cancel(self, call_id: int) -> None:
        """The relay gives a call up. Unknown ids are calls that have just ended: nothing to do."""
        self._give_up(call_id, answering.cancelled())

    def grant(self, call_id: int, size: int) -> None:
        """The relay allows more payload for a call."""
        flow = self._flows.get(call_id)
        if flow is not None:
            flow.grant(size)

    async def finished(self) -> None:
        """Wait until no call is under way."""
        await self._none_left.wait()

    async def abandon(self) -> None:
        """The link is gone: stop waiting for every call."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _is_full(self, method: str) -> bool:
        urgent = self._answerer.is_urgent(method)
        return self._max_calls > 0 and len(self._tasks) >= places(self._max_calls, urgent=urgent)

    def _timeout(self, frame: relay_pb2.LinkCall) -> timedelta | None:
        """Time the call has; None when the frame holds no valid duration."""
        if not frame.HasField("timeout"):
            return self._default_timeout
        try:
            return min(frame.timeout.ToTimedelta(), MAX_TIMEOUT)
        except (ValueError, OverflowError):
            return None

    def _begin(self, call_id: int, call: IncomingCall) -> None:
        flow = self._outgoing.flow(call_id)
        task = asyncio.get_running_loop().create_task(self._run(call, flow))
        self._tasks[call_id] = task
        self._flows[call_id] = flow
        self._none_left.clear()
        task.add_done_callback(lambda done: self._forget(call_id, done))

    def _forget(self, call_id: int, task: asyncio.Task[None]) -> None:
        flow = self._flows.pop(call_id)
        del self._tasks[call_id]
        verdict = self._verdicts.pop(call_id, None)
        if verdict is not None and task.cancelled():
            # Here and not in the task: one that was cancelled before its first step never ran a line.
            flow.end(verdict.SerializeToString())
        if not self._tasks:
            self._none_left.set()

    def _give_up(self, call_id: int, verdict: status_pb2.Status) -> None:
        task = self._tasks.get(call_id)
        if task is not None and call_id not in self._verdicts:
            self._verdicts[call_id] = verdict
            task.cancel()

    async def _run(self, call: IncomingCall, flow: ReplyFlow) -> None:
        try:
            async with asyncio.timeout_at(call.deadline) as limit:
                await self._answer(call, flow)
        except _TooLarge:
            flow.end(answering.answer_too_large().SerializeToString())
        except Exception as error:  # noqa: BLE001 - border of a call: an error ends this call only
            if isinstance(error, TimeoutError) and limit.expired():
                status = answering.deadline_passed()
            else:
                status = answering.status_of(error)
            flow.end(status.SerializeToString())

    async def _answer(self, call: IncomingCall, flow: ReplyFlow) -> None:
        answer = await self._answerer.answer(call)
        if isinstance(answer, bytes):
            await flow.message(_limited(answer), last=True)
            return
        try:
            async for message in answer:
                await flow.message(_limited(message), last=False)
        finally:
            close = getattr(answer, "aclose", None)
            if close is not None:
                await close()
        flow.end(b"")


def _limited(message: bytes) -> bytes:
    if len(message) > MAX_MESSAGE_BYTES:
        raise _TooLarge
    return message
