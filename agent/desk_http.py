"""医院调用接口 over HTTP/JSON: the third border, for window programs that speak no gRPC.

``POST /desk/v1/CancelOnSite`` and so on, body and answer as JSON of the contract. Old window programs (PowerBuilder,
Delphi) may write GBK: ``Content-Type: application/json; charset=gbk`` is read, ``Accept-Charset: gbk`` is answered so.
Who calls is said by ``X-Api-Key``, or by the client certificate where the listener asks for one.
"""

from __future__ import annotations

import codecs
import itertools
import json
import logging
import time
from datetime import timedelta
from email.message import Message as Header
from typing import Any, Final, Protocol

from google.protobuf.message import Message
from google.rpc import status_pb2
from his160.v1 import reason_pb2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agent.certificate import CertificateError, identity_of_der
from agent.contract_json import ContractJsonError, from_json, to_json
from agent.errors import CallFailed, CallRefused, Violation, explain, to_status
from agent.handler import CallContext, Identity
from agent.openapi import document
from agent.registry import MAX_REQUEST_BYTES, HandlerRegistry
from his_db.contract import ContractOperation, operation, operation_names

BASE: Final = "/desk/v1"
_SERVICE: Final = "DeskService."
_LOG: Final = logging.getLogger(__name__)
_GBK: Final = frozenset({"gbk", "gb2312", "gb18030", "cp936"})
_STATUS: Final = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "FAILED_PRECONDITION": 409,
    "RESOURCE_EXHAUSTED": 429,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


class Keys(Protocol):
    """Whose key it is (``agent.desk_keys.DeskKeys``)."""

    def identity(self, key: str) -> Identity | None: ...


def desk_application(registry: HandlerRegistry, keys: Keys | None, *, patience: timedelta) -> Starlette:
    """The ASGI application. ``keys`` None: certificates alone tell who calls. ``patience``: of a window."""
    operations = {
        f"{BASE}/{name.removeprefix(_SERVICE)}": operation(name)
        for name in operation_names()
        if name.startswith(_SERVICE)
    }
    border = _Border(registry, keys, patience)
    described = json.dumps(document("his160 医院调用接口", operations), ensure_ascii=False).encode()

    async def openapi(request: Request) -> Response:
        return Response(described, media_type="application/json")

    routes = [Route(path, border.handler(about), methods=["POST"]) for path, about in operations.items()]
    return Starlette(routes=[Route(f"{BASE}/openapi.json", openapi), *routes])


class _Border:
    def __init__(self, registry: HandlerRegistry, keys: Keys | None, patience: timedelta) -> None:
        self._registry = registry
        self._keys = keys
        self._patience = patience
        self._numbers = itertools.count(1)

    def handler(self, about: ContractOperation) -> Any:
        async def handle(request: Request) -> Response:
            number = f"h{next(self._numbers)}"
            try:
                identity = self._identity(request)
                message = _message(await _text(request), about)
                deadline = time.monotonic() + self._patience.total_seconds()
                context = CallContext(identity, "http", number, deadline)
                answer = await self._registry.dispatch(about.full_method, message.SerializeToString(), context)
                assert isinstance(answer, bytes)
                return _response(request, 200, to_json(about.response_class.FromString(answer), lines=True))
            except CallFailed as failed:
                return _refusal(request, failed.status)
            except CallRefused as refused:
                _LOG.info("%s call=%s http: %s", about.name, number, refused)
                return _refusal(request, to_status(refused, operation=about.name, call_id=number))

        return handle

    def _identity(self, request: Request) -> Identity:
        """Who calls. Raises CallRefused."""
        key = request.headers.get("x-api-key", "")
        if key and self._keys is not None:
            found = self._keys.identity(key)
            if found is None:
                raise CallRefused(reason_pb2.REASON_NOT_AUTHORIZED, "the API key is not known")
            return found
        certificate: bytes = request.state.certificate
        if not certificate:
            raise CallRefused(reason_pb2.REASON_NOT_AUTHORIZED, "no API key and no certificate")
        try:
            return identity_of_der(certificate)
        except CertificateError as error:
            raise CallRefused(reason_pb2.REASON_NOT_AUTHORIZED, str(error)) from error


async def _text(request: Request) -> str:
    """The body as text. Raises CallRefused (INVALID_REQUEST) when it is too long or not of its charset."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_REQUEST_BYTES:
            raise CallRefused(reason_pb2.REASON_INVALID_REQUEST, "the request is too large")
    charset = _charset(request.headers.get("content-type", "")) or "utf-8-sig"
    try:
        return bytes(body).decode(charset)
    except (UnicodeDecodeError, LookupError):
        rule = f"the body is no {charset} text"
        raise _invalid("", rule, f"请求内容不是 {charset} 编码的文本") from None


def _message(text: str, about: ContractOperation) -> Message:
    """The request. Raises CallRefused with what is wrong and where."""
    try:
        return from_json(text, about.request_class)
    except ContractJsonError as error:
        raise _invalid(
            "",
            f"not the JSON of {about.request.name}: {error.place}",
            f"不是 {about.request.name} 的 JSON：{error.place}",
        ) from error


def _invalid(field: str, rule: str, rule_zh: str) -> CallRefused:
    return CallRefused(reason_pb2.REASON_INVALID_REQUEST, violations=[Violation(field, rule, rule_zh)])


def _charset(content_type: str) -> str:
    header = Header()
    header["content-type"] = content_type
    named = str(header.get_param("charset", "") or "").lower()
    return "gb18030" if named in _GBK else named


def _refusal(request: Request, status: status_pb2.Status) -> Response:
    said = explain(status)
    body: dict[str, Any] = {"code": said.code, "reason": said.reason, "message": said.text}
    headers: dict[str, str] = {}
    if said.retry_after is not None:
        body["retry_after_seconds"] = said.retry_after.total_seconds()
        headers["Retry-After"] = str(max(1, round(said.retry_after.total_seconds())))
    if said.violations:
        body["violations"] = [{"field": v.field, "rule": v.rule, "message": v.rule_zh} for v in said.violations]
    return _response(request, _STATUS.get(said.code, 500), json.dumps(body, ensure_ascii=False), headers)


def _response(request: Request, status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    wanted = request.headers.get("accept-charset", "").split(",")[0].partition(";")[0].strip().lower()
    if wanted in _GBK:
        return Response(
            text.encode("gb18030"),
            status,
            headers,
            media_type=f"application/json; charset={codecs.lookup(wanted).name}",
        )
    return Response(text.encode(), status, headers, media_type="application/json")
