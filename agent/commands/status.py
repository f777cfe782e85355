"""``his160 status``: how a running agent is."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from his160.v1 import agent_pb2

from agent.commands.call import CallError, call
from agent.commands.options import add_target, read_target
from agent.config import load_settings
from agent.console import say_error
from agent.contract_json import to_json
from agent.mapping_shelf import MappingShelf, shelf_folder
from his_db.contract import operation

_WORDS = {
    agent_pb2.HEALTH_UNSPECIFIED: "未知 unknown",
    agent_pb2.HEALTH_OK: "正常 ok",
    agent_pb2.HEALTH_DEGRADED: "受限 degraded",
    agent_pb2.HEALTH_DOWN: "故障 down",
}


def main(arguments: Sequence[str]) -> int:
    """Print the snapshot; exit code 1 when a part is down or the agent cannot be reached."""
    parser = argparse.ArgumentParser(prog="his160 status", description="查看运行状态 / show how a running agent is")
    parser.add_argument("--json", action="store_true", help="输出 JSON / print JSON")
    parser.add_argument("--timeout", type=float, default=5.0, metavar="S", help="秒 / seconds (5)")
    add_target(parser)
    options = parser.parse_args(arguments)
    target = read_target(parser, options)
    try:
        with target.channel() as channel:
            about = operation("AgentService.GetStatus")
            (answer,) = call(channel, about, agent_pb2.GetStatusRequest(), timeout=options.timeout)
    except CallError as error:
        explained = error.explained
        say_error(f"无法取得状态：{explained.code} {explained.reason}".rstrip(), explained.text)
        return 1
    except OSError as error:
        say_error(f"无法读取证书 {error.filename}", f"cannot read the certificate: {error.strerror}")
        return 1
    assert isinstance(answer, agent_pb2.GetStatusResponse)
    print(to_json(answer) if options.json else text_of(answer) + _refused(options.config))
    return 1 if answer.health == agent_pb2.HEALTH_DOWN else 0


def _refused(config: Path | None) -> str:
    """All problems of the mappings that were refused, where the agent's own files are at hand (``--config``)."""
    if config is None:
        return ""
    file = MappingShelf(
        shelf_folder(load_settings(config, os.environ, require_files=False, secrets=False).state.path)
    ).refused_file
    try:
        _, _, problems = file.read_text(encoding="utf-8").partition("\n")
    except OSError:
        return ""
    return f"\n  未生效的映射 refused mappings:\n{problems.rstrip()}"


def text_of(status: agent_pb2.GetStatusResponse) -> str:
    """The snapshot for people."""
    lines = [f"{status.site} {status.instance}  {_WORDS[status.health]}"]
    lines += [
        f"  {component.name:<24} {_WORDS[component.health]:<14} {component.detail}".rstrip()
        for component in status.components
    ]
    abnormal = int(status.figures.get("refunds:ABNORMAL", 0))
    lines.append(
        f"  待投递 pending {status.outbox_pending}, 需人工处理 dead {status.outbox_dead}, "
        f"结果未知 unknown {status.unknown_outcomes}, 退款异常 abnormal refunds {abnormal}, "
        f"内存 memory {status.resident_bytes // 1024 // 1024} MB"
    )
    return "\n".join(lines)
