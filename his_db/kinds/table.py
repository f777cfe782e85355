"""kind = "table": a table or view, its columns and filters; SQLAlchemy writes the SQL for the engine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, Final
from zoneinfo import ZoneInfo

from google.protobuf.message import Message
from sqlalchemy import Integer, and_, bindparam, column, select, table
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.sql import quoted_name
from sqlalchemy.sql.elements import ColumnClause, ColumnElement

from his_db.document.finding import Words
from his_db.document.located import Path
from his_db.document.shape import Field, ListOf, Text
from his_db.engine import Session
from his_db.kind import Call, Flow, Runner
from his_db.mapping.answer import ResultPlan, page_is_keyset
from his_db.mapping.binding import Binder, compile_binder
from his_db.mapping.check_params import check_param
from his_db.mapping.finding import Reporter
from his_db.mapping.grammar import WHERE
from his_db.mapping.model import OperationMapping, Param
from his_db.mapping.read import param_of

_DIALECTS: Final[Mapping[str, str]] = {
    "sqlite": "sqlite",
    "postgresql": "postgresql",
    "mysql": "mysql",
    "mssql": "mssql",
    "oracle": "oracle",
    "dm": "oracle",
}
_NAME: Final = re.compile(r"[^\W\d][\w$#]*")
_COMPARE: Final = {"=": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}


@dataclass(frozen=True, slots=True)
class _Filter:
    """One entry of `where`."""

    column: str
    compare: str
    optional: bool
    param: Param


class TableKind:
    """The simplest hospitals."""

    name: ClassVar[str] = "table"
    effects: ClassVar[frozenset[str]] = frozenset({"read"})

    def keys(self) -> Mapping[str, Field]:
        names = ListOf(Text(min_length=1))
        return {
            "object": Field(Text(min_length=1), required=True, doc="table or view", doc_zh="表或视图"),
            "where": WHERE,
            "order_by": Field(names, default=[]),
        }

    def check(self, mapping: OperationMapping, report: Reporter) -> None:
        values = mapping.values
        if mapping.engine and mapping.engine not in _DIALECTS:
            message = Words(f"no SQL can be written for {mapping.engine}", f"不支持为 {mapping.engine} 生成 SQL")
            report.value("H233", ("kind",), message, Words('use kind = "query"', '请用 kind = "query"'))
        _check_name(values["object"], ("object",), report, parts=3)
        for at, name in enumerate(values["order_by"]):
            _check_name(name, ("order_by", at), report)
        for item in _filters(values):
            _check_name(item.column, (*item.param.path, "column"), report)
            check_param(item.param, mapping, report, named=False)
        for result in mapping.results:
            for spec in result.fields:
                for key, name in (
                    ("column", spec.column),
                    ("date_column", spec.date_column),
                    ("time_column", spec.time_column),
                ):
                    if name:
                        _check_name(name, (*spec.path, key), report)
            if result.page_key:
                _check_name(result.page_key, (*result.path, "page_key"), report)
            if result.page_key and values["order_by"] not in ([], [result.page_key]):
                report.value(
                    "H229",
                    ("order_by",),
                    Words(
                        "a table that pages by page_key is ordered by page_key alone",
                        "按 page_key 分页时只能按 page_key 排序",
                    ),
                    Words("delete order_by or page_key", "删除 order_by 或 page_key"),
                )

    def compile(self, mapping: OperationMapping) -> Runner:
        return _TableRunner(mapping)


def _filters(values: Mapping[str, Any]) -> tuple[_Filter, ...]:
    return tuple(
        _Filter(item["column"], item["compare"], item["optional"], param_of(item, ("where", at), f"w{at}"))
        for at, item in enumerate(values["where"])
    )


def _check_name(name: str, path: Path, report: Reporter, *, parts: int = 1) -> None:
    pieces = name.split(".")
    if len(pieces) <= parts and all(_NAME.fullmatch(piece) for piece in pieces):
        return
    report.value(
        "H232",
        path,
        Words("not a name of a table, view or column", "不是有效的表名、视图名或列名"),
        Words(
            'letters, digits, _ $ # only; for an expression use kind = "query"',
            '只能用字母、数字、_ $ #；需要表达式时用 kind = "query"',
        ),
    )


class _TableRunner:
    """Statements are made once for each set of optional filters that is in use."""

    __slots__ = ("_binder", "_cache", "_dialect", "_filters", "_keyset", "_mapping", "_plan")

    def __init__(self, mapping: OperationMapping) -> None:
        self._mapping = mapping
        self._filters = _filters(mapping.values)
        self._plan = ResultPlan(mapping)
        self._keyset = page_is_keyset(mapping)
        # One dialect takes megabytes: only that of the engine.
        dialects = import_module(f"sqlalchemy.dialects.{_DIALECTS[mapping.engine]}")
        self._dialect: Dialect = dialects.dialect(paramstyle="named")
        self._binder: Binder = compile_binder(
            [item.param for item in self._filters],
            request=mapping.operation.request,
            codes=mapping.site.codes,
            zone=ZoneInfo(mapping.site.timezone),
            label=mapping.operation.name,
        )
        self._cache: dict[tuple[bool, ...], tuple[str, dict[str, Any]]] = {}

    def run(self, session: Session, call: Call) -> Message:
        values = self._binder.values(call, Flow())
        used = tuple(not item.optional or values[item.param.name] is not None for item in self._filters)
        bound = {
            item.param.name: values[item.param.name]
            for item, is_used in zip(self._filters, used, strict=True)
            if is_used
        }
        pages = self._keyset and call.page is not None
        has_after = pages and call.page is not None and call.page.after is not None
        if pages and call.page is not None:
            bound["page_limit"] = call.page.size + 1
            if has_after:
                bound["page_after"] = call.page.after
        shape = (*used, has_after)
        found = self._cache.get(shape)
        if found is None:
            found = self._cache[shape] = self._statement(used, has_after=has_after)
        sql, own = found
        rows = session.run(sql, {**own, **bound}, max_rows=self._plan.max_rows(call))
        return self._plan.answer(call, (rows,))

    def _statement(self, used: tuple[bool, ...], *, has_after: bool) -> tuple[str, dict[str, Any]]:
        """The SQL, and the binds that SQLAlchemy added by itself (SQLite: OFFSET 0)."""
        mapping = self._mapping
        schema, _, name = mapping.values["object"].rpartition(".")
        columns = {name.casefold(): name for result in mapping.results for name in reversed(result.columns())}
        source = table(self._quoted(name), schema=self._schema(schema))
        # The columns are written plain, not tied to the table: no prefix, no label, the names the plan asks for.
        statement = select(*(self._column(name) for name in columns.values())).select_from(source)
        conditions: list[ColumnElement[bool]] = [
            getattr(self._column(item.column), f"__{_COMPARE[item.compare]}__")(bindparam(item.param.name))
            for item, is_used in zip(self._filters, used, strict=True)
            if is_used
        ]
        order = list(mapping.values["order_by"])
        page_key = next((result.page_key for result in mapping.results if result.page_key), "")
        if page_key:
            order = [page_key]
            if has_after:
                conditions.append(self._column(page_key) > bindparam("page_after"))
        if conditions:
            statement = statement.where(and_(*conditions))
        statement = statement.order_by(*(self._column(name) for name in order))
        if page_key:
            statement = statement.limit(bindparam("page_limit", type_=Integer()))
        compiled = statement.compile(dialect=self._dialect, compile_kwargs={"render_postcompile": True})
        return str(compiled), {name: value for name, value in compiled.params.items() if value is not None}

    def _column(self, name: str) -> ColumnClause[Any]:
        return column(self._quoted(name))

    def _schema(self, name: str) -> quoted_name | None:
        return quoted_name(name, quote=False) if name else None

    def _quoted(self, name: str) -> quoted_name:
        """As the DBA wrote it; quoted only when it is a reserved word, so that the database folds its case itself."""
        reserved = self._dialect.identifier_preparer.reserved_words
        return quoted_name(name, quote=name.lower() in reserved)
