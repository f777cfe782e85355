"""Which fields of the mappings take only certain values of a column, and in which table those values live."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from google.protobuf.descriptor import FieldDescriptor

from his_db.catalogue.model import Catalogue, Table
from his_db.contract import is_personal
from his_db.kinds.steps import result_step
from his_db.mapping.check_report import FIELD_OF_KIND
from his_db.mapping.convert_in import Convert, converter
from his_db.mapping.model import CodeMap, FieldSpec, OperationMapping, ReportMapping, ResultSpec, WatchMapping
from his_db.mapping.paths import resolve, sort_of
from his_db.workbench.column_origin import Origin, origins_of
from his_db.workbench.usage import Use, row_descriptor


@dataclass(frozen=True, slots=True)
class CodedField:
    """A field with a code map, an enum, or a truth value that does not say what is true. `personal`: its values are
    shown to nobody."""

    use: Use
    spec: FieldSpec
    field: FieldDescriptor
    personal: bool

    @property
    def codes(self) -> CodeMap | None:
        """Its code map, if it has one."""
        return self.use.mapping.site.codes.get(self.spec.codes)

    def convert(self) -> Convert:
        """As calls convert it."""
        site = self.use.mapping.site
        return converter(self.field, self.spec, site.codes, ZoneInfo(site.timezone))


@dataclass(frozen=True, slots=True)
class CodeColumn:
    """Where the values live. Equal for all fields that read the same."""

    table: Table
    origin: Origin

    @property
    def where(self) -> str:
        """For people: `schema.table.column`, or the table and the expression."""
        found = self.origin
        return f"{self.table.key}.{found.column}" if found.column else f"{self.table.key}: {found.expression}"


def coded_columns(use: Use, catalogue: Catalogue) -> Iterator[tuple[CodedField, tuple[CodeColumn, ...]]]:
    """The fields of a use that take codes, each with where its values come from; with none where nothing in the file
    can tell: procedures, expressions over several tables, tables that do not exist."""
    for result, coded in _coded_fields(use):
        yield coded, columns_of(use, result, coded.spec.column, catalogue)


def _coded_fields(use: Use) -> Iterator[tuple[ResultSpec | None, CodedField]]:
    mapping = use.mapping
    if isinstance(mapping, ReportMapping):
        for column in mapping.columns:
            if column.field.codes and column.kind in FIELD_OF_KIND:
                yield None, CodedField(use, column.field, FIELD_OF_KIND[column.kind], personal=False)
        return
    for result in (mapping.result,) if isinstance(mapping, WatchMapping) else mapping.results:
        descriptor = row_descriptor(mapping, result)
        for spec in result.fields:
            path = resolve(descriptor, spec.to)
            if path and spec.column and not spec.contains and _takes_codes(spec, sort_of(path[-1])):
                yield result, CodedField(use, spec, path[-1], any(is_personal(field) for field in path))


def _takes_codes(spec: FieldSpec, sort: str) -> bool:
    return bool(spec.codes) or sort == "enum" or (sort == "bool" and spec.true is None)


def columns_of(use: Use, result: ResultSpec | None, column: str, catalogue: Catalogue) -> tuple[CodeColumn, ...]:
    """Where a column of a result comes from, as far as the file tells."""
    mapping = use.mapping
    if isinstance(mapping, OperationMapping) and mapping.kind == "table":
        origins: tuple[Origin, ...] = (Origin(str(mapping.values["object"]), column, column),)
    else:
        origins = _origins(_sql(use, result), mapping.engine, column, catalogue)
    found = ((catalogue.table(origin.table), origin) for origin in origins)
    return tuple(CodeColumn(table, origin) for table, origin in found if table is not None)


def _sql(use: Use, result: ResultSpec | None) -> str:
    """The SELECT that gives a result; empty where none does."""
    mapping = use.mapping
    if not isinstance(mapping, OperationMapping):
        return mapping.sql()
    if mapping.kind != "steps" or result is None:
        return mapping.sql(mapping.values)
    name = result_step(mapping, result)
    return next((mapping.sql(item) for item in mapping.values["step"] if item["name"] == name), "")


def _origins(sql: str, engine: str, column: str, catalogue: Catalogue) -> tuple[Origin, ...]:
    def owner(name: str, tables: tuple[str, ...]) -> str:
        known = ((written, catalogue.table(written)) for written in tables)
        return next((written for written, table in known if table is not None and table.column(name)), "")

    return origins_of(sql, engine, [column], owner).get(column, ()) if sql else ()
