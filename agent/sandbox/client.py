"""A client of the sandbox's control address for the demo and the tests. Synchronous; thread-safe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message
from google.rpc import status_pb2
from his160.sandbox.v1 import sandbox_pb2, sandbox_pb2_grpc

from agent.errors import explain
from agent.sandbox.control import CALLER_KEY, SITE_KEY, STATUS_KEY
from agent.sandbox.server import SERVER_OPTIONS, reflected_services

DEFAULT_TIMEOUT = timedelta(seconds=30)


class CallFailed(Exception):
    """A call that ended with another status than OK. ``str()`` holds code and reason, no personal data."""

    def __init__(self, status: status_pb2.Status) -> None:
        explained = explain(status)
        super().__init__(f"{explained.code} {explained.reason}".rstrip())
        self.status = status
        self.code = explained.code
        """Canonical code by name, for example ``UNAVAILABLE``."""
        self.reason = explained.reason
        """Name of ``his160.v1.Reason`` without prefix; empty when the status holds none."""
        self.zh = explained.text
        """The sentence for people, Chinese."""
        self.retry_after = explained.retry_after
        self.details = list(status.details)
        """``google.protobuf.Any`` as they came."""


class SandboxClient:
    """Calls into the site and control of the sandbox.

    with SandboxClient("127.0.0.1:16161") as sandbox:
        answer = sandbox.call("CatalogService.ListSlots", catalog_pb2.ListSlotsRequest(...))
    """

    def __init__(self, control: str, *, site: str = "", caller: str = "") -> None:
        """``site`` chooses the agents to call; empty: those of the site that attached first."""
        reflected_services()  # loads every message of the contract into the pool
        options: list[tuple[str, Any]] = [*SERVER_OPTIONS, ("grpc.enable_http_proxy", 0)]
        self._channel = grpc.insecure_channel(control, options=options)
        self._sandbox = sandbox_pb2_grpc.SandboxServiceStub(self._channel)
        wanted = ((SITE_KEY, site), (CALLER_KEY, caller))
        self._metadata: tuple[tuple[str, str | bytes], ...] = tuple((key, value) for key, value in wanted if value)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def call(self, operation: str, request: Message, timeout: timedelta = DEFAULT_TIMEOUT) -> Any:
        """One unary call, ``operation`` like ``AppointmentService.LockSlot``. Raises CallFailed."""
        method, answer_class = _method(operation)
        stub = self._channel.unary_unary(
            method, request_serializer=_serialise, response_deserializer=answer_class.FromString
        )
        with _failures():
            return stub(request, timeout=timeout.total_seconds(), metadata=self._metadata)

    def stream(self, operation: str, request: Message, timeout: timedelta = DEFAULT_TIMEOUT) -> Iterator[Any]:
        """The answers of a server stream, as they come; closing the iterator gives the call up. Raises CallFailed."""
        method, answer_class = _method(operation)
        stub = self._channel.unary_stream(
            method, request_serializer=_serialise, response_deserializer=answer_class.FromString
        )
        answers = stub(request, timeout=timeout.total_seconds(), metadata=self._metadata)
        try:
            with _failures():
                yield from answers
        finally:
            answers.cancel()

    def links(self) -> list[sandbox_pb2.Link]:
        """Agents attached now. Raises CallFailed, like all below, when the sandbox itself does not answer."""
        with _failures():
            answer = self._sandbox.ListLinks(sandbox_pb2.ListLinksRequest(), timeout=DEFAULT_TIMEOUT.total_seconds())
        return list(answer.links)

    def events(
        self, after: int = 0, wait: timedelta | None = None, page_size: int = 0
    ) -> list[sandbox_pb2.StoredEvent]:
        """Events of positions above ``after``; with ``wait``, waits that long for the first. At most one page."""
        request = sandbox_pb2.ListStoredEventsRequest(after_position=after, page_size=page_size)
        limit = DEFAULT_TIMEOUT
        if wait is not None:
            request.wait.FromTimedelta(wait)
            limit += wait
        with _failures():
            answer = self._sandbox.ListStoredEvents(request, timeout=limit.total_seconds())
        return list(answer.events)

    def fault(
        self,
        *,
        cut: bool = False,
        ack_delay: timedelta | None = None,
        drop_receipts: int = 0,
        call_delay: timedelta | None = None,
        retry_events: int = 0,
    ) -> None:
        """Set the faults; without arguments all are healed."""
        request = sandbox_pb2.SetFaultRequest(cut=cut, drop_receipts=drop_receipts, retry_events=retry_events)
        if ack_delay is not None:
            request.ack_delay.FromTimedelta(ack_delay)
        if call_delay is not None:
            request.call_delay.FromTimedelta(call_delay)
        with _failures():
            self._sandbox.SetFault(request, timeout=DEFAULT_TIMEOUT.total_seconds())


@contextmanager
def _failures() -> Iterator[None]:
    """gRPC's errors as ours."""
    try:
        yield
    except grpc.RpcError as error:
        raise CallFailed(status_of(error)) from None


def status_of(error: grpc.RpcError) -> status_pb2.Status:
    """The status of a failed call with its details (without, when the far end sent none). Both kinds of channel."""
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0])
    trailers: Iterable[tuple[str, str | bytes]] = error.trailing_metadata() or ()
    for key, value in trailers:
        if key == STATUS_KEY and isinstance(value, bytes):
            return status_pb2.Status.FromString(value)
    return status_pb2.Status(code=error.code().value[0], message=error.details() or "")


def _method(operation: str) -> tuple[str, type[Message]]:
    """Full method and class of the answer. Raises KeyError for an operation that the contract does not know."""
    service, _, name = operation.partition(".")
    descriptor = descriptor_pool.Default().FindServiceByName(f"his160.v1.{service}")
    method = descriptor.methods_by_name[name]
    return f"/{descriptor.full_name}/{name}", message_factory.GetMessageClass(method.output_type)


def _serialise(message: Message) -> bytes:
    return message.SerializeToString()
