"""How a HIS is brought into the situations of `reasons.py`, and the call that it refuses: paying, giving back, 医保."""

from __future__ import annotations

from his160.v1 import common_pb2

from tests.conformance.packs import insured
from tests.conformance.packs.hospital import (
    Hospital,
    booked,
    check_refund,
    key,
    order_no,
    patient,
    pay,
    read,
    refund,
)
from tests.conformance.packs.situations_of_orders import (
    OPERATOR,
    Act,
    cancelled,
    gone,
    paid,
    refunded,
    stop,
    taken,
    visited,
)
from tests.conformance.packs.tables import TABLES, rule, run

ACTS: dict[str, Act] = {}


def act(function: Act) -> Act:
    ACTS[function.__name__] = function
    return function


# ------------------------------------------------------------------------------------------------- paying, giving back


@act
async def pay_nothing(h: Hospital) -> None:
    await pay(h, common_pb2.Appointment(order_no=order_no(), total_fen=2000))


@act
async def pay_cancelled(h: Hospital) -> None:
    await pay(h, await cancelled(h))


@act
async def pay_amount(h: Hospital) -> None:
    order = await booked(h)
    await pay(h, order, amount_fen=order.total_fen - 1)


@act
async def pay_twice(h: Hospital) -> None:
    order = await paid(h)
    await pay(h, order, out_trade_no="N" + order.order_no, transaction_id="X" + order.order_no)


@act
async def pay_number_used(h: Hospital) -> None:
    first, second = await paid(h), await booked(h)
    await pay(h, second, out_trade_no="M" + first.order_no)


@act
async def pay_no_number(h: Hospital) -> None:
    await pay(h, await booked(h), out_trade_no="", transaction_id="")


@act
async def pay_refunded(h: Hospital) -> None:
    order = await refunded(h)
    await pay(h, order, out_trade_no="N" + order.order_no)


@act
async def pay_no_session(h: Hospital) -> None:
    order = await booked(h)
    gone(h, order)
    await pay(h, order)


@act
async def refund_nothing(h: Hospital) -> None:
    await refund(h, common_pb2.Appointment(order_no=order_no(), total_fen=2000))


@act
async def refund_cancelled(h: Hospital) -> None:
    await refund(h, await cancelled(h))


@act
async def refund_no_session(h: Hospital) -> None:
    order = await paid(h)
    gone(h, order)
    await refund(h, order)


@act
async def check_no_session(h: Hospital) -> None:
    order = await paid(h)
    gone(h, order)
    await check_refund(h, order)


@act
async def no_payment(h: Hospital) -> None:
    await read(h, "PaymentService.GetPayment", out_trade_no="nothing")


@act
async def refund_unpaid(h: Hospital) -> None:
    await refund(h, await booked(h))


@act
async def refund_twice(h: Hospital) -> None:
    order = await paid(h)
    h.window.refund(order.appointment_id, operator=OPERATOR)
    await refund(h, order)


@act
async def refund_part(h: Hospital) -> None:
    order = await paid(h)
    await refund(h, order, amount_fen=order.total_fen - 100)


@act
async def refund_more(h: Hospital) -> None:
    order = await paid(h)
    await refund(h, order, amount_fen=order.total_fen + 100)


@act
async def refund_closed(h: Hospital) -> None:
    order = await paid(h)
    close(h, order)
    await refund(h, order)


@act
async def refund_insured(h: Hospital) -> None:
    order = await insured.registered(h)
    await refund(h, order)


@act
async def refund_prescribed(h: Hospital) -> None:
    order = await paid(h)
    h.window.prescribe(order.appointment_id)
    await refund(h, order)


def print_invoice(h: Hospital, order: common_pb2.Appointment) -> None:
    printer = getattr(h.window, "print_invoice", None)
    if printer is None:
        raise NotImplementedError
    printer(order.appointment_id, operator=OPERATOR)


@act
async def refund_invoiced(h: Hospital) -> None:
    order = await paid(h)
    print_invoice(h, order)
    await refund(h, order)


@act
async def refund_taken(h: Hospital) -> None:
    order = await taken(h)
    rule(h, "refund_after_check_in", on=False)
    await refund(h, order)


@act
async def refund_seen(h: Hospital) -> None:
    await refund(h, await visited(h))


@act
async def refund_number_used(h: Hospital) -> None:
    first, second = await paid(h), await paid(h)
    await refund(h, first)
    await refund(h, second, out_refund_no="R" + first.order_no)


@act
async def refund_other_pay(h: Hospital) -> None:
    await refund(h, await paid(h), out_trade_no="nothing")


@act
async def no_refund(h: Hospital) -> None:
    await read(h, "PaymentService.GetRefund", out_refund_no="nothing")


# ------------------------------------------------------------------------- asked before any money goes back (退费预检查)


@act
async def check_nothing(h: Hospital) -> None:
    await check_refund(h, common_pb2.Appointment(order_no=order_no(), total_fen=2000))


@act
async def check_unpaid(h: Hospital) -> None:
    await check_refund(h, await booked(h))


@act
async def check_cancelled(h: Hospital) -> None:
    await check_refund(h, await cancelled(h))


@act
async def check_twice(h: Hospital) -> None:
    order = await paid(h)
    h.window.refund(order.appointment_id, operator=OPERATOR)
    await check_refund(h, order)


@act
async def check_part(h: Hospital) -> None:
    order = await paid(h)
    await check_refund(h, order, amount_fen=order.total_fen - 100)


@act
async def check_more(h: Hospital) -> None:
    order = await paid(h)
    await check_refund(h, order, amount_fen=order.total_fen + 100)


@act
async def check_other_pay(h: Hospital) -> None:
    await check_refund(h, await paid(h), out_trade_no="nothing")


def close(h: Hospital, order: common_pb2.Appointment) -> None:
    run(h, TABLES[h.name].closed, order=order.order_no)
    rule(h, "refund_after_close", on=False)


@act
async def check_closed(h: Hospital) -> None:
    order = await paid(h)
    close(h, order)
    await check_refund(h, order)


@act
async def check_prescribed(h: Hospital) -> None:
    order = await paid(h)
    h.window.prescribe(order.appointment_id)
    await check_refund(h, order)


@act
async def check_invoiced(h: Hospital) -> None:
    order = await paid(h)
    print_invoice(h, order)
    await check_refund(h, order)


@act
async def check_taken(h: Hospital) -> None:
    order = await taken(h)
    rule(h, "refund_after_check_in", on=False)
    await check_refund(h, order)


@act
async def check_seen(h: Hospital) -> None:
    await check_refund(h, await visited(h))


def cash(order: common_pb2.Appointment) -> int:
    return int(insured.split(order.total_fen).cash_fen)


@act
async def check_insured_closed(h: Hospital) -> None:
    order = await insured.registered(h)
    close(h, order)
    await check_refund(h, order, amount_fen=cash(order))


@act
async def check_insured_prescribed(h: Hospital) -> None:
    order = await insured.registered(h)
    h.window.prescribe(order.appointment_id)
    await check_refund(h, order, amount_fen=cash(order))


@act
async def check_insured_taken(h: Hospital) -> None:
    order = await insured.registered(h)
    h.window.check_in(order.appointment_id)
    rule(h, "refund_after_check_in", on=False)
    await check_refund(h, order, amount_fen=cash(order))


@act
async def check_insured_twice(h: Hospital) -> None:
    order = await insured.registered(h)
    await insured.red(h, order)
    await check_refund(h, order, amount_fen=cash(order))


@act
async def no_visitor(h: Hospital) -> None:
    if not h.his.generation.operations.get("PatientService.GetVisitor"):
        raise NotImplementedError
    await read(h, "PatientService.GetVisitor", account_id="nobody", patient_id=(await patient(h)).patient_id)


# ---------------------------------------------------------------------------------------------------------------- 医保


@act
async def insured_nothing(h: Hospital) -> None:
    await insured.register(h, common_pb2.Appointment(order_no=order_no(), total_fen=2000))


@act
async def insured_cancelled(h: Hospital) -> None:
    await insured.register(h, await cancelled(h))


@act
async def insured_stopped(h: Hospital) -> None:
    order = await booked(h)
    stop(h, order.schedule_id)
    await insured.register(h, order)


@act
async def insured_total(h: Hospital) -> None:
    order = await booked(h)
    await insured.register(h, order, split=insured.split(order.total_fen + 100))


@act
async def insured_sum(h: Hospital) -> None:
    order = await booked(h)
    split = insured.split(order.total_fen)
    split.fund_fen += 1
    await insured.register(h, order, split=split)


@act
async def insured_no_cash_no(h: Hospital) -> None:
    await insured.register(h, await booked(h), out_trade_no="", transaction_id="")


@act
async def insured_twice(h: Hospital) -> None:
    order = await insured.registered(h)
    await insured.register(h, order, setl_id="S" + key()[:20], out_trade_no="N" + order.order_no)


@act
async def insured_setl_used(h: Hospital) -> None:
    first = await insured.registered(h)
    await insured.register(h, await booked(h), setl_id=insured.setl_id(first))


@act
async def insured_refunded(h: Hospital) -> None:
    order = await refunded(h)
    await insured.register(h, order, out_trade_no="N" + order.order_no)


@act
async def insured_no_session(h: Hospital) -> None:
    order = await booked(h)
    gone(h, order)
    await insured.register(h, order)


@act
async def red_unpaid(h: Hospital) -> None:
    await insured.red(h, await booked(h))


@act
async def red_cancelled(h: Hospital) -> None:
    await insured.red(h, await cancelled(h))


@act
async def red_number_used(h: Hospital) -> None:
    first, second = await insured.registered(h), await insured.registered(h)
    await insured.red(h, first)
    await insured.red(h, second, out_refund_no="R" + first.order_no)


@act
async def insured_none(h: Hospital) -> None:
    await read(h, "InsuredRegistrationService.GetInsuredRegistration", order_no=(await paid(h)).order_no)


@act
async def red_nothing(h: Hospital) -> None:
    await insured.red(h, await insured.registered(h), setl_id="nothing")


@act
async def red_twice(h: Hospital) -> None:
    order = await insured.registered(h)
    await insured.red(h, order)
    await insured.red(h, order, out_refund_no="S" + order.order_no)


@act
async def red_cash(h: Hospital) -> None:
    order = await insured.registered(h)
    await insured.red(h, order, cash_fen=order.total_fen)


@act
async def red_seen(h: Hospital) -> None:
    order = await insured.registered(h)
    h.window.visit(order.appointment_id)
    await insured.red(h, order)


@act
async def red_prescribed(h: Hospital) -> None:
    order = await insured.registered(h)
    h.window.prescribe(order.appointment_id)
    await insured.red(h, order)
