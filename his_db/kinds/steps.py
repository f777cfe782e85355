"""kind = "steps": guarded statements in one transaction; values flow from step to step, a failed guard says why."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from google.protobuf.message import Message
from his160.v1 import reason_pb2

from his_db.document.finding import Words
from his_db.document.located import Path
from his_db.document.shape import Boolean, Field, Integer, ListOf, TableOf, Text
from his_db.engine import Rows, Session
from his_db.errors import HisRefused, MappingMismatch
from his_db.kind import Call, Flow, Runner
from his_db.mapping.answer import ResultPlan, reason_value
from his_db.mapping.binding import Binder, entries_for, sql_binder
from his_db.mapping.check_results import check_columns, check_reason
from his_db.mapping.check_statement import StatementFacts, check_binds, check_select, check_statement, sql_place
from his_db.mapping.finding import Reporter, did_you_mean
from his_db.mapping.grammar import PARAMS, SQL_KEYS
from his_db.mapping.model import OperationMapping, ResultSpec
from his_db.mapping.sql_text import binds, is_select

_STEP_NAME = Text(
    pattern=r"[A-Za-z]\w*", pattern_hint="letters, digits and _", pattern_hint_zh="字母开头，只含字母、数字和下划线"
)
_STEP = TableOf(
    {
        "name": Field(_STEP_NAME, required=True),
        **SQL_KEYS,
        "expect_rows": Field(Integer(0, 10_000)),
        "fails": Field(Text(min_length=1)),
        "skip_when": Field(Text(min_length=1)),
        "skip_unless": Field(Text(min_length=1)),
        "result": Field(Boolean(), default=False),
    }
)
_DIAGNOSIS = TableOf(
    {"after": Field(Text(min_length=1)), **SQL_KEYS, "reason": Field(Text(min_length=1), required=True)}
)


class StepsKind:
    """HIS without procedures."""

    name: ClassVar[str] = "steps"
    effects: ClassVar[frozenset[str]] = frozenset({"read", "write"})

    def keys(self) -> Mapping[str, Field]:
        return {
            "params": PARAMS,
            "step": Field(ListOf(_STEP, min_items=1), required=True),
            "diagnosis": Field(ListOf(_DIAGNOSIS), default=[]),
        }

    def check(self, mapping: OperationMapping, report: Reporter) -> None:
        facts = _check_steps(mapping, report)
        _check_diagnoses(mapping, report)
        used = [
            (sql_place(item, (table, at)), mapping.sql(item))
            for table in ("step", "diagnosis")
            for at, item in enumerate(mapping.values[table])
        ]
        check_binds(used, mapping, report)
        _check_effect(mapping, facts, report)
        selects = [item["name"] for item in mapping.values["step"] if is_select(mapping.sql(item))]
        for result in mapping.results:
            if _check_set(result, selects, mapping, report):
                chosen = result_step(mapping, result)
                if chosen in facts:
                    check_columns([result], facts[chosen].outputs, report)

    def compile(self, mapping: OperationMapping) -> Runner:
        return _StepsRunner(mapping)


def result_step(mapping: OperationMapping, result: ResultSpec) -> str | None:
    """Name of the step that feeds a `[[result]]`: that of `set`, else the one marked, else the last SELECT."""
    steps = mapping.values["step"]
    selects: list[str] = [item["name"] for item in steps if is_select(mapping.sql(item))]
    if result.set is not None:
        return str(result.set) if result.set in selects else None
    marked: list[str] = [item["name"] for item in steps if item["result"]]
    chosen = marked or selects
    return chosen[-1] if chosen else None


def _check_set(result: ResultSpec, selects: list[str], mapping: OperationMapping, report: Reporter) -> bool:
    """Whether it is clear which SELECT step feeds a result: `set` names it where there are several results."""
    if not selects:
        report.key("H230", result.path, Words("no SELECT step gives the result", "没有 SELECT 步骤提供返回结果"))
    elif result.set is None and len(mapping.results) > 1:
        message = Words("say which SELECT step feeds this result", "请写明该结果来自哪个 SELECT 步骤")
        report.key("H230", result.path, message, Words('add set = "step name"', '补上 set = "步骤名"'))
    elif result.set is not None and result.set not in selects:
        message = Words(f'there is no SELECT step "{result.set}"', f"没有名为 “{result.set}” 的 SELECT 步骤")
        report.value("H230", (*result.path, "set"), message, did_you_mean(str(result.set), selects))
    else:
        return True
    return False


def _check_steps(mapping: OperationMapping, report: Reporter) -> dict[str, StatementFacts]:
    """The facts of each step that can be understood, by name."""
    facts: dict[str, StatementFacts] = {}
    names: list[str] = []
    for at, item in enumerate(mapping.values["step"]):
        path: Path = ("step", at)
        if item["name"] in names:
            report.value("H223", (*path, "name"), Words("two steps have this name", "有两个步骤同名"))
        for key in ("skip_when", "skip_unless"):
            if key in item and item[key] not in names:
                _unknown_step(item[key], names, (*path, key), report)
        if "skip_when" in item and "skip_unless" in item:
            report.key(
                "H223",
                path,
                Words("skip_when and skip_unless exclude each other", "skip_when 与 skip_unless 只能写一个"),
            )
        if "fails" in item:
            check_reason(item["fails"], (*path, "fails"), report)
            if "expect_rows" not in item:
                message = Words(
                    "fails without expect_rows never happens", "只有 fails 而没有 expect_rows，永远不会触发"
                )
                report.key("H224", (*path, "fails"), message, Words("add expect_rows = 1", "补上 expect_rows = 1"))
        found = check_statement(item, path, mapping.engine, mapping.site, report)
        if found is not None:
            _check_step_values(mapping, found, names, report)
            facts[item["name"]] = found
            if item["result"] and not found.is_select:
                report.key(
                    "H230",
                    (*path, "result"),
                    Words("only a SELECT step can give the result", "只有 SELECT 步骤能提供返回结果"),
                )
        names.append(item["name"])
    return facts


def _check_step_values(mapping: OperationMapping, facts: StatementFacts, before: list[str], report: Reporter) -> None:
    selects = {item["name"] for item in mapping.values["step"] if is_select(mapping.sql(item))}
    for param in entries_for(binds(facts.sql, mapping.engine), mapping.params):
        step = param.step.partition(".")[0]
        if step and (step not in before or step not in selects):
            _unknown_step(step, [name for name in before if name in selects], (*param.path, "step"), report)


def _unknown_step(name: str, known: list[str], path: Path, report: Reporter) -> None:
    message = Words(f'"{name}" is no earlier step that could be used here', f"“{name}” 不是可以在这里引用的前面的步骤")
    report.value("H223", path, message, did_you_mean(name, known))


def _check_diagnoses(mapping: OperationMapping, report: Reporter) -> None:
    names = [item["name"] for item in mapping.values["step"]]
    for at, item in enumerate(mapping.values["diagnosis"]):
        path: Path = ("diagnosis", at)
        check_reason(item["reason"], (*path, "reason"), report)
        check_select(item, path, mapping.engine, mapping.site, report)
        if "after" in item and item["after"] not in names:
            _unknown_step(item["after"], names, (*path, "after"), report)


def _check_effect(mapping: OperationMapping, facts: Mapping[str, StatementFacts], report: Reporter) -> None:
    if mapping.operation.is_read:
        for found in facts.values():
            if not found.is_select:
                message = Words("a reading operation must only SELECT", "查询类操作只能使用 SELECT")
                report.value("H301", found.path, message)
    elif len(facts) == len(mapping.values["step"]) and all(found.is_select for found in facts.values()):
        message = Words("this operation writes, but every step only reads", "该操作应当写入，但所有步骤都只是查询")
        report.key("H302", ("step",), message)


@dataclass(frozen=True, slots=True)
class _Step:
    name: str
    sql: str
    binder: Binder
    selects: bool
    expect: int | None
    fails: reason_pb2.Reason.ValueType
    skip_when: str
    skip_unless: str
    is_result: bool
    diagnoses: tuple[tuple[str, Binder, reason_pb2.Reason.ValueType], ...]


class _StepsRunner:
    __slots__ = ("_label", "_none", "_plan", "_steps")

    def __init__(self, mapping: OperationMapping) -> None:
        self._label = mapping.operation.name
        self._plan = ResultPlan(mapping)
        # What a step that was left out gives its result: no row.
        self._none: dict[str, Rows] = {}
        for result in mapping.results:
            name = result_step(mapping, result) or ""
            known = self._none[name].columns if name in self._none else ()
            self._none[name] = Rows(tuple(dict.fromkeys((*known, *result.columns()))), (), -1)
        self._steps = tuple(_compile_step(item, mapping, self._none) for item in mapping.values["step"])

    def run(self, session: Session, call: Call) -> Message:
        flow = Flow()
        counts: dict[str, int] = {}
        sets = dict(self._none)
        for step in self._steps:
            if _is_skipped(step, counts):
                counts[step.name] = 0
                continue
            limit = self._plan.max_rows(call) if step.is_result else max(1, step.expect or 1)
            rows = session.run(step.sql, step.binder.values(call, flow), max_rows=limit)
            count = counts[step.name] = self._count(step, rows)
            if step.expect is not None and count != step.expect:
                raise self._failure(step, session, call, flow)
            if rows.columns:
                first = rows.rows[0] if rows.rows else None
                names = (name.casefold() for name in rows.columns)
                flow[step.name] = None if first is None else dict(zip(names, first, strict=True))
            if step.is_result:
                sets[step.name] = rows
        return self._plan.answer(call, tuple(sets.values()), cursors=tuple(name.casefold() for name in sets))

    def _count(self, step: _Step, rows: Rows) -> int:
        if step.selects or (rows.changed < 0 and rows.columns):
            return len(rows.rows)
        if rows.changed < 0 and step.expect is not None:
            raise MappingMismatch(f"{self._label}: step {step.name}: the engine does not say how many rows it changed")
        return max(0, rows.changed)

    def _failure(self, step: _Step, session: Session, call: Call, flow: Flow) -> HisRefused:
        """The first diagnosis that reads a row says why; else what the step says. In the same transaction."""
        for sql, binder, reason in step.diagnoses:
            if session.run(sql, binder.values(call, flow), max_rows=1).rows:
                return HisRefused(reason, f"{self._label}: step {step.name} did not hold, a diagnosis fits")
        return HisRefused(step.fails, f"{self._label}: step {step.name} did not hold")


def _is_skipped(step: _Step, counts: Mapping[str, int]) -> bool:
    if step.skip_when:
        return counts.get(step.skip_when, 0) > 0
    return bool(step.skip_unless) and counts.get(step.skip_unless, 0) == 0


def _compile_step(item: Mapping[str, Any], mapping: OperationMapping, chosen: Collection[str]) -> _Step:
    sql = mapping.sql(item)
    diagnoses = tuple(
        (mapping.sql(found), sql_binder(mapping, mapping.sql(found)), reason_value(found["reason"]))
        for found in mapping.values["diagnosis"]
        if found.get("after", item["name"]) == item["name"]
    )
    return _Step(
        name=item["name"],
        sql=sql,
        binder=sql_binder(mapping, sql),
        selects=is_select(sql),
        expect=item.get("expect_rows"),
        fails=reason_value(item.get("fails", "HIS_REFUSED")),
        skip_when=item.get("skip_when", ""),
        skip_unless=item.get("skip_unless", ""),
        is_result=item["name"] in chosen,
        diagnoses=diagnoses,
    )
