"""Lists by way of the wire format: the same messages as the builder's, for whatever a driver gives, or none at all."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from his_db.errors import MappingMismatch
from his_db.mapping.load import load_mapping_set
from his_db.mapping.rows import RowPlan

PACKS = Path(__file__).parents[3] / "his_db" / "packs"
ENGINES = {"zebone": "sqlite", "winning": "postgresql", "bsoft": "mysql", "neusoft": "oracle", "winning_mssql": "mssql"}


def plans() -> list[tuple[str, RowPlan, Any]]:
    """The row plan of every list of every pack, and the field that it fills."""
    found = []
    for pack, engine in ENGINES.items():
        mappings = load_mapping_set(PACKS / pack / "mappings", sources={"his": engine}, timezone="Asia/Shanghai")
        for name, mapping in mappings.operations.items():
            for result in mapping.results:
                if result.rows != "many" or result.segments is not None:
                    continue
                into = mapping.operation.response.fields_by_name[result.into]
                plan = RowPlan(
                    into.message_type,
                    result.fields,
                    codes=mapping.site.codes,
                    zone=ZoneInfo("Asia/Shanghai"),
                    label=name,
                )
                found.append((f"{pack} {name}", plan, into))
    return found


PLANS = plans()
TEXTS = ["", " ", "A", " 张三 ", "1", "0", "08:30", "2026-03-01", "20260301", "2026-03-01 08:30:00", "FREE", "TAKEN"]
TEXTS += ["T", "F", "x" * 127, "x" * 128, "张" * 6000, "\ud800", "12.30", "M", "2", "9"]
GIVEN = st.one_of(
    st.none(),
    st.sampled_from(TEXTS),
    st.sampled_from([0, 1, 2, 7, -1, 2**31, 2**40, 2**70, True, False, 1.0, 0.0, 1.5, float("nan")]),
    st.sampled_from([Decimal("0"), Decimal("1.00"), Decimal("12.305"), Decimal("-1"), Decimal("NaN")]),
    st.sampled_from(
        [
            date(2026, 3, 1),
            time(8, 30),
            time(0),
            time(8, 30, tzinfo=UTC),
            datetime(2026, 3, 1, 8, 30),
            datetime(2026, 3, 1, 8, 30, tzinfo=UTC),
            datetime(2026, 3, 1, 16, 30, tzinfo=ZoneInfo("Asia/Shanghai")),
            timedelta(hours=8),
            b"\xd5\xc5",
            bytearray(b"x"),
        ]
    ),
)


def test_most_lists_of_the_packs_have_one() -> None:
    made = [plan.encoder(into, plan.columns) for _, plan, into in PLANS]
    assert len(made) > 30
    assert sum(each is not None for each in made) >= 0.9 * len(made)


@settings(max_examples=1500, deadline=None)
@given(data=st.data())
def test_either_the_builder_s_messages_or_an_error(data: st.DataObject) -> None:
    _, plan, into = data.draw(st.sampled_from(PLANS))
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


def test_every_list_agrees_on_rows_that_fit() -> None:
    """Each column in turn gets everything; the others are what fitted before, so that much of it is right."""
    values = [1, "1", "A", "08:30", "2026-03-01", "20260301", "2026-03-01 08:30:00", "FREE", date(2026, 3, 1), None]
    agreed = 0
    for _, plan, into in PLANS:
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
