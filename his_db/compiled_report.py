"""One report of the mappings, compiled: what is asked, and how its rows become rows of the contract.

Rows are taken from the driver in pieces (`Session.stream`) and handed on as bytes, so that a million of them cost the
memory of one piece. Runs in the thread of the lane `report`.
"""

from __future__ import annotations

import hashlib
import time as clock
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any, Final, Protocol
from zoneinfo import ZoneInfo

from google.protobuf.descriptor import FieldDescriptor
from his160.v1 import report_pb2

from his_db.engine import Parameter, ParameterKind, ProcedurePlan, Rows, Session
from his_db.errors import AnswerTooLarge, DeadlinePassed, HisChanged, MappingMismatch
from his_db.kind import Call, Flow, wall_clock
from his_db.mapping.binding import Binder, compile_binder, entries_for
from his_db.mapping.check_report import FIELD_OF_KIND
from his_db.mapping.convert_in import Unconvertible, UnknownCode, converter, default_value, two_column_converter
from his_db.mapping.cron import Cron
from his_db.mapping.model import ReportColumnSpec, ReportMapping
from his_db.mapping.rows import column_places
from his_db.mapping.sql_text import binds
from his_db.mapping.tally import Tally
from his_db.masks import MASKS
from his_db.report_rows import NULL, Encode, encoder

PIECE: Final = 1000
_BAD_VALUE: Final = (ValueError, ArithmeticError, TypeError, OverflowError)
_UNIT: Final = "\x1f"
_ROW: Final = "\x1e"
_KINDS: Final = {name: report_pb2.ColumnKind.Value(f"COLUMN_KIND_{name.upper()}") for name in FIELD_OF_KIND}

Take = Callable[[Sequence[bytes]], None]
"""Gets each piece: rows as bytes of `ReportRow`. Called in the lane's thread."""


class ReportSink(Protocol):
    """Where rows go. Both are called in the lane's thread."""

    def begin(self) -> None:
        """What was taken until now is void."""

    def take(self, rows: Sequence[bytes]) -> None: ...


@dataclass(frozen=True, slots=True)
class ReportReading:
    """What one reading gave. `input_hash`: SHA-256 over the values that the mapping took from the HIS, as they came."""

    rows: int
    input_hash: bytes


@dataclass(frozen=True, slots=True)
class _Column:
    """One column: which columns of the result it reads, and how their values become bytes."""

    name: str
    places: tuple[str, ...]
    encode: Callable[..., bytes]
    field: FieldDescriptor


@dataclass(frozen=True, slots=True)
class CompiledReport:
    """`definition`: name, title and columns as the contract has them. `cron` None: it runs only when asked for.

    `period`: "day" or "month", of which a scheduled run is the last one that is over. `quiet`: hours in which it does
    not start, on the hospital's wall clock; over midnight where the end is the earlier.
    """

    name: str
    title: str
    note: str
    source: str
    definition: report_pb2.Report
    cron: Cron | None
    period: str
    quiet: tuple[tuple[time, time], ...]
    timeout: timedelta | None
    max_rows: int
    zone: ZoneInfo
    sql: str = field(repr=False)
    procedure: ProcedurePlan | None = field(repr=False)
    binder: Binder = field(repr=False)
    columns: tuple[_Column, ...] = field(repr=False)
    tally: Tally = field(default_factory=Tally, compare=False, repr=False)

    def read(
        self,
        session: Session,
        *,
        days: tuple[date, date],
        now: datetime,
        take: Take,
        stopped: Callable[[], bool] = lambda: False,
    ) -> ReportReading:
        """Read the rows of `days` (both included) and hand them on, piece by piece. `now`: aware.

        Raises MappingMismatch for a value that does not fit, AnswerTooLarge above `max_rows`, DeadlinePassed after its
        time-out or when it is `stopped`; and the driver's exceptions as they are.
        """
        limit = None if self.timeout is None else clock.monotonic() + self.timeout.total_seconds()
        digest = hashlib.sha256()
        count = 0
        pieces = self._pieces(session, days, now)
        try:
            for piece in pieces:
                if stopped() or (limit is not None and clock.monotonic() > limit):
                    raise DeadlinePassed(f"report {self.name}: stopped after {count} rows")
                count += len(piece.rows)
                if count > self.max_rows:
                    raise AnswerTooLarge(f"report {self.name}: more than max_rows = {self.max_rows} rows")
                take(self._encoded(piece, digest.update))
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()  # the statement ends now, not when memory is collected
        return ReportReading(count, digest.digest())

    def _pieces(self, session: Session, days: tuple[date, date], now: datetime) -> Iterator[Rows]:
        call = Call(request=None, moment=wall_clock(now, self.zone), window=days)
        values = self.binder.values(call, Flow())
        if self.procedure is None:
            return session.stream(self.sql, values, size=PIECE)
        sets = [rows for rows in session.call(self.procedure, values, max_rows=self.max_rows).sets if rows.columns]
        if not sets:
            raise HisChanged(f"report {self.name}: the procedure gave no result set")
        return iter(sets[:1])

    def _encoded(self, piece: Rows, note: Callable[[bytes], None]) -> list[bytes]:
        wanted = tuple(dict.fromkeys(name for column in self.columns for name in column.places))
        places = column_places(piece.columns, wanted, f"report {self.name}")
        order = [places[name] for name in wanted]
        plain = [_UNIT.join([_plain(row[at]) for at in order]) + _ROW for row in piece.rows]
        note("".join(plain).encode("utf-8", "replace"))
        single = [(column, places[column.places[0]]) for column in self.columns if len(column.places) == 1]
        if len(single) == len(self.columns):
            return [self._row(row, single) for row in piece.rows]
        spread = [(column, [places[name] for name in column.places]) for column in self.columns]
        return [
            b"".join([self._value(column, [row[at] for at in ats]) for column, ats in spread]) for row in piece.rows
        ]

    def _row(self, row: Sequence[Any], single: Sequence[tuple[_Column, int]]) -> bytes:
        try:
            return b"".join([column.encode(row[at]) for column, at in single])
        except _BAD_VALUE:  # which one it was is found out only now
            return b"".join([self._value(column, (row[at],)) for column, at in single])

    def _value(self, column: _Column, values: Sequence[Any]) -> bytes:
        try:
            return column.encode(*values)
        except _BAD_VALUE as error:
            if isinstance(error, UnknownCode):
                self.tally.add(f"report {self.name}", column.name, error.code)
            types = " and ".join(type(value).__name__ for value in values)
            why = str(error) if isinstance(error, Unconvertible) else "cannot be converted"
            source = " + ".join(column.places)
            raise MappingMismatch(
                f"report {self.name}: field {column.name}, column {source}: {types} value {why}"
            ) from None


def compile_report(mapping: ReportMapping) -> CompiledReport:
    """A report that passed the check."""
    zone = ZoneInfo(mapping.site.timezone)
    sql = mapping.sql()
    if mapping.object:
        params = [param for param in mapping.params if param.direction in {"in", "inout"}]
    else:
        params = list(entries_for(binds(sql, mapping.engine), mapping.params, in_watch=True))
    label = f"report {mapping.name}"
    return CompiledReport(
        name=mapping.name,
        title=mapping.title,
        note=mapping.values.get("note", ""),
        source=mapping.source,
        definition=report_pb2.Report(
            name=mapping.name,
            title=mapping.title,
            columns=[_described(column) for column in mapping.columns],
            subtotal_by=mapping.values.get("subtotal", ""),
        ),
        cron=Cron(mapping.schedule) if mapping.schedule else None,
        period=mapping.values.get("period", "day"),
        quiet=mapping.quiet_hours,
        timeout=mapping.timeout,
        max_rows=mapping.max_rows,
        zone=zone,
        sql=sql,
        procedure=_procedure(mapping) if mapping.object else None,
        binder=compile_binder(params, request=None, codes=mapping.site.codes, zone=zone, label=label),
        columns=tuple(_column(column, mapping, zone) for column in mapping.columns),
    )


def _described(column: ReportColumnSpec) -> report_pb2.ReportColumn:
    return report_pb2.ReportColumn(
        name=column.name, title=column.title, kind=_KINDS[column.kind], total=column.total, rate_of=column.rate
    )


def _procedure(mapping: ReportMapping) -> ProcedurePlan:
    parameters = tuple(Parameter(param.name, ParameterKind(param.direction), param.type) for param in mapping.params)
    return ProcedurePlan(mapping.object, parameters, mapping.function)


def _column(column: ReportColumnSpec, mapping: ReportMapping, zone: ZoneInfo) -> _Column:
    spec, about = column.field, FIELD_OF_KIND[column.kind]
    write = encoder(column.kind, zone)
    if column.mask:
        write = _masking(MASKS[column.mask], write)
    if spec.const is not None:
        raise ValueError(f"report {mapping.name}: a column is read, not given")
    names = tuple(name.casefold() for name in spec.columns())
    if spec.date_column:
        return _Column(column.name, names, _both(two_column_converter(spec, zone), write), about)
    convert = converter(about, spec, mapping.site.codes, zone)
    absent = default_value(about, spec)
    return _Column(column.name, names, _one(convert, write, NULL if absent is None else write(absent)), about)


def _one(convert: Callable[[Any], Any], write: Encode, absent: bytes) -> Callable[[Any], bytes]:
    def encode(value: Any) -> bytes:
        if value is None:
            return absent
        found = convert(value)
        return NULL if found is None else write(found)

    return encode


def _masking(mask: Callable[[str], str], write: Encode) -> Encode:
    def encode(value: str) -> bytes:
        return write(mask(value))

    return encode


def _both(convert: Callable[[Any, Any], Any], write: Encode) -> Callable[[Any, Any], bytes]:
    def encode(day: Any, moment: Any) -> bytes:
        if any(part is None or (isinstance(part, str) and not part.strip()) for part in (day, moment)):
            return NULL
        return write(convert(day, moment))

    return encode


def _plain(value: Any) -> str:
    if value is None:
        return "\0"
    if type(value) is str:
        return value
    return value.hex() if isinstance(value, (bytes, bytearray, memoryview)) else str(value)
