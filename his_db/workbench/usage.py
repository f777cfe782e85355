"""What the mappings use of the HIS: statements, tables with columns and rights, procedures. By operation and watch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.descriptor import Descriptor

from his_db.catalogue.model import Catalogue, Name, Table
from his_db.document.located import Document, Path
from his_db.mapping.check_watch import SUBJECT_DESCRIPTORS
from his_db.mapping.model import MappingSet, OperationMapping, ReportMapping, ResultSpec, WatchMapping
from his_db.mapping.paths import resolve
from his_db.mapping.sql_text import is_select
from his_db.workbench.sql_objects import ColumnRef, SqlObjects, objects_of


@dataclass(frozen=True, slots=True)
class StatementUse:
    """One statement of a mapping. `path`: where its SQL (or `object`) stands in the file. `sql` is empty for kind
    "table", whose SQL is generated."""

    path: Path
    sql: str
    objects: SqlObjects
    is_select: bool

    @property
    def only_reads(self) -> bool:
        """A SELECT that locks nothing."""
        return self.is_select and not any("UPDATE" in rights for rights in self.objects.tables.values())


@dataclass(frozen=True, slots=True)
class Use:
    """What one operation or watch uses. `routine`: the procedure that it calls, as written, else empty."""

    label: str
    source: str
    is_read: bool
    document: Document = field(repr=False)
    mapping: OperationMapping | WatchMapping | ReportMapping = field(repr=False)
    statements: tuple[StatementUse, ...] = ()
    routine: str = ""

    @property
    def is_watch(self) -> bool:
        return isinstance(self.mapping, WatchMapping)

    @property
    def place(self) -> Path:
        """The table of the file that it stands in; () for the whole file."""
        return self.mapping.path if isinstance(self.mapping, ReportMapping) else ()


@dataclass(frozen=True, slots=True)
class Touched:
    """The objects of one Use as the catalogue knows them: rights, columns that are named, columns that get a value.
    `missing`: names that it does not know, with their place."""

    rights: Mapping[Name, frozenset[str]]
    columns: Mapping[Name, frozenset[str]]
    changes: Mapping[Name, frozenset[str]]
    missing: tuple[tuple[str, Path], ...]
    missing_columns: tuple[tuple[str, str, Path], ...]


def uses_of(mapping_set: MappingSet) -> tuple[Use, ...]:
    """One for each operation that reaches a database, and for each watch and report; by name."""
    found = [_operation(mapping) for mapping in mapping_set.operations.values()]
    found.extend(_watch(watch) for watch in mapping_set.watches.values())
    found.extend(_report(report) for report in mapping_set.reports.values())
    return tuple(use for use in found if use.statements or use.routine)


def touched(use: Use, catalogue: Catalogue) -> Touched:
    """The use, resolved."""
    rights: dict[Name, set[str]] = {}
    columns: dict[Name, set[str]] = {}
    changes: dict[Name, set[str]] = {}
    missing: list[tuple[str, Path]] = []
    missing_columns: list[tuple[str, str, Path]] = []
    for statement in use.statements:
        for name, needed in statement.objects.tables.items():
            table = catalogue.table(name)
            if table is None:
                if catalogue.routine(name) == () and name.lower() != "dual":
                    missing.append((name, statement.path))
                continue
            rights.setdefault(table.key, set()).update(needed)
        for reference in statement.objects.columns:
            owner, problem = column_owner(reference, catalogue)
            if owner is not None:
                columns.setdefault(owner.key, set()).add(reference.column.lower())
            elif problem:
                missing_columns.append((problem, reference.column, statement.path))
        for reference in statement.objects.changes:
            owner, _ = column_owner(reference, catalogue)
            if owner is not None:
                changes.setdefault(owner.key, set()).add(reference.column.lower())
        for star in statement.objects.stars:
            table = catalogue.table(star)
            if table is not None:
                columns.setdefault(table.key, set()).update(column.name.lower() for column in table.columns)
        for name in statement.objects.functions:
            for routine in catalogue.routine(name):
                rights.setdefault(routine.key, set()).add("EXECUTE")
    if use.routine:
        routines = catalogue.routine(use.routine)
        if not routines:
            missing.append((use.routine, (*use.place, "object")))
        for routine in routines:
            rights.setdefault(routine.key, set()).add("EXECUTE")
    return Touched(
        rights={key: frozenset(found) for key, found in sorted(rights.items())},
        columns={key: frozenset(found) for key, found in sorted(columns.items())},
        changes={key: frozenset(found) for key, found in sorted(changes.items())},
        missing=tuple(dict.fromkeys(missing)),
        missing_columns=tuple(dict.fromkeys(missing_columns)),
    )


def row_descriptor(mapping: OperationMapping | WatchMapping, result: ResultSpec) -> Descriptor:
    """The message that one row of a result fills."""
    if isinstance(mapping, WatchMapping):
        return SUBJECT_DESCRIPTORS[mapping.subject]
    response = mapping.operation.response
    if not result.into:
        return response
    found = resolve(response, result.into)
    assert found is not None  # checked when the set was loaded
    item = found[-1].message_type
    assert item is not None
    return item


def column_owner(reference: ColumnRef, catalogue: Catalogue) -> tuple[Table | None, str]:
    """The table that has the column; or None and the table that should have it (empty when nothing can be said)."""
    known = [(name, table) for name in reference.tables if (table := catalogue.table(name)) is not None]
    for _, table in known:
        if table.column(reference.column) is not None:
            return table, ""
    if not reference.certain or len(known) < len(reference.tables) or not known:
        return None, ""
    return None, " / ".join(name for name, _ in known)


def _operation(mapping: OperationMapping) -> Use:
    statements: list[StatementUse] = []
    routine = ""
    if mapping.kind == "table":
        statements.append(_table(mapping))
    elif mapping.kind == "procedure":
        routine = str(mapping.values["object"])
    elif mapping.kind not in {"unsupported", "http", "gateway"}:
        statements.extend(_statements(mapping))
    return Use(
        label=mapping.operation.name,
        source=mapping.source,
        is_read=mapping.operation.is_read,
        document=mapping.document,
        mapping=mapping,
        statements=tuple(statements),
        routine=routine,
    )


def _statements(mapping: OperationMapping) -> Iterator[StatementUse]:
    sql = mapping.sql(mapping.values)
    if sql:
        yield _statement(sql, mapping.values, (), mapping.engine)
    for key in ("step", "diagnosis"):
        for at, item in enumerate(mapping.values.get(key, ())):
            yield _statement(mapping.sql(item), item, (key, at), mapping.engine)


def _statement(sql: str, table: Mapping[str, Any], path: Path, engine: str) -> StatementUse:
    place = (*path, "sql_file" if "sql_file" in table else "sql")
    return StatementUse(place, sql, objects_of(sql, engine), is_select(sql))


def _table(mapping: OperationMapping) -> StatementUse:
    name = str(mapping.values["object"])
    result = [column for spec in mapping.results for column in spec.columns()]
    filters = [str(item["column"]) for item in mapping.values["where"]]
    names = dict.fromkeys([*result, *filters, *mapping.values["order_by"]])
    references = {column.lower(): ColumnRef(column, (name,), certain=True) for column in names}
    objects = SqlObjects(
        tables={name: frozenset({"SELECT"})},
        columns=tuple(references.values()),
        filters=tuple(references[column.lower()] for column in filters),
        compared=tuple(
            (references[str(item["column"]).lower()], f"w{at}")
            for at, item in enumerate(mapping.values["where"])
            if item["compare"] in ("=", "!=")
        ),
        outputs={column.lower(): references[column.lower()] for column in result},
        aliases={name.rpartition(".")[2].lower(): (name,)},
    )
    return StatementUse(("object",), "", objects, is_select=True)


def _watch(watch: WatchMapping) -> Use:
    return Use(
        label=f"watch {watch.name}",
        source=watch.source,
        is_read=True,
        document=watch.document,
        mapping=watch,
        statements=(_statement(watch.sql(), watch.values, (), watch.engine),) if watch.sql() else (),
    )


def _report(report: ReportMapping) -> Use:
    sql = report.sql()
    return Use(
        label=f"report {report.name}",
        source=report.source,
        is_read=True,
        document=report.document,
        mapping=report,
        statements=(_statement(sql, report.values, report.path, report.engine),) if sql else (),
        routine=report.object,
    )
