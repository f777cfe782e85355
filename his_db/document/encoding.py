"""Bytes of a file -> text, or the problem with them. The tools of a hospital's Windows write GBK and UTF-16."""

from __future__ import annotations

import codecs
from itertools import takewhile
from typing import Final

from his_db.document.positions import Lines
from his_db.document.problem import DocumentError, Place, Problem

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_WIDE_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "UTF-32", "utf-32"),
    (codecs.BOM_UTF32_BE, "UTF-32", "utf-32"),
    (codecs.BOM_UTF16_LE, "UTF-16", "utf-16"),
    (codecs.BOM_UTF16_BE, "UTF-16", "utf-16"),
)
_FIX: Final = "open the file in Notepad (or VS Code, Notepad++) and save it again with the encoding UTF-8"
_FIX_ZH: Final = "用记事本打开，选择“另存为”，编码选“UTF-8”后保存（Notepad++：编码 → 转为 UTF-8 编码）"
_DAMAGED_FIX: Final = "restore the file from a backup, or type the damaged line again and save as UTF-8"
_DAMAGED_FIX_ZH: Final = "从备份恢复该文件，或重新输入这一行，再另存为 UTF-8"
_SAMPLE: Final = 12


def decode(raw: bytes, file: str) -> str:
    """`raw` as text with `\\n` line ends and no byte order mark. DocumentError when it is not UTF-8 or holds NUL."""
    text, problem = read(raw, file)
    if text is None or problem is not None:
        raise DocumentError([problem] if problem is not None else [])
    return text


def read(raw: bytes, file: str) -> tuple[str | None, Problem | None]:
    """As `decode`; another encoding, or NULs, are a problem, and the text is given all the same where it is certain."""
    wide, codec = _wide_encoding(raw)
    if wide:
        # A mark says it at the first byte; without one the first NUL shows it.
        at = 0 if raw.startswith((*(mark for mark, _, _ in _WIDE_MARKS),)) else raw.index(0)
        return _lines(raw.decode(codec)), _not_utf8(raw, at, file, "H103", wide)
    raw = raw.removeprefix(codecs.BOM_UTF8)
    try:
        text = _lines(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        problem = _undecodable(raw, error.start, file)
        return (_lines(raw.decode("gb18030")) if problem.code == "H102" else None), problem
    damaged = _nul(text, file)
    return (text, None) if damaged is None else (None, damaged)


def normalise(text: str, file: str) -> str:
    """`text` with `\\n` line ends and no byte order mark. DocumentError when it holds NUL."""
    text = _lines(text)
    problem = _nul(text, file)
    if problem is not None:
        raise DocumentError([problem])
    return text


def _lines(text: str) -> str:
    return text.removeprefix("\ufeff").replace("\r\n", "\n")


def _nul(text: str, file: str) -> Problem | None:
    nul = text.find("\0")
    if nul < 0:
        return None
    line, column = Lines(text).at(nul)
    return Problem(
        Place(file, line, column),
        "H105",
        "the file contains a NUL character: it is damaged (power failure while saving?) or not a text file",
        "文件中有空字符（NUL）：文件已损坏（可能保存时断电），或者不是文本文件",
        _DAMAGED_FIX,
        _DAMAGED_FIX_ZH,
    )


def _wide_encoding(raw: bytes) -> tuple[str, str]:
    """UTF-16 or UTF-32 by its mark, or UTF-16 without one by the NULs of its ASCII, with its codec; else empty."""
    for mark, name, codec in _WIDE_MARKS:
        if raw.startswith(mark) and _decodes(raw, codec):
            return name, codec
    sample = raw[:4096]
    for codec, high, low in (("utf-16-le", sample[1::2], sample[::2]), ("utf-16-be", sample[::2], sample[1::2])):
        # TOML is mostly ASCII, so every second byte is mostly NUL, and the other almost never.
        if high.count(0) > len(high) // 4 and low.count(0) * 8 < len(low) and _decodes(raw, codec):
            return "UTF-16", codec
    return "", ""


def _undecodable(raw: bytes, at: int, file: str) -> Problem:
    """Why the byte at `at` is not UTF-8: GBK, two encodings in one file, or damage."""
    line_start = raw.rfind(b"\n", 0, at) + 1
    line_end = raw.find(b"\n", at)
    line = raw[line_start : line_end if line_end >= 0 else len(raw)]
    is_mixed = not raw[:line_start].isascii()
    if not is_mixed and _decodes(raw, "gb18030"):
        sample = raw[at:].split(b"\n", 1)[0].decode("gb18030", "replace")
        # Only the Chinese run is shown: enough to recognise the place, and never a password.
        han = "".join(takewhile(lambda char: not char.isascii() and char.isalnum(), sample))[:_SAMPLE]
        return _not_utf8(raw, at, file, "H102", "GBK", f" “{han}”" if han else "")
    if is_mixed and _decodes(line, "gb18030"):
        return Problem(
            _place(raw, at, file),
            "H104",
            "the lines before are UTF-8, but this one looks like GBK: two encodings in one file (pasted text?)",
            "前面的内容是 UTF-8，而这一行看起来是 GBK：同一个文件混用了两种编码（可能是粘贴造成的）",
            "type this line again and save as UTF-8",
            "重新输入这一行，再另存为 UTF-8",
        )
    return Problem(
        _place(raw, at, file),
        "H104",
        f"the byte 0x{raw[at]:02X} is neither UTF-8 nor GBK: the file is damaged or not a text file",
        f"字节 0x{raw[at]:02X} 既不是 UTF-8 也不是 GBK：文件已损坏，或者不是文本文件",
        _DAMAGED_FIX,
        _DAMAGED_FIX_ZH,
    )


def _not_utf8(raw: bytes, at: int, file: str, code: str, encoding: str, sample: str = "") -> Problem:
    return Problem(
        _place(raw, at, file),
        code,
        f"the file must be UTF-8, but it looks like {encoding}; the first byte that is not UTF-8 is here{sample}",
        f"文件编码必须是 UTF-8，但看起来是 {encoding}；第一个不是 UTF-8 的字节在这里{sample}",
        _FIX,
        _FIX_ZH,
    )


def _place(raw: bytes, at: int, file: str) -> Place:
    """The place of a byte: everything before it is UTF-8 (or it is the first)."""
    before = raw[:at]
    line_start = before.rfind(b"\n") + 1
    column = len(before[line_start:].decode("utf-8", "replace")) + 1
    return Place(file, before.count(b"\n") + 1, column)


def _decodes(raw: bytes, codec: str) -> bool:
    try:
        raw.decode(codec)
    except UnicodeDecodeError:
        return False
    return True
