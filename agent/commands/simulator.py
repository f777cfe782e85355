"""``his160 simulator``: a payment house or an insurance platform on the bench, until a signal."""

from __future__ import annotations

import argparse
import json
import signal
import threading
from collections.abc import Sequence
from pathlib import Path

from agent.console import say_error
from his_db import registry
from his_db.simulator import SimulatorMaker
from his_db.simulator_server import SimulatorServer
from sync.clock import utc_now


def main(arguments: Sequence[str]) -> int:
    """Prints one JSON line when ready: ``{"ready": true, "url": …, "mapping": …, "book": …}``."""
    options = _parser().parse_args(arguments)
    maker: SimulatorMaker = registry.load(registry.SIMULATORS[options.name])()
    folder: Path = options.keys or options.book.parent / f"{options.name}-keys"
    try:
        server = _server(maker, folder, options.book, options.port)
    except OSError as error:
        say_error("模拟器无法启动", f"the simulator cannot start: {error.strerror or type(error).__name__}")
        return 1
    stopped = _stopped_by_signal()
    server.start()
    url = f"http://127.0.0.1:{server.port}"
    mapping = maker.prepare(folder, url)
    print(json.dumps({"ready": True, "url": url, "mapping": str(mapping), "book": str(options.book)}), flush=True)
    try:
        stopped.wait()
    finally:
        server.stop()
    return 0


def _server(maker: SimulatorMaker, folder: Path, book: Path, port: int) -> SimulatorServer:
    folder.mkdir(parents=True, exist_ok=True)
    book.parent.mkdir(parents=True, exist_ok=True)
    maker.prepare(folder, f"http://127.0.0.1:{port}")
    return SimulatorServer(lambda url: maker.open(folder, book, url, utc_now), utc_now, port)


def _stopped_by_signal() -> threading.Event:
    """An event that a request to stop sets."""
    stopped = threading.Event()
    for name in ("SIGTERM", "SIGINT", "SIGBREAK"):
        number = getattr(signal, name, None)
        if number is not None:
            signal.signal(number, lambda *_: stopped.set())
    return stopped


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="his160 simulator",
        description="联调用的模拟器，只监听本机 / a simulator for the bench, loopback only",
    )
    parser.add_argument("name", choices=sorted(registry.SIMULATORS), help="哪一个 / which one")
    parser.add_argument("--port", type=int, default=0, help="端口，0 为任意空闲端口 / 0: any free one")
    parser.add_argument("--book", type=Path, required=True, metavar="FILE", help="账本文件（SQLite）/ its book")
    parser.add_argument("--keys", type=Path, metavar="DIR", help="密钥目录 / folder of keys (default: beside the book)")
    return parser
