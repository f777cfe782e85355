"""The bsoft sample's orders and money: 号源, bookings, registrations, receipts, payments, 医保, refunds, day sheets."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterator

from sqlalchemy import Connection

from his_db.samples.bsoft_rows import (
    BRANCH,
    CASH,
    CHANNEL,
    FIRST_PATIENT,
    INSURANCE,
    PAY_MODE,
    PAYTYPE,
    TRANSACTION,
    clinic,
)
from his_db.samples.population import LEVELS, RegistrationSeed, World
from his_db.samples.tables import bulk, stamp

FIRST_HOLD, FIRST_BOOKING, FIRST_REGISTER, FIRST_RECEIPT = 500_001, 300_001, 8_000_001, 900_001
FIRST_SETTLEMENT = 700_001
_GHLB = {"normal": 1, "emergency": 2, "expert": 3, "special": 4}
_HOLD = (
    "HYXH HYKS HYJG HYYS HYSJ HYZT BRID SFZH TYSJ ZBLB SOURCE CARDID CARDTYPE PATIENTNAME TELEPHONENO SDXH GHF ZLF "
    "ZFJE DDH DDSJ"
)
_BOOKING = "YYXH JGID YYMM BRID GHRQ KSDM ZBLB YSDM GHBZ YYRQ JZXH SBXH ZCID QXSJ DJGH"
_REGISTER = (
    "SBXH JGID BRID BRXZ GHSJ GHLB GHRQ ZBLB KSDM YSDM JZYS JZXH GHJE ZLJE XJJE QTYS ZHJE NJJBLSH THBZ CZGH JZRQ HZRQ "
    "JZHM YYBZ JZZT QHSJ FFFS HYXH PAYTYPE"
)
_RECEIPT = "MZXH JGID FPHM SFRQ BRID XJJE QTYS ZJJE ZFJE ZHJE JJZFJE ZFPB THPB GHGL CZGH JZRQ FFFS"
_INSURED = (
    "JSXH JSLX YXSH SBXH MZXH BRID RYBH XZLX CBDQ JZID MZLSH SFPC JSID JSBW JSSJ QSLB QSFS QSJG YLLB ZFY TCZF JJZE "
    "GRFD ZHZF XJZF YYFD ZHYE CZGH"
)


def fill_orders(connection: Connection, world: World) -> None:
    """All orders with their money and the day sheets of the closed days."""
    channel = [order for order in world.registrations if order.channel in CHANNEL]
    paid = [order for order in world.registrations if order.paid is not None]
    bulk(connection, "MS_YYGHHY", _HOLD, (_hold(world, o) for o in channel))
    bulk(connection, "MS_YYGH", _BOOKING, (_booking(world, o) for o in channel))
    bulk(connection, "MS_GHMX", _REGISTER, (_register(world, o) for o in paid))
    bulk(connection, "MS_MZXX", _RECEIPT, (_receipt(world, o) for o in paid))
    bulk(connection, "MS_FKXX", "JGID MZXH FKFS FKJE FKHM", (row for o in paid for row in _payments(world, o)))
    bulk(connection, "YB_GHJS", _INSURED, _insured(world, paid))
    bulk(
        connection,
        "MS_THMX",
        "SBXH JGID CZGH JZRQ HZRQ THRQ",
        (
            (FIRST_REGISTER + o.index, BRANCH, o.changed_by, _closed(world, o.changed), None, o.changed)
            for o in paid
            if o.state == "REFUNDED" and o.changed is not None
        ),
    )
    _sheets(connection, world)


def order_key(order: RegistrationSeed) -> str:
    """DDH: the order number of the channel."""
    return order.order_no if order.channel == "160" else f"W{order.order_no}"


def _hold(world: World, order: RegistrationSeed) -> tuple[object, ...]:
    schedule, patient = world.schedules[order.schedule], world.patients[order.patient]
    _, department, doctor, session = clinic(world, schedule)
    _, registration, diagnosis = LEVELS[schedule.level]
    released = order.state in ("CANCELLED", "REFUNDED")
    return (
        FIRST_HOLD + order.index, department, BRANCH, doctor, schedule.start(order.number), "3" if released else "2",
        FIRST_PATIENT + patient.index, patient.id_no[:1] or None, order.changed if released else "0000-00-00 00:00:00",
        str(session), CHANNEL[order.channel], f"9{patient.index + 1:09d}", "01", patient.name[:20], patient.phone,
        str(order.number), registration / 100, diagnosis / 100, (registration + diagnosis) / 100, order_key(order),
        stamp(order.booked),
    )  # fmt: skip


def _booking(world: World, order: RegistrationSeed) -> tuple[object, ...]:
    day, department, doctor, session = clinic(world, world.schedules[order.schedule])
    cancelled = order.state == "CANCELLED"
    taken = order.state in ("CHECKED_IN", "VISITED")
    return (
        FIRST_BOOKING + order.index, BRANCH, f"{order.index * 7919 % 100_000_000:08d}", FIRST_PATIENT + order.patient,
        day, department, session, doctor, 9 if cancelled else int(taken), order.booked, order.number,
        FIRST_REGISTER + order.index if order.paid else None, FIRST_HOLD + order.index,
        _slashes(order.changed, order.changed_by) if cancelled else None,
        order.changed_by if cancelled else order.operator,
    )  # fmt: skip


def _slashes(moment: datetime.datetime | None, operator: str) -> str | None:
    """QXSJ is text: the window writes 2026/3/2 8:05:09, an interface 2026-03-02 08:05:09."""
    if moment is None or not operator.isdigit():
        return stamp(moment)
    return f"{moment.year}/{moment.month}/{moment.day} {moment.hour}:{moment:%M:%S}"


def _parts(world: World, order: RegistrationSeed) -> tuple[float, float, float]:
    """元: the patient's own payment, personal account, fund."""
    insured = world.insured(order)
    if insured is None:
        return world.schedules[order.schedule].fee_fen / 100, 0.0, 0.0
    return insured.cash_fen / 100, insured.account_fen / 100, insured.fund_fen / 100


def _register(world: World, order: RegistrationSeed) -> tuple[object, ...]:
    schedule = world.schedules[order.schedule]
    day, department, doctor, session = clinic(world, schedule)
    _, registration, diagnosis = LEVELS[schedule.level]
    seen = order.state == "VISITED"
    start = schedule.start(order.number)
    taken = start - datetime.timedelta(minutes=20) if seen or order.state == "CHECKED_IN" else None
    cash = order.channel == "window"
    residue = 1e-9 if order.index % 7 == 3 else 0.0  # what adding floats leaves in such columns
    booked = order.channel in CHANNEL
    own, account, fund = _parts(world, order)
    insured = bool(fund)
    return (
        FIRST_REGISTER + order.index, BRANCH, FIRST_PATIENT + order.patient, 1 + insured, order.paid,
        _GHLB[schedule.level], day, session, department, doctor, doctor if seen else None, order.number,
        registration / 100, diagnosis / 100 - residue, own if cash else 0.0, 0.0 if cash else own, account,
        order.setl_id if insured else None,
        int(order.state == "REFUNDED"), order.operator, _closed(world, order.paid), _closed(world, order.paid),
        f"J{FIRST_REGISTER + order.index}", int(booked), 9 if seen else 0, taken, PAY_MODE[order.channel],
        FIRST_HOLD + order.index if booked else None, PAYTYPE[order.channel],
    )  # fmt: skip


def _receipt(world: World, order: RegistrationSeed) -> tuple[object, ...]:
    total = world.schedules[order.schedule].fee_fen / 100
    cash = order.channel == "window"
    gone = int(order.state == "REFUNDED")
    own, account, fund = _parts(world, order)
    return (
        FIRST_RECEIPT + order.index, BRANCH, f"FP{order.index + 1:08d}", order.paid, FIRST_PATIENT + order.patient,
        own if cash else 0.0, 0.0 if cash else own, total, round(total - fund, 2), account, fund, gone, gone,
        FIRST_REGISTER + order.index, order.operator, _closed(world, order.paid), PAY_MODE[order.channel],
    )  # fmt: skip


def _insured(world: World, paid: list[RegistrationSeed]) -> Iterator[tuple[object, ...]]:
    """YB_GHJS: the settlement; of a refunded order its reversal too."""
    number = FIRST_SETTLEMENT
    for order in paid:
        insured = world.insured(order)
        if insured is None or order.paid is None:
            continue
        total = world.schedules[order.schedule].fee_fen
        amounts = [total, insured.fund_fen, insured.fund_fen, total - insured.fund_fen, insured.account_fen,
                   insured.cash_fen, 0]  # fmt: skip
        keys = (FIRST_REGISTER + order.index, FIRST_RECEIPT + order.index, FIRST_PATIENT + order.patient)
        person = (insured.person_no, insured.insutype, "440300", f"D{order.setl_id}", str(keys[0]), f"B{order.setl_id}")
        kinds = ("11", "1", "440300", "12")
        report = f"H44030500001{order.paid:%Y%m%d%H%M%S}{order.index % 10_000:04d}"
        first = number
        yield (
            number, 1, None, *keys, *person, order.setl_id, report, order.paid, *kinds, *(a / 100 for a in amounts),
            1234.0, order.operator,
        )  # fmt: skip
        number += 1
        if order.state == "REFUNDED":
            yield (
                number, 2, first, *keys, *person, f"{order.setl_id}R", None, order.changed, *kinds,
                *(-a / 100 for a in amounts), None, order.changed_by,
            )  # fmt: skip
            number += 1


def _payments(world: World, order: RegistrationSeed) -> Iterator[tuple[object, ...]]:
    receipt, mode = FIRST_RECEIPT + order.index, PAY_MODE[order.channel]
    own, account, fund = _parts(world, order)
    ways: list[tuple[int, float, str | None, str | None]] = []
    if own:
        ways.append((mode, own, None if mode == CASH else order.trade_no, order.refund_no or None))
    if fund:
        ways.append((INSURANCE, round(account + fund, 2), order.setl_id, f"{order.setl_id}R"))
    for way, amount, number, _ in ways:
        yield (BRANCH, receipt, way, amount, number)
    if own and mode != CASH:
        yield (BRANCH, receipt, TRANSACTION, 0.0, order.transaction_no)
    if order.state == "REFUNDED":
        for way, amount, _, number in ways:
            yield (BRANCH, receipt, way, -amount, number)


def _closed(world: World, moment: datetime.datetime | None) -> datetime.datetime | None:
    """JZRQ: the morning after, for all days before yesterday; None while the day sheet is open."""
    if moment is None or moment.date() >= world.today - datetime.timedelta(days=1):
        return None
    return datetime.datetime.combine(moment.date() + datetime.timedelta(days=1), datetime.time(7, 40))


def _sheets(connection: Connection, world: World) -> None:
    """MS_GHRB and MS_GHRB_FKMX: one sheet for each operator and closed day; a refund counts on its own day."""
    taken: dict[tuple[str, datetime.datetime], list[tuple[int, int, int]]] = defaultdict(list)
    for order in world.registrations:
        total, mode = world.schedules[order.schedule].fee_fen, PAY_MODE[order.channel]
        insured = world.insured(order)
        own = total if insured is None else insured.cash_fen
        closed = _closed(world, order.paid)
        if closed is not None:
            taken[order.operator, closed].append((mode, own, total - own))
        back = _closed(world, order.changed) if order.state == "REFUNDED" else None
        if back is not None:
            taken[order.changed_by, back].append((mode, -own, own - total))
    sheets, details = [], []
    for (operator, closed), moves in taken.items():
        by_mode: dict[int, int] = defaultdict(int)
        for mode, own, by_insurance in moves:
            by_mode[mode] += own
            if by_insurance:
                by_mode[INSURANCE] += by_insurance
        refunds = [-own - part for _, own, part in moves if own + part < 0]
        net, cash, insured_sum = sum(by_mode.values()), by_mode.get(CASH, 0), by_mode.get(INSURANCE, 0)
        sheets.append(
            (operator, closed, BRANCH, net / 100, cash / 100, (net - cash - insured_sum) / 100,
             len(moves) - len(refunds), len(refunds), sum(refunds) / 100, by_mode.get(15, 0) / 100,
             by_mode.get(16, 0) / 100, insured_sum / 100)
        )  # fmt: skip
        details += [(operator, closed, mode, BRANCH, total / 100) for mode, total in by_mode.items()]
    bulk(connection, "MS_GHRB", "CZGH JZRQ JGID ZJJE XJJE QTYS FPZS THSL THJE WXHJ ZFBHJ YBZFHJ", sheets)
    bulk(connection, "MS_GHRB_FKMX", "CZGH JZRQ FKFS JGID FKJE", details)
