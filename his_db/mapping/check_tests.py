"""Checking `[[test]]`: the fields, steps, columns and reasons that it names exist. Whether it passes: `trial`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final
from zoneinfo import ZoneInfo

from google.protobuf.descriptor import Descriptor
from google.protobuf.message_factory import GetMessageClass
from his160.v1 import event_pb2

from his_db import contract
from his_db.document.finding import Words
from his_db.document.located import Path
from his_db.mapping.check_results import check_reason
from his_db.mapping.finding import Reporter, did_you_mean
from his_db.mapping.model import OperationMapping, TrialSpec, WatchMapping
from his_db.mapping.paths import field_names
from his_db.mapping.trial_values import flat, known_path, put, request_path

NO_EVENT: Final = "none"
_BELONGS: Final[Mapping[str, frozenset[str]]] = {
    "returns": frozenset({"procedure"}),
    "sets": frozenset({"procedure"}),
    "steps": frozenset({"steps"}),
    "diagnosis": frozenset({"steps"}),
    "changed": frozenset({"steps"}),
    "reply": frozenset({"http", "gateway"}),
    "status": frozenset({"http", "gateway"}),
    "rows": frozenset({"table", "query", "steps", "procedure"}),
}


def check_operation_tests(mapping: OperationMapping, report: Reporter) -> None:
    """Every `[[test]]` of an operation."""
    operation = mapping.operation
    for test in mapping.tests:
        written = _table(report, test)
        for key in (key for key, kinds in _BELONGS.items() if key in written and mapping.kind not in kinds):
            message = Words(f'{key} has no meaning for kind = "{mapping.kind}"', f"{key} 不适用于 {mapping.kind}")
            report.key("H237", (*test.path, key), message, Words(f"delete {key}", f"删除 {key}"))
        _check_given(test, operation.request, mapping.site.timezone, report)
        expect = test.values.get("expect", {})
        if "reason" in expect:
            check_reason(str(expect["reason"]), (*test.path, "expect", "reason"), report)
        else:
            _check_expect(test, operation.response, (), report)
        if mapping.kind == "steps":
            names = [item["name"] for item in mapping.values["step"]]
            _check_names(test, "steps", names, report)
            _check_steps(test, report)
        if mapping.kind == "procedure":
            damage = report.document.damage
            outs = [p.name for p in mapping.params if p.direction != "in" or damage.hides((*p.path, "dir"))]
            _check_names(test, "returns", outs, report)


def _check_steps(test: TrialSpec, report: Reporter) -> None:
    """What each step gives: rows that it reads, or how many it changes."""
    for name, gives in test.values.get("steps", {}).items():
        is_count = isinstance(gives, int) and not isinstance(gives, bool)
        if is_count or (isinstance(gives, list) and all(isinstance(row, dict) for row in gives)):
            continue
        message = Words(f"steps: {name} gives rows or a number of rows", f"steps：{name} 应为行的列表或行数")
        fix = Words("take = 1, or read = [ { column = value } ]", "写成 take = 1，或 read = [ { 列 = 值 } ]")
        report.value("H237", (*test.path, "steps", name), message, fix)


def check_watch_tests(watch: WatchMapping, descriptor: Descriptor, report: Reporter) -> None:
    """Every `[[test]]` of a watch."""
    columns = watch.result.columns()
    kinds = contract.enum_numbers(event_pb2.EventKind.DESCRIPTOR)
    for test in watch.tests:
        for key in ("before", "after"):
            _check_names(test, key, columns, report)
        if not {"before", "after"} & test.values.keys():
            message = Words("before or after is needed", "必须写 before 或 after")
            report.key("H237", test.path, message)
        event = test.values.get("expect", {}).get("event")
        if event is None:
            message = Words("expect needs event", "expect 中必须写 event")
            report.key("H237", (*test.path, "expect"), message, Words('event = "none"', 'event = "none"'))
        elif event != NO_EVENT and (not isinstance(event, str) or event not in kinds):
            message = Words(f'there is no event "{event}"', f"没有事件 “{event}”")
            report.value("H213", (*test.path, "expect", "event"), message, did_you_mean(str(event), [*kinds, NO_EVENT]))
        _check_expect(test, descriptor, ("event", "occurred"), report)


def _table(report: Reporter, test: TrialSpec) -> Mapping[str, Any]:
    found = report.document.data["test"][test.path[1]]
    return found if isinstance(found, dict) else {}


def _check_given(test: TrialSpec, request: Descriptor, timezone: str, report: Reporter) -> None:
    given = test.values.get("given", {})
    for name, value in flat(given):
        place: Path = (*test.path, "given", *(name.split(".") if name not in given else (name,)))
        path = request_path(request, name)
        if path is None:
            message = Words(f"the request has no field {name}", f"请求中没有字段 {name}")
            report.value("H207", place, message, did_you_mean(name, field_names(request, lists=True)))
            continue
        try:
            put(contract_message(request), path, value, ZoneInfo(timezone))
        except (ValueError, TypeError, AttributeError):
            message = Words(f"the value does not fit {name}", f"这个值与字段 {name} 的类型不符")
            report.value("H237", place, message)


def contract_message(descriptor: Descriptor) -> Any:
    """An empty message of a descriptor."""
    return GetMessageClass(descriptor)()


def _check_expect(test: TrialSpec, descriptor: Descriptor, also: Collection[str], report: Reporter) -> None:
    expect = test.values.get("expect", {})
    for name, _ in flat(expect):
        if name in also or known_path(descriptor, name):
            continue
        place: Path = (*test.path, "expect", *(name.split(".") if name not in expect else (name,)))
        message = Words(f"{descriptor.name} has no field {name}", f"{descriptor.name} 没有字段 {name}")
        report.value("H208", place, message, did_you_mean(name, [*also, *field_names(descriptor, lists=True)]))


def _check_names(test: TrialSpec, key: str, known: Collection[str], report: Reporter) -> None:
    folded = {name.casefold().lstrip("@") for name in known}
    for name in test.values.get(key, {}):
        if name.casefold().lstrip("@") not in folded:
            message = Words(f"{key}: there is no {name} here", f"{key}：这里没有 {name}")
            report.value("H237", (*test.path, key, name), message, did_you_mean(name, known))
