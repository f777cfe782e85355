"""``his160 sandbox``: run the sandbox until a signal."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from agent.sandbox.journal import JournalDamaged
from agent.sandbox.server import Sandbox, SandboxSettings

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_KILLED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of the command. Prints one JSON line when ready: ``{"ready": true, "listen": …, "control": …}``."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    settings = SandboxSettings(
        listen=arguments.listen,
        control=arguments.control,
        ca=arguments.pki / "ca.pem",
        certificate=arguments.pki / "relay.pem",
        key=arguments.pki / "relay.key",
        store=arguments.store,
    )
    try:
        asyncio.run(_serve(settings))
    except (OSError, ValueError, JournalDamaged) as error:
        print(f"his160 sandbox: {error}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


async def _serve(settings: SandboxSettings) -> None:
    stopping = asyncio.Event()
    _watch_signals(stopping)
    sandbox = Sandbox(settings)
    await sandbox.start()
    try:
        print(json.dumps({"ready": True, "listen": sandbox.listen, "control": sandbox.control}), flush=True)
        await stopping.wait()
    finally:
        await sandbox.stop()


def _watch_signals(stopping: asyncio.Event) -> None:
    """The first signal stops in order, a second one at once."""
    loop = asyncio.get_running_loop()

    def heard() -> None:
        if stopping.is_set():
            os._exit(EXIT_KILLED)  # asked twice: no more waiting for anything
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, heard)
        except NotImplementedError:  # Windows: its event loop knows no signal handlers
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(heard))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="his160 sandbox", description="A relay on the bench.")
    parser.add_argument("--listen", default="127.0.0.1:16160", help="address for agents, TLS (default %(default)s)")
    parser.add_argument("--control", default="127.0.0.1:16161", help="loopback address (default %(default)s)")
    parser.add_argument("--pki", type=Path, required=True, help="folder with ca.pem, relay.pem, relay.key")
    parser.add_argument("--store", type=Path, required=True, help="file for events; reports go beside it")
    return parser
