"""Feeds of Oracle. No server of this kind was met here: see ``his_db/feeds/mssql.py``."""

from __future__ import annotations

from datetime import datetime

from his_db.feed import FeedSpec, Obstacle, Position, PositionLost, Run, Seen, seen

_SCN = "SELECT DBMS_FLASHBACK.GET_SYSTEM_CHANGE_NUMBER FROM DUAL"


class FlashbackVersions:
    """A: Flashback Version Query, in order of commits, as far back as undo reaches.

    Needs FLASHBACK on the table and EXECUTE on DBMS_FLASHBACK. Undo that is gone (ORA-01555, 30052, 08180, 01466) is
    the driver's error and leads to a look at the whole window.
    """

    rung = "flashback"
    grade = "A"
    needs_column = False

    def begin(self, run: Run, spec: FeedSpec) -> Position:
        return {"scn": int(run(_SCN, {}).rows[0][0])}

    def look(self, run: Run, spec: FeedSpec, position: Position) -> Seen:
        high = int(run(_SCN, {}).rows[0][0])
        if high < position["scn"]:
            raise PositionLost("the SCN went backwards: the database was restored")
        if high == position["scn"]:
            return Seen(position)
        rows = run(self.statement(spec), {"low": position["scn"] + 1, "high": high})
        return seen(spec, {"scn": high}, rows)

    def statement(self, spec: FeedSpec) -> str:
        return (
            f"SELECT DISTINCT {spec.selected} FROM {spec.table} VERSIONS BETWEEN SCN :low AND :high "  # noqa: S608
            f"WHERE versions_startscn BETWEEN :low AND :high{spec.also()}"
        )

    def obstacles(self, run: Run, spec: FeedSpec) -> list[Obstacle]:
        self.look(run, spec, self.begin(run, spec))
        return []


class RowScn:
    """B: ORA_ROWSCN above the SCN of the last look. Without ROWDEPENDENCIES it is the block's: more keys, not fewer."""

    rung = "rowscn"
    grade = "B"
    needs_column = False

    def begin(self, run: Run, spec: FeedSpec) -> Position:
        return {"scn": int(run(_SCN, {}).rows[0][0])}

    def look(self, run: Run, spec: FeedSpec, position: Position) -> Seen:
        high = int(run(_SCN, {}).rows[0][0])  # before the rows
        if high < position["scn"]:
            raise PositionLost("the SCN went backwards: the database was restored")
        rows = run(self.statement(spec), {"scn": position["scn"]})
        return seen(spec, {"scn": high}, rows)

    def statement(self, spec: FeedSpec) -> str:
        return f"SELECT DISTINCT {spec.selected} FROM {spec.table} WHERE ORA_ROWSCN > :scn{spec.also()}"  # noqa: S608

    def obstacles(self, run: Run, spec: FeedSpec) -> list[Obstacle]:
        self.look(run, spec, self.begin(run, spec))
        return []


class ChangeTable(RowScn):
    """A: a table made with ROWDEPENDENCIES that the DBA has a trigger fill: (key, …)."""

    rung = "change_table"
    grade = "A"


class BarrieredCursor:
    """C: a time column; the position never passes the begin of the oldest open transaction of any instance.

    Needs SELECT on GV_$TRANSACTION. ``margin`` covers the clocks of RAC nodes (SymmetricDS takes 60 s).
    """

    rung = "cursor"
    grade = "C"
    needs_column = True

    def begin(self, run: Run, spec: FeedSpec) -> Position:
        now, barrier = self._barrier(run)
        return {"after": min(now, barrier) - spec.margin}

    def look(self, run: Run, spec: FeedSpec, position: Position) -> Seen:
        now, barrier = self._barrier(run)
        rows = run(self.statement(spec), {"after": position["after"]})
        return seen(spec, {"after": max(position["after"], min(now, barrier) - spec.margin)}, rows)

    def statement(self, spec: FeedSpec) -> str:
        return f"SELECT DISTINCT {spec.selected} FROM {spec.table} WHERE {spec.column} > :after{spec.also()}"  # noqa: S608

    def obstacles(self, run: Run, spec: FeedSpec) -> list[Obstacle]:
        self.look(run, spec, self.begin(run, spec))
        return []

    def _barrier(self, run: Run) -> tuple[datetime, datetime]:
        rows = run("SELECT SYSDATE, (SELECT MIN(start_date) FROM gv$transaction) FROM DUAL", {}).rows
        now, oldest = rows[0]
        return now, now if oldest is None else oldest
