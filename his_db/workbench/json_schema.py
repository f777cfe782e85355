"""JSON Schema (draft 2020-12) of mapping files, made from the very shapes that the check uses: for editors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from his_db import contract, registry
from his_db.document.shape import Boolean, Duration, Field, Integer, ListOf, MapOf, Number, OneOf, Shape, TableOf, Text
from his_db.document.value_shape import FilePath, Scalar
from his_db.gateway import Gateway
from his_db.kind import Kind
from his_db.mapping import grammar

_DURATION: Final = r"^\s*[0-9]+\s*(ms|s|m|h|d)\s*$"


def mapping_schema() -> dict[str, Any]:
    """One schema for every file of a mapping folder: operations by kind, watches, code maps."""
    kinds = {name: _kind(name) for name in registry.KINDS if name != "gateway"}
    operation = schema_of(TableOf(grammar.OPERATION_KEYS))
    operation["properties"]["operation"]["enum"] = list(contract.mappable_names())
    operation["properties"]["kind"] = {"enum": list(kinds)}
    del operation["additionalProperties"]
    operation["allOf"] = [
        {"if": {"properties": {"kind": {"const": name}}, "required": ["kind"]}, "then": {"$ref": f"#/$defs/{name}"}}
        for name in kinds
    ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "his160 mapping file",
        "oneOf": [
            {"$ref": "#/$defs/operation"},
            {"$ref": "#/$defs/gateway_file"},
            {"$ref": "#/$defs/watch_file"},
            {"$ref": "#/$defs/codes_file"},
            {"$ref": "#/$defs/report_file"},
        ],
        "$defs": {
            "operation": {**operation, "required": sorted({*operation.get("required", ()), "operation"})},
            "gateway_file": _gateway_file(),
            "watch_file": schema_of(grammar.WATCH_FILE),
            "codes_file": schema_of(grammar.CODES_FILE),
            "report_file": schema_of(grammar.REPORT_FILE),
            **kinds,
        },
    }


def _gateway_file() -> dict[str, Any]:
    """A file of kind "gateway": the options are those of the gateway that it names."""
    found = schema_of(grammar.gateway_file({}))
    found["properties"]["gateway"] = {"enum": list(registry.GATEWAYS)}
    found["properties"]["options"] = {"type": "object"}
    found["allOf"] = []
    for name, entry in registry.GATEWAYS.items():
        gateway: Gateway = registry.load(entry)()
        options = schema_of(TableOf(gateway.options()))
        is_it = {"properties": {"gateway": {"const": name}}}
        found["allOf"].append({"if": is_it, "then": {"properties": {"options": options}, "required": ["options"]}})
    return found


def _kind(name: str) -> dict[str, Any]:
    kind: Kind = registry.load(registry.KINDS[name])()
    return schema_of(TableOf({**grammar.OPERATION_KEYS, **kind.keys()}))


def schema_of(shape: Shape) -> dict[str, Any]:
    """The schema of one shape. A shape that this function does not know allows everything."""
    match shape:
        case TableOf():
            return _table(shape)
        case ListOf():
            found: dict[str, Any] = {"type": "array", "items": schema_of(shape.item)}
            if shape.min_items:
                found["minItems"] = shape.min_items
            if shape.max_items is not None:
                found["maxItems"] = shape.max_items
            return found
        case MapOf():
            found = {"type": "object", "additionalProperties": schema_of(shape.value)}
            if shape.key_pattern is not None:
                found["propertyNames"] = {"pattern": f"^(?:{shape.key_pattern})$"}
            return found
        case OneOf():
            return {"anyOf": [schema_of(each) for each in shape.shapes]}
    return _value(shape)


def _value(shape: Shape) -> dict[str, Any]:
    match shape:
        case Text():
            found: dict[str, Any] = {"type": "string"}
            if shape.choices is not None:
                found["enum"] = list(shape.names())
            if shape.pattern is not None:
                found["pattern"] = f"^(?:{shape.pattern})$"
            if shape.min_length:
                found["minLength"] = shape.min_length
            return found
        case Integer():
            limits = {"minimum": shape.minimum, "maximum": shape.maximum}
            return {"type": "integer", **{key: value for key, value in limits.items() if value is not None}}
        case Boolean():
            return {"type": "boolean"}
        case Number():
            return {"type": "number"}
        case Duration():
            return {"type": "string", "pattern": _DURATION}
        case FilePath():
            return {"type": "string", "minLength": 1}
        case Scalar():
            return {"not": {"type": ["array", "object"]}}
    return {}


def _table(shape: TableOf) -> dict[str, Any]:
    required = [name for name, field in shape.fields.items() if field.required]
    found: dict[str, Any] = {
        "type": "object",
        "properties": {name: _field(field) for name, field in shape.fields.items()},
        "additionalProperties": schema_of(shape.extra) if shape.extra is not None else False,
    }
    if required:
        found["required"] = required
    return found


def _field(field: Field) -> Mapping[str, Any]:
    found = schema_of(field.shape)
    text = " / ".join(part for part in (field.doc_zh, field.doc) if part)
    return {**found, "description": text} if text else found
