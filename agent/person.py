"""The person at the keyboard: who it is, and writing down in the audit what they did."""

from __future__ import annotations

import asyncio
import getpass
import socket

from agent.config import Settings
from agent.console import say_error
from agent.state_store import open_state
from sync.audit import Audit, Caller
from sync.clock import utc_now
from sync.store import StoreError


def person() -> str:
    """``USER@HOST`` of the operating system."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):
        name = "?"
    return f"{name}@{socket.gethostname()}"


def at_the_keyboard() -> Caller:
    """The person as the audit names them."""
    return Caller(f"os/{person()}", "cli")


def write_down(settings: Settings, action: str, *, result: str, parameters: str, revision: str = "") -> None:
    """Put what a person has just done into the audit; where that cannot be, say so. Never raises StoreError."""
    try:
        asyncio.run(_append(settings, action, result, parameters, revision))
    except StoreError as error:
        say_error(f"操作已完成，但未能写入审计：{type(error).__name__}", f"done, but not in the audit: {error}")


async def _append(settings: Settings, action: str, result: str, parameters: str, revision: str) -> None:
    store = open_state(settings.state)
    try:
        audit = Audit(store, utc_now, instance=settings.site.instance)
        caller = at_the_keyboard()
        await audit.append(
            audit.entry(action, result=result, parameters=parameters, mapping_revision=revision, caller=caller)
        )
    finally:
        await store.close()
