"""The Windows service manager: one service in a process of its own, under a virtual account of its own."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Final, cast

from agent.config import Settings
from service_install.plan import Plan, ServiceError, Step, Words
from service_install.service_system import ServiceRequest, ServiceState, stop_time
from service_install.windows_host import EXIT_CONFIG, with_log_file
from service_install.windows_manager import LOCAL_SYSTEM, Behaviour, ProcessState, ServiceDefinition, WindowsManager
from service_install.windows_status import SPECIFIC_ERROR, START_LIMIT, State
from service_install.windows_steps import (
    Behaves,
    EventSource,
    FolderAccess,
    LogonRight,
    Registered,
    Runs,
    Unregistered,
)

_REAL: Final = "service_install.windows_pywin32:Pywin32Manager"
_RESTARTS: Final = (timedelta(seconds=5), timedelta(seconds=30), timedelta(seconds=60))
_WORDS: Final[Mapping[int, str]] = {
    1: "STOPPED 已停止",
    2: "START_PENDING 正在启动",
    3: "STOP_PENDING 正在停止",
    4: "RUNNING 正在运行",
    5: "CONTINUE_PENDING",
    6: "PAUSE_PENDING",
    7: "PAUSED 已暂停",
}
_LOOK_EVERY: Final = 0.2
_STOP_LIMIT: Final = timedelta(minutes=10)  # the process gives itself up long before
_LOG: Final = logging.getLogger(__name__)


class WindowsServices:
    """Implements ServiceSystem."""

    def __init__(
        self,
        manager: WindowsManager | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """``manager``: the real one when None. Raises ServiceError when pywin32 is not installed."""
        self._manager = manager if manager is not None else _real_manager()
        self._clock = clock
        self._pause = pause

    def check_rights(self) -> None:
        """An administrator, elevated."""
        if not self._manager.may_install():
            raise ServiceError(
                "需要管理员权限",
                "an administrator is needed",
                fix_zh="请右键“以管理员身份运行”命令提示符后重新执行",
                fix="open the command prompt with “Run as administrator” and run the same",
            )

    def environment(self, request: ServiceRequest) -> Mapping[str, str]:
        """The machine's variables."""
        return self._manager.machine_environment()

    def text(self, request: ServiceRequest, settings: Settings) -> str:
        """The definition, one setting a line, as ``sc qc`` names them."""
        wanted = self._definition(request)
        lines = [
            f"SERVICE_NAME: {wanted.name}",
            f"DISPLAY_NAME: {wanted.display}",
            f"BINARY_PATH_NAME: {wanted.command}",
        ]
        lines += [f"SERVICE_START_NAME: {wanted.account}", "START_TYPE: AUTO_START (DELAYED)"]
        lines.append("FAILURE_ACTIONS: " + ", ".join(f"RESTART {wait.total_seconds():.0f}s" for wait in _RESTARTS))
        return "\n".join(lines)

    def install(self, request: ServiceRequest, settings: Settings) -> Plan:
        """Registered, set up, allowed to read and write what it needs; started when asked."""
        if request.credentials:
            raise ServiceError(
                "--credential 只用于 systemd",
                "--credential is systemd's",
                fix_zh="Windows 上请用 @dpapi: 引用（his160 secret protect）",
                fix="on Windows use a @dpapi: reference (his160 secret protect)",
            )
        manager, wanted = self._manager, self._definition(request)
        self._check_unedited(request.name, force=request.force)
        steps: list[Step] = [EventSource(manager, wanted.name)]
        if _is_person(wanted.account):
            steps.append(LogonRight(manager, wanted.account))
        steps.append(Registered(manager, wanted))
        steps.append(Behaves(manager, wanted.name, _behaviour(settings), _unknown))
        if wanted.account != LOCAL_SYSTEM:
            steps += self._access(wanted.account, settings)
        if request.start:
            steps.append(self._runs(wanted.name, True))
        name = wanted.name
        start = Words(f"启动：his160 service start --name {name}", f"start it: his160 service start --name {name}")
        file = with_log_file(settings).log.file
        after = [Words(f"日志：{file}；启动失败另见事件查看器", f"its log: {file}; failed starts: Event Viewer")]
        title = Words(f"安装服务 {name}", f"install the service {name}")
        return Plan(title, steps, after if request.start else [start, *after])

    def uninstall(self, name: str, *, force: bool) -> Plan:
        """Stopped, unregistered. What it wrote and the configuration stay."""
        self._check_unedited(name, force=force)
        steps: list[Step] = []
        if self._manager.definition(name) is not None:
            steps.append(self._runs(name, False))
        steps += [EventSource(self._manager, name, wanted=False), Unregistered(self._manager, name)]
        after = Words("状态库、日志、配置保留", "state, logs and configuration stay")
        return Plan(Words(f"卸载服务 {name}", f"uninstall the service {name}"), steps, [after])

    def start(self, name: str) -> None:
        """Returns when the agent serves."""
        self._check_installed(name)
        if self._manager.state(name).state == State.RUNNING:
            return
        self._manager.start(name)
        found = self._until(name, {State.RUNNING, State.STOPPED}, START_LIMIT)
        if found.state != State.RUNNING:
            raise _ended(name, found)

    def stop(self, name: str) -> None:
        """Returns when the process has ended."""
        self._check_installed(name)
        if self._manager.state(name).state == State.STOPPED:
            return
        self._manager.stop(name)
        self._until(name, {State.STOPPED}, _STOP_LIMIT)

    def restart(self, name: str) -> None:
        """Returns when the agent serves again."""
        self.stop(name)
        self.start(name)

    def state(self, name: str) -> ServiceState:
        """As the manager has it."""
        definition = self._manager.definition(name)
        if definition is None:
            return ServiceState(False, False, "")
        found = self._manager.state(name)
        detail = [f"账号 account: {definition.account}"]
        if found.exit_code not in (0, 1077):  # 1077: never started
            detail.append(f"上次结束代码 last exit code: {found.service_code or found.exit_code}")
        word = _WORDS.get(found.state, str(found.state))
        return ServiceState(True, found.state == State.RUNNING, word, found.process, detail)

    def _runs(self, name: str, wanted: bool) -> Runs:
        def runs() -> bool:
            return self._manager.definition(name) is not None and self._manager.state(name).state != State.STOPPED

        return Runs(name, wanted, runs, lambda: self.start(name), lambda: self.stop(name))

    def _until(self, name: str, wanted: set[State], limit: timedelta) -> ProcessState:
        """Wait for one of these states, for as long as the service reports progress. Raises ServiceError."""
        due = self._clock() + limit.total_seconds()
        while True:
            found = self._manager.state(name)
            if found.state in {int(state) for state in wanted}:
                return found
            if self._clock() > due:
                raise ServiceError(
                    f"{name} 在 {limit.total_seconds():.0f} 秒内没有完成，现为 {_WORDS.get(found.state, '')}",
                    f"{name} is still in state {found.state} after {limit.total_seconds():.0f} s",
                )
            self._pause(_LOOK_EVERY)

    def _access(self, account: str, settings: Settings) -> list[Step]:
        """The configuration's folder to read; state, logs and events to change. What the agent reads besides is named
        below one of these, or lies where everyone may read."""
        settings = with_log_file(settings)
        folders = {settings.state.path.parent}
        if settings.log.file is not None:
            folders.add(settings.log.file.parent)
        if settings.delivery.sink == "file":
            folders.add(settings.delivery.folder)
        if settings.report.enabled and settings.report.files:
            folders.add(settings.report.folder)
        for source in settings.sources.values():
            if source.settings.engine == "sqlite":
                folders.add(Path(source.settings.database).parent)
        # What lies below a folder inherits its access list.
        outer = [folder for folder in sorted(folders) if not folders & set(folder.parents)]
        steps: list[Step] = [FolderAccess(self._manager, folder, account, True) for folder in outer]
        if not any(settings.file.is_relative_to(folder) for folder in outer):
            steps.insert(0, FolderAccess(self._manager, settings.file.parent, account, False))
        return steps

    def _definition(self, request: ServiceRequest) -> ServiceDefinition:
        words = [*program(), "--name", request.name, "--config", str(request.config)]
        return ServiceDefinition(
            name=request.name,
            display=f"健康160 HIS 代理 his160 ({request.name})",
            command=subprocess.list2cmdline(words),
            account=request.account or f"NT SERVICE\\{request.name}",
            password=request.password,
        )

    def _check_installed(self, name: str) -> None:
        if self._manager.definition(name) is None:
            raise ServiceError(
                f"服务 {name} 尚未安装",
                f"the service {name} is not installed",
                fix_zh="请先执行 his160 service install",
                fix="his160 service install first",
            )

    def _check_unedited(self, name: str, *, force: bool) -> None:
        """A service that we did not make, or that a person has changed since, is left alone."""
        found = self._manager.definition(name)
        if found is None or force or self._manager.mark(name) == found.digest():
            return
        raise ServiceError(
            f"服务 {name} 不是本程序安装的，或已被人修改，未改动它",
            f"the service {name} was not made by this program or has been edited, and is left alone",
            fix_zh="确认后加 --force 重新执行，或用 --name 另取名称",
            fix="run again with --force, or choose another --name",
        )


def program() -> list[str]:
    """The command of the host. From a virtual environment it is the interpreter behind it: the manager must start the
    very process that speaks to it, and ``Scripts\\python.exe`` starts another one."""
    host = "service_install.windows_entry"
    if sys.prefix == sys.base_prefix:
        return [sys.executable, "-P", "-X", "utf8", "-m", host]
    packages = str(Path(cast(str, sys.modules["agent"].__file__)).parents[1])
    code = f"import site; site.addsitedir({packages!r}); import runpy; runpy.run_module({host!r}, run_name='__main__')"
    base = str(getattr(sys, "_base_executable", sys.executable))
    return [base, "-I", "-S", "-X", "utf8", "-c", code]


def _behaviour(settings: Settings) -> Behaviour:
    return Behaviour(
        description="医院 HIS 与健康160预约平台之间的代理 / agent between the hospital's HIS and the 160 platform",
        delayed=True,
        restarts=_RESTARTS,
        reset=timedelta(days=1),
        preshutdown=stop_time(settings),
    )


def _is_person(account: str) -> bool:
    """Whether an account needs the right to log on as a service: not the system's own, virtual and managed ones."""
    lower = account.lower()
    return (
        lower != "localsystem" and not lower.startswith(("nt service\\", "nt authority\\")) and not lower.endswith("$")
    )


def _ended(name: str, found: ProcessState) -> ServiceError:
    code = found.service_code if found.exit_code == SPECIFIC_ERROR else found.exit_code
    if code == EXIT_CONFIG:
        return ServiceError(
            f"{name} 启动失败：配置或映射有误（78）",
            f"{name} did not start: its configuration or mapping is bad (78)",
            fix_zh="执行 his160 check --config 配置文件 查看全部问题",
            fix="his160 check --config FILE shows every problem",
        )
    return ServiceError(
        f"{name} 启动失败，结束代码 {code}",
        f"{name} did not start, exit code {code}",
        fix_zh="请查看日志文件和事件查看器（应用程序，来源 his160）",
        fix="see its log file, and the event viewer (Application, source his160)",
    )


def _unknown(what: str) -> None:
    _LOG.warning("this Windows does not know %s; it is left out", what)


def _real_manager() -> WindowsManager:
    module, _, name = _REAL.partition(":")
    try:
        return cast(WindowsManager, getattr(import_module(module), name)())
    except ImportError as error:
        raise ServiceError(
            "没有安装 pywin32",
            f"pywin32 is not installed ({error.name})",
            fix_zh="pip install pywin32",
            fix="pip install pywin32",
        ) from error
