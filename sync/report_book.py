"""What the store keeps of reports: every run with its rows, so that a figure can be explained next year.

Rows and port; SQL: ``sync/store_reports.py``. Rows of a run are in pages (``sync/report_pages``).
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol


class RunState(enum.Enum):
    """How a run stands."""

    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"  # ``next_time``: when it is tried again; None: it is not


class RunOrigin(enum.Enum):
    """Who wanted it."""

    SCHEDULE = "SCHEDULE"
    PERSON = "PERSON"
    RELAY = "RELAY"


class PushState(enum.Enum):
    """Whether the relay gets the rows."""

    NONE = "NONE"
    PENDING = "PENDING"
    DONE = "DONE"


class FileState(enum.Enum):
    """Whether the files of a run are written. NONE: nobody wants any."""

    NONE = "NONE"
    PENDING = "PENDING"
    DONE = "DONE"


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run.

    ``slot`` is unique: report and period of a scheduled run, which exists once, whichever agent runs it; the run_id
    itself of any other. ``owner``: the process that runs it. ``definition``: a serialised his160 Report as it was then.
    ``input_hash``: over what the HIS gave; ``checksum``: over the rows as the contract says. ``detail`` says why it
    failed, without values of the HIS. ``pushed_rows``: what the relay has. ``push_time``: when to send next.
    """

    run_id: str
    report: str
    slot: str
    first_day: date
    last_day: date
    origin: RunOrigin
    state: RunState
    owner: str
    begun_time: datetime
    attempt: int = 1
    finished_time: datetime | None = None
    next_time: datetime | None = None
    rows: int = 0
    input_hash: bytes = b""
    checksum: bytes = b""
    mapping_revision: str = ""
    definition: bytes = b""
    detail: str = ""
    push_state: PushState = PushState.NONE
    pushed_rows: int = 0
    push_attempts: int = 0
    push_time: datetime | None = None
    file_state: FileState = FileState.NONE


@dataclass(frozen=True, slots=True)
class PageRow:
    """Some rows of a run, packed. ``first_row`` counts from 0."""

    run_id: str
    first_row: int
    rows: int
    content: bytes


class ReportTable(Protocol):
    """Runs and their pages."""

    def get(self, run_id: str) -> RunRow | None: ...

    def of_slot(self, slot: str) -> RunRow | None: ...

    def put(self, row: RunRow) -> None:
        """Inserts the row, or replaces the one with its run_id."""

    def newest_done(self, report: str, first_day: date, last_day: date) -> RunRow | None:
        """The run of just these days that ended last and is DONE."""

    def newest_scheduled(self, report: str) -> RunRow | None:
        """The scheduled run of the latest days, whatever became of it."""

    def listed(self, report: str, limit: int) -> Sequence[RunRow]:
        """The newest runs, oldest first; of one report, or of all when it is empty."""

    def unfinished(self) -> Sequence[RunRow]:
        """Scheduled runs that are RUNNING, or FAILED and to be tried again; oldest days first."""

    def to_push(self, now: datetime, limit: int) -> Sequence[RunRow]:
        """Runs that the relay should get and that are due; oldest first."""

    def to_file(self, limit: int) -> Sequence[RunRow]:
        """Runs whose files are not written; oldest first."""

    def filed(self, run_id: str) -> None:
        """The files of the run are written."""

    def add_page(self, page: PageRow) -> None: ...

    def page_at(self, run_id: str, row: int) -> PageRow | None:
        """The page that holds that row; None behind the last."""

    def drop_pages(self, run_id: str) -> None: ...

    def prune(self, before: datetime, limit: int) -> int:
        """Deletes runs that began before the time, with their pages; how many."""
