"""What the link needs from those who answer calls, and the statuses that the link itself gives.

The link knows bytes only: the registry of handlers behind ``Answerer`` parses and decides.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from google.rpc import code_pb2, status_pb2
from his160.v1 import reason_pb2

from agent.errors import CallFailed, CallRefused, to_status
from agent.handler import CallContext, Identity
from agent.precedence import is_urgent_method


@dataclass(frozen=True, slots=True)
class IncomingCall:
    """A call that came over a link. ``payload`` is personal data: it is kept out of ``repr``."""

    call_id: int
    method: str
    payload: bytes = field(repr=False)
    deadline: float
    """Reading of ``time.monotonic()``, which is also the clock of the event loop; seconds."""
    caller: str
    """Identity behind the relay, as the relay says it. Empty: the relay itself."""
    link: str
    """Address of the relay the call came from."""


Answer = bytes | AsyncIterator[bytes]
"""The serialised response, or the serialised responses of a server stream."""


class Answerer(Protocol):
    """Answers calls. Shared by all links; called concurrently."""

    async def answer(self, call: IncomingCall) -> Answer:
        """Answer one call.

        Cancelled when the caller gives up, the deadline passes or the link is lost; a write that has begun must go on
        below all the same. Raises what ``status_of`` understands.
        """
        ...

    def is_urgent(self, method: str) -> bool:
        """Whether the call may take the last places of a full link."""
        ...


class Dispatcher(Protocol):
    """The registry of handlers (``agent.registry.HandlerRegistry``), as far as the link knows it."""

    def dispatch(self, full_method: str, request: bytes, context: CallContext, /) -> Awaitable[Answer]:
        """Parse, authorize, handle, serialise. Raises CallFailed."""
        ...


class RegistryAnswerer:
    """Answers by the registry of handlers: the same one that the gRPC server dispatches through."""

    def __init__(self, dispatcher: Dispatcher, relay: Identity) -> None:
        """``relay`` is the identity that calls from this link have; the link's TLS has proven it."""
        self._dispatcher = dispatcher
        self._relay = relay

    async def answer(self, call: IncomingCall) -> Answer:
        """Implements Answerer."""
        context = CallContext(
            identity=self._relay,
            border="link",
            call_id=f"{call.link}#{call.call_id}",
            deadline=call.deadline,
            caller=call.caller,
            peer=call.link,
        )
        return await self._dispatcher.dispatch(call.method, call.payload, context)

    def is_urgent(self, method: str) -> bool:
        """Implements Answerer."""
        return is_urgent_method(method)


def status_of(error: Exception) -> status_pb2.Status:
    """How a call ends that raised ``error``. Total: what nobody knows is INTERNAL."""
    return error.status if isinstance(error, CallFailed) else to_status(error)


def deadline_passed() -> status_pb2.Status:
    """The time of the call is over. For a write the outcome is kept for the retry."""
    return to_status(CallRefused(reason_pb2.REASON_DEADLINE_EXCEEDED))


def too_many_calls() -> status_pb2.Status:
    """More calls at once than Settings.max_calls."""
    return to_status(CallRefused(reason_pb2.REASON_OVERLOADED, retry_after=timedelta(seconds=1)))


def leaving() -> status_pb2.Status:
    """A call that came after Goodbye. Nothing was started: another agent or the next link will do it."""
    return to_status(CallRefused(reason_pb2.REASON_SITE_NOT_ATTACHED, retry_after=timedelta(seconds=1)))


def ambiguous_call() -> status_pb2.Status:
    """Two calls claim one call_id, so no answer can be told from the other: the only safe word is "not known"."""
    return to_status(CallRefused(reason_pb2.REASON_OUTCOME_UNKNOWN))


def bad_call() -> status_pb2.Status:
    """The frame of the call breaks the frame protocol: no method, or a timeout that is no duration."""
    return to_status(CallRefused(reason_pb2.REASON_INVALID_REQUEST))


def answer_too_large() -> status_pb2.Status:
    """One message of the answer is above the contract's limit."""
    return to_status(CallRefused(reason_pb2.REASON_ANSWER_TOO_LARGE))


def cancelled() -> status_pb2.Status:
    """The relay gave the call up. Closes the books on both sides; nobody reads it."""
    return status_pb2.Status(code=code_pb2.CANCELLED, message="given up by the caller")
