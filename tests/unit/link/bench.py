"""A bench for link tests: sandbox, links and a dispatcher in one event loop, over real sockets with mutual TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from his160.v1 import agent_pb2, event_pb2, reason_pb2, report_pb2

from agent.bench_pki import KeyPair, make_authority
from agent.errors import CallFailed, CallRefused, Violation, to_status
from agent.handler import CallContext, Identity
from agent.link.answering import RegistryAnswerer
from agent.link.channel import LinkTarget
from agent.link.redial import RedialPolicy
from agent.link.relay_link import RelayLink, RelayLinks
from agent.link.session import SessionSettings
from agent.sandbox.server import Sandbox, SandboxSettings
from his_db.proxy import ProxySettings
from tests.bounds import PATIENCE, until

SITE = "440305001"
PREFIX = "/his160.v1.TestService/"
QUICK = RedialPolicy(base=0.02, cap=0.2, quick_cap=0.1)


class FakeDispatcher:
    """Stands for the registry of handlers: methods of a service that no contract knows."""

    def __init__(self) -> None:
        self.contexts: list[CallContext] = []
        self.arrived = asyncio.Event()
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.release = asyncio.Event()
        self.streamed = 0

    async def dispatch(self, full_method: str, request: bytes, context: CallContext, /) -> bytes | AsyncIterator[bytes]:
        self.contexts.append(context)
        self.arrived.set()
        match full_method.removeprefix(PREFIX):
            case "Echo":
                return request
            case "Big":
                return bytes(int(request))
            case "Refuse":
                violation = Violation("slot_id", "is empty", "不能为空")
                error = CallRefused(reason_pb2.REASON_INVALID_REQUEST, violations=[violation])
                raise CallFailed(to_status(error, operation="TestService.Refuse"))
            case "Defect":
                raise RuntimeError("a text that may name a patient")
            case "Hang":
                return await self._hang()
            case "Count":
                return self._count(int(request))
            case "Flood":
                return self._flood()
            case "/his160.v1.AgentService/GetInfo":
                return agent_pb2.GetInfoResponse(site=SITE, instance=context.caller).SerializeToString()
            case "/his160.v1.ReportService/ReadReport":
                return self._pages()
            case _:
                raise CallFailed(to_status(CallRefused(reason_pb2.REASON_OPERATION_NOT_MAPPED)))

    async def _hang(self) -> bytes:
        self.started.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return b"released"

    async def _count(self, number: int) -> AsyncIterator[bytes]:
        try:
            for index in range(number):
                self.streamed += 1
                yield b"%d" % index
        finally:
            self.cancelled.set()

    async def _flood(self) -> AsyncIterator[bytes]:
        try:
            while True:
                self.streamed += 1
                yield bytes(64 * 1024)
        finally:
            self.cancelled.set()

    async def _pages(self) -> AsyncIterator[bytes]:
        yield report_pb2.ReadReportResponse(first_row=0).SerializeToString()
        yield report_pb2.ReadReportResponse(first_row=5).SerializeToString()
        raise CallFailed(to_status(CallRefused(reason_pb2.REASON_HIS_BUSY)))


class Bench:
    """Sandbox and links of one test."""

    def __init__(self, folder: Path) -> None:
        self.authority = make_authority(folder / "pki")
        self.relay = self.authority.issue("relay", Identity("relay", "bench"))
        self.agent = self.authority.issue("agent", Identity("site", SITE))
        self.dispatcher = FakeDispatcher()
        self.settings = SandboxSettings(
            listen="127.0.0.1:0",
            control="127.0.0.1:0",
            ca=self.authority.path,
            certificate=self.relay.certificate,
            key=self.relay.key,
            store=folder / "events.journal",
        )

    @asynccontextmanager
    async def sandbox(self, **changes: Any) -> AsyncIterator[Sandbox]:
        sandbox = Sandbox(replace(self.settings, **changes))
        await sandbox.start()
        try:
            yield sandbox
        finally:
            await sandbox.stop(timedelta(seconds=2))

    def link(
        self,
        address: str,
        *,
        pair: KeyPair | None = None,
        authority: str = "",
        proxy: ProxySettings | None = None,
        **settings: Any,
    ) -> RelayLink:
        """A link to ``address``; ``pair``: its certificate, the site's when not said; ``settings``: as it says them."""
        pair = pair or self.agent
        said = SessionSettings(site=SITE, instance="a1", version="0.1.0", operations=("TestService.Echo",))
        said = replace(said, **settings)
        answerer = RegistryAnswerer(self.dispatcher, Identity("relay", "bench"))
        target = LinkTarget(address, self.authority.path, pair.certificate, pair.key, authority, proxy)
        return RelayLink(target, lambda: said, answerer, policy=QUICK)

    @asynccontextmanager
    async def links(self, *links: RelayLink, wait: bool = True) -> AsyncIterator[RelayLinks]:
        """The links running, and up (unless not to be waited for); left in order at the end."""
        together = RelayLinks(links)
        ups = [connected(link) for link in links] if wait else []
        running = asyncio.ensure_future(together.run())
        try:
            await until(lambda: running.done() or all(up.is_set() for up in ups))
            yield together
            if running.done():
                running.result()
        finally:
            together.stop()
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(running, return_exceptions=True)


def connected(link: RelayLink) -> asyncio.Event:
    """An event set the next time the link is established."""
    event = asyncio.Event()
    link.on_connected(lambda _: event.set())
    return event


async def first(answers: AsyncGenerator[bytes, None]) -> bytes:
    """The one answer of a unary call."""
    async with aclosing(answers):
        whole = [answer async for answer in answers]
    assert len(whole) == 1
    return whole[0]


def event(number: int, site: str = SITE) -> event_pb2.Event:
    return event_pb2.Event(
        event_id=f"{number:032x}", site=site, sequence=number, kind=event_pb2.EVENT_KIND_BOOKED, order_no=f"T{number}"
    )


class StallingProxy:
    """Passes TCP on to an address until told to stall: then bytes vanish both ways and the sockets stay open."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._stalled = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None
        self.address = ""

    async def __aenter__(self) -> StallingProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def stall(self) -> None:
        self._stalled = True

    def heal(self) -> None:
        self._stalled = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            async with AsyncExitStack() as stack:
                far_reader, far_writer = await asyncio.open_connection(*self._target)
                for side in (writer, far_writer):
                    stack.callback(side.transport.abort)
                await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))
        except (OSError, asyncio.CancelledError):
            pass  # either end is gone, or the test is over
        finally:
            self._tasks.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if not self._stalled:
                writer.write(data)
                await writer.drain()
        writer.close()
