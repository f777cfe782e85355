"""HIS -> contract: one value of a driver into what a field of a message takes. Compiled once, strict, never a guess.

Every converter takes what the driver gave and returns the field's value, or None for "absent" (NULL, blank text).
It raises Unconvertible otherwise. Values met in real systems: domain facts 1.10, 5.1, 5.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from google.protobuf import timestamp_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.type import date_pb2, timeofday_pb2

from his_db import contract
from his_db.mapping.formats import Moment, compile_parser
from his_db.mapping.model import CodeMap, FieldSpec
from his_db.mapping.paths import sort_of

Convert = Callable[[Any], Any]

_CENT: Final = Decimal("0.01")
_INT64: Final = (-(2**63), 2**63 - 1)
_RANGES: Final[Mapping[int, tuple[int, int]]] = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
}
_EXACT_FLOAT: Final = 2**53
_CACHED: Final = 256  # a column of clinic dates or times has few different values
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - UTC, compared with naive UTC only
_DAY: Final = timedelta(days=1)


class Unconvertible(ValueError):
    """A value does not fit. The text says why and never holds the value: it may be a patient's."""


class UnknownCode(Unconvertible):
    """A code value that the mapping does not know; `code` is counted, never shown as it is."""

    def __init__(self, detail: str, code: str) -> None:
        super().__init__(detail)
        self.code = code


def code_text(value: object) -> str:
    """A value as code maps compare it: text, trimmed; whole numbers without a point; booleans as 1 and 0."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, Decimal) and value.is_finite():
        whole = value.to_integral_value()
        return str(int(whole)) if whole == value else format(value.normalize(), "f")
    if isinstance(value, datetime):
        return value.isoformat(" ")
    return str(value)


def text(value: Any) -> str | None:
    """Trimmed text; None when blank."""
    found = plain_text(value).strip()
    return found or None


def plain_text(value: Any) -> str:
    """A value that is text, or that has exactly one form as text."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        raise Unconvertible("is a boolean where text is wanted")
    if isinstance(value, (int, UUID)):
        return str(value)
    if isinstance(value, (Decimal, float)):
        if not math.isfinite(value):
            raise Unconvertible("is not a finite number")
        if isinstance(value, float) and (not value.is_integer() or abs(value) > _EXACT_FLOAT):
            raise Unconvertible("is a floating-point number: as text it has no certain form")
        return code_text(value)
    raise Unconvertible("cannot be taken as text")


def whole(value: Any) -> int:
    """A whole number from int, Decimal, float without fraction, or ASCII digits."""
    if isinstance(value, bool):
        raise Unconvertible("is a boolean where a number is wanted")
    if isinstance(value, int):
        return value
    number = _decimal(value)
    rounded = number.to_integral_value()
    if rounded != number:
        raise Unconvertible("is not a whole number")
    return int(rounded)


def _decimal(value: Any) -> Decimal:
    if isinstance(value, bool):
        raise Unconvertible("is a boolean where a number is wanted")
    if isinstance(value, (int, Decimal)):
        number = Decimal(value)
    elif isinstance(value, float):
        number = Decimal(
            repr(value)
        )  # repr: the shortest text that means this float, 12.3 and not 12.300000000000000711
    elif isinstance(value, str):
        number = _decimal_of_text(value.strip())
    else:
        raise Unconvertible("is not a number")
    # A bound on the exponent too: the integer of 1e999999999 would fill the memory.
    if not number.is_finite() or number.adjusted() > 20:
        raise Unconvertible("is not a number that can be used")
    return number


def _decimal_of_text(digits: str) -> Decimal:
    if not digits.isascii() or "_" in digits:
        raise Unconvertible("is text that is not a number in ASCII digits")
    try:
        return Decimal(digits)
    except InvalidOperation:
        raise Unconvertible("is text that is not a number") from None


def yuan(value: Any) -> int:
    """元 -> 分, half up to the fen: 12.3, 12.299999999, "12.30" are 1230."""
    return int(_decimal(value).quantize(_CENT, ROUND_HALF_UP).scaleb(2))


def _in_range(convert: Convert, limits: tuple[int, int]) -> Convert:
    low, high = limits

    def checked(value: Any) -> Any:
        number = convert(value)
        if low <= number <= high:
            return number
        raise Unconvertible("is out of the range of the field")

    return checked


def codes_converter(codes: CodeMap, convert: Callable[[Any], Any]) -> Convert:
    """Through a code map; `convert` turns a contract value of the map (text of the file) into the field's value."""
    table = {code_text(pair.his): convert(pair.value) for pair in codes.pairs}
    otherwise = None if codes.otherwise is None else convert(codes.otherwise)

    def look_up(value: Any) -> Any:
        found = table.get(code_text(value), otherwise)
        if found is None:
            raise UnknownCode(f"is a code that the code map {codes.name} does not know", code_text(value))
        return found

    return look_up


def enum_value(field: FieldDescriptor) -> Callable[[Any], int]:
    """Short name (or full name) -> number; also for `const`, `default` and code maps."""
    enum = field.enum_type
    assert enum is not None
    numbers = dict(contract.enum_numbers(enum))
    numbers.update({contract.enum_prefix(enum) + name: number for name, number in numbers.items()})

    def convert(value: Any) -> int:
        number = numbers.get(value.strip()) if isinstance(value, str) else None
        if number is None:
            raise UnknownCode(f"is no value of {enum.name} and has no code map", code_text(value))
        return number

    return convert


def _bool_converter(true: tuple[Any, ...] | None) -> Convert:
    if true is None:

        def plain(value: Any) -> bool:
            found = code_text(value)
            if found in {"0", "1"}:
                return found == "1"
            raise Unconvertible("is neither true/false nor 0/1; say in `true` which values mean true")

        return plain
    known = frozenset(code_text(item) for item in true)
    return lambda value: code_text(value) in known


def _parsed(parse: Callable[[str], Moment | None], value: str) -> Moment:
    moment = parse(value.strip())
    if moment is None:
        raise Unconvertible("is text that has not the format of the mapping")
    return moment


def date_converter(formats: tuple[str, ...]) -> Convert:
    """google.type.Date from a native date or datetime, or from text (or digits as a number) in one of the formats."""
    parse = compile_parser(formats) if formats else None

    @lru_cache(maxsize=_CACHED)
    def read(value: str) -> date_pb2.Date:
        if parse is None:
            raise Unconvertible("is no native date, and the mapping has no format for it")
        year, month, day = _parsed(parse, value)[:3]
        _day(year, month, day)
        return date_pb2.Date(year=year, month=month, day=day)

    def convert(value: Any) -> date_pb2.Date:
        if isinstance(value, date):
            return date_pb2.Date(year=value.year, month=value.month, day=value.day)
        return read(plain_text(value))

    return convert


def _day(year: int, month: int, day: int) -> date:
    try:
        return date(year, month, day)
    except ValueError:
        raise Unconvertible("is a date that does not exist") from None


def time_converter(formats: tuple[str, ...]) -> Convert:
    """google.type.TimeOfDay from a native time, datetime or timedelta (MySQL TIME), or from text. 24:00:00 is one."""
    parse = compile_parser(formats) if formats else None

    @lru_cache(maxsize=_CACHED)
    def read(value: str) -> timeofday_pb2.TimeOfDay:
        if parse is None:
            raise Unconvertible("is no native time, and the mapping has no format for it")
        hour, minute, second, micro = _parsed(parse, value)[3:]
        _check_clock(hour, minute, second, micro)
        return timeofday_pb2.TimeOfDay(hours=hour, minutes=minute, seconds=second, nanos=micro * 1000)

    def convert(value: Any) -> timeofday_pb2.TimeOfDay:
        if isinstance(value, (time, datetime)):
            hour, minute, second, micro = value.hour, value.minute, value.second, value.microsecond
        elif isinstance(value, timedelta):
            if not timedelta(0) <= value <= _DAY:
                raise Unconvertible("is a time outside the day")
            minute, second = divmod(value.days * 86400 + value.seconds, 60)
            hour, minute = divmod(minute, 60)
            micro = value.microseconds
        else:
            return read(plain_text(value))
        return timeofday_pb2.TimeOfDay(hours=hour, minutes=minute, seconds=second, nanos=micro * 1000)

    return convert


def _check_clock(hour: int, minute: int, second: int, micro: int) -> None:
    is_end_of_day = hour == 24 and not (minute or second or micro)
    if (hour > 23 and not is_end_of_day) or minute > 59 or second > 59:
        raise Unconvertible("is a time that does not exist")


def timestamp(moment: datetime, zone: ZoneInfo) -> timestamp_pb2.Timestamp:
    """A Timestamp; a naive datetime is the wall clock of `zone`."""
    aware = moment.replace(tzinfo=zone) if moment.tzinfo is None else moment
    offset = aware.utcoffset() or timedelta(0)
    since = aware.replace(tzinfo=None) - offset - _EPOCH
    return timestamp_pb2.Timestamp(seconds=since.days * 86400 + since.seconds, nanos=since.microseconds * 1000)


def timestamp_converter(formats: tuple[str, ...], zone: ZoneInfo) -> Convert:
    """Timestamp from a native datetime or from text in one of the formats."""
    parse = compile_parser(formats) if formats else None

    def convert(value: Any) -> timestamp_pb2.Timestamp:
        if isinstance(value, datetime):
            return timestamp(value, zone)
        if parse is None:
            raise Unconvertible("is no native date and time, and the mapping has no format for it")
        return timestamp(_datetime(_parsed(parse, plain_text(value))), zone)

    return convert


def _datetime(moment: Moment) -> datetime:
    year, month, day, hour, minute, second, micro = moment
    _check_clock(hour, minute, second, micro)
    found = datetime.combine(_day(year, month, day), time(hour % 24, minute, second, micro))
    return found + _DAY if hour == 24 else found


def two_column_converter(spec: FieldSpec, zone: ZoneInfo) -> Callable[[Any, Any], Any]:
    """Timestamp from a date column and a time column: native both, each with its format, or joined as text."""
    read_date = date_converter(spec.date_formats)
    read_time = time_converter(spec.time_formats)
    joined = compile_parser(spec.formats) if spec.formats else None

    def convert(day: Any, clock: Any) -> timestamp_pb2.Timestamp:
        if joined is not None and isinstance(day, (str, int)) and isinstance(clock, (str, int)):
            both = plain_text(day).strip() + plain_text(clock).strip()
            return timestamp(_datetime(_parsed(joined, both)), zone)
        date_part, time_part = read_date(day), read_time(clock)
        moment = (date_part.year, date_part.month, date_part.day, time_part.hours, time_part.minutes, time_part.seconds)
        return timestamp(_datetime((*moment, time_part.nanos // 1000)), zone)

    return convert


def converter(field: FieldDescriptor, spec: FieldSpec, codes: Mapping[str, CodeMap], zone: ZoneInfo) -> Convert:
    """The converter of a mapped field, NULL, blanks, `empty` and `default` included. For one column."""
    absent = default_value(field, spec)
    inner = _contains(field, spec, absent) if spec.contains else _by_sort(field, spec, codes, zone)
    empty = frozenset(code_text(item) for item in spec.empty)
    if is_plain_text(field, spec):

        def plain(value: Any) -> Any:
            if type(value) is str:
                return value.strip() or None
            return None if value is None else inner(value)

        return plain

    def convert(value: Any) -> Any:
        if value is None or (type(value) is str and not value.strip()):
            return absent
        if empty and code_text(value) in empty:
            return absent
        return inner(value)

    if spec.charset:
        return lambda value: convert(None if value is None else raw_text(value))
    return convert


def is_plain_text(field: FieldDescriptor, spec: FieldSpec) -> bool:
    """Whether the converter of the field does nothing but `text`: a str is trimmed, and blank is absent."""
    special = spec.codes or spec.charset or spec.contains or spec.empty or not spec.trim or spec.default is not None
    return sort_of(field) == "text" and not special


def raw_text(value: Any) -> str:
    """GBK bytes of a US7ASCII column, read raw (UTL_RAW.CAST_TO_RAW). Never guessed from a text already converted."""
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise Unconvertible("is not raw: select UTL_RAW.CAST_TO_RAW(column)")
    try:
        return bytes(value).decode("gb18030")
    except UnicodeDecodeError:
        raise Unconvertible("is not in GBK") from None


def _contains(field: FieldDescriptor, spec: FieldSpec, absent: Any) -> Convert:
    """A value found in a note: the first text that the column holds. None of them: as if it were absent."""
    table = tuple((text, fixed_value(field, value)) for text, value in spec.contains)

    def search(value: Any) -> Any:
        note = plain_text(value)
        return next((found for text, found in table if text in note), absent)

    return search


def default_value(field: FieldDescriptor, spec: FieldSpec) -> Any:
    """What an absent value becomes: `default` of the mapping, or None."""
    return None if spec.default is None else fixed_value(field, spec.default)


def _by_sort(field: FieldDescriptor, spec: FieldSpec, codes: Mapping[str, CodeMap], zone: ZoneInfo) -> Convert:
    sort = sort_of(field)
    if sort == "enum":
        by_name = enum_value(field)
        return codes_converter(codes[spec.codes], by_name) if spec.codes else by_name
    if sort in {"text", "map"}:
        if spec.codes:
            return codes_converter(codes[spec.codes], code_text)
        return text if spec.trim else plain_text
    if sort == "money":
        return _in_range(yuan if spec.money == "yuan" else whole, _INT64)
    if sort == "int":
        inner = codes_converter(codes[spec.codes], whole) if spec.codes else whole
        return _in_range(inner, _RANGES.get(field.type, _INT64))
    if sort == "bool":
        return _bool_converter(spec.true)
    if sort == "date":
        return date_converter(spec.date_formats or spec.formats)
    if sort == "time":
        return time_converter(spec.time_formats or spec.formats)
    return timestamp_converter(spec.formats or spec.date_formats, zone)


def fixed_value(field: FieldDescriptor, value: Any) -> Any:
    """`const` or `default` of the mapping as the field's value. Raises Unconvertible when it does not fit."""
    sort = sort_of(field)
    if sort == "enum":
        return enum_value(field)(value)
    if sort in {"text", "map"}:
        if not isinstance(value, (str, int)):
            raise Unconvertible("is not text")
        return code_text(value)
    if sort in {"int", "money"}:
        if not isinstance(value, int):
            raise Unconvertible("is not a whole number")
        return _in_range(whole, _RANGES.get(field.type, _INT64))(value)
    if sort == "bool":
        if not isinstance(value, bool):
            raise Unconvertible("is not true or false")
        return value
    if sort == "date" and isinstance(value, date):
        return date_converter(())(value)
    if sort == "time" and isinstance(value, time):
        return time_converter(())(value)
    raise Unconvertible("does not fit the field")
