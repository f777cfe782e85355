"""``his160 run``: the agent, until it is asked to stop."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import asdict

from agent.commands.options import add_config
from agent.config import Settings, load_settings
from agent.console import say_error
from agent.daemon import Ready
from agent.keeper import NobodyKeeps
from agent.log import setup_logging
from agent.notify import systemd_keeper
from agent.serving import CANNOT_SERVE, explained, serve
from agent.signals import StopRequests


def main(arguments: Sequence[str]) -> int:
    """Run the agent. Prints one JSON line when it serves: ``{"ready": true, "site": …, "port": …, "relays": […]}``."""
    parser = argparse.ArgumentParser(prog="his160 run", description="运行代理 / run the agent")
    add_config(parser)
    settings = load_settings(parser.parse_args(arguments).config, os.environ)
    setup_logging(settings.log)
    try:
        return asyncio.run(_run(settings))
    except CANNOT_SERVE as error:
        say_error(*explained(error))
    return 1


async def _run(settings: Settings) -> int:
    keeper = systemd_keeper(os.environ) or NobodyKeeps()
    with StopRequests() as requests:
        return await serve(settings, requests.asked, keeper, _announce)


def _announce(ready: Ready) -> None:
    print(json.dumps({"ready": True, **asdict(ready)}), flush=True)
