"""Amounts of other systems: 元 <-> integer 分, exactly. Nothing is rounded, nothing is guessed."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final

_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,14}(?:\.[0-9]{1,10})?")


class AmountError(ValueError):
    """Not an amount, or not one of whole 分. The text holds no value."""


def fen_of_yuan(value: Any, places: int = 2) -> int:
    """元 (text, int or Decimal) -> a whole number of 10^-`places` 元. Raises AmountError; a float is one."""
    if isinstance(value, bool) or not isinstance(value, (str, int, Decimal)):
        raise AmountError("is no amount")
    text = value.strip() if isinstance(value, str) else format(value, "f") if isinstance(value, Decimal) else str(value)
    if not text.isascii() or _NUMBER.fullmatch(text) is None:
        raise AmountError("is no amount in digits")
    scaled = Decimal(text).scaleb(places)
    whole = int(scaled)
    if scaled != whole:
        raise AmountError(f"has more than {places} decimals")
    return whole


def yuan_of_fen(fen: int) -> str:
    """1230 -> "12.30"."""
    sign = "-" if fen < 0 else ""
    return f"{sign}{abs(fen) // 100}.{abs(fen) % 100:02d}"
