"""Keys and codes that every part of the bsoft sample shares."""

from __future__ import annotations

import datetime

from his_db.samples.population import DoctorSeed, ScheduleSeed, World

BRANCH = "440305A"
FIRST_PATIENT = 100_001
NO_DOCTOR = "0"
"""YSDM of 普通号."""
CHANNEL = {"160": 160, "wechat": 2}
"""SOURCE of the channels that book through MS_YYGHHY; windows and kiosks write MS_GHMX only."""
PAYTYPE = {"160": "160", "wechat": "wx", "kiosk": "zzj", "window": "ck"}
PAY_MODE = {"160": 15, "wechat": 15, "kiosk": 16, "window": 1}
CASH, INSURANCE, WECHAT, TRANSACTION = 1, 9, 15, 98
"""MS_FKXX.FKFS; 98 = a row without money that holds the payer's transaction number."""
_LEVEL_OFFSET = {"normal": 0, "emergency": 100, "expert": 200, "special": 300}


def department_key(index: int, level: str) -> int:
    """KSDM of a 挂号科室: 101.. 普通, 301.. 专家, 401.. 特需."""
    return 101 + index + _LEVEL_OFFSET[level]


def fee_item(level: str, part: int) -> int:
    """FYXH of the 挂号费 (0) or 诊疗费 (1) of a 号别."""
    return 9001 + 10 * list(_LEVEL_OFFSET).index(level) + part


def doctor_key(doctor: DoctorSeed | None) -> str:
    """YSDM."""
    return NO_DOCTOR if doctor is None else doctor.code


def clinic(world: World, schedule: ScheduleSeed) -> tuple[datetime.date, int, str, int]:
    """GZRQ, KSDM, YSDM, ZBLB: the key of MS_YSPB."""
    doctor = None if schedule.doctor is None else world.doctors[schedule.doctor]
    return (
        schedule.day,
        department_key(schedule.department, schedule.level),
        doctor_key(doctor),
        schedule.session,
    )


def schedule_key(day: datetime.date, department: object, planned_doctor: object, session: object) -> str:
    """The id that the pack gives to a session: the natural key with the doctor as first planned."""
    return f"{day:%Y%m%d}.{department}.{planned_doctor}.{session}"
