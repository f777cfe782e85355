"""Checking `[report.<name>]`: what it reads, its columns with their kinds, when it runs."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from google.protobuf.descriptor import FieldDescriptor
from his160.v1 import common_pb2

from his_db.document.finding import Words
from his_db.document.located import Path
from his_db.mapping.binding import implicit
from his_db.mapping.check_operation import check_source
from his_db.mapping.check_params import check_scoped, watch_scope
from his_db.mapping.check_results import check_field, no_such_column
from his_db.mapping.check_statement import check_called, check_select, report_unused
from his_db.mapping.cron import cron_fault
from his_db.mapping.finding import Reporter, did_you_mean
from his_db.mapping.model import FILE, ReportColumnSpec, ReportMapping
from his_db.mapping.read import hours_of
from his_db.mapping.sql_text import binds

_NAME: Final = re.compile(r"[^\W\d][\w$#]*(\.[^\W\d][\w$#]*){0,3}")
# A column of a report is read like a field of the contract that has its type.
FIELD_OF_KIND: Final[dict[str, FieldDescriptor]] = {
    "text": common_pb2.Appointment.DESCRIPTOR.fields_by_name["order_no"],
    "count": common_pb2.Appointment.DESCRIPTOR.fields_by_name["queue_no"],
    "percent": common_pb2.Appointment.DESCRIPTOR.fields_by_name["queue_no"],
    "fen": common_pb2.Appointment.DESCRIPTOR.fields_by_name["total_fen"],
    "date": common_pb2.Appointment.DESCRIPTOR.fields_by_name["visit_date"],
    "time": common_pb2.Appointment.DESCRIPTOR.fields_by_name["cancel_time"],
}


def check_report(report_mapping: ReportMapping, report: Reporter) -> None:
    """Everything about one report but its name among others."""
    path = report_mapping.path
    check_source(report_mapping.source, report_mapping.site.sources, report, (*path, "source"))
    if report_mapping.engine in ("http", FILE):
        message = Words("a report reads a database", "报表只能使用数据库数据源")
        report.value("H233", (*path, "source"), message)
    outputs = _check_statement(report_mapping, report)
    _check_columns(report_mapping, outputs, report)
    if report_mapping.schedule:
        fault = cron_fault(report_mapping.schedule)
        if fault:
            message = Words(f'"{fault}" is not cron text', f"“{fault}” 不是有效的 cron 写法")
            fix = Words('minute hour day month weekday: "0 6 * * *"', '分 时 日 月 周："0 6 * * *" 表示每天 6 点')
            report.value("H236", (*path, "schedule"), message, fix)
    for at, text in enumerate(report_mapping.values["quiet_hours"]):
        if hours_of(text) is None:
            message = Words("not a span of hours", "不是有效的时段")
            report.value("H236", (*path, "quiet_hours", at), message, Words('"07:30-11:30"', '"07:30-11:30"'))


def _check_statement(mapping: ReportMapping, report: Reporter) -> tuple[str, ...] | None:
    """The columns that the SELECT gives, where that is known."""
    path = mapping.path
    scope = watch_scope(mapping.site.codes, has_window=True)
    check_scoped(mapping.params, scope, report)
    if mapping.object:
        if "sql" in mapping.values or "sql_file" in mapping.values:
            message = Words("object and sql exclude each other", "object 与 sql 只能写一种")
            report.key("H231", (*path, "object"), message)
        if not _NAME.fullmatch(mapping.object):
            message = Words("not a name of a procedure or function", "不是有效的存储过程名或函数名")
            report.value("H232", (*path, "object"), message)
        check_called(mapping.object, (*path, "object"), report)
        return None
    for param in mapping.params:
        if param.direction != "in":
            report.key("H219", (*param.path, "dir"), Words("dir belongs to procedures", "dir 只用于存储过程"))
    facts = check_select(mapping.values, path, mapping.engine, mapping.site, report)
    if facts is None:
        return None
    known = {param.name for param in mapping.params}
    used = binds(facts.sql, mapping.engine)
    for name in (name for name in used if name not in known):
        if implicit(name, in_watch=True) not in scope.values:
            message = Words(f":{name} has no value: a report has no request", f":{name} 没有取值：报表没有请求")
            report.value("H221", facts.path, message, did_you_mean(f"${name}", scope.values))
    report_unused(mapping.params, used, report)
    return facts.outputs


def _check_columns(mapping: ReportMapping, outputs: tuple[str, ...] | None, report: Reporter) -> None:
    seen: set[str] = set()
    names = [column.name for column in mapping.columns]
    subtotal = mapping.values.get("subtotal")
    if subtotal is not None and subtotal not in names:
        message = Words(f'there is no column "{subtotal}"', f"没有列 “{subtotal}”")
        report.value("H205", (*mapping.path, "subtotal"), message, did_you_mean(subtotal, names))
    for column in mapping.columns:
        place: Path = (*column.field.path, "name")
        if column.name.casefold() in seen:
            message = Words(f'there are two columns "{column.name}"', f"有两列都叫 “{column.name}”")
            report.value("H210", place, message, Words("delete one", "删除其中一个"))
        seen.add(column.name.casefold())
        field = FIELD_OF_KIND.get(column.kind)
        if field is not None and not report.document.damage.hides((*column.field.path, "kind")):
            check_field(replace(column.field, to=column.name), field, mapping.site.codes, report, place=place)
        _check_total(column, mapping, report)
        name = column.field.column
        if outputs is not None and name.casefold() not in {item.casefold() for item in outputs}:
            key = "column" if name != column.name else "name"
            no_such_column(name, (*column.field.path, key), outputs, report)


def _check_total(column: ReportColumnSpec, mapping: ReportMapping, report: Reporter) -> None:
    """Sums are of counts and amounts; a share over all rows comes from two columns that have sums."""
    path = column.field.path
    if column.total and column.kind not in {"fen", "count"}:
        message = Words("only counts and amounts have a sum", "只有数量和金额可以合计")
        report.key("H211", (*path, "total"), message, Words("delete total", "删除 total"))
    if column.mask and column.kind != "text":
        report.key("H211", (*path, "mask"), Words("only text is masked", "只有文本列可以脱敏"))
    if column.rate and column.kind != "percent":
        report.key("H211", (*path, "rate"), Words("rate belongs to percent", "rate 只用于 percent 列"))
    summed = [item.name for item in mapping.columns if item.total]
    for at, name in enumerate(column.rate):
        if name not in summed:
            message = Words(f'no column "{name}" has a sum', f"没有可合计的列 “{name}”")
            report.value("H205", (*path, "rate", at), message, did_you_mean(name, summed))
