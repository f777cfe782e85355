"""Putting the parts of an answer together again, and saying when the peer may send more. Used by the relay's side."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""Largest message of the contract, bytes."""


class MessageTooLarge(Exception):
    """The parts make a message above ``MAX_MESSAGE_BYTES``."""


class Assembly:
    """Parts of one call's answer in, whole messages out.

    Credit is given back when the reader is behind by no whole message: parts of the message he waits for are granted
    at once (else a message larger than the window would never be whole), those beyond it when he has taken it.
    """

    def __init__(self, grant: Callable[[int], None]) -> None:
        """``grant(size)`` sends a Window frame; it is not called once the call has ended."""
        self._grant = grant
        self._messages: deque[bytes] = deque()
        self._parts = bytearray()
        self._owed = 0
        self._status: bytes | None = None
        self._broken: Exception | None = None
        self._changed = asyncio.Event()

    def part(self, payload: bytes, *, end_of_message: bool) -> None:
        """Take one part. Raises MessageTooLarge."""
        if len(self._parts) + len(payload) > MAX_MESSAGE_BYTES:
            raise MessageTooLarge
        self._parts += payload
        self._owed += len(payload)
        if end_of_message:
            self._messages.append(bytes(self._parts))
            self._parts.clear()
            self._changed.set()
        self._pay()

    def end(self, status: bytes) -> None:
        """The call is over with this serialised google.rpc.Status."""
        self._status = status
        self._changed.set()

    def fail(self, error: Exception) -> None:
        """The call cannot end in order: the link is gone. Messages not yet taken are dropped."""
        self._broken = error
        self._changed.set()

    @property
    def over(self) -> bool:
        """True once the call has ended or failed."""
        return self._status is not None or self._broken is not None

    async def next_message(self) -> bytes | None:
        """The next message, None at the end (then ``status`` is there). Raises what ``fail`` was given."""
        while True:
            if self._broken is not None:
                raise self._broken
            if self._messages:
                message = self._messages.popleft()
                self._pay()
                return message
            if self._status is not None:
                return None
            self._changed.clear()
            await self._changed.wait()

    @property
    def status(self) -> bytes:
        """Serialised google.rpc.Status of the end; empty means OK. Only after the end."""
        assert self._status is not None
        return self._status

    def _pay(self) -> None:
        if self._owed and not self._messages and not self.over:
            owed, self._owed = self._owed, 0
            self._grant(owed)
