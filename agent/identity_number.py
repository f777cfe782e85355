"""The number of a resident identity card, GB 11643-1999."""

from __future__ import annotations

import datetime
import re
from typing import Final

_FORM: Final = re.compile(r"[1-9][0-9]{16}[0-9Xx]", re.ASCII)
_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECKS: Final = "10X98765432"


def is_identity_number(text: str) -> bool:
    """Whether ``text`` is an 18-character number with a real birthday and the right check character (ISO 7064 MOD 11-2)."""
    if _FORM.fullmatch(text) is None:
        return False
    try:
        datetime.date(int(text[6:10]), int(text[10:12]), int(text[12:14]))
    except ValueError:
        return False
    total = sum(int(digit) * weight for digit, weight in zip(text[:17], _WEIGHTS, strict=True))
    return _CHECKS[total % 11] == text[17].upper()
