"""The lease of a site: one agent at a time watches the HIS, delivers events and does the periodic work.

Time is the database's alone: no two agents need to agree about theirs. The term is the fencing token: it grows with
every holder, and what a holder commits is committed only while its term is the present one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """Who has the lease. ``left``: for how long yet, by the database's clock; zero or less: it has run out."""

    name: str
    holder: str
    term: int
    left: timedelta


class LeaseTable(Protocol):
    """Leases by name."""

    def get(self, name: str) -> LeaseRow | None: ...

    def take(self, name: str, holder: str, span: timedelta) -> int | None:
        """Takes the lease for ``span`` when it has run out; its new term. None: somebody has it, maybe this holder."""

    def renew(self, name: str, term: int, span: timedelta) -> bool:
        """Makes it last ``span`` from now; False when that term is over."""

    def give_back(self, name: str, term: int) -> None:
        """Lets it run out now, if that term is not over."""

    def check(self, name: str, term: int) -> None:
        """Raises LeaseLost when that term is over."""


class Renewals(Protocol):
    """Renews leases on a connection of its own, behind no other writer. Called from threads; never from a unit."""

    def renew(self, name: str, term: int, span: timedelta) -> bool:
        """As ``LeaseTable.renew``, committed. Ends within the span. Raises StoreError, StoreClosed."""

    def close(self) -> None:
        """Ends the connection. May be called twice."""
