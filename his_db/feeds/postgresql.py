"""Feeds of PostgreSQL (also Kingbase and openGauss where they keep its system columns).

Measured with 12 writers and transactions of up to 6 s (design capture-sql 6.4): a naive cursor misses more than half of
the final states, an overlap of a second a quarter; the xmin window and the seal on open virtual transactions miss none.
"""

from __future__ import annotations

from datetime import datetime

from his_db.document.finding import Words
from his_db.feed import FeedSpec, Obstacle, Position, Run, Seen, seen

_MOST_MARKS = 256


class XminWindow:
    """B: rows whose transaction was not yet over at the last look. One statement is one snapshot.

    ``prev`` is the oldest transaction that was open then: what commits later has a number that is not below it. A long
    transaction anywhere makes rows come again and again, which costs a comparison each.
    """

    rung = "xmin"
    grade = "B"
    needs_column = False

    def begin(self, run: Run, spec: FeedSpec) -> Position:
        return {"xmin": self._mark(run)}

    def look(self, run: Run, spec: FeedSpec, position: Position) -> Seen:
        mark = self._mark(run)  # before the rows: what starts between the two is above it
        rows = run(self.statement(spec), {"prev": position["xmin"]})
        return seen(spec, {"xmin": mark}, rows)

    def statement(self, spec: FeedSpec) -> str:
        """Rows written by transactions from ``:prev`` on. ``age`` counts backwards and survives the wrap-around."""
        return (
            f"SELECT DISTINCT {spec.selected} FROM {spec.table} "  # noqa: S608 - names of the checked mapping
            f"WHERE age(xmin) <= age(CAST(CAST(:prev AS text) AS xid)){spec.also()}"
        )

    def obstacles(self, run: Run, spec: FeedSpec) -> list[Obstacle]:
        kind = run("SELECT relkind FROM pg_class WHERE oid = to_regclass(:name)", {"name": spec.table}).rows
        if kind and str(kind[0][0]) not in {"r", "p", "m"}:
            words = Words("a view has no xmin: name the table behind it", "视图没有 xmin：请写背后的表")
            return [Obstacle(words, Words("table = the base table", "table 写基表"))]
        self.look(run, spec, self.begin(run, spec))
        return []

    def _mark(self, run: Run) -> str:
        # The epoch is cut off: xmin of a row has 32 bits, too.
        mark = "SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS numeric) % 4294967296"
        return str(int(run(mark, {}).rows[0][0]))


class SealedCursor:
    """C: a time column, sealed by the set of transactions that were open when the stamp was possible.

    A mark is a time and the virtual transactions open then. When all of them are over, no row can come any more with a
    stamp below that time. Until then rows above the last sealed time come again at each look.
    """

    rung = "cursor"
    grade = "C"
    needs_column = True

    def begin(self, run: Run, spec: FeedSpec) -> Position:
        now, is_open, prepared = self._mark(run)
        return {"sealed": now - spec.margin, "marks": [(now, is_open)], "prepared": prepared}

    def look(self, run: Run, spec: FeedSpec, position: Position) -> Seen:
        now, is_open, prepared = self._mark(run)
        rows = run(self.statement(spec), {"sealed": position["sealed"]})
        marks = [(time, before & is_open) for time, before in position["marks"]]
        sealed = position["sealed"]
        while marks and not marks[0][1] and not prepared:
            sealed = max(sealed, marks.pop(0)[0] - spec.margin)
        if len(marks) < _MOST_MARKS:
            marks.append((now, is_open))
        return seen(spec, {"sealed": sealed, "marks": marks, "prepared": prepared}, rows)

    def statement(self, spec: FeedSpec) -> str:
        return f"SELECT DISTINCT {spec.selected} FROM {spec.table} WHERE {spec.column} > :sealed{spec.also()}"  # noqa: S608

    def obstacles(self, run: Run, spec: FeedSpec) -> list[Obstacle]:
        self.look(run, spec, self.begin(run, spec))
        return []

    def _mark(self, run: Run) -> tuple[datetime, frozenset[str], bool]:
        """The time, the virtual transactions that are open, and whether a prepared one may come back any time."""
        rows = run(
            "SELECT now() AT TIME ZONE current_setting('TimeZone'), "
            "ARRAY(SELECT CAST(virtualtransaction AS text) FROM pg_locks WHERE locktype = 'virtualxid' "
            "AND mode = 'ExclusiveLock' AND pid <> pg_backend_pid()), "
            "EXISTS (SELECT 1 FROM pg_prepared_xacts)",
            {},
        ).rows
        time, is_open, prepared = rows[0]
        return time, frozenset(str(item) for item in is_open), bool(prepared)


class ChangeTable(XminWindow):
    """A: a small table that the DBA has a trigger fill: (key, …). Read by its own xmin window, so late commits show."""

    rung = "change_table"
    grade = "A"
