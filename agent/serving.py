"""The agent from its start to its end, whoever started it: a console, systemd or the Windows service manager."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from agent.config import Settings
from agent.daemon import Daemon, Ready
from agent.keeper import Keeper
from agent.liveness import tell_keeper
from agent.memory import settle
from sync.store import StoreError, StoreLocked

CANNOT_SERVE: Final = (StoreError, OSError)
"""What ends a start besides DocumentError; ``explained`` has the sentence."""


async def serve(settings: Settings, stop: asyncio.Event, keeper: Keeper, announce: Callable[[Ready], None]) -> int:
    """Serve until ``stop`` is set (0) or a part dies (1). Raises DocumentError and CANNOT_SERVE for a failed start.

    The keeper hears that it is ready only after the borders serve, and signs of life only while the parts live.
    """
    daemon = Daemon(settings)
    watched: asyncio.Task[None] | None = None
    try:
        ready = await daemon.start()
        settle()
        announce(ready)
        keeper.ready(f"正常运行 serving, port {ready.port}" if ready.port else "正常运行 serving")
        watched = asyncio.create_task(tell_keeper(keeper, daemon.liveness()), name="keeper")
        return await daemon.watch(stop)
    finally:
        if watched is not None:
            watched.cancel()
        keeper.stopping("正在停止 stopping")
        await daemon.stop()


def explained(error: StoreError | OSError) -> tuple[str, str]:
    """Why the agent could not start, in Chinese and English."""
    if isinstance(error, StoreLocked):
        return "另一个代理正在使用该状态库", str(error)
    if isinstance(error, StoreError):
        return f"状态库无法使用：{type(error).__name__}", str(error)
    return "无法启动", str(error)
