"""A service manager, event log and access lists in memory, as strict as Windows is: what it would refuse, this refuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from service_install.plan import ServiceError
from service_install.windows_manager import Behaviour, ProcessState, ServiceDefinition

NEVER_STARTED = 1077


def refused(function: str, code: int) -> ServiceError:
    return ServiceError(f"Windows 拒绝 {function}（{code}）", f"Windows refuses {function} ({code})")


@dataclass(slots=True)
class Registered:
    """One service of the fake. ``script``: the states that a start goes through, one a look."""

    definition: ServiceDefinition
    mark: str = ""
    behaviour: Behaviour | None = None
    state: ProcessState = field(default_factory=lambda: ProcessState(1, exit_code=NEVER_STARTED))
    coming: list[ProcessState] = field(default_factory=list)


class FakeWindows:
    """Implements WindowsManager."""

    def __init__(self) -> None:
        self.admin = True
        self.services: dict[str, Registered] = {}
        self.sources: set[str] = set()
        self.lists: dict[Path, list[tuple[str, bool]]] = {}
        self.rights: set[str] = set()
        self.environment: dict[str, str] = {}
        self.starting = [
            ProcessState(2, 4711, checkpoint=1),
            ProcessState(2, 4711, checkpoint=2),
            ProcessState(4, 4711),
        ]
        self.unknown: tuple[str, ...] = ()
        self.fail_at = ""
        self.accounts = {"localsystem", r"nt authority\localservice", r"hospital\his160"}
        self.calls: list[str] = []

    def _enter(self, call: str) -> None:
        self.calls.append(call)
        if call == self.fail_at:
            raise refused(call, 5)

    def _service(self, name: str) -> Registered:
        if name not in self.services:
            raise refused("OpenService", 1060)
        return self.services[name]

    def may_install(self) -> bool:
        return self.admin

    def machine_environment(self) -> Mapping[str, str]:
        return self.environment

    def definition(self, name: str) -> ServiceDefinition | None:
        found = self.services.get(name)
        return found.definition if found else None

    def create(self, wanted: ServiceDefinition) -> None:
        self._enter("create")
        if wanted.name in self.services:
            raise refused("CreateService", 1073)
        account = wanted.account.lower()
        if account not in self.accounts and account != f"nt service\\{wanted.name.lower()}":
            raise refused("CreateService", 1057)
        if account.startswith("hospital\\") and not wanted.password:
            raise refused("CreateService", 1326)
        self.services[wanted.name] = Registered(replace(wanted, password=""))

    def change(self, wanted: ServiceDefinition) -> None:
        self._enter("change")
        self._service(wanted.name).definition = replace(wanted, password="")

    def delete(self, name: str) -> None:
        self._enter("delete")
        if self._service(name).state.state != 1:
            raise refused("DeleteService", 1072)  # marked for deletion until it stops
        del self.services[name]

    def mark(self, name: str) -> str:
        found = self.services.get(name)
        return found.mark if found else ""

    def set_mark(self, name: str, digest: str) -> None:
        self._enter("set_mark")
        self._service(name).mark = digest

    def behave(self, name: str, wanted: Behaviour) -> Sequence[str]:
        self._enter("behave")
        self._service(name).behaviour = wanted
        return self.unknown

    def behaves(self, name: str, wanted: Behaviour) -> bool:
        return not self.unknown and self._service(name).behaviour == wanted

    def start(self, name: str) -> None:
        self._enter("start")
        service = self._service(name)
        if service.state.state != 1:
            raise refused("StartService", 1056)
        service.coming = list(self.starting)
        service.state = service.coming.pop(0)

    def stop(self, name: str) -> None:
        self._enter("stop")
        service = self._service(name)
        if service.state.state in (2, 3):
            raise refused("ControlService", 1061)
        service.coming = [ProcessState(3, 4711, checkpoint=2), ProcessState(1)]
        service.state = ProcessState(3, 4711, checkpoint=1, wait_hint=timedelta(seconds=10))

    def state(self, name: str) -> ProcessState:
        service = self._service(name)
        found = service.state
        if service.coming:
            service.state = service.coming.pop(0)
        return found

    def has_event_source(self, name: str) -> bool:
        return name in self.sources

    def add_event_source(self, name: str) -> None:
        self._enter("add_event_source")
        self.sources.add(name)

    def remove_event_source(self, name: str) -> None:
        self._enter("remove_event_source")
        if name not in self.sources:
            raise refused("RegDeleteKey", 2)
        self.sources.remove(name)

    def access(self, path: Path) -> str:
        if not path.exists():
            raise refused("GetNamedSecurityInfo", 2)
        return repr(self.lists.get(path, []))

    def set_access(self, path: Path, sddl: str) -> None:
        self._enter("set_access")
        self.lists[path] = eval(sddl)

    def grant(self, path: Path, account: str, *, write: bool) -> None:
        self._enter("grant")
        if not path.exists():
            raise refused("SetNamedSecurityInfo", 2)
        self.lists.setdefault(path, []).append((account, write))

    def is_granted(self, path: Path, account: str, *, write: bool) -> bool:
        return any(who == account and (may or not write) for who, may in self.lists.get(path, []))

    def has_logon_right(self, account: str) -> bool:
        return account in self.rights

    def set_logon_right(self, account: str, *, allowed: bool) -> None:
        self._enter("set_logon_right")
        (self.rights.add if allowed else self.rights.discard)(account)

    def snapshot(self) -> tuple[object, ...]:
        """Everything that a plan could change."""
        return (
            repr(self.services),
            sorted(self.sources),
            repr(sorted((k, v) for k, v in self.lists.items() if v)),
            sorted(self.rights),
        )
