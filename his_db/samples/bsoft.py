"""The bsoft sample: 创业 PHIS style on MySQL or MariaDB, counter quota, locks as 号源 rows (domain facts §5.5)."""

# ruff: noqa: S608 - the composed parts are constants of this module and names from the catalogue; every value is bound
from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator

from sqlalchemy import Connection, Engine, create_engine

from his_db.sample import FULL, CashierWindow, Clock, SampleSize, SampleSummary, hospital_now
from his_db.samples.bsoft_money import fill_orders
from his_db.samples.bsoft_rows import BRANCH, CHANNEL, FIRST_PATIENT, clinic, department_key, fee_item
from his_db.samples.bsoft_window import BsoftWindow
from his_db.samples.people import PatientSeed
from his_db.samples.population import FEE_ITEMS, LEVELS, SESSIONS, WINDOW_ONLY, ScheduleSeed, World, build_world
from his_db.samples.tables import bulk, sql_file, stamp

_SEX = {"M": 1, "F": 2}
_LEVEL = {"normal": 1, "emergency": 2, "expert": 3, "special": 4}
_HOLD = {"爽约": 1, "欠费": 2}
_ZERO_DATE = "0000-00-00"


class BsoftSample:
    """Fills the database that the url names and opens its window program."""

    name = "bsoft"
    mappings = "mappings"
    engine = "mysql"

    def create(
        self, url: str, *, today: datetime.date, size: SampleSize = FULL, seed: int = 160, clock: Clock = hospital_now
    ) -> SampleSummary:
        """Drops the tables of an earlier sample (of this pack only) and makes them anew. DDL commits by itself here."""
        world = build_world(today, size, seed)
        engine = open_mysql(url)
        try:
            with engine.begin() as connection:
                for statement in statements(sql_file("bsoft", "schema.sql")):
                    connection.exec_driver_sql(statement)
            with engine.begin() as connection:
                summary = _fill(connection, world, (today - clock().date()).days)
            with engine.begin() as connection:
                connection.exec_driver_sql(
                    "ANALYZE TABLE MS_YSPB, MS_YYGHHY, MS_YYGH, MS_GHMX, MS_MZXX, MS_FKXX, YB_GHJS"
                )
        finally:
            engine.dispose()
        return summary

    def window(self, url: str, *, clock: Clock = hospital_now) -> CashierWindow:
        """The window program on that database."""
        engine = open_mysql(url)
        with engine.connect() as connection:
            days = connection.exec_driver_sql("SELECT CSZ FROM GY_XTCS WHERE CSMC = 'YLPY'").scalar_one()
        return BsoftWindow(engine, shifted_clock(clock, int(days)))


def shifted_clock(clock: Clock, days: int) -> Clock:
    """The hospital's clock when the sample was made for another day than the clock's."""
    return lambda: (clock() + datetime.timedelta(days=days)).replace(microsecond=0)


def open_mysql(url: str) -> Engine:
    """As the vendor's own programs connect: utf8mb4, and zero dates allowed whatever the server's default says."""
    mode = "SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'"
    return create_engine(
        url,
        connect_args={"charset": "utf8mb4", "init_command": mode},
        isolation_level="READ COMMITTED",
        pool_size=24,
        pool_pre_ping=True,
    )


def statements(script: str) -> Iterator[str]:
    """The statements of a file as the `mysql` client reads it: `DELIMITER` lines, comments between statements.

    Every table and procedure is dropped before it is created, so that the file itself stays what a DBA reads.
    """
    delimiter, lines = ";", list[str]()
    for line in script.splitlines():
        if line.startswith("DELIMITER "):
            delimiter = line.split()[1]
            continue
        if not lines and (not line.strip() or line.startswith("--")):
            continue
        code = line.split(" -- ")[0].rstrip() if delimiter == ";" else line.rstrip()
        lines.append(code)
        if not code.endswith(delimiter):
            continue
        statement = "\n".join(lines)[: -len(delimiter)]
        lines.clear()
        _, kind, name = statement.split("(")[0].split()
        yield f"DROP {kind} IF EXISTS {name}"
        yield statement.rstrip() + (" DEFAULT CHARSET utf8mb4 COLLATE utf8mb4_general_ci" if kind == "TABLE" else "")


def _fill(connection: Connection, world: World, shift: int) -> SampleSummary:
    _fill_codes(connection, world, shift)
    _fill_departments(connection, world)
    _fill_staff(connection, world)
    _fill_patients(connection, world)
    _fill_schedules(connection, world)
    fill_orders(connection, world)
    _fill_expired_lock(connection, world)
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


def _fill_codes(connection: Connection, world: World, shift: int) -> None:
    bulk(
        connection,
        "GY_XTCS",
        "CSMC CSZ BZ",
        [
            ("YYSDSJ", "10", "锁号分钟数"),
            ("YYTKXZ", "0", "同科同日限约一次"),
            ("RJHTH", "1", "日结后允许退号"),
            ("QHHTH", "1", "取号后允许退号"),
            ("YLPY", str(shift), "样例时间偏移(天)"),
        ],
    )
    bulk(
        connection,
        "GY_YLSF",
        "FYXH FYMC FYDJ YBBM",
        (
            (fee_item(level, part), item.name, item.amount_fen / 100, item.national_code or None)
            for level, items in FEE_ITEMS.items()
            for part, item in enumerate(items)
        ),
    )
    bulk(connection, "GY_XHB", "BM DQZ", [("MS_BRDA", FIRST_PATIENT + len(world.patients))])


def _fill_departments(connection: Connection, world: World) -> None:
    """Three 挂号科室 of each 门诊科室: 普通, 专家, 特需."""

    def rows() -> Iterator[tuple[object, ...]]:
        for department in world.departments:
            for level in ("normal", "expert", "special"):
                name, registration, diagnosis = LEVELS[level]
                title = department.name if level == "normal" else f"{department.name}({name[:2]})"
                # A float that is not the amount: 12.5 comes back as 12.499999999 (as domain facts §5.2 warns).
                residue = 1e-9 if department.index % 3 == 1 else 0.0
                yield (
                    department_key(department.index, level), BRANCH, title + " " * (department.index % 4 == 2),
                    _LEVEL[level], department.initials[:6], "", registration / 100, diagnosis / 100 - residue,
                    int(level != "normal"), department_key(department.index, "normal"), department.place,
                    fee_item(level, 0), fee_item(level, 1), department.insurance_code or None,
                    department.specialty_code or None, 0 if department.active else 1,
                )  # fmt: skip

    columns = "KSDM JGID KSMC GHLB PYDM WBDM GHF ZLF ZJMZ MZKS DDXX GHXM ZLXM YBKS YBKB ZFPB"
    bulk(connection, "MS_GHKS", columns, rows())
    bulk(
        connection,
        "MS_KSPB",
        "GHRQ ZBLB GHKS JGID GHXE YYXE YYKSSJ YYJSSJ YYJG",
        (
            (weekday, 1, department_key(index, "normal"), BRANCH, 30, 28, "08:00", "12:00", "8")
            for weekday in range(1, 8)
            for index in range(0, len(world.departments) - 1, 2)
        ),
    )


def _fill_staff(connection: Connection, world: World) -> None:
    columns = "YGDM JGID YGXM KSDM YGJB YGLB PYDM YGJJ YBBM ZFPB"
    doctors: list[tuple[object, ...]] = [
        (
            d.code, BRANCH, d.name, department_key(d.department, "normal"), d.title, 1, d.initials[:6], d.specialty,
            d.insurance_code or None, 0 if d.active else 1,
        )
        for d in world.doctors
    ]  # fmt: skip
    operators = (
        (o.code, BRANCH, o.name, None, None, 9 if o.virtual else 2, "", None, None, 0) for o in world.operators
    )
    bulk(connection, "GY_YGDM", columns, [*doctors, *operators])


def _fill_patients(connection: Connection, world: World) -> None:
    last = {r.patient: world.schedules[r.schedule].start(r.number) for r in world.registrations if r.state == "VISITED"}
    columns = "BRID MZHM EMPIID BRXM ZJLX SFZH BRXZ BRXB CSNY JZKH LXDH LXDZ LXRM JZRQ JDSJ JDR ZXBZ"
    bulk(connection, "MS_BRDA", columns, (_patient(p, last.get(p.index)) for p in world.patients))
    # The end of a restriction: none, said by NULL or by the zero date.
    holds = [
        (FIRST_PATIENT + p.index, _HOLD[p.hold], p.created.date(), _ZERO_DATE if p.hold == "爽约" else None, p.hold)
        for p in world.patients
        if p.hold
    ]
    bulk(connection, "MS_YYXZ", "BRID XZLX KSRQ JSRQ BZ", holds)


def _patient(patient: PatientSeed, last: datetime.datetime | None) -> tuple[object, ...]:
    index = patient.index
    return (
        FIRST_PATIENT + index, f"M{FIRST_PATIENT + index:08d}", f"{index:032x}", patient.name, patient.id_type or None,
        patient.id_no, 1 + (index % 5 == 4), _SEX.get(patient.sex, 9),
        _ZERO_DATE if index % 31 == 24 else patient.birth, f"9{index + 1:09d}", patient.phone, patient.address,
        patient.guardian[0] if patient.guardian else None, last, patient.created, "0931", 0 if patient.active else 1,
    )  # fmt: skip


def _fill_schedules(connection: Connection, world: World) -> None:
    booked: Counter[int] = Counter()
    on_site: Counter[int] = Counter()
    highest: Counter[int] = Counter()
    for order in world.registrations:
        side = booked if order.channel in CHANNEL else on_site
        side[order.schedule] += order.holds_number
        highest[order.schedule] = max(highest[order.schedule], order.number)

    def row(s: ScheduleSeed) -> tuple[object, ...]:
        _, begin, end = SESSIONS[s.session]
        own_times = s.doctor is not None
        return (
            *clinic(world, s), BRANCH, s.total, on_site[s.index], booked[s.index], highest[s.index],
            s.total - WINDOW_ONLY if s.published else 0, 1 if s.stopped else 0,
            f"{begin:%H:%M}" if own_times else None, f"{end:%H:%M}" if own_times else "",
            str(s.minutes) if own_times else None,
        )  # fmt: skip

    columns = "GZRQ KSDM YSDM ZBLB JGID GHXE YGRS YYRS JZXH YYXE TGBZ YYKSSJ YYJSSJ YYJG"
    bulk(connection, "MS_YSPB", columns, map(row, world.schedules))


def _fill_expired_lock(connection: Connection, world: World) -> None:
    """A lock that ran out yesterday, still counted in YYRS until the next booking of that session sweeps it.

    Its SFZH is what a careless interface on a server without strict mode leaves: the first digit of the number.
    """
    schedule = next(s for s in world.schedules if s.day > world.today and s.published and not s.stopped)
    day, department, doctor, session = clinic(world, schedule)
    where = "GZRQ = %s AND KSDM = %s AND YSDM = %s AND ZBLB = %s"
    key = (day, department, doctor, session)
    connection.exec_driver_sql(f"UPDATE MS_YSPB SET YYRS = YYRS + 1, JZXH = JZXH + 1 WHERE {where}", key)
    number = connection.exec_driver_sql(f"SELECT JZXH FROM MS_YSPB WHERE {where}", key).scalar_one()
    moment = datetime.datetime.combine(world.today - datetime.timedelta(days=1), datetime.time(18))
    bulk(
        connection,
        "MS_YYGHHY",
        "HYKS HYJG HYYS HYSJ HYZT SFZH ZBLB SOURCE SDXH DDH DDSJ",
        [(department, BRANCH, doctor, schedule.start(number), "1", "4", str(session), 160, str(number), "16OLDLOCK",
          stamp(moment))],
    )  # fmt: skip
