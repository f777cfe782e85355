"""What goes out on one Attach stream: control frames first, then one chunk of each call in turn.

A report of 3 MiB and a booking's answer of 100 bytes share the stream: the report is cut into chunks, and after each of
its chunks every other call with something to say has its turn. A call whose reader is slow runs out of credit and waits
alone.
"""

from __future__ import annotations

import asyncio
from collections import deque

from his160.v1 import relay_pb2

from agent.link.errors import LinkBroken

CHUNK_BYTES = 16 * 1024
WINDOW_BYTES = 64 * 1024
MAX_CREDIT = 1 << 30
"""Credit is capped here: a peer that grants without end must not make numbers grow without end."""
MAX_CONTROL_FRAMES = 4096
"""Control frames that may wait. More means that the peer asks without ever reading the answers."""


class ReplyFlow:
    """The answer of one call on its way out: one message at a time, then the end."""

    def __init__(self, outgoing: Outgoing, call_id: int, credit: int | None) -> None:
        self._outgoing = outgoing
        self._call_id = call_id
        self._credit = credit
        self._payload: bytes | None = None
        self._offset = 0
        self._last = False
        self._taken: asyncio.Future[None] | None = None

    async def message(self, payload: bytes, *, last: bool) -> None:
        """Send one message; ``last`` ends the call with OK in its last chunk.

        Returns when the writer has taken the last chunk, so that a producer is never more than one message ahead.
        """
        self._payload, self._offset, self._last = payload, 0, last
        self._taken = asyncio.get_running_loop().create_future()
        self._outgoing.wake(self)
        try:
            await self._taken
        finally:
            self._payload = self._taken = None

    def end(self, status: bytes) -> None:
        """End the call with a serialised google.rpc.Status (empty: OK). Needs no credit. Drops what was waiting."""
        self._payload = None
        self._outgoing.end_call(self._call_id, status)

    def grant(self, size: int) -> None:
        """The peer allows ``size`` bytes more."""
        if self._credit is not None and size > 0:
            self._credit = min(self._credit + size, MAX_CREDIT)
            self._outgoing.wake(self)

    @property
    def ready(self) -> bool:
        """Can a chunk be taken now? An empty message needs no credit."""
        if self._payload is None or self._taken is None or self._taken.done():
            return False
        return self._credit is None or self._credit > 0 or not self._payload

    def take(self) -> relay_pb2.AttachRequest:
        """The next chunk. Only when ``ready``."""
        assert self._payload is not None
        assert self._taken is not None
        size = CHUNK_BYTES if self._credit is None else min(CHUNK_BYTES, self._credit)
        part = self._payload[self._offset : self._offset + size]
        self._offset += len(part)
        if self._credit is not None:
            self._credit -= len(part)
        complete = self._offset >= len(self._payload)
        if complete:
            self._taken.set_result(None)
        return relay_pb2.AttachRequest(
            reply=relay_pb2.LinkReply(
                call_id=self._call_id,
                payload=part,
                end_of_message=complete,
                end_of_call=complete and self._last,
            )
        )


class Outgoing:
    """Frames waiting for the one writer of a stream."""

    def __init__(self) -> None:
        self._control: deque[relay_pb2.AttachRequest] = deque()
        self._ring: deque[ReplyFlow] = deque()
        self._credit: int | None = None
        self._something = asyncio.Event()
        self._closed = False

    def peer_window(self, window_bytes: int) -> None:
        """The peer's Settings: credit that each call has to begin with. 0 or less: no limit."""
        self._credit = window_bytes if window_bytes > 0 else None

    def control(self, frame: relay_pb2.AttachRequest) -> None:
        """Queue a frame that goes before all chunks. Raises LinkBroken when the peer never reads."""
        if len(self._control) >= MAX_CONTROL_FRAMES:
            raise LinkBroken("protocol", "the peer does not read the answers it asks for")
        self._control.append(frame)
        self._something.set()

    def end_call(self, call_id: int, status: bytes) -> None:
        """Queue the end of a call that was started; these are as many as there are calls, so there is no limit."""
        reply = relay_pb2.LinkReply(call_id=call_id, end_of_call=True, status=status)
        self._control.append(relay_pb2.AttachRequest(reply=reply))
        self._something.set()

    def flow(self, call_id: int) -> ReplyFlow:
        """The way out for the answer of one call."""
        return ReplyFlow(self, call_id, self._credit)

    def wake(self, flow: ReplyFlow) -> None:
        """Give the flow its place in the round, if it can use one and has none."""
        if flow.ready and flow not in self._ring:
            self._ring.append(flow)
            self._something.set()

    def close(self) -> None:
        """No more frames will come; ``next_frame`` ends when those waiting are taken."""
        self._closed = True
        self._something.set()

    async def next_frame(self) -> relay_pb2.AttachRequest | None:
        """The next frame to write; None when closed and empty. For one writer only."""
        while True:
            if self._control:
                return self._control.popleft()
            while self._ring:
                flow = self._ring.popleft()
                if flow.ready:  # it may have been ended or given up since
                    frame = flow.take()
                    self.wake(flow)
                    return frame
            if self._closed:
                return None
            self._something.clear()
            await self._something.wait()
