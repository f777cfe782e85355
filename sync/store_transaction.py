"""What a unit works on, in SQL: the tables of the store over one connection with an open transaction."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from sync.store_audit import SqlAuditTable
from sync.store_commands import SqlCommandTable
from sync.store_events import SqlEventTable
from sync.store_leases import SqlLeaseTable
from sync.store_money import SqlPaymentNoticeTable, SqlRefundTable, SqlSequenceTable, SqlSettlementTable
from sync.store_notices import SqlNoticeTable
from sync.store_reports import SqlReportTable
from sync.store_rows import SqlRowTable
from sync.store_trades import SqlTradeTable
from sync.store_watches import SqlWatchControlTable


@dataclass(frozen=True, slots=True)
class SqlTransaction:
    """``Transaction`` over one connection."""

    commands: SqlCommandTable
    events: SqlEventTable
    rows: SqlRowTable
    settlements: SqlSettlementTable
    refunds: SqlRefundTable
    trades: SqlTradeTable
    payment_notices: SqlPaymentNoticeTable
    sequences: SqlSequenceTable
    notices: SqlNoticeTable
    leases: SqlLeaseTable
    audit: SqlAuditTable
    watch_controls: SqlWatchControlTable
    reports: SqlReportTable

    @classmethod
    def of(cls, connection: Connection) -> SqlTransaction:
        return cls(
            SqlCommandTable(connection),
            SqlEventTable(connection),
            SqlRowTable(connection),
            SqlSettlementTable(connection),
            SqlRefundTable(connection),
            SqlTradeTable(connection),
            SqlPaymentNoticeTable(connection),
            SqlSequenceTable(connection),
            SqlNoticeTable(connection),
            SqlLeaseTable(connection),
            SqlAuditTable(connection),
            SqlWatchControlTable(connection),
            SqlReportTable(connection),
        )
