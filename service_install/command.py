"""``his160 service``: the agent as a service of this machine."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from agent.commands.options import DEFAULT_CONFIG
from agent.config import Settings, load_settings
from agent.console import say, say_error
from service_install.plan import Plan, PlanFailed, ServiceError, Step, Words, carry_out, shown
from service_install.registry import load_system
from service_install.service_system import DEFAULT_NAME, ServiceRequest, ServiceSystem, checked_name

_CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"
_ACTIONS: Final = {
    "install": "安装 / install",
    "uninstall": "卸载，数据保留 / uninstall, data stays",
    "start": "启动 / start",
    "stop": "停止 / stop",
    "restart": "重启 / restart",
    "status": "查看状态 / show its state",
    "print": "输出服务单元与安装步骤，不改动系统 / show what would be installed",
}


def main(arguments: Sequence[str], *, platform: str = sys.platform) -> int:
    """Exit code 0: done (status: it runs); 1: refused, failed (status: it does not run); 78: bad configuration."""
    options = _parser().parse_args(arguments)
    try:
        system = load_system(platform)
        name = checked_name(options.name)
        return _DO[options.action](system, name, options)
    except ServiceError as error:
        _tell(error)
    except PlanFailed as failed:
        say_error(f"步骤失败：{failed.step.does.zh}", f"this step failed: {failed.step.does.en}")
        _tell(failed.error)
        for step in failed.undone:
            say_error(f"已撤销：{step.does.zh}", f"undone: {step.does.en}")
        for step, why in failed.left:
            say_error(f"未能撤销：{step.does.zh}：{why.zh}", f"could not be undone: {step.does.en}: {why.en}")
    return 1


def _install(system: ServiceSystem, name: str, options: argparse.Namespace) -> int:
    request = _request(name, options)
    plan = system.install(request, _settings(system, request))
    return _carry_out(system, plan, dry_run=options.dry_run)


def _uninstall(system: ServiceSystem, name: str, options: argparse.Namespace) -> int:
    return _carry_out(system, system.uninstall(name, force=options.force), dry_run=options.dry_run)


def _carry_out(system: ServiceSystem, plan: Plan, *, dry_run: bool) -> int:
    if dry_run:
        for line in shown(plan):
            say(line)
        return 0
    system.check_rights()
    say(plan.title.zh, plan.title.en)
    carry_out(plan, _tell_step)
    for words in plan.after:
        say(words.zh, words.en)
    return 0


def _print(system: ServiceSystem, name: str, options: argparse.Namespace) -> int:
    """The definition on standard output, so that it can be piped; the plan, or what stands against it, on error."""
    request = _request(name, options)
    settings = _settings(system, request)
    say(system.text(request, settings))
    try:
        for line in shown(system.install(request, settings)):
            say_error(line)
    except ServiceError as error:
        _tell(error)
    return 0


def _verb(system: ServiceSystem, name: str, options: argparse.Namespace) -> int:
    words = {
        "start": Words("启动", "start"),
        "stop": Words("停止", "stop"),
        "restart": Words("重启", "restart"),
    }[options.action]
    if options.dry_run:
        say(f"将{words.zh}服务 {name}", f"would {words.en} the service {name}")
        return 0
    system.check_rights()
    {"start": system.start, "stop": system.stop, "restart": system.restart}[options.action](name)
    say(f"已{words.zh} {name}", f"done: {words.en} {name}")
    return 0


def _status(system: ServiceSystem, name: str, options: argparse.Namespace) -> int:
    state = system.state(name)
    if not state.installed:
        say(f"{name} 尚未安装", f"{name} is not installed")
        return 1
    process = f", pid {state.process}" if state.process else ""
    say(f"{name}: {'运行中 running' if state.running else '未运行 not running'}, {state.word}{process}")
    for line in state.detail:
        say(f"  {line}")
    return 0 if state.running else 1


_DO: Final[Mapping[str, Callable[[ServiceSystem, str, argparse.Namespace], int]]] = {
    "install": _install,
    "uninstall": _uninstall,
    "start": _verb,
    "stop": _verb,
    "restart": _verb,
    "status": _status,
    "print": _print,
}


def _request(name: str, options: argparse.Namespace) -> ServiceRequest:
    credentials: dict[str, Path] = {}
    for text in options.credential:
        credential, equals, file = text.partition("=")
        if not credential or not equals or not file or any(c in credential for c in "/\\: "):
            raise ServiceError("--credential 的写法是 名称=文件", "--credential is NAME=FILE")
        credentials[credential] = Path(file).absolute()
    password = ""
    if options.ask_password:
        password = getpass.getpass(f"{options.account} 的密码 password: ")
    return ServiceRequest(
        name=name,
        config=options.config.absolute(),
        account=options.account,
        credentials=credentials,
        password=password,
        force=options.force,
        start=options.now,
    )


def _settings(system: ServiceSystem, request: ServiceRequest) -> Settings:
    """The configuration as the service will see it: its own environment, its own credentials. Raises DocumentError."""
    environ = dict(system.environment(request))
    with tempfile.TemporaryDirectory(prefix="his160-") as folder:
        for name, file in request.credentials.items():
            if not file.is_file():
                raise ServiceError(f"没有凭据文件 {file}", f"there is no credential file {file}")
            (Path(folder) / name).symlink_to(file)
        if request.credentials:
            environ[_CREDENTIALS] = folder
        return load_settings(request.config, environ, require_files=True)


def _tell_step(step: Step, skipped: bool) -> None:
    words = step.does
    say(f"  {'已完成，跳过 ' if skipped else '✓ '}{words.zh}", f"{'done already: ' if skipped else ''}{words.en}")


def _tell(error: ServiceError) -> None:
    say_error(error.zh, error.en)
    if error.fix_zh or error.fix:
        say_error(f"修复：{error.fix_zh}", f"fix: {error.fix}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="his160 service",
        description="把代理安装为系统服务（systemd、Windows 服务）/ the agent as a service of this machine",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(f"  {action:<10} {words}" for action, words in _ACTIONS.items()),
    )
    parser.add_argument("action", choices=sorted(_ACTIONS), metavar="ACTION", help=" | ".join(_ACTIONS))
    parser.add_argument("--name", default=DEFAULT_NAME, help="服务名，可安装多个 / name of the service (%(default)s)")
    parser.add_argument(
        "--config", type=Path, default=_default_config(), metavar="FILE", help="配置文件 / configuration (%(default)s)"
    )
    parser.add_argument("--account", default="", help="运行服务的账号 / account of the service (its own)")
    parser.add_argument("--ask-password", action="store_true", help="输入该账号的密码（Windows）/ ask for its password")
    parser.add_argument(
        "--credential",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="systemd 凭据，配置中写作 @credential:NAME / a credential of systemd",
    )
    parser.add_argument("--dry-run", action="store_true", help="只显示步骤 / only show the steps")
    parser.add_argument("--force", action="store_true", help="覆盖被人修改过的服务单元 / over an edited unit")
    parser.add_argument("--now", action="store_true", help="安装后立即启动 / start it when installed")
    return parser


def _default_config() -> Path:
    usual = Path("/etc/his160/config.toml")
    return usual if os.name == "posix" and usual.is_file() else DEFAULT_CONFIG
