"""The hospital's own calls over HTTP/JSON: real sockets, TLS, keys, certificates, GBK; the same registry behind."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from his160.v1 import desk_pb2, reason_pb2
from starlette.concurrency import run_in_threadpool

from agent.bench_pki import BenchPki, make_bench_pki
from agent.desk_http import desk_application
from agent.desk_keys import DeskKeyError, DeskKeys, line_of, new_key, read_keys
from agent.figures import Figures
from agent.handler import CallContext, Handler
from agent.http_place import HttpPlace
from agent.http_server import HttpServer
from agent.registry import build_registry
from his_db.contract import operation_names
from his_db.errors import HisBusy, HisRefused
from tests.bounds import PATIENCE as BOUND

PATIENCE = timedelta(seconds=3)


class Refusing:
    async def read(self, operation: str, request: Message, *, deadline: float | None = None) -> Message:
        raise AssertionError("the desk reads through its own handlers")

    async def execute(self, operation: str, request: Message, *, deadline: float | None = None) -> Message:
        raise AssertionError("the desk commands nothing")


@dataclass
class Window:
    """A window program."""

    port: int
    context: ssl.SSLContext | None
    key: str
    calls: list[tuple[Message, CallContext]]
    keys_file: Path

    async def post(
        self, method: str, body: Any, headers: Mapping[str, str] | None = None, *, key: str | None = None
    ) -> tuple[int, Any, http.client.HTTPMessage]:
        given = {"Content-Type": "application/json", **({"X-Api-Key": self.key} if key is None else {})}
        if key:
            given["X-Api-Key"] = key
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await run_in_threadpool(
            self._exchange, "POST", f"/desk/v1/{method}", content, {**given, **(headers or {})}
        )

    async def get(self, path: str) -> tuple[int, Any, http.client.HTTPMessage]:
        return await run_in_threadpool(self._exchange, "GET", path, b"", {})

    def _exchange(
        self, verb: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, Any, http.client.HTTPMessage]:
        connection = (
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=BOUND)
            if self.context is None
            else http.client.HTTPSConnection("localhost", self.port, timeout=BOUND, context=self.context)
        )
        try:
            connection.request(verb, path, body, dict(headers))
            answer = connection.getresponse()
            content = answer.read()
            kind = answer.headers.get_content_charset() or "utf-8"
            try:
                return answer.status, json.loads(content.decode(kind)), answer.headers
            except json.JSONDecodeError:
                return answer.status, content.decode(kind), answer.headers
        finally:
            connection.close()


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> BenchPki:
    return make_bench_pki(tmp_path_factory.mktemp("pki"), site="440305001")


def client_context(pki: BenchPki, *, certificate: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=pki.folder / "ca.pem")
    if certificate:
        context.load_cert_chain(pki.folder / "desk.pem", pki.folder / "desk.key")
    return context


def handlers(calls: list[tuple[Message, CallContext]]) -> dict[str, Handler]:
    async def cancel(request: Message, context: CallContext) -> Message:
        calls.append((request, context))
        assert isinstance(request, desk_pb2.CancelOnSiteRequest)
        if request.order_no == "PAID":
            raise HisRefused(reason_pb2.REASON_ALREADY_PAID, "paid")
        if request.order_no == "BUSY":
            raise HisBusy("busy", retry_after=timedelta(seconds=4))
        return desk_pb2.CancelOnSiteResponse(acceptance=desk_pb2.ACCEPTANCE_LOCAL)

    return {"DeskService.CancelOnSite": cancel}


@pytest.fixture(params=["key", "certificate", "plain"])
async def window(request: pytest.FixtureRequest, tmp_path: Path, pki: BenchPki) -> AsyncIterator[Window]:
    calls: list[tuple[Message, CallContext]] = []
    registry = build_registry(Refusing(), Refusing(), figures=Figures(), specials=handlers(calls), special_streams={})
    key = new_key()
    file = tmp_path / "keys.toml"
    file.write_text(line_of("window1", key) + "\n", encoding="utf-8")
    place = HttpPlace("127.0.0.1", 0, pki.folder / "agent.pem", pki.folder / "agent.key")
    context: ssl.SSLContext | None = client_context(pki, certificate=request.param == "certificate")
    keys: DeskKeys | None = DeskKeys(file)
    if request.param == "plain":
        place, context = HttpPlace("127.0.0.1", 0), None
    if request.param == "certificate":
        place, keys = replace(place, client_ca=pki.folder / "ca.pem"), None
    server = HttpServer(place, desk_application(registry, keys, patience=PATIENCE))
    await server.start()
    try:
        yield Window(server.port, context, "" if keys is None else key, calls, file)
    finally:
        await server.stop(timedelta(seconds=2))


CANCEL = {"request_id": "r1", "order_no": "T1", "operator_id": "0931", "note": "患者要求"}


async def test_a_window_is_answered_and_known_by_its_key_or_certificate(window: Window) -> None:
    status, answer, _ = await window.post("CancelOnSite", CANCEL)
    assert (status, answer) == (200, {"acceptance": "ACCEPTANCE_LOCAL"})
    (request, context) = window.calls[0]
    assert isinstance(request, desk_pb2.CancelOnSiteRequest)
    assert request.note == "患者要求"
    assert str(context.identity) == ("desk/window1" if window.key else "desk/bench")
    left = context.remaining()
    assert left is not None
    assert left <= PATIENCE


async def test_gbk_of_an_old_window_program_is_read_and_answered(window: Window) -> None:
    body = json.dumps({**CANCEL, "note": "患者要求"}, ensure_ascii=False).encode("gbk")
    headers = {"Content-Type": "application/json; charset=GBK", "Accept-Charset": "GBK"}
    status, _, answered = await window.post("CancelOnSite", body, headers)
    assert status == 200
    assert answered.get_content_charset() in ("gbk", "gb2312", "gb18030")
    status, answer, _ = await window.post("CancelOnSite", {**CANCEL, "order_no": "PAID"}, {"Accept-Charset": "gb2312"})
    assert (status, answer["message"]) == (409, "该预约已挂号，请办理退号退费")
    status, answer, _ = await window.post("CancelOnSite", body)  # GBK bytes that say they are nothing else
    assert (status, answer["reason"]) == (400, "INVALID_REQUEST")
    assert not any(isinstance(call[0], desk_pb2.CancelOnSiteRequest) and "�" in call[0].note for call in window.calls)


async def test_refusals_have_a_status_a_reason_and_when_to_ask_again(window: Window) -> None:
    status, answer, headers = await window.post("CancelOnSite", {**CANCEL, "order_no": "BUSY"})
    assert (status, answer["code"], answer["reason"]) == (503, "UNAVAILABLE", "HIS_BUSY")
    assert (answer["retry_after_seconds"], headers["Retry-After"]) == (4.0, "4")
    status, answer, _ = await window.post("CancelOnSite", {"order_no": "T1"})
    assert status == 400
    assert {violation["field"] for violation in answer["violations"]} == {"request_id", "operator_id"}
    assert all(violation["message"] for violation in answer["violations"])


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"order": 1}', b'{"request_id": 5}', b"\xff\xfe", b"{" * 5000])
async def test_what_is_no_request_is_told_where_it_is_wrong(window: Window, body: bytes) -> None:
    status, answer, _ = await window.post("CancelOnSite", body)
    assert (status, answer["reason"]) == (400, "INVALID_REQUEST")
    assert answer["violations"]
    assert window.calls == []


async def test_too_large_a_body_is_refused_and_unknown_paths_are_not_there(window: Window) -> None:
    status, answer, _ = await window.post("CancelOnSite", b" " * 2_000_000)
    assert (status, answer["reason"]) == (400, "INVALID_REQUEST")
    assert (await window.post("ListSlots", {}))[0] == 404
    assert (await window.get("/desk/v1/CancelOnSite"))[0] == 405


@pytest.mark.parametrize("window", ["key", "plain"], indirect=True)
async def test_nobody_gets_in_without_a_key_that_is_in_the_file(window: Window) -> None:
    for key in ("", "x", window.key[:-1], window.key + "x"):
        status, answer, _ = await window.post("CancelOnSite", CANCEL, key=key)
        assert (status, answer["reason"]) == (403, "NOT_AUTHORIZED")
    window.keys_file.write_text(line_of("window2", "another") + "\n# shut out\n", encoding="utf-8")
    assert (await window.post("CancelOnSite", CANCEL))[0] == 403
    assert (await window.post("CancelOnSite", CANCEL, key="another"))[0] == 200
    window.keys_file.write_text("window3 = \n", encoding="utf-8")  # half saved: the keys stay
    assert (await window.post("CancelOnSite", CANCEL, key="another"))[0] == 200
    assert window.calls[-1][1].identity.name == "window2"


@pytest.mark.parametrize("window", ["certificate"], indirect=True)
async def test_a_stranger_without_a_certificate_cannot_even_connect(window: Window, pki: BenchPki) -> None:
    stranger = replace(window, context=client_context(pki, certificate=False))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await stranger.post("CancelOnSite", CANCEL)


async def test_openapi_describes_every_call_and_every_reference_is_there(window: Window) -> None:
    status, document, _ = await window.get("/desk/v1/openapi.json")
    assert status == 200
    desk = {f"/desk/v1/{name.partition('.')[2]}" for name in operation_names() if name.startswith("DeskService.")}
    assert set(document["paths"]) == desk
    schemas = document["components"]["schemas"]
    wanted: list[str] = []
    _walk(document, wanted.append)
    assert {name.removeprefix("#/components/schemas/") for name in wanted} <= set(schemas)
    request = schemas["CancelOnSiteRequest"]
    assert set(request["required"]) == {"request_id", "operator_id"}
    assert all(item["description"] for item in request["properties"].values())


def _walk(value: Any, found: Callable[[str], None]) -> None:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            found(value["$ref"])
        for item in value.values():
            _walk(item, found)
    elif isinstance(value, list):
        for item in value:
            _walk(item, found)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("w = 1", "form"),
        ('w = "secret"', "form"),
        ("w =", "no TOML"),
        (f'"a b" = "sha256:{"0" * 64}"', "form"),
        (f'a = "sha256:{"0" * 64}"\nb = "sha256:{"0" * 64}"', "same key"),
    ],
)
def test_a_file_of_keys_that_is_wrong_says_where(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DeskKeyError, match=words) as error:
        read_keys(file)
    assert "secret" not in str(error.value)
