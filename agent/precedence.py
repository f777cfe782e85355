"""Who gets the last places when there are many calls: commands and the agent's own answers, before reads of the HIS.

In a rush there are a hundred who look for each who books. A read that is refused looks again; a booking that is refused
has lost its number to somebody else.
"""

from __future__ import annotations

from functools import cache
from types import MappingProxyType

from his_db.contract import ContractOperation, operation, operation_names


def is_urgent(about: ContractOperation) -> bool:
    """Whether a call may take the last places."""
    return not about.is_read or about.is_own


def is_urgent_method(full_method: str) -> bool:
    """The same by full method name; a method that the contract does not know is not urgent."""
    return _methods().get(full_method, False)


def places(limit: int, *, urgent: bool) -> int:
    """How many of ``limit`` places such a call may find taken and still begin: reads leave a quarter to the others."""
    return limit if urgent else limit - limit // 4


@cache
def _methods() -> MappingProxyType[str, bool]:
    found = (operation(name) for name in operation_names())
    return MappingProxyType({about.full_method: is_urgent(about) for about in found})
