"""JSON of the contract for people: field names as in the .proto files, dates as ``2026-11-23``, times as ``08:30``."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.message import Message

from his_db.contract import enum_numbers, is_map

_DATE: Final = re.compile(r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})")
_TIME: Final = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?")
_FIELD: Final = re.compile(r"Failed to parse (\w+) field: ")


class ContractJsonError(ValueError):
    """The text is no JSON, or does not fit the message. ``str()`` is for whoever wrote the text: it may repeat parts.

    ``place`` may be told to anybody: line and column, or the field of the contract; no values, no keys of the text.
    """

    def __init__(self, detail: str, place: str = "") -> None:
        super().__init__(detail)
        self.place = place or detail


def from_json(text: str, kind: type[Message]) -> Message:
    """A message from JSON; dates and times may be texts, enums may be short names. Raises ContractJsonError."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise ContractJsonError(f"line {error.lineno} column {error.colno}: {error.msg}") from error
    except RecursionError:
        raise ContractJsonError("lists or objects are nested too deeply") from None
    except ValueError:  # Python converts no number of more than 4,300 digits
        raise ContractJsonError("a number has too many digits") from None
    if not isinstance(data, dict):
        raise ContractJsonError("an object { … } is expected")
    try:
        return json_format.ParseDict(_widened(data, kind.DESCRIPTOR), kind())
    except json_format.ParseError as error:
        raise ContractJsonError(str(error), _place(str(error), kind.DESCRIPTOR)) from error
    except OverflowError:
        raise ContractJsonError("a number is out of range") from None
    except SystemError:  # protobuf's own, where a text holds half a surrogate pair
        raise ContractJsonError("a text holds half of a character") from None


def _place(said: str, descriptor: Any) -> str:
    """Where it does not fit, from protobuf's words, in which texts of the caller may stand."""
    path = [name for name in _FIELD.findall(said) if name.isascii()]
    if path:
        return f"field {'.'.join(path)}"
    return f"a field that is not there; there are {', '.join(descriptor.fields_by_name)}"


def to_json(message: Message, *, lines: bool = False) -> str:
    """A message as JSON: on one line, or indented for reading."""
    data = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return json.dumps(data, ensure_ascii=False, indent=None if lines else 2)


def _widened(data: dict[str, Any], descriptor: Any) -> dict[str, Any]:
    """``data`` with short forms made into what protobuf's JSON wants."""
    found: dict[str, Any] = {}
    for name, value in data.items():
        field = descriptor.fields_by_name.get(name)
        if field is None or is_map(field):
            found[name] = value
        elif field.is_repeated and isinstance(value, list):
            found[name] = [_value(item, field) for item in value]
        else:
            found[name] = _value(value, field)
    return found


def _value(value: Any, field: Any) -> Any:
    if field.enum_type is not None and isinstance(value, str):
        return enum_numbers(field.enum_type).get(value, value)
    if field.message_type is None:
        return value
    if isinstance(value, dict):
        return _widened(value, field.message_type)
    if isinstance(value, str) and field.message_type.full_name == "google.type.Date":
        match = _DATE.fullmatch(value)
        return value if match is None else dict(zip(("year", "month", "day"), map(int, match.groups()), strict=True))
    if isinstance(value, str) and field.message_type.full_name == "google.type.TimeOfDay":
        match = _TIME.fullmatch(value)
        parts = () if match is None else tuple(int(part or 0) for part in match.groups())
        return value if match is None else dict(zip(("hours", "minutes", "seconds"), parts, strict=True))
    return value
