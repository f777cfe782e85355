"""The sandbox as one object: two servers, their state, start and stop."""

from __future__ import annotations

import asyncio
import importlib
import ipaddress
import pkgutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import grpc
import his160.v1
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]  # no stubs in the dev extra
from his160.sandbox.v1 import sandbox_pb2, sandbox_pb2_grpc
from his160.v1 import relay_pb2_grpc

from agent.link.assembly import MAX_MESSAGE_BYTES
from agent.link.channel import ENVELOPE_BYTES
from agent.link.outgoing import WINDOW_BYTES
from agent.sandbox.agents import Agents
from agent.sandbox.attached import REVISION, AttachedAgent
from agent.sandbox.control import ContractProxy, SandboxControl
from agent.sandbox.faults import Faults
from agent.sandbox.journal import EventJournal
from agent.sandbox.relay import SandboxRelay
from agent.sandbox.report_store import ReportStore
from agent.sandbox.streams import ServerFrames

SERVER_OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES + ENVELOPE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES + ENVELOPE_BYTES),
    # As relay.proto asks of every relay: without it a gRPC server answers an agent's pings with GOAWAY.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
    ("grpc.so_reuseport", 0),
]


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """Where and how. Ports may be 0. Files are PEM."""

    listen: str
    control: str
    ca: Path
    certificate: Path
    key: Path
    store: Path
    revision: int = REVISION
    window_bytes: int = WINDOW_BYTES
    dead_after: timedelta = timedelta(seconds=15)


class NotLoopback(ValueError):
    """The control address can be reached from elsewhere: it lets anyone call into the site."""


class CannotListen(OSError):
    """An address is taken or not ours."""


class Sandbox:
    """A relay on the bench. ``start``, then ``stop``, in one event loop."""

    def __init__(self, settings: SandboxSettings) -> None:
        """Opens the store. Raises NotLoopback, OSError, JournalDamaged."""
        require_loopback(settings.control)
        self._settings = settings
        self.agents = Agents()
        self.faults = Faults()
        self.journal = EventJournal(settings.store, lambda: time.time_ns() // 1000)
        self._reports: dict[str, ReportStore] = {}
        self._relay_server: grpc.aio.Server | None = None
        self._control_server: grpc.aio.Server | None = None
        self.listen = ""
        """Real address of the relay, after ``start``."""
        self.control = ""
        """Real address of the control, after ``start``."""

    async def start(self) -> None:
        """Listen. Raises CannotListen, OSError; then everything is closed again."""
        try:
            self._relay_server = self._make_relay_server()
            self._control_server = self._make_control_server()
            await self._relay_server.start()
            await self._control_server.start()
        except BaseException:
            await self.stop(timedelta(0))
            raise

    def _make_relay_server(self) -> grpc.aio.Server:
        settings = self._settings
        credentials = grpc.ssl_server_credentials(
            [(settings.key.read_bytes(), settings.certificate.read_bytes())],
            root_certificates=settings.ca.read_bytes(),
            require_client_auth=True,
        )
        server = grpc.aio.server(options=SERVER_OPTIONS)
        relay_pb2_grpc.add_RelayServiceServicer_to_server(
            SandboxRelay(self.agents, self.journal, self._report_store, self.faults, self._make_agent), server
        )
        self.listen = _bound(settings.listen, lambda: server.add_secure_port(settings.listen, credentials))
        return server

    def _make_control_server(self) -> grpc.aio.Server:
        address = self._settings.control
        server = grpc.aio.server(options=SERVER_OPTIONS)
        sandbox_pb2_grpc.add_SandboxServiceServicer_to_server(
            SandboxControl(self.agents, self.journal, self.faults), server
        )
        server.add_generic_rpc_handlers((ContractProxy(self.agents, self.faults),))
        reflection.enable_server_reflection(reflected_services(), server)
        self.control = _bound(address, lambda: server.add_insecure_port(address))
        return server

    async def stop(self, grace: timedelta = timedelta(seconds=5)) -> None:
        """Say goodbye to the agents, let calls under way end for ``grace``, stop."""
        for agent in self.agents.all():
            agent.goodbye("the sandbox stops", reconnect=True)
        servers = [server for server in (self._relay_server, self._control_server) if server is not None]
        await asyncio.gather(*(server.stop(grace.total_seconds()) for server in servers))
        self._relay_server = self._control_server = None
        self.journal.close()

    def _make_agent(self, frames: ServerFrames) -> AttachedAgent:
        return AttachedAgent(
            frames,
            revision=self._settings.revision,
            window_bytes=self._settings.window_bytes,
            dead_after=self._settings.dead_after,
        )

    def _report_store(self, site: str) -> ReportStore:
        store = self._reports.get(site)
        if store is None:
            folder = self._settings.store.with_name(self._settings.store.name + ".reports")
            store = self._reports[site] = ReportStore(folder / site)
        return store


def require_loopback(address: str) -> None:
    """Raise NotLoopback unless only this machine can reach ``address`` (host:port)."""
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return
    try:
        if ipaddress.ip_address(host).is_loopback:
            return
    except ValueError:
        pass  # a name that may point anywhere
    raise NotLoopback(f"the control address must be a loopback address, not {host or 'every interface'}")


def reflected_services() -> list[str]:
    """Full names of the services that the control address answers for: those of the contract, but the relay's own."""
    names = [reflection.SERVICE_NAME, sandbox_pb2.DESCRIPTOR.services_by_name["SandboxService"].full_name]
    for module in pkgutil.iter_modules(his160.v1.__path__):
        if module.name.endswith("_pb2"):
            descriptor = importlib.import_module(f"his160.v1.{module.name}").DESCRIPTOR
            names += [service.full_name for service in descriptor.services_by_name.values()]
    return [name for name in names if name != "his160.v1.RelayService"]


def _bound(address: str, bind: Callable[[], int]) -> str:
    """Bind and return the address with the real port."""
    try:
        port = bind()
    except RuntimeError as error:  # how grpc says that it cannot bind
        raise CannotListen(f"cannot listen on {address}") from error
    if port == 0:
        raise CannotListen(f"cannot listen on {address}")
    return f"{address.rpartition(':')[0]}:{port}"
