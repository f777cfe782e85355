"""The zebone sample's visits and money: PV_ENCOUNTER, BL_SETTLE, BL_DEPOSIT, BL_EXT_PAY, BL_CC."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterator

from sqlalchemy import Connection

from his_db.samples.population import LEVELS, RegistrationSeed, World
from his_db.samples.tables import bulk, key, stamp, yuan

_ORG = key("ORG", 1)
_MODE = {"160": "15", "wechat": "15", "kiosk": "16", "window": "1"}
_SYSTEM = {"160": "Y160", "wechat": "2510", "kiosk": "2500"}

_SETTLE = (
    "PK_SETTLE PK_ORG PK_PI PK_PV CODE_ST RECEIPT_NO DT_STTYPE AMOUNT_ST AMOUNT_PI AMOUNT_INSU AMOUNT_DISC AMOUNT_REG "
    "AMOUNT_DIAG DATE_ST PK_EMP_ST NAME_EMP_ST FLAG_CC PK_CC FLAG_CANC REASON_CANC PK_SETTLE_CANC TS"
)
_DEPOSIT = (
    "PK_DEPO PK_SETTLE PK_PI PK_PV EU_DIRECT AMOUNT DT_PAYMODE DATE_PAY PK_EMP_PAY NAME_EMP_PAY TRADE_NO PK_DEPO_BACK "
    "FLAG_CC PK_CC TS"
)
_EXTERNAL = (
    "PK_EXTPAY PK_ORG AMOUNT EU_PAYTYPE PAY_RESULT FLAG_PAY DATE_PAY TRADE_NO SERIAL_NO OUT_TRADE_NO SYSNAME PK_PI "
    "PK_PV "
    "PK_SETTLE PK_DEPO REFUND_NO DATE_REFUND AMOUNT_REFUND EU_BILL NOTE TS"
)
_VISIT = (
    "PK_PV PK_ORG CODE_PV PK_PI NAME_PI PK_DEPT PK_EMP_PHY NAME_EMP_PHY PK_SCH PK_SCHAPPT TICKETNO DATE_BEGIN DATE_REG "
    "PK_EMP_REG FLAG_SIGN DATE_SIGN DATE_CLINIC EU_STATUS FLAG_CANCEL DATE_CANCEL PK_EMP_CANCEL NAME_EMP_CANCEL DT_HP "
    "TS"
)
_INSURED = (
    "PK_INSST PK_SETTLE PK_PV PK_PI PSN_NO INSUTYPE INSUPLC_ADMDVS MDTRT_ID IPT_OTP_NO CHRG_BCHNO SETL_ID MSGID_ST "
    "SETL_TIME CLR_TYPE CLR_WAY CLR_OPTINS MED_TYPE MEDFEE_SUMAMT HIFP_PAY FUND_PAY_SUMAMT PSN_PART_AMT ACCT_PAY "
    "PSN_CASH_PAY HOSP_PART_AMT BALC EU_STATUS SETL_ID_CANC DATE_CANC TS"
)
INSURANCE_MODE = "9"


def fill_money(connection: Connection, world: World) -> None:
    """Visits, settlements, deposits and external payments of every paid order; the operators' day sheets."""
    paid = [order for order in world.registrations if order.paid is not None]
    bulk(connection, "PV_ENCOUNTER", _VISIT, (_visit(world, order) for order in paid))
    bulk(connection, "BL_SETTLE", _SETTLE, (row for order in paid for row in _settlements(world, order)))
    bulk(connection, "BL_DEPOSIT", _DEPOSIT, (row for order in paid for row in _deposits(world, order)))
    bulk(connection, "BL_EXT_PAY", _EXTERNAL, _external(world))
    bulk(connection, "INS_QGYB_ST", _INSURED, (row for order in paid for row in _insured(world, order)))
    _sheets(connection, world, paid)


def _sheet(world: World, operator: str, moment: datetime.datetime) -> str | None:
    """The key of the day sheet that closed that moment; yesterday is still open."""
    closed = moment.date() < world.today - datetime.timedelta(days=1)
    return key("CC", f"{operator}{moment.date()}") if closed else None


def _name(world: World, code: str) -> str:
    return next(operator.name for operator in world.operators if operator.code == code)


def _visit(world: World, order: RegistrationSeed) -> tuple[object, ...]:
    schedule = world.schedules[order.schedule]
    doctor = None if schedule.doctor is None else world.doctors[schedule.doctor]
    start = schedule.start(order.number)
    signed = order.state in ("CHECKED_IN", "VISITED")
    gone = order.state == "REFUNDED"
    return (
        key("PV", order.index), _ORG, f"P{order.index + 1:010d}", key("PI", order.patient),
        world.patients[order.patient].name, key("DEPT", schedule.department), doctor and key("EMP", doctor.code),
        doctor and doctor.name, key("SCH", schedule.index), key("APPT", order.index), order.number, stamp(start),
        stamp(order.paid), key("EMP", order.operator), "1" if signed else "0",
        stamp(start - datetime.timedelta(minutes=20)) if signed else None,
        stamp(start + datetime.timedelta(minutes=6)) if order.state == "VISITED" else None,
        "9" if gone else ("2" if order.state == "VISITED" else "0"), "1" if gone else "0", stamp(order.changed),
        key("EMP", order.changed_by) if gone else None, _name(world, order.changed_by) if gone else None,
        "02" if world.insured(order) else "01", stamp(order.changed or order.paid),
    )  # fmt: skip


def _parts(world: World, order: RegistrationSeed) -> dict[str, int]:
    """What was paid how: pay mode -> 分."""
    total = world.schedules[order.schedule].fee_fen
    insured = world.insured(order)
    cash = total if insured is None else insured.cash_fen
    parts = {_MODE[order.channel]: cash, INSURANCE_MODE: total - cash}
    return {mode: amount for mode, amount in parts.items() if amount}


def _insured(world: World, order: RegistrationSeed) -> Iterator[tuple[object, ...]]:
    """One row for each settlement; 2208 flips it."""
    insured = world.insured(order)
    if insured is None or order.paid is None:
        return
    total = world.schedules[order.schedule].fee_fen
    gone = order.state == "REFUNDED"
    money = (
        total, insured.fund_fen, insured.fund_fen, total - insured.fund_fen, insured.account_fen, insured.cash_fen, 0,
        123_400,
    )  # fmt: skip
    yield (
        key("INSST", order.index), key("ST", order.index), key("PV", order.index), key("PI", order.patient),
        insured.person_no, insured.insutype, "440300", f"M{order.setl_id}", f"P{order.index + 1:010d}",
        f"B{order.setl_id}", order.setl_id, f"H44030500001{order.paid:%Y%m%d%H%M%S}{order.index % 10_000:04d}",
        stamp(order.paid), "11", "1", "440300", "12", *(str(yuan(fen)) for fen in money), "1" if gone else "0",
        f"{order.setl_id}R" if gone else None, stamp(order.changed) if gone else None,
        stamp(order.changed or order.paid),
    )  # fmt: skip


def _settlements(world: World, order: RegistrationSeed) -> Iterator[tuple[object, ...]]:
    assert order.paid is not None
    schedule = world.schedules[order.schedule]
    total = str(yuan(schedule.fee_fen))
    insured = _parts(world, order).get(INSURANCE_MODE, 0)
    split = (schedule.fee_fen - insured, insured)
    register, diagnose = (str(yuan(part)) for part in LEVELS[schedule.level][1:])
    discount = "0"
    if order.index % 50 == 7 and order.paid.date() < world.today and register == "12.50":
        register, discount = "12.499999999999998", "1.7763568394002505e-15"
    gone = order.state == "REFUNDED"
    sheet = _sheet(world, order.operator, order.paid)
    yield (
        key("ST", order.index), _ORG, key("PI", order.patient), key("PV", order.index), f"S{order.index + 1:010d}",
        f"F{order.index + 1:09d}", "00", total, *(str(yuan(part)) for part in split), discount, register, diagnose,
        stamp(order.paid), key("EMP", order.operator), _name(world, order.operator), "1" if sheet else "0", sheet,
        "1" if gone else "0", None, None, stamp(order.changed or order.paid),
    )  # fmt: skip
    if order.changed is None or not gone:
        return
    sheet = _sheet(world, order.changed_by, order.changed)
    yield (
        key("STR", order.index), _ORG, key("PI", order.patient), key("PV", order.index), f"S{order.index + 1:010d}R",
        f"F{order.index + 1:09d}R", "20", "-" + total, *(str(yuan(-part)) for part in split), "0",
        "-" + str(yuan(LEVELS[schedule.level][1])), "-" + diagnose, stamp(order.changed), key("EMP", order.changed_by),
        _name(world, order.changed_by), "1" if sheet else "0", sheet, "0", "退号", key("ST", order.index),
        stamp(order.changed),
    )  # fmt: skip


def _deposits(world: World, order: RegistrationSeed) -> Iterator[tuple[object, ...]]:
    """One row for each way of paying, and its red row."""
    assert order.paid is not None
    sheet = _sheet(world, order.operator, order.paid)
    for mode, amount in _parts(world, order).items():
        by_insurance = mode == INSURANCE_MODE
        total, suffix = str(yuan(amount)), "I" if by_insurance else ""
        trade = None if order.channel == "window" else order.transaction_no
        trade = order.setl_id if by_insurance else trade
        yield (
            key("DEPO" + suffix, order.index), key("ST", order.index), key("PI", order.patient),
            key("PV", order.index), 1, total, mode, stamp(order.paid), key("EMP", order.operator),
            _name(world, order.operator), trade, None, "1" if sheet else "0", sheet, stamp(order.paid),
        )  # fmt: skip
        if order.changed is None:
            continue
        back = _sheet(world, order.changed_by, order.changed)
        yield (
            key("DEPOR" + suffix, order.index), key("STR", order.index), key("PI", order.patient),
            key("PV", order.index), -1, "-" + total, mode, stamp(order.changed), key("EMP", order.changed_by),
            _name(world, order.changed_by), trade, key("DEPO" + suffix, order.index), "1" if back else "0", back,
            stamp(order.changed),
        )  # fmt: skip


def _external(world: World) -> Iterator[tuple[object, ...]]:
    for order in world.registrations:
        if order.channel == "window":
            continue
        total = str(yuan(world.schedules[order.schedule].fee_fen))
        serial = order.order_no if order.channel == "160" else f"W{order.order_no}"
        if order.paid is None:
            if order.index % 4 == 0:  # begun at the phone, never paid
                yield (
                    key("EXT", order.index), _ORG, total, "15", "NOTPAY", "0", None, None, serial, order.trade_no,
                    _SYSTEM[order.channel], key("PI", order.patient), None, None, None, None, None, None, "0", None,
                    None,
                )  # fmt: skip
            continue
        system = "健康网" if order.channel == "160" and order.index % 60 == 3 else _SYSTEM[order.channel]
        cash = {mode: fen for mode, fen in _parts(world, order).items() if mode != INSURANCE_MODE}
        if not cash:
            continue  # 医保 paid all of it
        total = str(yuan(sum(cash.values())))
        refunded = order.state == "REFUNDED"
        billed = order.paid.date() < world.today - datetime.timedelta(days=2)
        yield (
            key("EXT", order.index), _ORG, total, _MODE[order.channel], "SUCCESS", "1", stamp(order.paid),
            order.transaction_no, serial, order.trade_no, system, key("PI", order.patient), key("PV", order.index),
            key("ST", order.index), key("DEPO", order.index), order.refund_no or None, stamp(order.changed),
            total if refunded else None, "1" if billed else "0", "用于退号", stamp(order.changed or order.paid),
        )  # fmt: skip


def _sheets(connection: Connection, world: World, paid: list[RegistrationSeed]) -> None:
    """BL_CC and, by pay mode, BL_CC_PAY: what each operator's closed days took and gave back."""
    sums: dict[tuple[str, datetime.date], dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0, 0, 0]))
    invoices: dict[tuple[str, datetime.date], list[int]] = defaultdict(lambda: [0, 0])
    for order in paid:
        for moment, operator, place in ((order.paid, order.operator, 0), (order.changed, order.changed_by, 1)):
            if moment is None or not _sheet(world, operator, moment):
                continue
            invoices[operator, moment.date()][place] += 1
            for mode, amount in _parts(world, order).items():
                figures = sums[operator, moment.date()][mode]
                figures[place] += amount
                figures[place + 2] += 1
    sheets, details = [], []
    for (operator, day), modes in sorted(sums.items()):
        sheet = key("CC", f"{operator}{day}")
        taken, back = (sum(figures[place] for figures in modes.values()) for place in (0, 1))
        insured = modes.get(INSURANCE_MODE, [0, 0, 0, 0])
        sheets.append(
            (
                sheet, key("EMP", operator), _name(world, operator), f"{day} 00:00:00", f"{day} 23:59:59",
                str(yuan(taken - back)), str(yuan(insured[0] - insured[1])), str(yuan(taken - insured[0])),
                str(yuan(back - insured[1])), *invoices[operator, day], f"{day + datetime.timedelta(days=1)} 07:40:00",
                "1",
            )
        )  # fmt: skip
        details += [
            (key("CCPAY", f"{sheet}{mode}"), sheet, mode, str(yuan(one[0])), str(yuan(one[1])), one[2], one[3])
            for mode, one in modes.items()
        ]
    columns = (
        "PK_CC PK_EMP_CC NAME_EMP_CC DATE_BEGIN DATE_END AMT_SETTLE AMT_INSU AMT_PI AMT_PI_BACK CNT_INV CNT_INV_CANC "
        "DATE_CC FLAG_CLEAR"
    )
    bulk(connection, "BL_CC", columns, sheets)
    bulk(connection, "BL_CC_PAY", "PK_CCPAY PK_CC DT_PAYMODE AMT AMT_BACK CNT_TRADE CNT_TRADE_BACK", details)
