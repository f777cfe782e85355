"""Feeds of MySQL and MariaDB. A commit's order is not the order of its stamps or of AUTO_INCREMENT numbers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from his_db.document.finding import Words
from his_db.engine import Rows
from his_db.feed import FeedSpec, Obstacle, Position, PositionLost, Run, Seen, seen

_MOST_GAPS = 10_000
_ASKED = 500  # missing numbers in one statement
# trx_started is told in the server's own time zone, whatever the session's is: only its age can be compared.
_OLDEST = (
    "SELECT NOW(6), (SELECT MAX(TIMESTAMPDIFF(SECOND, trx_started, "
    "CONVERT_TZ(NOW(6), @@session.time_zone, 'SYSTEM'))) FROM information_schema.innodb_trx)"
)


class BarrieredCursor:
    """C: a time column; the position never passes the begin of the oldest open transaction.

    Without the right PROCESS other people's transactions are not shown, and the barrier would be a lie: then the
    position stays ``overlap`` behind (option, 60 s if not said), and the reconciler finds what is older.
    """

    rung = "cursor"
    grade = "C"
    needs_column = True

    def begin(self, run: Run, spec: FeedSpec) -> Position:
        sees_all = _has_process(run)
        now, barrier = self._barrier(run, spec, sees_all)
        return {"after": min(now, barrier) - spec.margin, "sees_all": sees_all}

    def look(self, run: Run, spec: FeedSpec, position: Position) -> Seen:
        sees_all = position["sees_all"]
        now, barrier = self._barrier(run, spec, sees_all)  # before the rows
        rows = run(self.statement(spec), {"after": position["after"]})
        after = max(position["after"], min(now, barrier) - spec.margin)
        return seen(spec, {"after": after, "sees_all": sees_all}, rows)

    def statement(self, spec: FeedSpec) -> str:
        return f"SELECT DISTINCT {spec.selected} FROM {spec.table} WHERE {spec.column} > :after{spec.also()}"  # noqa: S608

    def obstacles(self, run: Run, spec: FeedSpec) -> list[Obstacle]:
        self.look(run, spec, self.begin(run, spec))
        if _has_process(run):
            return []
        return [
            Obstacle(
                Words(
                    "without PROCESS others' open transactions are not seen: the position stays behind by the overlap",
                    "没有 PROCESS 权限，看不到其他会话的事务：位点只能靠 overlap 退后",
                ),
                Words("GRANT PROCESS ON *.* TO the account", "GRANT PROCESS ON *.* TO 该账号"),
            )
        ]

    def _barrier(self, run: Run, spec: FeedSpec, sees_all: bool) -> tuple[datetime, datetime]:
        if not sees_all:
            now = run("SELECT NOW(6)", {}).rows[0][0]
            return now, now - timedelta(seconds=float(spec.options.get("overlap", "60")))
        now, age = run(_OLDEST, {}).rows[0]
        return now, now if age is None else now - timedelta(seconds=int(age) + 1)


class ChangeTable:
    """A: a table that the DBA has a trigger fill: (id AUTO_INCREMENT, key). Gaps in the numbers are waited for.

    A number is given when the row is made, not when it commits: a gap may still come. It is given up after ``gap``,
    long after the reconciler has looked.
    """

    rung = "change_table"
    grade = "A"
    needs_column = True

    def begin(self, run: Run, spec: FeedSpec) -> Position:
        rows = run(f"SELECT NOW(6), COALESCE(MAX({spec.column}), 0) FROM {spec.table}", {}).rows  # noqa: S608
        now, highest = rows[0]
        # What is open now has numbers that we cannot know: everything that close below may still come.
        low = max(0, int(highest) - int(spec.options.get("open", "1000")))
        known = run(self.statement(spec), {"low": low, "high": int(highest)}).rows
        gaps = _gaps(low, int(highest), (int(row[0]) for row in known), now)
        return {"high": int(highest), "gaps": gaps}

    def look(self, run: Run, spec: FeedSpec, position: Position) -> Seen:
        now, highest = run(f"SELECT NOW(6), COALESCE(MAX({spec.column}), 0) FROM {spec.table}", {}).rows[0]  # noqa: S608
        gaps: dict[int, datetime] = dict(position["gaps"])
        # An empty table was only tidied; lower numbers in it are new ones after a restore or TRUNCATE.
        if 0 < int(highest) < position["high"] and not gaps:
            raise PositionLost("the numbers of the change table went backwards")
        high = max(int(highest), position["high"])
        # What is missing is asked for by number: one rollback must not have each look read everything behind it again.
        late = self._late(run, spec, sorted(gaps))
        rows = run(self.statement(spec), {"low": position["high"], "high": high})
        for number, *_ in late:
            gaps.pop(int(number), None)
        gaps |= _gaps(position["high"], high, (int(row[0]) for row in rows.rows), now)
        gaps = {number: since for number, since in gaps.items() if now - since < spec.gap}
        if len(gaps) > _MOST_GAPS:
            raise PositionLost("too many numbers of the change table are missing")
        return seen(spec, {"high": high, "gaps": gaps}, Rows(rows.columns, [*late, *rows.rows], rows.changed), at=1)

    def statement(self, spec: FeedSpec) -> str:
        return (
            f"SELECT {spec.column}, {spec.selected} FROM {spec.table} "  # noqa: S608
            f"WHERE {spec.column} > :low AND {spec.column} <= :high{spec.also()}"
        )

    def _late(self, run: Run, spec: FeedSpec, gaps: Sequence[int]) -> list[tuple[Any, ...]]:
        """Rows of numbers that were missing at the last look and have come."""
        found: list[tuple[Any, ...]] = []
        for first in range(0, len(gaps), _ASKED):
            values = {f"n{at}": number for at, number in enumerate(gaps[first : first + _ASKED])}
            names = ", ".join(f":{name}" for name in values)
            sql = f"SELECT {spec.column}, {spec.selected} FROM {spec.table} WHERE {spec.column} IN ({names})"  # noqa: S608
            found += run(f"{sql}{spec.also()}", values).rows
        return found

    def obstacles(self, run: Run, spec: FeedSpec) -> list[Obstacle]:
        self.look(run, spec, self.begin(run, spec))
        return []


def _gaps(low: int, high: int, known: Any, now: datetime) -> dict[int, datetime]:
    there = set(known)
    return {number: now for number in range(low + 1, high + 1) if number not in there}


def _has_process(run: Run) -> bool:
    for (grant,) in run("SHOW GRANTS", {}).rows:
        text = str(grant).upper()
        if " ON *.*" in text and ("PROCESS" in text or "ALL PRIVILEGES" in text):
            return True
    return False
