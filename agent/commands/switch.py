"""``his160 switch``: the kill switch of an operation. Works on a file beside the state store; no restart."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from agent.commands.options import add_config
from agent.config import Settings, load_settings
from agent.console import say, say_error
from agent.person import person, write_down
from agent.switches import Switch, SwitchFileError, read_switches, switch_file, write_switches
from his_db.contract import mappable_names
from his_db.document.finding import nearest
from sync.audit import as_json
from sync.clock import utc_now


def main(arguments: Sequence[str]) -> int:
    """List, switch off, switch on. Exit code 1: nothing was changed, and why is said."""
    options = _parser().parse_args(arguments)
    settings = load_settings(options.config, os.environ, require_files=False, secrets=False)
    file = switch_file(settings.state.path)
    try:
        if options.action == "list":
            return _list(settings, read_switches(file))
        if options.operation not in mappable_names():
            near = nearest(options.operation, mappable_names())
            say_error(f"没有操作 {options.operation}" + (f"，是否想写 {near}？" if near else ""), "no such operation")
            return 1
        switches = read_switches(file)
        if options.action == "off":
            since = utc_now().astimezone().isoformat(timespec="seconds")
            switches[options.operation] = Switch(options.operation, options.note, person(), since)
            write_switches(file, switches)
            _write_down(settings, "switch.off", options.operation, note=options.note)
            say(f"已停用 {options.operation}，一秒内生效", f"{options.operation} is off within a second")
            return 0
        return _on(settings, options.operation, switches)
    except SwitchFileError as error:
        say_error(f"无法读取 {file}，请修复或删除该文件", f"{error}: mend or delete it")
    except OSError as error:
        say_error(f"无法写入 {file}", error.strerror or type(error).__name__)
    return 1


def _on(settings: Settings, operation: str, switches: dict[str, Switch]) -> int:
    was_off = switches.pop(operation, None) is not None
    if was_off:
        write_switches(switch_file(settings.state.path), switches)
        _write_down(settings, "switch.on", operation)
    if operation in settings.off:
        say_error(
            f"{operation} 在 config.toml 的 [operations] off 中停用，需修改配置并重启",
            f"{operation} is off in config.toml: change [operations] off and restart",
        )
        return 1
    if was_off:
        say(f"已恢复 {operation}，一秒内生效", f"{operation} is on within a second")
    else:
        say(f"{operation} 本来就未停用", f"{operation} was not off")
    return 0


def _list(settings: Settings, switches: dict[str, Switch]) -> int:
    for name in sorted(set(settings.off) | switches.keys()):
        switch = switches.get(name)
        print(f"{name:<42} config.toml" if switch is None else _line(switch))
    count = len(set(settings.off) | switches.keys())
    say(f"共停用 {count} 个操作", f"{count} operations are off")
    return 0


def _line(switch: Switch) -> str:
    return f"{switch.operation:<42} {switch.since} {switch.by} {switch.note}".rstrip()


def _write_down(settings: Settings, action: str, operation: str, **more: str) -> None:
    write_down(settings, action, result="done", parameters=as_json(operation=operation, **more))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="his160 switch", description="停用、恢复单个操作 / switch operations off and on"
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="off|on|list")
    off = actions.add_parser("off", help="停用 / switch off")
    off.add_argument("operation", metavar="OPERATION", help="例如 PaymentService.RefundPayment")
    off.add_argument("--note", default="", metavar="TEXT", help="原因，会显示给调用方 / why; shown to callers")
    on = actions.add_parser("on", help="恢复 / switch on")
    on.add_argument("operation", metavar="OPERATION", help="同上 / as above")
    listing = actions.add_parser("list", help="列出已停用的操作 / what is off")
    for action in (off, on, listing):
        add_config(action)
    return parser
