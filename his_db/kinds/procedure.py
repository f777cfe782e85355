"""kind = "procedure": a stored procedure or function of the HIS; its return code says what became of the call."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, Final
from zoneinfo import ZoneInfo

from google.protobuf.message import Message
from his160.v1 import reason_pb2

from his_db.document.finding import Words
from his_db.document.located import Path
from his_db.document.shape import Duration, Field, ListOf, OneOf, Scalar, TableOf, Text
from his_db.engine import Parameter, ParameterKind, ProcedurePlan, ProcedureResult, Session
from his_db.errors import HisBusy, HisError, HisRefused, HisUnavailable, MappingMismatch, OutcomeUnknown
from his_db.kind import Call, Flow, Runner
from his_db.mapping.answer import ResultPlan, reason_value
from his_db.mapping.binding import compile_binder
from his_db.mapping.check_params import check_params
from his_db.mapping.check_results import check_reason
from his_db.mapping.check_statement import check_called
from his_db.mapping.convert_in import code_text
from his_db.mapping.finding import Reporter, did_you_mean
from his_db.mapping.grammar import PROCEDURE_PARAMS
from his_db.mapping.model import OperationMapping
from his_db.mapping.paging import MAX_ROWS

_NAME: Final = re.compile(r"[^\W\d][\w$#]*(\.[^\W\d][\w$#]*){0,3}")
_WORD = Text(min_length=1)
_COLUMN = TableOf({"column": Field(_WORD, required=True)})
_OUTCOME = TableOf(
    {
        "from": Field(OneOf(_WORD, _COLUMN), required=True, doc="parameter", doc_zh="返回码参数"),
        "ok": Field(ListOf(Scalar(), min_items=1), required=True),
        "errors": Field(
            ListOf(
                TableOf(
                    {
                        "is": Field(Scalar(), required=True),
                        "reason": Field(_WORD, required=True),
                        "retry": Field(Duration(timedelta(milliseconds=1), timedelta(hours=1))),
                    }
                )
            ),
            default=[],
        ),
        "text": Field(OneOf(_WORD, _COLUMN)),
        "otherwise": Field(_WORD, required=True, doc='"unknown" or a reason', doc_zh="“unknown” 或原因"),
    }
)


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
            "outcome": Field(_OUTCOME),
        }

    def check(self, mapping: OperationMapping, report: Reporter) -> None:
        name = mapping.values["object"]
        if not _NAME.fullmatch(name):
            message = Words("not a name of a procedure or function", "不是有效的存储过程名或函数名")
            report.value("H232", ("object",), message, Words("for example his.usp_yy_lockno", "例如 his.usp_yy_lockno"))
        check_called(name, ("object",), report)
        check_params(mapping.params, mapping, report)
        if mapping.operation.is_read and mapping.values["commits"] != "caller":
            message = Words("a reading operation commits nothing", "查询类操作没有提交")
            report.value("H204", ("commits",), message, Words("delete commits", "删除 commits"))
        if "outcome" in mapping.values:
            _check_outcome(mapping, report)
        elif not mapping.operation.is_read:
            message = Words(
                "without [outcome] every call that raises no error counts as done",
                "没有 [outcome]：只要不报错就视为成功",
            )
            report.warn("H224", ("object",), message, Words("add [outcome]", "请补上 [outcome]"))

    def compile(self, mapping: OperationMapping) -> Runner:
        return _ProcedureRunner(mapping)


def _check_outcome(mapping: OperationMapping, report: Reporter) -> None:
    outcome = mapping.values["outcome"]
    out = [param.name for param in mapping.params if param.direction != "in"]
    for key in ("from", "text"):
        name = outcome.get(key)
        if isinstance(name, str) and name.casefold() not in {item.casefold() for item in out}:
            message = Words(
                f'"{name}" is no OUT, INOUT or RETURN parameter', f"“{name}” 不是 OUT、INOUT 或 RETURN 参数"
            )
            report.value("H224", ("outcome", key), message, did_you_mean(name, out))
    path: Path = ("outcome", "errors")
    seen = {code_text(item) for item in outcome["ok"]}
    for at, item in enumerate(outcome["errors"]):
        check_reason(item["reason"], (*path, at, "reason"), report)
        if code_text(item["is"]) in seen:
            message = Words("this code has a meaning already", "这个返回码已经有了含义")
            report.value("H224", (*path, at, "is"), message, Words("name each code once", "每个返回码只写一次"))
        seen.add(code_text(item["is"]))
    if outcome["otherwise"] != "unknown":
        check_reason(outcome["otherwise"], ("outcome", "otherwise"), report, also=("unknown",))


@dataclass(frozen=True, slots=True)
class _Verdict:
    reason: reason_pb2.Reason.ValueType
    retry: timedelta | None


class _ProcedureRunner:
    __slots__ = ("_binder", "_label", "_outcome", "_plan", "_procedure")

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
        self._outcome = _Outcome(values["outcome"], self._label) if "outcome" in values else None

    def run(self, session: Session, call: Call) -> Message:
        given = self._binder.values(call, Flow())
        result = session.call(self._procedure, given, max_rows=MAX_ROWS)
        if self._outcome is not None:
            self._outcome.judge(result)
        # A result may also name IN parameters: many procedures answer keys only, and what was sent is what they keep.
        return self._plan.answer(call, result.sets, result.out, given)


class _Outcome:
    """The table of return codes. Total: `otherwise` answers for every code that the table does not name."""

    __slots__ = ("_errors", "_from", "_label", "_ok", "_otherwise", "_text")

    def __init__(self, table: Mapping[str, Any], label: str) -> None:
        self._label = label
        self._from = table["from"]
        self._text = table.get("text")
        self._ok = frozenset(code_text(item) for item in table["ok"])
        self._errors = {
            code_text(item["is"]): _Verdict(reason_value(item["reason"]), item.get("retry")) for item in table["errors"]
        }
        other = table["otherwise"]
        self._otherwise = None if other == "unknown" else _Verdict(reason_value(other), None)

    def judge(self, result: ProcedureResult) -> None:
        """Nothing when the code means success. Raises HisRefused, HisBusy, HisUnavailable or OutcomeUnknown."""
        code = code_text(self._value(self._from, result))
        if code in self._ok:
            return
        verdict = self._errors.get(code, self._otherwise)
        if verdict is None:
            raise OutcomeUnknown(f"{self._label}: the procedure answered a code that the mapping does not know")
        raise self._error(verdict, result)

    def _error(self, verdict: _Verdict, result: ProcedureResult) -> HisError:
        detail = f"{self._label}: the procedure answered {reason_pb2.Reason.Name(verdict.reason)}"
        if verdict.reason == reason_pb2.REASON_HIS_BUSY:
            return HisBusy(detail, retry_after=verdict.retry)
        if verdict.reason == reason_pb2.REASON_HIS_UNAVAILABLE:
            return HisUnavailable(detail, retry_after=verdict.retry)
        if verdict.reason == reason_pb2.REASON_OUTCOME_UNKNOWN:
            return OutcomeUnknown(detail, retry_after=verdict.retry)
        text = self._value(self._text, result) if self._text is not None else None
        sentence = "" if text is None else str(text).strip()
        return HisRefused(verdict.reason, detail, text=sentence, retry_after=verdict.retry)

    def _value(self, source: Any, result: ProcedureResult) -> Any:
        if isinstance(source, str):
            for name, value in result.out.items():
                if name.casefold().lstrip("@") == source.casefold().lstrip("@"):
                    return value
            raise MappingMismatch(f"{self._label}: the procedure gave no parameter {source}")
        name = source["column"].casefold()
        for rows in result.sets:
            folded = [column.casefold() for column in rows.columns]
            if name in folded and rows.rows:
                return rows.rows[0][folded.index(name)]
        raise MappingMismatch(f"{self._label}: no result set has the column {source['column']}")
