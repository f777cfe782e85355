"""Rows of a report as bytes of the contract: `ReportRow` in its deterministic serialisation, written straight.

A report has a million rows of thirty values; as message objects they would cost ten times the time and the memory.
`tests/unit/test_report_rows.py` holds the bytes against protobuf's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

from google.protobuf import timestamp_pb2
from google.type import date_pb2
from his160.v1 import report_pb2

Encode = Callable[[Any], bytes]

NULL: Final = b"\x0a\x00"
_ROWS_TAG: Final = bytes([report_pb2.ReadReportResponse.ROWS_FIELD_NUMBER << 3 | 2])


def varint(number: int) -> bytes:
    """An unsigned number as protobuf writes it."""
    if number < 0x80:
        return bytes((number,))
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


@lru_cache(maxsize=8192)
def number_value(number: int) -> bytes:
    """A count, an amount in 分 or a share."""
    inner = b"\x10" + varint(number << 1 if number >= 0 else (-number << 1) - 1)
    return b"\x0a" + varint(len(inner)) + inner


def text_value(text: str) -> bytes:
    """A text. Raises UnicodeEncodeError for half a surrogate pair."""
    content = text.encode()
    inner = b"\x0a" + varint(len(content)) + content
    return b"\x0a" + varint(len(inner)) + inner


@lru_cache(maxsize=1024)
def _day_value(year: int, month: int, day: int) -> bytes:
    return text_value(f"{year:04d}-{month:02d}-{day:02d}")


def encoder(kind: str, zone: ZoneInfo) -> Encode:
    """From what a column of this kind is converted to (`his_db.mapping.check_report.FIELD_OF_KIND`) to its bytes."""
    if kind == "text":
        return text_value
    if kind == "date":

        def day(value: date_pb2.Date) -> bytes:
            return _day_value(value.year, value.month, value.day)

        return day
    if kind == "time":

        def moment(value: timestamp_pb2.Timestamp) -> bytes:
            return text_value(datetime.fromtimestamp(value.seconds, zone).strftime("%Y-%m-%d %H:%M:%S"))

        return moment
    return number_value


def as_page(rows: Iterable[bytes]) -> bytes:
    """Rows as the content of a `ReadReportResponse` that holds nothing else."""
    return b"".join([_ROWS_TAG + varint(len(row)) + row for row in rows])


def page_rows(page: bytes) -> Iterator[bytes]:
    """The rows of `as_page`, each as its bytes."""
    at, end = 0, len(page)
    while at < end:
        at += 1
        length = shift = 0
        while True:
            byte = page[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        yield page[at : at + length]
        at += length


def row_values(row: bytes) -> Sequence[str | int | None]:
    """The values of one row: text, number, or None."""
    found = report_pb2.ReportRow.FromString(row).values
    return [_plain(value) for value in found]


def _plain(value: report_pb2.ReportValue) -> str | int | None:
    which = value.WhichOneof("value")
    if which is None:
        return None
    return value.text if which == "text" else value.number
