"""Feeds of SQL Server. Never NOLOCK; where another's lock is in the way, the look fails and is made again.

No server of this kind was met here: the statements are parsed and compared with golden files, and run by the opt-in
live suite (docs/engines.md).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from his_db.document.finding import Words
from his_db.feed import FeedSpec, Obstacle, Position, PositionLost, Run, Seen, seen


class ChangeTracking:
    """A: Change Tracking, in order of commits; net changes since a version.

    Needs ``CHANGE_TRACKING = ON`` of database and table, and VIEW CHANGE TRACKING.
    """

    rung = "change_tracking"
    grade = "A"
    needs_column = False

    def begin(self, run: Run, spec: FeedSpec) -> Position:
        low, high = self._bounds(run, spec)
        if low is None or high is None:
            raise PositionLost("change tracking is off, or not shown to this account")
        return {"version": high}

    def look(self, run: Run, spec: FeedSpec, position: Position) -> Seen:
        low, high = self._bounds(run, spec)
        if low is None or high is None:
            raise PositionLost("change tracking is off, or not shown to this account")
        if position["version"] < low:
            raise PositionLost("the versions since the last look were cleaned up")
        if high < position["version"]:
            raise PositionLost("the version went backwards: the database was restored")
        rows = run(self.statement(spec), {"version": position["version"], "high": high})
        again, _ = self._bounds(run, spec)  # without SNAPSHOT isolation the clean-up may have run meanwhile
        if again is None or position["version"] < again:
            raise PositionLost("the versions since the last look were cleaned up")
        return seen(spec, {"version": high}, rows)

    def statement(self, spec: FeedSpec) -> str:
        return (
            f"SELECT DISTINCT ct.{spec.key or 'SYS_CHANGE_VERSION'} "  # noqa: S608
            f"FROM CHANGETABLE(CHANGES {spec.table}, :version) AS ct "
            "WHERE ct.SYS_CHANGE_VERSION <= :high"
        )

    def obstacles(self, run: Run, spec: FeedSpec) -> list[Obstacle]:
        low, _ = self._bounds(run, spec)
        if low is not None:
            return []
        return [
            Obstacle(
                Words("change tracking is off, or not shown to this account", "更改跟踪未开启，或该账号无权查看"),
                Words(
                    f"ALTER TABLE {spec.table} ENABLE CHANGE_TRACKING; GRANT VIEW CHANGE TRACKING ON {spec.table}",
                    f"ALTER TABLE {spec.table} ENABLE CHANGE_TRACKING；GRANT VIEW CHANGE TRACKING ON {spec.table}",
                ),
            )
        ]

    def _bounds(self, run: Run, spec: FeedSpec) -> tuple[int | None, int | None]:
        low, high = run(
            "SELECT CHANGE_TRACKING_MIN_VALID_VERSION(OBJECT_ID(:name)), CHANGE_TRACKING_CURRENT_VERSION()",
            {"name": spec.table},
        ).rows[0]
        return low, high


class ChangeDataCapture:
    """A: CDC of the capture instance in option ``instance`` (default ``<schema>_<table>``); every change, by LSN."""

    rung = "cdc"
    grade = "A"
    needs_column = False

    def begin(self, run: Run, spec: FeedSpec) -> Position:
        return {"lsn": self._bounds(run, spec)[1]}

    def look(self, run: Run, spec: FeedSpec, position: Position) -> Seen:
        low, high = self._bounds(run, spec)
        if low is None or high is None:
            raise PositionLost("CDC has no position: its capture job does not run, or it was never enabled")
        last = position["lsn"]
        if last is None or bytes(last) < bytes(low):
            raise PositionLost("the changes since the last look were cleaned up")
        if bytes(high) < bytes(last):
            raise PositionLost("the position went backwards: the database was restored")
        if bytes(high) == bytes(last):
            return Seen(position)
        rows = run(self.statement(spec), {"lsn": last, "high": high})
        return seen(spec, {"lsn": high}, rows)

    def statement(self, spec: FeedSpec) -> str:
        return (
            f"SELECT DISTINCT c.{spec.key or '__$operation'} "  # noqa: S608
            f"FROM cdc.fn_cdc_get_all_changes_{_instance(spec)}"
            "(sys.fn_cdc_increment_lsn(:lsn), :high, N'all update old') AS c"
        )

    def obstacles(self, run: Run, spec: FeedSpec) -> list[Obstacle]:
        if self._bounds(run, spec)[0] is not None:
            return []
        words = Words("CDC has no such capture instance", "CDC 中没有该捕获实例")
        return [Obstacle(words, Words("EXEC sys.sp_cdc_enable_table", "由 DBA 执行 sys.sp_cdc_enable_table"))]

    def _bounds(self, run: Run, spec: FeedSpec) -> tuple[Any, Any]:
        statement = "SELECT sys.fn_cdc_get_min_lsn(:instance), sys.fn_cdc_get_max_lsn()"
        low, high = run(statement, {"instance": _instance(spec)}).rows[0]
        return (None if low is None or not any(bytes(low)) else low), high


class Rowversion:
    """B: a rowversion column below MIN_ACTIVE_ROWVERSION, which no open transaction can still write under."""

    rung = "rowversion"
    grade = "B"
    needs_column = True

    def begin(self, run: Run, spec: FeedSpec) -> Position:
        return {"after": self._bound(run)}

    def look(self, run: Run, spec: FeedSpec, position: Position) -> Seen:
        bound = self._bound(run)  # before the rows, and never @@DBTS
        if bound < position["after"]:
            raise PositionLost("the rowversion went backwards: the database was restored")
        rows = run(self.statement(spec), {"after": position["after"], "bound": bound})
        return seen(spec, {"after": bound}, rows)

    def statement(self, spec: FeedSpec) -> str:
        return (
            f"SELECT DISTINCT {spec.selected} FROM {spec.table} "  # noqa: S608
            f"WHERE {spec.column} >= :after AND {spec.column} < :bound{spec.also()}"
        )

    def obstacles(self, run: Run, spec: FeedSpec) -> list[Obstacle]:
        rows = run(
            "SELECT t.name FROM sys.columns c JOIN sys.types t ON t.user_type_id = c.user_type_id "
            "WHERE c.object_id = OBJECT_ID(:name) AND c.name = :column",
            {"name": spec.table, "column": spec.column},
        ).rows
        if rows and str(rows[0][0]).lower() in {"timestamp", "rowversion"}:
            return []
        words = Words(f"{spec.column} is no rowversion", f"{spec.column} 不是 rowversion 列")
        return [Obstacle(words, Words("use change_tracking or cursor", "改用 change_tracking 或 cursor"))]

    def _bound(self, run: Run) -> bytes:
        return bytes(run("SELECT MIN_ACTIVE_ROWVERSION()", {}).rows[0][0])


class ChangeTable(Rowversion):
    """A: a table that the DBA has a trigger fill: (key, rv rowversion). That is the position, not an IDENTITY."""

    rung = "change_table"
    grade = "A"


class BarrieredCursor:
    """C: a time column; the position never passes the begin of the oldest open transaction of the database.

    Needs VIEW SERVER STATE: without it the barrier would show our own transactions alone. ``READCOMMITTEDLOCK`` makes
    the scan wait for rows in flight also where the database reads versions.
    """

    rung = "cursor"
    grade = "C"
    needs_column = True

    def begin(self, run: Run, spec: FeedSpec) -> Position:
        now, barrier = self._barrier(run)
        return {"after": min(now, barrier) - spec.margin}

    def look(self, run: Run, spec: FeedSpec, position: Position) -> Seen:
        now, barrier = self._barrier(run)  # before the rows
        rows = run(self.statement(spec), {"after": position["after"]})
        return seen(spec, {"after": max(position["after"], min(now, barrier) - spec.margin)}, rows)

    def statement(self, spec: FeedSpec) -> str:
        return (
            f"SELECT DISTINCT {spec.selected} FROM {spec.table} WITH (READCOMMITTEDLOCK) "  # noqa: S608
            f"WHERE {spec.column} > :after{spec.also()}"
        )

    def obstacles(self, run: Run, spec: FeedSpec) -> list[Obstacle]:
        if run("SELECT HAS_PERMS_BY_NAME(NULL, NULL, 'VIEW SERVER STATE')", {}).rows[0][0] == 1:
            self.look(run, spec, self.begin(run, spec))
            return []
        words = Words(
            "VIEW SERVER STATE is missing: open transactions of others are not seen",
            "缺少 VIEW SERVER STATE 权限，看不到其他事务",
        )
        return [Obstacle(words, Words("GRANT VIEW SERVER STATE TO the login", "GRANT VIEW SERVER STATE TO 该登录名"))]

    def _barrier(self, run: Run) -> tuple[datetime, datetime]:
        rows = run(
            "SELECT SYSDATETIME(), (SELECT MIN(a.transaction_begin_time) FROM sys.dm_tran_active_transactions a "
            "JOIN sys.dm_tran_database_transactions d ON d.transaction_id = a.transaction_id "
            "WHERE d.database_id = DB_ID() AND a.transaction_type <> 2)",
            {},
        ).rows
        now, oldest = rows[0]
        return now, now if oldest is None else oldest


def _instance(spec: FeedSpec) -> str:
    return spec.options.get("instance") or spec.table.replace(".", "_").replace("[", "").replace("]", "")
