"""The stage of a rush: sample HIS, agent and sandbox as processes of their own, sessions that are released at once."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from google.type import date_pb2
from his160.v1 import catalog_pb2, common_pb2

from agent.demo.hospital import Hospital, create_hospital
from agent.demo.site import Site, SiteOptions
from agent.rush.books import LIVE
from his_db.sample import OrderRow, WindowProgram, hospital_now

_CASHIER: Final = "0931"
_WHY: Final = "放号演练"
_ENOUGH: Final = 1_000_000
_PAGE: Final = 1000
_NO_REPORTS: Final = "[report]\nenabled = false"  # those of yesterday would be read once, in the middle of a round

Day: TypeAlias = tuple[datetime.date, str]


class TooSmall(Exception):
    """The sample HIS has fewer patients or numbers than the rush wants."""


@dataclass(slots=True)
class Stage:
    """Everything that lives. ``sessions``: what can be released, with free numbers; no session twice. ``days``: day and
    department of every coming session. ``patients``: whom the HIS knows, with the sessions where they have an order."""

    site: Site
    hospital: Hospital
    window: WindowProgram
    sessions: Sequence[common_pb2.Schedule]
    days: Mapping[str, Day]
    patients: Mapping[str, frozenset[str]]

    def choose(self, count: int, apart: Sequence[common_pb2.Schedule] = ()) -> list[common_pb2.Schedule]:
        """Sessions with exactly so many free numbers together, or a few more when there is no such choice.

        ``apart``: sessions that are used otherwise. Raises TooSmall.
        """
        used = {session.schedule_id for session in apart}
        sessions = [session for session in self.sessions if session.schedule_id not in used]
        best: dict[int, tuple[int, ...]] = {0: ()}
        for at, session in enumerate(sessions):
            for total, chosen in list(best.items()):
                more = total + session.free_count
                if total < count and more not in best:
                    best[more] = (*chosen, at)
            if count in best:
                break
        reached = [total for total in best if total >= count]
        if not reached:
            raise TooSmall(f"the sample HIS has only {max(best)} free numbers for a rush on {count}")
        return [sessions[at] for at in best[min(reached)]]

    def free_for(self, sessions: Sequence[common_pb2.Schedule]) -> list[str]:
        """Patients who have nothing yet on the day and in the department of any of these sessions.

        The others are right to be refused (DUPLICATE_APPOINTMENT): they tell nothing about a rush.
        """
        wanted = {day_of(session) for session in sessions}
        return [
            patient
            for patient, held in self.patients.items()
            if not any(self.days.get(schedule_id) in wanted for schedule_id in held)
        ]

    def hold_back(self, sessions: Sequence[common_pb2.Schedule]) -> None:
        """Stop the sessions, so that nobody sees a number of them."""
        for session in sessions:
            self.window.suspend_schedule(session.schedule_id, operator=_CASHIER, reason=_WHY)

    def release(self, sessions: Sequence[common_pb2.Schedule]) -> None:
        """放号."""
        for session in sessions:
            self.window.resume_schedule(session.schedule_id, operator=_CASHIER)

    def orders(self) -> list[OrderRow]:
        """Every order of the platform in the HIS."""
        return self.window.orders(channel_only=True, limit=_ENOUGH)

    def figures(self) -> Mapping[str, float]:
        """The agent's own counters, over the link."""
        return dict(self.site.status().figures)


@contextmanager
def stage(kind: str, folder: Path, *, small: bool = False, url: str = "") -> Iterator[Stage]:
    """Build and start everything; stop and remove it afterwards. ``url``: an empty database to make the HIS in.

    Raises NoServer, ChildFailed, NotInTime.
    """
    with ExitStack() as stack:
        hospital = create_hospital(kind, folder, small=small, url=url)
        stack.callback(hospital.remove)
        window = hospital.window()
        stack.callback(window.close)
        site = stack.enter_context(Site(folder, hospital, options=SiteOptions(more=_NO_REPORTS)))
        site.start()
        coming = _coming(site)
        free = [
            session for session in coming if session.state == common_pb2.SCHEDULE_STATE_OPEN and session.free_count > 0
        ]
        days = {session.schedule_id: day_of(session) for session in coming}
        yield Stage(site, hospital, window, free, days, _patients(window))


def day_of(session: common_pb2.Schedule) -> Day:
    """On which day and in which department it is: where a HIS gives a patient one number."""
    day = session.visit_date
    return datetime.date(day.year, day.month, day.day), session.department_id


def _coming(site: Site) -> list[common_pb2.Schedule]:
    """Sessions of later days, the earliest first."""
    today = hospital_now().date()
    request = catalog_pb2.ListSchedulesRequest(
        from_date=_date(today + datetime.timedelta(days=1)),
        to_date=_date(today + datetime.timedelta(days=30)),
        page_size=_PAGE,
    )
    found: list[common_pb2.Schedule] = []
    while True:
        answer: Any = site.client.call("CatalogService.ListSchedules", request)
        found += answer.schedules
        if not answer.next_page_token:
            return found
        request.page_token = answer.next_page_token


def _patients(window: WindowProgram) -> dict[str, frozenset[str]]:
    """Patients that the HIS knows, by key, and the sessions where each has an order that lives."""
    held: dict[str, set[str]] = {}
    for row in window.orders(channel_only=False, limit=_ENOUGH):
        mine = held.setdefault(row.patient_id, set())
        if row.state in LIVE:
            mine.add(row.schedule_id)
    return {patient: frozenset(sessions) for patient, sessions in held.items()}


def _date(day: datetime.date) -> date_pb2.Date:
    return date_pb2.Date(year=day.year, month=day.month, day=day.day)
