"""Windows' own protection of secrets (DPAPI, CryptProtectData): bound to this machine, readable on it by every account
that can read the file, so that the service's account can use what an administrator has protected.

By ctypes, so that reading a configuration needs no package. The file's access list does the rest.
"""

from __future__ import annotations

import base64
import binascii
import ctypes
from typing import Any, Final

_ENTROPY: Final = b"his160"
_UI_FORBIDDEN: Final = 0x1
_LOCAL_MACHINE: Final = 0x4


class DpapiError(Exception):
    """It cannot be protected or read. ``str()`` is the reason in English, without the secret."""


class _Blob(ctypes.Structure):
    """DATA_BLOB of wincrypt.h."""

    _fields_ = (("size", ctypes.c_uint32), ("data", ctypes.c_void_p))


def protect(secret: str) -> str:
    """The secret as base64 text that only this machine can read. Raises DpapiError."""
    return base64.b64encode(_call("CryptProtectData", secret.encode())).decode()


def unprotect(text: str) -> str:
    """What ``protect`` was given. Raises DpapiError, also for a text of another machine."""
    try:
        blob = base64.b64decode("".join(text.split()), validate=True)
    except (ValueError, binascii.Error):
        raise DpapiError("not base64") from None
    try:
        return _call("CryptUnprotectData", blob).decode()
    except UnicodeDecodeError:
        raise DpapiError("not UTF-8") from None


def _call(name: str, data: bytes) -> bytes:
    libraries = getattr(ctypes, "windll", None)
    if libraries is None:
        raise DpapiError("DPAPI is Windows' own")
    given, entropy, found = _blob(data), _blob(_ENTROPY), _Blob()
    function: Any = getattr(libraries.crypt32, name)
    flags = _UI_FORBIDDEN | _LOCAL_MACHINE
    done = function(ctypes.byref(given), None, ctypes.byref(entropy), None, None, flags, ctypes.byref(found))
    if not done:
        raise DpapiError(f"{name} refuses it, as it does what another machine has protected")
    try:
        return ctypes.string_at(found.data or 0, found.size)
    finally:
        free: Any = libraries.kernel32.LocalFree
        free(ctypes.c_void_p(found.data))


def _blob(data: bytes) -> _Blob:
    """A blob over ``data``; the buffer lives as long as the blob does."""
    buffer = ctypes.create_string_buffer(data, len(data))
    blob = _Blob(len(data), ctypes.cast(buffer, ctypes.c_void_p))
    blob.__dict__["buffer"] = buffer
    return blob
