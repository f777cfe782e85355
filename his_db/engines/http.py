"""An interface of the hospital over HTTP or HTTPS, with the port of a database: held connections, time-outs, faults.

The standard library's `http.client`: it keeps a connection, follows no redirect, uses no proxy that it was not told,
retries nothing, and says by where it fails whether a request can have arrived. That is all that is wanted here.

Options of the source: `base_url` (or the usual host, port and database as path), `ca_file` (CA of the hospital, PEM),
`cert_file` and `key_file` (our certificate), `tls = "on"` for https without `base_url`, `max_bytes` of a reply,
`proxy` (`http://host:port` by CONNECT, `socks5://host:port`) and `proxy_credentials` (a reference to `user:password`).
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from his_db.engine import Fault, ProcedurePlan, ProcedureResult, Rows, SourceSettings
from his_db.held_connection import HANG_MARGIN, CallError, HangGuard
from his_db.http_exchange import HttpFault, HttpReply, HttpRequest
from his_db.proxy import ProxySettings, dial, parse_proxy
from his_db.secret_reference import SecretUnreadable, first_line, is_reference

_MAX_BYTES: Final = 8 * 1024 * 1024
_CHUNK: Final = 64 * 1024


class HttpSession:
    """See `his_db.engine.Session` and `his_db.http_exchange.Exchanger`. There are no transactions."""

    goes_out = True

    def __init__(self, engine: HttpEngine, patience: float) -> None:
        self._engine = engine
        self._patience = patience
        self._open = True
        self.busy_until = 0.0
        self._connection = engine.connect()

    def exchange(self, request: HttpRequest) -> HttpReply:
        """See the port. A connection that the server closed while it lay idle is replaced before anything is sent."""
        if not self._is_fresh():
            self._connection.close()
            self._connection = self._engine.connect()
        until = time.monotonic() + self._patience
        self.busy_until = until + HANG_MARGIN.total_seconds()
        try:
            self._send(request)
            return self._receive(until)
        except TimeoutError:
            self._drop()
            raise HttpFault(Fault.TIMEOUT, "no answer in time") from None
        except (OSError, http.client.HTTPException) as error:
            self._drop()
            raise HttpFault(Fault.LOST, f"no whole answer ({type(error).__name__})") from None
        finally:
            self.busy_until = 0.0

    def _send(self, request: HttpRequest) -> None:
        connection, engine = self._connection, self._engine
        if connection.sock is not None:
            connection.sock.settimeout(self._patience)
        connection.putrequest(request.method, engine.prefix + request.target, skip_accept_encoding=True)
        given = {name.lower() for name, _ in request.headers}
        for name, value in (*request.headers, *engine.headers):
            if name not in given or (name, value) in request.headers:
                connection.putheader(name, value)
        if request.body or request.method not in {"GET", "DELETE"}:
            connection.putheader("Content-Length", str(len(request.body)))
        connection.endheaders(request.body or None)

    def _receive(self, until: float) -> HttpReply:
        connection = self._connection
        response = connection.getresponse()
        parts: list[bytes] = []
        size = 0
        while True:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if connection.sock is not None:
                connection.sock.settimeout(left)
            part = response.read1(_CHUNK)
            if not part:
                break
            parts.append(part)
            size += len(part)
            if size > self._engine.max_bytes:
                self._drop()
                raise HttpFault(Fault.DATA, f"the reply is longer than {self._engine.max_bytes} bytes")
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        response.close()  # read to its end, else the connection would refuse the next request
        if response.will_close:
            connection.close()  # replaced by the next exchange
        headers = tuple(response.headers.items())
        return HttpReply(response.status, response.headers.get("Content-Type", ""), b"".join(parts), headers)

    def _is_fresh(self) -> bool:
        """Whether the connection can be used: open, and nothing to read on it (an end, or bytes nobody asked for)."""
        sock = self._connection.sock
        if sock is None:
            return False
        try:
            sock.settimeout(0)
            sock.recv(1)  # TLS reads its own session tickets here, which are no answer
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        return False

    def _drop(self) -> None:
        self._open = False
        self._connection.close()

    def run(self, sql: str, values: Mapping[str, Any], *, max_rows: int) -> Rows:
        """Always raises CallError (SCHEMA): there is no SQL here."""
        raise CallError("an HTTP source has no SQL: map this operation with kind = http")

    def stream(self, sql: str, values: Mapping[str, Any], *, size: int) -> Iterator[Rows]:
        """Always raises CallError (SCHEMA)."""
        raise CallError("an HTTP source has no SQL: no report reads over HTTP")

    def call(self, plan: ProcedurePlan, values: Mapping[str, Any], *, max_rows: int) -> ProcedureResult:
        """Always raises CallError (SCHEMA)."""
        raise CallError("an HTTP source has no procedures: map this operation with kind = http")

    def begin(self) -> None:
        """Nothing to begin: what a request did cannot be undone by us."""

    def commit(self) -> None:
        """Nothing to commit."""

    def rollback(self) -> None:
        """Nothing can be undone."""

    def alive(self) -> bool:
        """See the port. A connection closed by the server is replaced, so it is alive."""
        return self._open

    def ping(self) -> bool:
        """See the port; without a request, for no interface promises a harmless one."""
        return self._open and self._is_fresh()

    def abort(self) -> None:
        """See the port."""
        self._open = False
        sock = self._connection.sock
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """See the port."""
        self._open = False
        self._engine.guard.remove(self)
        with contextlib.suppress(OSError):
            self._connection.close()


class HttpEngine:
    """See `his_db.engine.Engine`."""

    name = "http"
    driver_errors: tuple[type[Exception], ...] = (HttpFault, CallError, OSError, http.client.HTTPException)

    def __init__(self, settings: SourceSettings) -> None:
        self._settings = settings
        options = settings.options
        parts = urlsplit(options.get("base_url") or (settings.database if "://" in settings.database else ""))
        self._tls = (parts.scheme == "https") if parts.scheme else options.get("tls") == "on"
        if parts.scheme not in {"", "http", "https"} or parts.username or parts.query:
            raise ValueError(f"source {settings.name}: base_url is http(s)://host:port/path, without user and query")
        self._host = parts.hostname or settings.host or "localhost"
        self._port = parts.port or settings.port or (443 if self._tls else 80)
        path = parts.path if parts.scheme else settings.database
        self.prefix = "/" + path.strip("/") if path.strip("/") else ""
        self.max_bytes = int(options.get("max_bytes", _MAX_BYTES))
        self.headers: tuple[tuple[str, str], ...] = ()
        if settings.user:
            pair = base64.b64encode(f"{settings.user}:{settings.password}".encode()).decode()
            self.headers = (("authorization", f"Basic {pair}"),)
        self._context = self._tls_context(options) if self._tls else None
        self._proxy = self._proxy_of(options)
        self.guard = HangGuard("http")

    def _tls_context(self, options: Mapping[str, str]) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=options.get("ca_file"))
        if "cert_file" in options:
            context.load_cert_chain(options["cert_file"], options.get("key_file"))
        return context

    def _proxy_of(self, options: Mapping[str, str]) -> ProxySettings | None:
        """Raises ValueError, without what was written: it may hold a password."""
        credentials = options.get("proxy_credentials", "")
        if credentials and ("proxy" not in options or not is_reference(credentials)):
            raise ValueError(f"source {self._settings.name}: proxy_credentials goes with a proxy, and is a reference")
        try:
            return parse_proxy(options["proxy"]) if options.get("proxy") else None
        except ValueError as error:
            raise ValueError(f"source {self._settings.name}: {error}") from None

    def _through_proxy(self, proxy: ProxySettings, timeout: float) -> socket.socket:
        """A connection through the proxy, TLS done. Raises OSError. Its credentials are read each time."""
        credentials = self._settings.options.get("proxy_credentials", "")
        if credentials:
            try:
                user, _, password = first_line(credentials).partition(":")
            except SecretUnreadable as error:
                raise OSError(f"proxy_credentials: {error}") from None
            proxy = replace(proxy, user=user, password=password)
        plain = dial(proxy, self._host, self._port, timeout)
        plain.settimeout(timeout)
        if self._context is None:
            return plain
        try:
            return self._context.wrap_socket(plain, server_hostname=self._host)
        except OSError:
            plain.close()
            raise

    def connect(self) -> http.client.HTTPConnection:
        """A new connection, TLS done. Raises HttpFault (CONNECT)."""
        timeout = self._settings.connect_timeout.total_seconds()
        if self._context is not None:
            found: http.client.HTTPConnection = http.client.HTTPSConnection(
                self._host, self._port, timeout=timeout, context=self._context
            )
        else:
            found = http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        try:
            if self._proxy is None:
                found.connect()
            else:
                found.sock = self._through_proxy(self._proxy, timeout)
            found.auto_open = 0  # a lost connection is never replaced behind our back
        except (OSError, http.client.HTTPException) as error:
            found.close()
            # A certificate's fault says whose name it is not, never a value of a patient.
            why = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else type(error).__name__
            if self._proxy is not None and type(error) is OSError:  # in the proxy's words
                why = str(error)
            raise HttpFault(Fault.CONNECT, f"no connection ({why})") from None
        return found

    def open(self, *, read_only: bool, statement_timeout: timedelta | None = None) -> HttpSession:
        """See the port. The time-out bounds one exchange, from the request to the end of the reply."""
        session = HttpSession(self, (statement_timeout or self._settings.statement_timeout).total_seconds())
        self.guard.add(session)
        return session

    def classify(self, error: BaseException, *, sent: bool) -> Fault:
        """See the port."""
        if isinstance(error, HttpFault):
            return error.fault
        if isinstance(error, CallError):
            return Fault.SCHEMA
        return Fault.LOST if sent else Fault.CONNECT

    def describe(self, error: BaseException) -> str:
        """See the port."""
        return str(error) if isinstance(error, (HttpFault, CallError)) else type(error).__name__

    def sentence(self, error: BaseException) -> str:
        """See the port: a fault of the transport has no sentence of the HIS."""
        return ""

    def server_version(self, session: Any) -> str:
        """See the port: HTTP has no question for it."""
        return "HTTPS interface" if self._tls else "HTTP interface"

    def dispose(self) -> None:
        """See the port."""
        self.guard.stop()
