"""``[insurance]`` and ``[payment]`` of config.toml: what the site says about commands that move money."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any


@dataclass(frozen=True, slots=True)
class InsuranceSettings:
    """医保 settlements of the agent's own. ``family_apart``: 个人账户共济 counts beside the personal account.

    ``msgid_sequences``: first and last that are this agent's. ``quote_keep``: how long a quoted visit stays open for
    its settlement.
    """

    institution: str = ""
    msgid_sequences: tuple[int, int] = (0, 8999)
    family_apart: bool = False
    use_account: bool = True
    medical_type: str = "12"
    quote_keep: timedelta = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class PaymentSettings:
    """How long a trade may be paid, and how long a command waits for a retry of its caller before it goes back.

    ``confirm_within``: how long what was paid waits for its confirmation; ``returns_unconfirmed``: then it goes back.
    """

    window: timedelta = timedelta(minutes=15)
    patience: timedelta = timedelta(minutes=2)
    confirm_within: timedelta = timedelta(hours=2)
    returns_unconfirmed: bool = True


def insurance_settings(values: Mapping[str, Any]) -> InsuranceSettings:
    return InsuranceSettings(
        institution=values["institution"],
        msgid_sequences=sequences_of(values["msgid_sequences"]),
        family_apart=values["family_account"] == "apart",
        use_account=values["use_account"],
        medical_type=values["medical_type"],
        quote_keep=values["quote_keep"],
    )


def payment_settings(values: Mapping[str, Any]) -> PaymentSettings:
    return PaymentSettings(
        window=values["window"],
        patience=values["patience"],
        confirm_within=values["confirm_within"],
        returns_unconfirmed=values["unconfirmed"] == "refund",
    )


def sequences_of(text: str) -> tuple[int, int]:
    """First and last of ``0-8999``."""
    first, _, last = text.partition("-")
    return int(first), int(last)
