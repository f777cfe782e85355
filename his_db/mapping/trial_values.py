"""Values of `[[test]]`: what a DBA writes in TOML put into requests, and compared with what came out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.type import date_pb2, timeofday_pb2

from his_db import contract
from his_db.mapping.convert_in import code_text, timestamp
from his_db.mapping.paths import local, resolve, sort_of


def flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path and value of everything in a table; tables inside are paths, lists are values."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def put(message: Message, path: tuple[FieldDescriptor, ...], value: Any, zone: ZoneInfo) -> None:
    """Set a field. Raises ValueError or TypeError for a value that does not fit it."""
    *outer, last = path
    for step in outer:
        message = getattr(message, step.name)
    sort = sort_of(last)
    if sort == "list":
        getattr(message, last.name).extend(value)
    elif sort == "enum" and last.enum_type is not None:
        numbers = contract.enum_numbers(last.enum_type)
        if value not in numbers:
            raise ValueError("no such value")
        setattr(message, last.name, numbers[value])
    elif sort in {"date", "time", "timestamp"}:
        getattr(message, last.name).CopyFrom(_moment(sort, value, zone))
    elif sort in {"text", "int", "money", "bool"}:
        setattr(message, last.name, value)
    else:
        raise ValueError("not a single value")


def _moment(sort: str, value: Any, zone: ZoneInfo) -> Message:
    found: Message
    if sort == "date":
        day: date = date.fromisoformat(value) if isinstance(value, str) else value
        found = date_pb2.Date(year=day.year, month=day.month, day=day.day)
    elif sort == "time":
        clock: time = time.fromisoformat(value) if isinstance(value, str) else value
        found = timeofday_pb2.TimeOfDay(hours=clock.hour, minutes=clock.minute, seconds=clock.second)
    else:
        found = timestamp(datetime.fromisoformat(value) if isinstance(value, str) else value, zone)
    return found


def read(message: Message, path: str, zone: ZoneInfo) -> Any:
    """The value at a dotted path in the words of a DBA; numbers in it are places in a list. None: it is not there.

    Raises KeyError for a path that does not exist.
    """
    here: Any = message
    parts = path.split(".")
    for at, part in enumerate(parts):
        if isinstance(here, (list, tuple)):
            if not part.isdigit():
                raise KeyError(path)
            here = here[int(part)] if int(part) < len(here) else None
        elif isinstance(here, Message):
            descriptor: Any = here.DESCRIPTOR
            field = descriptor.fields_by_name.get(part)
            if field is None:
                raise KeyError(path)
            if contract.is_map(field):
                return getattr(here, part).get(".".join(parts[at + 1 :]))
            here = _value(here, field, zone)
        elif here is None:
            return None
        else:
            raise KeyError(path)
    return here


def _value(message: Message, field: FieldDescriptor, zone: ZoneInfo) -> Any:
    sort, value = sort_of(field), getattr(message, field.name)
    if sort == "list":
        return list(value)
    if field.message_type is not None and not message.HasField(field.name):
        return None
    if sort == "enum" and field.enum_type is not None:
        return contract.enum_names(field.enum_type).get(value, "UNSPECIFIED")
    if sort == "date":
        return date(value.year, value.month, value.day)
    if sort == "time":
        return time(value.hours % 24, value.minutes, value.seconds)
    return local(value, zone) if sort == "timestamp" else value


def same(expected: Any, found: Any, zone: ZoneInfo) -> bool:
    """Whether a value is what the file expects; dates and times may be written as text, absent is `""`."""
    if isinstance(expected, list):
        return (
            isinstance(found, list)
            and len(expected) == len(found)
            and all(same(one, other, zone) for one, other in zip(expected, found, strict=True))
        )
    if isinstance(expected, Mapping):
        if not isinstance(found, Message):
            return False
        return all(_same_at(found, path, value, zone) for path, value in flat(expected))
    if found is None:
        return bool(expected == "")
    if isinstance(found, bool) or isinstance(expected, bool):
        return bool(expected == found) or (found in (0, 1) and code_text(expected) == code_text(found))
    if isinstance(expected, str) and isinstance(found, (date, time)):
        return expected.replace("T", " ") in _texts(found)
    if isinstance(expected, (int, float)) and isinstance(found, (int, float, Decimal)):
        return Decimal(repr(expected)) == Decimal(str(found))
    return bool(expected == found)


def _same_at(message: Message, path: str, value: Any, zone: ZoneInfo) -> bool:
    try:
        return same(value, read(message, path, zone), zone)
    except KeyError:
        return False


def _texts(found: date | time) -> frozenset[str]:
    text = found.isoformat(" ") if isinstance(found, datetime) else found.isoformat()
    is_short = isinstance(found, (datetime, time)) and text.endswith(":00")
    return frozenset({text, text[:-3]} if is_short else {text})


def shown(value: Any) -> str:
    """A value for a message."""
    if isinstance(value, list):
        return f"{len(value)} items"
    if isinstance(value, Message):
        return f"a {value.DESCRIPTOR.name}"
    return "nothing" if value is None else str(value)[:80]


def known_path(descriptor: Any, path: str) -> bool:
    """Whether a path of `expect` can be there: places in lists are left out before it is looked up."""
    here = descriptor
    parts = path.split(".")
    for at, part in enumerate(parts):
        if part.isdigit():
            continue
        field = here.fields_by_name.get(part) if here is not None else None
        if field is None:
            return False
        if contract.is_map(field):
            return at == len(parts) - 2
        here = field.message_type
    return True


def request_path(descriptor: Any, path: str) -> tuple[FieldDescriptor, ...] | None:
    """The fields of a path of `given`; None when it is none."""
    found = resolve(descriptor, path)
    return None if found is None or sort_of(found[-1]) in {"message", "map", ""} else found
