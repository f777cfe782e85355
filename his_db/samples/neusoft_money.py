"""The neusoft sample's orders and money: orders, holds, registrations, fee rows, negative rows, day reports."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection

from his_db.samples.desk import Desk
from his_db.samples.population import LEVELS, RegistrationSeed, ScheduleSeed, World
from his_db.samples.tables import bulk, yuan

FIRST_CARD = 100_001
FIRST_SCHEMA = 700_001
_FIRST_ORDER = 300_001
_FIRST_CLINIC = 400_001
_LEVEL = {"normal": "1", "emergency": "2", "expert": "3", "special": "4"}
_SOURCE = {"160": "160", "wechat": "WX", "kiosk": "ZZJ", "window": "0"}
_MODE = {"160": "4", "wechat": "4", "kiosk": "5", "window": "0"}
_STATE = {"BOOKED": "0", "PAID": "3", "CHECKED_IN": "4", "VISITED": "4", "CANCELLED": "2", "REFUNDED": "5"}

_ORDER = (
    "order_id serial_no user_idcard user_name user_gender user_mobile user_birthday order_type schema_id dept_code "
    "doct_code reg_date time_flag start_time end_time seeno reg_fee treat_fee order_state visiting_num card_no "
    "pay_mode trade_no txn_code in_source cancel_reason order_date oper_code oper_date"
)
_HOLD = (
    "lock_id order_id dept_id doctor_id reg_date time_flag start_time end_time order_type reg_fee treat_fee schema_id "
    "seeno lock_state oper_id oper_date"
)
_REGISTER = (
    "clinic_code trans_type card_no reg_date noon_code name idenno sex_code birthday paykind_code paykind_name "
    "pact_code reglevl_code reglevl_name dept_code dept_name seeno doct_code doct_name see_date ynregchrg ynbook ynfr "
    "reg_fee chck_fee diag_fee oth_fee own_cost pub_cost pay_cost valid_flag oper_code oper_date ynsee check_flag "
    "rela_phone begin_time end_time cancel_opcd cancel_date invoice_no schema_no in_source triage_flag"
)
_FEE = (
    "invoice_no trans_type fee_type card_no tot_cost fee_oper fee_date balance_flag balance_no balance_opcd "
    "balance_date cancel_flag clinic_no own_cost pub_cost pay_cost pay_type"
)
_HISTORY = "order_id return_reason oper_id refund_time refund_no refund_fee invoice_no"


def card_no(index: int) -> str:
    """COM_PATIENTINFO.CARD_NO: ten digits."""
    return f"{FIRST_CARD + index:010d}"


def schema_id(index: int) -> str:
    """FIN_OPR_SCHEMA.ID: fourteen digits."""
    return f"{FIRST_SCHEMA + index:014d}"


@dataclass(frozen=True, slots=True)
class _Keys:
    """The HIS keys of one order. `order_id` is None for a walk-in."""

    order_id: str | None
    serial: str
    clinic: str
    invoice: str
    red_invoice: str


def fill_orders(connection: Connection | Desk, world: World) -> None:
    """All orders with their money."""
    reports = _report_numbers(world)
    booked = [order for order in world.registrations if _keys(order).order_id is not None]
    paid = [order for order in world.registrations if order.paid is not None]
    refunded = [order for order in booked if order.state == "REFUNDED"]
    bulk(connection, "neuhis.fin_opr_appointmentorder", _ORDER, (*(_order(world, o) for o in booked), _failed(world)))
    bulk(connection, "neuhis.fin_opr_booking", _HOLD, (_hold(world, o) for o in booked if o.holds_number))
    bulk(connection, "neuhis.fin_opr_register", _REGISTER, (row for o in paid for row in _registers(world, o)))
    bulk(connection, "neuhis.fin_opb_accountcardfee", _FEE, (row for o in paid for row in _fees(world, o, reports)))
    bulk(connection, "neuhis.fin_opr_bookingpayhistory", _HISTORY, (_history(world, o) for o in refunded))
    _reports(connection, world, reports)


def _keys(order: RegistrationSeed) -> _Keys:
    booked = {"160": order.order_no, "wechat": f"W{order.order_no}"}.get(order.channel)
    number = _FIRST_CLINIC + order.index
    letter = "F" if booked is None else "W"
    return _Keys(
        booked,
        f"{_FIRST_ORDER + order.index:014d}",
        f"{number:014d}",
        f"{letter}{2 * order.index + 1:09d}",
        f"{letter}{2 * order.index + 2:09d}",
    )


def _doctor(world: World, schedule: ScheduleSeed) -> str | None:
    """The code as the schedule has it: 'None' or NULL for 普通门诊."""
    if schedule.doctor is None:
        return "None" if schedule.index % 2 else None
    return world.doctors[schedule.doctor].code


def _midnight(day: datetime.date) -> datetime.datetime:
    return datetime.datetime.combine(day, datetime.time())


def _segment(schedule: ScheduleSeed, number: int) -> tuple[str, str]:
    return f"{schedule.start(number):%H:%M}", f"{schedule.start(number + 1):%H:%M}"


def _order(world: World, order: RegistrationSeed) -> tuple[object, ...]:
    schedule = world.schedules[order.schedule]
    patient = world.patients[order.patient]
    _, register, treat = LEVELS[schedule.level]
    keys = _keys(order)
    paid = order.paid is not None
    last = order.changed or order.paid or order.booked
    return (
        keys.order_id, keys.serial, patient.id_no or None, patient.name, patient.sex, patient.phone or None,
        _midnight(patient.birth), "0", schema_id(schedule.index), world.departments[schedule.department].code,
        _doctor(world, schedule), _midnight(schedule.day), str(schedule.session), *_segment(schedule, order.number),
        order.number, register, treat, _STATE[order.state], keys.clinic if paid else None, card_no(patient.index),
        _MODE[order.channel] if paid else None, order.trade_no if paid else None,
        order.transaction_no if paid else None, _SOURCE[order.channel],
        "用户取消" if order.state == "CANCELLED" else None, order.booked, order.changed_by or order.operator, last,
    )  # fmt: skip


def _failed(world: World) -> tuple[object, ...]:
    """A trap: an order of ORDER_STATE 1 (下定失败), which is no order at all."""
    schedule = next(s for s in world.schedules if s.day > world.today and s.published and not s.stopped)
    patient = world.patients[24]
    moment = datetime.datetime.combine(world.today - datetime.timedelta(days=1), datetime.time(15, 3, 27))
    return (
        "16FAILED", f"{_FIRST_ORDER - 1:014d}", patient.id_no or None, patient.name, patient.sex, None,
        _midnight(patient.birth), "0", schema_id(schedule.index), world.departments[schedule.department].code,
        _doctor(world, schedule), _midnight(schedule.day), str(schedule.session), *_segment(schedule, 1), 1, 0, 0, "1",
        None, card_no(patient.index), None, None, None, "160", None, moment, "jk160", moment,
    )  # fmt: skip


def _hold(world: World, order: RegistrationSeed) -> tuple[object, ...]:
    schedule = world.schedules[order.schedule]
    _, register, treat = LEVELS[schedule.level]
    keys = _keys(order)
    return (
        keys.serial, keys.order_id, world.departments[schedule.department].code, _doctor(world, schedule),
        _midnight(schedule.day), str(schedule.session), *_segment(schedule, order.number), "0", register, treat,
        schema_id(schedule.index), order.number, "1", order.operator, order.booked,
    )  # fmt: skip


def _registers(world: World, order: RegistrationSeed) -> Iterator[tuple[object, ...]]:
    """The positive row, and the negative one of a refund."""
    schedule = world.schedules[order.schedule]
    patient = world.patients[order.patient]
    name, register, treat = LEVELS[schedule.level]
    department = world.departments[schedule.department]
    keys = _keys(order)
    gone, seen = order.state == "REFUNDED", order.state == "VISITED"
    signed = seen or order.state == "CHECKED_IN"
    start = schedule.start(order.number)
    who = (
        card_no(patient.index), _midnight(schedule.day), str(schedule.session), patient.name, patient.id_no or None,
        patient.sex, _midnight(patient.birth), "01", "自费", "1", _LEVEL[schedule.level], name, department.code,
        department.name, order.number, _doctor(world, schedule),
        None if schedule.doctor is None else world.doctors[schedule.doctor].name,
    )  # fmt: skip
    begin, end = schedule.start(1), schedule.start(schedule.total + 1)
    for sign in (1, -1) if gone else (1,):
        money = (
            yuan(sign * register), yuan(0), yuan(sign * treat), yuan(0), yuan(sign * (register + treat)), yuan(0),
            yuan(0),
        )  # fmt: skip
        positive = sign > 0
        yield (
            keys.clinic, "1" if positive else "2", *who,
            start + datetime.timedelta(minutes=6) if seen else None, "1", "1" if keys.order_id else "0", "1", *money,
            "0" if gone else "1", order.operator if positive else order.changed_by,
            order.paid if positive else order.changed, "1" if seen else "0", "1" if signed else "0",
            patient.phone or None, begin, end, order.changed_by if gone and positive else None,
            order.changed if gone and positive else None, keys.invoice if positive else keys.red_invoice,
            schema_id(schedule.index), _SOURCE[order.channel], "1" if signed else "0",
        )  # fmt: skip


def _fees(
    world: World, order: RegistrationSeed, reports: dict[tuple[str, datetime.date], str]
) -> Iterator[tuple[object, ...]]:
    """One row per fee type and sign; both are CANCEL_FLAG 2 after a refund."""
    assert order.paid is not None
    _, register, treat = LEVELS[world.schedules[order.schedule].level]
    keys = _keys(order)
    gone = order.state == "REFUNDED"
    movements = [(1, order.operator, order.paid, keys.invoice)]
    if gone and order.changed is not None:
        movements.append((-1, order.changed_by, order.changed, keys.red_invoice))
    for sign, operator, moment, invoice in movements:
        report = reports.get((operator, moment.date()))
        closed = _closed_at(moment.date()) if report else None
        for kind, amount in (("3", register), ("4", treat)):
            if amount:
                cost = yuan(sign * amount)
                yield (
                    invoice, "1" if sign > 0 else "2", kind, card_no(order.patient), cost, operator, moment,
                    "1" if report else "0", report, operator if report else None, closed, "2" if gone else "1",
                    keys.clinic, cost, yuan(0), yuan(0), _MODE[order.channel],
                )  # fmt: skip


def _history(world: World, order: RegistrationSeed) -> tuple[object, ...]:
    keys = _keys(order)
    reason = "用户请求退费" if order.refund_no else "窗口退号"
    amount = world.schedules[order.schedule].fee_fen
    return (
        keys.order_id,
        reason,
        order.changed_by,
        order.changed,
        order.refund_no or None,
        amount,
        keys.red_invoice,
    )


def _movements(world: World) -> Iterator[tuple[str, datetime.datetime, str, int]]:
    """Operator, time, level and sign of every payment and refund."""
    for order in world.registrations:
        level = world.schedules[order.schedule].level
        if order.paid is not None:
            yield order.operator, order.paid, level, 1
            if order.changed is not None:
                yield order.changed_by, order.changed, level, -1


def _closed_at(day: datetime.date) -> datetime.datetime:
    return datetime.datetime.combine(day + datetime.timedelta(days=1), datetime.time(7, 40))


def _report_numbers(world: World) -> dict[tuple[str, datetime.date], str]:
    limit = world.today - datetime.timedelta(days=1)
    keys = sorted({(operator, moment.date()) for operator, moment, _, _ in _movements(world) if moment.date() < limit})
    return {key: f"{9001 + number:014d}" for number, key in enumerate(keys)}


def _reports(connection: Connection | Desk, world: World, reports: dict[tuple[str, datetime.date], str]) -> None:
    figures: dict[tuple[str, datetime.date], list[int]] = defaultdict(lambda: [0, 0, 0])
    for operator, moment, level, sign in _movements(world):
        _, register, treat = LEVELS[level]
        row = figures[(operator, moment.date())]
        row[0] += sign
        row[1] += sign * register
        row[2] += sign * treat
    rows = []
    for (operator, day), number in reports.items():
        count, register, treat = figures[(operator, day)]
        total = yuan(register + treat)
        rows.append(
            (number, _midnight(day), _closed_at(day), operator, count, yuan(register), yuan(0), yuan(treat), yuan(0),
             total, yuan(0), yuan(0), yuan(0), yuan(0))
        )  # fmt: skip
    bulk(
        connection,
        "neuhis.fin_opr_dayreport",
        "balance_no begin_date end_date oper_id sum_count sum_regfee sum_chkfee sum_digfee sum_othfee sum_owncost "
        "sum_paycost sum_pubcost sum_cardfee sum_casefee",
        rows,
    )
