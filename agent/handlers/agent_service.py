"""AgentService: what this agent is, can do, and how it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final, Protocol

from google.protobuf.message import Message
from his160.v1 import agent_pb2

from agent.handler import CallContext, Handler
from agent.status import StatusBoard
from his_db.contract import operation, operation_names


class Capable(Protocol):
    """What a site can do with one operation (``his_db.generation.Capability``)."""

    @property
    def operation(self) -> str: ...

    @property
    def available(self) -> bool: ...

    @property
    def note(self) -> str: ...


class Abilities(Protocol):
    """What the running generation of mappings can do (``his_db.generation.Generation``)."""

    @property
    def revision(self) -> str: ...

    def capabilities(self) -> Iterable[Capable]: ...


# What the agent answers itself from mapped reads.
_BUILT_ON: Final[Mapping[str, str]] = MappingProxyType(
    {
        "DeskService.CancelOnSite": "AppointmentService.GetAppointment",
        "DeskService.RefundOnSite": "AppointmentService.GetAppointment",
        "DeskService.CheckIn": "AppointmentService.GetAppointment",
        "DeskService.GetOrder": "AppointmentService.GetAppointment",
        "DeskService.SuspendSchedule": "CatalogService.ListSchedules",
        "DeskService.ReplaceDoctor": "CatalogService.ListSchedules",
    }
)


def capabilities_of(generation: Abilities) -> list[agent_pb2.Capability]:
    """Every operation of the contract, ordered by name, available or not."""
    mapped = {capability.operation: capability for capability in generation.capabilities()}
    found = []
    for name in operation_names():
        capability = mapped.get(_BUILT_ON.get(name, name))
        available = operation(name).is_own or (capability is not None and capability.available)
        note = "" if available or capability is None else capability.note
        found.append(agent_pb2.Capability(operation=name, available=available, note=note))
    return found


def available_operations(generation: Abilities) -> tuple[str, ...]:
    """Names of the operations that can be called, as the relay link announces them."""
    return tuple(capability.operation for capability in capabilities_of(generation) if capability.available)


def get_info(site: str, instance: str, version: str, generation: Callable[[], Abilities]) -> Handler:
    """AgentService.GetInfo. ``generation`` is asked at every call: a reload may have changed it."""

    async def handle(request: Message, context: CallContext) -> Message:
        current = generation()
        return agent_pb2.GetInfoResponse(
            site=site,
            instance=instance,
            version=version,
            mapping_revision=current.revision,
            capabilities=capabilities_of(current),
        )

    return handle


def get_status(board: StatusBoard) -> Handler:
    """AgentService.GetStatus: the one snapshot."""

    async def handle(request: Message, context: CallContext) -> Message:
        return await board.snapshot()

    return handle
