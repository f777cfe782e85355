"""``his160 call``: any operation of the contract, from its descriptors."""

from __future__ import annotations

import argparse
import sys
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Final

import grpc
from google.protobuf.message import Message
from google.rpc import status_pb2

from agent.commands.options import add_target, read_target, text_or_file
from agent.console import say_error
from agent.contract_json import ContractJsonError, from_json, to_json
from agent.errors import Explained, explain
from his_db.contract import ContractOperation, operation, operation_names
from his_db.document.finding import nearest

DETAILS_KEY: Final = "grpc-status-details-bin"
SITE_KEY: Final = "his160-site"


class CallError(Exception):
    """The call ended without an answer."""

    def __init__(self, explained: Explained) -> None:
        super().__init__(explained.code)
        self.explained = explained


def main(arguments: Sequence[str]) -> int:
    """Call one operation and print its answer as JSON; a stream prints one line for each message."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.method not in operation_names():
        hint = nearest(options.method, operation_names())
        tail = f"; {hint}?" if hint else ""
        parser.error(f"没有接口 {options.method} / no such operation{tail}")
    about = operation(options.method)
    target = read_target(parser, options)
    try:
        request = _request(about, options, text_or_file(parser, options.json))
    except ContractJsonError as error:
        parser.error(f"JSON 不符合 {about.request_class.DESCRIPTOR.name}：{error}")
    try:
        with target.channel() as channel:
            for answer in call(channel, about, request, timeout=options.timeout, site=options.site):
                print(to_json(answer, lines=about.server_streaming), flush=True)
    except CallError as error:
        _print_error(error.explained)
        return 1
    except OSError as error:
        say_error(f"无法读取证书 {error.filename}", f"cannot read the certificate: {error.strerror}")
        return 1
    return 0


def call(
    channel: grpc.Channel, about: ContractOperation, request: Message, *, timeout: float, site: str = ""
) -> Iterator[Message]:
    """The answers, one for a method that does not stream. Raises CallError."""
    make: Any = channel.unary_stream if about.server_streaming else channel.unary_unary
    method = make(
        about.full_method,
        request_serializer=about.request_class.SerializeToString,
        response_deserializer=about.response_class.FromString,
    )
    metadata = ((SITE_KEY, site),) if site else None
    try:
        answer = method(request, timeout=timeout, metadata=metadata)
        yield from answer if about.server_streaming else (answer,)
    except grpc.RpcError as error:
        raise CallError(_explained(error)) from error


def _request(about: ContractOperation, options: argparse.Namespace, text: str) -> Message:
    request = from_json(text or "{}", about.request_class)
    if "request_id" in request.DESCRIPTOR.fields_by_name:
        given = options.request_id
        if given and given != "auto":
            request.request_id = given  # type: ignore[attr-defined]  # the descriptor says that it is there
        elif not request.request_id:  # type: ignore[attr-defined]  # as above
            request.request_id = uuid.uuid4().hex  # type: ignore[attr-defined]  # as above
            # A retry of a command needs the same id.
            print(f"request_id: {request.request_id}", file=sys.stderr)  # type: ignore[attr-defined]  # as above
    return request


def _explained(error: grpc.RpcError) -> Explained:
    assert isinstance(error, grpc.Call)
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            return explain(status_pb2.Status.FromString(value))
    return Explained(error.code().name, "", error.details() or "", "", None, ())


def _print_error(explained: Explained) -> None:
    say_error(f"{explained.code} {explained.reason}".strip(), explained.text)
    for violation in explained.violations:
        say_error(f"  {violation.field}: {violation.rule_zh}", violation.rule)
    if explained.retry_after is not None:
        seconds = f"{explained.retry_after.total_seconds():g}"
        say_error(f"  {seconds} 秒后可重试", f"retry after {seconds} s")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="his160 call", description="调用一个接口 / call one operation")
    parser.add_argument("method", metavar="METHOD", help="例如 / for example CatalogService.ListSlots")
    parser.add_argument(
        "json",
        metavar="JSON",
        nargs="?",
        default="",
        help='请求 / request: \'{"schedule_id": "…"}\'; @FILE: 文件 / what FILE holds; - : stdin',
    )
    parser.add_argument("--request-id", default="auto", metavar="ID", help="写操作的请求号 / id of a command (auto)")
    parser.add_argument("--timeout", type=float, default=30.0, metavar="S", help="秒 / seconds (30)")
    parser.add_argument("--site", default="", metavar="CODE", help="经联调中继时的机构代码 / site, through a sandbox")
    add_target(parser)
    return parser
