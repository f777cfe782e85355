"""Handlers of every operation that the site's mapping answers: no Python for a new one.

An operation that is not mapped comes out of the same path as OperationNotMapped (UNIMPLEMENTED).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from google.protobuf.message import Message

from agent.handler import CallContext, Handler, StreamHandler


class Reader(Protocol):
    """Runs a mapped read against the HIS (``his_db.access.HisAccess``); ``deadline``: a reading of time.monotonic()."""

    async def read(self, operation: str, request: Message, *, deadline: float | None = None) -> Message:
        """The answer. Raises HisError."""


class Executor(Protocol):
    """Runs a command once (``sync.command.CommandExecutor``): ledger, order, probe."""

    async def execute(self, operation: str, request: Message, *, deadline: float | None = None) -> Message:
        """The answer, also of an earlier call with this request_id. Raises HisError and errors with a ``reason``."""


def mapped_read(reader: Reader, operation: str) -> Handler:
    """A read, straight to the HIS."""

    async def handle(request: Message, context: CallContext) -> Message:
        return await reader.read(operation, request, deadline=context.deadline)

    return handle


def mapped_command(executor: Executor, operation: str) -> Handler:
    """A command, through the ledger."""

    async def handle(request: Message, context: CallContext) -> Message:
        return await executor.execute(operation, request, deadline=context.deadline)

    return handle


def mapped_stream(reader: Reader, operation: str) -> StreamHandler:
    """A streamed read: what the mapping gives, as one message."""

    async def handle(request: Message, context: CallContext) -> AsyncIterator[Message]:
        yield await reader.read(operation, request, deadline=context.deadline)

    return handle
