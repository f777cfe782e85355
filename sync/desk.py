"""医院调用接口: what window programs tell, checked against the HIS, kept, and made known within the window's patience.

The answer says how far it has come: LOCAL once it is on our disk, PLATFORM once 160 has acknowledged the event. A link
that is down costs the window nothing. With ``Trust.HIS`` the event goes out when the HIS shows the change (the watcher
is woken at once); with ``Trust.WORD`` the window's word makes it, for an HIS in which no watch sees the change.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import date, timedelta, tzinfo
from typing import Any, Final

from google.protobuf.message import Message
from google.type.date_pb2 import Date
from his160.v1 import appointment_pb2, catalog_pb2, common_pb2, desk_pb2, event_pb2, reason_pb2

from his_db.errors import HisError, HisRefused, HisUnavailable, OperationNotMapped
from sync import outbox as outbox_rules
from sync.clock import Clock, Wait, wait_for
from sync.his import HisPort
from sync.notice import NoticeKind, NoticeRow, SubjectRow, Trust, is_shown, refusal, shows
from sync.notice_match import event_by_word
from sync.outbox import Outbox
from sync.redaction import clear_personal, without_personal
from sync.store import EventState, Store, Transaction

_LOG: Final = logging.getLogger("his160.sync.desk")
_DAYS: Final = timedelta(days=60)
_LOOK: Final = timedelta(milliseconds=200)
_MARGIN: Final = 0.15  # seconds of the window's patience that the answer itself needs
_LEAST: Final = 0.001  # seconds; less is no wait
_READ_SHARE: Final = 0.5  # of the patience: the HIS may be slow, the notice must still be kept in time

Subject = common_pb2.Appointment | common_pb2.Schedule


@dataclass(frozen=True, slots=True)
class Told:
    """How far a notice has come, and what the HIS showed when it came."""

    acceptance: desk_pb2.Acceptance.ValueType
    found: Sequence[Subject] = ()
    payer: desk_pb2.RefundPayer.ValueType = desk_pb2.REFUND_PAYER_UNSPECIFIED
    """Of a refund: who gives the money back (decision 0025)."""


class Desk:
    """Takes notices of windows. ``wake`` has the watchers look at once. For one event loop.

    ``zone``: the hospital's. ``monotonic``: deadlines are its readings.
    """

    def __init__(
        self,
        his: HisPort,
        store: Store,
        outbox: Outbox,
        *,
        site: str,
        clock: Clock,
        zone: tzinfo,
        wake: Callable[[], None],
        trust: Trust = Trust.HIS,
        monotonic: Callable[[], float] = time.monotonic,
        wait: Wait = wait_for,
    ) -> None:
        self._his = his
        self._store = store
        self._outbox = outbox
        self._site = site
        self._clock = clock
        self._zone = zone
        self._wake = wake
        self._trust = trust
        self._monotonic = monotonic
        self._wait = wait

    async def tell(self, kind: NoticeKind, request: Any, *, window: str, deadline: float) -> Told:
        """Keeps what the window says. ``request``: the DeskService message of that kind; ``window``: who says it.

        Raises HisRefused when a rule forbids it (then the window must not do it) or the request_id came before with
        another content; HisUnavailable when a refund cannot be checked; StoreError: nothing was kept.
        """
        payload_hash = hashlib.sha256(kind.value.encode() + request.SerializeToString(deterministic=True)).digest()
        known = await self._store.read(lambda work: work.notices.get(request.request_id))
        found: Sequence[Subject]
        if known is not None:
            _same(known, kind, payload_hash)
            found = await self._again(kind, request, deadline)
        else:
            found = await self._checked(kind, request, deadline)
            await self._keep(kind, request, payload_hash, window, found)
        self._wake()
        acceptance = await self._follow(request.request_id, deadline)
        payer = await self._payer(found) if kind is NoticeKind.REFUND else desk_pb2.REFUND_PAYER_UNSPECIFIED
        return Told(acceptance, found, payer)

    async def order(self, request: desk_pb2.GetOrderRequest, *, deadline: float) -> common_pb2.Appointment:
        """An order as the HIS has it now. Raises HisError."""
        return await self._order(request.order_no, request.appointment_id, deadline)

    async def overdue(self, age: timedelta, limit: int = 200) -> Sequence[SubjectRow]:
        """What windows have told and the HIS has not shown for that long: a person must look."""
        before = self._clock() - age
        rows = await self._store.read(lambda work: work.notices.open(limit))
        return [row for row in rows if row.received_time < before]

    async def _checked(self, kind: NoticeKind, request: Any, deadline: float) -> Sequence[Subject]:
        """What the notice is about, as the HIS shows it. Raises HisRefused, HisUnavailable."""
        until = self._monotonic() + max(0.0, deadline - self._monotonic()) * _READ_SHARE
        try:
            if kind in (NoticeKind.SUSPEND, NoticeKind.REPLACE):
                return await self._sessions(request, until)
            found = await self._order(request.order_no, request.appointment_id, until)
        except (HisRefused, OperationNotMapped):
            raise
        except HisError as error:
            # Who tells us something must not be turned away because the HIS is slow; but money needs its rules checked.
            if kind is NoticeKind.REFUND or self._trust is Trust.WORD or not _names_itself(request):
                raise HisUnavailable(error.detail, retry_after=error.retry_after) from error
            _LOG.warning("a notice is kept unchecked", extra={"kind": kind.value, "error": type(error).__name__})
            return ()
        if not found.order_no:
            raise HisRefused(reason_pb2.REASON_APPOINTMENT_NOT_FOUND, "the order did not come from the platform")
        reason = refusal(kind, found, amount_fen=getattr(request, "amount_fen", 0))
        if reason:
            raise HisRefused(reason, f"the order's state does not allow {kind.value}")
        if kind is NoticeKind.CHECK_IN and not is_shown(kind, found) and _day(found.visit_date) != self._today():
            raise HisRefused(reason_pb2.REASON_ILLEGAL_TRANSITION, "check-in is for the day of the visit")
        return (found,)

    async def _again(self, kind: NoticeKind, request: Any, deadline: float) -> Sequence[Subject]:
        """The order of a refund that was told before, as the HIS has it by now; nothing when it cannot be had."""
        if kind is not NoticeKind.REFUND:
            return ()
        until = self._monotonic() + max(0.0, deadline - self._monotonic()) * _READ_SHARE
        try:
            return (await self._order(request.order_no, request.appointment_id, until),)
        except HisError as error:
            _LOG.info("a refund told before cannot be looked at", extra={"error": type(error).__name__})
            return ()

    async def _payer(self, found: Sequence[Subject]) -> desk_pb2.RefundPayer.ValueType:
        """Who gives the money back. The agent does not begin it: whether the HIS's own refund does, it cannot know."""
        order = next((item for item in found if isinstance(item, common_pb2.Appointment)), None)
        if order is None:
            return desk_pb2.REFUND_PAYER_UNSPECIFIED
        number = order.out_trade_no
        if order.out_refund_no:
            return desk_pb2.REFUND_PAYER_ACCEPTED
        accepted = await self._store.read(lambda work: work.refunds.of_trade(number))
        if number and accepted:
            return desk_pb2.REFUND_PAYER_ACCEPTED
        is_own = self._his.maps("MerchantService.RefundTrade")
        return desk_pb2.REFUND_PAYER_HOSPITAL if is_own else desk_pb2.REFUND_PAYER_PLATFORM

    async def _order(self, order_no: str, appointment_id: str, deadline: float) -> common_pb2.Appointment:
        wanted = appointment_pb2.GetAppointmentRequest(order_no=order_no, appointment_id=appointment_id)
        answer = await self._his.read("AppointmentService.GetAppointment", wanted, deadline=deadline)
        assert isinstance(answer, appointment_pb2.GetAppointmentResponse)
        return answer.appointment

    async def _sessions(self, request: Any, deadline: float) -> Sequence[common_pb2.Schedule]:
        today = self._today()
        wanted = catalog_pb2.ListSchedulesRequest(schedule_id=request.schedule_id, page_size=1000, realtime=True)
        wanted.from_date.CopyFrom(_date(today))
        wanted.to_date.CopyFrom(_date(today + _DAYS))
        if isinstance(request, desk_pb2.SuspendScheduleRequest):
            wanted.department_id, wanted.doctor_id = request.department_id, request.doctor_id
            if request.HasField("from_date"):
                wanted.from_date.CopyFrom(_date(max(today, _day(request.from_date))))
            if request.HasField("to_date"):
                last = min(_day(request.to_date), _day(wanted.from_date) + _DAYS)
                wanted.to_date.CopyFrom(_date(max(last, _day(wanted.from_date))))
        answer = await self._his.read("CatalogService.ListSchedules", wanted, deadline=deadline)
        assert isinstance(answer, catalog_pb2.ListSchedulesResponse)
        period = getattr(request, "period", common_pb2.PERIOD_UNSPECIFIED)
        found = [session for session in answer.schedules if period in (common_pb2.PERIOD_UNSPECIFIED, session.period)]
        if not found:
            raise HisRefused(reason_pb2.REASON_SCHEDULE_NOT_FOUND, "no session fits")
        return found

    async def _keep(
        self, kind: NoticeKind, request: Any, payload_hash: bytes, window: str, found: Sequence[Subject]
    ) -> None:
        now = self._clock()
        content = without_personal(request).SerializeToString(deterministic=True)
        notice = NoticeRow(request.request_id, kind, payload_hash, window, request.operator_id, content, now)
        subjects = [SubjectRow(notice.request_id, lane, kind, now) for lane in _lanes(request, found)]
        by_lane = dict(zip((subject.subject for subject in subjects), found, strict=False))

        def unit(work: Transaction) -> int:
            known = work.notices.get(notice.request_id)
            if known is not None:  # the same request on two connections
                _same(known, kind, payload_hash)
                return 0
            rows = [self._settled(work, notice, subject, by_lane.get(subject.subject), request) for subject in subjects]
            work.notices.add(notice, rows)
            return sum(bool(row.event_id) and row.seen_time is None for row in rows)

        if await self._store.write(unit):
            self._outbox.appended()

    def _settled(
        self, work: Transaction, notice: NoticeRow, subject: SubjectRow, found: Subject | None, request: Any
    ) -> SubjectRow:
        """The subject with what is known already: the HIS shows it, or the window's word makes the event."""
        if found is None:
            return subject
        if _shown(notice.kind, found, request):
            return replace(subject, seen_time=notice.received_time)
        if self._trust is Trust.HIS:
            return subject
        bare = deepcopy(found)
        clear_personal(bare)
        doctor, note = getattr(request, "doctor_id", ""), getattr(request, "note", "")
        event = event_by_word(notice, subject, bare, notice.received_time, site=self._site, doctor_id=doctor, note=note)
        outbox_rules.append(work, event, notice.received_time)
        return replace(subject, event_id=event.event_id)

    async def _follow(self, request_id: str, deadline: float) -> desk_pb2.Acceptance.ValueType:
        """Waits for 160's acknowledgement of all that the notice is about, as long as the window does."""
        news = asyncio.Event()
        unsubscribe = self._outbox.subscribe(news.set)
        try:
            while True:
                news.clear()
                if await self._store.read(lambda work: _is_acked(work, request_id)):
                    return desk_pb2.ACCEPTANCE_PLATFORM
                left = deadline - self._monotonic() - _MARGIN
                if left < _LEAST:
                    return desk_pb2.ACCEPTANCE_LOCAL
                await self._wait(news, min(_LOOK, timedelta(seconds=left)))
        finally:
            unsubscribe()

    def _today(self) -> date:
        return self._clock().astimezone(self._zone).date()


def _is_acked(work: Transaction, request_id: str) -> bool:
    subjects = work.notices.subjects(request_id)
    return bool(subjects) and all(_is_known(work, subject) for subject in subjects)


def _is_known(work: Transaction, subject: SubjectRow) -> bool:
    """Whether 160 has acknowledged it: by its event, or by the newest of the order when the HIS had shown it before."""
    if subject.event_id:
        return all(row.state is EventState.ACKED for row in work.events.get_many([subject.event_id]))
    latest = work.events.latest_of(subject.subject) if subject.seen_time is not None else None
    if latest is None or latest.state is not EventState.ACKED:
        return False
    return shows(subject.kind, event_pb2.Event.FromString(latest.payload).kind)


def _same(known: NoticeRow, kind: NoticeKind, payload_hash: bytes) -> None:
    if (known.kind, known.payload_hash) != (kind, payload_hash):
        raise HisRefused(reason_pb2.REASON_REQUEST_ID_REUSED, "the request_id came before with another notice")


def _shown(kind: NoticeKind, found: Subject, request: Any) -> bool:
    if isinstance(found, common_pb2.Appointment):
        return is_shown(kind, found)
    if kind is NoticeKind.SUSPEND:
        return found.state == common_pb2.SCHEDULE_STATE_SUSPENDED
    return bool(found.doctor_id == request.doctor_id)


def _lanes(request: Any, found: Sequence[Subject]) -> list[str]:
    """The subjects by the lanes of their events; by the request's own keys when the HIS could not be asked."""
    if not found:
        number = getattr(request, "order_no", "")
        return [f"order:{number}"] if number else [f"schedule:{request.schedule_id}"]
    return [
        f"order:{item.order_no}" if isinstance(item, common_pb2.Appointment) else f"schedule:{item.schedule_id}"
        for item in found
    ]


def _names_itself(request: Message) -> bool:
    """Whether the request alone says which order or session it is about."""
    return bool(getattr(request, "order_no", "") or getattr(request, "schedule_id", ""))


def _day(value: Date) -> date:
    return date(value.year, value.month, value.day)


def _date(value: date) -> Date:
    return Date(year=value.year, month=value.month, day=value.day)
