"""The harness's side of ``tests/chaos/victim.py``: starting agents, calling them, seeing them die."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from google.protobuf.message import Message
from google.rpc import status_pb2

from agent.errors import explain
from his_db.contract import operation as about
from tests.bounds import PATIENCE
from tests.chaos.trap import Point

ROOT: Final = Path(__file__).resolve().parents[2]
_FRAME_SECONDS: Final = 150.0  # a loaded machine is slow; only what hangs takes longer


class Died(Exception):
    """The agent's process ended before it answered."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a caller was told. ``code`` empty: the operation's response is ``message``; else why not."""

    operation: str
    request_id: str
    content: bytes
    code: str = ""
    reason: str = ""
    retry_after: timedelta | None = None

    @property
    def is_done(self) -> bool:
        """Whether it says that the operation was done."""
        return not self.code

    @property
    def is_final(self) -> bool:
        """Whether it says what became of the operation: done, or not done and not worth repeating."""
        return self.is_done or self.code not in {"UNAVAILABLE", "ABORTED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}

    @property
    def message(self) -> Any:
        """The response. Only when it is done."""
        return about(self.operation).response_class.FromString(self.content)

    def __str__(self) -> str:
        return f"{self.operation} {self.code or 'OK'} {self.reason}".strip()


class Nursery:
    """A process with everything imported, which forks agents. ``with Nursery(folders) as nursery``."""

    def __init__(self, mappings: Sequence[tuple[Path, Mapping[str, str]]]) -> None:
        """``mappings``: folder and engines by source of each mapping set that its agents will use."""
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.chaos.victim"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'proto' / 'gen'}", "PYTHONUTF8": "1"},
            encoding="utf-8",
        )
        self._orders = threading.Lock()
        self._living: set[int] = set()
        self._ask(do="compile", folders=[(str(folder), dict(engines)) for folder, engines in mappings])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill_all()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._process.stdout.close()

    def warm(self, config: Path) -> None:
        """Let it run an agent once on that state; the agents after it start faster."""
        self._ask(do="warm", config=str(config))

    def start(self, config: Path, *, ahead: float = 0.0, arm: int | None = None, delay: float = 0.0) -> AgentProcess:
        """An agent that serves. ``arm``: count the points of its start, and die at that one (0: only count).

        Raises Died when it does not come to serve.
        """
        folder = Path(tempfile.mkdtemp(prefix="his160-chaos-"))
        place = folder / "agent.sock"
        order = {"config": str(config), "socket": str(place), "ahead": ahead, "arm": arm, "delay": delay}
        started = self._ask(do="start", **order)
        pid = started["pid"]
        self._living.add(pid)
        if started["serves"]:
            return AgentProcess(self, pid, place)
        shutil.rmtree(folder, ignore_errors=True)
        ended_by = self.wait(pid)
        if ended_by != signal.SIGKILL:
            log = (config.parent / "agent.log").read_text(encoding="utf-8", errors="replace")
            raise AssertionError(f"the agent failed at its start:\n{log[-4000:]}")
        raise Died("the agent was killed while it started")

    def kill(self, pid: int) -> None:
        """``kill -9``, and wait until it is gone."""
        if pid in self._living:
            os.kill(pid, signal.SIGKILL)
            self.wait(pid)

    def kill_all(self) -> None:
        """``kill -9`` of every agent that still lives, after a case that did not come to its end."""
        for pid in list(self._living):
            self.kill(pid)

    def wait(self, pid: int) -> int:
        """Wait until it has ended; the number of the signal that ended it, 0 for none."""
        if pid not in self._living:
            return 0
        self._living.discard(pid)
        return int(self._ask(do="wait", pid=pid)["signal"])

    def _ask(self, **order: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._orders:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        if not line:
            raise AssertionError(f"the nursery ended with {self._process.wait(5)}")
        return json.loads(line)


class AgentProcess:
    """One agent. Thread-safe: each call has a connection of its own thread."""

    def __init__(self, nursery: Nursery, pid: int, place: Path) -> None:
        self._nursery = nursery
        self.pid = pid
        self._place = place
        self._own = threading.local()
        self._sockets: list[socket.socket] = []

    def call(self, operation: str, request: Message) -> Answer:
        """Call an operation. Raises Died."""
        kind, content = self._order("call", about(operation).full_method, request.SerializeToString())
        request_id = str(getattr(request, "request_id", ""))
        if kind == "ok":
            # Entries of a map (pay_parameters) have no order on the wire: each process writes them in its own.
            answer = about(operation).response_class.FromString(content)
            return Answer(operation, request_id, answer.SerializeToString(deterministic=True))
        said = explain(status_pb2.Status.FromString(content))
        return Answer(operation, request_id, content, said.code, said.reason, said.retry_after)

    def arm(self, number: int, delay: float = 0.0) -> None:
        """Count points from here on and die at this one; 0: only count."""
        self._order("arm", number, delay)

    def arm_at(self, label: str, phase: str) -> None:
        """Die at the next point of this name."""
        self._order("arm_at", label, phase)

    def points(self) -> list[Point]:
        """Points passed since ``arm``."""
        return [Point(*point) for point in self._order("points")]

    def start_points(self) -> list[Point]:
        """Points passed while it started, when it was started with ``arm``."""
        return [Point(*point) for point in self._order("start_points")]

    def ahead(self, seconds: float) -> None:
        """Set the agent's clock ahead of the machine's."""
        self._order("ahead", seconds)

    def sweep(self) -> tuple[int, int]:
        """Let it probe its open commands now: looked at, resolved."""
        looked_at, resolved = self._order("sweep")
        return looked_at, resolved

    def kill(self) -> None:
        """``kill -9``."""
        self._nursery.kill(self.pid)
        self._forget()

    def wait_dead(self) -> None:
        """Wait until it is gone; it must have been killed."""
        ended_by = self._nursery.wait(self.pid)
        self._forget()
        assert ended_by == signal.SIGKILL, f"the agent ended by itself ({ended_by})"

    def _forget(self) -> None:
        for each in self._sockets:
            each.close()
        self._sockets.clear()
        shutil.rmtree(self._place.parent, ignore_errors=True)

    def _order(self, *order: Any) -> Any:
        try:
            line: socket.socket | None = getattr(self._own, "line", None)
            if line is None:
                line = self._own.line = socket.socket(socket.AF_UNIX)
                line.settimeout(_FRAME_SECONDS)
                self._sockets.append(line)
                line.connect(str(self._place))
            content = pickle.dumps((0, *order))
            line.sendall(len(content).to_bytes(4) + content)
            size = int.from_bytes(_exactly(line, 4))
            _, answer = pickle.loads(_exactly(line, size))
        except TimeoutError:
            raise AssertionError(f"no answer to {order[:2]} within {_FRAME_SECONDS:.0f} s") from None
        except OSError:
            raise Died("the connection to the agent broke") from None
        return answer


def _exactly(line: socket.socket, size: int) -> bytes:
    content = bytearray()
    while len(content) < size:
        more = line.recv(size - len(content))
        if not more:
            raise ConnectionResetError
        content += more
    return bytes(content)
