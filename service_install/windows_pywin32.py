"""The real Windows, by pywin32. Imported on Windows alone; every error of it becomes a ServiceError."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from service_install.plan import ServiceError
from service_install.windows_manager import Behaviour, ProcessState, ServiceDefinition, service_sid

_PARAMETERS: Final = r"SYSTEM\CurrentControlSet\Services\{name}\Parameters"
_ENVIRONMENT: Final = r"SYSTEM\CurrentControlSet\Control\Session Manager\Environment"
_SOURCES: Final = r"SYSTEM\CurrentControlSet\Services\EventLog\Application"
_MARK: Final = "His160Digest"
_VIRTUAL: Final = "nt service\\"
_LOGON: Final = "SeServiceLogonRight"
_ABSENT: Final = 1060  # ERROR_SERVICE_DOES_NOT_EXIST
_NOT_ACTIVE: Final = 1062
_INVALID_LEVEL: Final = 124  # a setting that this Windows (or wine) does not know
_NO_SUCH_FILE: Final = 2
_INHERIT: Final = 3  # OBJECT_INHERIT_ACE | CONTAINER_INHERIT_ACE
_READ: Final = 0x1200A9  # FILE_GENERIC_READ | FILE_GENERIC_EXECUTE
_CHANGE: Final = 0x1301BF  # the rights that Windows calls "modify"
_GONE_SECONDS: Final = 10.0

_service: Any = import_module("win32service")
_security: Any = import_module("win32security")
_registry: Any = import_module("winreg")
_errors: Any = import_module("pywintypes")


@contextmanager
def _told() -> Iterator[None]:
    """Errors of Windows as ServiceError."""
    try:
        yield
    except _errors.error as error:
        raise ServiceError(
            f"Windows 拒绝 {error.funcname}（{error.winerror}）：{error.strerror}",
            f"Windows refuses {error.funcname} ({error.winerror}): {error.strerror}",
        ) from error
    except OSError as error:
        raise ServiceError(f"Windows 拒绝：{error.strerror}", f"Windows refuses: {error.strerror}") from error


class Pywin32Manager:
    """Implements WindowsManager."""

    def may_install(self) -> bool:
        """Whether the service manager lets us create services: asked, not guessed from groups."""
        try:
            handle = _service.OpenSCManager(None, None, _service.SC_MANAGER_CREATE_SERVICE)
        except _errors.error:
            return False
        _service.CloseServiceHandle(handle)
        return True

    def machine_environment(self) -> Mapping[str, str]:
        """Of the registry, where the service manager takes it from."""
        found: dict[str, str] = {}
        with _told(), _registry.OpenKey(_registry.HKEY_LOCAL_MACHINE, _ENVIRONMENT) as key:
            for index in range(_registry.QueryInfoKey(key)[1]):
                name, value, _ = _registry.EnumValue(key, index)
                found[name] = str(value)
        return found

    def definition(self, name: str) -> ServiceDefinition | None:
        """By QueryServiceConfig."""
        with _told(), self._open(name) as handle:
            if handle is None:
                return None
            _, start, _, command, _, _, _, account, display = _service.QueryServiceConfig(handle)
            return ServiceDefinition(name, display, command, account, start == _service.SERVICE_AUTO_START)

    def create(self, wanted: ServiceDefinition) -> None:
        """By CreateService."""
        with _told(), self._manager() as manager:
            handle = _service.CreateService(
                manager,
                wanted.name,
                wanted.display,
                _service.SERVICE_ALL_ACCESS,
                _service.SERVICE_WIN32_OWN_PROCESS,
                _start_of(wanted),
                _service.SERVICE_ERROR_NORMAL,
                wanted.command,
                None,
                0,
                None,
                wanted.account,
                wanted.password or None,
            )
            _service.CloseServiceHandle(handle)

    def change(self, wanted: ServiceDefinition) -> None:
        """By ChangeServiceConfig."""
        same = _service.SERVICE_NO_CHANGE
        with _told(), self._open(wanted.name) as handle:
            _service.ChangeServiceConfig(
                handle,
                same,
                _start_of(wanted),
                same,
                wanted.command,
                None,
                0,
                None,
                wanted.account,
                wanted.password or None,
                wanted.display,
            )

    def delete(self, name: str) -> None:
        """By DeleteService; it is gone when the last handle (of a services window, say) is closed."""
        with _told(), self._open(name) as handle:
            if handle is not None:
                _service.DeleteService(handle)
        until = time.monotonic() + _GONE_SECONDS
        while self.definition(name) is not None:
            if time.monotonic() > until:
                raise ServiceError(
                    f"服务 {name} 已标记删除，但仍被占用",
                    f"the service {name} is marked for deletion, but still in use",
                    fix_zh="请关闭“服务”窗口和任务管理器后重试",
                    fix="close the Services window and the task manager, then try again",
                )
            time.sleep(0.1)

    def mark(self, name: str) -> str:
        """A value below the service's own key, which goes with it."""
        try:
            with _registry.OpenKey(_registry.HKEY_LOCAL_MACHINE, _PARAMETERS.format(name=name)) as key:
                return str(_registry.QueryValueEx(key, _MARK)[0])
        except OSError:
            return ""

    def set_mark(self, name: str, digest: str) -> None:
        """As ``mark``."""
        with _told(), _registry.CreateKey(_registry.HKEY_LOCAL_MACHINE, _PARAMETERS.format(name=name)) as key:
            _registry.SetValueEx(key, _MARK, 0, _registry.REG_SZ, digest)

    def behave(self, name: str, wanted: Behaviour) -> Sequence[str]:
        """By ChangeServiceConfig2."""
        unknown: list[str] = []
        with _told(), self._open(name) as handle:
            for what, level, value in _levels(wanted):
                try:
                    _service.ChangeServiceConfig2(handle, level, value)
                except _errors.error as error:
                    if error.winerror != _INVALID_LEVEL:
                        raise
                    unknown.append(what)
        return unknown

    def behaves(self, name: str, wanted: Behaviour) -> bool:
        """By QueryServiceConfig2."""
        with _told(), self._open(name) as handle:
            for _, level, value in _levels(wanted):
                try:
                    found = _service.QueryServiceConfig2(handle, level)
                except _errors.error as error:
                    if error.winerror != _INVALID_LEVEL:
                        raise
                    return False
                if _comparable(found) != _comparable(value):
                    return False
        return True

    def start(self, name: str) -> None:
        """By StartService."""
        with _told(), self._open(name) as handle:
            _service.StartService(handle, None)

    def stop(self, name: str) -> None:
        """By ControlService."""
        with _told(), self._open(name) as handle:
            try:
                _service.ControlService(handle, _service.SERVICE_CONTROL_STOP)
            except _errors.error as error:
                if error.winerror != _NOT_ACTIVE:
                    raise

    def state(self, name: str) -> ProcessState:
        """By QueryServiceStatusEx."""
        with _told(), self._open(name) as handle:
            found = _service.QueryServiceStatusEx(handle)
        return ProcessState(
            state=found["CurrentState"],
            process=found["ProcessId"],
            exit_code=found["Win32ExitCode"],
            service_code=found["ServiceSpecificExitCode"],
            checkpoint=found["CheckPoint"],
            wait_hint=timedelta(milliseconds=found["WaitHint"]),
        )

    def has_event_source(self, name: str) -> bool:
        """Below the Application log."""
        try:
            _registry.CloseKey(_registry.OpenKey(_registry.HKEY_LOCAL_MACHINE, f"{_SOURCES}\\{name}"))
        except OSError:
            return False
        return True

    def add_event_source(self, name: str) -> None:
        """With the messages of pywin32's ``servicemanager``."""
        with _told():
            messages = import_module("servicemanager").__file__
            import_module("win32evtlogutil").AddSourceToRegistry(name, messages, "Application")

    def remove_event_source(self, name: str) -> None:
        """From the Application log."""
        with _told():
            import_module("win32evtlogutil").RemoveSourceFromRegistry(name, "Application")

    def access(self, path: Path) -> str:
        """Its DACL."""
        with _told():
            about = _security.GetNamedSecurityInfo(
                str(path), _security.SE_FILE_OBJECT, _security.DACL_SECURITY_INFORMATION
            )
            text: str = _security.ConvertSecurityDescriptorToStringSecurityDescriptor(
                about, _security.SDDL_REVISION_1, _security.DACL_SECURITY_INFORMATION
            )
            return text

    def set_access(self, path: Path, sddl: str) -> None:
        """Its DACL as it was."""
        with _told():
            about = _security.ConvertStringSecurityDescriptorToSecurityDescriptor(sddl, _security.SDDL_REVISION_1)
            self._set_list(path, about.GetSecurityDescriptorDacl())

    def grant(self, path: Path, account: str, *, write: bool) -> None:
        """One more ACE, inherited by what is below."""
        with _told():
            listed = self._list(path)
            flags = _INHERIT if path.is_dir() else 0
            rights = _CHANGE if write else _READ
            listed.AddAccessAllowedAceEx(_security.ACL_REVISION_DS, flags, rights, self._sid(account))
            self._set_list(path, listed)

    def is_granted(self, path: Path, account: str, *, write: bool) -> bool:
        """Whether an ACE for the very account gives these rights."""
        rights = _CHANGE if write else _READ
        with _told():
            sid, listed = self._sid(account), self._list(path)
            aces = [listed.GetAce(index) for index in range(listed.GetAceCount())]
        return any(kind == 0 and mask & rights == rights and who == sid for (kind, _), mask, who in aces)

    def has_logon_right(self, account: str) -> bool:
        """By the local security authority."""
        with _told(), self._policy() as policy:
            try:
                return _LOGON in _security.LsaEnumerateAccountRights(policy, self._sid(account))
            except _errors.error as error:
                if error.winerror == _NO_SUCH_FILE:  # it has no right of its own
                    return False
                raise

    def set_logon_right(self, account: str, *, allowed: bool) -> None:
        """By the local security authority."""
        with _told(), self._policy() as policy:
            if allowed:
                _security.LsaAddAccountRights(policy, self._sid(account), (_LOGON,))
            else:
                _security.LsaRemoveAccountRights(policy, self._sid(account), False, (_LOGON,))

    def _sid(self, account: str) -> Any:
        if account.lower().startswith(_VIRTUAL):
            # Known to Windows only while the service is registered; its SID follows from its name.
            return _security.ConvertStringSidToSid(service_sid(account[len(_VIRTUAL) :]))
        return _security.LookupAccountName(None, account.removeprefix(".\\"))[0]

    def _list(self, path: Path) -> Any:
        about = _security.GetNamedSecurityInfo(str(path), _security.SE_FILE_OBJECT, _security.DACL_SECURITY_INFORMATION)
        return about.GetSecurityDescriptorDacl() or _security.ACL()

    def _set_list(self, path: Path, listed: Any) -> None:
        kind, part = _security.SE_FILE_OBJECT, _security.DACL_SECURITY_INFORMATION
        _security.SetNamedSecurityInfo(str(path), kind, part, None, None, listed, None)

    @contextmanager
    def _policy(self) -> Iterator[Any]:
        policy = _security.LsaOpenPolicy(None, _security.POLICY_CREATE_ACCOUNT | _security.POLICY_LOOKUP_NAMES)
        try:
            yield policy
        finally:
            _security.LsaClose(policy)

    @contextmanager
    def _manager(self) -> Iterator[Any]:
        handle = _service.OpenSCManager(None, None, _service.SC_MANAGER_CONNECT | _service.SC_MANAGER_CREATE_SERVICE)
        try:
            yield handle
        finally:
            _service.CloseServiceHandle(handle)

    @contextmanager
    def _open(self, name: str) -> Iterator[Any]:
        """A handle of the service; None when there is none. All rights where we have them, else to look."""
        manager = _service.OpenSCManager(None, None, _service.SC_MANAGER_CONNECT)
        try:
            handle = self._handle(manager, name)
            try:
                yield handle
            finally:
                if handle is not None:
                    _service.CloseServiceHandle(handle)
        finally:
            _service.CloseServiceHandle(manager)

    def _handle(self, manager: Any, name: str) -> Any:
        look = _service.SERVICE_QUERY_CONFIG | _service.SERVICE_QUERY_STATUS
        for rights in (_service.SERVICE_ALL_ACCESS, look):
            try:
                return _service.OpenService(manager, name, rights)
            except _errors.error as error:
                if error.winerror == _ABSENT:
                    return None
                if rights == look:
                    raise
        return None


def _start_of(wanted: ServiceDefinition) -> int:
    automatic: int = _service.SERVICE_AUTO_START
    demand: int = _service.SERVICE_DEMAND_START
    return automatic if wanted.automatic else demand


def _levels(wanted: Behaviour) -> list[tuple[str, int, Any]]:
    """What it is, the level of ChangeServiceConfig2, its value."""
    actions = [(_service.SC_ACTION_RESTART, int(wait.total_seconds() * 1000)) for wait in wanted.restarts]
    recovery = {
        "ResetPeriod": int(wanted.reset.total_seconds()),
        "RebootMsg": "",
        "Command": "",
        "Actions": actions,
    }
    return [
        ("description", _service.SERVICE_CONFIG_DESCRIPTION, wanted.description),
        ("delayed start", _service.SERVICE_CONFIG_DELAYED_AUTO_START_INFO, wanted.delayed),
        ("recovery actions", _service.SERVICE_CONFIG_FAILURE_ACTIONS, recovery),
        # Also when the service itself reports that it has failed, not only when its process vanishes.
        ("recovery after reported failures", _service.SERVICE_CONFIG_FAILURE_ACTIONS_FLAG, True),
        (
            "time before a shutdown",
            _service.SERVICE_CONFIG_PRESHUTDOWN_INFO,
            int(wanted.preshutdown.total_seconds() * 1000),
        ),
    ]


def _comparable(value: Any) -> Any:
    """Recovery actions without what Windows adds; anything else as it is."""
    if isinstance(value, dict):
        return value.get("ResetPeriod"), [tuple(action) for action in value.get("Actions") or ()]
    return value
