"""`[[result]]`, compiled: result sets -> the response of an operation, with paging and "not found"."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from zoneinfo import ZoneInfo

from google.protobuf.message import DecodeError, Message
from his160.v1 import reason_pb2

from his_db import contract
from his_db.contract import ContractOperation
from his_db.engine import Rows
from his_db.errors import AnswerTooLarge, HisRefused, MappingMismatch
from his_db.kind import Call
from his_db.mapping.model import FieldSpec, OperationMapping, ResultSpec
from his_db.mapping.paging import MAX_ROWS
from his_db.mapping.paths import resolve
from his_db.mapping.rows import RowPlan, column_places
from his_db.mapping.segments import SegmentPlan

# Reason when a result with rows = "one" has none and the mapping says nothing: by what was asked for.
_NOT_FOUND: Final[Mapping[str, str]] = {
    "AppointmentService.LockSlot": "SLOT_NOT_FOUND",
    "CatalogService.ListSlots": "SCHEDULE_NOT_FOUND",
    "PaymentService.CreatePayment": "APPOINTMENT_NOT_FOUND",
    "PaymentService.ConfirmPayment": "APPOINTMENT_NOT_FOUND",
    "PaymentService.RefundPayment": "PAYMENT_NOT_FOUND",
    "PaymentService.GetPayment": "PAYMENT_NOT_FOUND",
    "PaymentService.GetRefund": "REFUND_NOT_FOUND",
    "MerchantService.QueryTrade": "PAYMENT_NOT_FOUND",
    "MerchantService.QueryMixedTrade": "PAYMENT_NOT_FOUND",
    "MerchantService.QueryRefund": "REFUND_NOT_FOUND",
    "MobilePaymentService.QueryOrder": "PAYMENT_NOT_FOUND",
    "InsuranceGatewayService.GetPerson": "PATIENT_NOT_FOUND",
}
_NOT_FOUND_BY_SERVICE: Final[Mapping[str, str]] = {
    "AppointmentService": "APPOINTMENT_NOT_FOUND",
    "PatientService": "PATIENT_NOT_FOUND",
    "InsuranceService": "APPOINTMENT_NOT_FOUND",
    "CatalogService": "SCHEDULE_NOT_FOUND",
    "ReportService": "REPORT_NOT_FOUND",
    "InsuredRegistrationService": "APPOINTMENT_NOT_FOUND",
    "RefundCheckService": "APPOINTMENT_NOT_FOUND",
}


def default_not_found(operation: str) -> str:
    """Short name of the reason for "there is none", by operation."""
    return _NOT_FOUND.get(operation) or _NOT_FOUND_BY_SERVICE.get(operation.partition(".")[0], "HIS_REFUSED")


def reason_value(name: str) -> reason_pb2.Reason.ValueType:
    """Short name -> value of `his160.v1.Reason`. KeyError when there is none."""
    return reason_pb2.Reason.Value(f"REASON_{name}")


class ResultPlan:
    """All results of one mapping. Immutable but for the caches of its row plans."""

    __slots__ = ("_operation", "_pages", "_results")

    def __init__(self, mapping: OperationMapping) -> None:
        self._operation = mapping.operation
        zone = ZoneInfo(mapping.site.timezone)
        self._results = tuple(_Result(spec, mapping, zone) for spec in mapping.results)
        self._pages = any(result.spec.rows == "many" for result in self._results)

    @property
    def is_empty(self) -> bool:
        """Whether the mapping has no result at all."""
        return not self._results

    def max_rows(self, call: Call) -> int:
        """Most rows that a statement may give; one more is an error or the sign of a next page."""
        if not self._pages:
            return 1
        page = call.page
        return page.size + 1 if page is not None and page.is_keyset else MAX_ROWS

    def answer(
        self,
        call: Call,
        sets: Sequence[Rows],
        out: Mapping[str, Any] | None = None,
        sent: Mapping[str, Any] | None = None,
        cursors: Sequence[str] = (),
        done: bool = False,
    ) -> Message:
        """The response. `out` and `sent`: OUT and IN parameters of a procedure, each like a column with one row.
        `cursors`: lower-case names of its REF CURSOR parameters (of steps: of the steps), whose rows are the first
        `sets` in this order.
        `done`: a write is committed already, so that a missing row is no refusal any more, but a mismatch.

        Raises HisRefused (not found), MappingMismatch, AnswerTooLarge.
        """
        response = self._operation.response_class()
        given = None if len(sets) == 1 and not out and not sent else _Given(sets, _folded(out), _folded(sent), cursors)
        try:
            for result in self._results:
                result.fill(response, call, sets[0] if given is None else result.rows(given))
        except (HisRefused, AnswerTooLarge) as error:
            if done:
                raise MappingMismatch(f"the HIS did it, and then: {error.detail}") from None
            raise
        return response


class _Result:
    """One `[[result]]`."""

    __slots__ = ("_above", "_into", "_name", "_not_found", "_plan", "_segments", "spec")

    def __init__(self, spec: ResultSpec, mapping: OperationMapping, zone: ZoneInfo) -> None:
        operation = mapping.operation
        descriptor = operation.response
        fields: Sequence[FieldSpec] = spec.fields
        path = resolve(descriptor, spec.into) if spec.into else ()
        assert path is not None  # checked when the set was loaded
        if spec.rows == "many":
            item = path[-1].message_type
            assert item is not None
            descriptor = item
        elif spec.into:
            fields = tuple(replace(field, to=f"{spec.into}.{field.to}") for field in spec.fields)
        self.spec = spec
        self._into: Any = path[-1] if path else None
        self._above = tuple(field.name for field in path[:-1])
        self._name = operation.name
        self._not_found = reason_value(spec.not_found or default_not_found(operation.name))
        extra = (spec.page_key,) if spec.page_key else ()
        self._segments = None
        if spec.segments is not None:
            self._segments = SegmentPlan(spec.segments, operation.name)
            extra = (*extra, *spec.segments.columns())
        self._plan = RowPlan(
            descriptor,
            fields,
            codes=mapping.site.codes,
            zone=zone,
            label=operation.name,
            extra_columns=extra,
            tally=mapping.tally,
        )

    def fill(self, response: Message, call: Call, found: Rows) -> None:
        """Put the rows into the response; the builder names a column that is missing."""
        if self.spec.rows == "many":
            for name in self._above:  # the list stands in a message of the response
                response = getattr(response, name)
            self._fill_list(response, call, found)
            return
        if not found.rows:
            if self.spec.rows == "optional":
                return
            raise HisRefused(self._not_found, f"{self._name}: the HIS has no such row")
        if len(found.rows) > 1:
            raise MappingMismatch(f"{self._name}: more than one row where one was expected")
        response.MergeFrom(_message(type(response), self._plan.builder(found.columns)(found.rows[0]), self._name))

    def _fill_list(self, response: Message, call: Call, found: Rows) -> None:
        page = call.page
        rows: Sequence[Any] = found.rows
        build: Callable[[Any], dict[str, Any]] = self._plan.builder(found.columns) if rows else _as_it_is
        is_keyset = page is not None and page.is_keyset
        if self._segments is not None and rows:
            if len(rows) <= MAX_ROWS:
                rows = self._segments.expand(found.columns, rows, build)
            if getattr(call.request, "free_only", False):  # no SQL can leave out a segment
                rows = [slot for slot in rows if slot["free_count"]]
            build = _as_it_is
        if not is_keyset and len(rows) > MAX_ROWS:
            raise AnswerTooLarge(f"{self._name}: more than {MAX_ROWS} rows; ask for less, or page in the SQL")
        has_more = False
        if page is not None:
            start = page.offset
            has_more = len(rows) > start + page.size
            rows = rows[start : start + page.size]
        if rows and not self._encoded(response, found.columns, rows):
            add = getattr(response, self._into.name).add
            try:
                for row in rows:
                    add(**build(row))
            except (ValueError, TypeError) as error:
                raise _refused_by_protobuf(self._name, error) from None
        if page is not None and has_more:
            key: Any = page.offset + page.size
            if is_keyset:
                key = rows[-1][
                    column_places(found.columns, [self.spec.page_key], self._name)[self.spec.page_key.casefold()]
                ]
                if key is None:
                    raise MappingMismatch(f"{self._name}: page_key {self.spec.page_key} is NULL")
            response.next_page_token = page.token(key)  # type: ignore[attr-defined]

    def _encoded(self, response: Message, columns: tuple[str, ...], rows: Sequence[Any]) -> bool:
        """Whether the rows are in the response by way of the wire format; if not, the builder tries and says why."""
        if self._segments is not None:
            return False
        encode = self._plan.encoder(self._into, columns)
        if encode is None:
            return False
        try:
            response.MergeFromString(encode(rows))
        except (ValueError, ArithmeticError, TypeError, LookupError):
            return False
        except DecodeError:  # pragma: no cover - it parses what it made itself
            response.ClearField(self._into.name)
            return False
        return True

    def rows(self, given: _Given) -> Rows:
        """What is meant: OUT parameters by themselves, the result set asked for, the first one that fits, or what
        was sent. Columns of a set go before parameters of the same name."""
        wanted = set(self._plan.columns)
        beside = {**given.sent, **given.out}
        if wanted and wanted <= beside.keys() and not wanted.isdisjoint(given.out):
            return _single(beside)
        numbered = given.place(self.spec.set)
        if numbered is not None and numbered < len(given.sets) and _fits(given.sets[numbered], wanted, beside):
            return _with_out(given.sets[numbered], beside)
        for rows in given.sets:
            if _fits(rows, wanted, beside):
                return _with_out(rows, beside)
        if len(given.sets) == 1 and not beside:
            return given.sets[0]  # the builder names the missing column
        if wanted <= beside.keys():
            return _single(beside)  # only what was sent, or fixed values only
        missing = ", ".join(sorted(wanted - beside.keys()))
        raise MappingMismatch(f"{self._name}: no result set has the columns {missing}")


@dataclass(frozen=True, slots=True)
class _Given:
    """What the HIS gave: result sets, and parameters by lower-case name, with and without their `@`."""

    sets: Sequence[Rows]
    out: Mapping[str, Any]
    sent: Mapping[str, Any]
    cursors: Sequence[str]

    def place(self, wanted: int | str | None) -> int | None:
        """Index of the set that `set` means; a name is that of a REF CURSOR parameter, or of a step."""
        if not isinstance(wanted, str):
            return wanted
        name = wanted.casefold().lstrip("@:")
        return self.cursors.index(name) if name in self.cursors else None


def _folded(values: Mapping[str, Any] | None) -> dict[str, Any]:
    if not values:
        return {}
    plain = {name.casefold().lstrip("@"): value for name, value in values.items()}
    return plain | {name.casefold(): value for name, value in values.items()}


def _single(values: Mapping[str, Any]) -> Rows:
    return Rows(tuple(values), (tuple(values.values()),), -1)


def _fits(rows: Rows, wanted: set[str], beside: Mapping[str, Any]) -> bool:
    """Whether the set has the columns, parameters counted, and at least one of its own."""
    own = {name.casefold() for name in rows.columns}
    return bool(own) and wanted <= own | beside.keys() and (not wanted or not wanted.isdisjoint(own))


def _with_out(rows: Rows, given: Mapping[str, Any]) -> Rows:
    own = {name.casefold() for name in rows.columns}
    more = {name: value for name, value in given.items() if name not in own}
    if not more:
        return rows
    tail = tuple(more.values())
    return Rows((*rows.columns, *more), [(*row, *tail) for row in rows.rows], rows.changed)


def _as_it_is(values: dict[str, Any]) -> dict[str, Any]:
    return values


def _message(message_class: type[Message], values: dict[str, Any], label: str) -> Message:
    try:
        return message_class(**values)
    except (ValueError, TypeError) as error:
        raise _refused_by_protobuf(label, error) from None


def _refused_by_protobuf(label: str, error: Exception) -> MappingMismatch:
    """The text of protobuf's error may quote the value; its type says enough (lone surrogates, mostly)."""
    return MappingMismatch(f"{label}: a value of the HIS is no valid text of the contract ({type(error).__name__})")


def page_is_keyset(mapping: OperationMapping) -> bool:
    """Whether the mapping pages by key in its SQL."""
    return any(result.page_key for result in mapping.results)


def target_operation(name: str) -> ContractOperation | None:
    """The operation of that name, or None."""
    try:
        return contract.operation(name)
    except KeyError:
        return None
