"""The windows' notices in SQL."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, select, update

from sync.notice import NoticeKind, NoticeRow, SubjectRow
from sync.store_prepared import ask_among
from sync.store_schema import NOTICE_SUBJECTS, NOTICES

_NOTICE = tuple(field.name for field in fields(NoticeRow))
_SUBJECT = tuple(field.name for field in fields(SubjectRow))
_SELECT = select(*(NOTICE_SUBJECTS.c[name] for name in _SUBJECT))
_OPEN = and_(NOTICE_SUBJECTS.c.seen_time.is_(None), NOTICE_SUBJECTS.c.given_up.is_(False))

_WAITING = "SELECT subject FROM notice_subjects WHERE subject {among} AND seen_time IS NULL AND NOT given_up"
_AT_ONCE = 500  # below the number of bound values that every database takes


def _notice(found: Row[Any]) -> NoticeRow:
    values = dict(zip(_NOTICE, found, strict=True))
    return NoticeRow(**{**values, "kind": NoticeKind(values["kind"])})


def _subject(found: Row[Any]) -> SubjectRow:
    values = dict(zip(_SUBJECT, found, strict=True))
    return SubjectRow(**{**values, "kind": NoticeKind(values["kind"])})


class SqlNoticeTable:
    """``NoticeTable`` over a connection with an open transaction."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, request_id: str) -> NoticeRow | None:
        wanted = select(*(NOTICES.c[name] for name in _NOTICE)).where(NOTICES.c.request_id == request_id)
        found = self._connection.execute(wanted).first()
        return None if found is None else _notice(found)

    def add(self, notice: NoticeRow, subjects: Sequence[SubjectRow]) -> None:
        self._connection.execute(NOTICES.insert().values(**{**asdict(notice), "kind": notice.kind.value}))
        rows = [{**asdict(subject), "kind": subject.kind.value} for subject in subjects]
        if rows:
            self._connection.execute(NOTICE_SUBJECTS.insert(), rows)

    def subjects(self, request_id: str) -> Sequence[SubjectRow]:
        wanted = _SELECT.where(NOTICE_SUBJECTS.c.request_id == request_id).order_by(NOTICE_SUBJECTS.c.subject)
        return [_subject(found) for found in self._connection.execute(wanted)]

    def open_of(self, subject: str) -> Sequence[SubjectRow]:
        wanted = _SELECT.where(NOTICE_SUBJECTS.c.subject == subject, _OPEN)
        return [_subject(found) for found in self._connection.execute(wanted.order_by(NOTICE_SUBJECTS.c.received_time))]

    def open_among(self, subjects: Collection[str]) -> Collection[str]:
        wanted, found = list(subjects), set[str]()
        for start in range(0, len(wanted), _AT_ONCE):
            page = wanted[start : start + _AT_ONCE]
            found.update(row[0] for row in ask_among(self._connection, _WAITING, page))
        return found

    def open(self, limit: int) -> Sequence[SubjectRow]:
        wanted = _SELECT.where(_OPEN).order_by(NOTICE_SUBJECTS.c.received_time, NOTICE_SUBJECTS.c.subject).limit(limit)
        return [_subject(found) for found in self._connection.execute(wanted)]

    def settle(self, subject: SubjectRow) -> None:
        of_row = (
            NOTICE_SUBJECTS.c.request_id == subject.request_id,
            NOTICE_SUBJECTS.c.subject == subject.subject,
        )
        values = {"event_id": subject.event_id, "seen_time": subject.seen_time, "given_up": subject.given_up}
        self._connection.execute(update(NOTICE_SUBJECTS).where(*of_row).values(**values))

    def prune(self, before: datetime) -> int:
        old = select(NOTICES.c.request_id).where(NOTICES.c.received_time < before)
        still_open = select(NOTICE_SUBJECTS.c.request_id).where(_OPEN)
        ended = old.where(NOTICES.c.request_id.not_in(still_open)).scalar_subquery()
        self._connection.execute(delete(NOTICE_SUBJECTS).where(NOTICE_SUBJECTS.c.request_id.in_(ended)))
        return self._connection.execute(
            delete(NOTICES).where(NOTICES.c.received_time < before, NOTICES.c.request_id.not_in(still_open))
        ).rowcount
