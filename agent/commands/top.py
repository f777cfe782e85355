"""``his160 top``: the snapshot again and again, with what changed since the last one."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Final

from his160.v1 import agent_pb2

from agent.commands.call import CallError, call
from agent.commands.options import add_target, read_target
from agent.commands.status import text_of
from agent.console import say_error
from his_db.contract import operation

_CLEAR: Final = "\x1b[H\x1b[2J"
_SHOWN: Final = 12


def main(arguments: Sequence[str]) -> int:
    """Show it until Ctrl-C; exit code 1 when the agent cannot be reached."""
    parser = argparse.ArgumentParser(prog="his160 top", description="持续查看运行状态 / watch a running agent")
    parser.add_argument("--every", type=float, default=2.0, metavar="S", help="间隔秒数 / seconds between looks (2)")
    parser.add_argument("--count", type=int, default=0, metavar="N", help="次数，0 = 一直 / looks, 0: for ever")
    add_target(parser)
    options = parser.parse_args(arguments)
    target = read_target(parser, options)
    about = operation("AgentService.GetStatus")
    before: Mapping[str, float] = {}
    looked = 0.0
    try:
        with target.channel() as channel:
            for number in range(options.count) if options.count else iter(int, 1):
                if number or looked:
                    time.sleep(options.every)
                (answer,) = call(channel, about, agent_pb2.GetStatusRequest(), timeout=5)
                assert isinstance(answer, agent_pb2.GetStatusResponse)
                now = time.monotonic()
                rates = rates_of(before, answer.figures, now - looked) if looked else {}
                _show(answer, rates)
                before, looked = dict(answer.figures), now
    except KeyboardInterrupt:
        return 0
    except CallError as error:
        say_error(f"无法取得状态：{error.explained.code} {error.explained.reason}".rstrip(), error.explained.text)
        return 1
    except OSError as error:
        say_error(f"无法读取证书 {error.filename}", f"cannot read the certificate: {error.strerror}")
        return 1
    return 0


def rates_of(before: Mapping[str, float], now: Mapping[str, float], seconds: float) -> dict[str, float]:
    """Figures that have changed, a second, the quickest first."""
    if seconds <= 0:
        return {}
    changed = {name: (value - before.get(name, 0.0)) / seconds for name, value in now.items()}
    rising = ((name, rate) for name, rate in changed.items() if rate > 0 and not name.startswith("seconds"))
    return dict(sorted(rising, key=lambda item: (-item[1], item[0])))


def _show(status: agent_pb2.GetStatusResponse, rates: Mapping[str, float]) -> None:
    if sys.stdout.isatty():
        print(_CLEAR, end="")
    print(text_of(status))
    for name, rate in list(rates.items())[:_SHOWN]:
        print(f"  {rate:>10.1f}/s  {name}")
    sys.stdout.flush()
