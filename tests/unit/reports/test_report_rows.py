"""Rows are written as bytes by hand: they must be just what protobuf writes, and come back."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from google.protobuf import timestamp_pb2
from google.type import date_pb2
from his160.v1 import report_pb2
from hypothesis import given
from hypothesis import strategies as st

from his_db.report_rows import NULL, as_page, encoder, number_value, page_rows, row_values, text_value

VALUE = st.one_of(st.none(), st.text(min_size=1, max_size=300), st.integers(-(2**63), 2**63 - 1))
ZONE = ZoneInfo("Asia/Shanghai")


def by_hand(values: list[str | int | None]) -> bytes:
    return b"".join([NULL if v is None else text_value(v) if isinstance(v, str) else number_value(v) for v in values])


def by_protobuf(values: list[str | int | None]) -> report_pb2.ReportRow:
    row = report_pb2.ReportRow()
    for value in values:
        cell = row.values.add()
        if isinstance(value, str):
            cell.text = value
        elif value is not None:
            cell.number = value
    return row


@given(st.lists(VALUE, max_size=8))
def test_a_row_is_what_protobuf_writes(values: list[str | int | None]) -> None:
    assert by_hand(values) == by_protobuf(values).SerializeToString(deterministic=True)
    assert list(row_values(by_hand(values))) == values


@given(st.lists(st.lists(VALUE, max_size=3), max_size=5))
def test_a_page_is_a_response_with_rows_and_comes_apart_again(rows: list[list[str | int | None]]) -> None:
    page = as_page([by_hand(row) for row in rows])
    wanted = report_pb2.ReadReportResponse(rows=[by_protobuf(row) for row in rows])
    assert page == wanted.SerializeToString(deterministic=True)
    assert list(page_rows(page)) == [by_hand(row) for row in rows]


def test_dates_and_times_are_text_of_the_hospital() -> None:
    assert encoder("date", ZONE)(date_pb2.Date(year=2026, month=3, day=2)) == text_value("2026-03-02")
    moment = timestamp_pb2.Timestamp(seconds=int(datetime(2026, 3, 1, 16, 5, 6, tzinfo=UTC).timestamp()))
    assert encoder("time", ZONE)(moment) == text_value("2026-03-02 00:05:06")
