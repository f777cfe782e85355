from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (  # type: ignore[import-untyped]
    ProtoReflectionDescriptorDatabase,
)
from his160.sandbox.v1 import sandbox_pb2, sandbox_pb2_grpc
from his160.v1 import agent_pb2, catalog_pb2, relay_pb2, relay_pb2_grpc, report_pb2

from agent.errors import CallFailed as EndedWith
from agent.sandbox.attached import AttachedAgent
from agent.sandbox.client import CallFailed, SandboxClient
from agent.sandbox.command import main
from agent.sandbox.server import CannotListen, NotLoopback, Sandbox, require_loopback
from tests.bounds import PATIENCE, until
from tests.unit.link.bench import PREFIX, SITE, Bench, event

HERE = Path(__file__).parents[3]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@asynccontextmanager
async def attached(bench: Bench) -> AsyncIterator[tuple[Sandbox, SandboxClient]]:
    async with bench.sandbox() as sandbox, bench.links(bench.link(sandbox.listen)):
        with SandboxClient(sandbox.control, caller="tester") as client:
            yield sandbox, client


async def test_calls_pass_through_the_proxy(bench: Bench) -> None:
    async with attached(bench) as (_, client):
        links = await asyncio.to_thread(client.links)
        assert [(link.site, link.instance, list(link.operations)) for link in links] == [
            (SITE, "a1", ["TestService.Echo"])
        ]
        info = await asyncio.to_thread(client.call, "AgentService.GetInfo", agent_pb2.GetInfoRequest())
        assert info == agent_pb2.GetInfoResponse(site=SITE, instance="tester")
        context = bench.dispatcher.contexts[-1]
        left = context.remaining()
        assert left is not None
        assert timedelta(seconds=25) < left <= timedelta(seconds=30), "the caller's deadline travels"


async def test_a_refusal_keeps_its_details(bench: Bench) -> None:
    async with attached(bench) as (_, client):
        with pytest.raises(CallFailed) as caught:
            await asyncio.to_thread(client.call, "CatalogService.ListSlots", catalog_pb2.ListSlotsRequest())
        assert (caught.value.code, caught.value.reason) == ("UNIMPLEMENTED", "OPERATION_NOT_MAPPED")
        assert caught.value.zh
        assert caught.value.details


async def test_a_server_stream_passes(bench: Bench) -> None:
    def read(client: SandboxClient) -> tuple[list[int], str]:
        rows = []
        try:
            for page in client.stream("ReportService.ReadReport", report_pb2.ReadReportRequest(name="R1")):
                rows.append(page.first_row)  # noqa: PERF401  # what came before the error counts
        except CallFailed as error:
            return rows, error.reason
        return rows, ""

    async with attached(bench) as (_, client):
        assert await asyncio.to_thread(read, client) == ([0, 5], "HIS_BUSY")


async def test_a_site_that_is_not_attached(bench: Bench) -> None:
    async with attached(bench) as (sandbox, _):
        with SandboxClient(sandbox.control, site="999") as other, pytest.raises(CallFailed) as caught:
            await asyncio.to_thread(other.call, "AgentService.GetInfo", agent_pb2.GetInfoRequest())
    assert (caught.value.code, caught.value.reason) == ("UNAVAILABLE", "SITE_NOT_ATTACHED")
    assert caught.value.retry_after


async def test_what_the_proxy_does_not_pass(bench: Bench) -> None:
    async with attached(bench) as (sandbox, _), grpc.aio.insecure_channel(sandbox.control) as channel:
        for method in ("/his160.v1.RelayService/PublishEvents", "/his160.v2.AgentService/GetInfo", "/x.Y/Z"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(method)(b"")  # type: ignore[arg-type]  # raw bytes
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_reflection_names_the_contract(bench: Bench) -> None:
    def services(address: str) -> set[str]:
        with grpc.insecure_channel(address) as channel:
            return set(ProtoReflectionDescriptorDatabase(channel).get_services())

    async with bench.sandbox() as sandbox:
        names = await asyncio.to_thread(services, sandbox.control)
    assert {"his160.v1.AppointmentService", "his160.sandbox.v1.SandboxService"} <= names
    assert "his160.v1.RelayService" not in names


async def test_stored_events_are_listed_and_waited_for(bench: Bench) -> None:
    async with bench.sandbox() as sandbox:
        with SandboxClient(sandbox.control) as client:
            assert await asyncio.to_thread(client.events) == []
            assert await asyncio.to_thread(client.events, 0, timedelta(seconds=0.01)) == []
            waiting = asyncio.create_task(asyncio.to_thread(client.events, 0, timedelta(seconds=20)))
            await sandbox.journal.add([event(1), event(2), event(1)])
            found = await waiting
            assert [(entry.position, entry.arrivals) for entry in found] == [(1, 2), (2, 1)]
            assert found[0].arrival_us > 1_700_000_000_000_000
            assert [entry.position for entry in await asyncio.to_thread(client.events, 1, None, 1)] == [2]


async def test_faults_are_set_and_healed(bench: Bench) -> None:
    async with attached(bench) as (sandbox, client):
        await asyncio.to_thread(
            lambda: client.fault(
                cut=True, ack_delay=timedelta(seconds=1), call_delay=timedelta(seconds=2), drop_receipts=1
            )
        )
        assert sandbox.faults.cut
        assert (sandbox.faults.ack_delay, sandbox.faults.call_delay) == (timedelta(seconds=1), timedelta(seconds=2))
        assert [sandbox.faults.drops_receipt() for _ in range(2)] == [True, False]
        await until(lambda: not sandbox.agents.all())
        await asyncio.to_thread(client.fault)
        assert not sandbox.faults.cut
        await until(lambda: len(sandbox.agents.all()) == 1)


async def test_a_delayed_call_runs_into_its_deadline(bench: Bench) -> None:
    async with attached(bench) as (sandbox, client):
        request = sandbox_pb2.SetFaultRequest()
        request.call_delay.FromTimedelta(timedelta(seconds=30))
        sandbox.faults.set(request)
        with pytest.raises(CallFailed) as caught:
            await asyncio.to_thread(
                client.call, "AgentService.GetInfo", agent_pb2.GetInfoRequest(), timedelta(seconds=0.1)
            )
        assert caught.value.code == "DEADLINE_EXCEEDED"
        assert bench.dispatcher.contexts == []


async def test_a_report_is_published_and_gone_on_with(bench: Bench) -> None:
    def chunk(first: int, last: bool = False) -> relay_pb2.PublishReportRequest:
        page = report_pb2.ReadReportResponse(first_row=first)
        page.rows.add()
        return relay_pb2.PublishReportRequest(run_id="R1", first_row=first, page=page, last=last)

    async with bench.sandbox() as sandbox, bench.links(bench.link(sandbox.listen)) as links:
        channel = links.links[0].channel
        assert channel is not None
        stub = relay_pb2_grpc.RelayServiceStub(channel)
        assert (await stub.PublishReport(iter([chunk(0), chunk(1)]))).rows == 2
        assert (await stub.PublishReport(iter([relay_pb2.PublishReportRequest(run_id="R1")]))).rows == 2
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.PublishReport(iter([chunk(7)]))
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "row 2 is next" in (caught.value.details() or "")


@pytest.mark.parametrize("address", ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "relay.test:1", ":1"])
def test_the_control_address_must_be_loopback(address: str) -> None:
    with pytest.raises(NotLoopback):
        require_loopback(address)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.1.2.3:1", "[::1]:1", "localhost:1"])
def test_loopback_addresses(address: str) -> None:
    require_loopback(address)


async def test_an_address_that_is_taken(bench: Bench, tmp_path: Path) -> None:
    async with bench.sandbox() as sandbox:
        with pytest.raises(CannotListen):
            async with bench.sandbox(control=sandbox.control, store=tmp_path / "other"):
                pass


async def start_command(bench: Bench) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-c",
        "import sys; from agent.sandbox.command import main; sys.exit(main(sys.argv[1:]))",
        *("--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"),
        *("--pki", str(bench.authority.folder), "--store", str(bench.settings.store)),
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": f"{HERE}{os.pathsep}{HERE / 'proto' / 'gen'}"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_command(bench: Bench, number: signal.Signals) -> None:
    process = await start_command(bench)
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        ready = json.loads(await process.stdout.readline())
        assert ready["ready"] is True
        async with bench.links(bench.link(ready["listen"])):
            with SandboxClient(ready["control"]) as client:
                assert len(await asyncio.to_thread(client.links)) == 1
                process.send_signal(number)
                _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert b"Traceback" not in errors


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
async def test_a_second_signal_ends_the_command_at_once(bench: Bench) -> None:
    process = await start_command(bench)
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        ready = json.loads(await process.stdout.readline())
        link = bench.link(ready["listen"])
        async with bench.links(link), grpc.aio.insecure_channel(ready["control"]) as channel:
            hanging: Any = channel.unary_unary(f"{PREFIX}Hang")(b"")  # type: ignore[arg-type]  # raw bytes
            await bench.dispatcher.started.wait()
            process.send_signal(signal.SIGTERM)
            while not await refuses(channel):
                pass
            assert process.returncode is None, "it waits for the call under way"
            process.send_signal(signal.SIGTERM)
            await process.communicate()
            hanging.cancel()
            bench.dispatcher.release.set()
    assert process.returncode == 130


async def refuses(channel: grpc.aio.Channel) -> bool:
    """True once the sandbox takes no more calls."""
    stub = sandbox_pb2_grpc.SandboxServiceStub(channel)
    try:
        await stub.ListLinks(sandbox_pb2.ListLinksRequest())
    except grpc.aio.AioRpcError as error:
        return error.code() is grpc.StatusCode.UNAVAILABLE
    return False


def test_a_bad_command_line_or_file(bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*more: str) -> int:
        return main(["--pki", str(bench.authority.folder), "--store", str(bench.settings.store), *more])

    assert run("--control", "0.0.0.0:0") == 1
    assert "loopback" in capsys.readouterr().err
    assert run("--pki", str(tmp_path / "nowhere")) == 1
    bench.settings.store.write_bytes(b"\0\0\0\1\0\0\0\0xyz")
    assert run() == 1


class LingeringStream:
    """An agent that has greeted; its reads take a while to end when they are cancelled, as gRPC's do."""

    def __init__(self) -> None:
        self._greeted = False

    async def read(self) -> relay_pb2.AttachRequest | None:
        if not self._greeted:
            self._greeted = True
            return relay_pb2.AttachRequest(settings=relay_pb2.LinkSettings(revision=1, site=SITE))
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
        return None

    async def write(self, frame: relay_pb2.AttachResponse) -> None:
        """Taken."""


async def test_calls_end_when_their_link_is_cancelled_twice() -> None:
    """gRPC may cancel a broken stream's handler twice; who waits for an answer must not wait for the deadline."""
    agent = AttachedAgent(LingeringStream())
    await agent.greet()
    running = asyncio.ensure_future(agent.run())

    async def ask() -> None:
        async for _ in agent.call("/his160.v1.AgentService/GetInfo", b""):
            pass

    asking = asyncio.ensure_future(ask())
    for _ in range(3):
        await asyncio.sleep(0)
    assert running.cancel()
    await asyncio.sleep(0)
    assert running.cancel()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(EndedWith) as caught:
            await asking
        await asyncio.gather(running, return_exceptions=True)
    assert caught.value.status.code == code_pb2.UNAVAILABLE
    assert not agent.takes_calls
