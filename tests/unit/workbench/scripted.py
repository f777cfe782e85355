"""A session that answers from a script: by the purpose of a reader's statement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from his_db.engine import ProcedurePlan, ProcedureResult, Rows


class ScriptedSession:
    """`rows`: purpose -> rows; statements that the script does not know answer nothing."""

    def __init__(self, statements: Mapping[str, str], rows: Mapping[str, list[tuple[Any, ...]]]) -> None:
        self._rows = {statements[purpose]: found for purpose, found in rows.items()}
        self.sent: list[str] = []

    def run(self, sql: str, values: Mapping[str, Any], *, max_rows: int) -> Rows:
        self.sent.append(sql)
        found = self._rows.get(sql, [])
        return Rows(tuple(f"c{at}" for at in range(len(found[0]) if found else 0)), found, 0)

    def call(self, plan: ProcedurePlan, values: Mapping[str, Any], *, max_rows: int) -> ProcedureResult:
        raise AssertionError("a catalogue reader calls nothing")

    def begin(self) -> None:
        raise AssertionError("a catalogue reader writes nothing")

    commit = rollback = begin

    def alive(self) -> bool:
        return True

    def ping(self) -> bool:
        return True

    def abort(self) -> None: ...

    def close(self) -> None: ...
