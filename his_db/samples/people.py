"""Fictional persons: names with pinyin initials, checksum-valid GB 11643 numbers, phones of ranges that are given to
nobody."""

from __future__ import annotations

import datetime
import random
from dataclasses import dataclass

from his_db.samples import words

_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECKS = "10X98765432"


@dataclass(frozen=True, slots=True)
class PatientSeed:
    """A patient. `sex` M/F/U; `id_type` CV02.01.101 ('01' ID card, '03' passport, '06' 港澳通行证, '' none); `hold`
    '', '爽约' or '欠费'."""

    index: int
    name: str
    initials: str
    sex: str
    birth: datetime.date
    id_type: str
    id_no: str
    phone: str | None
    address: str
    guardian: tuple[str, str, str] | None
    created: datetime.datetime
    active: bool
    hold: str


def check_digit(first17: str) -> str:
    """The 18th character of a GB 11643 number."""
    return _CHECKS[sum(int(digit) * weight for digit, weight in zip(first17, _WEIGHTS, strict=True)) % 11]


def id_number(area: str, birth: datetime.date, sequence: int) -> str:
    """An 18-character number; an odd `sequence` (3 digits) means male. The population uses 900 to 999 only."""
    first17 = f"{area}{birth:%Y%m%d}{sequence:03d}"
    return first17 + check_digit(first17)


def person_name(rng: random.Random, sex: str) -> tuple[str, str]:
    """A name of 2 to 4 characters and its pinyin initials."""
    if rng.random() < 0.02:
        surname, initials = rng.choice(words.COMPOUND_SURNAMES)
    else:
        surname, initials = rng.choice(words.SURNAMES)
    pool = words.GIVEN_MALE if sex == "M" else words.GIVEN_FEMALE
    for _ in range(1 if rng.random() < 0.3 else 2):
        character, initial = rng.choice(pool)
        surname += character
        initials += initial
    if rng.random() < 0.01:
        character, initial = rng.choice(words.RARE_GIVEN)
        surname, initials = surname[:-1] + character, initials[:-1] + initial
    return surname, initials


def phone(number: int) -> str:
    """A mobile number of the 126 range, which is assigned to nobody."""
    return f"126{number:08d}"


def patients(rng: random.Random, count: int, today: datetime.date) -> list[PatientSeed]:
    """The patients; the first ones are the traps, so that even a small sample has each of them."""
    made = [_patient(rng, index, today) for index in range(count)]
    base = made[20]
    made[0] = _copy(base, 0, name=base.name, active=True)
    made[1] = _copy(base, 1, name=base.name + "(重)", active=False)
    made[2] = _copy(made[21], 2, name=made[21].name[:-1] + "喆", active=True)
    return made


def _copy(of: PatientSeed, index: int, *, name: str, active: bool) -> PatientSeed:
    """A historic duplicate: the same ID number on another, older file."""
    created = of.created - datetime.timedelta(days=900)
    return PatientSeed(
        index,
        name,
        of.initials,
        of.sex,
        of.birth,
        of.id_type,
        of.id_no,
        of.phone,
        of.address,
        None,
        created,
        active,
        "",
    )


def _patient(rng: random.Random, index: int, today: datetime.date) -> PatientSeed:
    sex = rng.choice("MF")
    name, initials = person_name(rng, sex)
    if 3 <= index < 7:
        character, initial = words.RARE_GIVEN[index - 3]
        name, initials = name[:-1] + character, initials[:-1] + initial
    elif 7 <= index < 12:
        name, initials = words.ODD_NAMES[index - 7]
    child = 12 <= index < 15 or (index >= 30 and rng.random() < 0.12)
    age_days = rng.randint(200, 13 * 365) if child else rng.randint(18 * 366, 88 * 365)
    birth = today - datetime.timedelta(days=age_days)
    sequence = 900 + 2 * rng.randint(0, 49) + (sex == "M")
    id_type, id_no = "01", id_number(rng.choice(words.AREA_CODES), birth, sequence)
    guardian = None
    if child:
        adult = person_name(rng, "F")[0]
        adult_birth = birth - datetime.timedelta(days=28 * 365)
        guardian = (adult, id_number(words.AREA_CODES[0], adult_birth, 900 + 2 * rng.randint(0, 49)), "母亲")
        if index < 15 or rng.random() < 0.5:
            id_type, id_no = "", ""
    elif 7 <= index < 9 or index == 11 or (index >= 30 and rng.random() < 0.01):
        id_type, id_no = "03", f"EX{index:07d}"
    elif index == 15:
        id_type, id_no = "06", f"H{index:08d}"
    elif index == 16:
        id_no = _lower_x(birth)
        sex = "M"
    hold = {17: "爽约", 18: "欠费"}.get(index, "")
    number: str | None = phone(index)
    if index % 29 == 23:
        number = None if index % 2 else ""
    address = f"深圳市南山区{rng.choice(words.STREETS)}{rng.randint(1, 300)}号"
    created = datetime.datetime.combine(today, datetime.time(9)) - datetime.timedelta(
        minutes=rng.randint(2000, 900_000)
    )
    return PatientSeed(
        index, name, initials, sex, birth, id_type, id_no, number, address, guardian, created, index != 19, hold
    )


def _lower_x(birth: datetime.date) -> str:
    """A valid number whose check character is X, written in lower case as some HIS do (male)."""
    for area in words.AREA_CODES:
        for sequence in range(901, 1000, 2):
            number = id_number(area, birth, sequence)
            if number.endswith("X"):
                return number[:-1] + "x"
    raise AssertionError("no number with X")
