"""Who may call what: the one table, by kind of identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from his160.v1 import reason_pb2

from agent.errors import CallRefused
from agent.handler import Identity, IdentityKind
from his_db.contract import ContractOperation

Kinds = frozenset[IdentityKind]


@dataclass(frozen=True, slots=True)
class Permission:
    """Which kinds of identity may call the reads, and which the rest, of one service."""

    reads: Kinds
    writes: Kinds


_RELAY: Final[Kinds] = frozenset({"relay", "local"})
_LOOKS: Final[Kinds] = frozenset({"relay", "operator", "local"})
_DESK: Final[Kinds] = frozenset({"desk", "local"})
_NOBODY: Final[Kinds] = frozenset()

# `local` exists only where the configuration allows an insecure server on the loopback: a bench.
# An operator looks, and never writes into the HIS; a window program reaches the desk service alone; `site` is an agent
# and calls nobody.
PERMISSIONS: Final[Mapping[str, Permission]] = MappingProxyType(
    {
        "AgentService": Permission(reads=_LOOKS, writes=_NOBODY),
        "AppointmentService": Permission(reads=_LOOKS, writes=_RELAY),
        "CatalogService": Permission(reads=_LOOKS, writes=_RELAY),
        "DeskService": Permission(reads=_DESK, writes=_DESK),
        # Reading events is the relay's: whoever acks takes them from it.
        "EventService": Permission(reads=_RELAY, writes=_RELAY),
        "InsuranceService": Permission(reads=_LOOKS, writes=_RELAY),
        "PatientService": Permission(reads=_LOOKS, writes=_RELAY),
        "PaymentService": Permission(reads=_LOOKS, writes=_RELAY),
        "ReportService": Permission(reads=_LOOKS, writes=_RELAY),
    }
)


def allowed_kinds(operation: ContractOperation) -> Kinds:
    """The kinds of identity that may call ``operation``; nobody for a service without a row."""
    permission = PERMISSIONS.get(operation.method.containing_service.name)
    if permission is None:
        return _NOBODY
    return permission.reads if operation.is_read else permission.writes


def authorize(operation: ContractOperation, identity: Identity) -> None:
    """Raise CallRefused (NOT_AUTHORIZED) unless ``identity`` may call ``operation``."""
    if identity.kind not in allowed_kinds(operation):
        raise CallRefused(reason_pb2.REASON_NOT_AUTHORIZED, f"{identity} may not call {operation.name}")
