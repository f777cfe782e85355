"""Load over gRPC: a closed loop of unary calls as raw bytes, so that the client costs as little as it can."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from agent.bench_pki import BenchPki
from tests.bench.figures import percentile


@dataclass(frozen=True, slots=True)
class Sample:
    """Latencies in seconds and the wall-clock time of all calls together."""

    times: tuple[float, ...]
    seconds: float

    @property
    def rate(self) -> float:
        """Calls per second."""
        return len(self.times) / self.seconds if self.seconds else 0.0

    def ms(self, share: float) -> float:
        """A percentile of the latencies in milliseconds."""
        return percentile(self.times, share) * 1000


@dataclass(frozen=True, slots=True)
class Target:
    """Where calls go. ``pki``: mutual TLS with the relay's certificate; None: plain text (the sandbox's control)."""

    name: str
    address: str
    pki: BenchPki | None = None
    metadata: tuple[tuple[str, str], ...] = ()

    def channel(self) -> grpc.aio.Channel:
        """A channel; the caller closes it."""
        options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", 8 * 1024 * 1024)]
        if self.pki is None:
            return grpc.aio.insecure_channel(self.address, options=options)
        credentials = grpc.ssl_channel_credentials(
            root_certificates=self.pki.ca.read_bytes(),
            private_key=self.pki.relay.key.read_bytes(),
            certificate_chain=self.pki.relay.certificate.read_bytes(),
        )
        return grpc.aio.secure_channel(self.address, credentials, options=options)


def full_method(operation: str) -> str:
    """``CatalogService.ListSlots`` as gRPC's path."""
    service, _, name = operation.partition(".")
    return f"/his160.v1.{service}/{name}"


class Caller:
    """Calls of one target on one held channel."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._channel = target.channel()

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    async def once(self, operation: str, request: bytes) -> bytes:
        """One call. Raises grpc.aio.AioRpcError."""
        call: Any = self._channel.unary_unary(full_method(operation))
        answer: bytes = await call(request, timeout=20, metadata=self._target.metadata)
        return answer

    async def run(self, operation: str, requests: Sequence[bytes], in_flight: int) -> tuple[Sample, list[bytes]]:
        """Each request once; the sample and the answers in no order."""
        return await self._run(operation, iter(requests), in_flight, None)

    async def run_for(self, operation: str, request: bytes, in_flight: int, seconds: float) -> Sample:
        """The same request for that long."""
        sample, _ = await self._run(operation, iter(lambda: request, None), in_flight, seconds)
        return sample

    async def _run(
        self, operation: str, requests: Iterator[bytes], in_flight: int, seconds: float | None
    ) -> tuple[Sample, list[bytes]]:
        call: Any = self._channel.unary_unary(full_method(operation))
        metadata = self._target.metadata
        times: list[float] = []
        answers: list[bytes] = []
        until = None if seconds is None else time.perf_counter() + seconds

        async def loop() -> None:
            for request in requests:
                started = time.perf_counter()
                answer = await call(request, timeout=20, metadata=metadata)
                ended = time.perf_counter()
                times.append(ended - started)
                if until is None:
                    answers.append(answer)
                elif ended >= until:
                    return

        started = time.perf_counter()
        await asyncio.gather(*(loop() for _ in range(in_flight)))
        return Sample(tuple(times), time.perf_counter() - started), answers
