"""Checked tables -> records. Nothing is judged here; what a bad file left out stays empty."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from his_db import contract
from his_db.document.located import Document, Path
from his_db.mapping.model import (
    REFUSE,
    AnswerSpec,
    CodeMap,
    CodePair,
    EventSpec,
    FieldSpec,
    OperationMapping,
    Param,
    ResultSpec,
    Site,
    Transform,
    WatchMapping,
)

Table = Mapping[str, Any]


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
        charset=table.get("charset", "utf-8"),
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
    )


def result_of(table: Table, path: Path, operation: contract.ContractOperation) -> ResultSpec:
    """One `[[result]]` with its defaults."""
    into = table.get("into", "")
    is_list = operation.list_field is not None and into in {"", operation.list_field}
    return ResultSpec(
        path=path,
        into=into or (operation.list_field or ""),
        rows=table.get("rows", "many" if is_list else "one"),
        not_found=table.get("not_found", ""),
        page_key=table.get("page_key", ""),
        set=table.get("set"),
        fields=tuple(field_of(item, (*path, "fields", at)) for at, item in enumerate(table.get("fields", []))),
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
        results=tuple(result_of(item, ("result", at), operation) for at, item in enumerate(values.get("result", []))),
        site=site,
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
    )


def _texts(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)
