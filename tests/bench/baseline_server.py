"""The trivial handler: a process with a grpc.aio server and mutual TLS that answers stored bytes and knows no HIS.

    python -m tests.bench.baseline_server --pki FOLDER --answers FOLDER

Prints ``{"ready": true, "port": …}``; ends when its standard input does, so that it never outlives the bench.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import grpc

from agent.bench_pki import open_bench_pki
from agent.border_server import OPTIONS
from agent.demo.site import SITE
from tests.bench.load import full_method


class _Stored(grpc.GenericRpcHandler):
    """Each method answers its file."""

    def __init__(self, folder: Path) -> None:
        self._handlers = {full_method(file.stem): _handler(file.read_bytes()) for file in folder.glob("*.bin")}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Implements GenericRpcHandler."""
        return self._handlers.get(handler_call_details.method)


def _handler(answer: bytes) -> Any:
    async def unary(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        return answer

    return grpc.unary_unary_rpc_method_handler(unary)


async def _serve(pki_folder: Path, answers: Path) -> None:
    pki = open_bench_pki(pki_folder, site=SITE)
    credentials = grpc.ssl_server_credentials(
        [(pki.agent.key.read_bytes(), pki.agent.certificate.read_bytes())],
        root_certificates=pki.ca.read_bytes(),
        require_client_auth=True,
    )
    server = grpc.aio.server(options=list(OPTIONS))
    server.add_generic_rpc_handlers((_Stored(answers),))
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    print(json.dumps({"ready": True, "port": port}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0)


def main() -> None:
    """Entry of the process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pki", type=Path, required=True)
    parser.add_argument("--answers", type=Path, required=True)
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.pki, arguments.answers))


if __name__ == "__main__":
    main()
