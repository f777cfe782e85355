"""Contract -> HIS: one value of a request, or of the call, into what is bound. Compiled once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final

from his_db.mapping.convert_in import code_text
from his_db.mapping.formats import compile_parser, compile_writer, has_date
from his_db.mapping.model import CodeMap, Transform


class Unbindable(ValueError):
    """A value of the request that this HIS cannot take. The text says why and never holds the value."""


Change = Callable[[Any], Any]
RAW: Final = "gbk-raw"
_DIGITS: Final = 18  # what a 64-bit column certainly holds


def change_of(transform: Transform, codes: Mapping[str, CodeMap]) -> Change:
    """What happens to a value before it is bound. None and '' are bound as NULL unless `empty = "keep"`."""
    steps = _steps(transform, codes)
    keeps_empty = transform.keeps_empty

    def change(value: Any) -> Any:
        if value is None or value == "":
            return "" if keeps_empty else None
        for step in steps:
            value = step(value)
        return _without_nul(value) if type(value) is str else value

    return change


def plain_text(value: str) -> str | None:
    """Text of a request as it is bound where the mapping changes nothing. Raises Unbindable."""
    return _without_nul(value) if value else None


def _without_nul(value: str) -> str:
    if "\0" in value:
        raise Unbindable("holds a NUL character")
    return value


def _steps(transform: Transform, codes: Mapping[str, CodeMap]) -> tuple[Change, ...]:
    steps: list[Change] = []
    if transform.part is not None:
        steps.append(_only_text(_part_of(transform.split or "#", transform.part)))
    read = transform.read or ("%H%M" if transform.part is not None and transform.moment else "")
    if read:
        steps.append(_only_text(_reader(read)))
    if transform.digits or transform.number:
        steps.append(_digits(as_number=transform.number))
    if transform.codes:
        steps.append(backwards(codes[transform.codes]))
    if transform.moment:
        steps.append(_writer(transform.moment))
    if transform.money == "yuan":
        steps.append(lambda value: Decimal(value).scaleb(-2).quantize(Decimal("0.01")))
    if transform.case:
        steps.append(_only_text(str.upper if transform.case == "upper" else str.lower))
    charset = "gbk" if transform.charset == RAW else transform.charset
    if transform.max_bytes:
        steps.append(_only_text(_limit(transform.max_bytes, lambda text: _bytes(text, charset), transform.cuts)))
    if transform.max_chars:
        steps.append(_only_text(_limit(transform.max_chars, len, transform.cuts)))
    if transform.pad:
        width = transform.pad
        steps.append(_only_text(lambda value: value.ljust(width)))
    if transform.charset == RAW:
        steps.append(_only_text(_raw))
    return tuple(steps)


def backwards(codes: CodeMap) -> Change:
    """Contract value -> HIS code. One pair of each value is not `back = false`: the check sees to it."""
    table: dict[str, Any] = {}
    for pair in codes.pairs:
        if pair.back:
            table.setdefault(code_text(pair.value), pair.his)
    otherwise = codes.otherwise_back

    def look_up(value: Any) -> Any:
        found = table.get(code_text(value), otherwise)
        if found is None:
            raise Unbindable(f"is a value that the code map {codes.name} has no HIS code for")
        return found

    return look_up


def _writer(text: str) -> Change:
    write = compile_writer(text)

    def convert(value: Any) -> str:
        if isinstance(value, (date, time, datetime)):
            return write(value)
        raise Unbindable("is neither a date nor a time")

    return convert


def _only_text(change: Callable[[str], Any]) -> Change:
    return lambda value: change(value if isinstance(value, str) else code_text(value))


def _limit(limit: int, size: Callable[[str], int], cuts: bool) -> Callable[[str], str]:
    """What the column holds. Longer text is refused, or cut, never through a character."""

    def fitted(value: str) -> str:
        if size(value) <= limit:
            return value
        if not cuts:
            raise Unbindable("is longer than the column of the HIS")
        used = 0
        for at, char in enumerate(value):
            used += size(char)
            if used > limit:
                return value[:at]
        return value

    return fitted


def _bytes(value: str, charset: str) -> int:
    return len(value.encode(charset, "replace"))


def _raw(value: str) -> bytes:
    """For UTL_RAW.CAST_TO_VARCHAR2: GBK bytes in a database that calls itself US7ASCII."""
    try:
        return value.encode("gbk")
    except UnicodeEncodeError:
        raise Unbindable("holds a character that GBK does not have") from None


def _part_of(split: str, part: int) -> Callable[[str], str | None]:
    """One part of a key that the mapping put together (`schedule#HHMM`)."""

    def take(value: str) -> str:
        found = value.split(split)
        if part >= len(found) or not found[part]:
            raise Unbindable(f"has no part {part}")
        return found[part]

    return take


def _reader(text: str) -> Callable[[str], date | time]:
    parse, is_date = compile_parser((text,)), has_date(text)

    def convert(value: str) -> date | time:
        moment = parse(value)
        if moment is None:
            raise Unbindable("has not the format that the mapping reads")
        try:
            clock = time(*moment[3:])
            return datetime.combine(date(*moment[:3]), clock) if is_date else clock
        except ValueError:
            raise Unbindable("is a date or time that does not exist") from None

    return convert


def _digits(*, as_number: bool) -> Change:
    """An id that the HIS keeps as a number: letters in it are the request's fault, not the mapping's."""

    def convert(value: Any) -> Any:
        found = code_text(value).strip()
        if not found.isascii() or not found.isdigit() or len(found) > _DIGITS:
            raise Unbindable("is not a number in digits")
        return int(found) if as_number else found

    return convert
