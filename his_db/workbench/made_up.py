"""Made-up requests: the values that a statement is planned with, where there is no real call."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.type import date_pb2, timeofday_pb2

from his_db.contract import enum_numbers, is_map
from his_db.engine import ProcedurePlan, ProcedureResult, Rows
from his_db.errors import HisError
from his_db.kind import Call, Flow, Kind, wall_clock
from his_db.mapping.binding import compile_binder, entries_for, window_dates
from his_db.mapping.model import OperationMapping, WatchMapping
from his_db.mapping.paging import Page, open_page
from his_db.mapping.sql_text import binds
from his_db.workbench.site import Site
from his_db.workbench.usage import Use


def made_up_request(mapping: OperationMapping, today: Any) -> Message:
    """Every plain field filled: text "1", numbers 1, dates today, enums the first value."""
    request = mapping.operation.request_class()
    for field in mapping.operation.request.fields:
        if field.is_repeated or is_map(field) or field.name in {"page_token", "request_id"}:
            continue
        value = _value(field, today)
        if isinstance(value, Message):
            getattr(request, field.name).CopyFrom(value)
        elif value is not None:
            setattr(request, field.name, value)
    return request


def _value(field: FieldDescriptor, today: Any) -> Any:
    if field.message_type is not None:
        if field.message_type.full_name == "google.type.Date":
            return date_pb2.Date(year=today.year, month=today.month, day=today.day)
        if field.message_type.full_name == "google.type.TimeOfDay":
            return timeofday_pb2.TimeOfDay(hours=8)
        return None
    if field.enum_type is not None:
        return next(iter(enum_numbers(field.enum_type).values()), None)
    if field.type == FieldDescriptor.TYPE_STRING:
        return "1"
    if field.type == FieldDescriptor.TYPE_BYTES:
        return b"1"
    return field.type == FieldDescriptor.TYPE_BOOL or 1


def values_for(site: Site, use: Use, sql: str) -> dict[str, Any]:
    """The binds of one statement of a use, as a made-up call would give them; None for what cannot be made up."""
    mapping = use.mapping
    zone = ZoneInfo(site.timezone)
    now = wall_clock(site.clock(), zone)
    request = None
    page = None
    window = None
    if isinstance(mapping, WatchMapping):
        window = window_dates(now.date(), mapping.window or (1, 14))
    elif isinstance(mapping, OperationMapping):
        request = made_up_request(mapping, now.date())
        page = _page(mapping, request)
    else:
        window = window_dates(now.date(), (1, 0))
    lock = mapping.lock if isinstance(mapping, OperationMapping) else timedelta()  # nobody else may bind it
    call = Call(request=request, moment=now, key="0" * 32, lock=lock, page=page, window=window)
    found: dict[str, Any] = {}
    for entry in entries_for(binds(sql), mapping.params, in_watch=not isinstance(mapping, OperationMapping)):
        found[entry.name] = None
        try:
            binder = compile_binder(
                [entry],
                request=mapping.operation.request if isinstance(mapping, OperationMapping) else None,
                codes=mapping.site.codes,
                zone=zone,
                label=use.label,
            )
            found.update(binder.values(call, Flow()))
        except (HisError, ValueError):  # nothing can be made up for it
            continue
    return found


def _page(mapping: OperationMapping, request: Message) -> Page | None:
    if not mapping.operation.page_size:
        return None
    is_keyset = any(result.page_key for result in mapping.results)
    return open_page(mapping.operation, request, is_keyset=is_keyset)


class NotingSession:
    """A session that runs nothing: it notes the statements and answers no rows."""

    def __init__(self) -> None:
        self.statements: list[tuple[str, dict[str, Any]]] = []

    def run(self, sql: str, values: Any, *, max_rows: int) -> Rows:
        """Note it."""
        self.statements.append((sql, dict(values)))
        return Rows((), (), 0)

    def stream(self, sql: str, values: Any, *, size: int) -> Iterator[Rows]:
        """Note it."""
        yield self.run(sql, values, max_rows=size)

    def call(self, plan: ProcedurePlan, values: Any, *, max_rows: int) -> ProcedureResult:
        """Nothing."""
        return ProcedureResult({}, ())

    def begin(self) -> None:
        """Nothing."""

    def commit(self) -> None:
        """Nothing."""

    def rollback(self) -> None:
        """Nothing."""

    def alive(self) -> bool:
        """Always."""
        return True

    def ping(self) -> bool:
        """Always."""
        return True

    def abort(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def generated_statements(site: Site, use: Use) -> list[tuple[str, dict[str, Any]]]:
    """The SQL that kind "table" makes: with all of its optional filters, and with none."""
    from his_db import registry  # as generation.py does: kinds are loaded when needed

    mapping = use.mapping
    assert isinstance(mapping, OperationMapping)
    kind: Kind = registry.load(registry.KINDS[mapping.kind])()
    runner = kind.compile(mapping)
    now = wall_clock(site.clock(), ZoneInfo(site.timezone))
    session = NotingSession()
    for request in (made_up_request(mapping, now.date()), mapping.operation.request_class()):
        try:
            runner.run(session, Call(request=request, moment=now, lock=mapping.lock, page=_page(mapping, request)))
        except HisError:
            continue
    return session.statements
