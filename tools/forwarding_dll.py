"""A Windows DLL (64 bit) without code, whose functions are those of another DLL: export forwarders and nothing else.

Used for wine 8, which has no ``bcryptprimitives.dll``: BoringSSL in grpcio and Rust in cryptography take their random
numbers from its ``ProcessPrng`` and abort without it. ``SystemFunction036`` of advapi32 (RtlGenRandom) takes the same
arguments. Layout: Microsoft's PE format, https://learn.microsoft.com/windows/win32/debug/pe-format
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

_FILE_ALIGNMENT = 0x200
_SECTION_RVA = 0x1000
_IMAGE_BASE = 0x1_8000_0000
_DIRECTORIES = 16


def forwarding_dll(name: str, forwards: Mapping[str, str]) -> bytes:
    """The file ``name``: each function of ``forwards`` is ``other.function`` of another DLL."""
    exports = _exports(name, forwards)
    raw = exports.ljust(-(-len(exports) // _FILE_ALIGNMENT) * _FILE_ALIGNMENT, b"\0")
    return _headers(len(exports), len(raw)).ljust(_FILE_ALIGNMENT, b"\0") + raw


def _exports(name: str, forwards: Mapping[str, str]) -> bytes:
    """The export directory with its tables and texts, as it lies at ``_SECTION_RVA``."""
    names = sorted(forwards)
    count = len(names)
    tables = _SECTION_RVA + 40
    functions, pointers, ordinals = tables, tables + 4 * count, tables + 8 * count
    texts = bytearray()

    def put(text: str) -> int:
        at = tables + 10 * count + len(texts)
        texts.extend(text.encode("ascii") + b"\0")
        return at

    library = put(name)
    targets = [put(forwards[function]) for function in names]
    labels = [put(function) for function in names]
    head = struct.pack("<IIHHIIIIIII", 0, 0, 0, 0, library, 1, count, count, functions, pointers, ordinals)
    body = struct.pack(f"<{2 * count}I{count}H", *targets, *labels, *range(count))
    return head + body + bytes(texts)


def _headers(used: int, raw: int) -> bytes:
    dos = b"MZ" + bytes(58) + struct.pack("<I", 64)
    # AMD64, one section; an executable image, large addresses, a DLL.
    coff = struct.pack("<HHIIIHH", 0x8664, 1, 0, 0, 0, 112 + 8 * _DIRECTORIES, 0x2022)
    size = _SECTION_RVA * 2
    optional = struct.pack("<HBBIIIII", 0x20B, 14, 0, 0, raw, 0, 0, _SECTION_RVA)
    optional += struct.pack("<QII", _IMAGE_BASE, _SECTION_RVA, _FILE_ALIGNMENT)
    optional += struct.pack("<HHHHHHI", 6, 0, 0, 0, 6, 0, 0)
    # Console subsystem; may be loaded anywhere, holds no code that could be executed.
    optional += struct.pack("<IIIHH", size, _FILE_ALIGNMENT, 0, 3, 0x0140)
    optional += struct.pack("<QQQQII", 0x100000, 0x1000, 0x100000, 0x1000, 0, _DIRECTORIES)
    optional += struct.pack("<II", _SECTION_RVA, used) + bytes(8 * (_DIRECTORIES - 1))
    section = struct.pack("<8sIIIIIIHHI", b".edata", used, _SECTION_RVA, raw, _FILE_ALIGNMENT, 0, 0, 0, 0, 0x4000_0040)
    return dos + b"PE\0\0" + coff + optional + section
