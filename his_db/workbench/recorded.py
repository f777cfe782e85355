"""What an HIS once answered, replayed through the mappings without a database: the same message, the same refusal.

A folder of `<name>.json`, each a list of cases:

    {"operation": …, "request": {…}, "exchanges": […], "response": {…}}     or "refused": {"reason": …, "text": …}
    {"watch": …, "exchanges": [one], "messages": […]}

`exchanges` are the answers to the statements in their order: `{"set": {"columns": […], "rows": […]}}` or
`{"set": {"changed": 1}}`; of a procedure `{"called": name, "out": {…}, "sets": […]}`. Values that JSON has not are
`{"decimal": "1.50"}`, `{"date": "2026-11-23"}`, `{"datetime": "2026-11-23 10:30:00"}`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from his160.v1 import reason_pb2

from his_db.compiled_watch import CompiledWatch
from his_db.document.problem import Place, Problem
from his_db.engine import ProcedurePlan, ProcedureResult, Rows
from his_db.errors import HisError, HisRefused
from his_db.generation import CompiledOperation, Generation
from his_db.mapping.model import MappingSet
from his_db.mapping.trial import TestOutcome, reason_name
from his_db.secret_reference import without_secrets

Case = dict[str, Any]
NOW: Final = datetime(2026, 11, 23, 10, 30)  # noqa: DTZ001 - the hospital's wall clock of every recording
_UPPER: Final = frozenset({"oracle", "dm"})  # they tell column names in upper case, whatever the recording was made on
_CURSOR: Final = "<cursor>"


class OtherStatements(Exception):
    """The mapping asks something else than was recorded."""


def native(value: Any) -> Any:
    """A value of JSON as a driver gives it."""
    if not isinstance(value, dict):
        return value
    ((sort, text),) = value.items()
    if sort == "decimal":
        return Decimal(text)
    return date.fromisoformat(text) if sort == "date" else datetime.fromisoformat(text)


def native_rows(found: Mapping[str, Any], *, upper: bool) -> Rows:
    """One result set, or how many rows were changed."""
    if "changed" in found:
        return Rows((), [], found["changed"])
    columns = tuple(name.upper() if upper else name for name in found["columns"])
    return Rows(columns, [tuple(native(value) for value in row) for row in found["rows"]], 0)


@dataclass(slots=True)
class Replay:
    """A session that gives the recorded answers. `upper`: column names as Oracle tells them."""

    exchanges: Sequence[Mapping[str, Any]]
    upper: bool = False
    at: int = 0
    asked: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    def _next(self, key: str) -> Mapping[str, Any]:
        if self.at == len(self.exchanges) or key not in self.exchanges[self.at]:
            raise OtherStatements
        self.at += 1
        return self.exchanges[self.at - 1]

    def run(self, sql: str, values: Mapping[str, Any], *, max_rows: int) -> Rows:
        """The next recorded set."""
        self.asked.append((sql, values))
        return native_rows(self._next("set")["set"], upper=self.upper)

    def call(self, plan: ProcedurePlan, values: Mapping[str, Any], *, max_rows: int) -> ProcedureResult:
        """The next recorded call, of the procedure of that name whatever its owner is."""
        self.asked.append((plan.object, values))
        found = self._next("called")
        if plan.object.split(".")[-1].lower() != found["called"].split(".")[-1].lower():
            raise OtherStatements
        out = {name: native(value) for name, value in found["out"].items()}
        out.update({item.name: _CURSOR for item in plan.parameters if "cursor" in item.type.lower()})
        return ProcedureResult(out, tuple(native_rows(rows, upper=self.upper) for rows in found["sets"]))


def replay(operation: CompiledOperation, case: Case, *, upper: bool = False) -> Case:
    """`response` or `refused` of the same request from the recorded answers. Raises OtherStatements, HisError."""
    request = ParseDict(case["request"], operation.operation.request_class())
    session: Any = Replay(case["exchanges"], upper)
    try:
        response = operation.run(session, request, now=NOW, key="0" * 32)
        found: Case = {"response": MessageToDict(response, preserving_proto_field_name=True)}
    except HisRefused as error:
        found = {"refused": {"reason": reason_pb2.Reason.Name(error.reason), "text": error.text}}
    if session.at != len(case["exchanges"]):
        raise OtherStatements
    return found


def seen(watch: CompiledWatch, session: Any) -> list[dict[str, Any]]:
    """The messages of all rows that a watch sees, in their order."""
    rows, _ = watch.read(session, now=NOW)
    return [MessageToDict(watch.build(row), preserving_proto_field_name=True) for _, row in rows]


def cases(folder: Path) -> dict[str, list[Case]]:
    """Name of the file -> its cases. Raises OSError, ValueError (no JSON)."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def run_recordings(folder: Path, mapping_set: MappingSet, generation: Generation) -> list[TestOutcome]:
    """Every case of the folder. What is not mapped any more has failed. Raises OSError, ValueError."""
    return [
        _outcome(f"{name}.json", number, case, mapping_set, generation)
        for name, found in cases(folder).items()
        for number, case in enumerate(found, 1)
    ]


def _outcome(file: str, number: int, case: Case, mapping_set: MappingSet, generation: Generation) -> TestOutcome:
    name = case.get("operation") or case.get("watch") or "?"
    try:
        with without_secrets():
            differences = list(_differences(name, case, mapping_set, generation))
    except (KeyError, TypeError, AttributeError, ParseError, ValueError) as error:
        differences = [("not a recorded case", "不是录制的样例", type(error).__name__)]
    problems = tuple(
        Problem(Place(file, number, 1), "H239", f"{en}: {detail}", f"{zh}：{detail}") for en, zh, detail in differences
    )
    return TestOutcome(file, name, f"录制 recorded {number}", problems)


def _differences(
    name: str, case: Case, mapping_set: MappingSet, generation: Generation
) -> Iterator[tuple[str, str, str]]:
    """(English, Chinese, detail) of everything that is not as recorded."""
    try:
        if "watch" in case:
            if name not in generation.watches:
                yield "not mapped any more", "已经没有映射", name
                return
            upper = mapping_set.watches[name].engine in _UPPER
            found: Case = {"messages": seen(generation.watches[name], Replay(case["exchanges"], upper))}
        else:
            if name not in generation.operations:
                yield "not mapped any more", "已经没有映射", name
                return
            upper = mapping_set.operations[name].engine in _UPPER
            found = replay(generation.operation(name), case, upper=upper)
    except OtherStatements:
        yield "the mapping sends other statements than were recorded", "映射发出的语句与录制时不同", name
        return
    except HisError as error:
        yield "the call failed", "调用失败", f"{reason_name(error)}: {error.detail}"
        return
    wanted = {key: case[key] for key in ("response", "refused", "messages") if key in case}
    before, after = dict(_flat(wanted)), dict(_flat(found))
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) != after.get(path):
            detail = f"{path} = {_shown(before, path)} → {_shown(after, path)}"
            yield "not as recorded", "与录制的不同", detail


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path and value of every leaf."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        yield f"{path}.length", len(value)
        for at, item in enumerate(value):
            yield from _flat(item, f"{path}.{at}")
    else:
        yield path, value


def _shown(found: Mapping[str, Any], path: str) -> str:
    return json.dumps(found[path], ensure_ascii=False)[:80] if path in found else "-"
