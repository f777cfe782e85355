"""Telling the platform that a scheduled report can be read: an event of the outbox, in the unit that ends the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from google.type import date_pb2
from his160.v1 import common_pb2, event_pb2

from sync.numbers import event_id
from sync.report_book import RunRow

STREAM: Final = "reports"


@dataclass(frozen=True, slots=True)
class ReportReady:
    """``site``: its code. ``appended``: called after an event has been kept (``sync.outbox.Outbox.appended``)."""

    site: str
    appended: Callable[[], None]

    def event(self, row: RunRow, now: datetime) -> event_pb2.Event:
        """The event of a scheduled run that is DONE. Its id is made of the slot: one for each report and its days."""
        event = event_pb2.Event(
            event_id=event_id(self.site, STREAM, "ready", row.slot),
            site=self.site,
            kind=event_pb2.EVENT_KIND_REPORT_READY,
            origin=event_pb2.ORIGIN_ON_SITE,
            subject=common_pb2.SUBJECT_REPORT,
            mapping_revision=row.mapping_revision,
            stream=STREAM,
            report=event_pb2.ReportReady(
                name=row.report,
                from_date=_date(row.first_day),
                to_date=_date(row.last_day),
                run_id=row.run_id,
                row_count=row.rows,
                checksum=row.checksum,
            ),
        )
        event.captured_time.FromDatetime(now)
        if row.finished_time is not None:
            event.occurred_time.FromDatetime(row.finished_time)
        return event


def _date(day: date) -> date_pb2.Date:
    return date_pb2.Date(year=day.year, month=day.month, day=day.day)
