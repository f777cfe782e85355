"""A look through a whole file: its digest, its size, its encoding. One pass, flat memory."""

from __future__ import annotations

import codecs
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sync.file_format import BadFile, FileFault

_CHUNK: Final = 256 * 1024
_BOMS: Final = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_DBF_HEADER_END: Final = 10


@dataclass(frozen=True, slots=True)
class Sniffed:
    """``digest``: SHA-256, hex. ``ends_line``: the last byte is a line feed."""

    digest: str
    size: int
    encoding: str
    ends_line: bool


class _Trial:
    """Whether the bytes so far are text in an encoding."""

    def __init__(self, encoding: str) -> None:
        self.encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)("strict")
        self.holds = True
        self.is_cut = False
        self.has_others = False  # characters beyond ASCII

    def feed(self, block: bytes) -> None:
        if self.holds:
            try:
                text = self._decoder.decode(block)
                self.has_others = self.has_others or not text.isascii()
            except UnicodeDecodeError:
                self.holds = False

    def end(self) -> None:
        if self.holds:
            try:
                self._decoder.decode(b"", final=True)
            except UnicodeDecodeError:
                self.is_cut = True


def sniff(path: Path, encoding: str, *, is_dbf: bool, most: int) -> Sniffed:
    """``encoding``: ``auto``, or what it must be. Raises BadFile, OSError.

    In ``auto`` the byte order mark decides, then UTF-8 if all of it is that, then GBK (as GB 18030, which holds it).
    """
    digest = hashlib.sha256()
    size, last = 0, b""
    trials: list[_Trial] = []
    skip = 0
    with path.open("rb") as stream:
        while block := stream.read(_CHUNK):
            if not trials:
                trials = [_Trial(name) for name in _candidates(block, encoding)]
                # A DBF's header is binary: only its records are text.
                skip = int.from_bytes(block[8:_DBF_HEADER_END], "little") if is_dbf else 0
            size += len(block)
            if size > most:
                raise BadFile(FileFault.TOO_LARGE, f"more than {most} bytes")
            digest.update(block)
            last = block[-1:]
            text = block[skip:]
            skip = max(0, skip - len(block))
            for trial in trials:
                trial.feed(text)
    if not size:
        raise BadFile(FileFault.INCOMPLETE, "the file is empty")
    for trial in trials:
        trial.end()
    return Sniffed(digest.hexdigest(), size, _decided(trials, encoding, is_dbf=is_dbf), last == b"\n")


def _candidates(block: bytes, encoding: str) -> list[str]:
    if encoding != "auto":
        with_mark = encoding == "utf-8" and block.startswith(codecs.BOM_UTF8)
        return ["utf-8-sig" if with_mark else {"gbk": "gb18030"}.get(encoding, encoding)]
    for mark, name in _BOMS:
        if block.startswith(mark):
            return [name]
    return ["utf-8", "gb18030"]


def _decided(trials: list[_Trial], encoding: str, *, is_dbf: bool) -> str:
    good = [trial for trial in trials if trial.holds]
    if is_dbf:  # binary columns are no text; texts are decoded one by one
        return good[0].encoding if good and good[0].encoding.startswith("utf-8") and encoding != "gbk" else "gb18030"
    whole = [trial for trial in good if not trial.is_cut]
    # UTF-8 that breaks off is often valid GBK, of other characters.
    if whole and not (good[0].is_cut and good[0].has_others):
        return whole[0].encoding
    if good:
        raise BadFile(FileFault.INCOMPLETE, "the last character breaks off")
    raise BadFile(FileFault.ENCODING, f"not {' nor '.join(trial.encoding for trial in trials)}")
