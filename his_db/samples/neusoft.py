"""The neusoft sample: 东软/FS style, counter quota and a package, on the PostgreSQL port (domain facts §1.6, §5.4)."""

from __future__ import annotations

import datetime

from sqlalchemy import Connection

from his_db.sample import FULL, CashierWindow, Clock, SampleSize, SampleSummary, hospital_now
from his_db.samples.desk import Desk
from his_db.samples.neusoft_money import card_no, fill_orders, schema_id
from his_db.samples.neusoft_window import NeusoftWindow
from his_db.samples.people import PatientSeed
from his_db.samples.population import FEE_ITEMS, LEVELS, SESSIONS, ScheduleSeed, World, build_world
from his_db.samples.tables import bulk, changed, open_engine, postgresql_made, sql_file, yuan

LEVEL_CODES = {"normal": "1", "emergency": "2", "expert": "3", "special": "4"}
_TITLE_CODES = {1: "4", 2: "3", 3: "2", 4: "1"}
_HOLD = {"爽约": "1", "欠费": "2"}
_NET_RIGHT = {"0935": "0", "0936": "2"}
_ON_SITE = ("window", "kiosk")
_SCHEMA = (
    "id schema_type see_date week noon_code dept_code dept_name doct_code doct_name doct_type reg_lmt reged tel_lmt "
    "tel_reged tel_reging order_no reglevl_code reglevl_name valid_flag reason_no reason_name stop_opcd stop_date "
    "oper_code oper_date begin_time end_time pub_flag"
)


class NeusoftSample:
    """Creates the schemas `neuhis` and `pkg_160` and opens the window program."""

    name = "neusoft"
    engine = "postgresql"
    mappings = "mappings_postgresql"

    def create(
        self, url: str, *, today: datetime.date, size: SampleSize = FULL, seed: int = 160, clock: Clock = hospital_now
    ) -> SampleSummary:
        """Drops both schemas and makes them anew, in one transaction."""
        world = build_world(today, size, seed)
        scripts = [sql_file("neusoft", f"postgresql/{name}.sql") for name in ("schema", "procedures")]
        with postgresql_made(url, "pkg_160, neuhis", scripts) as connection:
            return fill(connection, world, (today - clock().date()).days)

    def window(self, url: str, *, clock: Clock = hospital_now) -> CashierWindow:
        """The window program on that database. Its times are the database's own (`pkg_160.f_now`): `clock` is not
        used."""
        return NeusoftWindow(open_engine(url))


def fill(connection: Connection | Desk, world: World, shift: int) -> SampleSummary:
    """All rows of the hospital; `shift`: days between its clock and the server's."""
    _fill_codes(connection, shift)
    _fill_master(connection, world)
    _fill_patients(connection, world)
    bulk(connection, "neuhis.fin_opr_schema", _SCHEMA, _schemas(world))
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
        "neuhis.com_controlargument",
        "control_code control_name control_value",
        [
            ("LOCKMI", "锁号分钟数", "10"),
            ("DAYREF", "日结后允许退号", "1"),
            ("TAKREF", "取号后允许退号", "1"),
            ("DUPDEP", "同科同日限约一次", "0"),
            ("TAKEDT", "只能就诊当日取号", "0"),
            ("OFFSET", "样例时间偏移(天)", str(shift)),
            ("PATREG", "建档串行锁", None),
        ],
    )
    bulk(
        connection,
        "neuhis.fin_opr_noon",
        "noon_code noon_name begin_time end_time",
        ((str(session), name, f"{begin:%H:%M}", f"{end:%H:%M}") for session, (name, begin, end) in SESSIONS.items()),
    )
    bulk(
        connection,
        "neuhis.fin_opr_reglevel",
        "reglevl_code reglevl_name expert_flag",
        ((LEVEL_CODES[level], name, "1" if level == "expert" else "0") for level, (name, _, _) in LEVELS.items()),
    )
    bulk(
        connection,
        "neuhis.fin_com_regfeeset",
        "pact_code reglevl_code reg_fee chck_fee diag_fee oth_fee own_digfee pub_digfee reg_item diag_item",
        (
            ("1", LEVEL_CODES[level], yuan(reg), yuan(0), yuan(diag), yuan(0), yuan(diag), yuan(0),
             *(item.code for item in FEE_ITEMS[level]))
            for level, (_, reg, diag) in LEVELS.items()
        ),
    )  # fmt: skip
    items = (item for pair in FEE_ITEMS.values() for item in pair)
    rows = ((i.code, i.name, yuan(i.amount_fen), i.national_code or None, "1") for i in items)
    bulk(connection, "neuhis.fin_com_undruginfo", "item_code item_name unit_price gb_code valid_state", rows)


def _fill_master(connection: Connection | Desk, world: World) -> None:
    bulk(
        connection,
        "neuhis.com_department",
        "dept_code dept_name spell_code user_code dept_type regdept_flag sort_id hos_code place si_code si_caty "
        "valid_state",
        (
            (d.code, d.name + "  " * (d.index % 3 == 1), d.initials, d.code, "C", "1", d.index, "01", d.place,
             d.insurance_code or None, d.specialty_code or None, "1" if d.active else "0")
            for d in world.departments
        ),
    )  # fmt: skip
    columns = (
        "empl_code empl_name spell_code sex_code dept_code levl_code expert_flag brief empl_type net_right "
        "interface_code valid_state"
    )
    doctors = [
        (d.code, d.name, d.initials, d.sex, world.departments[d.department].code, _TITLE_CODES[d.title],
         "1" if d.title >= 3 else "0", d.specialty, "D", None, d.insurance_code or None,
         "1" if d.active else "0")
        for d in world.doctors
    ]  # fmt: skip
    operators = [
        (o.code, o.name, None, None, None, None, None, None, "X" if o.virtual else "F",
         None if o.virtual else _NET_RIGHT.get(o.code, "1"), None, "1")
        for o in world.operators
    ]  # fmt: skip
    bulk(connection, "neuhis.com_employee", columns, (*doctors, *operators))


def _fill_patients(connection: Connection | Desk, world: World) -> None:
    last = {r.patient: world.schedules[r.schedule].start(r.number) for r in world.registrations if r.state == "VISITED"}
    columns = (
        "card_no name spell_code sex_code birthday idcardtype idenno home home_tel linkman_name linkman_idenno "
        "pact_code mcard_no last_see is_valid oper_code oper_date"
    )
    bulk(connection, "neuhis.com_patientinfo", columns, (_patient(p, last.get(p.index)) for p in world.patients))
    bulk(
        connection,
        "neuhis.com_patientlimit",
        "card_no kind amount valid_state",
        (
            (card_no(p.index), _HOLD[p.hold], yuan(3650) if p.hold == "欠费" else None, "1")
            for p in world.patients
            if p.hold
        ),
    )


def _patient(patient: PatientSeed, last: datetime.datetime | None) -> tuple[object, ...]:
    guardian = patient.guardian or (None, None, None)
    return (
        card_no(patient.index), patient.name, patient.initials, patient.sex,
        datetime.datetime.combine(patient.birth, datetime.time()), patient.id_type or None, patient.id_no or None,
        patient.address, patient.phone or None, guardian[0], guardian[1], "1", f"9{patient.index + 1:09d}", last,
        "1" if patient.active else "0", "0931", patient.created,
    )  # fmt: skip


def _schemas(world: World) -> list[tuple[object, ...]]:
    """排班 rows with their counters: on-site in REGED, paid orders in TEL_REGED, unpaid ones in TEL_REGING."""
    counts: dict[int, list[int]] = {}
    for order in world.registrations:
        row = counts.setdefault(order.schedule, [0, 0, 0, 0])
        row[3] = max(row[3], order.number)
        if order.holds_number:
            row[0 if order.channel in _ON_SITE else (1 if order.paid else 2)] += 1
    stopped_at = datetime.datetime.combine(world.today - datetime.timedelta(days=1), datetime.time(16, 20))
    made_at = datetime.datetime.combine(world.today - datetime.timedelta(days=20), datetime.time(9))

    def row_of(s: ScheduleSeed) -> tuple[object, ...]:
        name, _, _ = LEVELS[s.level]
        _, begin, end = SESSIONS[s.session]
        department = world.departments[s.department]
        doctor = None if s.doctor is None else world.doctors[s.doctor]
        none = "None" if s.index % 2 else None  # both forms occur
        on_site, paid, unpaid, highest = counts.get(s.index, [0, 0, 0, 0])
        on_site_limit = max(s.total // 4, on_site)
        return (
            schema_id(s.index), "0" if doctor is None else "1", datetime.datetime.combine(s.day, datetime.time()),
            str(s.day.isoweekday()), str(s.session), department.code, department.name.strip(),
            doctor.code if doctor else none, doctor.name if doctor else None, "1" if doctor else None, on_site_limit,
            on_site, max(s.total - on_site_limit, paid + unpaid), paid, unpaid, highest, LEVEL_CODES[s.level], name,
            "0" if s.stopped else "1", "01" if s.stopped else None, s.stopped or None, "0931" if s.stopped else None,
            stopped_at if s.stopped else None, "0931", made_at, datetime.datetime.combine(s.day, begin),
            datetime.datetime.combine(s.day, end), "1" if s.published else "0",
        )  # fmt: skip

    return [row_of(s) for s in world.schedules]


def _fill_expired_lock(connection: Connection | Desk, world: World, schedule: ScheduleSeed) -> None:
    """A lock that ran out yesterday, still counted in TEL_REGING until the next lock of that schedule sweeps it."""
    moment = datetime.datetime.combine(world.today - datetime.timedelta(days=1), datetime.time(18))
    key = schema_id(schedule.index)
    changed(
        connection,
        "UPDATE neuhis.fin_opr_schema SET tel_reging = tel_reging + 1, order_no = order_no + 1 WHERE id = :sch",
        sch=key,
    )
    changed(
        connection,
        "INSERT INTO neuhis.fin_opr_booking (lock_id, order_id, dept_id, doctor_id, reg_date, time_flag, order_type, "
        "reg_fee, treat_fee, schema_id, seeno, lock_state, oper_id, oper_date) SELECT '00000000000001', '16OLDLOCK', "
        "dept_code, doct_code, see_date, noon_code, '0', 0, 0, id, order_no, '0', 'jk160', :moment "
        "FROM neuhis.fin_opr_schema WHERE id = :sch",
        moment=moment,
        sch=key,
    )
