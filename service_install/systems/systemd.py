"""systemd: one hardened unit of Type=notify, under an account of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import agent
from agent.config import Settings
from service_install.linux_access import (
    account_of,
    check_grantable,
    check_visible,
    read_paths,
    ungranted,
    write_folders,
)
from service_install.linux_steps import (
    NoUnitFile,
    OwnFolder,
    ReadAccess,
    Run,
    SystemAccount,
    Systemctl,
    UnitFile,
    must,
    read_unit,
    run_program,
    said,
)
from service_install.plan import Plan, ServiceError, Step, Words
from service_install.service_system import ServiceRequest, ServiceState, stop_time
from service_install.systemd_unit import UnitFacts, is_ours, unit_text

UNITS: Final = Path("/etc/systemd/system")
_BOOTED: Final = Path("/run/systemd/system")
_SHOWN: Final = "LoadState,ActiveState,SubState,MainPID,StatusText,Result,NRestarts"


class Systemd:
    """Implements ServiceSystem. ``run`` and ``units`` are the machine's; ``effective_user`` says who asks."""

    def __init__(
        self,
        run: Run = run_program,
        units: Path = UNITS,
        effective_user: Callable[[], int] = os.geteuid,
        booted: Path = _BOOTED,
    ) -> None:
        self._run = run
        self._units = units
        self._effective_user = effective_user
        self._booted = booted

    def check_rights(self) -> None:
        """root, on a machine that systemd runs."""
        if self._effective_user() != 0:
            raise ServiceError(
                "需要 root 权限", "root is needed", fix_zh="请用 sudo 执行同一命令", fix="run the same with sudo"
            )
        self._check_booted()

    def _check_booted(self) -> None:
        if not self._booted.is_dir():
            raise ServiceError(
                "本机不是由 systemd 管理的",
                "this machine is not run by systemd",
                fix_zh="his160 service print 可输出服务单元；或直接运行 his160 run",
                fix="his160 service print shows the unit; or run his160 run yourself",
            )

    def environment(self, request: ServiceRequest) -> Mapping[str, str]:
        """The variables of the unit's EnvironmentFile=, which is ``environment`` beside the configuration."""
        path = self._environment_file(request)
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise ServiceError(f"无法读取 {path}", f"cannot read {path}: {type(error).__name__}") from error
        pairs = [line.strip().partition("=") for line in lines if not line.strip().startswith(("#", ";"))]
        return {name.strip(): value.strip().strip("\"'") for name, equals, value in pairs if equals}

    def text(self, request: ServiceRequest, settings: Settings) -> str:
        """The unit."""
        own = (Path("/var/lib") / request.name, Path("/var/log") / request.name)
        folders = [folder for folder in write_folders(settings) if not any(folder.is_relative_to(o) for o in own)]
        return unit_text(
            UnitFacts(
                name=request.name,
                command=(sys.executable, "-P", "-m", "agent", "run", "--config", str(request.config)),
                account=self._account(request),
                environment_file=self._environment_file(request),
                credentials=request.credentials,
                writable=folders,
                stop_time=stop_time(settings),
            )
        )

    def install(self, request: ServiceRequest, settings: Settings) -> Plan:
        """Account, access, unit, enabled; started when asked."""
        name, unit = self._account(request), f"{request.name}.service"
        path, text = self._units / unit, self.text(request, settings)
        self._check_unedited(path, force=request.force)
        paths = read_paths(settings)
        check_visible([*_program(), *paths, *write_folders(settings)])
        steps: list[Step] = [SystemAccount(self._run, name, Path("/var/lib") / request.name)]
        steps += self._access(name, settings, paths)
        steps.append(UnitFile(self._run, path, text))
        words = Words(f"开机自动启动 {unit}", f"start {unit} at boot")
        steps.append(Systemctl(self._run, unit, "enable", "disable", "is-enabled", True, words))
        if request.start:
            words = Words(f"启动 {unit} 并等到它开始服务", f"start {unit} and wait until it serves")
            steps.append(Systemctl(self._run, unit, "start", "stop", "is-active", True, words))
        title = Words(f"安装服务 {unit}", f"install {unit}")
        own = request.name
        after = [
            Words(f"启动：his160 service start --name {own}", f"start it: his160 service start --name {own}"),
            Words(f"改动请用 systemctl edit {own}", f"changes of your own: systemctl edit {own}"),
            Words(f"日志：journalctl -u {own}", f"its log: journalctl -u {own}"),
        ]
        return Plan(title, steps, after[1:] if request.start else after)

    def uninstall(self, name: str, *, force: bool) -> Plan:
        """Stopped, not enabled, no unit. What the service wrote, its account and the configuration stay."""
        unit = f"{name}.service"
        path = self._units / unit
        self._check_unedited(path, force=force)
        stop = Words(f"停止 {unit}", f"stop {unit}")
        disable = Words(f"取消开机自动启动 {unit}", f"do not start {unit} at boot")
        steps: list[Step] = []
        if read_unit(path) is not None:
            steps.append(Systemctl(self._run, unit, "stop", "start", "is-active", False, stop))
            steps.append(Systemctl(self._run, unit, "disable", "enable", "is-enabled", False, disable))
        steps.append(NoUnitFile(self._run, path))
        stays = f"/var/lib/{name}, /var/log/{name}, /etc/{name}"
        after = Words(f"状态库、日志、配置和账号保留：{stays}", f"state, logs, configuration and account stay: {stays}")
        return Plan(Words(f"卸载服务 {unit}", f"uninstall {unit}"), steps, [after])

    def start(self, name: str) -> None:
        """Returns when the agent has said that it serves."""
        self._verb("start", name)

    def stop(self, name: str) -> None:
        """Returns when the process has ended."""
        self._verb("stop", name)

    def restart(self, name: str) -> None:
        """Returns when the agent has said that it serves."""
        self._verb("restart", name)

    def state(self, name: str) -> ServiceState:
        """As ``systemctl show`` has it."""
        self._check_booted()
        text = must(self._run, "systemctl", "show", f"{name}.service", f"--property={_SHOWN}")
        found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        active, sub = found.get("ActiveState", "unknown"), found.get("SubState", "")
        detail = [found["StatusText"]] if found.get("StatusText") else []
        if found.get("Result", "success") != "success":
            detail.append(f"上次结束 last result: {found['Result']}")
        if found.get("NRestarts", "0") != "0":
            detail.append(f"自动重启 restarts: {found['NRestarts']}")
        return ServiceState(
            installed=found.get("LoadState") == "loaded",
            running=active in ("active", "reloading"),
            word=f"{active} ({sub})",
            process=int(found.get("MainPID") or 0),
            detail=detail,
        )

    def _verb(self, verb: str, name: str) -> None:
        unit = f"{name}.service"
        if not self.state(name).installed:
            raise ServiceError(
                f"服务 {unit} 尚未安装",
                f"{unit} is not installed",
                fix_zh="请先执行 his160 service install",
                fix="his160 service install first",
            )
        said(self._run, verb, unit)

    def _access(self, name: str, settings: Settings, paths: Sequence[Path]) -> Iterator[Step]:
        account, folder = account_of(name), settings.file.parent
        seen: set[Path] = set()
        for path in paths:
            entries = [entry for entry in ungranted(path, account) if entry not in seen]
            for entry in entries:
                check_grantable(entry, account, folder)
            seen.update(entries)
            if entries:
                yield ReadAccess(path, entries, name)
        for folder in write_folders(settings):
            yield OwnFolder(folder, name)

    def _check_unedited(self, path: Path, *, force: bool) -> None:
        text = read_unit(path)
        if text is None or is_ours(text) or force:
            return
        raise ServiceError(
            f"{path} 被人修改过，未改动它",
            f"{path} has been edited by a person and is left alone",
            fix_zh=f"请把改动移到附加文件（systemctl edit {path.stem}）后加 --force 重新执行",
            fix=f"move the changes into a drop-in (systemctl edit {path.stem}), then run again with --force",
        )

    def _account(self, request: ServiceRequest) -> str:
        return request.account or request.name

    def _environment_file(self, request: ServiceRequest) -> Path:
        return request.config.parent / "environment"


def _program() -> list[Path]:
    """Where the program is: interpreter, the one behind a virtual environment, our packages."""
    executable = Path(sys.executable)
    return [executable, executable.resolve(), Path(agent.__path__[0])]
