"""The one registry of handlers, and the one way a call is answered, whatever border it came over.

    answer = await registry.dispatch("/his160.v1.CatalogService/ListSlots", request_bytes, context)

Order of a call: method, place, identity, request readable, rules of the contract, deadline, handler, size of answer.
Both borders show ``CallFailed.status`` to the caller. A handler is cancelled when its caller goes or its deadline
passes; a command that was sent is finished all the same (``sync.command``), and the ledger keeps its result.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from google.protobuf.message import DecodeError, Message
from his160.v1 import reason_pb2

from agent.authorization import authorize
from agent.errors import CallFailed, CallRefused, reason_name, reason_of, to_status
from agent.figures import Figures
from agent.handler import CallContext, Handler, StreamHandler
from agent.handlers.mapped import Executor, Reader, mapped_command, mapped_read, mapped_stream
from agent.log import frames
from agent.precedence import is_urgent, places
from agent.validation import validate
from his_db.contract import ContractOperation, operation, operation_names
from his_db.errors import HisError
from sync.audit import Caller, acting
from sync.commands import COMMANDS
from sync.store import StoreError

MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
MAX_REQUEST_BYTES: Final = 1024 * 1024

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one process takes on: calls at once, and how long a call without a deadline may take."""

    calls: int = 256
    streams: int = 32
    time: timedelta = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Entry:
    """One method: exactly one of ``handler`` and ``stream`` is set, by the contract."""

    operation: ContractOperation
    handler: Handler | None = None
    stream: StreamHandler | None = None


Answered = Callable[[str, str, Message], None]
"""Is told of each answer: the identity that gets it, the operation, the message."""


class HandlerRegistry:
    """Every method that the agent serves, by full method name ``/his160.v1.X/Y``."""

    def __init__(
        self,
        entries: Mapping[str, Entry],
        *,
        figures: Figures,
        limits: Limits | None = None,
        answered: Answered | None = None,
    ) -> None:
        self._entries = dict(sorted(entries.items()))
        self._figures = figures
        self._limits = limits or Limits()
        self._answered = answered
        self._calls = 0
        self._streams = 0
        self._closed = False

    @property
    def methods(self) -> tuple[str, ...]:
        """Full names of all methods."""
        return tuple(self._entries)

    @property
    def services(self) -> tuple[str, ...]:
        """Full names of all services, for health and reflection."""
        return tuple(sorted({name.split("/")[1] for name in self._entries}))

    def entry(self, full_method: str) -> Entry | None:
        """The entry of a method; None when it is not served."""
        return self._entries.get(full_method)

    def is_streaming(self, full_method: str) -> bool:
        """Whether the answers of a method are a stream. False for an unknown method."""
        entry = self._entries.get(full_method)
        return entry is not None and entry.stream is not None

    async def dispatch(self, full_method: str, request: bytes, context: CallContext) -> bytes | AsyncIterator[bytes]:
        """Answer one call: the serialised response, or for a streaming method an iterator of them.

        Raises CallFailed and nothing else (CancelledError apart); so does the iterator.
        """
        entry = self._entries.get(full_method)
        if entry is None:
            # The name is the caller's own text: it goes nowhere.
            raise CallFailed(to_status(CallRefused(reason_pb2.REASON_OPERATION_NOT_MAPPED), call_id=_public(context)))
        if entry.stream is not None:
            return self._stream(entry, entry.stream, request, context)
        assert entry.handler is not None
        return await self._unary(entry, entry.handler, request, context)

    def close(self) -> None:
        """Take no more calls; those under way go on."""
        self._closed = True

    async def drain(self, grace: timedelta) -> int:
        """Wait until the calls under way have ended, at most ``grace``; returns how many are left."""
        until = time.monotonic() + grace.total_seconds()
        while self._calls and time.monotonic() < until:  # noqa: ASYNC110 - happens once, at the end
            await asyncio.sleep(0.02)
        return self._calls

    async def _unary(self, entry: Entry, handler: Handler, request: bytes, context: CallContext) -> bytes:
        with self._observed(entry.operation, context):
            self._take_place(self._calls < places(self._limits.calls, urgent=is_urgent(entry.operation)))
            self._calls += 1
            try:
                message = _admit(entry.operation, request, context)
                return self._told(entry, await self._answer(handler, message, context), context)
            finally:
                self._calls -= 1

    async def _answer(self, handler: Handler, message: Message, context: CallContext) -> Message:
        if context.deadline is None:
            context = replace(context, deadline=time.monotonic() + self._limits.time.total_seconds())
        seconds = _seconds_left(context)
        assert seconds is not None
        try:
            async with asyncio.timeout(seconds) as limit:
                with acting(_caller(context)):
                    return await handler(message, context)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise CallRefused(reason_pb2.REASON_DEADLINE_EXCEEDED, "the deadline passed") from error

    async def _stream(
        self, entry: Entry, handler: StreamHandler, request: bytes, context: CallContext
    ) -> AsyncIterator[bytes]:
        with self._observed(entry.operation, context):
            self._take_place(self._streams < self._limits.streams)
            self._streams += 1
            try:
                message = _admit(entry.operation, request, context)
                answers = handler(message, context)
                try:
                    while (answer := await _next(answers, context)) is not None:
                        yield self._told(entry, answer, context)
                finally:
                    await _close(answers)
            finally:
                self._streams -= 1

    def _told(self, entry: Entry, answer: Message, context: CallContext) -> bytes:
        content = _serialise(answer)
        if self._answered is not None:
            self._answered(str(context.identity), entry.operation.name, answer)
        return content

    def _take_place(self, is_free: bool) -> None:
        if self._closed:
            raise CallRefused(reason_pb2.REASON_SITE_NOT_ATTACHED, "the agent is stopping")
        if not is_free:
            raise CallRefused(reason_pb2.REASON_OVERLOADED, "too many calls at once")

    @contextmanager
    def _observed(self, about: ContractOperation, context: CallContext) -> Iterator[None]:
        """Count the call and turn whatever went wrong into CallFailed."""
        started = time.monotonic()
        refusal = ""
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            refusal = "CANCELLED"
            raise
        except Exception as error:  # BLE001 - the RPC border: a defect of one call stays inside it, with its text
            refusal = reason_name(reason_of(error))
            _report(error, refusal, about, context)
            raise CallFailed(to_status(error, operation=about.name, call_id=_public(context))) from error
        finally:
            self._figures.call_ended(about.name, time.monotonic() - started, refusal)


def build_registry(
    reader: Reader,
    executor: Executor,
    *,
    figures: Figures,
    specials: Mapping[str, Handler],
    special_streams: Mapping[str, StreamHandler],
    limits: Limits | None = None,
    answered: Answered | None = None,
) -> HandlerRegistry:
    """A registry of every operation of the contract.

    ``specials`` and ``special_streams`` (by operation name, ``AgentService.GetInfo``) are the agent's own answers;
    everything else is read from, or commanded to, the HIS by its mapping. Raises ValueError for a name that the
    contract does not have, or that has the other form.
    """
    about = {name: operation(name) for name in operation_names()}
    for name in (*specials, *special_streams):
        if name not in about or about[name].server_streaming != (name in special_streams):
            raise ValueError(f"{name} is no operation of the contract in this form")
    entries = {}
    for name, item in about.items():
        if item.server_streaming:
            entry = Entry(item, stream=special_streams.get(name) or mapped_stream(reader, name))
        elif name in specials:
            entry = Entry(item, handler=specials[name])
        else:
            # A write without a ledger entry (DeskService) has no mapping either: HisAccess says so.
            handler = mapped_command(executor, name) if name in COMMANDS else mapped_read(reader, name)
            entry = Entry(item, handler=handler)
        entries[item.full_method] = entry
    return HandlerRegistry(entries, figures=figures, limits=limits, answered=answered)


def _admit(about: ContractOperation, request: bytes, context: CallContext) -> Message:
    """The request as a message that keeps the rules of the contract, from someone who may send it."""
    authorize(about, context.identity)
    if len(request) > MAX_REQUEST_BYTES:
        raise CallRefused(reason_pb2.REASON_INVALID_REQUEST, "the request is too large")
    message = about.request_class()
    try:
        message.ParseFromString(request)
    except DecodeError as error:
        raise CallRefused(reason_pb2.REASON_INVALID_REQUEST, "the request cannot be read") from error
    violations = validate(message)
    if violations:
        raise CallRefused(reason_pb2.REASON_INVALID_REQUEST, violations=violations)
    return message


def _caller(context: CallContext) -> Caller:
    """The caller as the audit names it: the identity that TLS has proven, and whom it says that it asks for."""
    behind = f" for {context.caller}" if context.caller else ""
    return Caller(f"{context.identity}{behind}", f"{context.border} {context.peer}".rstrip(), context.call_id)


def _seconds_left(context: CallContext) -> float | None:
    """Time of the call in seconds, None without a deadline. Raises CallRefused when it has passed."""
    left = context.remaining()
    if left is None:
        return None
    if left <= timedelta(0):
        raise CallRefused(reason_pb2.REASON_DEADLINE_EXCEEDED, "the deadline has passed")
    return left.total_seconds()


async def _next(answers: AsyncIterator[Message], context: CallContext) -> Message | None:
    """The next answer of a stream; None at its end. Raises CallRefused when the deadline passes before."""
    try:
        async with asyncio.timeout(_seconds_left(context)) as limit:
            return await anext(answers, None)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise CallRefused(reason_pb2.REASON_DEADLINE_EXCEEDED, "the deadline passed") from error


async def _close(answers: AsyncIterator[Message]) -> None:
    """End a stream's handler, so that what it holds is given back now and not when memory is collected."""
    if isinstance(answers, AsyncGenerator):
        await answers.aclose()


def _serialise(answer: Message) -> bytes:
    content = answer.SerializeToString()
    if len(content) > MAX_ANSWER_BYTES:
        raise CallRefused(reason_pb2.REASON_ANSWER_TOO_LARGE, f"the answer has {len(content)} bytes")
    return content


def _public(context: CallContext) -> str:
    """The call's id as the caller may see it: a link's id begins with an address, which is nobody's business."""
    return context.call_id.rpartition("#")[2]


def _report(error: Exception, refusal: str, about: ContractOperation, context: CallContext) -> None:
    """One line for a refusal; a trace without texts for a defect, because a text may hold a value of a patient."""
    where = (about.name, context.call_id, context.border, context.identity, refusal)
    if refusal == "INTERNAL":
        _LOG.error("%s call=%s %s %s %s: %s", *where, frames(error))
    elif isinstance(error, HisError | StoreError | CallRefused):
        _LOG.info("%s call=%s %s %s %s: %s", *where, error)
    else:
        _LOG.info("%s call=%s %s %s %s: %s", *where, type(error).__name__)
