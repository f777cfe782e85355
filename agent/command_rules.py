"""What the configuration says about commands: rules of their sagas, and how long a write may still be at work."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final
from zoneinfo import ZoneInfo

from agent.config import Settings
from his_db.generation import Generation
from sync.saga_context import SagaRules

_MARGIN: Final = timedelta(seconds=2)


def saga_rules(settings: Settings) -> SagaRules:
    """The site's rules, by ``[insurance]`` and ``[payment]``."""
    insurance = settings.insurance
    return SagaRules(
        site=settings.site.code,
        zone=ZoneInfo(settings.site.timezone),
        institution=insurance.institution,
        sequences=insurance.msgid_sequences,
        family_apart=insurance.family_apart,
        use_account=insurance.use_account,
        medical_type=insurance.medical_type,
        quote_keep=insurance.quote_keep,
        payment_window=settings.payment.window,
        patience=settings.payment.patience,
        confirm_within=settings.payment.confirm_within,
        returns_unconfirmed=settings.payment.returns_unconfirmed,
    )


def settle_times(settings: Settings, generation: Callable[[], Generation]) -> Callable[[str], timedelta]:
    """How long a write of an operation whose connection broke may still be at work: its time-outs, and a margin.

    The mapping's own ``timeout`` counts where it is longer than the source's.
    """
    by_source = {}
    for name, source in settings.sources.items():
        lane = source.lanes.get("write")
        statement = lane.statement_timeout if lane is not None else None
        by_source[name] = (statement or source.settings.statement_timeout, source.settings.lock_timeout)
    longest = max(statement + lock for statement, lock in by_source.values())

    def settle(operation: str) -> timedelta:
        compiled = generation().operations.get(operation)
        if compiled is None or compiled.source not in by_source:
            return longest + _MARGIN
        statement, lock = by_source[compiled.source]
        return max(statement, compiled.timeout or timedelta(0)) + lock + _MARGIN

    return settle
