"""An engine whose sessions note what is sent and answered; in a rehearsal COMMIT becomes ROLLBACK.

Going back to a savepoint that was set after BEGIN fails on every engine when somebody has committed (or rolled back)
in between: that is how a procedure that commits by itself is found out, without any right on the server.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from his_db.engine import Engine, Fault, ProcedurePlan, ProcedureResult, Rows, Session
from his_db.http_exchange import Exchanger, HttpReply, HttpRequest

_INCONCLUSIVE = frozenset({Fault.DEADLOCK, Fault.CONNECT, Fault.LOST, Fault.TIMEOUT, Fault.LOCK_TIMEOUT})


@dataclass(slots=True)
class Step:
    """One statement or call as it was sent. `sets`: what came back; `out`: OUT parameters; `error`: as described."""

    sql: str
    values: Mapping[str, Any]
    sets: tuple[Rows, ...] = ()
    out: Mapping[str, Any] = field(default_factory=dict)
    milliseconds: float = 0.0
    error: str = ""


@dataclass(slots=True)
class Record:
    """Everything that the sessions of one run did. `committed`: None when nothing was written, or it cannot be told."""

    steps: list[Step] = field(default_factory=list)
    committed: bool | None = None
    refused_commit: bool = False


class RecordingEngine:
    """See the module. `savepoint`: the two statements of the catalogue's reader; empty: commits are real (reads)."""

    def __init__(self, engine: Engine, record: Record, savepoint: tuple[str, str] | None = None) -> None:
        self._engine = engine
        self._record = record
        self._savepoint = savepoint
        self.name = engine.name
        self.driver_errors = engine.driver_errors

    def open(self, *, read_only: bool, statement_timeout: timedelta | None = None) -> Session:
        """See the port."""
        inner = self._engine.open(read_only=read_only, statement_timeout=statement_timeout)
        return RecordingSession(inner, self._engine, self._record, None if read_only else self._savepoint)

    def classify(self, error: BaseException, *, sent: bool) -> Fault:
        """See the port."""
        return self._engine.classify(error, sent=sent)

    def describe(self, error: BaseException) -> str:
        """See the port."""
        return self._engine.describe(error)

    def sentence(self, error: BaseException) -> str:
        """See the port."""
        return self._engine.sentence(error)

    def server_version(self, session: Session) -> str:
        """See the port."""
        return self._engine.server_version(session)

    def dispose(self) -> None:
        """See the port."""
        self._engine.dispose()


class RecordingSession:
    """See the module."""

    def __init__(self, inner: Session, engine: Engine, record: Record, savepoint: tuple[str, str] | None) -> None:
        self._inner = inner
        self._engine = engine
        self._record = record
        self._savepoint = savepoint
        self._fault: Fault | None = None

    def run(self, sql: str, values: Mapping[str, Any], *, max_rows: int) -> Rows:
        """See the port."""
        step = Step(sql, dict(values))
        rows: Rows = self._noted(step, lambda: self._inner.run(sql, values, max_rows=max_rows))
        step.sets = (rows,)
        return rows

    def stream(self, sql: str, values: Mapping[str, Any], *, size: int) -> Iterator[Rows]:
        """See the port. The first piece is kept, which is what a person looks at."""
        step = Step(sql, dict(values))
        pieces = self._inner.stream(sql, values, size=size)
        first: Rows = self._noted(step, lambda: next(pieces))
        step.sets = (first,)
        yield first
        yield from pieces

    def call(self, plan: ProcedurePlan, values: Mapping[str, Any], *, max_rows: int) -> ProcedureResult:
        """See the port."""
        step = Step(f"{'FUNCTION' if plan.function else 'CALL'} {plan.object}", dict(values))
        result: ProcedureResult = self._noted(step, lambda: self._inner.call(plan, values, max_rows=max_rows))
        step.sets, step.out = result.sets, result.out
        return result

    @property
    def goes_out(self) -> bool:
        """See `his_db.http_exchange.Exchanger`."""
        return isinstance(self._inner, Exchanger) and self._inner.goes_out

    def exchange(self, request: HttpRequest) -> HttpReply:
        """See `his_db.http_exchange.Exchanger`. What is kept of an exchange are its path, status and size: no query,
        no header and no body, which may name a patient or hold a secret."""
        assert isinstance(self._inner, Exchanger)
        step = Step(f"{request.method} {request.target.partition('?')[0]}", {})
        inner = self._inner
        reply: HttpReply = self._noted(step, lambda: inner.exchange(request))
        step.out = {"status": reply.status, "bytes": len(reply.body)}
        return reply

    def _noted(self, step: Step, work: Any) -> Any:
        self._record.steps.append(step)
        began = time.perf_counter()
        try:
            return work()
        except self._engine.driver_errors as error:
            step.error = self._engine.describe(error)
            self._fault = self._engine.classify(error, sent=True)
            # PostgreSQL refuses a COMMIT inside a caller's transaction: the procedure wanted to.
            self._record.refused_commit |= getattr(error, "sqlstate", None) == "2D000"
            raise
        finally:
            step.milliseconds = (time.perf_counter() - began) * 1000

    def begin(self) -> None:
        """BEGIN, and in a rehearsal the savepoint."""
        self._inner.begin()
        self._fault = None
        if self._savepoint is not None:
            self._inner.run(self._savepoint[0], {}, max_rows=0)

    def commit(self) -> None:
        """COMMIT; in a rehearsal ROLLBACK."""
        if self._savepoint is None:
            self._inner.commit()
        else:
            self.rollback()

    def rollback(self) -> None:
        """See the port. In a rehearsal first: is our transaction still the one that we began?"""
        if self._savepoint is not None and self._fault not in _INCONCLUSIVE:
            try:
                self._inner.run(self._savepoint[1], {}, max_rows=0)
                self._record.committed = bool(self._record.committed)
            except self._engine.driver_errors:
                # After an error the server may have ended the transaction by itself (XACT_ABORT of SQL Server).
                self._record.committed = True if self._fault is None else self._record.committed
        self._inner.rollback()

    def alive(self) -> bool:
        """See the port."""
        return self._inner.alive()

    def ping(self) -> bool:
        """See the port."""
        return self._inner.ping()

    def abort(self) -> None:
        """See the port."""
        self._inner.abort()

    def close(self) -> None:
        """See the port."""
        self._inner.close()
