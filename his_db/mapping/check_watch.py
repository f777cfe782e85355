"""Checking watch files: what they read, how rows are told apart, and what a change of a row means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from his160.v1 import common_pb2, event_pb2

from his_db import contract
from his_db.document.finding import Words
from his_db.document.located import Path
from his_db.mapping.binding import implicit
from his_db.mapping.check_feed import check_feeds, check_wake
from his_db.mapping.check_params import check_scoped, watch_scope
from his_db.mapping.check_results import check_columns, check_fields, check_required
from his_db.mapping.check_statement import check_select, report_unused
from his_db.mapping.check_tests import check_watch_tests
from his_db.mapping.finding import Reporter, did_you_mean
from his_db.mapping.model import FILE, EventSpec, WatchMapping
from his_db.mapping.paths import field_names, resolve, sort_of
from his_db.mapping.sql_text import binds
from his_db.mapping.when import GONE, NEW, Among, Condition, Rule, parse_when, values_of

SUBJECTS: Final[Mapping[str, type[Message]]] = {"appointment": common_pb2.Appointment, "schedule": common_pb2.Schedule}
SUBJECT_DESCRIPTORS: Final[Mapping[str, Descriptor]] = {
    "appointment": common_pb2.DESCRIPTOR.message_types_by_name["Appointment"],
    "schedule": common_pb2.DESCRIPTOR.message_types_by_name["Schedule"],
}
_FREE: Final = frozenset({"text", "int", "money", "date"})
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def check_watch(watch: WatchMapping, report: Reporter) -> None:
    """Everything about one watch but its source and its name among others."""
    descriptor = SUBJECT_DESCRIPTORS[watch.subject]
    scope = watch_scope(watch.site.codes, has_window=watch.window is not None)
    check_scoped(watch.params, scope, report)
    mapped = check_fields(watch.result.fields, descriptor, watch.site.codes, report)
    check_required(descriptor, mapped, ("fields",), report, at_root=True)
    if watch.engine == FILE:
        _check_file(watch, report)
    facts = check_select(watch.values, (), watch.engine, watch.site, report) if watch.engine != FILE else None
    if facts is not None:
        known = {param.name for param in watch.params}
        used = binds(facts.sql, watch.engine)
        for name in (name for name in used if name not in known):
            if implicit(name, in_watch=True) not in scope.values:
                message = Words(f":{name} has no value: a watch has no request", f":{name} 没有取值：监视没有请求")
                report.value("H221", facts.path, message, did_you_mean(f"${name}", scope.values))
        report_unused(watch.params, used, report)
        check_columns([watch.result], facts.outputs, report)
    if watch.engine == "http":
        message = Words("only an operation can read over HTTP", "只有操作才能使用 HTTP 数据源")
        report.value("H233", ("source",), message)
    _check_key(watch, descriptor, mapped, report)
    if watch.window is not None and "visit_date" not in mapped:
        message = Words("a window needs the field visit_date", "使用 window 必须映射字段 visit_date")
        report.key("H226", ("window",), message, Words('add { to = "visit_date", … }', '补上 { to = "visit_date", … }'))
    goes = False
    for event in watch.events:
        goes = _check_event(event, watch, descriptor, mapped, report) or goes
    _check_vanish(watch, goes, report)
    check_feeds(watch, report)
    check_wake(watch, report)
    check_watch_tests(watch, descriptor, report)


def _check_file(watch: WatchMapping, report: Reporter) -> None:
    """Rows of dropped files: columns by name, nothing that a database would need; and nothing in them vanishes."""
    for key in ("sql", "sql_file", "params", "feed", "wake"):
        if watch.values.get(key):
            message = Words(
                f"{watch.source} is a folder for files: {key} says nothing there",
                f"{watch.source} 是文件目录，{key} 在此无意义",
            )
            report.key("H233", (key,), message, Words("leave it out", "请删除"))
    if watch.vanish == "event":
        message = Words("a row that is not in a file is not gone", "文件中没有的行不算消失")
        report.value("H233", ("vanish",), message, Words('vanish = "ignore"', 'vanish = "ignore"'))


def _check_key(watch: WatchMapping, descriptor: Descriptor, mapped: set[str], report: Reporter) -> None:
    spec = next((spec for spec in watch.result.fields if spec.to == watch.key), None)
    if watch.key not in mapped or spec is None or not spec.column:
        message = Words(f"the key {watch.key} is not mapped to a column", f"主键 {watch.key} 没有映射到列")
        report.value("H226", ("key",), message, did_you_mean(watch.key, sorted(mapped)))
        return
    found = resolve(descriptor, watch.key)
    if found is not None and sort_of(found[-1]) not in {"text", "int"}:
        message = Words("the key must be a text or a number", "主键必须是文本或数字")
        report.value("H226", ("key",), message)


def _check_event(
    event: EventSpec, watch: WatchMapping, descriptor: Descriptor, mapped: set[str], report: Reporter
) -> bool:
    """Returns whether the rule says what a vanished row means."""
    kinds = contract.enum_numbers(event_pb2.EventKind.DESCRIPTOR)
    if event.kind not in kinds:
        message = Words(f'there is no event "{event.kind}"', f"没有事件 “{event.kind}”")
        report.value("H213", (*event.path, "kind"), message, did_you_mean(event.kind, kinds))
    if event.occurred:
        found = resolve(descriptor, event.occurred)
        if found is None or sort_of(found[-1]) != "timestamp" or event.occurred not in mapped:
            times = [
                name for name in mapped if (path := resolve(descriptor, name)) and sort_of(path[-1]) == "timestamp"
            ]
            message = Words(
                f"{event.occurred} is no mapped date with time", f"{event.occurred} 不是已映射的日期时间字段"
            )
            report.value("H225", (*event.path, "occurred"), message, did_you_mean(event.occurred, times))
    place = (*event.path, "when")
    conditions = parse_when(event.when)
    if conditions is None:
        message = Words("the rule cannot be read", "无法识别这条规则")
        fix = Words(
            '"field: before -> after", for example "state: LOCKED|BOOKED -> CANCELLED"; more conditions with " and "',
            '写成 “字段: 之前 -> 之后”，如 "state: LOCKED|BOOKED -> CANCELLED"；多个条件用 " and " 连接',
        )
        report.value("H225", place, message, fix)
        return False
    for condition in conditions:
        _check_condition(condition, place, descriptor, mapped, watch, report)
    changes = [item for item in conditions if isinstance(item, Rule)]
    for side in ("before", "after"):
        word = NEW if side == "before" else GONE
        if len({word in getattr(item, side) for item in changes}) > 1 and any(
            getattr(item, side) == frozenset({word}) for item in changes
        ):
            message = Words(f"a row that is {word} fits only some of the conditions", f"{word} 只符合其中一部分条件")
            report.value("H225", place, message, Words("use field = value beside it", "其余条件写成 “字段 = 值”"))
    return all(GONE in item.after for item in changes)


def _check_condition(
    condition: Condition,
    place: Path,
    descriptor: Descriptor,
    mapped: set[str],
    watch: WatchMapping,
    report: Reporter,
) -> None:
    name = condition.field
    path = resolve(descriptor, name)
    if path is None or name not in mapped:
        what = Words("does not exist", "不存在") if path is None else Words("is not mapped", "没有映射")
        message = Words(f"the field {name} {what.en}", f"字段 {name} {what.zh}")
        names = field_names(descriptor) if path is None else sorted(mapped)
        report.value("H225", place, message, did_you_mean(name, names))
        return
    sort, enum = sort_of(path[-1]), path[-1].enum_type
    if isinstance(condition, Among):
        if sort != "text":
            report.value("H225", place, Words(f"{name} names no operator", f"{name} 不是操作员字段"))
        if not watch.platform_operators:
            message = Words("platform_operators is empty", "platform_operators 为空")
            report.value("H225", place, message, Words('platform_operators = ["…"]', 'platform_operators = ["…"]'))
    for value in sorted(values_of(condition)):
        if enum is not None and value not in contract.enum_numbers(enum):
            message = Words(f'{enum.name} has no value "{value}"', f"{enum.name} 没有值 “{value}”")
            report.value("H213", place, message, did_you_mean(value, contract.enum_numbers(enum)))
        elif sort == "date" and value and not _DAY.fullmatch(value):
            report.value("H225", place, Words("a date is written 2026-03-01", "日期写成 2026-03-01"))
        elif enum is None and sort not in _FREE and not (sort == "bool" and value in {"true", "false"}):
            message = Words(f"{name} can only be compared with *", f"{name} 只能与 * 比较")
            report.value("H225", place, message)


def _check_vanish(watch: WatchMapping, goes: bool, report: Reporter) -> None:
    if watch.vanish == "event" and not goes:
        message = Words(
            'vanish = "event", but no rule has gone on its right side', 'vanish = "event"，但没有规则在右边写 gone'
        )
        report.key(
            "H226",
            ("vanish",),
            message,
            Words('for example when = "state: BOOKED -> gone"', '例如 when = "state: BOOKED -> gone"'),
        )
    if watch.vanish == "ignore" and goes:
        message = Words(
            'a rule with gone never fits: vanish is "ignore"', '写了 gone 的规则不会生效：vanish 为 "ignore"'
        )
        report.warn("H226", ("event",), message, Words('vanish = "event"', 'vanish = "event"'))
