"""Contract -> HIS: one value of a request, or of the call, into what is bound. Compiled once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from his_db.mapping.convert_in import code_text
from his_db.mapping.formats import compile_writer
from his_db.mapping.model import CodeMap, Transform


class Unbindable(ValueError):
    """A value of the request that this HIS cannot take. The text says why and never holds the value."""


Change = Callable[[Any], Any]


def change_of(transform: Transform, codes: Mapping[str, CodeMap]) -> Change:
    """What happens to a value before it is bound. None and '' are bound as NULL unless `empty = "keep"`."""
    steps = _steps(transform, codes)
    keeps_empty = transform.keeps_empty

    def change(value: Any) -> Any:
        if value is None or value == "":
            return "" if keeps_empty else None
        for step in steps:
            value = step(value)
        if type(value) is str and "\0" in value:
            raise Unbindable("holds a NUL character")
        return value

    return change


def _steps(transform: Transform, codes: Mapping[str, CodeMap]) -> tuple[Change, ...]:
    steps: list[Change] = []
    if transform.codes:
        steps.append(backwards(codes[transform.codes]))
    if transform.moment:
        steps.append(_writer(transform.moment))
    if transform.money == "yuan":
        steps.append(lambda value: Decimal(value).scaleb(-2).quantize(Decimal("0.01")))
    if transform.case:
        steps.append(_only_text(str.upper if transform.case == "upper" else str.lower))
    if transform.max_bytes:
        steps.append(_only_text(_cutter(transform.max_bytes, transform.charset)))
    if transform.pad:
        width = transform.pad
        steps.append(_only_text(lambda value: value.ljust(width)))
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


def _only_text(change: Callable[[str], str]) -> Change:
    return lambda value: change(value if isinstance(value, str) else code_text(value))


def _cutter(limit: int, charset: str) -> Callable[[str], str]:
    """Cuts to what the column holds, never through a character."""

    def cut(value: str) -> str:
        encoded = value.encode(charset, "replace")
        if len(encoded) <= limit:
            return value
        used = 0
        for at, char in enumerate(value):
            used += len(char.encode(charset, "replace"))
            if used > limit:
                return value[:at]
        return value

    return cut
