"""Feeds of SQLite. It has one writer at a time: numbers are given in the order of commits."""

from __future__ import annotations

from his_db.feed import FeedSpec, Obstacle, Position, PositionLost, Run, Seen, seen


class ChangeTable:
    """A: a table that the DBA has a trigger fill: (id INTEGER PRIMARY KEY AUTOINCREMENT, key)."""

    rung = "change_table"
    grade = "A"
    needs_column = True

    def begin(self, run: Run, spec: FeedSpec) -> Position:
        return {"after": self._highest(run, spec)}

    def look(self, run: Run, spec: FeedSpec, position: Position) -> Seen:
        highest = self._highest(run, spec)
        if highest < position["after"]:
            raise PositionLost("the numbers of the change table went backwards")
        rows = run(self.statement(spec), {"after": position["after"], "high": highest})
        return seen(spec, {"after": highest}, rows)

    def statement(self, spec: FeedSpec) -> str:
        return (
            f"SELECT DISTINCT {spec.selected} FROM {spec.table} "  # noqa: S608
            f"WHERE {spec.column} > :after AND {spec.column} <= :high{spec.also()}"
        )

    def obstacles(self, run: Run, spec: FeedSpec) -> list[Obstacle]:
        self.look(run, spec, self.begin(run, spec))
        return []

    def _highest(self, run: Run, spec: FeedSpec) -> int:
        rows = run(f"SELECT COALESCE(MAX({spec.column}), 0) FROM {spec.table}", {}).rows  # noqa: S608
        return int(rows[0][0])
