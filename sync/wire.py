"""Pieces of protobuf's wire format, for messages that are put together from pieces that protobuf has written before."""

from __future__ import annotations

from typing import Final

_SHORT: Final = 1 << 11


def varint(number: int) -> bytes:
    """A number, 0 or more, as protobuf writes it."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_SIZES: Final = tuple(varint(number) for number in range(_SHORT))
_TAGS: Final = tuple(varint(number << 3 | 2) for number in range(64))


def field(number: int, content: bytes) -> bytes:
    """A field that holds text or a message, below number 64, with its content as protobuf has written it."""
    size = len(content)
    return _TAGS[number] + (_SIZES[size] if size < _SHORT else varint(size)) + content
