"""TLS of the server: files that may be renewed while it runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

import grpc

from agent.config import ServerSettings

_LOG: Final = logging.getLogger(__name__)
_Stamp = tuple[tuple[int, int], ...]


def server_credentials(settings: ServerSettings) -> grpc.ServerCredentials:
    """Credentials that ask every caller for a certificate of ``client_ca``. Raises OSError for an unreadable file."""
    files = _Files(settings)
    # None means "no change"; the stubs do not know.
    renewed = cast(Callable[[], grpc.ServerCertificateConfiguration], files.renewed)
    return grpc.dynamic_ssl_server_credentials(files.first(), renewed, require_client_authentication=True)


class _Files:
    """Reads the three files again when one of them has changed. gRPC asks at each handshake, from its own threads."""

    def __init__(self, settings: ServerSettings) -> None:
        self._paths = tuple(
            path for path in (settings.key, settings.certificate, settings.client_ca) if path is not None
        )
        if len(self._paths) != 3:
            raise ValueError("a server with TLS needs certificate, key and client_ca")
        self._lock = threading.Lock()
        self._stamp: _Stamp = ()

    def first(self) -> grpc.ServerCertificateConfiguration:
        """What the server starts with. Raises OSError."""
        self._stamp = self._stamps()
        return self._read()

    def renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """A new configuration, or None when nothing has changed or the new files cannot be read (yet)."""
        with self._lock:
            try:
                stamp = self._stamps()
                if stamp == self._stamp:
                    return None
                configuration = self._read()
            except OSError as error:
                _LOG.warning("the renewed certificate cannot be read: %s", error.strerror)
                return None
            self._stamp = stamp
        _LOG.info("the server's certificate was read again")
        return configuration

    def _stamps(self) -> _Stamp:
        return tuple((status.st_mtime_ns, status.st_size) for status in map(Path.stat, self._paths))

    def _read(self) -> grpc.ServerCertificateConfiguration:
        key, certificate, authority = (path.read_bytes() for path in self._paths)
        return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=authority)
