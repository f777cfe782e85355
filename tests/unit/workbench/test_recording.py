"""The rehearsal's session: COMMIT becomes ROLLBACK; a savepoint that is gone means that somebody committed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from his_db.engine import Fault, ProcedurePlan, ProcedureResult, Rows, Session
from his_db.workbench.recording import Record, RecordingEngine

SAVEPOINT = ("SAVEPOINT s", "ROLLBACK TO s")


class Broken(Exception):
    """The driver's."""


class FakeSession:
    def __init__(self, log: list[str], failing: Mapping[str, Exception]) -> None:
        self.log = log
        self.failing = failing

    def run(self, sql: str, values: Mapping[str, Any], *, max_rows: int) -> Rows:
        self.log.append(sql)
        if sql in self.failing:
            raise self.failing[sql]
        return Rows((), (), 1)

    def call(self, plan: ProcedurePlan, values: Mapping[str, Any], *, max_rows: int) -> ProcedureResult:
        self.log.append(plan.object)
        return ProcedureResult({"o": 1}, ())

    def begin(self) -> None:
        self.log.append("BEGIN")

    def commit(self) -> None:
        self.log.append("COMMIT")

    def rollback(self) -> None:
        self.log.append("ROLLBACK")

    def alive(self) -> bool:
        return True

    def ping(self) -> bool:
        return True

    def abort(self) -> None: ...

    def close(self) -> None: ...


class FakeEngine:
    name = "fake"
    driver_errors: tuple[type[Exception], ...] = (Broken,)

    def __init__(self, failing: Mapping[str, Exception] | None = None, fault: Fault = Fault.OTHER) -> None:
        self.log: list[str] = []
        self.failing = failing or {}
        self.fault = fault

    def open(self, *, read_only: bool, statement_timeout: timedelta | None = None) -> Session:
        return FakeSession(self.log, self.failing)

    def classify(self, error: BaseException, *, sent: bool) -> Fault:
        return self.fault

    def describe(self, error: BaseException) -> str:
        return "E1"

    def sentence(self, error: BaseException) -> str:
        return ""

    def server_version(self, session: Session) -> str:
        return "1"

    def dispose(self) -> None: ...


def test_commit_becomes_rollback_behind_a_savepoint() -> None:
    engine, record = FakeEngine(), Record()
    session = RecordingEngine(engine, record, SAVEPOINT).open(read_only=False)
    session.begin()
    session.run("UPDATE t", {"a": 1}, max_rows=0)
    session.commit()
    assert engine.log == ["BEGIN", "SAVEPOINT s", "UPDATE t", "ROLLBACK TO s", "ROLLBACK"]
    assert record.committed is False
    assert [(step.sql, dict(step.values)) for step in record.steps] == [("UPDATE t", {"a": 1})]


def test_a_savepoint_that_is_gone_means_committed() -> None:
    engine, record = FakeEngine({"ROLLBACK TO s": Broken()}), Record()
    session = RecordingEngine(engine, record, SAVEPOINT).open(read_only=False)
    session.begin()
    session.call(ProcedurePlan("usp", ()), {}, max_rows=0)
    session.commit()
    assert record.committed is True
    assert "COMMIT" not in engine.log


def test_an_error_that_ended_the_transaction_is_no_proof_of_a_commit() -> None:
    engine, record = FakeEngine({"UPDATE t": Broken(), "ROLLBACK TO s": Broken()}, Fault.CONSTRAINT), Record()
    session = RecordingEngine(engine, record, SAVEPOINT).open(read_only=False)
    session.begin()
    with pytest.raises(Broken):
        session.run("UPDATE t", {}, max_rows=0)
    session.rollback()
    assert record.committed is None


def test_a_deadlock_ends_the_transaction_and_says_nothing() -> None:
    engine, record = FakeEngine({"UPDATE t": Broken(), "ROLLBACK TO s": Broken()}, Fault.DEADLOCK), Record()
    session = RecordingEngine(engine, record, SAVEPOINT).open(read_only=False)
    session.begin()
    with pytest.raises(Broken):
        session.run("UPDATE t", {}, max_rows=0)
    session.rollback()
    assert record.committed is None
    assert record.steps[0].error == "E1"


def test_a_read_session_is_left_as_it_is() -> None:
    engine, record = FakeEngine(), Record()
    session = RecordingEngine(engine, record, SAVEPOINT).open(read_only=True)
    session.run("SELECT 1", {}, max_rows=1)
    assert engine.log == ["SELECT 1"]
    assert record.committed is None
