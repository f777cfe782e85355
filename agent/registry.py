"""The one registry of handlers, and the one way a call is answered, whatever border it came over.

    answer = await registry.dispatch("/his160.v1.CatalogService/ListSlots", request_bytes, context)

Order of a call: known method, place, identity, request readable, rules of the contract, deadline, handler, size of the answer.
Both borders show ``CallFailed.status`` to the caller. A command that has begun is finished although its caller has gone
or its deadline has passed: the ledger keeps the result for the retry.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from google.protobuf.message import DecodeError, Message

from agent.authorization import authorize
from agent.errors import CallFailed, CallRefused, reason_name, reason_of, to_status
from agent.figures import Figures
from agent.handler import CallContext, Handler, StreamHandler
from agent.log import frames
from agent.validation import validate
from his160.v1 import reason_pb2
from his_db.contract import ContractOperation, operation, operation_names
from his_db.errors import HisError

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


class HandlerRegistry:
    """Every method that the agent serves, by full method name ``/his160.v1.X/Y``."""

    def __init__(self, entries: Mapping[str, Entry], *, figures: Figures, limits: Limits | None = None) -> None:
        self._entries = dict(sorted(entries.items()))
        self._figures = figures
        self._limits = limits or Limits()
        self._commands: set[asyncio.Task[Message]] = set()
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
            raise CallFailed(to_status(CallRefused(reason_pb2.REASON_OPERATION_NOT_MAPPED), call_id=context.call_id))
        if entry.stream is not None:
            return self._stream(entry, entry.stream, request, context)
        assert entry.handler is not None  # noqa: S101 - build_registry gives each entry one of the two
        return await self._unary(entry, entry.handler, request, context)

    def close(self) -> None:
        """Take no more calls; those under way go on."""
        self._closed = True

    async def drain(self, grace: timedelta) -> int:
        """Wait until the calls under way have ended, at most ``grace``; returns how many are left."""
        until = time.monotonic() + grace.total_seconds()
        while (self._calls or self._commands) and time.monotonic() < until:
            await asyncio.sleep(0.02)
        return self._calls + sum(not task.done() for task in self._commands)

    async def _unary(self, entry: Entry, handler: Handler, request: bytes, context: CallContext) -> bytes:
        with self._observed(entry.operation, context):
            self._take_place(self._calls < self._limits.calls)
            self._calls += 1
            try:
                message = _admit(entry.operation, request, context)
                answer = await self._answer(entry.operation, handler, message, context)
                return _serialise(answer)
            finally:
                self._calls -= 1

    async def _answer(
        self, about: ContractOperation, handler: Handler, message: Message, context: CallContext
    ) -> Message:
        left = context.remaining()
        seconds = (self._limits.time if left is None else left).total_seconds()
        if seconds <= 0:
            raise CallRefused(reason_pb2.REASON_DEADLINE_EXCEEDED, "the deadline had passed before the call began")
        try:
            async with asyncio.timeout(seconds) as limit:
                if about.is_read:
                    return await handler(message, context)
                return await asyncio.shield(self._begin(handler, message, context))
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise CallRefused(reason_pb2.REASON_DEADLINE_EXCEEDED, "the deadline passed") from error

    def _begin(self, handler: Handler, message: Message, context: CallContext) -> asyncio.Task[Message]:
        """Start a command as a task of its own, which outlives its caller."""
        task = asyncio.ensure_future(handler(message, context))
        self._commands.add(task)
        task.add_done_callback(self._command_ended)
        return task

    def _command_ended(self, task: asyncio.Task[Message]) -> None:
        self._commands.discard(task)
        if not task.cancelled():
            # Looked at, so that asyncio does not complain when the caller has gone; the ledger has the result.
            task.exception()

    async def _stream(
        self, entry: Entry, handler: StreamHandler, request: bytes, context: CallContext
    ) -> AsyncIterator[bytes]:
        with self._observed(entry.operation, context):
            self._take_place(self._streams < self._limits.streams)
            self._streams += 1
            try:
                message = _admit(entry.operation, request, context)
                left = context.remaining()
                try:
                    async with asyncio.timeout(None if left is None else left.total_seconds()) as limit:
                        async for answer in handler(message, context):
                            yield _serialise(answer)
                except TimeoutError as error:
                    if not limit.expired():
                        raise
                    raise CallRefused(reason_pb2.REASON_DEADLINE_EXCEEDED, "the deadline passed") from error
            finally:
                self._streams -= 1

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
        except Exception as error:
            # The RPC border: a defect of one call must not end the process, and its text must not leave it.
            refusal = reason_name(reason_of(error))
            _report(error, refusal, about, context)
            raise CallFailed(to_status(error, operation=about.name, call_id=context.call_id)) from error
        finally:
            self._figures.call_ended(about.name, time.monotonic() - started, refusal)


def build_entries(
    *,
    read: Handler | Mapping[str, Handler],
    specials: Mapping[str, Handler],
    special_streams: Mapping[str, StreamHandler],
) -> dict[str, Entry]:
    raise NotImplementedError


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


def _serialise(answer: Message) -> bytes:
    content = answer.SerializeToString()
    if len(content) > MAX_ANSWER_BYTES:
        raise CallRefused(reason_pb2.REASON_ANSWER_TOO_LARGE, f"the answer has {len(content)} bytes")
    return content


def _report(error: Exception, refusal: str, about: ContractOperation, context: CallContext) -> None:
    """One line for a refusal; a trace without texts for a defect, because a text may hold a value of a patient."""
    where = (about.name, context.call_id, context.border, context.identity, refusal)
    if refusal == "INTERNAL":
        _LOG.error("%s call=%s %s %s %s: %s", *where, frames(error))
    elif isinstance(error, HisError | CallRefused):
        _LOG.info("%s call=%s %s %s %s: %s", *where, error)
    else:
        _LOG.info("%s call=%s %s %s %s: %s", *where, type(error).__name__)
