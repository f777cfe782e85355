"""Calls of very many patients at once, over the sandbox and its relay link, and what each took."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import grpc
from google.protobuf.message import Message

from agent.errors import explain
from agent.sandbox.client import status_of
from agent.sandbox.control import CALLER_KEY, SITE_KEY
from agent.sandbox.server import SERVER_OPTIONS
from his_db.contract import ContractOperation
from his_db.contract import operation as about

_TIMEOUT: Final = 30.0
_CHANNELS: Final = 16
_LEAST_WAIT: Final = 0.05
_AGAIN: Final = frozenset({"UNAVAILABLE", "ABORTED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"})
"""Codes after which a caller sends the same request again: not now, not known, or too long. So does one who was told no
reason: that is not the agent's word but the transport's."""


class Refused(Exception):
    """A final refusal. ``reason``: name of the contract's reason."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code} {reason}".rstrip())
        self.code = code
        self.reason = reason


class OutOfTime(Exception):
    """The rush is over before there was an answer: what became of the request is not known to its caller."""


@dataclass(slots=True)
class Tally:
    """What all callers met. ``seconds``: of every single call that was answered or refused for good, by operation.

    ``waits``: answers that asked the caller to come again, by reason.
    """

    calls: int = 0
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    waits: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    refusals: dict[str, int] = field(default_factory=lambda: defaultdict(int))


class Caller:
    """The channels that all patients share. ``until``: reading of ``time.monotonic()`` when everybody goes home."""

    def __init__(self, control: str, site: str, chance: random.Random) -> None:
        options: list[tuple[str, Any]] = [
            *SERVER_OPTIONS,
            ("grpc.enable_http_proxy", 0),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        # A gRPC server cancels streams of a connection that carries very many at once.
        self._channels = itertools.cycle(
            [grpc.aio.insecure_channel(control, options=options) for _ in range(_CHANNELS)]
        )
        self._metadata = ((SITE_KEY, site), (CALLER_KEY, "rush"))
        self._chance = chance
        self.until = time.monotonic() + timedelta(days=1).total_seconds()
        self.tally = Tally()

    async def close(self) -> None:
        """Close the channels."""
        for _ in range(_CHANNELS):
            await next(self._channels).close()

    async def call(self, operation: str, request: Message) -> Any:
        """The answer, asking again as RetryInfo says, with full jitter on top. Raises Refused, OutOfTime."""
        found = about(operation)
        content = request.SerializeToString()
        while True:
            self._check_time()
            stub: Any = next(self._channels).unary_unary(found.full_method)
            started = time.perf_counter()
            self.tally.calls += 1
            try:
                answer = await stub(content, timeout=_TIMEOUT, metadata=self._metadata)
            except grpc.aio.AioRpcError as error:
                await self._wait(error, found, time.perf_counter() - started)
                continue
            self.tally.seconds[operation].append(time.perf_counter() - started)
            return found.response_class.FromString(answer)

    async def _wait(self, error: grpc.aio.AioRpcError, found: ContractOperation, seconds: float) -> None:
        """Wait before the same request is sent again. Raises Refused when it is not to be."""
        said = explain(status_of(error))
        if said.code not in _AGAIN and said.reason:
            self.tally.seconds[found.name].append(seconds)
            self.tally.refusals[said.reason or said.code] += 1
            raise Refused(said.code, said.reason)
        self.tally.waits[said.reason or said.code] += 1
        asked = said.retry_after.total_seconds() if said.retry_after else 1.0
        await asyncio.sleep(max(_LEAST_WAIT, asked) * self._chance.uniform(1.0, 1.5))

    def _check_time(self) -> None:
        if time.monotonic() >= self.until:
            raise OutOfTime
