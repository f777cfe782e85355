"""Scripted Attach streams: a test plays the relay frame by frame."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from google.rpc import status_pb2
from his160.v1 import relay_pb2

from agent.handler import Identity
from agent.link.answering import RegistryAnswerer
from agent.link.session import LinkSession, SessionEnd, SessionSettings
from tests.bounds import PATIENCE
from tests.unit.link.bench import PREFIX, FakeDispatcher


class ScriptedStream:
    """A FrameStream whose other end is the test."""

    def __init__(self) -> None:
        self.inbound: asyncio.Queue[relay_pb2.AttachResponse | Exception | None] = asyncio.Queue()
        self.written: list[relay_pb2.AttachRequest] = []
        self.ended = asyncio.Event()
        self._changed = asyncio.Event()

    async def read(self) -> relay_pb2.AttachResponse | None:
        item = await self.inbound.get()
        if isinstance(item, Exception):
            raise item
        return item

    async def write(self, frame: relay_pb2.AttachRequest) -> None:
        self.written.append(frame)
        self._changed.set()

    async def end(self) -> None:
        self.ended.set()

    async def wait(self, condition: Callable[[], Any]) -> Any:
        """What the condition returns as soon as it is true."""
        async with asyncio.timeout(PATIENCE):
            while not (value := condition()):
                self._changed.clear()
                await self._changed.wait()
        return value


class Script:
    """A session with its scripted relay."""

    def __init__(self, **settings: Any) -> None:
        self.stream = ScriptedStream()
        self.dispatcher = FakeDispatcher()
        answerer = RegistryAnswerer(self.dispatcher, Identity("relay", "test"))
        said = SessionSettings(site="S", instance="a", version="1", **settings)
        self.session = LinkSession(self.stream, said, answerer, link="relay:1")
        self.running: asyncio.Task[SessionEnd] | None = None

    async def __aenter__(self) -> Script:
        self.running = asyncio.create_task(self.session.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.running is not None
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)

    def send(self, **frame: Any) -> None:
        self.stream.inbound.put_nowait(relay_pb2.AttachResponse(**frame))

    def greet(self, *, revision: int = 1, window_bytes: int = 0) -> None:
        self.send(settings=relay_pb2.LinkSettings(revision=revision, window_bytes=window_bytes))

    def call(self, call_id: int, method: str, payload: bytes = b"", **more: Any) -> None:
        self.send(call=relay_pb2.LinkCall(call_id=call_id, method=PREFIX + method, payload=payload, **more))

    def replies(self, call_id: int) -> list[relay_pb2.LinkReply]:
        return [
            frame.reply
            for frame in self.stream.written
            if frame.WhichOneof("frame") == "reply" and frame.reply.call_id == call_id
        ]

    async def ended(self, call_id: int) -> list[relay_pb2.LinkReply]:
        """All replies of a call that has come to its end."""

        def whole() -> list[relay_pb2.LinkReply]:
            replies = self.replies(call_id)
            return replies if replies and replies[-1].end_of_call else []

        found: list[relay_pb2.LinkReply] = await self.stream.wait(whole)
        return found

    async def status(self, call_id: int) -> status_pb2.Status:
        return status_pb2.Status.FromString((await self.ended(call_id))[-1].status)

    async def result(self) -> SessionEnd:
        assert self.running is not None
        async with asyncio.timeout(PATIENCE):
            return await self.running
