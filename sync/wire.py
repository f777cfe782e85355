"""Pieces of protobuf's wire format, for messages that are put together from pieces that protobuf has written before."""

from __future__ import annotations

from typing import Final

_KEPT: Final = 1 << 11  # lengths of a field; rows of one table have few


def varint(number: int) -> bytes:
    """A number, 0 or more, as protobuf writes it."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class Heads(dict[int, bytes]):
    """Of a field that holds text or a message: what stands before its content, by the content's length.

    A table of the lengths that were asked for, so that a field costs one look into it, and no call, where one is put
    together for each row. ``empty``: whether a field without content is written (a message is, a text without presence
    is not).
    """

    def __init__(self, number: int, *, empty: bool) -> None:
        self._tag = varint(number << 3 | 2)
        super().__init__({} if empty else {0: b""})

    def __missing__(self, size: int) -> bytes:
        head = self._tag + varint(size)
        if len(self) < _KEPT:
            self[size] = head
        return head
