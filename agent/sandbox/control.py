"""The sandbox's control: what a person, the demo and the tests ask of it. Loopback only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import grpc
from google.rpc import status_pb2
from his160.sandbox.v1 import sandbox_pb2, sandbox_pb2_grpc

from agent.errors import CallFailed
from agent.sandbox.agents import Agents
from agent.sandbox.faults import Faults
from agent.sandbox.journal import EventJournal
from agent.sandbox.streams import Context

SITE_KEY = "his160-site"
CALLER_KEY = "his160-caller"
STATUS_KEY = "grpc-status-details-bin"
DEFAULT_PAGE = 200
MAX_PAGE = 1000
MAX_WAIT = timedelta(minutes=10)
MARGIN_SECONDS = 0.1
"""The site gets this much less time than the caller has (at most a tenth), so that its own word on a passed deadline,
with details, arrives before the caller's gRPC gives up."""

_CONTRACT = "/his160.v1."
_NOT_PROXIED = ("/his160.v1.RelayService/",)


class SandboxControl(sandbox_pb2_grpc.SandboxServiceServicer):
    """SandboxService."""

    def __init__(self, agents: Agents, journal: EventJournal, faults: Faults) -> None:
        self._agents = agents
        self._journal = journal
        self._faults = faults

    async def ListLinks(self, request: sandbox_pb2.ListLinksRequest, context: Context) -> sandbox_pb2.ListLinksResponse:
        """Agents attached now."""
        answer = sandbox_pb2.ListLinksResponse()
        for attached in self._agents.all():
            said = attached.agent
            answer.links.add(site=said.site, instance=said.instance, version=said.version, operations=said.operations)
        return answer

    async def ListStoredEvents(
        self, request: sandbox_pb2.ListStoredEventsRequest, context: Context
    ) -> sandbox_pb2.ListStoredEventsResponse:
        """Events stored, waiting for the first when asked to."""
        limit = min(request.page_size, MAX_PAGE) if request.page_size > 0 else DEFAULT_PAGE
        if request.HasField("wait"):
            wait = min(timedelta(seconds=request.wait.seconds, microseconds=request.wait.nanos // 1000), MAX_WAIT)
            try:
                async with asyncio.timeout(max(0.0, wait.total_seconds())):
                    await self._journal.wait_after(request.after_position)
            except TimeoutError:
                pass  # the empty page says it
        return sandbox_pb2.ListStoredEventsResponse(events=self._journal.after(request.after_position, limit))

    async def SetFault(self, request: sandbox_pb2.SetFaultRequest, context: Context) -> sandbox_pb2.SetFaultResponse:
        """Set or heal the faults."""
        try:
            self._faults.set(request)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return sandbox_pb2.SetFaultResponse()


class ContractProxy(grpc.GenericRpcHandler):
    """Forwards every call of ``his160.v1`` to an attached agent as bytes: it knows no message of the contract.

    Unary calls and server streams look the same on the wire, so one kind of handler serves both.
    """

    def __init__(self, agents: Agents, faults: Faults) -> None:
        self._agents = agents
        self._faults = faults

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        """Implements GenericRpcHandler."""
        method = handler_call_details.method
        if not method.startswith(_CONTRACT) or method.startswith(_NOT_PROXIED):
            return None
        return grpc.unary_stream_rpc_method_handler(self._forwarder(method))

    def _forwarder(self, method: str) -> Callable[[bytes, Context], AsyncIterator[bytes]]:
        async def forward(request: bytes, context: Context) -> AsyncIterator[bytes]:
            metadata: dict[str, Any] = dict(context.invocation_metadata() or ())
            try:
                if self._faults.call_delay:
                    await asyncio.sleep(self._faults.call_delay.total_seconds())
                agent = self._agents.choose(str(metadata.get(SITE_KEY, "")))
                caller = str(metadata.get(CALLER_KEY, ""))
                answers = agent.call(method, request, timeout=_time_left(context), caller=caller)
                async with aclosing(answers):
                    async for answer in answers:
                        yield answer
            except CallFailed as error:
                await _end(context, error.status)

        return forward


def _time_left(context: Context) -> timedelta | None:
    left = context.time_remaining()
    if left is None or left > MAX_WAIT.total_seconds():
        return None
    return timedelta(seconds=left - min(MARGIN_SECONDS, left / 10))


async def _end(context: Context, status: status_pb2.Status) -> None:
    """End the call with the status as it came, details included."""
    code = next((code for code in grpc.StatusCode if code.value[0] == status.code), grpc.StatusCode.UNKNOWN)
    await context.abort(code, status.message, ((STATUS_KEY, status.SerializeToString()),))
