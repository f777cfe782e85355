"""The port to what keeps services on a machine: systemd, the Windows service manager.

Implementations: ``service_install/systems/*.py``, listed in ``service_install/registry.py``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final, Protocol

from agent.config import Settings
from service_install.plan import Plan, ServiceError

DEFAULT_NAME: Final = "his160"
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class ServiceRequest:
    """What a person wants installed.

    ``config``: absolute path; ``account``: under which the service runs, empty: the system's choice for us;
    ``credentials``: name -> file, handed to the service by the system; ``password``: of a Windows account;
    ``force``: also over a file that a person has edited; ``start``: start it at the end.
    """

    name: str
    config: Path
    account: str = ""
    credentials: Mapping[str, Path] = field(default_factory=dict)
    password: str = field(default="", repr=False)
    force: bool = False
    start: bool = False


@dataclass(frozen=True, slots=True)
class ServiceState:
    """How a service is now. ``word``: the system's own (active, failed, running …); ``detail``: for people."""

    installed: bool
    running: bool
    word: str
    process: int = 0
    detail: Sequence[str] = ()


class ServiceSystem(Protocol):
    """Every method raises ServiceError for what the system refuses."""

    def check_rights(self) -> None:
        """Raises ServiceError when this person may not install services."""

    def environment(self, request: ServiceRequest) -> Mapping[str, str]:
        """The variables that the service will see and the configuration may refer to. Raises ServiceError."""

    def text(self, request: ServiceRequest, settings: Settings) -> str:
        """What would be installed, as the system reads it. Needs no rights, changes nothing."""

    def install(self, request: ServiceRequest, settings: Settings) -> Plan:
        """The plan of an installation. Needs no rights, changes nothing."""

    def uninstall(self, name: str, *, force: bool) -> Plan:
        """The plan of a removal; state, configuration and logs stay. Needs no rights, changes nothing."""

    def start(self, name: str) -> None:
        """Start, and wait until it serves."""

    def stop(self, name: str) -> None:
        """Stop, and wait until it has ended."""

    def restart(self, name: str) -> None:
        """Stop when it runs, then start."""

    def state(self, name: str) -> ServiceState:
        """How it is now."""


def checked_name(name: str) -> str:
    """The name itself. Raises ServiceError for one that a service cannot have everywhere."""
    if not _NAME.fullmatch(name):
        raise ServiceError(
            f"服务名 {name!r} 无效：须以字母开头，只含字母、数字、-、_",
            f"{name!r} is no name for a service: a letter, then letters, digits, - and _",
        )
    return name


def stop_time(settings: Settings) -> timedelta:
    """How long a stop may take: the grace for calls, the last batch of events, closing, and a margin."""
    return settings.limits.grace + timedelta(seconds=20)
