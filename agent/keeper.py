"""Whoever started the process and looks after it: systemd, the Windows service manager, or nobody.

A keeper is told when the agent serves, that it lives, and that it stops. It is told that it lives only while that is
true (``agent.liveness``), so that a process which hangs is found and started again.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol


class Keeper(Protocol):
    """All methods are called in the event loop and must not block."""

    @property
    def patience(self) -> timedelta | None:
        """How long it may hear nothing before it ends the process; None: it does not watch."""

    def ready(self, status: str) -> None:
        """The borders serve."""

    def alive(self, status: str) -> None:
        """Loop and parts live; ``status`` is one line for people, without personal data."""

    def unwell(self, trouble: str) -> None:
        """A part does not live: this is no sign of life."""

    def stopping(self, status: str) -> None:
        """The agent has begun to stop."""


class NobodyKeeps:
    """A process on a console."""

    @property
    def patience(self) -> timedelta | None:
        """It does not watch."""
        return None

    def ready(self, status: str) -> None:
        """Nobody to tell."""

    def alive(self, status: str) -> None:
        """Nobody to tell."""

    def unwell(self, trouble: str) -> None:
        """Nobody to tell."""

    def stopping(self, status: str) -> None:
        """Nobody to tell."""
