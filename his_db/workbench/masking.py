"""Personal data out of what people see: binds, rows and messages. What is not known to be harmless is masked.

Personal is what the contract marks `debug_redact`: a bind that comes from such a field, a column that feeds one.
Columns that feed no field at all (helper columns of a step, stray result sets) are masked when they are text.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from his_db.contract import is_map, is_personal
from his_db.mapping.model import OperationMapping, ResultSpec, WatchMapping
from his_db.mapping.paths import resolve
from his_db.secret_reference import is_reference
from his_db.workbench.usage import row_descriptor

MASK: Final = "***"


def masked(value: Any) -> str:
    """What is shown instead of a personal value: NULL stays NULL, of a text its length is told."""
    if value is None:
        return "NULL"
    return f"{MASK}({len(value)})" if isinstance(value, str) else MASK


def shown(value: Any) -> str:
    """A harmless value as text."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, datetime):
        return value.isoformat(" ")
    return value.isoformat() if isinstance(value, date) else str(value)


class Masker:
    """What may be shown of one mapping."""

    def __init__(self, mapping: OperationMapping | WatchMapping, *also: OperationMapping) -> None:
        """`also`: reads that answer for the mapping. What is personal in one of them is personal."""
        operations = [each for each in (mapping, *also) if isinstance(each, OperationMapping)]
        self._requests = [each.operation.request for each in operations]
        self._binds: dict[str, bool] = {}
        self._columns: dict[str, bool] = {}
        for each in operations:
            self._learn(each)
        if isinstance(mapping, WatchMapping):
            self._binds = {param.name.casefold(): _is_secret(param.const) for param in mapping.params}  # the window
            self._learn_result(row_descriptor(mapping, mapping.result), mapping.result)
            self._columns.setdefault(mapping.key.casefold(), False)

    def _learn(self, mapping: OperationMapping) -> None:
        request = mapping.operation.request
        named = [(param.name, param.source, param.step, param.const) for param in mapping.params]
        where = enumerate(mapping.values.get("where", ()))
        named += [(f"w{at}", str(item.get("from", "")), "", item.get("const")) for at, item in where]
        for name, source, step, const in named:
            personal = bool(step) or _is_secret(const) or _path_is_personal(request, source)
            self._binds[name.casefold()] = self._binds.get(name.casefold(), False) or personal
        for result in mapping.results:
            self._learn_result(row_descriptor(mapping, result), result)

    def _learn_result(self, descriptor: Descriptor, result: ResultSpec) -> None:
        for spec in result.fields:
            personal = _path_is_personal(descriptor, spec.to)
            for name in spec.columns():
                self._columns[name.casefold()] = self._columns.get(name.casefold(), False) or personal
        if result.page_key:
            self._columns.setdefault(result.page_key.casefold(), False)

    def bind(self, name: str, value: Any) -> str:
        """The value of a bind or IN parameter."""
        personal = self._binds.get(name.casefold())
        if personal is None:
            personal = any(_path_is_personal(request, name.lstrip("@")) for request in self._requests)
        return masked(value) if personal else shown(value)

    def column(self, name: str, value: Any) -> str:
        """The value of a column or OUT parameter."""
        personal = self._columns.get(name.casefold())
        if personal is None:
            personal = self._columns.get(name.casefold().lstrip("@"), isinstance(value, (str, bytes)))
        return masked(value) if personal else shown(value)


def _is_secret(const: object) -> bool:
    return isinstance(const, str) and is_reference(const)


def _path_is_personal(descriptor: Descriptor, path: str) -> bool:
    if not path or path.startswith("$"):
        return False
    fields = resolve(descriptor, path)
    return fields is not None and any(is_personal(field) for field in fields)


def without_personal(message: Message) -> dict[str, Any]:
    """A message as a dict for JSON, with `***` for personal fields; names as in the .proto files."""
    from google.protobuf import json_format

    data: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    descriptor: Any = message.DESCRIPTOR  # typed by two implementations of protobuf
    return _masked_dict(data, descriptor)


def _masked_dict(data: Mapping[str, Any], descriptor: Descriptor) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in data.items():
        field = descriptor.fields_by_name.get(name)
        if field is None:
            found[name] = value
        elif is_personal(field):
            found[name] = MASK
        else:
            found[name] = _masked_value(value, field)
    return found


def _masked_value(value: Any, field: FieldDescriptor) -> Any:
    below = field.message_type
    if below is None or is_map(field):
        return value
    if isinstance(value, list):
        return [_masked_dict(item, below) if isinstance(item, dict) else item for item in value]
    return _masked_dict(value, below) if isinstance(value, dict) else value
