"""The port to a wake-up signal (rung W of the ladder): the database says "look now", and nothing else.

A signal names no row and is no promise: it may come too often or not at all, so watches go on polling in their own
rhythm and nothing that must not be lost hangs on it. It has a session of its own, because it waits.

Implementations: ``his_db/wakes/<engine>.py``, listed in ``his_db/registry.py``.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

from his_db.document.finding import Words


class WakeSession(Protocol):
    """One connection that waits for signals. Used by one thread; ``abort`` may come from another."""

    def heard(self, limit: float) -> Collection[str]:
        """Signals given since the last call, waiting at most ``limit`` seconds for a first one. Raises the driver's
        exceptions."""

    def abort(self) -> None:
        """Ends a ``heard`` under way, with or without an exception. Never raises."""

    def close(self) -> None:
        """Closes the connection. Never raises."""


class Wake(Protocol):
    """How an engine gives signals. Stateless."""

    def problem(self, signal: str) -> Words | None:
        """Why that cannot be a signal's name; None when it can."""

    def open(self, engine: Any, signals: Collection[str]) -> WakeSession:
        """A session that hears these signals from now on. ``engine``: of this kind. Raises the driver's exceptions."""
