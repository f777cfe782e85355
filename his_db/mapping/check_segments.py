"""Checking `[segments]`: it belongs to a list of slots, says how long a segment is, and who fills which field."""

from __future__ import annotations

from his_db.document.finding import Words
from his_db.mapping.check_params import check_format, table_at
from his_db.mapping.finding import Reporter
from his_db.mapping.model import OperationMapping, SegmentsSpec
from his_db.mapping.segments import FIELDS

_SLOTS = "CatalogService.ListSlots"


def check_segments(mapping: OperationMapping, report: Reporter) -> None:
    """`[segments]` of an operation; nothing to say when it has none."""
    if "segments" not in mapping.values:
        return
    spec = next((result.segments for result in mapping.results if result.segments is not None), None)
    if mapping.operation.name != _SLOTS or spec is None:
        message = Words(f"segments belong to {_SLOTS}", f"segments 只用于 {_SLOTS}")
        report.key("H235", ("segments",), message, Words("delete segments", "删除 segments"))
        return
    _exactly_one(spec, report)
    if spec.each is not None and spec.total is not None:
        message = Words("each and total exclude each other", "each 与 total 只能写一个")
        report.key("H235", ("segments", "total"), message)
    if spec.used and spec.taken:
        message = Words("used and taken exclude each other", "used 与 taken 只能写一个")
        report.key("H235", ("segments", "used"), message)
    if spec.taken_count and not spec.taken:
        message = Words("taken_count belongs to taken", "写 taken_count 时必须写 taken")
        report.key("H235", ("segments", "taken_count"), message)
    raw = table_at(report.document, ("segments",)).get("time")
    for at, text in enumerate(spec.formats):
        place = ("segments", "time", at) if isinstance(raw, list) else ("segments", "time")
        check_format(text, place, "time", report)
    for result in mapping.results:
        if result.page_key:
            message = Words("rows become several slots: page_key cannot page them", "一行变成多个号源，不能用 page_key")
            report.key("H229", (*result.path, "page_key"), message, Words("delete page_key", "删除 page_key"))
        for field in result.fields:
            if field.to in FIELDS and field.to != "state":
                message = Words(f"{field.to} is filled by segments", f"{field.to} 由 segments 填写")
                report.value("H210", (*field.path, "to"), message, Words("delete this line", "删除这一行"))


def _exactly_one(spec: SegmentsSpec, report: Reporter) -> None:
    if (spec.minutes is None) == (spec.count is None):
        message = Words("exactly one of minutes and count is needed", "minutes 与 count 必须且只能写一个")
        report.key("H235", ("segments",), message)
