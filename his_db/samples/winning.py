"""The winning sample: 卫宁 THIS style on PostgreSQL, counter quota and stored procedures (domain facts §5.2, §5.3)."""

from __future__ import annotations

import datetime

from sqlalchemy import Connection

from his_db.sample import FULL, CashierWindow, Clock, SampleSize, SampleSummary, hospital_now
from his_db.samples.desk import Desk
from his_db.samples.people import PatientSeed
from his_db.samples.population import FEE_ITEMS, LEVELS, SESSIONS, ScheduleSeed, World, build_world
from his_db.samples.tables import bulk, changed, open_engine, postgresql_made, sql_file, stamp16, yuan
from his_db.samples.winning_money import fill_orders
from his_db.samples.winning_window import WinningWindow

_LEVEL = {"normal": 0, "emergency": 1, "expert": 2, "special": 4}
_TITLES = {1: "住院医师", 2: "主治医师", 3: "副主任医师", 4: "主任医师"}
_SEX = {"M": "男", "F": "女"}
_HOLD = {"爽约": 2, "欠费": 3}
FIRST_PATIENT = 100_001
FIRST_SCHEDULE = 700_001


class WinningSample:
    """Creates the schema `his` and opens its window program."""

    name = "winning"
    mappings = "mappings"
    engine = "postgresql"

    def create(
        self, url: str, *, today: datetime.date, size: SampleSize = FULL, seed: int = 160, clock: Clock = hospital_now
    ) -> SampleSummary:
        """Drops the schema `his` and makes it anew, in one transaction."""
        world = build_world(today, size, seed)
        scripts = [sql_file("winning", f"{name}.sql") for name in ("schema", "procedures")]
        with postgresql_made(url, "his", scripts) as connection:
            return fill(connection, world, (today - clock().date()).days)

    def window(self, url: str, *, clock: Clock = hospital_now) -> CashierWindow:
        """The window program on that database. Its times are the database's own (`his.fn_dqsj`), so `clock` is not
        used."""
        return WinningWindow(open_engine(url))


def fill(connection: Connection | Desk, world: World, shift: int) -> SampleSummary:
    """All rows of the hospital; `shift`: days between its clock and the server's."""
    _fill_codes(connection, shift)
    _fill_master(connection, world)
    _fill_patients(connection, world)
    _fill_schedules(connection, world)
    fill_orders(connection, world)
    lock = next(s for s in world.schedules if s.day > world.today and s.published and not s.stopped)
    _fill_expired_lock(connection, world, lock)
    return SampleSummary(
        departments=len(world.departments),
        doctors=len(world.doctors),
        operators=len(world.operators),
        patients=len(world.patients),
        schedules=len(world.schedules),
        slots=sum(s.total for s in world.schedules),
        registrations=len(world.registrations),
        refunds=sum(r.state == "REFUNDED" for r in world.registrations),
    )


def _fill_codes(connection: Connection | Desk, shift: int) -> None:
    bulk(
        connection,
        "his.yy_config",
        "id name config",
        [
            ("GH001", "锁号分钟数", "10"),
            ("GH021", "日结后是否允许退号", "是"),
            ("GH022", "取号后是否允许退号", "是"),
            ("GH030", "同一科室当天限约一次", "否"),
            ("GH031", "预约即挂号", "否"),
            ("SJPY", "样例时间偏移(天)", str(shift)),
        ],
    )
    bulk(
        connection,
        "his.gh_yy_zzlx",
        "id name kssj jssj",
        (
            (f"{session:02d}", name, f"{begin:%H:%M}", f"{end:%H:%M}")
            for session, (name, begin, end) in SESSIONS.items()
        ),
    )
    bulk(
        connection,
        "his.gh_yy_hbk",
        "ghlb name ghf zlf ghfxm zlfxm",
        (
            (_LEVEL[level], name, yuan(reg), yuan(diag), *(item.code for item in FEE_ITEMS[level]))
            for level, (name, reg, diag) in LEVELS.items()
        ),
    )
    items = (item for pair in FEE_ITEMS.values() for item in pair)
    rows = ((i.code, i.name, yuan(i.amount_fen), i.national_code or None, 0) for i in items)
    bulk(connection, "his.yy_sfxxmk", "id name xmdj dydm jlzt", rows)


def _fill_master(connection: Connection | Desk, world: World) -> None:
    bulk(
        connection,
        "his.yy_ksbmk",
        "id name py yydm lxwz ghf_pt zlf_pt pxh sfgh jlzt ybksbm ybkb",
        (
            (d.code, d.name + "  " * (d.index % 3 == 1), d.initials, "01", d.place, yuan(0), yuan(2000), d.index, 1,
             0 if d.active else 1, d.insurance_code or None, d.specialty_code or None)
            for d in world.departments
        ),
    )  # fmt: skip
    doctors = (
        (d.code, d.name, d.initials, _SEX[d.sex], world.departments[d.department].code, str(d.title), _TITLES[d.title],
         d.insurance_code or None, d.specialty, 1, 0 if d.active else 1)
        for d in world.doctors
    )  # fmt: skip
    operators = (
        (o.code, o.name, None, None, None, None, None, None, None, 9 if o.virtual else 2, 0) for o in world.operators
    )
    columns = "id name py sex ks_id zcdm zcmc ybysbm jj lb jlzt"
    bulk(connection, "his.yy_zgbmk", columns, (*doctors, *operators))


def _fill_patients(connection: Connection | Desk, world: World) -> None:
    last = {r.patient: world.schedules[r.schedule].start(r.number) for r in world.registrations if r.state == "VISITED"}
    columns = (
        "patid hzxm py sex birth zjlx sfzh blh cardno cardtype ybdm lxdh lxdz jhrxm jhrsfzh jhrgx zjjzrq lrczyh lrrq "
        "gxrq jlzt"
    )
    bulk(connection, "his.sf_brxxk", columns, (_patient(p, last.get(p.index)) for p in world.patients))
    bulk(
        connection,
        "his.gh_yy_hmd",
        "patid lx je ksrq memo",
        (
            (
                FIRST_PATIENT + p.index,
                _HOLD[p.hold],
                yuan(3650) if p.hold == "欠费" else None,
                stamp16(p.created),
                p.hold,
            )
            for p in world.patients
            if p.hold
        ),
    )
    bound = stamp16(datetime.datetime.combine(world.today - datetime.timedelta(days=30), datetime.time(20)))
    bulk(
        connection,
        "his.wx_jzrbd",
        "zhid patid gx mrbz bdrq jlzt",
        (
            (v.account, FIRST_PATIENT + v.patient, int(v.relation), int(v.is_default), bound, 0)
            for v in world.visitors()
        ),
    )


def _patient(patient: PatientSeed, last: datetime.datetime | None) -> tuple[object, ...]:
    guardian = patient.guardian or (None, None, None)
    return (
        FIRST_PATIENT + patient.index, patient.name, patient.initials, _SEX.get(patient.sex), f"{patient.birth:%Y%m%d}",
        patient.id_type or None, patient.id_no, f"M{patient.index + 1:08d}", f"9{patient.index + 1:09d}", "03", "01",
        patient.phone, patient.address, *guardian, stamp16(last), "0931", stamp16(patient.created),
        stamp16(patient.created), 0 if patient.active else 1,
    )  # fmt: skip


def _fill_schedules(connection: Connection | Desk, world: World) -> None:
    taken: dict[int, int] = {}
    highest: dict[int, int] = {}
    for order in world.registrations:
        taken[order.schedule] = taken.get(order.schedule, 0) + order.holds_number
        highest[order.schedule] = max(highest.get(order.schedule, 0), order.number)
    stopped_at = stamp16(datetime.datetime.combine(world.today - datetime.timedelta(days=1), datetime.time(16, 20)))
    columns = "pbmxid zbrq ksdm ysdm zzlx kssj jssj jgfz ghlb ghf zlf zgh ygh yyxh_max tzbz tzyy tzczyh tzrq jlzt"

    def row(s: ScheduleSeed) -> tuple[object, ...]:
        _, begin, end = SESSIONS[s.session]
        return (
            FIRST_SCHEDULE + s.index, f"{s.day:%Y%m%d}", world.departments[s.department].code,
            "" if s.doctor is None else world.doctors[s.doctor].code, f"{s.session:02d}", f"{begin:%H:%M}",
            f"{end:%H:%M}", s.minutes, _LEVEL[s.level], yuan(LEVELS[s.level][1]), yuan(LEVELS[s.level][2]), s.total,
            taken.get(s.index, 0), highest.get(s.index, 0), 1 if s.stopped else 0, s.stopped or None,
            "0931" if s.stopped else None, stopped_at if s.stopped else None, 0 if s.published else 2,
        )  # fmt: skip

    bulk(connection, "his.gh_yy_pbzbmx", columns, map(row, world.schedules))


def _fill_expired_lock(connection: Connection | Desk, world: World, schedule: ScheduleSeed) -> None:
    """A lock that ran out yesterday, still counted in ygh until the next lock of that schedule sweeps it."""
    moment = datetime.datetime.combine(world.today - datetime.timedelta(days=1), datetime.time(18))
    schedule_id = FIRST_SCHEDULE + schedule.index
    changed(
        connection,
        "UPDATE his.gh_yy_pbzbmx SET ygh = ygh + 1, yyxh_max = yyxh_max + 1 WHERE pbmxid = :pb",
        pb=schedule_id,
    )
    changed(
        connection,
        "INSERT INTO his.gh_yy_sdk (ddh, pbmxid, hx, sdrq, sxsj, zt, czyh) "
        "SELECT '16OLDLOCK', pbmxid, yyxh_max, :made, :ends, 0, 'jk160' FROM his.gh_yy_pbzbmx WHERE pbmxid = :pb",
        made=stamp16(moment),
        ends=stamp16(moment + datetime.timedelta(minutes=10)),
        pb=schedule_id,
    )
