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
from agent.daemon import Daemon
from agent.log import setup_logging
from agent.signals import StopRequests
from sync.store import StoreError, StoreLocked


def main(arguments: Sequence[str]) -> int:
    """Run the agent. Prints one JSON line when it serves: ``{"ready": true, "site": …, "port": …, "relays": […]}``."""
    parser = argparse.ArgumentParser(prog="his160 run", description="运行代理 / run the agent")
    add_config(parser)
    settings = load_settings(parser.parse_args(arguments).config, os.environ)
    setup_logging(settings.log)
    try:
        return asyncio.run(_run(settings))
    except StoreLocked as error:
        say_error("另一个代理正在使用该状态库", str(error))
    except StoreError as error:
        say_error(f"状态库无法使用：{type(error).__name__}", str(error))
    except OSError as error:
        say_error("无法启动", str(error))
    return 1


async def _run(settings: Settings) -> int:
    with StopRequests() as requests:
        daemon = Daemon(settings)
        try:
            ready = await daemon.start()
            print(json.dumps({"ready": True, **asdict(ready)}), flush=True)
            return await daemon.watch(requests.asked)
        finally:
            await daemon.stop()
