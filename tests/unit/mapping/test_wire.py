"""Lists by way of the wire format: the same messages as the builder's, for whatever a driver gives, or none at all."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from his_db.errors import MappingMismatch
from his_db.mapping.load import load_mapping_set
from his_db.mapping.paths import resolve
from his_db.mapping.rows import RowPlan

CHANCE = "HIS160_CHANCE" in os.environ  # `make soak`
PACKS = Path(__file__).parents[3] / "his_db" / "packs"
ENGINES = {"zebone": "sqlite", "winning": "postgresql", "bsoft": "mysql", "neusoft": "oracle", "winning_mssql": "mssql"}


@cache  # not while tests are collected: every worker of a run does that for all files
def plans() -> list[tuple[str, RowPlan, Any]]:
    """The row plan of every list of every pack, and the field that it fills."""
    found = []
    for pack, engine in ENGINES.items():
        mappings = load_mapping_set(PACKS / pack / "mappings", sources={"his": engine}, timezone="Asia/Shanghai")
        for name, mapping in mappings.operations.items():
            for result in mapping.results:
                if result.rows != "many" or result.segments is not None:
                    continue
                path = resolve(mapping.operation.response, result.into)
                assert path is not None
                into = path[-1]
                plan = RowPlan(
                    into.message_type,
                    result.fields,
                    codes=mapping.site.codes,
                    zone=ZoneInfo("Asia/Shanghai"),
                    label=name,
                )
                found.append((f"{pack} {name}", plan, into))
    return found


TEXTS = ["", " ", "A", " 张三 ", "1", "0", "08:30", "2026-03-01", "20260301", "2026-03-01 08:30:00", "FREE", "TAKEN"]
TEXTS += ["T", "F", "x" * 127, "x" * 128, "张" * 6000, "\ud800", "12.30", "M", "2", "9"]
NUMBERS = [0, 1, 2, 7, -1, 2**31, 2**40, 2**70, True, False, 1.0, 0.0, -0.0, 1.5, float("nan")]
DECIMALS = [Decimal("0"), Decimal("1.00"), Decimal("12.305"), Decimal("-1"), Decimal("NaN")]
OTHERS = [
    date(2026, 3, 1),
    date(2026, 3, 2),
    time(8, 30),
    time(0),
    time(8, 30, fold=1),
    time(8, 30, tzinfo=UTC),
    datetime(2026, 3, 1, 8, 30),
    datetime(2026, 3, 1),
    datetime(2026, 3, 1, 8, 30, tzinfo=UTC),
    datetime(2026, 3, 1, 16, 30, tzinfo=ZoneInfo("Asia/Shanghai")),
    timedelta(hours=8),
    b"\xd5\xc5",
    bytearray(b"x"),
]
GIVEN = st.one_of(*(st.sampled_from(values) for values in ([None], TEXTS, NUMBERS, DECIMALS, OTHERS)))


def test_lists_of_the_packs_have_one() -> None:
    """All but the statement, each of whose rows is either a payment or a refund."""
    without = {label.split()[-1] for label, plan, into in plans() if plan.encoder(into, plan.columns) is None}
    assert len(plans()) > 30
    assert without == {"ReportService.ListStatement"}


@settings(max_examples=800 if CHANCE else 300, deadline=None)
@given(data=st.data())
def test_either_the_builder_s_messages_or_an_error(data: st.DataObject) -> None:
    _, plan, into = data.draw(st.sampled_from(plans()))
    encode = plan.encoder(into, plan.columns)
    if encode is None:
        return
    row = st.lists(GIVEN, min_size=len(plan.columns), max_size=len(plan.columns))
    rows = data.draw(st.lists(row.map(tuple), min_size=1, max_size=3))
    response = GetMessageClass(into.containing_type)
    expected = response()
    build = plan.builder(plan.columns)
    try:
        for each in rows:
            getattr(expected, into.name).add(**build(each))
    except (MappingMismatch, ValueError, TypeError):
        with pytest.raises((ValueError, ArithmeticError, TypeError, LookupError)):
            encode(rows)
        return
    assert response.FromString(encode(rows)) == expected


def fitting(plan: RowPlan) -> list[list[Any]]:
    """For each column the values that its field takes."""
    found: list[list[Any]] = [[None, *TEXTS, *NUMBERS, *DECIMALS, *OTHERS] for _ in plan.columns]

    def takes(leaf: Any, value: Any) -> bool:
        try:
            return leaf.convert(value) is not None or not leaf.required
        except (ValueError, ArithmeticError, TypeError):
            return False

    def walk(node: Any) -> None:
        for leaf in node.leaves:
            places = [plan.columns.index(column.casefold()) for column in leaf.columns]
            if len(places) == 1:
                found[places[0]] = [value for value in found[places[0]] if takes(leaf, value)] or [None]
            else:
                for place in places:
                    found[place] = ["2026-03-01", "20260301", "08:30", "0830", date(2026, 3, 1), time(8, 30), None]
        for below in node.below.values():
            walk(below)

    walk(plan._root)
    return found


@cache
def fitting_plans() -> list[tuple[RowPlan, Any, list[list[Any]]]]:
    return [(plan, into, fitting(plan)) for _, plan, into in plans()]


@settings(max_examples=300 if CHANCE else 120, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_lists_as_drivers_give_them(seed: int) -> None:
    """One type a column, as a rule, so that the caches and what is made for the types are in use; now and then another,
    which may be equal to one that is cached (1, True, 1.0) and mean something else."""
    chance = Random(seed)
    plan, into, values = chance.choice(fitting_plans())
    encode = plan.encoder(into, plan.columns)
    if encode is None:
        return
    response = GetMessageClass(into.containing_type)
    build = plan.builder(plan.columns)
    usual = [type(chance.choice(each)) for each in values]
    likely = [[value for value in each if type(value) is sort] for each, sort in zip(values, usual, strict=True)]
    for _ in range(3):
        rows = [
            tuple(
                chance.choice(some if chance.random() < 0.98 else every)
                for some, every in zip(likely, values, strict=True)
            )
            for _ in range(chance.randint(1, 20))
        ]
        expected = response()
        try:
            for each in rows:
                getattr(expected, into.name).add(**build(each))
        except (MappingMismatch, ValueError, TypeError):
            with pytest.raises((ValueError, ArithmeticError, TypeError, LookupError)):
                encode(rows)
            continue
        assert response.FromString(encode(rows)) == expected
        assert response.FromString(encode(rows)) == expected


def slots() -> tuple[RowPlan, Any]:
    """The plan of zebone's ListSlots, and the field that it fills."""
    return next((plan, into) for name, plan, into in plans() if name == "zebone CatalogService.ListSlots")


def slot_rows(count: int, **columns: Callable[[int], Any]) -> list[tuple[Any, ...]]:
    """Rows of zebone's ListSlots. ``columns``: what a row's number gives in a column."""
    given: dict[str, Callable[[int], Any]] = {
        "ticket": lambda number: f"K{number}",
        "pk_sch": lambda _: "S1",
        "ticket_no": lambda number: number,
        "begin_time": lambda _: "2026-03-02 08:00:00",
        "end_time": lambda _: None,
        "state": lambda number: ("FREE", "TAKEN")[number % 2],
        "free": lambda number: number % 2,
        **columns,
    }
    return [tuple(given[name](number) for name in slots()[0].columns) for number in range(count)]


def agree(rows: list[tuple[Any, ...]]) -> None:
    plan, into = slots()
    encode, build = plan.encoder(into, plan.columns), plan.builder(plan.columns)
    assert encode is not None
    response = GetMessageClass(into.containing_type)
    expected = response()
    for row in rows:
        getattr(expected, into.name).add(**build(row))
    assert response.FromString(encode(rows)) == expected


def test_more_values_than_a_cache_holds() -> None:
    for turn in range(4):
        agree(slot_rows(3_000, ticket_no=lambda number, turn=turn: turn * 3_000 + number))
        agree(slot_rows(30))


def test_other_types_come_again_and_again() -> None:
    sorts: list[Callable[[int], Any]] = [int, str, Decimal, float, lambda number: None if number % 2 else number]
    for turn in range(30):
        agree(slot_rows(20, ticket_no=sorts[turn % len(sorts)], free=sorts[(turn + 1) % 4]))
    agree(slot_rows(20, begin_time=lambda _: datetime(2026, 3, 2, 8), end_time=lambda _: time(9)))


def test_text_that_is_long_blank_chinese_or_none() -> None:
    texts = ["x" * 127, "x" * 128, "x" * 5_000, "张" * 60, " 号 ", "é"]
    agree(slot_rows(60, ticket=lambda number: texts[number % len(texts)] + str(number)))
    agree(slot_rows(60, pk_sch=lambda number: texts[number % len(texts)]))


def test_one_text_in_every_row_and_then_what_equals_it_and_is_none() -> None:
    plan, into = slots()
    encode = plan.encoder(into, plan.columns)
    assert encode is not None
    agree(slot_rows(20, pk_sch=lambda _: 1))
    for last in (True, None, " ", b"1"):
        with pytest.raises((ValueError, TypeError)):
            encode(slot_rows(20, pk_sch=lambda number, last=last: last if number == 19 else 1))


def test_threads_share_an_encoder() -> None:
    """Each with other types, so that it is made anew while others use it."""
    sorts: list[Callable[[int], Any]] = [int, str, Decimal, float]
    failures: list[Exception] = []

    def work(sort: Callable[[int], Any]) -> None:
        try:
            for size in range(1, 60):
                agree(slot_rows(size, ticket_no=sort, free=lambda number: sort(number % 2)))
        except (AssertionError, ValueError, TypeError, LookupError) as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(sort,)) for sort in sorts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_every_list_agrees_on_rows_that_fit() -> None:
    """Each column in turn gets everything; the others are what fitted before, so that much of it is right."""
    values = [1, "1", "A", "08:30", "2026-03-01", "20260301", "2026-03-01 08:30:00", "FREE", date(2026, 3, 1), None]
    agreed = 0
    for _, plan, into in plans():
        encode, build = plan.encoder(into, plan.columns), plan.builder(plan.columns)
        response = GetMessageClass(into.containing_type)
        row: list[Any] = [1] * len(plan.columns)
        for at in range(len(row)):
            kept = row[at]
            for value in values:
                row[at] = value
                expected = response()
                try:
                    getattr(expected, into.name).add(**build(tuple(row)))
                except MappingMismatch:
                    continue
                kept = value
                assert encode is None or response.FromString(encode([tuple(row)] * 2)) == response.FromString(
                    expected.SerializeToString() * 2
                )
                agreed += 1
            row[at] = kept
    assert agreed > 0
