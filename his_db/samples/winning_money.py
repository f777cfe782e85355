"""The winning sample's orders and money: gh_ghyyk, gh_ghzdk, gh_ghmxk, sf_brjsk, red rows, day sheets, history move."""

# ruff: noqa: S608 - the composed parts are constants of this module; every value is bound
from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection

from his_db.samples.desk import Desk
from his_db.samples.population import LEVELS, RegistrationSeed, World
from his_db.samples.tables import bulk, changed, stamp16, yuan

FIRST_PATIENT = 100_001
FIRST_SCHEDULE = 700_001
FIRST_ORDER = 300_001
_FIRST_SHEET = 9001
_CHANNEL = {"160": "160", "wechat": "wx", "kiosk": "zzj", "window": "ck"}
_MODE = {"160": "15", "wechat": "15", "kiosk": "16", "window": "01"}
_SOURCE = {"160": 1, "wechat": 1, "kiosk": 2, "window": 0}

_BOOKING = "xh patid hzxm sfzh lxdh yyrq djrq ksdm ysdm pbmxid yyhx djbz djje kfsdm wbddh czyh qxczyh qxrq qxyy jlzt"
_REGISTER = (
    "xh jssjh patid blh ybdm cardno yyxh hzxm py czyh czrq ghrq ksdm ksmc ysdm ysmc ghhx lybz ghlb txh fzbz fzrq jsbz "
    "jzrq memo pbmxid appjkdm jlzt"
)
_LINE = "ghxh xmdm xmmc xmdj xmsl dxmdm dxmmc zfdj yhdj isghf"
_SETTLE = (
    "sjh patid ghxh fph czyh sfrq ksdm hzxm blh ybdm zje zfje ybje xjje zpje zffs zph jylsh tkdh wbddh zxlsh jslsh "
    "ybjszt tsjh rjxh appjkdm gxrq jlzt"
)
_INSURED = (
    "sjh ghxh yyxh rybh xzlx cbdq jzid jzlsh sfpch jsid msgidjs jssj qslb qsfs qsjg yllb zje tczf jjzf grfd zhzf xjzf "
    "yyfd ye cxjsid cxrq jlzt"
)
_LEVEL = {"normal": 0, "emergency": 1, "expert": 2, "special": 4}


@dataclass(frozen=True, slots=True)
class _Ids:
    """The HIS keys of one order: booking, registration, red row and the two receipts."""

    booking: int | None
    register: int
    red: int
    receipt: str
    red_receipt: str


def fill_orders(connection: Connection | Desk, world: World) -> None:
    """All orders with their money, then the nightly move of old rows into the N tables."""
    sheets = _sheet_numbers(world)
    bulk(connection, "his.gh_ghyyk", _BOOKING, (_booking(world, o) for o in world.registrations if _booked(o)))
    paid = [order for order in world.registrations if order.paid is not None]
    bulk(connection, "his.gh_ghzdk", _REGISTER, (row for o in paid for row in _registers(world, o)))
    bulk(connection, "his.gh_ghmxk", _LINE, (row for o in paid for row in _lines(world, o)))
    bulk(connection, "his.sf_brjsk", _SETTLE, (row for o in paid for row in _settlements(world, o, sheets)))
    bulk(connection, "his.yb_gbjsk", _INSURED, (row for o in paid for row in _insured(world, o)))
    _sheets(connection, world, sheets)
    _traps(connection, world)
    move_history(connection, world.today)


def _booked(order: RegistrationSeed) -> bool:
    return order.channel in ("160", "wechat")


def _ids(order: RegistrationSeed) -> _Ids:
    base = FIRST_ORDER + 3 * order.index
    number = 10_000_001 + 2 * order.index
    day = f"{order.paid or order.booked:%y%m%d}"
    red_day = f"{order.changed or order.booked:%y%m%d}"
    booking = base if _booked(order) else None
    return _Ids(booking, base + 1, base + 2, f"{day}{number}", f"{red_day}{number + 1}")


def _booking(world: World, order: RegistrationSeed) -> tuple[object, ...]:
    schedule = world.schedules[order.schedule]
    patient = world.patients[order.patient]
    cancelled = order.state == "CANCELLED"
    return (
        _ids(order).booking, FIRST_PATIENT + patient.index, patient.name, patient.id_no, patient.phone,
        stamp16(schedule.start(order.number)), stamp16(order.booked), world.departments[schedule.department].code,
        "" if schedule.doctor is None else world.doctors[schedule.doctor].code, FIRST_SCHEDULE + schedule.index,
        order.number, 1 if order.paid else 0, yuan(schedule.fee_fen), _CHANNEL[order.channel],
        order.order_no if order.channel == "160" else f"W{order.order_no}", order.operator,
        order.changed_by if cancelled else None, stamp16(order.changed) if cancelled else None,
        "用户取消" if cancelled else None, 2 if cancelled else (1 if order.paid else 0),
    )  # fmt: skip


def _registers(world: World, order: RegistrationSeed) -> Iterator[tuple[object, ...]]:
    schedule = world.schedules[order.schedule]
    patient = world.patients[order.patient]
    department = world.departments[schedule.department]
    doctor = None if schedule.doctor is None else world.doctors[schedule.doctor]
    ids = _ids(order)
    start = schedule.start(order.number)
    gone = order.state == "REFUNDED"
    signed = order.state in ("CHECKED_IN", "VISITED")
    seen = order.state == "VISITED"
    person = (FIRST_PATIENT + patient.index, f"M{patient.index + 1:08d}", "01", f"9{patient.index + 1:09d}")
    clinic = (
        stamp16(start), department.code, department.name, doctor.code if doctor else "", doctor and doctor.name,
        order.number, _SOURCE[order.channel], _LEVEL[schedule.level],
    )  # fmt: skip
    tail = (FIRST_SCHEDULE + schedule.index, _CHANNEL[order.channel])
    yield (
        ids.register, ids.receipt, *person, ids.booking, patient.name, patient.initials, order.operator,
        stamp16(order.paid), *clinic, None, 1 if signed else 0,
        stamp16(start - datetime.timedelta(minutes=20)) if signed else None, 2 if seen else 0,
        stamp16(start + datetime.timedelta(minutes=6)) if seen else None, None, *tail, 1 if gone else 0,
    )  # fmt: skip
    if gone:
        yield (
            ids.red, ids.red_receipt, *person, ids.booking, patient.name, patient.initials, order.changed_by,
            stamp16(order.changed), *clinic, ids.register, 0, None, 0, None, "退号", *tail, 2,
        )  # fmt: skip


def _lines(world: World, order: RegistrationSeed) -> Iterator[tuple[object, ...]]:
    ids = _ids(order)
    _, register, diagnose = LEVELS[world.schedules[order.schedule].level]
    parts = (("GHF", "挂号费", register, 1), ("ZLF", "诊疗费", diagnose, 2))
    for code, name, amount, kind in parts:
        if amount:
            yield (ids.register, code, name, yuan(amount), 1, "01", "挂号诊疗", yuan(amount), yuan(0), kind)
            if order.state == "REFUNDED":
                yield (ids.red, code, name, yuan(amount), -1, "01", "挂号诊疗", yuan(amount), yuan(0), kind)


def _closed(world: World, moment: datetime.datetime) -> bool:
    return moment.date() < world.today - datetime.timedelta(days=1)


def _settlements(
    world: World, order: RegistrationSeed, sheets: dict[tuple[str, datetime.date], int]
) -> Iterator[tuple[object, ...]]:
    assert order.paid is not None
    schedule = world.schedules[order.schedule]
    patient = world.patients[order.patient]
    ids = _ids(order)
    insured = world.insured(order)
    own_fen = schedule.fee_fen if insured is None else insured.cash_fen
    total, own, by_insurance, none = (yuan(fen) for fen in (schedule.fee_fen, own_fen, schedule.fee_fen - own_fen, 0))
    cash = order.channel == "window"
    gone = order.state == "REFUNDED"
    order_no = None if not _booked(order) else (order.order_no if order.channel == "160" else f"W{order.order_no}")
    keys = (None, None) if cash or not own_fen else (order.trade_no, order.transaction_no)
    settled = (f"M{order.setl_id}", order.setl_id, 1) if insured else (None, None, 0)
    person = (world.departments[schedule.department].code, patient.name, f"M{patient.index + 1:08d}", "01")
    yield (
        ids.receipt, FIRST_PATIENT + patient.index, ids.register, f"FP{order.index + 1:08d}", order.operator,
        stamp16(order.paid), *person, total, own, by_insurance, own if cash else none, none if cash else own,
        _MODE[order.channel], *keys, None, order_no, *settled, None, sheets.get((order.operator, order.paid.date())),
        _CHANNEL[order.channel], stamp16(order.changed or order.paid), 1 if gone else 0,
    )  # fmt: skip
    if gone and order.changed is not None:
        yield (
            ids.red_receipt, FIRST_PATIENT + patient.index, ids.red, None, order.changed_by, stamp16(order.changed),
            *person, -total, -own, -by_insurance, -own if cash else none, none if cash else -own, _MODE[order.channel],
            *keys, order.refund_no or None, order_no, *settled, ids.receipt,
            sheets.get((order.changed_by, order.changed.date())), _CHANNEL[order.channel], stamp16(order.changed), 2,
        )  # fmt: skip


def _insured(world: World, order: RegistrationSeed) -> Iterator[tuple[object, ...]]:
    """One row for each settlement; 2208 flips it."""
    insured = world.insured(order)
    if insured is None or order.paid is None:
        return
    ids, total = _ids(order), world.schedules[order.schedule].fee_fen
    gone = order.state == "REFUNDED"
    money = (
        total, insured.fund_fen, insured.fund_fen, total - insured.fund_fen, insured.account_fen, insured.cash_fen, 0,
        123_400,
    )  # fmt: skip
    yield (
        ids.receipt, ids.register, ids.booking, insured.person_no, insured.insutype, "440300", f"M{order.setl_id}",
        str(ids.booking or ids.register), f"B{order.setl_id}", order.setl_id,
        f"H44030500001{order.paid:%Y%m%d%H%M%S}{order.index % 10_000:04d}", stamp16(order.paid), "11", "1", "440300",
        "12", *(yuan(fen) for fen in money), f"{order.setl_id}R" if gone else None,
        stamp16(order.changed) if gone else None, 1 if gone else 0,
    )  # fmt: skip


def _movements(world: World) -> Iterator[tuple[str, datetime.datetime, int, int]]:
    """Operator, time, signed 分 and what 医保 paid of it, of every payment and refund."""
    for order in world.registrations:
        amount, insured = world.schedules[order.schedule].fee_fen, world.insured(order)
        part = 0 if insured is None else amount - insured.cash_fen
        if order.paid is not None:
            yield order.operator, order.paid, amount, part
            if order.changed is not None:
                yield order.changed_by, order.changed, -amount, -part


def _sheet_numbers(world: World) -> dict[tuple[str, datetime.date], int]:
    moves = _movements(world)
    keys = sorted({(operator, moment.date()) for operator, moment, *_ in moves if _closed(world, moment)})
    return {key: _FIRST_SHEET + number for number, key in enumerate(keys)}


def _sheets(connection: Connection | Desk, world: World, sheets: dict[tuple[str, datetime.date], int]) -> None:
    figures: dict[tuple[str, datetime.date], list[int]] = defaultdict(lambda: [0, 0, 0, 0, 0])
    for operator, moment, amount, part in _movements(world):
        place = 0 if amount > 0 else 2
        figures[(operator, moment.date())][place] += 1
        figures[(operator, moment.date())][place + 1] += abs(amount)
        figures[(operator, moment.date())][4] += part
    rows = []
    for (operator, day), number in sheets.items():
        count, taken, count_back, back, insured = figures[(operator, day)]
        net = yuan(taken - back - insured)
        cash, online = (net, yuan(0)) if operator.isdigit() else (yuan(0), net)
        at = stamp16(datetime.datetime.combine(day + datetime.timedelta(days=1), datetime.time(7, 40)))
        rows.append(
            (number, operator, at, count, yuan(taken), count_back, yuan(back), cash, online, yuan(insured),
             yuan(0), 0)
        )  # fmt: skip
    bulk(connection, "his.gh_rjz", "rjxh czyh jzrq ghrs ghje thrs thje xjje wxje ybje qtje jlzt", rows)


def _traps(connection: Connection | Desk, world: World) -> None:
    """A half-written row, and one schedule in which the same ghhx was given twice."""
    coming = next(s for s in world.schedules if s.day >= world.today and s.published and not s.stopped)
    moment = datetime.datetime.combine(world.today - datetime.timedelta(days=1), datetime.time(15, 3, 27))
    patient = world.patients[22]
    bulk(
        connection,
        "his.gh_ghzdk",
        "patid hzxm czyh czrq ghrq ksdm ysdm ghhx lybz pbmxid appjkdm memo jlzt",
        [
            (FIRST_PATIENT + patient.index, patient.name, "0933", stamp16(moment), stamp16(coming.start(1)),
             world.departments[coming.department].code, "", 1, 0, FIRST_SCHEDULE + coming.index, "ck", "", 9)
        ],
    )  # fmt: skip
    changed(
        connection,
        "UPDATE his.gh_ghzdk SET ghhx = 1 WHERE xh = (SELECT max(xh) FROM his.gh_ghzdk WHERE ghhx = 2 AND jlzt = 0)",
    )


def move_history(connection: Connection | Desk, today: datetime.date) -> int:
    """The vendor's night job: visits of more than three days ago, with red rows and settlements. Answers how many."""
    limit = f"{today - datetime.timedelta(days=3):%Y%m%d}"
    old, settled = "ghrq < :limit AND jlzt <> 9", "ghxh IN (SELECT xh FROM his.gh_nghzdk)"
    moved = changed(connection, f"INSERT INTO his.gh_nghzdk SELECT * FROM his.gh_ghzdk WHERE {old}", limit=limit)
    changed(connection, f"DELETE FROM his.gh_ghzdk WHERE {old}", limit=limit)
    changed(connection, f"INSERT INTO his.sf_nbrjsk SELECT * FROM his.sf_brjsk WHERE {settled}")
    changed(connection, f"DELETE FROM his.sf_brjsk WHERE {settled}")
    return moved
