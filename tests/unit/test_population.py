"""The canonical hospital: size, determinism, identity numbers, traps."""

from __future__ import annotations

import datetime

import pytest

from his_db.registry import SAMPLES, load_sample
from his_db.sample import FULL, SMALL
from his_db.samples.people import check_digit, id_number
from his_db.samples.population import WINDOW_ONLY, World, build_world

TODAY = datetime.date(2026, 11, 23)


@pytest.fixture(scope="module")
def full() -> World:
    return build_world(TODAY, FULL, 160)


@pytest.fixture(scope="module")
def small() -> World:
    return build_world(TODAY, SMALL, 160)


def test_check_digit_of_the_standards_examples() -> None:
    assert check_digit("11010519491231002") == "X"
    assert check_digit("44052418800101001") == "4"
    assert id_number("440305", datetime.date(1990, 1, 2), 901)[6:14] == "19900102"


def test_same_arguments_make_the_same_world() -> None:
    assert build_world(TODAY, SMALL, 7) == build_world(TODAY, SMALL, 7)
    assert build_world(TODAY, SMALL, 7) != build_world(TODAY, SMALL, 8)


def test_full_size(full: World) -> None:
    coming = [s for s in full.schedules if s.day >= TODAY]
    assert sum(d.active for d in full.departments) >= 20
    assert sum(d.active for d in full.doctors) >= 120
    assert {s.day for s in coming} == {TODAY + datetime.timedelta(days=n) for n in range(14)}
    assert sum(s.total for s in coming) >= 20_000
    assert len(full.patients) >= 5_000
    past = [r for r in full.registrations if full.schedules[r.schedule].day < TODAY]
    assert len(past) >= 2_000
    assert sum(r.state == "REFUNDED" for r in past) >= 100


@pytest.mark.parametrize("name", ["small", "full"])
def test_traps_are_in_every_size(name: str, request: pytest.FixtureRequest) -> None:
    world: World = request.getfixturevalue(name)
    names = "".join(p.name for p in world.patients)
    assert all(character in names for character in "㛃䶮𠅤喆")
    assert any("'" in p.name for p in world.patients)
    assert any(" " in p.name for p in world.patients)
    assert any(p.guardian and not p.id_no for p in world.patients)
    assert any(p.id_no.endswith("x") for p in world.patients)
    assert {p.phone for p in world.patients} >= {"", None}
    assert {p.hold for p in world.patients} == {"", "爽约", "欠费"}
    assert {p.id_type for p in world.patients} >= {"01", "03", "06", ""}
    shared = [p for p in world.patients if p.id_no and p.id_no == world.patients[20].id_no]
    assert len(shared) >= 3
    assert any(s.stopped for s in world.schedules)
    assert any(not s.published for s in world.schedules)
    assert any(s.doctor is None for s in world.schedules)
    assert any(s.doctor is not None for s in world.schedules)


def test_id_numbers_are_valid_and_agree_with_sex_and_birthday(full: World) -> None:
    for patient in full.patients:
        if patient.id_type == "01":
            number = patient.id_no.upper()
            assert number[17] == check_digit(number[:17])
            assert number[6:14] == f"{patient.birth:%Y%m%d}"
            assert ("M" if int(number[16]) % 2 else "F") == patient.sex
            assert 900 <= int(number[14:17]) <= 999


def test_phones_are_of_a_range_nobody_has(full: World) -> None:
    assert all(not p.phone or (p.phone.startswith("126") and len(p.phone) == 11) for p in full.patients)


def test_no_number_is_held_twice(full: World) -> None:
    held = [(r.schedule, r.number) for r in full.registrations if r.holds_number]
    assert len(held) == len(set(held))
    for order in full.registrations:
        assert 1 <= order.number <= full.schedules[order.schedule].total - WINDOW_ONLY


def test_times_are_in_order(full: World) -> None:
    midnight = datetime.datetime.combine(TODAY, datetime.time())
    for order in full.registrations:
        times = [t for t in (order.booked, order.paid, order.changed) if t is not None]
        assert times == sorted(times)
        coming = full.schedules[order.schedule].day >= TODAY
        assert not coming or order.booked < midnight
        assert (order.changed is not None) == (order.state in ("CANCELLED", "REFUNDED"))
        assert (order.paid is None) == (order.state in ("BOOKED", "CANCELLED"))


def test_registry_names_what_it_loads() -> None:
    assert {load_sample(name).name for name in SAMPLES} == set(SAMPLES)
