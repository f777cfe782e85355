"""Whether a rush was right: what the patients were told against what the HIS holds, read by its own window program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent.rush.patient import End, Story
from his_db.sample import OrderRow

LIVE: Final = frozenset({"BOOKED", "PAID", "CHECKED_IN", "VISITED"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """Counts of what must be 0, and the first cases of each in words.

    ``oversold``: numbers given twice, and sessions with more orders than numbers. ``lost``: told booked or paid and not
    so in the HIS. ``duplicate``: more than one order, or a second charge, for one patient's order. ``unasked``: the HIS
    holds an order whose patient was told that there is none.
    """

    oversold: int
    lost: int
    duplicate: int
    unasked: int
    cases: Sequence[str]

    @property
    def is_right(self) -> bool:
        """Whether nothing was found."""
        return not (self.oversold or self.lost or self.duplicate or self.unasked)

    def summary(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {
            "oversold": self.oversold,
            "lost": self.lost,
            "duplicate": self.duplicate,
            "unasked": self.unasked,
            "cases": list(self.cases),
        }


def judge(stories: Sequence[Story], rows: Sequence[OrderRow], numbers: Mapping[str, int]) -> Verdict:
    """``rows``: every order of the platform in the HIS. ``numbers``: how many numbers were released, by session."""
    mine = {story.order_no: story for story in stories}
    live = [row for row in rows if row.state in LIVE]
    oversold = _oversold(live, numbers, mine)
    lost: list[str] = []
    duplicate: list[str] = []
    unasked: list[str] = []
    found: dict[str, list[OrderRow]] = {order_no: [] for order_no in mine}
    for row in live:
        if row.platform_order_no in found:
            found[row.platform_order_no].append(row)
    for order_no, story in mine.items():
        held = found[order_no]
        if len(held) > 1:
            duplicate.append(f"{order_no}: {len(held)} orders in the HIS")
        if story.end.is_served and not held:
            lost.append(f"{order_no}: told {story.end.value}, not in the HIS")
        elif story.end is End.PAID and held[0].state == "BOOKED":
            lost.append(f"{order_no}: told paid, booked in the HIS")
        elif held and held[0].paid_fen > held[0].total_fen:
            duplicate.append(f"{order_no}: {held[0].paid_fen} fen charged of {held[0].total_fen}")
        elif held and not story.end.is_served and not story.in_doubt and story.end is not End.OUT_OF_TIME:
            unasked.append(f"{order_no}: told {story.end.value}, {held[0].state} in the HIS")
    cases = [case for group in (oversold, lost, duplicate, unasked) for case in group[:3]]
    return Verdict(len(oversold), len(lost), len(duplicate), len(unasked), cases)


def _oversold(live: Sequence[OrderRow], numbers: Mapping[str, int], mine: Mapping[str, Story]) -> list[str]:
    released = [row for row in live if row.schedule_id in numbers and row.platform_order_no in mine]
    places = Counter((row.schedule_id, row.number) for row in released)
    found = [
        f"number {number} of {session} given {count} times" for (session, number), count in places.items() if count > 1
    ]
    for session, count in Counter(row.schedule_id for row in released).items():
        if count > numbers[session]:
            found.append(f"session {session}: {count} orders for {numbers[session]} numbers")
    return found
