"""``his160 watch pause|resume|reseed``: what a person says to a watch. Works on the state store; no restart."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agent.commands.options import add_config
from agent.config import Settings, load_settings
from agent.console import say, say_error
from agent.daemon import load_generation
from agent.person import at_the_keyboard, person
from agent.state_store import is_in_use, open_state
from his_db.document.finding import nearest
from his_db.document.problem import DocumentError
from sync.audit import Audit, acting
from sync.clock import utc_now
from sync.store import Store, StoreError
from sync.watch_control import WatchControl
from sync.watch_controls import WatchControls

_LOOK_EVERY: Final = 0.2
_WAIT: Final = 60.0
ACTIONS: Final = ("pause", "resume", "reseed")
_ABOUT: Final = {
    "pause": """暂停一个监视：不再为它读取 HIS；已捕获的事件照常发送；重启后、由另一代理接管后仍然暂停。
恢复后第一次读取与暂停前已知的内容比对，期间发生的变化此时补发。
就诊日已离开监视窗口（window 的 past_days）的行不再补发，故暂停不要超出窗口。

Pause a watch: the HIS is not read for it; events captured before are delivered; holds over restarts
and takeovers. The first look after resume compares with what was known before, so what happened
meanwhile becomes events then. Rows whose visit date has left the window (past_days) are not told any
more: do not pause for longer than that.""",
    "resume": """恢复一个监视，一秒内生效；期间发生的变化补发。
Resume a watch within a second; what happened meanwhile becomes events.""",
    "reseed": """重新建立一个监视的位置（feed）和内存中的画面，并把整个窗口与已通知 160 的内容重新比对。
用于：HIS 恢复备份、换库换表，或归档后监视因大量行消失而停止（suspended）。
不丢：此前发生而未通知的变化在比对中出现，按 [[event]] 规则补发。
不误报：已通知的不会再发；消失的行，不论多少，只作搁置，不当作取消
（vanish = "event" 的监视仅在消失过多时搁置，否则仍需两次读取一致才算）；
订单换了主键（按订单号认出）不当作新订单。
待发事件和已知内容都不清空。监视暂停时，恢复后才执行；代理未运行时，下次启动执行。

Make the positions of feeds and the picture in memory anew, and compare the whole window with what 160
was told. For a HIS that was restored or moved, and for a watch that is suspended because many rows
have vanished.
Nothing is lost: what happened before and was not told shows in the comparison, and becomes events by
the rules. Nothing is made up: what was told is not told again; vanished rows, however many, are set
aside and are no cancellations (with vanish = "event": only when too many vanish at once, else two
looks must agree as ever); an order under another key (known by its order number) is no new order.
The outbox and the known rows are kept. A paused watch does it when it goes on; without a running
agent it is done at the next start.""",
}


def main(action: str, arguments: Sequence[str]) -> int:
    """Exit code 1: nothing was changed, or the reseed was not seen to end in time."""
    options = _parser(action).parse_args(arguments)
    settings = load_settings(options.config, os.environ, require_files=False, secrets=False)
    try:
        return asyncio.run(_work(action, options, settings))
    except StoreError as error:
        say_error(f"状态库无法使用：{type(error).__name__}", str(error))
        return 1


async def _work(action: str, options: argparse.Namespace, settings: Settings) -> int:
    store = open_state(settings.state)
    try:
        controls = WatchControls(store, Audit(store, utc_now, instance=settings.site.instance))
        if not await _is_known(controls, settings, options.watch):
            return 1
        with acting(at_the_keyboard()):
            if action == "reseed":
                return await _Reseeding(store, controls, settings).run(options.watch, options.note, options.wait)
            return await _turn(action, controls, options)
    finally:
        await store.close()


async def _turn(action: str, controls: WatchControls, options: argparse.Namespace) -> int:
    name = options.watch
    if action == "pause":
        if await controls.pause(name, by=person(), note=options.note, now=utc_now()):
            say(
                f"监视 {name} 已暂停，一秒内生效；恢复：his160 watch resume {name}", f"{name} is paused within a second"
            )
        else:
            control = await controls.get(name)
            say(f"监视 {name} 已由 {control.by} 暂停（{control.since}）", f"{name} was paused before")
    elif await controls.resume(name, by=person(), now=utc_now()):
        say(
            f"监视 {name} 一秒内恢复，期间的变化将补发", f"{name} goes on within a second, and tells what it has missed"
        )
    else:
        say(f"监视 {name} 本来就未暂停", f"{name} was not paused")
    return 0


@dataclass(frozen=True, slots=True)
class _Reseeding:
    store: Store
    controls: WatchControls
    settings: Settings

    async def run(self, name: str, note: str, patience: float) -> int:
        number = await self.controls.reseed(name, note=note, now=utc_now())
        if not await is_in_use(self.settings.state):
            say(f"代理未运行：监视 {name} 将在下次启动时重建", f"no agent runs: {name} is reseeded at its next start")
            return 0
        if (await self.controls.get(name)).is_paused:
            say(f"监视 {name} 已暂停：恢复后重建", f"{name} is paused: it is reseeded when it goes on")
            return 0
        until = time.monotonic() + patience
        while (control := await self.controls.get(name)).reseeded != number:
            if time.monotonic() > until:
                say_error(
                    f"{patience:.0f} 秒内未完成，仍会继续；查看 his160 watch status", "not done yet; it will be done"
                )
                return 1
            await asyncio.sleep(_LOOK_EVERY)
        _tell(control)
        return 0


def _tell(control: WatchControl) -> None:
    found = json.loads(control.result)
    say(f"监视 {control.stream} 已重建", f"{control.stream} is reseeded")
    print(
        f"行 rows={found['rows']}  变化 changes={found['changes']}  事件 events={found['events']}  "
        f"搁置 set_aside={found['set_aside']}  换主键 moved={found['moved']}  不可读 unreadable={found['unreadable']}"
    )


async def _is_known(controls: WatchControls, settings: Settings, name: str) -> bool:
    """Whether there is such a watch: one that was read before, or one of the mappings."""
    if await controls.is_known(name):
        return True
    try:
        names = tuple(load_generation(settings).watches)
    except DocumentError:
        names = ()
    if name in names:
        return True
    near = nearest(name, names)
    say_error(f"没有监视 {name}" + (f"，是否想写 {near}？" if near else ""), "there is no such watch")
    return False


def _parser(action: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"his160 watch {action}",
        description=_ABOUT[action],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("watch", metavar="WATCH", help="监视名称，如 orders / name of the watch")
    if action != "resume":
        parser.add_argument("--note", default="", metavar="TEXT", help="原因，写入状态和审计 / why; shown and audited")
    if action == "reseed":
        parser.add_argument(
            "--wait", type=float, default=_WAIT, metavar="SECONDS", help="最多等待结果多久 / how long to wait for it"
        )
    add_config(parser)
    return parser
