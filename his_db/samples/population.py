"""The canonical hospital: a vendor-neutral, deterministic world of departments, doctors, schedules, patients and
registrations.

The vendor modules turn these seeds into their own rows. Nothing here happens after 00:00 of `today`, so the world is
the state in which
the hospital opens. All persons are fictional. Money is integer 分, times are the hospital's wall clock.
"""

from __future__ import annotations

import datetime
import random
from dataclasses import dataclass

from his_db.sample import SampleSize
from his_db.samples import words
from his_db.samples.people import PatientSeed, patients, person_name

LEVELS: dict[str, tuple[str, int, int]] = {
    "normal": ("普通门诊", 0, 2000),
    "emergency": ("急诊", 1000, 4000),
    "expert": ("专家门诊", 1250, 5000),
    "special": ("特需门诊", 10000, 20000),
}
"""号别: name, 挂号费 and 诊查费 in 分."""


@dataclass(frozen=True, slots=True)
class FeeItemSeed:
    """A line of the fees: the HIS's own code, name, national code ('' = 医保 does not pay it), amount in 分."""

    code: str
    name: str
    national_code: str
    amount_fen: int


def _items() -> dict[str, tuple[FeeItemSeed, FeeItemSeed]]:
    """挂号费 and 诊查费 of each 号别; 特需 has no national code."""
    numbers = {"normal": 1, "expert": 2, "emergency": 3}
    found = {}
    for level, (name, register, diagnose) in LEVELS.items():
        number, title = numbers.get(level), name.removesuffix("门诊")
        national = ("001101000010000-110100001", f"0011020000{number}0000-11020000{number}") if number else ("", "")
        letter = level[:2].upper()
        found[level] = (
            FeeItemSeed(f"GH{letter}1", f"{title}挂号费", national[0], register),
            FeeItemSeed(f"ZC{letter}1", f"{title}诊查费", national[1], diagnose),
        )
    return found


SESSIONS: dict[int, tuple[str, datetime.time, datetime.time]] = {
    1: ("上午", datetime.time(8), datetime.time(12)),
    2: ("下午", datetime.time(14), datetime.time(17, 30)),
    3: ("晚上", datetime.time(18), datetime.time(20, 30)),
}
CASHIERS = ("0931", "0932", "0933", "0934", "0935", "0936")
CHANNEL_OPERATORS = {"160": "jk160", "wechat": "wxgzh", "kiosk": "zzj"}
WINDOW_ONLY = 2
"""The last numbers of each schedule that the windows keep for themselves."""
FEE_ITEMS: dict[str, tuple[FeeItemSeed, FeeItemSeed]] = _items()
"""What the fee of each 号别 is made of; an item of 0 分 is none."""


@dataclass(frozen=True, slots=True)
class DepartmentSeed:
    """A department; `active` False = closed, still in the table. `insurance_code` '' = not registered with 医保."""

    index: int
    code: str
    name: str
    initials: str
    place: str
    active: bool

    @property
    def specialty_code(self) -> str:
        """科别 caty."""
        return words.SPECIALTY_CODES.get(self.name, "")

    @property
    def insurance_code(self) -> str:
        """医保科室编码."""
        return f"K{self.code}" if self.specialty_code else ""


@dataclass(frozen=True, slots=True)
class DoctorSeed:
    """A doctor; `title` 1 住院医师 2 主治 3 副主任 4 主任. Every ninth has no 医保 code: self-pay only."""

    index: int
    code: str
    name: str
    initials: str
    sex: str
    title: int
    department: int
    specialty: str
    active: bool

    @property
    def insurance_code(self) -> str:
        """医保医师编码; '' = not registered with 医保."""
        return "" if self.index % 9 == 1 else f"D4403{self.index:08d}"


@dataclass(frozen=True, slots=True)
class OperatorSeed:
    """A cashier or a virtual operator (`virtual`)."""

    code: str
    name: str
    virtual: bool


@dataclass(frozen=True, slots=True)
class ScheduleSeed:
    """A clinic session; `doctor` None = 普通门诊; `stopped` = the reason of the 停诊 or ''. `minutes` between two
    numbers."""

    index: int
    day: datetime.date
    department: int
    doctor: int | None
    session: int
    level: str
    total: int
    minutes: int
    published: bool
    stopped: str

    def start(self, number: int) -> datetime.datetime:
        """When that number is due."""
        begin = datetime.datetime.combine(self.day, SESSIONS[self.session][1])
        return begin + datetime.timedelta(minutes=(number - 1) * self.minutes)

    @property
    def fee_fen(self) -> int:
        """挂号费 + 诊查费."""
        return LEVELS[self.level][1] + LEVELS[self.level][2]


@dataclass(frozen=True, slots=True)
class RegistrationSeed:
    """An order: `channel` 160, wechat, kiosk or window; `state` as in `OrderRow`. `changed` = when it was cancelled
    or refunded."""

    index: int
    schedule: int
    number: int
    patient: int
    channel: str
    state: str
    order_no: str
    operator: str
    booked: datetime.datetime
    paid: datetime.datetime | None
    changed: datetime.datetime | None
    changed_by: str
    refund_no: str
    day_closed: bool

    @property
    def trade_no(self) -> str:
        """商户订单号 (out_trade_no)."""
        return f"M{self.order_no}"

    @property
    def transaction_no(self) -> str:
        """The payer's transaction number."""
        return f"4200{self.order_no}"

    @property
    def setl_id(self) -> str:
        """结算 ID, had 医保 settled it."""
        return f"4403{self.index + 1:012d}"

    @property
    def holds_number(self) -> bool:
        """Whether the order still occupies its number."""
        return self.state not in ("CANCELLED", "REFUNDED")


@dataclass(frozen=True, slots=True)
class VisitorSeed:
    """A 就诊人 of an account of the hospital's mini-program. `relation` 1 本人 2 父母 3 子女 4 配偶 9 其他."""

    account: str
    patient: int
    relation: str
    is_default: bool


@dataclass(frozen=True, slots=True)
class InsuredSeed:
    """What 医保 paid of a registration; `cash_fen` the patient paid."""

    fund_fen: int
    account_fen: int
    cash_fen: int
    insutype: str
    person_no: str


@dataclass(frozen=True, slots=True)
class World:
    """Everything; indexes of seeds are positions in these lists."""

    today: datetime.date
    departments: list[DepartmentSeed]
    doctors: list[DoctorSeed]
    operators: list[OperatorSeed]
    schedules: list[ScheduleSeed]
    patients: list[PatientSeed]
    registrations: list[RegistrationSeed]

    def visitors(self) -> list[VisitorSeed]:
        """就诊人: accounts of three adults each, the account's owner first."""
        adults = [p.index for p in self.patients if p.active and not p.guardian and p.index >= 20]
        rows = []
        for number, patient in enumerate(adults[: 3 * (len(adults) // 9 + 1)]):
            place = number % 3
            rows.append(VisitorSeed(f"wx{number // 3 + 1:06d}", patient, ("1", "4", "2")[place], place == 0))
        return rows

    def insured(self, order: RegistrationSeed) -> InsuredSeed | None:
        """The 医保 part of every sixth ended one with registered department and doctor; None: self-pay."""
        schedule = self.schedules[order.schedule]
        doctor = None if schedule.doctor is None else self.doctors[schedule.doctor]
        codes = (self.departments[schedule.department].insurance_code, doctor and doctor.insurance_code)
        ended = schedule.day < self.today and order.state in ("VISITED", "REFUNDED")
        if order.index % 6 or not ended or not all(codes):
            return None
        _, diagnose = FEE_ITEMS[schedule.level]
        fund = diagnose.amount_fen * 6 // 10 if diagnose.national_code else 0
        if not fund:
            return None
        account = min(1000, schedule.fee_fen - fund)
        kind = "310" if order.patient % 3 else "390"
        person = f"44030000{order.patient + 1:012d}"
        return InsuredSeed(fund, account, schedule.fee_fen - fund - account, kind, person)


def build_world(today: datetime.date, size: SampleSize, seed: int) -> World:
    """The same arguments make the same world."""
    rng = random.Random(seed)  # noqa: S311 - reproducible, not secret
    departments = _departments(size)
    doctors = _doctors(rng, size)
    schedules = _schedules(rng, today, size, doctors)
    people = patients(rng, size.patients, today)
    registrations = _registrations(rng, today, size, schedules, people)
    return World(today, departments, doctors, _operators(rng), schedules, people, registrations)


def _departments(size: SampleSize) -> list[DepartmentSeed]:
    rows = (*words.DEPARTMENTS[: size.departments], words.RETIRED_DEPARTMENT)
    return [
        DepartmentSeed(i, f"{101 + i:04d}", name, initials, place, i < size.departments)
        for i, (name, initials, place) in enumerate(rows)
    ]


def _doctors(rng: random.Random, size: SampleSize) -> list[DoctorSeed]:
    made = []
    for index in range(size.doctors + 1):
        sex = rng.choice("MF")
        name, initials = person_name(rng, sex)
        if index in (1, 3, 5, 7):
            character, initial = words.RARE_GIVEN[index // 2]
            name, initials = name[:-1] + character, initials[:-1] + initial
        title = rng.choice((1, 2, 2, 3, 3, 4))
        department = index % size.departments
        specialty = rng.choice(words.SPECIALTIES)
        active = index < size.doctors
        made.append(DoctorSeed(index, f"{2001 + index:04d}", name, initials, sex, title, department, specialty, active))
    return made


def _operators(rng: random.Random) -> list[OperatorSeed]:
    made = [OperatorSeed(code, person_name(rng, "F")[0], False) for code in CASHIERS]
    made += [
        OperatorSeed("jk160", "健康160", True),
        OperatorSeed("wxgzh", "微信公众号", True),
        OperatorSeed("zzj", "自助机", True),
        OperatorSeed("zzj01", "自助机01", True),
        OperatorSeed("zzj02", "自助机02", True),
    ]
    return made


def _schedules(
    rng: random.Random, today: datetime.date, size: SampleSize, doctors: list[DoctorSeed]
) -> list[ScheduleSeed]:
    made: list[ScheduleSeed] = []
    first_coming = 0

    def add(day: datetime.date, department: int, doctor: int | None, session: int, level: str, minutes: int) -> None:
        _, begin, end = SESSIONS[session]
        length = (end.hour - begin.hour) * 60 + end.minute - begin.minute
        index = len(made)
        place = index - first_coming if day >= today else -1
        stopped = words.STOP_REASONS[index % 4] if place % 41 == 9 else ""
        published = place % 53 != 5
        made.append(
            ScheduleSeed(index, day, department, doctor, session, level, length // minutes, minutes, published, stopped)
        )

    for offset in range(-size.past_days, size.days):
        day = today + datetime.timedelta(days=offset)
        first_coming = len(made) if offset == 0 else first_coming
        for department in range(0, size.departments, 2):
            add(day, department, None, 1, "normal", 8)
        for doctor in doctors[: size.doctors]:
            if rng.random() < (0.3 if offset >= 0 else 0.65):
                continue
            level = (
                "expert" if doctor.title == 3 else ("special" if doctor.title == 4 and offset % 5 == 0 else "normal")
            )
            level = "expert" if doctor.title == 4 and level == "normal" else level
            session = rng.choice((1, 1, 1, 2, 2, 3) if level != "special" else (1, 2))
            add(day, doctor.department, doctor.index, session, level, rng.choice((10, 12)))
    return made


_PAST = ("VISITED",) * 14 + ("PAID", "PAID", "REFUNDED", "REFUNDED", "CANCELLED", "CANCELLED", "CHECKED_IN")
_COMING = ("BOOKED",) * 5 + ("PAID",) * 11 + ("CANCELLED",) * 2 + ("REFUNDED",) * 2


def _registrations(
    rng: random.Random, today: datetime.date, size: SampleSize, schedules: list[ScheduleSeed], people: list[PatientSeed]
) -> list[RegistrationSeed]:
    past = [s for s in schedules if s.day < today]
    coming = [s for s in schedules if s.day >= today and s.published]
    stopped = [s for s in coming if s.stopped]
    usable = [p.index for p in people if p.active and not p.hold]
    taken: dict[int, int] = {}
    seen: set[tuple[int, int]] = set()
    made: list[RegistrationSeed] = []
    for index in range(size.past_registrations + size.coming_registrations):
        is_past = index < size.past_registrations
        pool = past if is_past else (stopped if stopped and index % 40 == 0 else coming)
        schedule = rng.choice(pool)
        number = taken.get(schedule.index, 0) + 1
        patient = rng.choice(usable)
        if number > schedule.total - WINDOW_ONLY - 2 or (schedule.index, patient) in seen:
            continue
        taken[schedule.index] = number
        seen.add((schedule.index, patient))
        made.append(_registration(rng, len(made), today, schedule, number, patient))
    return made


def _registration(
    rng: random.Random, index: int, today: datetime.date, schedule: ScheduleSeed, number: int, patient: int
) -> RegistrationSeed:
    is_past = schedule.day < today
    state = rng.choice(_PAST if is_past else _COMING)
    channels = ("160",) * 9 + ("wechat",) * 3 + (("window",) * 6 + ("kiosk",) * 2 if is_past else ())
    channel = rng.choice(channels) if not schedule.stopped else "160"
    on_site = channel in ("window", "kiosk")
    if on_site and state == "CANCELLED":
        state = "VISITED"
    opening = datetime.datetime.combine(schedule.day, datetime.time(7, 30))
    if on_site:
        booked = opening + datetime.timedelta(minutes=rng.randint(0, 60))
    else:
        last = min(opening, datetime.datetime.combine(today, datetime.time()))
        booked = last - datetime.timedelta(minutes=rng.randint(120, 4 * 1440))
    paid = None
    if state not in ("BOOKED", "CANCELLED"):
        paid = booked + datetime.timedelta(minutes=0 if on_site else rng.randint(1, 14), seconds=rng.randint(0, 59))
    operator = rng.choice(CASHIERS) if channel == "window" else CHANNEL_OPERATORS[channel]
    changed, changed_by, refund_no = None, "", ""
    order_no = f"16{booked:%y%m%d}{index:07d}"
    if state in ("CANCELLED", "REFUNDED"):
        begin = paid or booked
        until = min(schedule.start(number), datetime.datetime.combine(today, datetime.time()))
        room = 90 if on_site else max(int((until - begin).total_seconds()) // 60 - 1, 15)
        changed = begin + datetime.timedelta(minutes=rng.randint(min(15, room), room))
        changed_by = operator if channel != "kiosk" and rng.random() < 0.6 else rng.choice(CASHIERS)
        if state == "REFUNDED" and changed_by == operator and not on_site:
            refund_no = f"R{order_no}"
    closed = paid is not None and paid.date() < today - datetime.timedelta(days=1)
    return RegistrationSeed(
        index,
        schedule.index,
        number,
        patient,
        channel,
        state,
        order_no,
        operator,
        booked,
        paid,
        changed,
        changed_by,
        refund_no,
        closed,
    )
