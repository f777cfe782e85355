"""The two books of a heat compared: what the HIS says of each order, and what the other side has stored of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

BOOKED: Final = "BOOKED"
PAID: Final = "PAID"
CANCELLED: Final = "CANCELLED"
_TELLS: Final = {PAID: "EVENT_KIND_PAID", CANCELLED: "EVENT_KIND_CANCELLED"}


@dataclass(frozen=True, slots=True)
class Line:
    """An event as it came, once or again."""

    event_id: str
    order_no: str
    kind: str
    sequence: int


@dataclass(slots=True)
class Findings:
    """``lost``: the state at the end was never told. ``doubled``: one fact under two ids. ``contradictory``: what the
    HIS does not bear out, or the last word is not the last. ``again``: the same event once more, which is no effect."""

    events: int = 0
    again: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    contradictory: list[str] = field(default_factory=list)

    @property
    def are_none(self) -> bool:
        return not (self.lost or self.doubled or self.contradictory)


def lines(text: str) -> list[Line]:
    """Of a book; a last line that was torn by the death was not acknowledged."""
    whole = text[: text.rfind("\n") + 1]
    return [Line(*parts[:3], int(parts[3])) for parts in (line.split(" ") for line in whole.splitlines())]


def compare(final: Mapping[str, str], told: Sequence[Line]) -> Findings:
    """``final``: order → state in the HIS, when all is quiet."""
    found = Findings()
    first: dict[str, Line] = {}
    for line in told:
        found.again += line.event_id in first
        first.setdefault(line.event_id, line)
    found.events = len(first)
    of_order: dict[str, list[Line]] = defaultdict(list)
    for line in first.values():
        of_order[line.order_no].append(line)
    for order, state in final.items():
        _judge(order, state, of_order.pop(order, []), found)
    found.contradictory += [f"{order}: told, and the HIS has none" for order in of_order]
    return found


def _judge(order: str, state: str, told: Sequence[Line], found: Findings) -> None:
    kinds = [line.kind for line in told]
    if state in _TELLS and _TELLS[state] not in kinds:
        found.lost.append(f"{order}: {state}, told {kinds}")
    found.doubled += [f"{order}: {kind}" for kind in set(kinds) if kinds.count(kind) > 1]
    if _TELLS[CANCELLED] in kinds and state != CANCELLED:
        found.contradictory.append(f"{order}: {state}, told {kinds}")
    if kinds and state == BOOKED:
        found.contradictory.append(f"{order}: nothing has happened, told {kinds}")
    sequences = [line.sequence for line in told]
    if sequences != sorted(sequences) or (state in _TELLS and kinds and kinds[-1] != _TELLS[state]):
        found.contradictory.append(f"{order}: {state}, in the order {kinds}")
