"""The zebone sample: 众邦 NHIS style on SQLite, one row per number, no procedures (domain facts §1.3, §5.6 F)."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from sqlalchemy import Connection

from his_db.sample import FULL, CashierWindow, Clock, SampleSize, SampleSummary, hospital_now
from his_db.samples.population import (
    FEE_ITEMS,
    LEVELS,
    SESSIONS,
    WINDOW_ONLY,
    RegistrationSeed,
    ScheduleSeed,
    World,
    build_world,
)
from his_db.samples.tables import bulk, key, open_engine, sql_file, stamp, yuan
from his_db.samples.zebone_money import fill_money
from his_db.samples.zebone_window import ZeboneWindow

ORG = key("ORG", 1)
_SLOTS = {1: "0101", 2: "0102", 3: "0202"}
_SERVICE_TYPE = {"normal": "0", "expert": "1", "special": "2", "emergency": "9"}
_TITLES = {4: "01", 3: "02", 2: "03", 1: "04"}
_SEX = {"M": "02", "F": "03"}
_ID_TYPE = {"01": "01", "03": "10", "06": "03"}
_CHANNEL = {"160": "2520", "wechat": "2510", "kiosk": "2500", "window": "2530"}
_HOLD = {"爽约": "2", "欠费": "3"}
_CODES = (
    ("000000", (("02", "男", ""), ("03", "女", ""), ("04", "未知", ""))),
    ("010303", (("01", "主任医师", ""), ("02", "副主任医师", ""), ("03", "主治医师", ""), ("04", "住院医师", ""))),
    (
        "020100",
        (("2500", "自助机", "zzj"), ("2510", "微信", "wxgzh"), ("2520", "健康160", "jk160"), ("2530", "窗口", "")),
    ),
    (
        "000007",
        (
            ("01", "居民身份证", ""),
            ("03", "港澳居民身份证", ""),
            ("05", "回乡证", ""),
            ("08", "台胞证", ""),
            ("09", "出生证明", ""),
            ("10", "护照", ""),
        ),
    ),
    (
        "110308",
        (
            ("1", "现金", ""),
            ("3", "银行卡", ""),
            ("9", "医保", ""),
            ("15", "微信", ""),
            ("16", "支付宝", ""),
            ("99", "其他", ""),
        ),
    ),
    ("000013", (("01", "父亲", ""), ("02", "母亲", ""), ("99", "其他", ""))),
    ("020210", (("0", "本人", ""), ("1", "父母", ""), ("2", "子女", ""), ("3", "配偶", ""), ("9", "其他", ""))),
)
_PARAMETERS = (
    ("SCH0010", "10", "锁号分钟数"),
    ("SCH0012", "0", "同科同日限约一次"),
    ("BL0007", "1", "日结后允许退号"),
    ("BL0008", "1", "取号后允许退号"),
)
_RELATION = {"1": "0", "2": "1", "3": "2", "4": "3", "9": "9"}


class ZeboneSample:
    """Creates the SQLite file and opens its window program."""

    name = "zebone"
    mappings = "mappings"
    engine = "sqlite"

    def create(
        self, url: str, *, today: datetime.date, size: SampleSize = FULL, seed: int = 160, clock: Clock = hospital_now
    ) -> SampleSummary:
        """Drops all tables of the file and makes them anew, in WAL mode."""
        world = build_world(today, size, seed)
        engine = open_engine(url)
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
                connection.exec_driver_sql("PRAGMA synchronous=OFF")
                _drop(connection)
                connection.commit()
                for statement in _statements(sql_file("zebone", "schema.sql")):
                    connection.exec_driver_sql(statement)
                summary = _fill(connection, world, (today - clock().date()).days)
                connection.commit()
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            engine.dispose()
        return summary

    def window(self, url: str, *, clock: Clock = hospital_now) -> CashierWindow:
        """The window program on that file."""
        return ZeboneWindow(url, clock)


def _drop(connection: Connection) -> None:
    query = "SELECT type, name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'"
    for kind, name in connection.exec_driver_sql(query).all():
        connection.exec_driver_sql(f'DROP {kind} "{name}"')


def _statements(script: str) -> Iterator[str]:
    """Splits the schema file; a trigger ends with the line `END;`."""
    lines: list[str] = []
    for line in script.splitlines():
        code = line.split("--", 1)[0].rstrip()
        if code:
            lines.append(code)
        inside = bool(lines) and lines[0].startswith("CREATE TRIGGER")
        if (code == "END;") if inside else code.endswith(";"):
            yield "\n".join(lines)
            lines = []


def _fill(connection: Connection, world: World, shift: int) -> SampleSummary:
    _fill_codes(connection, shift)
    _fill_master(connection, world)
    patients = _fill_patients(connection, world)
    unreleased = _unreleased(world)
    used = {(r.schedule, r.number) for r in world.registrations if r.holds_number or r.index == unreleased}
    slots = _fill_schedules(connection, world, used)
    bulk(connection, "SCH_APPT", _APPT, (_appointment(world, r, unreleased) for r in world.registrations))
    fill_money(connection, world)
    return SampleSummary(
        departments=len(world.departments),
        doctors=len(world.doctors),
        operators=len(world.operators),
        patients=patients,
        schedules=len(world.schedules),
        slots=slots,
        registrations=len(world.registrations),
        refunds=sum(r.state == "REFUNDED" for r in world.registrations),
    )


def _unreleased(world: World) -> int:
    """The cancelled order whose number never came back (FLAG_NORELEASE)."""
    return next((r.index for r in world.registrations if r.state == "CANCELLED" and r.channel == "160"), -1)


def _fill_codes(connection: Connection, shift: int) -> None:
    bulk(connection, "BD_OU_ORG", "PK_ORG CODE_ORG NAME_ORG", [(ORG, "4403", "样例市人民医院(虚构)")])
    parameters = (("SAMPLE_DAY_SHIFT", str(shift), "样例时间偏移(天)"), *_PARAMETERS)
    rows = ((key("PARAM", code), code, value, note) for code, value, note in parameters)
    bulk(connection, "BD_SYSPARAM", "PK_PARAM CODE_PARAM VAL NOTE", rows)
    items = (item for pair in FEE_ITEMS.values() for item in pair)
    bulk(
        connection,
        "BD_ITEM",
        "PK_ITEM CODE NAME PRICE CODE_YB",
        ((key("ITEM", i.code), i.code, i.name, str(yuan(i.amount_fen)), i.national_code or None) for i in items),
    )
    bulk(
        connection,
        "BD_DEFDOC",
        "PK_DEFDOC CODE_DEFDOCLIST CODE NAME VAL_ATTR",
        ((key("DEF" + group, code), group, code, name, attr) for group, rows in _CODES for code, name, attr in rows),
    )
    bulk(
        connection,
        "BD_DATESLOT",
        "PK_DATESLOT CODE_DATESLOT NAME_DATESLOT TIME_BEGIN TIME_END",
        (
            (key("SLOT", session), _SLOTS[session], name, begin.strftime("%H:%M:%S"), end.strftime("%H:%M:%S"))
            for session, (name, begin, end) in SESSIONS.items()
        ),
    )
    bulk(
        connection,
        "SCH_SRV",
        "PK_SCHSRV CODE_SRV NAME_SRV EU_SRVTYPE PRICE_REG PRICE_DIAG PK_ITEM_REG PK_ITEM_DIAG",
        (
            (key("SRV", level), _SERVICE_TYPE[level] + "1", name, _SERVICE_TYPE[level], str(yuan(reg)), str(yuan(diag)),
             *(key("ITEM", item.code) for item in FEE_ITEMS[level]))
            for level, (name, reg, diag) in LEVELS.items()
        ),
    )  # fmt: skip


def _fill_master(connection: Connection, world: World) -> None:
    bulk(
        connection,
        "BD_OU_DEPT",
        "PK_DEPT PK_ORG CODE_DEPT NAME_DEPT PY_CODE DT_DEPTTYPE NAME_PLACE SORTNO FLAG_ACTIVE DEL_FLAG CODE_YB "
        "CODE_CATY",
        (
            (key("DEPT", d.index), ORG, d.code, d.name, d.initials, "01", d.place, d.index, "1" if d.active else "0",
             "0" if d.active else "1", d.insurance_code or None, d.specialty_code or None)
            for d in world.departments
        ),
    )  # fmt: skip
    doctors = (
        (key("EMP", d.code), ORG, d.code, d.name, d.initials, _SEX[d.sex], "01", _TITLES[d.title],
         key("DEPT", d.department), d.specialty, "1" if d.active else "0", "0" if d.active else "1",
         d.insurance_code or None)
        for d in world.doctors
    )  # fmt: skip
    operators = (
        (key("EMP", o.code), ORG, o.code, o.name, "", None, "99" if o.virtual else "09", None, None, None, "1", "0",
         None)
        for o in world.operators
    )  # fmt: skip
    columns = (
        "PK_EMP PK_ORG CODE_EMP NAME_EMP PY_CODE DT_SEX DT_EMPTYPE DT_EMPSRVTYPE PK_DEPT SPEC FLAG_ACTIVE DEL_FLAG "
        "CODE_YB"
    )
    bulk(connection, "BD_OU_EMPLOYEE", columns, (*doctors, *operators))
    of_doctors = (
        (key("RES", f"E{d.index}"), d.name, "1", key("DEPT", d.department), key("EMP", d.code)) for d in world.doctors
    )
    of_departments = (
        (key("RES", f"D{d.index}"), d.name + "普通门诊", "0", key("DEPT", d.index), None) for d in world.departments
    )
    bulk(
        connection,
        "SCH_RESOURCE",
        "PK_SCHRES NAME_RES EU_RESTYPE PK_DEPT_BELONG PK_EMP",
        (*of_doctors, *of_departments),
    )


def _fill_patients(connection: Connection, world: World) -> int:
    last = {r.patient: world.schedules[r.schedule].start(r.number) for r in world.registrations if r.state == "VISITED"}
    columns = (
        "PK_PI CODE_PI CODE_OP NAME_PI PY_CODE DT_SEX BIRTH_DATE DT_IDTYPE ID_NO MOBILE ADDRESS CARD_NO EU_PATTYPE "
        "NAME_REL IDNO_REL DT_RALATION DATE_LASTPV CREATE_TIME DEL_FLAG TS"
    )
    rows = (
        (
            key("PI", p.index), f"{p.index + 1:010d}", f"M{p.index + 1:08d}", p.name, p.initials, _SEX.get(p.sex, "04"),
            f"{p.birth:%Y-%m-%d} 00:00:00", _ID_TYPE.get(p.id_type), p.id_no or None, p.phone, p.address,
            f"9{p.index + 1:09d}", "2" if p.guardian else "1", p.guardian and p.guardian[0],
            p.guardian and p.guardian[1], "02" if p.guardian else None, stamp(last.get(p.index)), stamp(p.created),
            "0" if p.active else "1", None if p.index % 5 == 0 else stamp(p.created),
        )
        for p in world.patients
    )  # fmt: skip
    held = (
        (key("LOCK", p.index), key("PI", p.index), _HOLD[p.hold], "36.50" if p.hold == "欠费" else None,
         stamp(p.created), p.hold)
        for p in world.patients if p.hold
    )  # fmt: skip
    count = bulk(connection, "PI_MASTER", columns, rows)
    bulk(connection, "PI_LOCK", "PK_PILOCK PK_PI EU_LOCKTYPE AMOUNT DATE_BEGIN NOTE", held)
    bound = datetime.datetime.combine(world.today - datetime.timedelta(days=30), datetime.time(20))
    bulk(
        connection,
        "PI_ACC_BIND",
        "PK_BIND ID_ACC PK_PI DT_RALATION FLAG_DEFAULT DATE_BIND",
        (
            (key("BIND", f"{v.account}{v.patient}"), v.account, key("PI", v.patient), _RELATION[v.relation],
             "1" if v.is_default else "0", stamp(bound + datetime.timedelta(seconds=number)))
            for number, v in enumerate(world.visitors())
        ),
    )  # fmt: skip
    return count


def _resource(schedule: ScheduleSeed) -> str:
    name = f"D{schedule.department}" if schedule.doctor is None else f"E{schedule.doctor}"
    return key("RES", name)


def _fill_schedules(connection: Connection, world: World, used: set[tuple[int, int]]) -> int:
    counts: dict[int, int] = {}
    for schedule_index, _ in used:
        counts[schedule_index] = counts.get(schedule_index, 0) + 1
    made = stamp(datetime.datetime.combine(world.today - datetime.timedelta(days=20), datetime.time(10)))
    bulk(
        connection,
        "SCH_SCH",
        "PK_SCH PK_ORG DATE_WORK PK_DATESLOT PK_SCHRES PK_SCHSRV PK_DEPT CNT_TOTAL CNT_APPT CNT_USED MINUTE_PER "
        "FLAG_STOP EU_STATUS MODITY_TIME TS",
        (
            (
                key("SCH", s.index), ORG, f"{s.day} 00:00:00", key("SLOT", s.session), _resource(s),
                key("SRV", s.level),
                key("DEPT", s.department), s.total, s.total - WINDOW_ONLY, counts.get(s.index, 0), s.minutes,
                "1" if s.stopped else "0", "8" if s.published else "0", made if s.stopped else None, made,
            )
            for s in world.schedules
        ),
    )  # fmt: skip
    stopper = world.operators[0]
    bulk(
        connection,
        "SCH_SCHSTOP",
        "PK_SCHSTOP PK_SCH PK_EMP_STOP CODE_EMP_STOP NAME_EMP_STOP DATE_STOP DATE_END EU_NOON NOTE TS",
        (
            (key("STOP", s.index), key("SCH", s.index), key("EMP", stopper.code), stopper.code, stopper.name, made,
             f"{s.day} 23:59:59", str(s.session), s.stopped, made)
            for s in world.schedules if s.stopped
        ),
    )  # fmt: skip
    columns = (
        "PK_SCHTICKET PK_SCH TICKETNO BEGIN_TIME END_TIME FLAG_APPT FLAG_USED FLAG_STOP FLAG_LOCK ID_LOCK "
        "DATE_LOCKEND TS"
    )
    return bulk(connection, "SCH_TICKET", columns, _tickets(world, used, made))


def _tickets(world: World, used: set[tuple[int, int]], made: str | None) -> Iterator[tuple[object, ...]]:
    expired = stamp(datetime.datetime.combine(world.today - datetime.timedelta(days=1), datetime.time(18)))
    locked = next(s.index for s in world.schedules if s.day > world.today and s.published and not s.stopped)
    for schedule in world.schedules:
        schedule_key = key("SCH", schedule.index)
        times = [stamp(schedule.start(number)) for number in range(1, schedule.total + 2)]
        for number in range(1, schedule.total + 1):
            taken = (schedule.index, number) in used
            window = number > schedule.total - WINDOW_ONLY
            lock = schedule.index == locked and number == schedule.total - WINDOW_ONLY
            yield (
                f"{schedule_key[:28]}{number:04d}", schedule_key, number, times[number - 1], times[number],
                "0" if window else "1", "1" if taken else "0", "1" if schedule.stopped and not taken else "0",
                "1" if lock else "0", "16OLDLOCK" if lock else None, expired if lock else None, made,
            )  # fmt: skip


_APPT = (
    "PK_SCHAPPT PK_ORG CODE_APPT DT_APPTYPE PK_SCH PK_SCHTICKET TICKETNO PK_SCHRES PK_SCHSRV PK_DEPT_EX PK_EMP_PHY "
    "NAME_EMP_PHY PK_PI NAME_PI DATE_APPT BEGIN_TIME END_TIME AMOUNT EU_STATUS FLAG_PAY DATE_PAY FLAG_CANCEL "
    "DATE_CANCEL "
    "PK_EMP_CANCEL NAME_EMP_CANCEL DATE_REG PK_EMP_REG NAME_EMP_REG PK_PV ORDERID_EXT FLAG_NORELEASE TS"
)


def _appointment(world: World, order: RegistrationSeed, unreleased: int) -> tuple[object, ...]:
    schedule = world.schedules[order.schedule]
    doctor = None if schedule.doctor is None else world.doctors[schedule.doctor]
    names = {o.code: o.name for o in world.operators}
    ended = not order.holds_number
    start = schedule.start(order.number)
    schedule_key = key("SCH", schedule.index)
    return (
        key("APPT", order.index), ORG, f"{(order.index * 7_654_321 + 1_234_567) % 100_000_000:08d}",
        _CHANNEL[order.channel], schedule_key, f"{schedule_key[:28]}{order.number:04d}", order.number,
        _resource(schedule), key("SRV", schedule.level), key("DEPT", schedule.department),
        doctor and key("EMP", doctor.code), doctor and doctor.name, key("PI", order.patient),
        world.patients[order.patient].name, f"{schedule.day} 00:00:00", stamp(start),
        stamp(start + datetime.timedelta(minutes=schedule.minutes)), str(yuan(schedule.fee_fen)),
        "9" if ended else ("0" if order.state == "BOOKED" else "1"), "1" if order.paid else "0", stamp(order.paid),
        "1" if ended else "0", stamp(order.changed), key("EMP", order.changed_by) if ended else None,
        names[order.changed_by] if ended else None, stamp(order.booked), key("EMP", order.operator),
        names[order.operator], key("PV", order.index) if order.paid else None,
        order.order_no if order.channel == "160" else None, "1" if order.index == unreleased else "0",
        stamp(order.changed or order.paid or order.booked),
    )  # fmt: skip
