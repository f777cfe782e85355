"""kind = "http" against a real HTTP server: JSON, XML, SOAP; what is sent, what is read, and what a lost reply means."""

from __future__ import annotations

import ipaddress
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from his160.v1 import appointment_pb2, catalog_pb2, reason_pb2

from his_db.access import HisAccess
from his_db.engine import Fault, SourceSettings
from his_db.engines.http import HttpEngine
from his_db.errors import HisBusy, HisError, HisRefused, HisUnavailable, MappingMismatch, OutcomeUnknown
from his_db.generation import compile_generation
from his_db.http_exchange import HttpRequest
from his_db.mapping.load import load_mapping_set
from his_db.source import LaneSettings, Source
from tests.bounds import PATIENCE

ZONE = ZoneInfo("Asia/Shanghai")
NOW = datetime(2026, 3, 2, 9, 30, tzinfo=ZONE)
HOSTILE = ["O'Brien", '"}, "x": {"', "]]><evil/>", "</no><no>", "&amp;", "a\\b", "㛃䶮𠅤", "{{name}}", "%00", "a\nb"]
LOCK_JSON = """
schema = 1
operation = "AppointmentService.LockSlot"
kind = "http"
source = "pay"
path = "/lock?no={{slot_id}}"
headers = [ { name = "X-Api-Key", value = "@env:HIS160_TEST_KEY" }, { name = "X-Trace", value = "{{trace}}" } ]
body = '''
{ "slot": {{slot_id}}, "until": "{{until}}", "note": "no {{order_no}}!", "empty": {{patient_id}}, "xml": "<n>{{order_no|xml}}</n>" }
'''
params = [
  { name = "until", from = "$lock_until", datetime = "%Y%m%d%H%M%S" },
  { name = "trace", from = "$key" },
]
statuses = [ { is = 409, reason = "SLOT_TAKEN" } ]
[outcome]
from = "code"
text = "msg"
ok = [0]
errors = [ { text = "已被占用", reason = "SLOT_TAKEN" }, { is = -9, reason = "HIS_BUSY", retry = "2s" } ]
otherwise = "unknown"
[[result]]
into = "lock"
fields = [
  { to = "lock_id", column = "data.lock[0].id" },
  { to = "fee_fen", column = "data.je", money = "yuan" },
  { to = "expire_time", column = "data.sxsj", datetime = "%Y%m%d%H%M%S" },
]
"""
LIST_XML = """
schema = 1
operation = "CatalogService.ListDepartments"
kind = "http"
source = "pay"
path = "/xml"
format = "xml"
charset = "gbk"
body = '''<?xml version="1.0" encoding="GBK"?><req b="{{branch}}"><b>{{branch}}</b><c><![CDATA[<i>{{branch}}</i>]]></c></req>'''
[outcome]
from = "Response/Code"
ok = ["0"]
otherwise = "HIS_REFUSED"
[[result]]
at = "Response.List.Item"
fields = [
  { to = "department_id", column = "@code" },
  { to = "name", column = "Name" },
  { to = "branch", column = "/Response/Branch" },
]
"""
LIST_SOAP = """
schema = 1
operation = "CatalogService.ListDoctors"
kind = "http"
source = "pay"
path = "/soap"
format = "soap"
soap_action = "urn:doctors"
body = '''<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><Doctors xmlns="urn:x"><in><![CDATA[{"ks":"{{department_id|json}}"}]]></in></Doctors></s:Body></s:Envelope>'''
[inner]
at = "DoctorsResponse.DoctorsResult"
as = "json"
[outcome]
from = "code"
ok = ["T"]
otherwise = "HIS_REFUSED"
[[result]]
at = "rows"
fields = [
  { to = "doctor_id", column = "id" },
  { to = "name", column = "xm" },
  { to = "department_id", column = "ks.id" },
]
"""
RELEASE_FORM = """
schema = 1
operation = "AppointmentService.UnlockSlot"
kind = "http"
source = "pay"
path = "/form"
format = "form"
charset = "gbk"
body = "no={{order_no}}&x=1"
accept = [200, 500]
[outcome]
from = "$status"
ok = [200]
otherwise = "HIS_REFUSED"
[[result]]
rows = "optional"
fields = [ { to = "lock_id", column = "id" } ]
"""
DONE = {"code": 0, "msg": "", "data": {"lock": [{"id": 77}], "je": 12.30, "sxsj": "20260302094000"}}

Answer = Callable[["Handler"], None]


@dataclass
class Desk:
    """The hospital's interface: answers with `answer`, keeps what it was sent; `done` counts work that was done."""

    answer: Answer
    seen: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    connections: int = 0
    done: int = 0
    release: threading.Event = field(default_factory=threading.Event)
    closed: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    desk: Desk

    def setup(self) -> None:
        super().setup()
        self.desk.connections += 1

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:  # the client went away, as some tests want
            self.close_connection = True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.desk.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        self.desk.answer(self)

    def say(self, body: bytes, status: int = 200, kind: str = "application/json; charset=utf-8") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


class Server(ThreadingHTTPServer):
    desk: Desk

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self.desk.closed.release()


def json_answer(data: Any, status: int = 200) -> Answer:
    return lambda handler: handler.say(json.dumps(data, ensure_ascii=False).encode(), status)


def raw_answer(body: bytes, kind: str = "text/xml", status: int = 200) -> Answer:
    return lambda handler: handler.say(body, status, kind)


@pytest.fixture
def desk() -> Iterator[tuple[Desk, int]]:
    found = Desk(json_answer(DONE))
    server = Server(("127.0.0.1", 0), type("Bound", (Handler,), {"desk": found}))
    server.desk = found
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield found, server.server_address[1]
    found.release.set()
    server.shutdown()
    thread.join()
    server.server_close()


def settings(port: int, **keys: Any) -> SourceSettings:
    keys.setdefault("statement_timeout", timedelta(seconds=5))
    return SourceSettings(name="pay", engine="http", database=f"http://127.0.0.1:{port}/his/", **keys)


class Site:
    """The mappings above behind a `HisAccess`."""

    def __init__(self, folder: Path, given: SourceSettings) -> None:
        files = {"lock": LOCK_JSON, "xml": LIST_XML, "soap": LIST_SOAP, "form": RELEASE_FORM}
        for name, text in files.items():
            (folder / f"{name}.toml").write_text(text, encoding="utf-8")
        found = load_mapping_set(folder, sources={"pay": "http"}, timezone="Asia/Shanghai")
        one = LaneSettings(workers=1, queue_limit=10)
        self.source = Source(given, {"read": one, "write": one})
        self.access = HisAccess({"pay": self.source}, compile_generation(found), clock=lambda: NOW)

    async def lock(self, order: str = "O1", slot: str = "S1") -> appointment_pb2.LockSlotResponse:
        request = appointment_pb2.LockSlotRequest(request_id="r", order_no=order, schedule_id="P", slot_id=slot)
        found = await self.access.write("AppointmentService.LockSlot", request, key="k")
        assert isinstance(found, appointment_pb2.LockSlotResponse)
        return found

    async def __aenter__(self) -> Site:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.source.close(timedelta(seconds=1))


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIS160_TEST_KEY", "s3cret")


async def test_json_both_ways(desk: tuple[Desk, int], tmp_path: Path) -> None:
    found, port = desk
    async with Site(tmp_path, settings(port, user="u", password="p")) as site:
        answer = await site.lock("O'1", "S 1/2?")
        await site.lock()
    assert (answer.lock.lock_id, answer.lock.fee_fen) == ("77", 1230)
    assert answer.lock.expire_time.ToDatetime() == datetime(2026, 3, 2, 1, 40)
    path, headers, body = found.seen[0]
    assert path == "/his/lock?no=S%201%2F2%3F"
    assert headers["x-api-key"] == "s3cret"
    assert headers["authorization"] == "Basic dTpw"
    assert len(headers["x-trace"]) == 32
    sent = json.loads(body)
    assert sent["until"] == "20260302094000"
    assert sent["empty"] is None
    assert sent["xml"] == "<n>O&apos;1</n>"
    assert found.connections == 1  # kept between calls


@pytest.mark.parametrize("value", HOSTILE)
async def test_hostile_values_stay_values(desk: tuple[Desk, int], tmp_path: Path, value: str) -> None:
    import xml.etree.ElementTree as tree

    found, port = desk
    async with Site(tmp_path, settings(port)) as site:
        await site.lock(value, value)
        sent = json.loads(found.seen[-1][2])
        assert sent["slot"] == value
        assert sent["note"] == f"no {value}!"
        assert tree.fromstring(sent["xml"]).text == value
        found.answer = raw_answer(b"<Response><Code>0</Code></Response>")
        request = catalog_pb2.ListDepartmentsRequest(branch=value)
        if "䶮" in value:
            with pytest.raises(HisRefused) as caught:
                await site.access.read("CatalogService.ListDepartments", request)
            assert caught.value.reason == reason_pb2.REASON_INVALID_REQUEST
            assert value not in str(caught.value)
        else:
            await site.access.read("CatalogService.ListDepartments", request)
            root = tree.fromstring(found.seen[-1][2].decode("gbk").partition("?>")[2])
            assert root.find("b").text == value  # type: ignore[union-attr]
            assert tree.fromstring(root.find("c").text).text == value  # type: ignore[union-attr,arg-type]
        inner = json.dumps({"code": "T", "rows": []})
        found.answer = raw_answer(soap(inner))
        await site.access.read("CatalogService.ListDoctors", catalog_pb2.ListDoctorsRequest(department_id=value))
        text = next(item.text for item in tree.fromstring(found.seen[-1][2]).iter() if item.tag.endswith("in"))
        assert json.loads(text or "") == {"ks": value}


def soap(inner: str) -> bytes:
    text = inner.replace("&", "&amp;").replace("<", "&lt;")
    return (
        '<?xml version="1.0"?><soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"><soap:Header/>'
        f'<soap:Body><DoctorsResponse xmlns="urn:x"><DoctorsResult>{text}</DoctorsResult></DoctorsResponse>'
        "</soap:Body></soap:Envelope>"
    ).encode()


async def test_xml_in_gbk(desk: tuple[Desk, int], tmp_path: Path) -> None:
    found, port = desk
    text = """<?xml version="1.0" encoding="GBK"?><Response xmlns="urn:x"><Code> 0 </Code><Branch>东院</Branch><List>
    <Item code="01 "><Name>内科</Name></Item><Item code="02"><Name><![CDATA[外<科]]></Name></Item></List></Response>"""
    found.answer = raw_answer(text.encode("gbk"))
    async with Site(tmp_path, settings(port)) as site:
        answer = await site.access.read("CatalogService.ListDepartments", catalog_pb2.ListDepartmentsRequest())
    assert isinstance(answer, catalog_pb2.ListDepartmentsResponse)
    assert [(item.department_id, item.name, item.branch) for item in answer.departments] == [
        ("01", "内科", "东院"),
        ("02", "外<科", "东院"),
    ]
    assert found.seen[0][1]["content-type"] == "application/xml; charset=gbk"


async def test_soap_with_json_inside(desk: tuple[Desk, int], tmp_path: Path) -> None:
    found, port = desk
    rows = [{"id": 1, "xm": "张三", "ks": {"id": "01"}}, {"id": "2", "xm": "李四"}, None]
    found.answer = raw_answer(soap(json.dumps({"code": "T", "rows": rows})))
    async with Site(tmp_path, settings(port)) as site:
        answer = await site.access.read(
            "CatalogService.ListDoctors", catalog_pb2.ListDoctorsRequest(department_id="01")
        )
        assert isinstance(answer, catalog_pb2.ListDoctorsResponse)
        assert [(item.doctor_id, item.department_id) for item in answer.doctors] == [("1", "01"), ("2", "")]
        assert found.seen[0][1]["soapaction"] == '"urn:doctors"'
        found.answer = raw_answer(soap(json.dumps({"code": "F"})))
        with pytest.raises(HisRefused):
            await site.access.read("CatalogService.ListDoctors", catalog_pb2.ListDoctorsRequest())


async def test_form_and_status_as_outcome(desk: tuple[Desk, int], tmp_path: Path) -> None:
    found, port = desk
    request = appointment_pb2.UnlockSlotRequest(request_id="r", order_no="号 &1")
    async with Site(tmp_path, settings(port)) as site:
        await site.access.write("AppointmentService.UnlockSlot", request, key="k")
        assert found.seen[0][2] == b"no=%BA%C5+%261&x=1"
        found.answer = json_answer({"id": "x"}, 500)
        with pytest.raises(HisRefused):
            await site.access.write("AppointmentService.UnlockSlot", request, key="k")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (json_answer({"code": -1, "msg": "该号已被占用"}), HisRefused),
        (json_answer({"code": -9}), HisBusy),
        (json_answer({"code": 5}), OutcomeUnknown),
        (json_answer({"code": None}), OutcomeUnknown),
        (json_answer({}), OutcomeUnknown),
        (json_answer([1]), OutcomeUnknown),
        (json_answer({"code": 0, "data": {"lock": []}}), OutcomeUnknown),
        (json_answer(DONE, 409), HisRefused),
        (json_answer(DONE, 400), HisRefused),
        (json_answer(DONE, 401), HisUnavailable),
        (json_answer(DONE, 429), HisBusy),
        (json_answer(DONE, 500), OutcomeUnknown),
        (json_answer(DONE, 302), OutcomeUnknown),
        (raw_answer(b"<html>proxy</html>"), OutcomeUnknown),
        (raw_answer(b'{"code": 0'), OutcomeUnknown),
        (raw_answer(b"[" * 100_000), OutcomeUnknown),
        (raw_answer(b'{"code": NaN}'), OutcomeUnknown),
        (raw_answer(b"\xff\xfe"), OutcomeUnknown),
        (raw_answer(b"x", kind="text/plain; charset=klingon"), OutcomeUnknown),
        (json_answer({"code": 0, "data": {"lock": [{"id": {"a": 1}}]}}), OutcomeUnknown),
    ],
)
async def test_what_an_answer_to_a_write_means(
    desk: tuple[Desk, int], tmp_path: Path, answer: Answer, error: type[HisError]
) -> None:
    found, port = desk
    found.answer = answer
    async with Site(tmp_path, settings(port)) as site:
        with pytest.raises(error) as caught:
            await site.lock()
    assert type(caught.value) is error
    if isinstance(caught.value, HisRefused) and caught.value.text:
        assert caught.value.reason == reason_pb2.REASON_SLOT_TAKEN
        assert "占用" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (raw_answer(b"<a>"), MappingMismatch),
        (raw_answer(b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'), MappingMismatch),
        (raw_answer(b"<a>" * 10_000), MappingMismatch),
        (raw_answer(b"<Response><Code>1</Code></Response>"), HisRefused),
        (raw_answer(b"x", status=500), HisUnavailable),
        (raw_answer(b"x", status=403), HisUnavailable),
        (lambda handler: setattr(handler, "close_connection", True), HisUnavailable),
    ],
)
async def test_what_an_answer_to_a_read_means(
    desk: tuple[Desk, int], tmp_path: Path, answer: Answer, error: type[HisError]
) -> None:
    found, port = desk
    found.answer = answer
    async with Site(tmp_path, settings(port)) as site:
        with pytest.raises(error):
            await site.access.read("CatalogService.ListDepartments", catalog_pb2.ListDepartmentsRequest())


def work_then(then: Answer) -> Answer:
    def answer(handler: Handler) -> None:
        handler.desk.done += 1
        then(handler)

    return answer


def hang(handler: Handler) -> None:
    handler.desk.release.wait(PATIENCE)
    handler.close_connection = True


def cut(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n{")
    handler.close_connection = True


def hang_up(handler: Handler) -> None:
    handler.close_connection = True


@pytest.mark.parametrize("then", [hang, cut, hang_up])
async def test_a_lost_reply_is_an_unknown_outcome_and_never_repeated(
    desk: tuple[Desk, int], tmp_path: Path, then: Answer
) -> None:
    found, port = desk
    async with Site(tmp_path, settings(port, statement_timeout=timedelta(seconds=0.2))) as site:
        await site.lock()  # the connection is held from here on
        found.answer = work_then(then)
        with pytest.raises(OutcomeUnknown):
            await site.lock()
        assert found.done == 1
        found.answer = json_answer(DONE)
        assert (await site.lock()).lock.lock_id == "77"


async def test_a_slow_read_is_busy(desk: tuple[Desk, int], tmp_path: Path) -> None:
    found, port = desk
    found.answer = hang
    async with Site(tmp_path, settings(port, statement_timeout=timedelta(seconds=0.2))) as site:
        with pytest.raises(HisBusy):
            await site.access.read("CatalogService.ListDepartments", catalog_pb2.ListDepartmentsRequest())


async def test_nobody_there(desk: tuple[Desk, int], tmp_path: Path, unused_tcp_port: int) -> None:
    async with Site(tmp_path, settings(unused_tcp_port)) as site:
        with pytest.raises(HisUnavailable):
            await site.lock()


async def test_a_secret_that_is_not_there_sends_nothing(
    desk: tuple[Desk, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, port = desk
    async with Site(tmp_path, settings(port)) as site:
        for value in (None, "", "a\nb", "密"):
            if value is None:
                monkeypatch.delenv("HIS160_TEST_KEY")
            else:
                monkeypatch.setenv("HIS160_TEST_KEY", value)
            with pytest.raises(HisUnavailable):
                await site.lock()
    assert not found.seen


def test_a_reply_without_end_is_cut_off(desk: tuple[Desk, int]) -> None:
    found, port = desk
    found.answer = raw_answer(b"x" * 200_000)
    given = settings(port)
    engine = HttpEngine(replace(given, options={"max_bytes": "100000"}))
    session = engine.open(read_only=True)
    with pytest.raises(Exception, match="longer than 100000 bytes") as caught:
        session.exchange(HttpRequest("POST", "/x", body=b"{}"))
    assert engine.classify(caught.value, sent=True) is Fault.DATA
    assert not session.alive()
    session.close()
    engine.dispose()


def test_a_server_that_closes_between_calls_is_met_again(desk: tuple[Desk, int]) -> None:
    found, port = desk

    def once(handler: Handler) -> None:
        handler.say(b"{}")
        handler.close_connection = True

    found.answer = once
    engine = HttpEngine(settings(port))
    session = engine.open(read_only=True)
    for _ in range(3):
        assert session.exchange(HttpRequest("POST", "/x", body=b"{}")).status == 200
        assert session.alive()
        assert found.closed.acquire(timeout=PATIENCE)
    assert found.connections == 3
    session.close()
    engine.dispose()


def test_abort_breaks_a_call(desk: tuple[Desk, int]) -> None:
    found, port = desk
    started = threading.Event()

    def wait(handler: Handler) -> None:
        started.set()
        hang(handler)

    found.answer = wait
    engine = HttpEngine(settings(port))
    session = engine.open(read_only=True)
    raised: list[BaseException] = []

    def work() -> None:
        try:
            session.exchange(HttpRequest("POST", "/x", body=b"{}"))
        except engine.driver_errors as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert started.wait(PATIENCE)
    session.abort()
    thread.join(10)
    assert engine.classify(raised[0], sent=True) is Fault.LOST
    assert not session.alive()
    session.close()
    engine.dispose()


def test_base_url() -> None:
    engine = HttpEngine(SourceSettings(name="x", engine="http", database="a/b", host="h", port=81))
    assert engine.prefix == "/a/b"
    for url in ("ftp://h/x", "http://u:p@h/", "http://h/?a=1"):
        with pytest.raises(ValueError, match="base_url"):
            HttpEngine(SourceSettings(name="x", engine="http", database=url))


def certificate(folder: Path, name: str) -> Path:
    """A self-signed certificate for 127.0.0.1 with its key, in one PEM file; it is its own CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / f"{name}.pem"
    path.write_bytes(secret + pem)
    return path


def test_tls_by_the_hospitals_own_ca(tmp_path: Path) -> None:
    ours, foreign = certificate(tmp_path, "ours"), certificate(tmp_path, "foreign")
    found = Desk(json_answer(DONE))
    server = Server(("127.0.0.1", 0), type("Bound", (Handler,), {"desk": found}))
    server.desk = found
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ours)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        url = f"https://127.0.0.1:{server.server_address[1]}/his"
        given = SourceSettings(name="pay", engine="http", database=url, options={"ca_file": str(ours)})
        engine = HttpEngine(given)
        session = engine.open(read_only=True)
        for _ in range(3):
            assert session.exchange(HttpRequest("POST", "/x", body=b"{}")).status == 200
            assert session.ping()
        session.close()
        engine.dispose()
        assert engine.server_version(session) == "HTTPS interface"
        strange = HttpEngine(replace(given, options={"ca_file": str(foreign)}))
        with pytest.raises(Exception, match="no connection") as caught:
            strange.open(read_only=True)
        assert strange.classify(caught.value, sent=False) is Fault.CONNECT
        strange.dispose()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
