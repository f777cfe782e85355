"""Fields of a JSON answer of a gateway, read strictly: what is missing or of another type is a MappingMismatch.

Errors name the field and never its value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from google.protobuf.timestamp_pb2 import Timestamp

from his_db.errors import MappingMismatch
from his_db.mapping.convert_in import timestamp
from his_db.mapping.reply import ReplyError, parse_json
from his_db.money import AmountError, fen_of_yuan

_RFC3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:Z|[+-][0-9]{2}:[0-9]{2})"
)


class Fields:
    """A JSON object of an answer. `label`: the operation and the place, for errors."""

    __slots__ = ("_label", "_values")

    def __init__(self, values: Any, label: str) -> None:
        if not isinstance(values, dict):
            raise MappingMismatch(f"{label}: the answer has no object here")
        self._values: dict[str, Any] = values
        self._label = label

    @property
    def values(self) -> Mapping[str, Any]:
        """The object itself."""
        return self._values

    def wrong(self, name: str, why: str) -> MappingMismatch:
        """The error about one field."""
        return MappingMismatch(f"{self._label}: {name} {why}")

    def has(self, name: str) -> bool:
        """Whether the field is there with a value."""
        return self._values.get(name) not in (None, "")

    def text(self, name: str) -> str:
        """Text, or a number or true/false as text; empty when it is missing or null."""
        value = self._values.get(name)
        if value is None:
            return ""
        if isinstance(value, bool):
            return "true" if value else "false"
        if not isinstance(value, (str, int)):
            raise self.wrong(name, "is no text")
        return str(value).strip()

    def need(self, name: str) -> str:
        """Text that must be there."""
        found = self.text(name)
        if not found:
            raise self.wrong(name, "is missing")
        return found

    def fen(self, name: str) -> int:
        """A whole number of 分 that must be there."""
        value = self._values.get(name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(name, "is no whole number")
        return value

    def yuan(self, name: str, *, needed: bool = False) -> int:
        """元 as 分; 0 when it is missing and not needed."""
        value = self._values.get(name)
        if value is None or value == "":
            if needed:
                raise self.wrong(name, "is missing")
            return 0
        try:
            return fen_of_yuan(value)
        except AmountError as error:
            raise self.wrong(name, str(error)) from None

    def table(self, name: str) -> Fields:
        """An object below; an empty one when it is missing."""
        value = self._values.get(name)
        return Fields({} if value is None else value, f"{self._label}: {name}")

    def tables(self, name: str) -> list[Fields]:
        """A list of objects below; a single object counts as a list of one; empty when it is missing."""
        value = self._values.get(name)
        items = [] if value is None else value if isinstance(value, list) else [value]
        return [Fields(item, f"{self._label}: {name}") for item in items if item is not None]

    def moment(self, name: str, zone: ZoneInfo, *formats: str) -> Timestamp | None:
        """A point in time in one of the strptime formats (wall clock of `zone`), or RFC 3339 where there is none;
        None when it is missing."""
        text = self.text(name)
        if not text:
            return None
        try:
            if not formats:
                return _rfc3339(text)
            return timestamp(_parsed(text, formats), zone)
        except ValueError:
            raise self.wrong(name, "is no date and time of the protocol") from None


def _parsed(text: str, formats: tuple[str, ...]) -> datetime:
    for form in formats:
        try:
            return datetime.strptime(text, form)  # noqa: DTZ007 - the hospital's wall clock; its zone is added
        except ValueError:
            continue
    raise ValueError(text)


def _rfc3339(text: str) -> Timestamp:
    if _RFC3339.fullmatch(text) is None:
        raise ValueError(text)
    return timestamp(datetime.fromisoformat(text).astimezone(UTC), ZoneInfo("UTC"))


def json_object(text: str, label: str) -> Fields:
    """A JSON answer as fields. Raises MappingMismatch."""
    try:
        return Fields(parse_json(text), label)
    except ReplyError as error:
        raise MappingMismatch(f"{label}: the answer {error}") from None
