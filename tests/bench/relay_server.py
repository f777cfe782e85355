"""The relay's side of the delivery figures as a process of its own: the sandbox's, and a trivial stream beside it.

    python -m tests.bench.relay_server --pki FOLDER --store FILE

The relay keeps events as the sandbox does (journal, fsync before the receipt). The trivial server has the same options
and mutual TLS, takes the same stream and answers STORED to everything, without a journal. A line ``deaf`` of input has
the relay's PublishReport read nothing more, ``hears`` ends that; each is answered with a line. Prints one JSON line with the addresses; ends when its
standard input does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from his160.v1 import relay_pb2, relay_pb2_grpc

from agent.bench_pki import BenchPki, open_bench_pki
from agent.demo.site import SITE
from agent.sandbox.agents import Agents
from agent.sandbox.control import ContractProxy
from agent.sandbox.faults import Faults
from agent.sandbox.journal import EventJournal
from agent.sandbox.relay import SandboxRelay
from agent.sandbox.report_store import ReportStore
from agent.sandbox.server import SERVER_OPTIONS

STORED = relay_pb2.EventReceipt.OUTCOME_STORED


class Hearing:
    """Whether reports are read."""

    def __init__(self) -> None:
        self._hears = asyncio.Event()
        self._hears.set()

    def set(self, hears: bool) -> None:
        """From now on."""
        if hears:
            self._hears.set()
        else:
            self._hears.clear()

    async def wait(self) -> None:
        """Until they are."""
        await self._hears.wait()


class _DeafRelay(SandboxRelay):
    """The sandbox's relay, which at times does not read what reports send."""

    def __init__(self, hearing: Hearing, *parts: Any) -> None:
        super().__init__(*parts)
        self._hearing = hearing

    async def PublishReport(
        self, request_iterator: AsyncIterator[relay_pb2.PublishReportRequest], context: Any
    ) -> relay_pb2.PublishReportResponse:
        async def heard() -> AsyncIterator[relay_pb2.PublishReportRequest]:
            async for chunk in request_iterator:
                if chunk.HasField("page"):  # the question how far a run has come is answered
                    await self._hearing.wait()
                yield chunk

        return await super().PublishReport(heard(), context)


class _Trivial(relay_pb2_grpc.RelayServiceServicer):
    async def PublishEvents(  # type: ignore[override]  # a generator, as grpc.aio takes one
        self, request_iterator: AsyncIterator[relay_pb2.PublishEventsRequest], context: Any
    ) -> AsyncIterator[relay_pb2.PublishEventsResponse]:
        async for request in request_iterator:
            receipts = [relay_pb2.EventReceipt(event_id=event.event_id, outcome=STORED) for event in request.events]
            yield relay_pb2.PublishEventsResponse(receipts=receipts)


@asynccontextmanager
async def serving(pki: BenchPki, store: Path, hearing: Hearing) -> AsyncIterator[dict[str, str]]:
    """All servers; their addresses by name: ``relay`` and its ``control``, ``trivial``."""
    credentials = grpc.ssl_server_credentials(
        [(pki.relay.key.read_bytes(), pki.relay.certificate.read_bytes())],
        root_certificates=pki.ca.read_bytes(),
        require_client_auth=True,
    )
    agents, faults = Agents(), Faults()
    journal, reports = EventJournal(store, lambda: time.time_ns() // 1000), ReportStore(store.with_suffix(".reports"))
    relay, control, trivial = (grpc.aio.server(options=SERVER_OPTIONS) for _ in range(3))
    deaf = _DeafRelay(hearing, agents, journal, lambda _: reports, faults)
    relay_pb2_grpc.add_RelayServiceServicer_to_server(deaf, relay)
    relay_pb2_grpc.add_RelayServiceServicer_to_server(_Trivial(), trivial)
    control.add_generic_rpc_handlers((ContractProxy(agents, faults),))
    nowhere = "127.0.0.1:0"
    ports = {
        "relay": relay.add_secure_port(nowhere, credentials),
        "control": control.add_insecure_port(nowhere),
        "trivial": trivial.add_secure_port(nowhere, credentials),
    }
    servers = (relay, control, trivial)
    await asyncio.gather(*(server.start() for server in servers))
    try:
        yield {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    finally:
        for agent in agents.all():
            agent.goodbye("the bench is over", reconnect=False)
        await asyncio.gather(*(server.stop(1) for server in servers))
        journal.close()


async def _serve(pki: BenchPki, store: Path) -> None:
    hearing = Hearing()
    other = store.with_name("other.journal")
    async with serving(pki, store, hearing) as addresses, serving(pki, other, hearing) as others:
        print(json.dumps({**addresses, **{f"other {name}": value for name, value in others.items()}}), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            hearing.set(line.strip() != "deaf")
            print("{}", flush=True)


def main() -> None:
    """Entry of the process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pki", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    arguments = parser.parse_args()
    asyncio.run(_serve(open_bench_pki(arguments.pki, site=SITE), arguments.store))


if __name__ == "__main__":
    main()
