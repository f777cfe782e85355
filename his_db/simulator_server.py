"""The HTTP server around a simulator: loopback only, faults by script, a control endpoint.

Control, JSON in and out, below `/_control/`:

| request            | does                                                                                          |
|--------------------|-----------------------------------------------------------------------------------------------|
| POST faults        | `{"faults": [{"kind": "hang_after", "match": "2207A", "count": 1, …}]}`: adds to the script     |
| DELETE faults      | forgets the script, lets go of everything that hangs                                          |
| GET faults         | what is left of the script                                                                    |
| GET book           | every table of the book                                                                       |
| GET requests       | requests since the start: label, number, fault, status, target, headers, body                 |
| POST act           | `{"do": "pay", …}`: what people do there                                                      |
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from his_db.simulator import Asked, Clock, Fault, FaultKind, Simulator, Told

CONTROL: Final = "/_control/"
_KEPT: Final = 2000
_MAX_BODY: Final = 8 * 1024 * 1024
_NOT_DONE: Final = frozenset(
    {
        FaultKind.HANG_BEFORE,
        FaultKind.DROP_BEFORE,
        FaultKind.GARBAGE_BEFORE,
        FaultKind.WRAPPER,
        FaultKind.REFUSE,
        FaultKind.STATUS,
    }
)
_PAGE: Final = b"<html><head><title>Error</title></head><body><h1>upstream</h1></body></html>"
_WRAPPED: Final = {"code": "-1", "type": "error", "message": "gateway busy", "data": None}


class SimulatorServer:
    """One simulator, listening. `port` 0 takes a free one; `make` is given the address, for links in answers."""

    def __init__(self, make: Callable[[str], Simulator], clock: Clock, port: int = 0) -> None:
        self.clock = clock
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self.released = threading.Event()
        self.requests: list[dict[str, Any]] = []
        owner = self

        class Handler(_Handler):
            server_of_simulator = owner

        self._http = _Listener(("127.0.0.1", port), Handler)
        self.port: int = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.simulator = make(self.url)
        name = f"simulator {self.simulator.name}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), name=name)

    def start(self) -> None:
        """Serve in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End: what hangs is let go. Safe to call twice."""
        self.released.set()
        if self._thread.is_alive():
            self._http.shutdown()
            self._thread.join()
        self._http.server_close()
        self.simulator.book.close()

    def add_faults(self, faults: list[Fault]) -> None:
        """Append to the script."""
        with self._lock:
            self._faults.extend(faults)

    def clear_faults(self) -> None:
        """Forget the script and let go of what hangs."""
        with self._lock:
            self._faults.clear()
            released, self.released = self.released, threading.Event()
        released.set()

    def faults(self) -> list[dict[str, Any]]:
        """What is left."""
        with self._lock:
            return [{**asdict(fault), "kind": fault.kind.value} for fault in self._faults]

    def fault_for(self, label: str) -> Fault | None:
        """The fault of this request, counted down."""
        with self._lock:
            for fault in self._faults:
                if fault.match not in label:
                    continue
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.count -= 1
                if fault.count <= 0:
                    self._faults.remove(fault)
                return fault
        return None

    def note(self, asked: Asked, label: tuple[str, str], fault: Fault | None, status: int) -> None:
        """Keep the request, in memory with its body and in the book without."""
        name, number = label
        kind = fault.kind.value if fault is not None else ""
        at = self.clock().isoformat()
        book = self.simulator.book
        book.insert("request", {"at": at, "label": name, "number": number, "fault": kind, "status": status})
        entry = {
            "label": name,
            "number": number,
            "fault": kind,
            "status": status,
            "method": asked.method,
            "target": asked.target,
            "headers": dict(asked.headers),
            "body": asked.body.decode("utf-8", "replace"),
        }
        with self._lock:
            self.requests.append(entry)
            del self.requests[:-_KEPT]

    def control(self, asked: Asked) -> tuple[int, Any]:
        """The control endpoint. Status and JSON."""
        what = (asked.method, asked.target.removeprefix(CONTROL))
        if what == ("POST", "faults"):
            given = json.loads(asked.body)["faults"]
            self.add_faults([Fault(**{**item, "kind": FaultKind(item["kind"])}) for item in given])
            return 200, self.faults()
        if what == ("DELETE", "faults"):
            self.clear_faults()
            return 200, []
        if what == ("POST", "act"):
            values: Mapping[str, Any] = json.loads(asked.body)
            return 200, self.simulator.act(values["do"], values)
        shown: dict[str, Callable[[], Any]] = {
            "faults": self.faults,
            "book": self.simulator.book.dump,
            "requests": lambda: list(self.requests),
        }
        if asked.method == "GET" and what[1] in shown:
            return 200, shown[what[1]]()
        return 404, {"error": "no such thing to control"}


def _page(fault: Fault) -> bytes:
    """A page of something between us; it may quote what was asked."""
    return _PAGE.replace(b"upstream", fault.message.encode()) if fault.message else _PAGE


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is gone (killed, given up) is nothing to tell; everything else is."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One connection. Answers are made whole before the first byte leaves."""

    server_of_simulator: SimulatorServer
    protocol_version = "HTTP/1.1"
    timeout = 300
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: bodies hold patients."""

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def _serve(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        if size > _MAX_BODY:
            self.close_connection = True
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, self.path, headers, self.rfile.read(size))
        if self.path.startswith(CONTROL):
            self._control(asked)
        else:
            self._work(asked)

    def _control(self, asked: Asked) -> None:
        try:
            status, found = self.server_of_simulator.control(asked)
        except (KeyError, ValueError, TypeError) as error:
            status, found = 400, {"error": f"{type(error).__name__}: {error}"}
        self._tell(Told(status, json.dumps(found, ensure_ascii=False, default=str).encode()))

    def _work(self, asked: Asked) -> None:
        server = self.server_of_simulator
        label = server.simulator.label(asked)
        fault = server.fault_for(label[0])
        released = server.released
        told: Told | None = None
        if fault is None or fault.kind not in _NOT_DONE:
            told = server.simulator.answer(asked)
        elif fault.kind is FaultKind.REFUSE:
            told = server.simulator.refuse(asked, fault.code, fault.message)
        server.note(asked, label, fault, 0 if told is None else told.status)
        if fault is None:
            assert told is not None
            self._tell(told)
        else:
            self._fail(fault, told, released)

    def _fail(self, fault: Fault, told: Told | None, released: threading.Event) -> None:
        kind = fault.kind
        if kind in {FaultKind.HANG_BEFORE, FaultKind.HANG_AFTER}:
            released.wait(fault.seconds)
            self.close_connection = True
        elif kind in {FaultKind.DROP_BEFORE, FaultKind.DROP_AFTER}:
            self.close_connection = True
        elif kind in {FaultKind.GARBAGE_BEFORE, FaultKind.GARBAGE_AFTER}:
            self._tell(Told(200, _page(fault), content_type="text/html"))
        elif kind is FaultKind.WRAPPER:
            wrapped = _WRAPPED | ({"message": fault.message} if fault.message else {})
            self._tell(Told(200, json.dumps(wrapped, ensure_ascii=False).encode()))
        elif kind is FaultKind.STATUS:
            self._tell(Told(fault.status, _page(fault), content_type="text/html"))
        elif told is not None:
            self._told(fault, told, released)

    def _told(self, fault: Fault, told: Told, released: threading.Event) -> None:
        if fault.kind is FaultKind.CUT:
            self._tell(told, cut=True)
            self.close_connection = True
            return
        if fault.kind is FaultKind.LATE:
            released.wait(fault.seconds)
        self._tell(self.server_of_simulator.simulator.spoil(told) if fault.kind is FaultKind.WRONG_SIGNATURE else told)
        if fault.kind is FaultKind.TWICE:
            self._tell(told)

    def _tell(self, told: Told, *, cut: bool = False) -> None:
        has_body = told.status not in {204, 304}
        try:
            self.send_response(told.status)
            for name, value in told.headers:
                self.send_header(name, value)
            if has_body:
                self.send_header("Content-Type", told.content_type)
                self.send_header("Content-Length", str(len(told.body)))
            self.end_headers()
            if has_body:
                self.wfile.write(told.body[: len(told.body) // 2] if cut else told.body)
                self.wfile.flush()
        except OSError:
            self.close_connection = True  # the other side has gone; what is done is done
