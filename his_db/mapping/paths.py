"""Dotted paths into messages: resolved against the descriptors, read by closures."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from his_db import contract

DATE: Final = "google.type.Date"
TIME: Final = "google.type.TimeOfDay"
TIMESTAMP: Final = "google.protobuf.Timestamp"
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - UTC, made aware below
_SORTS: Final[Mapping[int, str]] = {
    FieldDescriptor.TYPE_STRING: "text",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_ENUM: "enum",
    FieldDescriptor.TYPE_INT32: "int",
    FieldDescriptor.TYPE_SINT32: "int",
    FieldDescriptor.TYPE_UINT32: "int",
    FieldDescriptor.TYPE_INT64: "int",
    FieldDescriptor.TYPE_SINT64: "int",
    FieldDescriptor.TYPE_UINT64: "int",
}


def sort_of(field: FieldDescriptor) -> str:
    """text, int, money, bool, enum, date, time, timestamp, message, map, list, or empty for what none can fill."""
    if contract.is_map(field):
        return "map"
    if field.is_repeated:
        return "list"
    if field.message_type is not None:
        names = {DATE: "date", TIME: "time", TIMESTAMP: "timestamp"}
        return names.get(field.message_type.full_name, "message")
    sort = _SORTS.get(field.type, "")
    return "money" if sort == "int" and field.name.endswith("_fen") else sort


def resolve(descriptor: Descriptor, path: str) -> tuple[FieldDescriptor, ...] | None:
    """The fields along a dotted path, or None when it names none. The last one may be a map with a key behind it."""
    found: list[FieldDescriptor] = []
    here: Descriptor | None = descriptor
    parts = path.split(".")
    for at, part in enumerate(parts):
        field = here.fields_by_name.get(part) if here is not None else None
        if field is None:
            return None
        found.append(field)
        if contract.is_map(field):
            return tuple(found) if len(parts) == at + 2 and parts[-1] else None
        here = None if field.is_repeated else field.message_type
    return tuple(found)


def field_names(descriptor: Descriptor, *, lists: bool = False) -> tuple[str, ...]:
    """Every dotted path that `resolve` accepts and that ends in a value, two levels deep; for suggestions."""
    found: list[str] = []
    for field in descriptor.fields:
        sort = sort_of(field)
        if sort == "message" and field.message_type is not None:
            found.extend(f"{field.name}.{below.name}" for below in field.message_type.fields)
        elif lists or sort != "list":
            found.append(field.name)
    return tuple(found)


def getter(fields: tuple[FieldDescriptor, ...], zone: ZoneInfo) -> Callable[[Message], Any]:
    """A function that reads a field as a Python value: dates and times naive on the wall clock, enums as short names.

    An absent message, an unspecified enum and an empty text are None. The path is one that `resolve` returned.
    """
    last = fields[-1]
    sort = sort_of(last)
    outer = tuple(field.name for field in fields[:-1])
    reach: Callable[[Message], Any] = operator.attrgetter(".".join(outer)) if outer else lambda message: message
    name = last.name
    if sort in {"date", "time", "timestamp"}:
        return _moment_getter(reach, name, sort, zone)
    if sort == "enum" and last.enum_type is not None:
        names = contract.enum_names(last.enum_type)
        return lambda message: names.get(getattr(reach(message), name))
    if sort == "text":
        return lambda message: getattr(reach(message), name) or None
    if sort == "bool":
        return lambda message: int(getattr(reach(message), name))
    return lambda message: getattr(reach(message), name)


def _moment_getter(reach: Callable[[Message], Any], name: str, sort: str, zone: ZoneInfo) -> Callable[[Message], Any]:
    readers: Mapping[str, Callable[[Any], Any]] = {
        "date": _date,
        "time": _time,
        "timestamp": lambda value: local(value, zone),
    }
    read = readers[sort]

    def get(message: Message) -> Any:
        inner = reach(message)
        return read(getattr(inner, name)) if inner.HasField(name) else None

    return get


def _date(value: Any) -> date:
    return date(value.year, value.month, value.day)


def _time(value: Any) -> time:
    return time(value.hours % 24, value.minutes, value.seconds, value.nanos // 1000)


def local(value: Any, zone: ZoneInfo) -> datetime:
    """A Timestamp as naive datetime on the wall clock of `zone`."""
    utc = _EPOCH + timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)
    return utc.replace(tzinfo=ZoneInfo("UTC")).astimezone(zone).replace(tzinfo=None)
