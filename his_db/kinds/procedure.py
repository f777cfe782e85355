"""kind = "procedure": a stored procedure or function of the HIS; its return code says what became of the call."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final
from zoneinfo import ZoneInfo

from google.protobuf.message import Message

from his_db.document.finding import Words
from his_db.document.shape import Field, Text
from his_db.engine import Parameter, ParameterKind, ProcedurePlan, ProcedureResult, Rows, Session
from his_db.errors import HisChanged, MappingMismatch
from his_db.kind import Call, Flow, Runner
from his_db.mapping.answer import ResultPlan
from his_db.mapping.binding import compile_binder
from his_db.mapping.check_params import check_params
from his_db.mapping.check_statement import check_called
from his_db.mapping.finding import Reporter, did_you_mean
from his_db.mapping.grammar import PROCEDURE_PARAMS
from his_db.mapping.model import OperationMapping, Param
from his_db.mapping.outcome import OUTCOME, Outcome, check_outcome
from his_db.mapping.paging import MAX_ROWS

_NAME: Final = re.compile(r"[^\W\d][\w$#]*(\.[^\W\d][\w$#]*){0,3}")
_WORD = Text(min_length=1)
_CURSORS: Final = frozenset({"refcursor", "sys_refcursor", "cursor"})


class ProcedureKind:
    """Most real HIS writes."""

    name: ClassVar[str] = "procedure"
    effects: ClassVar[frozenset[str]] = frozenset({"read", "write"})

    def keys(self) -> Mapping[str, Field]:
        return {
            "object": Field(_WORD, required=True, doc="procedure or function", doc_zh="存储过程或函数"),
            "call": Field(Text(choices=("procedure", "function")), default="procedure"),
            "commits": Field(Text(choices=("caller", "procedure", "unknown")), default="caller"),
            "params": PROCEDURE_PARAMS,
            "outcome": Field(OUTCOME),
        }

    def check(self, mapping: OperationMapping, report: Reporter) -> None:
        name = mapping.values["object"]
        if not _NAME.fullmatch(name):
            message = Words("not a name of a procedure or function", "不是有效的存储过程名或函数名")
            report.value("H232", ("object",), message, Words("for example his.usp_yy_lockno", "例如 his.usp_yy_lockno"))
        check_called(name, ("object",), report)
        check_params(mapping.params, mapping, report)
        _check_cursors(mapping, report)
        if mapping.operation.is_read and mapping.values["commits"] != "caller":
            message = Words("a reading operation commits nothing", "查询类操作没有提交")
            report.value("H204", ("commits",), message, Words("delete commits", "删除 commits"))
        if "outcome" in mapping.values:
            names = [param.name for param in mapping.params if _may_answer(param, report) and not _is_cursor(param)]
            check_outcome(mapping, report, names=names, strict=True)
        elif not mapping.operation.is_read:
            message = Words(
                "without [outcome] every call that raises no error counts as done",
                "没有 [outcome]：只要不报错就视为成功",
            )
            report.warn("H224", ("object",), message, Words("add [outcome]", "请补上 [outcome]"))

    def compile(self, mapping: OperationMapping) -> Runner:
        return _ProcedureRunner(mapping)


def _may_answer(param: Param, report: Reporter) -> bool:
    """Whether it gives a value, or may: its direction cannot be read."""
    return param.direction != "in" or report.document.damage.hides((*param.path, "dir"))


def _check_cursors(mapping: OperationMapping, report: Reporter) -> None:
    """A REF CURSOR only comes out, and `set = "name"` names one."""
    for param in mapping.params:
        if _is_cursor(param) and param.direction not in {"out", "return"}:
            message = Words("a cursor is an OUT or RETURN parameter", "游标只能是 OUT 或 RETURN 参数")
            report.key("H219", param.path, message, Words('dir = "out"', 'dir = "out"'))
    cursors = [param.name for param in mapping.params if _is_cursor(param)]
    for result in mapping.results:
        wanted = result.set
        if isinstance(wanted, str) and _plain(wanted) not in {_plain(name) for name in cursors}:
            message = Words(f'"{wanted}" is no refcursor parameter', f"“{wanted}” 不是 refcursor 参数")
            report.value("H230", (*result.path, "set"), message, did_you_mean(wanted, cursors))


def _is_cursor(param: Param | Parameter) -> bool:
    return param.type.strip().casefold() in _CURSORS


def _plain(name: str) -> str:
    return name.casefold().lstrip("@:")


class _ProcedureRunner:
    __slots__ = ("_binder", "_commits", "_cursors", "_label", "_outcome", "_outs", "_plan", "_procedure")

    def __init__(self, mapping: OperationMapping) -> None:
        values = mapping.values
        self._label = mapping.operation.name
        self._procedure = ProcedurePlan(
            object=values["object"],
            parameters=tuple(
                Parameter(param.name, ParameterKind(param.direction), param.type) for param in mapping.params
            ),
            function=values["call"] == "function",
        )
        self._binder = compile_binder(
            [param for param in mapping.params if param.direction in {"in", "inout"}],
            request=mapping.operation.request,
            codes=mapping.site.codes,
            zone=ZoneInfo(mapping.site.timezone),
            label=self._label,
        )
        self._plan = ResultPlan(mapping)
        is_read = mapping.operation.is_read
        self._outcome = Outcome(values["outcome"], self._label, is_read=is_read) if "outcome" in values else None
        self._commits = not is_read and values["commits"] != "caller"
        self._cursors = tuple(_plain(param.name) for param in mapping.params if _is_cursor(param))
        outs = (param.name for param in mapping.params if param.direction != "in" and not _is_cursor(param))
        self._outs = frozenset(_plain(name) for name in outs)

    def run(self, session: Session, call: Call) -> Message:
        given = self._binder.values(call, Flow())
        found = session.call(self._procedure, given, max_rows=MAX_ROWS)
        out = {name: value for name, value in found.out.items() if _plain(name) not in self._cursors}
        missing = self._outs - {_plain(name) for name in out}
        if missing:
            names = ", ".join(sorted(missing))
            raise HisChanged(f"{self._label}: the procedure gave no value for the parameter {names}")
        result = ProcedureResult(out, tuple(_named(rows) for rows in found.sets))
        if self._outcome is not None:
            self._outcome.judge(lambda source: self._value(source, result))
        # A result may also name IN parameters: many procedures answer keys only, and what was sent is what they keep.
        return self._plan.answer(call, result.sets, result.out, given, cursors=self._cursors, done=self._commits)

    def _value(self, source: Any, result: ProcedureResult) -> Any:
        """A parameter, or `{ column = … }` of the first row of the first set that has it."""
        if isinstance(source, str):
            return next(value for name, value in result.out.items() if _plain(name) == _plain(source))
        name = source["column"].casefold()
        for rows in result.sets:
            folded = [column.casefold() for column in rows.columns]
            if name in folded and rows.rows:
                return rows.rows[0][folded.index(name)]
        raise MappingMismatch(f"{self._label}: no result set has the column {source['column']}, or it has no row")


def _named(rows: Rows) -> Rows:
    """Columns without a name (`SELECT 'T', 12.5` of Transact-SQL) are `column1`, `column2` … by their place."""
    if all(rows.columns):
        return rows
    return Rows(tuple(name or f"column{at}" for at, name in enumerate(rows.columns, 1)), rows.rows, rows.changed)
