"""Personal fields go at every depth of every message of the contract, and nothing else does."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import his160.v1
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from his160.v1 import appointment_pb2

from his_db.contract import is_free_text, is_map, is_personal
from sync.audit import masked
from sync.redaction import clear_personal, clear_personal_of_all, for_showing


def messages() -> list[Descriptor]:
    names = [f"his160.v1.{module.name}" for module in pkgutil.iter_modules(his160.v1.__path__)]
    files = [importlib.import_module(name).DESCRIPTOR for name in names if name.endswith("_pb2")]
    return [found for file in files for found in file.message_types_by_name.values()]


def filled(descriptor: Descriptor, depth: int) -> Message:
    """Every field set, a oneof's last; messages down to a depth."""
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if is_map(field):
            continue
        if field.message_type is not None:
            if depth and not field.is_repeated:
                getattr(message, field.name).CopyFrom(filled(field.message_type, depth - 1))
            elif depth:
                getattr(message, field.name).add().CopyFrom(filled(field.message_type, depth - 1))
            continue
        value: Any = {"string": "x", "bytes": b"x"}.get(_kind(field), 1)
        if field.is_repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)
    return message


def _kind(field: FieldDescriptor) -> str:
    return {field.TYPE_STRING: "string", field.TYPE_BYTES: "bytes"}.get(field.type, "number")


def cleared(message: Message) -> None:
    """The rule, walked without a plan: only texts that need no hiding are left as they are."""
    for field, value in message.ListFields():
        if is_personal(field):
            message.ClearField(field.name)
        elif field.message_type is not None and not is_map(field):
            for part in value if field.is_repeated else (value,):
                cleared(part)


def texts(message: Message) -> list[str]:
    """Everything that somebody wrote in their own words, at any depth."""
    found = []
    for field, value in message.ListFields():
        if is_free_text(field):
            found.append(value)
        elif field.message_type is not None and not is_map(field):
            for part in value if field.is_repeated else (value,):
                found += texts(part)
    return found


@pytest.mark.parametrize("hide_text", [False, True])
def test_the_plan_clears_what_a_walk_clears(hide_text: bool) -> None:
    personal = hidden = 0
    for descriptor in messages():
        wanted, found = filled(descriptor, 3), filled(descriptor, 3)
        cleared(wanted)
        clear_personal(found, hide_text=hide_text)
        personal += wanted != filled(descriptor, 3)
        if hide_text:
            assert set(texts(found)) <= {"***(1)"}, descriptor.full_name
            hidden += bool(texts(found))
        else:
            assert found == wanted, descriptor.full_name
    assert personal > 20
    assert bool(hidden) is hide_text


@pytest.mark.parametrize("descriptor", messages(), ids=lambda found: found.name)
def test_many_together_as_each_alone(descriptor: Descriptor) -> None:
    wanted, found = filled(descriptor, 3), [filled(descriptor, 3), filled(descriptor, 0), filled(descriptor, 3)]
    least = filled(descriptor, 0)
    cleared(wanted)
    cleared(least)
    clear_personal_of_all(found)
    assert found == [wanted, least, wanted]
    clear_personal_of_all([])


@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("descriptor", messages(), ids=lambda found: found.name)
def test_the_audit_shows_what_protobuf_would(descriptor: Descriptor, depth: int) -> None:
    """Plain messages are written without protobuf's JSON, in the same words."""
    message = filled(descriptor, depth)
    wanted = json_format.MessageToJson(
        for_showing(message), indent=None, preserving_proto_field_name=True, ensure_ascii=False
    )
    assert masked(message) == wanted


def test_plain_requests_need_no_json_of_protobuf(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> str:
        raise AssertionError("asked")

    monkeypatch.setattr(json_format, "MessageToJson", never)
    request = appointment_pb2.BookAppointmentRequest(request_id="r1", order_no='单"1', lock_id="")
    assert masked(request) == '{"request_id": "r1", "order_no": "单\\"1"}'
