"""A process that is made to be killed: ``python -m tests.chaos.victim`` reads orders from its standard input and forks an
agent for each, with everything imported and the mappings compiled, so that a death and a restart cost a moment.

The agent is the product's own ``Daemon`` with its real store and its real HIS. It listens on no network here: calls come
over a Unix socket and go into ``HandlerRegistry.dispatch``, where both borders hand theirs over. (How a real border
behaves at a kill is in ``tests/chaos/test_real_process.py``.) The fork happens before gRPC makes anything.
"""

from __future__ import annotations

import os

os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

import asyncio
import gc
import json
import logging
import pickle
import sys
import threading
import time
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import agent.daemon as daemon_module
from agent.config import Settings, load_settings
from agent.daemon import Daemon
from agent.errors import CallFailed
from agent.handler import CallContext, Identity
from his_db.generation import Generation, compile_generation
from his_db.mapping.load import load_mapping_set
from sync.clock import utc_now
from tests.chaos.trap import Trap, spring

_RELAY = Identity("relay", "chaos")
_LIMIT = 120.0  # seconds of a call


class MovableClock:
    """The agent's clock, ahead of the machine's by as much as the harness says: waiting without waiting."""

    def __init__(self, ahead: float) -> None:
        self.ahead = timedelta(seconds=ahead)

    def __call__(self) -> datetime:
        return utc_now() + self.ahead


class CompiledBefore:
    """In the place of ``agent.mapping_compiler.MappingCompiler``: the mappings of the site do not change here."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation

    def __call__(self, folder: Path) -> Generation:
        return self._generation

    def cool(self) -> None:
        """Nothing is warm."""

    def close(self) -> None:
        """Nothing runs."""


class Agent:
    """One agent and its socket. Frames: four bytes of length, then a pickled tuple ``(id, order, …)``."""

    def __init__(self, order: dict[str, Any], ready: int) -> None:
        self._order = order
        self._ready = ready
        self._trap = Trap()
        self._clock = MovableClock(order["ahead"])

    async def run(self) -> None:
        spring(self._trap)
        settings = _settings(self._order["config"])
        if self._order["arm"] is not None:
            self._trap.arm(self._order["arm"], self._order["delay"])
        self._daemon = Daemon(settings, clock=self._clock)
        await self._daemon.start()
        if self._order["arm"] is not None:
            self._started = self._trap.disarm()
        server = await asyncio.start_unix_server(self._serve, self._order["socket"])
        os.write(self._ready, b"1")
        os.close(self._ready)
        async with server:
            await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running: set[asyncio.Task[None]] = set()
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(4))
                frame = pickle.loads(await reader.readexactly(size))
                task = asyncio.create_task(self._obey(frame, writer))
                running.add(task)
                task.add_done_callback(running.discard)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _obey(self, frame: tuple[Any, ...], writer: asyncio.StreamWriter) -> None:
        number, order, *rest = frame
        answer = await getattr(self, f"_do_{order}")(*rest)
        if order == "call":
            self._trap.pass_by("answer", "before")
        content = pickle.dumps((number, answer))
        writer.write(len(content).to_bytes(4) + content)
        await writer.drain()
        if order == "call":
            self._trap.pass_by("answer", "after")

    async def _do_call(self, method: str, request: bytes) -> tuple[str, bytes]:
        context = CallContext(_RELAY, "link", "chaos#1", time.monotonic() + _LIMIT)
        try:
            answer = await self._daemon.registry.dispatch(method, request, context)
        except CallFailed as failed:
            return "refused", failed.status.SerializeToString()
        assert isinstance(answer, bytes)
        return "ok", answer

    async def _do_arm(self, number: int, delay: float) -> None:
        self._trap.arm(number, delay)

    async def _do_arm_at(self, label: str, phase: str) -> None:
        self._trap.arm_at(label, phase)

    async def _do_points(self) -> list[tuple[int, str, str]]:
        return [(point.number, point.label, point.phase) for point in self._trap.disarm()]

    async def _do_start_points(self) -> list[tuple[int, str, str]]:
        return [(point.number, point.label, point.phase) for point in self._started]

    async def _do_ahead(self, seconds: float) -> None:
        self._clock.ahead = timedelta(seconds=seconds)

    async def _do_sweep(self) -> tuple[int, int]:
        sweep = await self._daemon._executor.sweep()
        return sweep.looked_at, sweep.resolved


def _become_agent(order: dict[str, Any], ready: int) -> None:
    folder = Path(order["config"]).parent
    log = os.open(folder / "agent.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(number, target)
    logging.basicConfig(level=logging.INFO, format="%(process)d %(name)s %(message)s %(levelname)s", force=True)
    asyncio.run(Agent(order, ready).run())


def _start(order: dict[str, Any]) -> dict[str, Any]:
    """Fork an agent; answers when it serves, or has died on the way there."""
    listening, ready = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(listening)
            _become_agent(order, ready)
        except BaseException:  # noqa: BLE001 - a forked child must never run its parent's code
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(ready)
    serves = bool(os.read(listening, 1))
    os.close(listening)
    return {"pid": pid, "serves": serves}


def _wait(order: dict[str, Any]) -> dict[str, Any]:
    _, status = os.waitpid(order["pid"], 0)
    return {"signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0}


def _compile_once(order: dict[str, Any]) -> dict[str, Any]:
    """Compile mapping sets now; the agents take them instead of compiling them each time."""
    made = {}
    for folder, engines in order["folders"]:
        mapping_set = load_mapping_set(Path(folder), sources=engines, timezone="Asia/Shanghai")
        made[engines["his"]] = compile_generation(mapping_set)
    daemon_module.MappingCompiler = lambda sources, zone, **_: CompiledBefore(made[sources["his"]])  # type: ignore
    return {}


def _warm(order: dict[str, Any]) -> dict[str, Any]:
    """Run an agent once here: makes its store, and imports what is imported late. Ends with this one thread alone."""
    settings = _settings(order["config"])

    async def start_and_stop() -> None:
        agent = Daemon(settings)
        await agent.start()
        await agent.stop()

    asyncio.run(start_and_stop())
    assert threading.active_count() == 1, [thread.name for thread in threading.enumerate()]
    gc.collect()
    gc.freeze()  # what is shared with the children is not written to by their collector
    return {}


def _settings(config: str) -> Settings:
    settings = load_settings(Path(config), os.environ, require_files=False)
    return replace(settings, server=replace(settings.server, enabled=False))  # a socket serves instead


def main() -> None:
    """Serve orders until standard input ends."""
    for line in sys.stdin:
        order = json.loads(line)
        answer = {"compile": _compile_once, "warm": _warm, "start": _start, "wait": _wait}[order["do"]](order)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
