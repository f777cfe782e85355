"""Everything of the demo that lives: certificates, configuration, sandbox and agent as processes of their own."""

from __future__ import annotations

import errno
import json
import random
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import grpc
from his160.v1 import agent_pb2

from agent.bench_pki import BenchPki, make_bench_pki, open_bench_pki
from agent.demo.child import Child, ChildFailed
from agent.demo.hospital import Hospital, write_private
from agent.sandbox.client import CallFailed, SandboxClient

SITE: Final = "440305160"
NOTES: Final = "demo.json"
_PORTS: Final = range(20_000, 32_000)  # below what Linux (32768) and Windows (49152) give to outgoing connections
_FIRST_PAUSE: Final = 0.02  # seconds between two questions, growing: each costs what is asked some processor time
_LONGEST_PAUSE: Final = 0.15
_READY_SECONDS: Final = 90.0  # for the slowest machine; a good one needs three

T = TypeVar("T")


class FolderTaken(Exception):
    """The folder holds something that no demo made."""


class NotInTime(Exception):
    """Something that was waited for did not happen."""


@dataclass(frozen=True, slots=True)
class SiteOptions:
    """What a test may want otherwise. ``relay``: address to dial instead of the sandbox's own, e.g. of a TCP proxy."""

    relay: str = ""
    source: str = ""
    more: str = ""
    environ: Mapping[str, str] | None = None


class Site:
    """A folder with all of one site. ``with Site(...) as site: site.start()``; leaving stops what was started."""

    def __init__(
        self, folder: Path, hospital: Hospital | None, *, pack: str = "", options: SiteOptions | None = None
    ) -> None:
        """Writes certificates and configuration. Without a hospital, ``options.source`` and ``pack`` say which."""
        self.folder = folder
        self.hospital = hospital
        self.options = options or SiteOptions()
        self.pki: BenchPki = make_bench_pki(folder / "pki", site=SITE)
        self._pack = pack or (hospital.pack if hospital else "")
        self.server = f"127.0.0.1:{free_port()}"
        self.config = folder / "config.toml"
        self.store = folder / "state" / "his160.db"
        self.relay_store = folder / "relay" / "events.journal"
        self.sandbox: Child | None = None
        self.agent: Child | None = None
        self.relay_address = ""
        self.control_address = ""
        self._client: SandboxClient | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def client(self) -> SandboxClient:
        """Calls through the sandbox, therefore over the relay link."""
        assert self._client is not None, "the sandbox has not been started"
        return self._client

    def start(self) -> None:
        """Sandbox, then agent, and wait until it is attached and watches. Raises ChildFailed, NotInTime."""
        self.start_sandbox()
        self.write_config()
        self.start_agent()
        self.wait_attached()
        self.wait_watching()

    def start_sandbox(self, *, listen: str = "127.0.0.1:0", control: str = "127.0.0.1:0") -> None:
        """The relay of the bench."""
        arguments = ["sandbox", "--listen", listen, "--control", control]
        arguments += ["--pki", str(self.pki.folder), "--store", str(self.relay_store)]
        self.sandbox = Child("sandbox", arguments, self.folder / "logs")
        ready = json.loads(self.sandbox.wait_line(lambda line: line.startswith('{"ready"'), _READY_SECONDS))
        self.relay_address, self.control_address = ready["listen"], ready["control"]
        if self._client is not None:
            self._client.close()
        self._client = SandboxClient(self.control_address, site=SITE, caller="demo")

    def write_config(self) -> None:
        """config.toml and the notes for ``his160 demo window``."""
        source = self.options.source or (self.hospital.source_section(self.folder) if self.hospital else "")
        relay = self.options.relay or self.relay_address
        self.config.write_text(_config(self, source, self._pack, relay), encoding="utf-8")
        if self.hospital is not None:
            notes = {"pack": self.hospital.pack, "url": self.hospital.url, "control": self.control_address}
            write_private(self.folder / NOTES, json.dumps(notes))

    def start_agent(self) -> Child:
        """The agent. Does not wait."""
        self.agent = Child("agent", ["run", "--config", str(self.config)], self.folder / "logs", self.options.environ)
        return self.agent

    def wait_attached(self, seconds: float = _READY_SECONDS) -> None:
        """Wait until the sandbox sees the agent's link."""
        self.wait_for(lambda: any(link.site == SITE for link in self.client.links()), "the agent's link", seconds)

    def wait_watching(self, seconds: float = _READY_SECONDS) -> None:
        """Wait until every watch has its baseline, so that from now on each change is one."""
        self.wait_for(self._watching, "the watches' first look at the HIS", seconds)

    def wait_for(self, done: Callable[[], T | None], what: str, seconds: float) -> T:
        """Ask until the answer is true. Raises NotInTime, and ChildFailed when a process of ours has ended."""
        return wait_for(done, what, seconds, (self.sandbox, self.agent))

    def status(self) -> Any:
        """``AgentService.GetStatus`` over the link."""
        return self.client.call("AgentService.GetStatus", agent_pb2.GetStatusRequest(), timedelta(seconds=5))

    def stop(self) -> None:
        """End both processes in order. Never raises."""
        for child in (self.agent, self.sandbox):
            if child is not None:
                child.stop()
        if self._client is not None:
            self._client.close()
            self._client = None

    def tails(self, count: int = 25) -> str:
        """The last lines of both logs, for a person who has to find out why."""
        parts = []
        for child in (self.agent, self.sandbox):
            if child is not None:
                parts += [f"--- {child.name}: {child.log}", *child.tail(count)]
        return "\n".join(parts)

    def _watching(self) -> bool:
        try:
            components = self.status().components
        except CallFailed:
            return False
        watches = [component for component in components if component.name.startswith("watch:")]
        return bool(watches) and all(component.health == agent_pb2.HEALTH_OK for component in watches)


def prepare_folder(folder: Path) -> None:
    """Make an empty folder for a demo; what an earlier demo left in it is removed. Raises FolderTaken for any other."""
    folder.mkdir(parents=True, exist_ok=True)
    marker = folder / NOTES
    if not marker.is_file() and any(folder.iterdir()):
        raise FolderTaken(f"{folder} 不是空文件夹，也不是演示留下的 / is neither empty nor left by a demo")
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    write_private(marker, "{}")


def wait_for(done: Callable[[], T | None], what: str, seconds: float, children: Iterable[Child | None] = ()) -> T:
    """Ask until the answer is true. Raises NotInTime, ChildFailed."""
    until = time.monotonic() + seconds
    pause, length = threading.Event(), _FIRST_PAUSE
    while True:
        for child in children:
            if child is not None and not child.running:
                raise ChildFailed(f"{child.name} ended with {child.wait(5)}")
        try:
            answer = done()
        except grpc.RpcError:
            answer = None  # the sandbox is between two states
        if answer:
            return answer
        if time.monotonic() >= until:
            raise NotInTime(f"{what}: not within {seconds:.0f} s")
        pause.wait(length)
        length = min(1.5 * length, _LONGEST_PAUSE)


def free_port() -> int:
    """A port of the loopback that was free a moment ago, and which no system gives to outgoing connections: what is
    started there, and again after a kill, must still find it free."""
    for port in random.SystemRandom().sample(_PORTS, 100):
        with socket.socket() as found:
            try:
                found.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(errno.EADDRINUSE, "no free port on the loopback")


def open_pki(folder: Path) -> BenchPki:
    """The certificates of a site that was made before."""
    return open_bench_pki(folder / "pki", site=SITE)


def _config(site: Site, source: str, pack: str, relay: str) -> str:
    return f"""\
# Made by his160 demo. 由 his160 demo 生成。
[site]
code = "{SITE}"
name = "样例医院"
instance = "demo"

[state]
path = "state/his160.db"
sweep = "1s"

{source}

[mapping]
path = "pack:{pack}"

[server]
enabled = true
listen = "{site.server}"
certificate = "pki/agent.pem"
key = "pki/agent.key"
client_ca = "pki/ca.pem"

[relay]
enabled = true
addresses = ["{relay}"]
certificate = "pki/agent.pem"
key = "pki/agent.key"
ca = "pki/ca.pem"
{site.options.more}
"""
