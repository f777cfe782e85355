"""OpenAPI 3.1 of a service of the contract over HTTP/JSON, made from the descriptors and their comments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from agent.errors import REFUSALS, reason_name
from agent.version import VERSION
from his_db.contract import ContractOperation, comment, is_map, is_required

_INTEGERS: Final = frozenset({FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32})
_LONGS: Final = frozenset({FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64})
_FORMS: Final[dict[str, dict[str, Any]]] = {
    "google.type.Date": {"type": "string", "format": "date", "examples": ["2026-11-28"]},
    "google.type.TimeOfDay": {"type": "string", "pattern": "^[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?$", "examples": ["08:30"]},
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "examples": ["1.5s"]},
}
_REFUSAL: Final = "Refusal"


def document(title: str, operations: dict[str, ContractOperation]) -> dict[str, Any]:
    """The document. ``operations`` by path, each a POST with the request as body."""
    schemas: dict[str, Any] = {_REFUSAL: _refusal()}
    paths = {path: {"post": _operation(about, schemas)} for path, about in operations.items()}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": VERSION},
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"}},
        },
        "security": [{"key": []}],
    }


def _operation(about: ContractOperation, schemas: dict[str, Any]) -> dict[str, Any]:
    refusal = {"application/json": {"schema": _reference(_REFUSAL)}}
    return {
        "operationId": about.name.rpartition(".")[2],
        "summary": comment(about.method.full_name),
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _message(about.request, schemas)}},
        },
        "responses": {
            "200": {
                "description": comment(about.response.full_name) or about.response.name,
                "content": {"application/json": {"schema": _message(about.response, schemas)}},
            },
            "default": {"description": "Refused: see reason.", "content": refusal},
        },
    }


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _message(descriptor: Descriptor, schemas: dict[str, Any]) -> dict[str, Any]:
    """A reference to the message's schema, which is made when it is met first."""
    name = descriptor.name
    if name not in schemas:
        schemas[name] = {}  # before its fields: a message may hold itself
        required = [field.name for field in descriptor.fields if is_required(field)]
        schemas[name] = {
            "type": "object",
            "description": comment(descriptor.full_name),
            "properties": dict(_properties(descriptor, schemas)),
            **({"required": required} if required else {}),
        }
    return _reference(name)


def _properties(descriptor: Descriptor, schemas: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for field in descriptor.fields:
        form = _form(field, schemas)
        if is_map(field):
            form = {"type": "object", "additionalProperties": {"type": "string"}}
        elif field.is_repeated:
            form = {"type": "array", "items": form}
        yield field.name, {**form, "description": comment(field.full_name)}


def _form(field: FieldDescriptor, schemas: dict[str, Any]) -> dict[str, Any]:
    if field.enum_type is not None:
        return {"type": "string", "enum": [value.name for value in field.enum_type.values if value.number]}
    if field.message_type is not None and not is_map(field):
        form = _FORMS.get(field.message_type.full_name)
        return dict(form) if form is not None else _message(field.message_type, schemas)
    kind = field.cpp_type
    if kind in _INTEGERS:
        return {"type": "integer", "format": "int32"}
    if kind in _LONGS:  # protobuf's JSON writes 64 bits as text and takes both
        return {"type": ["integer", "string"], "format": "int64"}
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return {"type": "boolean"}
    return {"type": "string"}


def _refusal() -> dict[str, Any]:
    reasons = sorted(reason_name(reason) for reason in REFUSALS if reason)
    return {
        "type": "object",
        "description": "Why a call was refused. Only code UNAVAILABLE means: send the same request again.",
        "required": ["code", "reason", "message"],
        "properties": {
            "code": {"type": "string", "description": "google.rpc.Code."},
            "reason": {"type": "string", "enum": reasons, "description": "The reason, for programs."},
            "message": {"type": "string", "description": "The reason in Chinese, for the window's screen."},
            "retry_after_seconds": {"type": "number", "description": "When to ask again. Absent: do not."},
            "violations": {
                "type": "array",
                "description": "Fields that break a rule.",
                "items": {
                    "type": "object",
                    "properties": {
                        "field": {"type": "string"},
                        "rule": {"type": "string"},
                        "message": {"type": "string"},
                    },
                },
            },
        },
    }
