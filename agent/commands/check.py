"""``his160 check``: configuration and mappings, every problem at once; with ``--online`` the databases too."""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path

from agent.abilities import composed
from agent.command_rules import saga_rules
from agent.commands.options import add_config
from agent.config import Settings, read_settings
from agent.console import say, say_error
from agent.daemon import load_generation
from agent.handlers.agent_service import capabilities_of
from his_db.document.problem import DocumentError
from his_db.errors import HisError
from his_db.generation import Generation
from his_db.source import Source


def main(arguments: Sequence[str]) -> int:
    """Exit code 0: all is well; 1: a database does not answer; 78 (by DocumentError): problems, all printed."""
    parser = argparse.ArgumentParser(
        prog="his160 check", description="检查配置与映射 / check configuration and mappings"
    )
    add_config(parser)
    parser.add_argument("--online", action="store_true", help="同时连接数据库 / connect to the databases too")
    parser.add_argument("--timeout", type=float, default=15.0, metavar="S", help="秒 / seconds for each (15)")
    options = parser.parse_args(arguments)
    settings, generation = _examined(options.config)
    capabilities = capabilities_of(composed(generation, generation.maps, saga_rules(settings)))
    available = sum(capability.available for capability in capabilities)
    say(
        f"配置正确，映射版本 {generation.revision[:12]}",
        f"configuration and mappings are good: {generation.revision[:12]}",
    )
    say(
        f"已开通 {available} / {len(capabilities)} 个接口",
        f"{available} of {len(capabilities)} operations are available",
    )
    if not options.online:
        return 0
    return asyncio.run(_online(settings, options.timeout))


def _examined(config: Path) -> tuple[Settings, Generation]:
    """A certificate that has not come yet must not hide what is wrong with the mappings: all is told at once.

    Raises DocumentError with every problem.
    """
    reading = read_settings(config, os.environ)
    if reading.settings is None:
        raise DocumentError(reading.problems)
    problems = reading.problems
    if not reading.settings.mapping.folder.is_dir() and problems:
        raise DocumentError(problems)
    try:
        generation = load_generation(reading.settings)
    except DocumentError as error:
        raise DocumentError([*problems, *error.problems]) from None
    if problems:
        raise DocumentError(problems)
    return reading.settings, generation


async def _online(settings: Settings, timeout: float) -> int:
    """Ping every source, one after another; the exit code."""
    failed = 0
    for name, config in settings.sources.items():
        source = Source(config.settings, config.lanes, load=config.load)
        try:
            version = await source.ping(deadline=time.monotonic() + timeout)
            say(f"数据库 {name} 已连接：{version}", f"source {name} answers")
        except HisError as error:
            failed = 1
            say_error(f"数据库 {name} 无法连接", str(error))
        finally:
            await source.close()
    return failed
