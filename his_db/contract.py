"""The contract `his160.v1` as data: its operations, its required and personal fields, its comments and enum names.

Beside it, `his160.site.v1`: operations that the agent itself runs on the hospital's systems between the steps of a
command (merchant account, 医保, the HIS side of an insured registration). They are mapped like the others and served to
nobody.

Everything is read from the generated descriptors, so that a new RPC or field needs no line here. Comments come from
the descriptor set beside the generated code, which is loaded when the first comment is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.resources import files
from types import MappingProxyType
from typing import Final

from google.api import field_behavior_pb2
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

PACKAGE: Final = "his160.v1"
SITE_PACKAGE: Final = "his160.site.v1"
_MODULES: Final = (
    "agent",
    "appointment",
    "catalog",
    "desk",
    "event",
    "insurance",
    "patient",
    "payment",
    "relay",
    "report",
)
_SITE_MODULES: Final = ("insurance_gateway", "merchant", "mobile_payment", "registration")
_RELAY: Final = frozenset({"RelayService"})
# Answered by the agent from its own state.
_OWN_SERVICES: Final = frozenset({"AgentService", "EventService"})
# Built by the agent from other mappings (steps 4 and 5 bring them): no operation file can say anything about these.
_BUILT_SERVICES: Final = frozenset({"DeskService"})
_BUILT_OPERATIONS: Final = frozenset({"ReportService.ListReports", "ReportService.ReadReport"})
_PATIENT_SERVICE: Final = "PatientService"


@dataclass(frozen=True, slots=True)
class ContractOperation:
    """One RPC of the contract.

    `list_field` is the name of the only repeated message field of the response, or None. `page_size` and
    `page_maximum` are 0 for an operation that does not page. `is_own`: the agent answers it from its own state, always.
    `is_mappable` is false where an operation file has nothing to say. `is_internal`: of `his160.site.v1`; the agent
    alone runs it.
    """

    name: str
    method: MethodDescriptor
    full_method: str
    request: Descriptor
    response: Descriptor
    request_class: type[Message]
    response_class: type[Message]
    is_read: bool
    server_streaming: bool
    list_field: str | None
    is_own: bool
    is_mappable: bool
    is_internal: bool
    page_size: int
    page_maximum: int

    @property
    def has_own_fields(self) -> bool:
        """Whether the response has more than its list and the token of the next page."""
        return any(field.name not in {self.list_field, "next_page_token"} for field in self.response.fields)


@cache
def _operations() -> Mapping[str, ContractOperation]:
    found: dict[str, ContractOperation] = {}
    modules = [f"{PACKAGE}.{module}_pb2" for module in _MODULES]
    modules += [f"{SITE_PACKAGE}.{module}_pb2" for module in _SITE_MODULES]
    for module in modules:
        for service in import_module(module).DESCRIPTOR.services_by_name.values():
            if service.name not in _RELAY:
                for method in service.methods:
                    found[f"{service.name}.{method.name}"] = _operation(method)
    return MappingProxyType(dict(sorted(found.items())))


def _operation(method: MethodDescriptor) -> ContractOperation:
    package, service = method.containing_service.file.package, method.containing_service.name
    name = f"{service}.{method.name}"
    response = method.output_type
    lists = [field.name for field in response.fields if is_message_list(field)]
    pages = "page_token" in method.input_type.fields_by_name
    default, maximum = (20, 100) if service == _PATIENT_SERVICE else (200, 1000)
    level = method.GetOptions().idempotency_level
    return ContractOperation(
        name=name,
        method=method,
        full_method=f"/{package}.{service}/{method.name}",
        request=method.input_type,
        response=response,
        request_class=GetMessageClass(method.input_type),
        response_class=GetMessageClass(response),
        is_read=level == descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS,
        server_streaming=method.server_streaming,
        list_field=lists[0] if len(lists) == 1 else None,
        is_own=service in _OWN_SERVICES,
        is_internal=package == SITE_PACKAGE,
        is_mappable=service not in _OWN_SERVICES | _BUILT_SERVICES and name not in _BUILT_OPERATIONS,
        page_size=default if pages else 0,
        page_maximum=maximum if pages else 0,
    )


def operation_names() -> tuple[str, ...]:
    """`"CatalogService.ListSlots"` and so on, by name: every service that the agent serves."""
    return tuple(name for name, operation in _operations().items() if not operation.is_internal)


def operation(name: str) -> ContractOperation:
    """The operation `name`, served or internal. Raises KeyError when there is none."""
    return _operations()[name]


def mappable_names() -> tuple[str, ...]:
    """The operations that a mapping file may implement, internal ones among them."""
    return tuple(name for name, operation in _operations().items() if operation.is_mappable)


@cache
def required_fields(descriptor: Descriptor) -> tuple[str, ...]:
    """Names of the fields marked REQUIRED (google.api.field_behavior), in the order of the file."""
    return tuple(field.name for field in descriptor.fields if is_required(field))


def is_required(field: FieldDescriptor) -> bool:
    """Whether the field carries `(google.api.field_behavior) = REQUIRED`."""
    behaviour = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return field_behavior_pb2.REQUIRED in behaviour


def is_personal(field: FieldDescriptor) -> bool:
    """Whether the field holds personal data (`debug_redact`): its value belongs into no log, metric or error."""
    return bool(field.GetOptions().debug_redact)


def is_free_text(field: FieldDescriptor) -> bool:
    """Whether the field holds somebody's own words (a reason typed at a window): they may name a patient, so they are
    kept and passed on, but shown to nobody who did not ask for personal data."""
    return field.name == "note" and field.type == field.TYPE_STRING


def is_map(field: FieldDescriptor) -> bool:
    """Whether the field is a `map<…>`."""
    entry = field.message_type
    return entry is not None and bool(entry.GetOptions().map_entry)


def is_message_list(field: FieldDescriptor) -> bool:
    """Whether the field repeats a message (a map is none)."""
    return field.is_repeated and field.message_type is not None and not is_map(field)


def enum_prefix(enum: EnumDescriptor) -> str:
    """What stands before the short name of each value: `SLOT_STATE_` for `SlotState`."""
    letters = [f"_{char}" if char.isupper() and at else char for at, char in enumerate(enum.name)]
    return "".join(letters).upper() + "_"


@cache
def enum_numbers(enum: EnumDescriptor) -> Mapping[str, int]:
    """Short name -> number, the unspecified value (0) left out: `{"FREE": 1, …}`."""
    prefix = enum_prefix(enum)
    return MappingProxyType({value.name.removeprefix(prefix): value.number for value in enum.values if value.number})


@cache
def enum_names(enum: EnumDescriptor) -> Mapping[int, str]:
    """Number -> short name, the unspecified value (0) left out."""
    return MappingProxyType({number: name for name, number in enum_numbers(enum).items()})


def comment(full_name: str) -> str:
    """The comment of an element, by its full name (`his160.v1.Slot.state`), as one text. Empty when it has none."""
    return _comments().get(full_name, "")


@cache
def _comments() -> Mapping[str, str]:
    found: dict[str, str] = {}
    for file in _descriptor_set().file:
        names = _Names(file)
        for location in file.source_code_info.location:
            name = names.at(tuple(location.path))
            text = location.leading_comments or location.trailing_comments
            if name and text:
                found[name] = " ".join(line.strip() for line in text.strip().splitlines())
    return MappingProxyType(found)


@cache
def _descriptor_set() -> descriptor_pb2.FileDescriptorSet:
    found = descriptor_pb2.FileDescriptorSet()
    found.ParseFromString(files("his160").joinpath("descriptor_set.binpb").read_bytes())
    return found


class _Names:
    """Full names of the elements of one file, by their path in it (descriptor.proto, SourceCodeInfo.Location.path)."""

    __slots__ = ("_names",)

    def __init__(self, file: descriptor_pb2.FileDescriptorProto) -> None:
        self._names: dict[tuple[int, ...], str] = {}
        for at, message in enumerate(file.message_type):
            self._message((4, at), file.package, message)
        for at, enum in enumerate(file.enum_type):
            self._enum((5, at), file.package, enum)
        for at, service in enumerate(file.service):
            name = f"{file.package}.{service.name}"
            self._names[6, at] = name
            for index, method in enumerate(service.method):
                self._names[6, at, 2, index] = f"{name}.{method.name}"

    def at(self, path: tuple[int, ...]) -> str:
        return self._names.get(path, "")

    def _message(self, path: tuple[int, ...], scope: str, message: descriptor_pb2.DescriptorProto) -> None:
        name = f"{scope}.{message.name}"
        self._names[path] = name
        for index, field in enumerate(message.field):
            self._names[(*path, 2, index)] = f"{name}.{field.name}"
        for index, nested in enumerate(message.nested_type):
            self._message((*path, 3, index), name, nested)
        for index, enum in enumerate(message.enum_type):
            self._enum((*path, 4, index), name, enum)

    def _enum(self, path: tuple[int, ...], scope: str, enum: descriptor_pb2.EnumDescriptorProto) -> None:
        name = f"{scope}.{enum.name}"
        self._names[path] = name
        for index, value in enumerate(enum.value):
            self._names[(*path, 2, index)] = f"{name}.{value.name}"
