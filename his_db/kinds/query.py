"""kind = "query": one SELECT with named binds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from google.protobuf.message import Message

from his_db.document.shape import Field
from his_db.engine import Session
from his_db.kind import Call, Flow, Runner
from his_db.mapping.answer import ResultPlan
from his_db.mapping.binding import Binder, sql_binder
from his_db.mapping.check_results import check_columns
from his_db.mapping.check_statement import check_binds, check_order, check_select, sql_place
from his_db.mapping.finding import Reporter
from his_db.mapping.grammar import PARAMS, SQL_KEYS
from his_db.mapping.model import OperationMapping


class QueryKind:
    """Everything readable."""

    name: ClassVar[str] = "query"
    effects: ClassVar[frozenset[str]] = frozenset({"read"})

    def keys(self) -> Mapping[str, Field]:
        return {**SQL_KEYS, "params": PARAMS}

    def check(self, mapping: OperationMapping, report: Reporter) -> None:
        facts = check_select(mapping.values, (), mapping.engine, mapping.site, report)
        check_binds([(sql_place(mapping.values, ()), mapping.sql(mapping.values))], mapping, report)
        if facts is not None:
            check_columns(mapping.results, facts.outputs, report)
            check_order(mapping, facts, report)

    def compile(self, mapping: OperationMapping) -> Runner:
        sql = mapping.sql(mapping.values)
        return _QueryRunner(sql, sql_binder(mapping, sql), ResultPlan(mapping))


class _QueryRunner:
    __slots__ = ("_binder", "_plan", "_sql")

    def __init__(self, sql: str, binder: Binder, plan: ResultPlan) -> None:
        self._sql = sql
        self._binder = binder
        self._plan = plan

    def run(self, session: Session, call: Call) -> Message:
        values = self._binder.values(call, Flow())
        rows = session.run(self._sql, values, max_rows=self._plan.max_rows(call))
        return self._plan.answer(call, (rows,))
