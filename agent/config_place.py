"""Small readings of configuration texts that the check and the conversion share."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Final

import his_db

PACK: Final = "pack:"
_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):([0-9]{1,5})")


def split_address(text: str) -> tuple[str, int]:
    """``host:port`` or ``[v6]:port`` -> host without brackets, port. Raises ValueError."""
    match = _ADDRESS.fullmatch(text)
    if match is None or not 0 <= int(match[2]) <= 65535:
        raise ValueError("not host:port")
    return match[1].strip("[]"), int(match[2])


def is_loopback(host: str) -> bool:
    """Whether a host names this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def mapping_folder(text: str, folder: Path) -> Path:
    """``pack:zebone`` -> the mappings of that built-in pack; anything else is a path relative to ``folder``."""
    if text.startswith(PACK):
        return packs_folder() / text.removeprefix(PACK) / "mappings"
    return folder / text


def packs_folder() -> Path:
    """Where the built-in packs are."""
    return Path(his_db.__path__[0]) / "packs"


def pack_names() -> tuple[str, ...]:
    """The built-in packs that hold mappings."""
    return tuple(sorted(path.parent.name for path in packs_folder().glob("*/mappings") if path.is_dir()))
