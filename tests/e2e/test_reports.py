"""Scheduled reports of a whole site: the relay is told of each once, over the link, and has just the rows it is told of."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from his160.v1 import event_pb2, relay_pb2, report_pb2

from agent.demo.hospital import Hospital
from agent.demo.site import SITE
from agent.sandbox.report_store import ReportStore
from sync.report_book import RunRow
from sync.report_export import file_name
from sync.store import Transaction
from tests.e2e.site import Bench, bench, read_store, until

REPORTS = ("R1", "R2", "R3", "R4", "R8", "R9", "D2")
"""What is due depends on the hour of the test: quiet hours of the pack. D2 has none."""
LONG = 60.0
_FAR = datetime(2100, 1, 1, tzinfo=UTC)

pytestmark = pytest.mark.chaos


def told(made: Bench) -> dict[str, event_pb2.Event]:
    """What the relay was told, by report. One event id for each."""
    found = [e.event for e in made.site.client.events(page_size=1000) if e.event.HasField("report")]
    assert len({event.event_id for event in found}) == len(found)
    assert max(Counter(event.report.name for event in found).values(), default=1) == 1, found
    return {event.report.name: event for event in found}


def test_each_report_is_told_once_and_can_be_read(hospital: Hospital, tmp_path: Path) -> None:
    """The receipts of the first events are lost and the agent is killed: all comes again, and counts once."""
    with bench(tmp_path, hospital) as made:
        site = made.site
        site.client.fault(drop_receipts=3)
        until(lambda: "D2" in told(made), "a report told", LONG)
        assert site.agent is not None
        site.agent.kill()
        site.client.fault()
        site.start_agent()
        site.wait_attached()
        until(lambda: site.status().outbox_pending == 0 and not unfinished(made), "the end of what is due", LONG)
        runs = [run for run in read_store(site, _newest) if run is not None]
        assert told(made).keys() == {run.report for run in runs}
        assert max(e.arrivals for e in site.client.events(page_size=1000) if e.event.HasField("report")) > 1
        files = {path.name for path in (site.store.parent / "reports").iterdir()}
        assert files == {file_name(run, "xlsx") for run in runs}
        for row in runs:
            event = told(made)[row.report]
            ready = event.report
            assert (event.site, event.stream) == (SITE, "reports")
            assert (ready.run_id, ready.row_count, ready.checksum) == (row.run_id, row.rows, row.checksum)
            assert (_day(ready.from_date), _day(ready.to_date)) == (row.first_day, row.last_day)
            request = report_pb2.ReadReportRequest(name=ready.name, from_date=ready.from_date, to_date=ready.to_date)
            pages = list(site.client.stream("ReportService.ReadReport", request))
            assert pages[-1].checksum == ready.checksum
            assert sum(len(page.rows) for page in pages) == ready.row_count
    for row in runs:
        kept = ReportStore(site.relay_store.with_name(f"{site.relay_store.name}.reports") / SITE)
        answer = kept.take(relay_pb2.PublishReportRequest(run_id=row.run_id))
        assert (answer.complete, answer.rows) == (True, row.rows)


def unfinished(made: Bench) -> list[RunRow]:
    """Runs that are under way, or without their file, or whose rows the relay has not."""
    work = read_store(
        made.site,
        lambda work: [*work.reports.unfinished(), *work.reports.to_file(100), *work.reports.to_push(_FAR, 100)],
    )
    return list(work)


def _newest(work: Transaction) -> list[RunRow | None]:
    return [work.reports.newest_scheduled(name) for name in REPORTS]


def _day(value: object) -> date:
    return date(value.year, value.month, value.day)  # type: ignore[attr-defined]
