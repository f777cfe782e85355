"""Steps of the platform: browse, 建档, lock, book, pay, refund, cancel, and that a retry changes nothing."""

from __future__ import annotations

import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from google.type import date_pb2
from his160.v1 import appointment_pb2, catalog_pb2, common_pb2, event_pb2, patient_pb2, payment_pb2

from agent.demo.rows import difference
from agent.demo.story import CASHIER, Order, Outcome, StepFailed, Story, request_id, require, state_name
from agent.sandbox.client import CallFailed
from his_db.samples.people import id_number, phone
from sync.redaction import without_personal

_DAYS = 6
_NAME = "林演示"


def departments(story: Story) -> Outcome:
    """The departments open for registration."""
    answer = story.book.call("CatalogService.ListDepartments", catalog_pb2.ListDepartmentsRequest(page_size=1000))
    story.departments = list(answer.departments)
    require(bool(story.departments), "no department")
    return Outcome(f"{len(story.departments)} departments, e.g. {story.departments[0].name}")


def doctors(story: Story) -> Outcome:
    """All doctors; departments with many come first from now on."""
    answer = story.book.call("CatalogService.ListDoctors", catalog_pb2.ListDoctorsRequest(page_size=1000))
    require(bool(answer.doctors), "no doctor")
    counts: dict[str, int] = {}
    for doctor in answer.doctors:
        counts[doctor.department_id] = counts.get(doctor.department_id, 0) + 1
    story.departments.sort(key=lambda department: -counts.get(department.department_id, 0))
    most = story.departments[0]
    return Outcome(f"{len(answer.doctors)} doctors, {counts.get(most.department_id, 0)} of them in {most.name}")


def schedules(story: Story) -> Outcome:
    """Sessions of the coming days, department by department, until two open ones with numbers left are found."""
    seen = 0
    for department in story.departments:
        request = catalog_pb2.ListSchedulesRequest(
            from_date=_date(story.today + datetime.timedelta(days=1)),
            to_date=_date(story.today + datetime.timedelta(days=_DAYS)),
            department_id=department.department_id,
            page_size=1000,
        )
        found = story.book.call("CatalogService.ListSchedules", request).schedules
        seen += len(found)
        story.sessions += [
            session
            for session in found
            if session.state == common_pb2.SCHEDULE_STATE_OPEN
            and session.free_count >= 2
            and session.fee_fen > 0
            and session.schedule_id not in story.avoid
        ]
        if len(story.sessions) >= 2:
            break
    require(len(story.sessions) >= 2, f"fewer than two open sessions among {seen}")
    story.paid.schedule_id = story.sessions[0].schedule_id
    story.withdrawn.schedule_id = story.sessions[1].schedule_id
    chosen = story.sessions[0]
    return Outcome(
        f"{seen} sessions, chosen {chosen.department_name} {chosen.doctor_name or '普通门诊'} "
        f"{chosen.visit_date.month}-{chosen.visit_date.day:02d}, {chosen.free_count} free, {chosen.fee_fen} 分"
    )


def slots(story: Story) -> Outcome:
    """Free numbers of the two sessions."""
    counts = []
    for order in (story.paid, story.withdrawn):
        request = catalog_pb2.ListSlotsRequest(schedule_id=order.schedule_id, free_only=True, page_size=1000)
        found = story.book.call("CatalogService.ListSlots", request).slots
        require(bool(found) and found[0].state == common_pb2.SLOT_STATE_FREE, "no free slot")
        order.slot_id = found[0].slot_id
        counts.append(sum(slot.free_count for slot in found))
    require(counts[0] == story.sessions[0].free_count, "ListSlots and ListSchedules do not agree on the free numbers")
    return Outcome(f"{counts[0]} free numbers, the same as the session's own count")


def ensure_patient(story: Story) -> Outcome:
    """建档 of somebody the hospital does not know."""
    answer = story.book.call("PatientService.EnsurePatient", _person(story))
    require(answer.created, "the record was there before")
    for order in (story.paid, story.withdrawn):
        order.patient_id = answer.patient.patient_id
    return Outcome(f"created, patient {_short(answer.patient.patient_id)}")


def ensure_patient_again(story: Story) -> Outcome:
    """The same person with another request: found, not created."""
    answer = story.book.call("PatientService.EnsurePatient", _person(story))
    require(not answer.created, "a second record was created")
    require(answer.patient.patient_id == story.paid.patient_id, "another record was found")
    return Outcome("found, nothing created")


def lock(story: Story) -> Outcome:
    """锁号."""
    before = story.window.raw_schedule(story.paid.schedule_id)
    answer = _lock(story, story.paid)
    seconds = answer.lock.expire_time.seconds - int(datetime.datetime.now(datetime.UTC).timestamp())
    require(0 < seconds <= 3600, f"the hold ends in {seconds} s")
    changes = difference(before, story.window.raw_schedule(story.paid.schedule_id))
    return Outcome(f"held for {seconds} s, fee {answer.lock.fee_fen} 分", changes)


def book(story: Story) -> Outcome:
    """提交预约."""
    appointment = _book(story, story.paid)
    return Outcome(
        f"order {story.paid.order_no}, number {appointment.queue_no}, {state_name(appointment.state)}",
        difference([], story.rows(story.paid)),
    )


def confirm_payment(story: Story) -> Outcome:
    """支付回写 = 挂号."""
    order, before = story.paid, story.rows(story.paid)
    now = Timestamp()
    now.GetCurrentTime()
    request = payment_pb2.ConfirmPaymentRequest(
        request_id=request_id(),
        order_no=order.order_no,
        out_trade_no=order.out_trade_no,
        transaction_id=f"4200{order.order_no[1:]}",
        amount_fen=order.total_fen,
        method=common_pb2.PAYMENT_METHOD_WECHAT,
        pay_time=now,
    )
    answer = _command(story, order, "PaymentService.ConfirmPayment", request)
    require(answer.appointment.state == common_pb2.APPOINTMENT_STATE_PAID, state_name(answer.appointment.state))
    require(answer.appointment.paid_fen == order.total_fen, f"paid is {answer.appointment.paid_fen} 分")
    detail = f"PAID {answer.appointment.paid_fen} 分, receipt {answer.appointment.receipt_no}"
    return Outcome(detail, difference(before, story.rows(order)))


def get_payment(story: Story) -> Outcome:
    """查询支付状态."""
    request = payment_pb2.GetPaymentRequest(out_trade_no=story.paid.out_trade_no)
    payment = story.book.call("PaymentService.GetPayment", request).payment
    require(payment.state == payment_pb2.PAYMENT_STATE_PAID, payment_pb2.PaymentState.Name(payment.state))
    require(payment.amount_fen == story.paid.total_fen, f"the amount is {payment.amount_fen} 分")
    require(payment.order_no == story.paid.order_no, "the payment belongs to another order")
    return Outcome(f"PAID {payment.amount_fen} 分")


def refund(story: Story) -> Outcome:
    """退号退费 of the order whose session was stopped."""
    order, before = story.paid, story.rows(story.paid)
    request = payment_pb2.RefundPaymentRequest(
        request_id=request_id(),
        order_no=order.order_no,
        out_trade_no=order.out_trade_no,
        out_refund_no=order.out_refund_no,
        amount_fen=order.total_fen,
        note="停诊退费",
    )
    answer = _command(story, order, "PaymentService.RefundPayment", request)
    state = answer.refund.state
    taken = (payment_pb2.REFUND_STATE_DONE, payment_pb2.REFUND_STATE_PROCESSING)
    require(state in taken, payment_pb2.RefundState.Name(state))
    require(answer.refund.amount_fen == order.total_fen, f"refunded {answer.refund.amount_fen} 分")
    changes = difference(before, story.rows(order))
    require(any(change.kind == "new" for change in changes), "the HIS has no red row")
    name = payment_pb2.RefundState.Name(state).removeprefix("REFUND_STATE_")
    return Outcome(f"{name} {answer.refund.amount_fen} 分, red row {answer.refund.refund_receipt_no}", changes)


def platform_cancel(story: Story) -> Outcome:
    """取消预约 by the platform: it must not come back as an on-site event.

    The proof is an on-site change made afterwards: when its event is here, that of the cancellation would be, too.
    """
    order = story.withdrawn
    _lock(story, order)
    _book(story, order)
    before = story.rows(order)
    request = appointment_pb2.CancelAppointmentRequest(
        request_id=request_id(), order_no=order.order_no, note="患者取消"
    )
    answer = _command(story, order, "AppointmentService.CancelAppointment", request)
    cancelled = common_pb2.APPOINTMENT_STATE_CANCELLED
    require(answer.appointment.state == cancelled, state_name(answer.appointment.state))
    changes = difference(before, story.rows(order))
    witness = story.earlier.witness
    story.window.cancel_booking(witness.his_id, operator=CASHIER)
    story.book.wait_event(lambda event: event.order_no == witness.order_no, witness.order_no)
    story.book.take()
    for command in (story.withdrawn, story.paid):
        echoes = [e for e in story.book.of_order(command.order_no) if e.kind != event_pb2.EVENT_KIND_SUSPENDED]
        require(not any(e.origin == event_pb2.ORIGIN_ON_SITE for e in echoes), "the platform's own command came back")
    return Outcome("CANCELLED; a later window event arrived, no echo of ours", changes)


def same_request(story: Story) -> Outcome:
    """The refund again with the same request_id: the first answer, no second red row."""
    order, before = story.paid, story.rows(story.paid)
    name = "PaymentService.RefundPayment"
    answer = story.book.call(name, order.requests[name])
    first = order.answers[name]
    require(without_personal(answer) == without_personal(first), "the answer is another one")
    require(not difference(before, story.rows(order)), "HIS rows changed")
    return Outcome("same answer, no HIS row changed")


def other_payload(story: Story) -> Outcome:
    """The same request_id with another amount: refused, nothing done."""
    order, before = story.paid, story.rows(story.paid)
    name = "PaymentService.RefundPayment"
    request = payment_pb2.RefundPaymentRequest()
    request.CopyFrom(order.requests[name])
    request.amount_fen += 100
    try:
        story.book.call(name, request)
    except CallFailed as error:
        require(error.reason == "REQUEST_ID_REUSED", f"refused with {error}")
        require(error.code == "ALREADY_EXISTS", f"refused with {error}")
    else:
        raise StepFailed("it was accepted")
    require(not difference(before, story.rows(order)), "HIS rows changed")
    return Outcome("refused: ALREADY_EXISTS REQUEST_ID_REUSED")


def _lock(story: Story, order: Order) -> Any:
    request = appointment_pb2.LockSlotRequest(
        request_id=request_id(),
        order_no=order.order_no,
        schedule_id=order.schedule_id,
        slot_id=order.slot_id,
        patient_id=order.patient_id,
    )
    answer = _command(story, order, "AppointmentService.LockSlot", request)
    require(bool(answer.lock.lock_id), "the hold has no key")
    order.lock_id = answer.lock.lock_id
    return answer


def _book(story: Story, order: Order) -> Any:
    request = appointment_pb2.BookAppointmentRequest(
        request_id=request_id(),
        order_no=order.order_no,
        patient_id=order.patient_id,
        schedule_id=order.schedule_id,
        slot_id=order.slot_id,
        lock_id=order.lock_id,
    )
    appointment = _command(story, order, "AppointmentService.BookAppointment", request).appointment
    require(appointment.state == common_pb2.APPOINTMENT_STATE_BOOKED, state_name(appointment.state))
    require(appointment.order_no == order.order_no, "the HIS row has another order number")
    order.his_id, order.total_fen = appointment.appointment_id, appointment.total_fen
    return appointment


def _command(story: Story, order: Order, operation: str, request: Any) -> Any:
    order.requests[operation] = request
    order.answers[operation] = story.book.call(operation, request)
    return order.answers[operation]


def _person(story: Story) -> patient_pb2.EnsurePatientRequest:
    """A fictional person: a checksum-valid number, a phone of a range that is given to nobody."""
    return patient_pb2.EnsurePatientRequest(
        request_id=request_id(),
        name=_NAME,
        document_type="01",
        document_no=id_number("440305", story.birthday, story.person),
        mobile=phone(90_000_000 + story.person),
    )


def _date(day: datetime.date) -> date_pb2.Date:
    return date_pb2.Date(year=day.year, month=day.month, day=day.day)


def _short(key: str) -> str:
    return key if len(key) <= 12 else f"{key[:6]}…"
