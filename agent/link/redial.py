"""When to dial again: full jitter, quick while the loss is fresh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

MAX_DOUBLINGS = 20


@dataclass(frozen=True, slots=True)
class RedialPolicy:
    """Limits of the wait between two dials, in seconds.

    After an established link was lost the relay is most likely restarting: for ``quick_attempts`` dials the wait
    is at most ``quick_cap``, so that the link is back within a second after the relay is. Then the cap is ``cap``.
    """

    base: float = 0.1
    cap: float = 30.0
    quick_cap: float = 1.0
    quick_attempts: int = 60
    stable_after: float = 5.0
    """A link that stood this long was a good one. A shorter one does not start the doubling anew: a relay that accepts
    and drops at once must not be dialled twenty times a second."""


class Redial:
    """The schedule of one link. Pure but for the injected ``random``."""

    def __init__(self, policy: RedialPolicy, random: Callable[[], float]) -> None:
        self._policy = policy
        self._random = random
        self._failures = 0
        self._quick_left = 0

    def established(self) -> None:
        """The link stands: a loss from now on is fresh."""
        self._quick_left = self._policy.quick_attempts

    def lost(self, stood: float) -> None:
        """An established link is gone after ``stood`` seconds."""
        if stood >= self._policy.stable_after:
            self._failures = 0

    def later(self) -> float:
        """Seconds to wait when the relay asked not to be dialled at once: between half the cap and the cap."""
        return self._policy.cap * (0.5 + 0.5 * self._random())

    def delay(self) -> float:
        """Seconds to wait before the next dial: uniform in [0, ceiling), the ceiling doubling up to the cap."""
        ceiling = self._policy.base * 2.0 ** min(self._failures, MAX_DOUBLINGS)
        ceiling = min(ceiling, self._policy.cap)
        if self._quick_left > 0:
            self._quick_left -= 1
            ceiling = min(ceiling, self._policy.quick_cap)
        self._failures += 1
        return self._random() * ceiling
