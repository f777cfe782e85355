"""Personal values for people who need not know them: 张*三, 4403**********1234, 138****1234."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final


def name(text: str) -> str:
    """The first character, and from three on the last: 张*, 张*三, 欧***尔."""
    if len(text) < 3:
        return text[:1] + "*" * (len(text) - 1 or 1)
    return text[0] + "*" * (len(text) - 2) + text[-1]


def document(text: str) -> str:
    """Four at each end of a long number, nothing of a short one."""
    return text[:4] + "*" * (len(text) - 8) + text[-4:] if len(text) > 12 else "*" * len(text)


def phone(text: str) -> str:
    """Three at the front and four at the end."""
    return text[:3] + "*" * (len(text) - 7) + text[-4:] if len(text) > 7 else "*" * len(text)


MASKS: Final[Mapping[str, Callable[[str], str]]] = MappingProxyType(
    {"name": name, "document": document, "phone": phone}
)
