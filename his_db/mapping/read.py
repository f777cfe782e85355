"""Checked tables -> records. Nothing is judged here; what a bad file left out stays empty."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import time, timedelta
from typing import Any, Final

from his_db import contract
from his_db.document.located import Document, Path
from his_db.feed import FeedSpec
from his_db.mapping.model import (
    REFUSE,
    AnswerSpec,
    CodeMap,
    CodePair,
    EventSpec,
    FieldSpec,
    OperationMapping,
    Param,
    ReportColumnSpec,
    ReportMapping,
    ResultSpec,
    SegmentsSpec,
    Site,
    Transform,
    TrialSpec,
    WatchFeed,
    WatchMapping,
)

Table = Mapping[str, Any]
_HOURS: Final = re.compile(r"([0-9]{1,2}):([0-9]{2})-([0-9]{1,2}):([0-9]{2})")


def transform_of(table: Table) -> Transform:
    """The conversion keys of a param or filter."""
    moment = table.get("datetime") or table.get("date") or table.get("time") or ""
    return Transform(
        moment=moment,
        money=table.get("money", ""),
        codes=table.get("codes", ""),
        case=table.get("case", ""),
        pad=table.get("pad", 0),
        max_bytes=table.get("max_bytes", 0),
        max_chars=table.get("max_chars", 0),
        cuts=table.get("cut", False),
        charset=table.get("charset", "utf-8"),
        number=table.get("number", False),
        digits=table.get("digits", False),
        split=table.get("split", ""),
        part=table.get("part"),
        read=table.get("read", ""),
        keeps_empty=table.get("empty") == "keep",
    )


def param_of(table: Table, path: Path, name: str) -> Param:
    """One param or filter; a param without any source takes the request field of its own name."""
    source = table.get("from", "")
    direction = table.get("dir", "in")
    if not source and "const" not in table and "step" not in table and direction in {"in", "inout"}:
        source = name.lstrip("@")
    return Param(
        name=name,
        path=path,
        source=source,
        const=table.get("const"),
        step=table.get("step", ""),
        transform=transform_of(table),
        direction=direction,
        type=table.get("type", ""),
    )


def params_of(values: Table, path: Path = ("params",)) -> tuple[Param, ...]:
    """The entries of `params`. Items that the shape check dropped make later indexes wrong, but then nothing runs."""
    found = values.get("params", [])
    return tuple(
        param_of(item, (*path, index), item["name"].removeprefix(":"))
        for index, item in enumerate(found)
        if "name" in item
    )


def field_of(table: Table, path: Path) -> FieldSpec:
    """One entry of `fields`."""
    return FieldSpec(
        to=table.get("to", ""),
        path=path,
        column=table.get("column", ""),
        const=table.get("const"),
        trim=table.get("trim", True),
        money=table.get("money", ""),
        formats=_texts(table.get("datetime")),
        date_formats=_texts(table.get("date")),
        time_formats=_texts(table.get("time")),
        date_column=table.get("date_column", ""),
        time_column=table.get("time_column", ""),
        codes=table.get("codes", ""),
        true=tuple(table["true"]) if "true" in table else None,
        empty=tuple(table.get("empty", ())),
        default=table.get("default"),
        contains=tuple((item["text"], item["is"]) for item in table.get("contains", ()) if len(item) > 1),
        charset=table.get("charset", ""),
    )


def segments_of(values: Table) -> SegmentsSpec | None:
    """`[segments]` of an operation file, if it has one."""
    table = values.get("segments")
    if table is None:
        return None
    return SegmentsSpec(
        path=("segments",),
        begin=table.get("begin", ""),
        end=table.get("end", ""),
        formats=_texts(table.get("time")),
        minutes=table.get("minutes"),
        count=table.get("count"),
        each=table.get("each"),
        total=table.get("total"),
        taken=table.get("taken", ""),
        taken_count=table.get("taken_count", ""),
        used=table.get("used", ""),
    )


def tests_of(values: Table) -> tuple[TrialSpec, ...]:
    """The `[[test]]` of an operation or a watch."""
    return tuple(TrialSpec(item.get("name", ""), ("test", at), item) for at, item in enumerate(values.get("test", [])))


def result_of(
    table: Table, path: Path, operation: contract.ContractOperation, segments: SegmentsSpec | None = None
) -> ResultSpec:
    """One `[[result]]` with its defaults."""
    into = table.get("into", "")
    # Beside its list an answer may have fields of its own: a result of one row without `into` is about these.
    own = table.get("rows") in {"one", "optional"} and operation.has_own_fields
    is_list = operation.list_field is not None and into in {"", operation.list_field} and not (own and not into)
    return ResultSpec(
        path=path,
        into=into or (operation.list_field or "" if is_list else ""),
        rows=table.get("rows", "many" if is_list else "one"),
        not_found=table.get("not_found", ""),
        page_key=table.get("page_key", ""),
        set=table.get("set"),
        fields=tuple(field_of(item, (*path, "fields", at)) for at, item in enumerate(table.get("fields", []))),
        at=table.get("at", ""),
        segments=segments if is_list else None,
    )


def operation_of(
    document: Document, values: Table, operation: contract.ContractOperation, site: Site
) -> OperationMapping:
    """An operation file."""
    answer = values.get("answer", [])
    answers: list[tuple[Table, Path]] = []
    if isinstance(answer, dict):
        answers.append((answer, ("answer",)))
    elif isinstance(answer, list):
        answers.extend((item, ("answer", at)) for at, item in enumerate(answer))
    return OperationMapping(
        operation=operation,
        document=document,
        values=values,
        kind=values.get("kind", ""),
        source=values.get("source", "his"),
        timeout=values.get("timeout"),
        lock=values.get("lock", timedelta(minutes=10)),
        note=values.get("note", ""),
        probe=values.get("probe", ""),
        answers=tuple(AnswerSpec(item.get("read", ""), item.get("to", ""), path) for item, path in answers),
        params=params_of(values),
        results=tuple(
            result_of(item, ("result", at), operation, segments_of(values))
            for at, item in enumerate(values.get("result", []))
        ),
        site=site,
        tests=tests_of(values),
    )


def gateway_operation_of(
    document: Document, values: Table, operation: contract.ContractOperation, site: Site
) -> OperationMapping:
    """One operation of a gateway file."""
    return OperationMapping(
        operation=operation,
        document=document,
        values={**values, "commits": "procedure"},
        kind="gateway",
        source=values.get("source", ""),
        timeout=values.get("timeout"),
        lock=timedelta(minutes=10),
        note=values.get("note", ""),
        probe="",
        answers=(),
        params=(),
        results=(),
        site=site,
        tests=tuple(test for test in tests_of(values) if test.values.get("operation") == operation.name),
    )


def codes_of(document: Document, values: Table) -> CodeMap:
    """A code map file."""
    pairs = tuple(
        CodePair(item["his"], item["is"], item.get("back", True), ("map", at))
        for at, item in enumerate(values.get("map", []))
        if "his" in item and "is" in item
    )
    otherwise, back = values.get("otherwise", REFUSE), values.get("otherwise_back", REFUSE)
    return CodeMap(
        name=values.get("codes", ""),
        document=document,
        pairs=pairs,
        otherwise=None if otherwise == REFUSE else otherwise,
        otherwise_back=None if back == REFUSE else back,
    )


def watch_of(document: Document, values: Table, site: Site) -> WatchMapping:
    """A watch file."""
    window = values.get("window")
    fields = tuple(field_of(item, ("fields", at)) for at, item in enumerate(values.get("fields", [])))
    return WatchMapping(
        name=values.get("watch", ""),
        document=document,
        values=values,
        subject=values.get("subject", ""),
        source=values.get("source", "his"),
        poll=values.get("poll"),
        window=None if window is None else (window.get("past_days", 0), window.get("future_days", 0)),
        key=values.get("key", ""),
        platform_operators=frozenset(str(item) for item in values.get("platform_operators", [])),
        vanish=values.get("vanish", "ignore"),
        params=params_of(values),
        result=ResultSpec(("fields",), "", "many", "", "", None, fields),
        events=tuple(
            EventSpec(item.get("kind", ""), item.get("when", ""), item.get("occurred", ""), ("event", at))
            for at, item in enumerate(values.get("event", []))
        ),
        site=site,
        tests=tests_of(values),
        feeds=tuple(
            WatchFeed(
                FeedSpec(
                    item.get("rung", ""),
                    item.get("table", ""),
                    item.get("key", ""),
                    item.get("column", ""),
                    item.get("where", ""),
                    item.get("margin", timedelta(seconds=2)),
                    item.get("gap", timedelta(minutes=10)),
                    item.get("options", {}),
                ),
                ("feed", at),
            )
            for at, item in enumerate(values.get("feed", []))
        ),
        reconcile=values.get("reconcile", timedelta(seconds=30)),
        orders=values.get("orders", timedelta(seconds=10)),
        wake=values.get("wake", ""),
    )


def report_of(document: Document, name: str, values: Table, site: Site) -> ReportMapping:
    """One `[report.<name>]`."""
    path: Path = ("report", name)
    columns = []
    for at, item in enumerate(values.get("columns", [])):
        spec = field_of({"column": item.get("name", ""), **item, "to": item.get("name", "")}, (*path, "columns", at))
        kind = item.get("kind", "")
        total, rate = item.get("total", kind in {"fen", "count"}), tuple(item.get("rate", ()))
        mask = item.get("mask", "")
        columns.append(ReportColumnSpec(item.get("name", ""), item.get("title", ""), kind, spec, total, rate, mask))
    return ReportMapping(
        name=name,
        path=path,
        document=document,
        values=values,
        title=values.get("title", ""),
        source=values.get("source", "his"),
        object=values.get("object", ""),
        function=values.get("call") == "function",
        params=params_of(values, (*path, "params")),
        columns=tuple(columns),
        schedule=values.get("schedule", ""),
        quiet_hours=tuple(hours for text in values.get("quiet_hours", []) if (hours := hours_of(text)) is not None),
        timeout=values.get("timeout"),
        max_rows=values.get("max_rows", 0),
        site=site,
    )


def hours_of(text: str) -> tuple[time, time] | None:
    """`07:30-11:30` as two times; None when it is no such text. 24:00 is the midnight that ends the day."""
    match = _HOURS.fullmatch(text)
    if match is None:
        return None
    found = [int(part) for part in match.groups()]
    clocks = [(hour % 24, minute) for hour, minute in (found[:2], found[2:]) if hour * 60 + minute <= 24 * 60]
    if len(clocks) < 2 or max(found[1], found[3]) > 59 or clocks[0] == clocks[1]:
        return None
    return time(*clocks[0]), time(*clocks[1])


def _texts(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)
