"""Keeping a term of a lease: a thread with a connection of its own renews it for as long as the event loop lives.

Renewals that waited in the event loop, and behind the writers of the store, came too late on a busy machine: a healthy
agent lost its lease to the other one. Here they wait for neither. An agent that hangs must still be followed, so the
thread renews only for ``PATIENCE`` of the span after the event loop has last shown itself.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from sync.lease_term import Renewals
from sync.store import StoreClosed, StoreError

_LOG: Final = logging.getLogger("his160.sync.lease")
RENEWALS: Final = 6  # within the span
PATIENCE: Final = 0.4  # of the span
_LATE: Final = 0.5  # of the span: what a renewal should leave of the one before


class Keeper:
    """One term, from when it was taken to when it is over.

    ``until``: when it runs out by ``clock`` (seconds, see ``sync.clock.uptime``). ``over`` is called once, by the
    thread, when the database says that the term is over.
    """

    def __init__(
        self,
        renewals: Renewals,
        name: str,
        term: int,
        span: timedelta,
        *,
        until: float,
        clock: Callable[[], float],
        over: Callable[[], None],
    ) -> None:
        self.term: Final = term
        self.until = until
        self._renewals = renewals
        self._name = name
        self._span = span
        self._clock = clock
        self._over = over
        self._heard = clock()
        self._is_silent = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="his160-lease", daemon=True)
        self._thread.start()

    @property
    def left(self) -> float:
        """Seconds until it runs out, by our clock."""
        return self.until - self._clock()

    def beat(self) -> None:
        """The event loop lives."""
        self._heard = self._clock()

    def end(self) -> None:
        """No renewal begins any more. Does not wait for one that is under way."""
        self._stop.set()

    def _work(self) -> None:
        try:
            while not self._stop.wait(self._span.total_seconds() / RENEWALS) and self.left > 0:
                if self._is_heard() and not self._renew():
                    return
        finally:
            self._renewals.close()

    def _is_heard(self) -> bool:
        silent = self._clock() - self._heard
        is_heard = silent <= PATIENCE * self._span.total_seconds()
        if not is_heard and not self._is_silent:
            _LOG.warning("the event loop is silent: the lease is not renewed", extra=self._figures(silent=silent))
        self._is_silent = not is_heard
        return is_heard

    def _renew(self) -> bool:
        """False: it is over, here or there. What fails otherwise may go well before it runs out."""
        asked = self._clock()
        try:
            is_ours = self._renewals.renew(self._name, self.term, self._span)
        except StoreClosed:
            return False
        except StoreError as error:
            _LOG.warning("the lease cannot be renewed: %s", error, extra=self._figures())
            return True
        if not is_ours:
            self.until = 0.0
            self._over()
            return False
        if self.left < _LATE * self._span.total_seconds():
            _LOG.warning("the lease is renewed late", extra=self._figures(took=self._clock() - asked))
        self.until = asked + self._span.total_seconds()
        return True

    def _figures(self, **seconds: float) -> dict[str, float]:
        given = {"left": self.left, **seconds}
        return {"term": self.term, **{name: round(value, 2) for name, value in given.items()}}
