"""kind = "http": an interface that the hospital has (JSON, XML, SOAP): a request template, paths into the reply.

Nothing here can be rolled back: a write counts as `commits = "procedure"`, so that whatever fails after the request
may have arrived is an unknown outcome, and the probe decides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final
from zoneinfo import ZoneInfo

from google.protobuf.message import Message
from his160.v1 import reason_pb2

from his_db.document.finding import Words
from his_db.document.located import Path
from his_db.document.shape import Field, Integer, ListOf, TableOf, Text
from his_db.engine import Rows, Session
from his_db.errors import HisBusy, HisError, HisRefused, HisUnavailable, MappingMismatch, OutcomeUnknown
from his_db.http_exchange import Exchanger, HttpReply, HttpRequest
from his_db.kind import Call, Flow, Runner
from his_db.mapping.answer import ResultPlan, reason_value
from his_db.mapping.binding import compile_binder, entries_for
from his_db.mapping.check_results import check_reason
from his_db.mapping.check_statement import check_names
from his_db.mapping.convert_out import Unbindable
from his_db.mapping.finding import Reporter
from his_db.mapping.grammar import PARAMS
from his_db.mapping.model import OperationMapping, ResultSpec
from his_db.mapping.outcome import OUTCOME, Outcome, check_outcome, error_for
from his_db.mapping.paging import MAX_ROWS
from his_db.mapping.reply import (
    ReplyError,
    ReplyPath,
    decode,
    parse_json,
    parse_path,
    parse_xml,
    select,
    soap_body,
    value_at,
)
from his_db.mapping.template import Template
from his_db.secret_reference import FORMS, SecretUnreadable, first_line, is_reference

_WORD: Final = Text(min_length=1)
_HEADER: Final = TableOf({"name": Field(_WORD, required=True), "value": Field(_WORD, required=True)})
_STATUS: Final = TableOf({"is": Field(Integer(100, 599), required=True), "reason": Field(_WORD, required=True)})
_INNER: Final = TableOf({"at": Field(_WORD, required=True), "as": Field(Text(choices=("json", "xml")), required=True)})
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_TARGET: Final = re.compile(r"(?:[/?][\x21-\x7e]*)?")
_SECRET: Final = re.compile(
    r"(?:^|[-_])(?:auth|authorization|token|secret|password|passwd|(?:api|app|access)[-_]?key|sign|signature|cookie"
    r"|credentials?)(?:$|[-_])",
    re.IGNORECASE,
)
_OWN: Final = frozenset({"content-length", "transfer-encoding", "host", "connection"})
_TYPES: Final = {
    "json": "application/json",
    "xml": "application/xml",
    "soap": "text/xml",
    "form": "application/x-www-form-urlencoded",
}
_NOT_DONE: Final = frozenset({401, 403, 404, 405})  # the server did not let it in
_STATUS_CODE: Final = "$status"


class HttpKind:
    """Payment and insurance middleware, platforms, services of an HIS without SQL access."""

    name: ClassVar[str] = "http"
    effects: ClassVar[frozenset[str]] = frozenset({"read", "write"})

    def keys(self) -> Mapping[str, Field]:
        return {
            "method": Field(Text(choices=("GET", "POST", "PUT", "PATCH", "DELETE")), default="POST"),
            "path": Field(Text(), default="", doc="behind base_url", doc_zh="接在 base_url 之后"),
            "headers": Field(ListOf(_HEADER), default=[]),
            "format": Field(Text(choices=tuple(_TYPES)), default="json"),
            "reply": Field(Text(choices=("json", "xml", "soap"))),
            "inner": Field(_INNER, doc="document inside the reply", doc_zh="应答文本里的文档"),
            "charset": Field(Text(choices=("utf-8", "gbk", "gb18030")), default="utf-8"),
            "body": Field(_WORD),
            "soap_action": Field(Text()),
            "accept": Field(ListOf(Integer(100, 599))),
            "statuses": Field(ListOf(_STATUS), default=[]),
            "commits": Field(Text(choices=("procedure",)), default="procedure"),
            "params": PARAMS,
            "outcome": Field(OUTCOME),
        }

    def check(self, mapping: OperationMapping, report: Reporter) -> None:
        values = mapping.values
        used: list[tuple[Path, tuple[str, ...]]] = [(("path",), Template(values["path"], "url").names)]
        used += _check_headers(values["headers"], report)
        if not _TARGET.fullmatch(values["path"]):
            message = Words("not a path behind base_url", "不是 base_url 之后的路径")
            fix = Words('"/api/lock?no={{order_no}}": ASCII, no blank', '"/api/lock?no={{order_no}}"：ASCII，无空格')
            report.value("H238", ("path",), message, fix)
        if "body" in values:
            template = Template(values["body"], _escape(values["format"]), values["charset"])
            used.append((("body",), template.names))
            fault = template.fault()
            if fault:
                message = Words(f"the body, filled in, {fault}", "请求体填入参数后不是有效的文档")
                fix = Words("{{name}} stands for a value, never for names or markup", "{{参数}} 只能代表值")
                report.value("H238", ("body",), message, fix)
        elif values["method"] not in {"GET", "DELETE"}:
            report.key("H238", ("method",), Words("the request needs a body", "该请求必须写 body"))
        check_names(used, mapping, report)
        _check_paths(mapping, report)
        for at, item in enumerate(values["statuses"]):
            check_reason(item["reason"], ("statuses", at, "reason"), report)
        if "outcome" in values:
            check_outcome(mapping, report, names=(), strict=False, columns=False)
        elif not mapping.operation.is_read:
            message = Words("without [outcome] every reply counts as done", "没有 [outcome]：只要有应答就视为成功")
            report.warn("H224", ("kind",), message, Words("add [outcome]", "请补上 [outcome]"))

    def compile(self, mapping: OperationMapping) -> Runner:
        return _HttpRunner(mapping)


def _escape(format_: str) -> str:
    return "xml" if format_ == "soap" else format_


def _check_headers(headers: list[dict[str, Any]], report: Reporter) -> list[tuple[Path, tuple[str, ...]]]:
    used: list[tuple[Path, tuple[str, ...]]] = []
    for at, item in enumerate(headers):
        place: Path = ("headers", at, "value")
        name, value = item["name"], item["value"]
        if not _TOKEN.fullmatch(name) or name.lower() in _OWN:
            message = Words("not a header that a mapping can set", "映射不能设置这个请求头")
            report.value("H238", ("headers", at, "name"), message)
        template = Template(value, "url")
        if value.startswith("@") and not is_reference(value):
            message = Words("not a reference to a secret", "不是有效的密钥引用")
            report.value("H238", place, message, FORMS)
        elif not value.isascii() or not value.isprintable():
            report.value("H238", place, Words("a header is ASCII", "请求头只能用 ASCII"))
        elif _SECRET.search(name) and not template.names and not value.startswith("@"):
            message = Words("a secret must not be written into a mapping", "密钥不能直接写在映射文件里")
            report.value("H400", place, message, FORMS)
        used.append((place, template.names))
    return used


def _check_paths(mapping: OperationMapping, report: Reporter) -> None:
    places: list[tuple[Path, str]] = []
    inner = mapping.values.get("inner")
    if inner is not None:
        places.append((("inner", "at"), inner["at"]))
    outcome = mapping.values.get("outcome", {})
    places += [(("outcome", key), outcome[key]) for key in ("from", "text") if isinstance(outcome.get(key), str)]
    for result in mapping.results:
        if result.at:
            places.append(((*result.path, "at"), result.at))
        for spec in result.fields:
            keys = (("column", spec.column), ("date_column", spec.date_column), ("time_column", spec.time_column))
            places += [((*spec.path, key), name) for key, name in keys if name]
    for path, text in places:
        if text != _STATUS_CODE and parse_path(text) is None:
            message = Words("not a path into the reply", "不是有效的应答路径")
            report.value("H238", path, message, Words("data.list[0].id, /Body/Item/@code", "data.list[0].id"))


@dataclass(frozen=True, slots=True)
class _Reply:
    """A reply, parsed: what paths start from."""

    status: int
    top: Any

    def value(self, source: Any) -> Any:
        if source == _STATUS_CODE:
            return self.status
        path = parse_path(source)
        return None if path is None else value_at(self.top, self.top, path)


class _Table:
    """One `[[result]]`: where its rows are, and the path of each column."""

    __slots__ = ("_at", "_columns", "_names")

    def __init__(self, result: ResultSpec) -> None:
        self._at = parse_path(result.at) if result.at else None
        self._names = result.columns()
        self._columns: tuple[ReplyPath | None, ...] = tuple(parse_path(name) for name in self._names)

    def rows(self, reply: _Reply) -> Rows:
        """At most `MAX_ROWS` + 1 rows; a path to nothing gives none."""
        found = [reply.top] if self._at is None else select(reply.top, reply.top, self._at)
        rows = [
            tuple(reply.status if path is None else value_at(reply.top, row, path) for path in self._columns)
            for row in found[: MAX_ROWS + 1]
            if row is not None
        ]
        return Rows(self._names, rows, -1)


class _HttpRunner:
    __slots__ = (
        *("_accept", "_binder", "_body", "_charset", "_headers", "_inner", "_is_read", "_label", "_method"),
        *("_outcome", "_plan", "_reply", "_secrets", "_statuses", "_tables", "_target"),
    )

    def __init__(self, mapping: OperationMapping) -> None:
        values = mapping.values
        self._label = mapping.operation.name
        self._is_read = mapping.operation.is_read
        self._method = values["method"]
        self._charset = values["charset"]
        self._target = Template(values["path"], "url")
        self._body = Template(values["body"], _escape(values["format"]), self._charset) if "body" in values else None
        given = {item["name"]: item["value"] for item in values["headers"]}
        self._secrets = {name: value for name, value in given.items() if value.startswith("@")}
        headers = _usual_headers(values) | {name: value for name, value in given.items() if name not in self._secrets}
        self._headers = {name: Template(value, "url") for name, value in headers.items()}
        templates = (self._target, *self._headers.values(), *((self._body,) if self._body else ()))
        names = dict.fromkeys(name for template in templates for name in template.names)
        self._binder = compile_binder(
            entries_for(names, mapping.params),
            request=mapping.operation.request,
            codes=mapping.site.codes,
            zone=ZoneInfo(mapping.site.timezone),
            label=self._label,
        )
        self._reply = values.get("reply") or {"form": "json"}.get(values["format"], values["format"])
        self._inner = values.get("inner")
        self._accept = frozenset(values.get("accept", range(200, 300)))
        self._statuses = {item["is"]: reason_value(item["reason"]) for item in values["statuses"]}
        self._outcome = Outcome(values["outcome"], self._label, is_read=self._is_read) if "outcome" in values else None
        self._tables = tuple(_Table(result) for result in mapping.results)
        numbered = tuple(replace(result, set=at) for at, result in enumerate(mapping.results))
        self._plan = ResultPlan(replace(mapping, results=numbered))

    def run(self, session: Session, call: Call) -> Message:
        if not isinstance(session, Exchanger):
            raise HisUnavailable(f"{self._label}: the source is no HTTP source")
        secrets = self._secrets if session.goes_out else {}
        received = session.exchange(self._request(self._binder.values(call, Flow()), secrets))
        self._judge_status(received.status)
        try:
            reply = self._parsed(received)
        except ReplyError as error:
            raise MappingMismatch(f"{self._label}: the reply {error}") from None
        if self._outcome is not None:
            self._outcome.judge(reply.value)
        return self._plan.answer(call, tuple(table.rows(reply) for table in self._tables), done=not self._is_read)

    def _request(self, values: Mapping[str, Any], secrets: Mapping[str, str]) -> HttpRequest:
        """Raises HisRefused (INVALID_REQUEST) for a value that cannot be sent: nothing was sent."""
        try:
            body = self._body.fill(values).encode(self._charset) if self._body is not None else b""
            headers = [(name, template.fill(values)) for name, template in self._headers.items()]
            target = self._target.fill(values)
        except Unbindable as error:
            raise HisRefused(reason_pb2.REASON_INVALID_REQUEST, f"{self._label}: a value {error}") from None
        except UnicodeEncodeError:
            detail = f"{self._label}: a value holds a character that {self._charset} does not have"
            raise HisRefused(reason_pb2.REASON_INVALID_REQUEST, detail) from None
        headers += [(name, self._secret(reference)) for name, reference in secrets.items()]
        return HttpRequest(self._method, target, tuple(headers), body)

    def _secret(self, reference: str) -> str:
        """The secret now: a file may be renewed at any time. Raises HisUnavailable, for nothing was sent."""
        kind = reference.partition(":")[0]
        try:
            found = first_line(reference)
        except SecretUnreadable as error:
            raise HisUnavailable(f"{self._label}: {error}") from None
        if not found.isascii() or not found.isprintable():
            raise HisUnavailable(f"{self._label}: the secret {kind}:… is no text for a header")
        return found

    def _judge_status(self, status: int) -> None:
        if status in self._statuses:
            raise error_for(self._statuses[status], self._label)
        if status in self._accept:
            return
        raise self._status_error(status, f"{self._label}: HTTP status {status}")

    def _status_error(self, status: int, detail: str) -> HisError:
        """What a status means that the mapping does not name. A write that a server may have begun is unknown."""
        if status in _NOT_DONE:
            return HisUnavailable(detail)
        if status == 429:
            return HisBusy(detail)
        if 400 <= status < 500 and status != 408:
            return HisRefused(reason_pb2.REASON_HIS_REFUSED, detail)
        return HisUnavailable(detail) if self._is_read else OutcomeUnknown(detail)

    def _parsed(self, received: HttpReply) -> _Reply:
        top = _document(decode(received.body, received.content_type, self._charset), self._reply)
        if self._inner is not None:
            text = _Reply(received.status, top).value(self._inner["at"])
            if not isinstance(text, str):
                raise ReplyError("has no text where the inner document is wanted")
            top = _document(text.strip(), self._inner["as"])
        return _Reply(received.status, top)


def _usual_headers(values: Mapping[str, Any]) -> dict[str, str]:
    found = {"Accept": "*/*"}
    if "body" in values:
        found["Content-Type"] = f"{_TYPES[values['format']]}; charset={values['charset']}"
    if "soap_action" in values or values["format"] == "soap":
        found["SOAPAction"] = f'"{values.get("soap_action", "")}"'
    return found


def _document(text: str, format_: str) -> Any:
    if format_ == "json":
        return parse_json(text)
    top = parse_xml(text)
    return soap_body(top) if format_ == "soap" else top
