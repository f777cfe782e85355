"""Recorded samples of a pack: what the HIS answered to one operation, and what the mapping made of it.

One file per operation, `sample/recorded/<operation>.json`: a list of cases, each with `request`, `exchanges` (statements in their order:
result sets, or OUT parameters with result sets) and `response`, or `refused` with reason and text. Fictional data only.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from his160.v1 import reason_pb2

from his_db.engine import ProcedurePlan, ProcedureResult, Rows, Session
from his_db.errors import HisRefused
from his_db.generation import CompiledOperation, CompiledWatch

Case = dict[str, Any]
NOW = datetime.datetime(2026, 11, 23, 10, 30)


def plain(value: Any) -> Any:
    """A driver's value as JSON."""
    if isinstance(value, Decimal):
        return {"decimal": str(value)}
    if isinstance(value, datetime.datetime):
        return {"datetime": value.isoformat(sep=" ")}
    return value


def native(value: Any) -> Any:
    """Back again."""
    if not isinstance(value, dict):
        return value
    ((sort, text),) = value.items()
    return Decimal(text) if sort == "decimal" else datetime.datetime.fromisoformat(text)


def plain_rows(rows: Rows) -> dict[str, Any]:
    return {"columns": list(rows.columns), "rows": [[plain(value) for value in row] for row in rows.rows]}


def native_rows(found: Mapping[str, Any], *, upper: bool) -> Rows:
    columns = tuple(name.upper() if upper else name for name in found["columns"])
    return Rows(columns, [tuple(native(value) for value in row) for row in found["rows"]], 0)


@dataclass(slots=True)
class Recorder:
    """A session that passes everything on and keeps what came back."""

    inner: Session
    exchanges: list[dict[str, Any]] = field(default_factory=list)

    def run(self, sql: str, values: Mapping[str, Any], *, max_rows: int) -> Rows:
        rows = self.inner.run(sql, values, max_rows=max_rows)
        self.exchanges.append({"set": plain_rows(rows)})
        return rows

    def call(self, plan: ProcedurePlan, values: Mapping[str, Any], *, max_rows: int) -> ProcedureResult:
        result = self.inner.call(plan, values, max_rows=max_rows)
        out = {name: plain(value) for name, value in result.out.items() if name != "o_cur"}
        self.exchanges.append({"called": plan.object, "out": out, "sets": [plain_rows(rows) for rows in result.sets]})
        return result


@dataclass(slots=True)
class Replay:
    """A session that gives the recorded answers. `upper`: column names as Oracle tells them."""

    exchanges: Sequence[Mapping[str, Any]]
    upper: bool = False
    at: int = 0
    asked: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    def _next(self) -> Mapping[str, Any]:
        self.at += 1
        return self.exchanges[self.at - 1]

    def run(self, sql: str, values: Mapping[str, Any], *, max_rows: int) -> Rows:
        self.asked.append((sql, values))
        return native_rows(self._next()["set"], upper=self.upper)

    def call(self, plan: ProcedurePlan, values: Mapping[str, Any], *, max_rows: int) -> ProcedureResult:
        self.asked.append((plan.object, values))
        found = self._next()
        assert plan.object.split(".")[-1].lower() == found["called"].split(".")[-1].lower()
        out = {name: native(value) for name, value in found["out"].items()}
        if any("cursor" in parameter.type.lower() for parameter in plan.parameters):
            out["o_cur"] = "<cursor>"
        return ProcedureResult(out, tuple(native_rows(rows, upper=self.upper) for rows in found["sets"]))


def record(operation: CompiledOperation, session: Session, request: Message) -> Case:
    """Run one operation for real; the transaction is the caller's."""
    recorder = Recorder(session)
    case: Case = {"request": MessageToDict(request, preserving_proto_field_name=True)}
    try:
        response = operation.run(recorder, request, now=NOW, key="0" * 32)  # type: ignore[arg-type]
        case["response"] = MessageToDict(response, preserving_proto_field_name=True)
    except HisRefused as error:
        case["refused"] = {"reason": reason_pb2.Reason.Name(error.reason), "text": error.text}
    case["exchanges"] = recorder.exchanges
    return case


def replay(operation: CompiledOperation, case: Case, *, upper: bool = False) -> Case:
    """The same case from the recorded answers."""
    request = ParseDict(case["request"], operation.operation.request_class())
    session = Replay(case["exchanges"], upper)
    found: Case = {key: case[key] for key in ("request", "exchanges")}
    try:
        response = operation.run(session, request, now=NOW, key="0" * 32)  # type: ignore[arg-type]
        found["response"] = MessageToDict(response, preserving_proto_field_name=True)
    except HisRefused as error:
        found["refused"] = {"reason": reason_pb2.Reason.Name(error.reason), "text": error.text}
    assert session.at == len(case["exchanges"])
    return found


def seen(watch: CompiledWatch, session: Any) -> list[dict[str, Any]]:
    """The messages of all rows that a watch sees, in their order."""
    rows, refused = watch.read(session, now=NOW)
    assert refused == 0
    return [MessageToDict(watch.build(row), preserving_proto_field_name=True) for _, row in rows]


def record_watch(watch: CompiledWatch, session: Session, limit: int) -> Case:
    """The first rows of a watch."""
    recorder = Recorder(session)
    seen(watch, recorder)
    [exchange] = recorder.exchanges
    exchange["set"]["rows"] = exchange["set"]["rows"][:limit]
    return {"watch": watch.name, "exchanges": [exchange], "messages": seen(watch, Replay([exchange]))}


def cases(folder: Path) -> dict[str, list[Case]]:
    """Operation -> its recorded cases."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
