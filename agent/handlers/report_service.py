"""ReportService: the site's reports, and their rows page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import date
from typing import Final

from google.protobuf.message import Message
from google.type import date_pb2
from his160.v1 import reason_pb2, report_pb2

from agent.errors import CallRefused, Violation
from agent.handler import CallContext, Handler, StreamHandler
from sync.report_periods import Period
from sync.report_reader import ReportReader
from sync.report_source import Reportable

_PAGE: Final = 200


def list_reports(reports: Callable[[], Mapping[str, Reportable]]) -> Handler:
    """ReportService.ListReports: by name; a token is the name of the last one before."""

    async def handle(request: Message, context: CallContext) -> Message:
        assert isinstance(request, report_pb2.ListReportsRequest)
        names = sorted(name for name in reports() if name > request.page_token)
        size = request.page_size or _PAGE
        page = [reports()[name].definition for name in names[:size]]
        token = page[-1].name if len(names) > size else ""
        return report_pb2.ListReportsResponse(reports=page, next_page_token=token)

    return handle


def read_report(reader: ReportReader) -> StreamHandler:
    """ReportService.ReadReport."""

    async def handle(request: Message, context: CallContext) -> AsyncIterator[Message]:
        assert isinstance(request, report_pb2.ReadReportRequest)
        period = Period(_day(request.from_date), _day(request.to_date))
        if request.first_row < 0:
            rule = Violation("first_row", "is 0 or more", "不能为负数")
            raise CallRefused(reason_pb2.REASON_INVALID_REQUEST, violations=[rule])
        async for page in reader.pages(request.name, period, request.first_row):
            yield page

    return handle


def _day(value: date_pb2.Date) -> date:
    return date(value.year, value.month, value.day)  # the rules of the contract have looked at it
