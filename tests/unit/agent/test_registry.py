"""Every RPC of the contract has a handler, a permission and a name of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import get_args

import pytest
from google.protobuf.message import Message
from his160.v1 import agent_pb2, catalog_pb2, report_pb2

from agent.authorization import PERMISSIONS, allowed_kinds
from agent.errors import CallFailed, explain
from agent.figures import Figures
from agent.handler import CallContext, Identity, IdentityKind
from agent.registry import HandlerRegistry, Limits, build_registry
from his_db.contract import operation, operation_names
from his_db.errors import OperationNotMapped

LOCAL = CallContext(Identity("local", "test"), "server", "c1")


class Nothing:
    """An HIS without any mapping."""

    async def read(self, name: str, request: Message, *, deadline: float | None = None) -> Message:
        raise OperationNotMapped(name)

    execute = read


def registry(**options: object) -> HandlerRegistry:
    his = Nothing()
    return build_registry(his, his, figures=Figures(), specials={}, special_streams={}, **options)  # type: ignore[arg-type]


def test_every_rpc_has_an_entry() -> None:
    built = registry()
    assert built.methods == tuple(sorted(operation(name).full_method for name in operation_names()))
    for name in operation_names():
        about = operation(name)
        entry = built.entry(about.full_method)
        assert entry is not None
        assert entry.operation is about
        assert (entry.stream is not None) == about.server_streaming == built.is_streaming(about.full_method)
        assert (entry.handler is None) == about.server_streaming
    assert len(built.services) == 9


def test_every_service_has_a_permission() -> None:
    assert set(PERMISSIONS) == {name.split(".")[0] for name in operation_names()}
    for name in operation_names():
        kinds = allowed_kinds(operation(name))
        assert kinds
        assert kinds <= set(get_args(IdentityKind))
        assert "site" not in kinds
        if not operation(name).is_read:
            assert "operator" not in kinds


def test_a_special_must_be_of_the_contract() -> None:
    async def handle(request: Message, context: CallContext) -> Message:
        return request

    async def stream(request: Message, context: CallContext) -> AsyncIterator[Message]:
        yield request

    his = Nothing()
    for specials, streams in (({"X.Y": handle}, {}), ({"EventService.ReadEvents": handle}, {}), ({}, {"X.Y": stream})):
        with pytest.raises(ValueError, match="no operation"):
            build_registry(his, his, figures=Figures(), specials=specials, special_streams=streams)


async def refusal(built: HandlerRegistry, name: str, request: bytes = b"", context: CallContext = LOCAL) -> str:
    with pytest.raises(CallFailed) as caught:
        answer = await built.dispatch(name, request, context)
        assert not isinstance(answer, bytes)
        _ = [part async for part in answer]
    return explain(caught.value.status).reason


async def test_unknown_methods_and_unmapped_operations() -> None:
    built = registry()
    assert await refusal(built, "/his160.v1.Nothing/Nothing") == "OPERATION_NOT_MAPPED"
    assert await refusal(built, "/his160.v1.CatalogService/ListDepartments") == "OPERATION_NOT_MAPPED"
    assert await refusal(built, "/his160.v1.AgentService/GetInfo") == "OPERATION_NOT_MAPPED"
    request = report_pb2.ReadReportRequest(name="R1", from_date={"year": 2026, "month": 1, "day": 1})
    request.to_date.CopyFrom(request.from_date)
    name = "/his160.v1.ReportService/ReadReport"
    assert await refusal(built, name, request.SerializeToString()) == "OPERATION_NOT_MAPPED"
    assert await refusal(built, name) == "INVALID_REQUEST"


async def test_a_deadline_that_has_passed_starts_nothing() -> None:
    late = CallContext(Identity("local", "test"), "link", "c2", deadline=asyncio.get_running_loop().time() - 1)
    assert await refusal(registry(), "/his160.v1.CatalogService/ListDepartments", b"", late) == "DEADLINE_EXCEEDED"


async def test_a_request_that_is_too_large_is_not_read() -> None:
    request = catalog_pb2.ListDepartmentsRequest(branch="x" * 1_100_000).SerializeToString()
    assert await refusal(registry(), "/his160.v1.CatalogService/ListDepartments", request) == "INVALID_REQUEST"


async def test_streams_have_places_too() -> None:
    opened = asyncio.Event()

    async def wait(request: Message, context: CallContext) -> AsyncIterator[Message]:
        yield agent_pb2.GetInfoResponse()
        opened.set()
        await asyncio.Event().wait()

    his = Nothing()
    built = build_registry(
        his,
        his,
        figures=Figures(),
        specials={},
        special_streams={"EventService.ReadEvents": wait},
        limits=Limits(streams=1),
    )
    name = "/his160.v1.EventService/ReadEvents"
    first = await built.dispatch(name, b"", LOCAL)
    assert not isinstance(first, bytes)
    assert await anext(first) == b""
    assert await refusal(built, name) == "OVERLOADED"
    await first.aclose()  # type: ignore[attr-defined]
    again = await built.dispatch(name, b"", LOCAL)
    assert not isinstance(again, bytes)
    assert await anext(again) == b""
    await again.aclose()  # type: ignore[attr-defined]
