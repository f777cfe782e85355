"""`params`, compiled: the values that are bound, from the request, the call, constants and earlier steps."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Final
from zoneinfo import ZoneInfo

from google.protobuf.descriptor import Descriptor
from his160.v1 import reason_pb2

from his_db.errors import HisRefused, HisUnavailable, MappingMismatch
from his_db.kind import Call, Flow
from his_db.mapping.convert_out import Change, Unbindable, change_of, plain_text
from his_db.mapping.model import CodeMap, OperationMapping, Param, Transform
from his_db.mapping.paths import getter, resolve, sort_of
from his_db.mapping.sql_text import binds
from his_db.secret_reference import SecretUnreadable, first_line, is_reference

Get = Callable[[Call, Flow], Any]

KEY: Final = re.compile(r"\$key([2-9]|[1-9][0-9])?")
PAGE_VALUES: Final = ("$page_after", "$page_limit")
WINDOW_VALUES: Final = ("$from_date", "$to_date")
CALL_VALUES: Final[Mapping[str, Get]] = {
    "$now": lambda call, flow: call.now,
    "$today": lambda call, flow: call.now.date(),
    "$lock_until": lambda call, flow: call.now + call.lock,
    "$lock_before": lambda call, flow: call.now - call.lock,
    "$page_after": lambda call, flow: None if call.page is None else call.page.after,
    "$page_limit": lambda call, flow: None if call.page is None else call.page.size + 1,
    "$from_date": lambda call, flow: None if call.window is None else call.window[0],
    "$to_date": lambda call, flow: None if call.window is None else call.window[1],
}


class Binder:
    """Makes the dict of binds of one statement for each call."""

    __slots__ = ("_entries", "_label")

    def __init__(self, entries: Sequence[tuple[str, Get, Change | None, str]], label: str) -> None:
        self._entries = tuple(entries)
        self._label = label

    def values(self, call: Call, flow: Flow) -> dict[str, Any]:
        """Bind name -> value. Raises HisRefused (INVALID_REQUEST) for a value that this HIS cannot take."""
        found: dict[str, Any] = {}
        for name, get, change, source in self._entries:
            try:
                found[name] = get(call, flow) if change is None else change(get(call, flow))
            except Unbindable as error:
                detail = f"{self._label}: {source} {error}"
                raise HisRefused(reason_pb2.REASON_INVALID_REQUEST, detail) from None
            except (ValueError, OverflowError, ArithmeticError):
                # A google.type.Date of 0000-13-40: its text names the value, so it is not repeated.
                raise HisRefused(reason_pb2.REASON_INVALID_REQUEST, f"{self._label}: {source} cannot be used") from None
        return found


def implicit(name: str, *, in_watch: bool = False) -> str:
    """Where a bind without an entry takes its value: a page value, a window value (in watches), else the request."""
    values = WINDOW_VALUES if in_watch else PAGE_VALUES
    return f"${name}" if f"${name}" in values else name


def entries_for(names: Iterable[str], params: Sequence[Param], *, in_watch: bool = False) -> tuple[Param, ...]:
    """For each bind its entry of `params`, or the one it has without saying."""
    known = {param.name: param for param in params}
    return tuple(
        known.get(name) or Param(name=name, path=(), source=implicit(name, in_watch=in_watch)) for name in names
    )


def compile_binder(
    params: Sequence[Param],
    *,
    request: Descriptor | None,
    codes: Mapping[str, CodeMap],
    zone: ZoneInfo,
    label: str,
) -> Binder:
    """The binder of these entries. They must have passed the check (ValueError otherwise)."""
    found = []
    for param in params:
        source = param.source or param.step or "a constant"
        # A constant is bound as the file has it, also when it is empty.
        change = change_of(param.transform, codes) if param.source or param.step else None
        get = _plain(param, request)
        if get is not None:
            change = None
        found.append((param.name, get or _get(param, request, zone, label), change, source))
    return Binder(found, label)


def sql_binder(mapping: OperationMapping, sql: str) -> Binder:
    """The binder of one statement of an operation."""
    return compile_binder(
        entries_for(binds(sql, mapping.engine), mapping.params),
        request=mapping.operation.request,
        codes=mapping.site.codes,
        zone=ZoneInfo(mapping.site.timezone),
        label=mapping.operation.name,
    )


def _plain(param: Param, request: Descriptor | None) -> Get | None:
    """The getter of a field of the request that is bound as it is, empty text as NULL; None: it is another."""
    if request is None or not param.source or param.transform != Transform():
        return None
    path = resolve(request, param.source)
    if path is None or len(path) > 1:
        return None
    sort, name = sort_of(path[0]), path[0].name
    if sort in {"int", "money"}:
        return lambda call, flow: getattr(call.request, name)
    if sort == "bool":
        return lambda call, flow: int(getattr(call.request, name))
    return (lambda call, flow: plain_text(getattr(call.request, name))) if sort == "text" else None


def _get(param: Param, request: Descriptor | None, zone: ZoneInfo, label: str) -> Get:
    if param.step:
        return _step_get(param.step, label)
    if not param.source:
        const = param.const
        return _secret_get(const, label) if isinstance(const, str) and is_reference(const) else lambda call, flow: const
    if param.source in CALL_VALUES:
        return CALL_VALUES[param.source]
    match = KEY.fullmatch(param.source)
    if match is not None:
        index = match[1] or "1"
        return lambda call, flow: derived_key(call.key, index)
    path = resolve(request, param.source) if request is not None else None
    if path is None:
        raise ValueError(f"no such request field: {param.source}")
    read = getter(path, zone)
    return lambda call, flow: read(call.request) if call.request is not None else None


def _secret_get(reference: str, label: str) -> Get:
    """The secret as it is at each call: a file may be renewed at any time."""

    def get(call: Call, flow: Flow) -> str:
        try:
            return first_line(reference)
        except SecretUnreadable as error:  # nothing was sent: the same call may come again
            raise HisUnavailable(f"{label}: {error}") from None

    return get


def _step_get(step: str, label: str) -> Get:
    name, _, column = step.partition(".")
    column = column.casefold()

    def get(call: Call, flow: Flow) -> Any:
        row = flow.get(name)
        if row is None:
            return None
        if column not in row:
            raise MappingMismatch(f"{label}: step {name} gives no column {column}")
        return row[column]

    return get


def derived_key(seed: str, index: str) -> str:
    """32 hex digits, the same for every retry of one request: `$key` is index 1."""
    return hashlib.sha256(f"{seed}{index}".encode()).hexdigest()[:32]


def window_dates(today: date, window: tuple[int, int]) -> tuple[date, date]:
    """First and last clinic date of a watch window (past days, future days)."""
    return date.fromordinal(today.toordinal() - window[0]), date.fromordinal(today.toordinal() + window[1])
