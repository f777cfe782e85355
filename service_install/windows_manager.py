"""The port to Windows: its service manager, event log, access lists, rights. ``windows_pywin32`` is the real one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final, Protocol

LOCAL_SYSTEM: Final = "LocalSystem"


@dataclass(frozen=True, slots=True)
class ServiceDefinition:
    """What the manager is told of a service. ``account``: as the manager writes it; ``password``: of a person's."""

    name: str
    display: str
    command: str
    account: str
    automatic: bool = True
    password: str = field(default="", repr=False, compare=False)

    def digest(self) -> str:
        """By which an edited definition is recognised; the display name and the password are not part of it."""
        text = "\0".join((self.name, self.command, self.account.lower(), str(self.automatic)))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How the manager treats a service. ``restarts``: waits before the restarts after a failure, the last for all
    further ones; ``reset``: time without a failure after which counting begins anew."""

    description: str
    delayed: bool
    restarts: Sequence[timedelta]
    reset: timedelta
    preshutdown: timedelta


@dataclass(frozen=True, slots=True)
class ProcessState:
    """SERVICE_STATUS_PROCESS. ``state``: of ``windows_status.State``, or PAUSED and its pendings (5-7)."""

    state: int
    process: int = 0
    exit_code: int = 0
    service_code: int = 0
    checkpoint: int = 0
    wait_hint: timedelta = timedelta(0)


class WindowsManager(Protocol):
    """Every method raises ServiceError for what Windows refuses."""

    def may_install(self) -> bool:
        """Whether this person may change services."""

    def machine_environment(self) -> Mapping[str, str]:
        """The variables that a service sees: the machine's, not those of the person who installs it."""

    def definition(self, name: str) -> ServiceDefinition | None:
        """As it is registered; None when there is no such service."""

    def create(self, wanted: ServiceDefinition) -> None:
        """Register a service."""

    def change(self, wanted: ServiceDefinition) -> None:
        """Other command, account or start of a registered service."""

    def delete(self, name: str) -> None:
        """Remove it, and wait until it is gone."""

    def mark(self, name: str) -> str:
        """The digest that was noted at its installation; empty: it is not ours."""

    def set_mark(self, name: str, digest: str) -> None:
        """Note the digest."""

    def behave(self, name: str, wanted: Behaviour) -> Sequence[str]:
        """Set description, delayed start, recovery and pre-shutdown time; what this Windows does not know, by name."""

    def behaves(self, name: str, wanted: Behaviour) -> bool:
        """Whether all that can be read back is as wanted, and all can be read back."""

    def start(self, name: str) -> None:
        """Ask it to start; does not wait."""

    def stop(self, name: str) -> None:
        """Ask it to stop; does not wait. Nothing when it does not run."""

    def state(self, name: str) -> ProcessState:
        """How it is now."""

    def has_event_source(self, name: str) -> bool:
        """Whether the event log knows the name."""

    def add_event_source(self, name: str) -> None:
        """Make the name known to the event log."""

    def remove_event_source(self, name: str) -> None:
        """Forget it."""

    def access(self, path: Path) -> str:
        """The access list of a path, as SDDL."""

    def set_access(self, path: Path, sddl: str) -> None:
        """Put an access list back."""

    def grant(self, path: Path, account: str, *, write: bool) -> None:
        """Let an account read (and change) a path and all below it."""

    def is_granted(self, path: Path, account: str, *, write: bool) -> bool:
        """Whether its access list says so."""

    def has_logon_right(self, account: str) -> bool:
        """Whether the account may be used for a service."""

    def set_logon_right(self, account: str, *, allowed: bool) -> None:
        """Give or take that right."""


def service_sid(name: str) -> str:
    """The SID of ``NT SERVICE\\name``: S-1-5-80 and five parts of the SHA-1 of the upper-case name in UTF-16."""
    digest = hashlib.sha1(name.upper().encode("utf-16-le"), usedforsecurity=False).digest()
    parts = [int.from_bytes(digest[at : at + 4], "little") for at in range(0, 20, 4)]
    return "S-1-5-80-" + "-".join(map(str, parts))
