"""The port of a report: what can be run, whoever makes its rows. From the HIS by a mapping, or by the agent itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, time
from typing import Protocol, runtime_checkable
from zoneinfo import ZoneInfo

from his160.v1 import report_pb2

from his_db.compiled_report import CompiledReport, ReportReading, ReportSink
from his_db.mapping.cron import Cron


class Reportable(Protocol):
    """What the engine knows of a report (``his_db.compiled_report.CompiledReport``)."""

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def definition(self) -> report_pb2.Report: ...

    @property
    def cron(self) -> Cron | None: ...

    @property
    def period(self) -> str: ...

    @property
    def quiet(self) -> tuple[tuple[time, time], ...]: ...

    @property
    def zone(self) -> ZoneInfo: ...


@runtime_checkable
class OwnReport(Protocol):
    """A report whose rows the agent makes."""

    def is_possible(self) -> bool:
        """Whether the site's mappings have what it needs."""

    async def read(self, days: tuple[date, date], sink: ReportSink) -> ReportReading:
        """Hands all rows to the sink. Raises HisError, StoreError."""


class MadeHere(Reportable, OwnReport, Protocol):
    """Both: what is run, and who makes its rows."""


class ReportHis(Protocol):
    """The HIS as reports need it (``his_db.guard.GuardedHis``). Raises the errors of ``his_db.errors``."""

    def reports(self) -> Mapping[str, CompiledReport]: ...

    async def read_report(
        self, report: CompiledReport, days: tuple[date, date], sink: ReportSink, *, stopped: Callable[[], bool]
    ) -> ReportReading: ...


class ReportSource:
    """The reports of the mappings, and those of the agent's own; a mapping of the same name wins."""

    def __init__(self, his: ReportHis, own: Mapping[str, MadeHere] | None = None) -> None:
        self._his = his
        self._own = dict(own or {})

    def reports(self) -> Mapping[str, Reportable]:
        """By name, in its order."""
        found: dict[str, Reportable] = {name: item for name, item in self._own.items() if item.is_possible()}
        found.update(self._his.reports())
        return dict(sorted(found.items()))

    async def read(
        self, report: Reportable, days: tuple[date, date], sink: ReportSink, *, stopped: Callable[[], bool]
    ) -> ReportReading:
        """Hand the rows of a report to the sink. Raises HisError, StoreError."""
        if isinstance(report, CompiledReport):
            return await self._his.read_report(report, days, sink, stopped=stopped)
        assert isinstance(report, OwnReport)
        sink.begin()
        return await report.read(days, sink)
