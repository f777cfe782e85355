"""What a pack makes of a HIS that answers anything, and of requests that want to be SQL: every operation of every pack.

Whatever the columns hold, a call ends in a message or in an error of `his_db.errors`, and the error holds no value.
Whatever a request holds, its texts are bound and never written into a statement.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlglot
from google.protobuf.message import Message

from his_db.engine import ParameterKind, ProcedurePlan, ProcedureResult, Rows
from his_db.errors import HisError, MappingMismatch
from his_db.generation import Generation, compile_generation
from his_db.mapping.load import load_mapping_set
from his_db.mapping.model import MappingSet, OperationMapping
from his_db.mapping.sql_tree import DIALECTS
from his_db.workbench.made_up import NotingSession, made_up_request
from his_db.workbench.sql_objects import marked
from tests.hostile import HOSTILE, MARK, fill, text_fields
from tests.unit.packs.test_own_tests import ENGINES, PACKS

NOW = dt.datetime(2026, 3, 2, 9, 30)
SECRET = "张三的秘密-160"  # must not be in an error
VALUES: dict[str, Any] = {
    "null": None,
    "empty": "",
    "blanks": "   ",
    "text": SECRET,
    "long text": SECRET * 2000,
    "nul": f"{SECRET}\0",
    "lone surrogate": f"{SECRET}\ud800",
    "zero": 0,
    "negative": -1,
    "huge": 10**30,
    "float": 0.1,
    "nan": float("nan"),
    "infinite": Decimal("Infinity"),
    "bool": True,
    "bytes": SECRET.encode("gb18030"),
    "no gbk": b"\xff\xfe\xff",
    "date": dt.date(1, 1, 1),
    "datetime": dt.datetime(9999, 12, 31, 23, 59, 59),
    "time": dt.time(23, 59, 59, 999999),
    "duration": dt.timedelta(days=-400),
    "list": [SECRET],
    "object": object(),
}


class AnsweringSession(NotingSession):
    """Answers every statement with `count` rows in which each column holds what `value` gives; `changed`: of writes."""

    def __init__(
        self,
        mapping: OperationMapping | None,
        engine: str,
        value: Callable[[str], Any],
        *,
        count: int = 1,
        changed: int = 1,
    ) -> None:
        super().__init__()
        self._mapping = mapping
        self._engine = engine
        self._value = value
        self._count = count
        self._changed = changed

    def run(self, sql: str, values: Any, *, max_rows: int) -> Rows:
        super().run(sql, values, max_rows=max_rows)
        names = tuple(_columns(sql, self._engine))
        return self._rows(names) if names else Rows((), (), self._changed)

    def call(self, plan: ProcedurePlan, values: Any, *, max_rows: int) -> ProcedureResult:
        self.statements.append((plan.object, dict(values)))
        given = {ParameterKind.OUT, ParameterKind.INOUT, ParameterKind.RETURN}
        out = {item.name: self._value(item.name) for item in plan.parameters if item.kind in given}
        columns = dict.fromkeys(column for result in self._results() for column in result.columns())
        return ProcedureResult(out, (self._rows(tuple(columns)),) if columns else ())

    def _results(self) -> Any:
        return () if self._mapping is None else self._mapping.results

    def _rows(self, names: tuple[str, ...]) -> Rows:
        return Rows(names, [tuple(self._value(name) for name in names) for _ in range(self._count)], 0)


_NAMES: dict[str, list[str]] = {}


def _columns(sql: str, engine: str) -> list[str]:
    """Names of what a SELECT gives; none for a writing statement."""
    if sql not in _NAMES:
        tree = sqlglot.parse_one(marked(sql), read=DIALECTS[engine])
        _NAMES[sql] = tree.named_selects if isinstance(tree, sqlglot.exp.Query) else []
    return _NAMES[sql]


class Pack:
    """One pack, compiled."""

    def __init__(self, name: str) -> None:
        self.engine = ENGINES[name]
        self.set: MappingSet = load_mapping_set(
            PACKS / Path(name), sources={"his": self.engine}, timezone="Asia/Shanghai", is_checked=True
        )
        self.generation: Generation = compile_generation(self.set)

    def operations(self) -> Iterator[tuple[str, OperationMapping]]:
        for name, mapping in self.set.operations.items():
            if mapping.kind not in {"unsupported", "http", "gateway"}:
                yield name, mapping

    def run(self, name: str, request: Message, session: NotingSession) -> Message:
        return self.generation.operation(name).run(session, request, now=NOW, key="0" * 32)


@pytest.fixture(scope="module", params=sorted(ENGINES))
def pack(request: pytest.FixtureRequest) -> Pack:
    return Pack(request.param)


@pytest.mark.parametrize("sort", VALUES)
def test_any_value_in_every_column_ends_in_a_message_or_an_error_without_it(pack: Pack, sort: str) -> None:
    ends: Counter[str] = Counter()
    for name, mapping in pack.operations():
        for count, changed in ((1, 1), (0, 0), (3, 1)):
            session = AnsweringSession(mapping, pack.engine, lambda _: VALUES[sort], count=count, changed=changed)
            try:
                pack.run(name, made_up_request(mapping, NOW.date()), session)
            except HisError as error:
                ends[type(error).__name__] += 1
                assert SECRET not in f"{error} {error.detail} {error.metadata}", (name, error)
                assert error.detail, name
            else:
                ends["message"] += 1
    for name, watch in pack.generation.watches.items():
        try:
            watch.build(tuple(VALUES[sort] for _ in watch.plan.columns))
        except MappingMismatch as error:
            assert name in error.detail
            assert SECRET not in error.detail
    assert ends["MappingMismatch"] + ends["OutcomeUnknown"] + ends["HisRefused"] > 0


def test_one_null_at_a_time(pack: Pack) -> None:
    """A column that is NULL says which field misses it, or is an optional field that is not there."""
    for name, mapping in pack.operations():
        columns = {column for result in mapping.results for column in result.columns()}
        for empty in sorted(columns):
            session = AnsweringSession(
                mapping,
                pack.engine,
                lambda column, empty=empty: None if column == empty else "1",  # type: ignore[misc]
            )
            try:
                pack.run(name, made_up_request(mapping, NOW.date()), session)
            except HisError as error:
                assert error.detail


def test_no_text_of_a_request_becomes_sql(pack: Pack) -> None:
    """Each text field alone and all of them at once: the statements are those of a harmless request."""
    seen = 0
    for name, mapping in pack.operations():
        today = NOW.date()
        fields = sorted({field.name for _, field in text_fields(mapping.operation.request_class())})
        for text in HOSTILE:
            for only in ("", *fields):
                session = AnsweringSession(mapping, pack.engine, lambda _: "1")
                request = fill(made_up_request(mapping, today), text, only=only)
                try:
                    pack.run(name, request, session)
                except HisError as error:
                    assert MARK not in error.detail, (name, only)
                for sql, _ in session.statements:
                    assert MARK not in sql, (name, only, text)
                seen += sum(_holds_mark(values) for _, values in session.statements)
    assert seen > 500  # the texts did arrive, as binds


def _holds_mark(values: Mapping[str, Any]) -> bool:
    return any(isinstance(value, str) and MARK in value for value in values.values())
