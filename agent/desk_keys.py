"""API keys of window programs: made once, shown once, kept as hashes.

The file is TOML, one line for each window: ``window1 = "sha256:<64 hex digits>"``. It is read again when it changes, so
that a window is added or shut out without a restart.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import tomllib
from pathlib import Path
from typing import Final

from agent.handler import Identity

_LOG: Final = logging.getLogger(__name__)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_HASH: Final = re.compile(r"sha256:([0-9a-f]{64})")


class DeskKeyError(ValueError):
    """The file of keys cannot be used. The text holds no key."""


def new_key() -> str:
    """A key of 256 bits, as text for an HTTP header."""
    return secrets.token_urlsafe(32)


def line_of(name: str, key: str) -> str:
    """The line of the file for a key. Raises DeskKeyError for a name that is none."""
    if _NAME.fullmatch(name) is None:
        raise DeskKeyError("a window's name has letters, digits, dots, dashes, at most 63")
    return f'"{name}" = "sha256:{_digest(key)}"'


def read_keys(path: Path) -> dict[str, str]:
    """Name by hash. Raises DeskKeyError."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DeskKeyError(f"the file of keys cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DeskKeyError(f"the file of keys is no TOML: {error}") from error
    found: dict[str, str] = {}
    for name, value in data.items():
        match = _HASH.fullmatch(value) if isinstance(value, str) else None
        if match is None or _NAME.fullmatch(name) is None:
            raise DeskKeyError(f'the entry "{name[:63]}" is not of the form name = "sha256:…"')
        if match.group(1) in found:
            raise DeskKeyError(f'the windows "{found[match.group(1)]}" and "{name}" have the same key')
        found[match.group(1)] = name
    return found


class DeskKeys:
    """The keys in a file. A file that goes bad while we run keeps the keys read before, and says so once."""

    def __init__(self, path: Path) -> None:
        """Raises DeskKeyError."""
        self._path = path
        self._names = read_keys(path)
        self._stamp = self._now()

    def identity(self, key: str) -> Identity | None:
        """The window that the key belongs to; None for a key that is not known."""
        self._renew()
        digest = _digest(key)
        for known, name in self._names.items():
            if hmac.compare_digest(known, digest):
                return Identity("desk", name)
        return None

    def _renew(self) -> None:
        stamp = self._now()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._names = read_keys(self._path)
        except DeskKeyError as error:
            _LOG.warning("the keys of the windows stay as they were: %s", error)
        else:
            _LOG.info("the keys of the windows were read again: %d", len(self._names))

    def _now(self) -> tuple[int, int]:
        try:
            status = self._path.stat()
        except OSError:
            return (0, 0)
        return (status.st_mtime_ns, status.st_size)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
