"""Making the recorded samples of a pack: `sample/recorded/<operation>.json`, as `his_db.workbench.recorded` reads them. Fictional data only."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from his160.v1 import reason_pb2

from his_db.compiled_watch import CompiledWatch
from his_db.engine import ProcedurePlan, ProcedureResult, Rows, Session
from his_db.errors import HisRefused
from his_db.generation import CompiledOperation
from his_db.workbench.recorded import NOW, Case, Replay, seen


def plain(value: Any) -> Any:
    """A driver's value as JSON."""
    if isinstance(value, Decimal):
        return {"decimal": str(value)}
    if isinstance(value, datetime.datetime):
        return {"datetime": value.isoformat(sep=" ")}
    if isinstance(value, datetime.date):
        return {"date": value.isoformat()}
    return value


def plain_rows(rows: Rows) -> dict[str, Any]:
    if not rows.columns:
        return {"changed": rows.changed}
    return {"columns": list(rows.columns), "rows": [[plain(value) for value in row] for row in rows.rows]}


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


def record(operation: CompiledOperation, session: Session, request: Message, *, key: str = "0" * 32) -> Case:
    """Run one operation for real; the transaction is the caller's."""
    recorder = Recorder(session)
    case: Case = {"request": MessageToDict(request, preserving_proto_field_name=True)}
    try:
        response = operation.run(recorder, request, now=NOW, key=key)  # type: ignore[arg-type]
        case["response"] = MessageToDict(response, preserving_proto_field_name=True)
    except HisRefused as error:
        case["refused"] = {"reason": reason_pb2.Reason.Name(error.reason), "text": error.text}
    case["exchanges"] = recorder.exchanges
    return case


def record_watch(watch: CompiledWatch, session: Session, limit: int) -> Case:
    """The first rows of a watch."""
    recorder = Recorder(session)
    seen(watch, recorder)
    [exchange] = recorder.exchanges
    exchange["set"]["rows"] = exchange["set"]["rows"][:limit]
    return {"watch": watch.name, "exchanges": [exchange], "messages": seen(watch, Replay([exchange]))}
