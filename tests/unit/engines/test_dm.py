"""达梦 without a server: the driver is loaded late, and a scripted one is used as its manual says."""

from __future__ import annotations

import socket
import sys
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from his_db.engine import Fault, Parameter, ParameterKind, ProcedurePlan, SourceSettings
from his_db.engines.dm import DmEngine
from his_db.held_connection import CallError, ReadOnlyError
from tests.unit.engines.scripted import ScriptedConnection, ScriptedCursor, Set

SETTINGS = SourceSettings(name="his", engine="dm", database="HIS", host="10.1.1.7", user="jk160", password="x")


class DmError(Exception):
    """dmPython's base error; its first argument is a record with ``code`` and ``message``."""


class Connection(ScriptedConnection):
    autoCommit = True

    def cursor(self) -> Any:
        cursor = ScriptedCursor(self)
        log = self.log

        class Calling:
            description = None

            def __enter__(self) -> Calling:
                return self

            def __exit__(self, *_: object) -> None:
                return

            def callproc(self, name: str, *values: Any) -> list[Any]:
                log.append((name, *values))
                return [*values[:-2], 0, "好"]

        cursor.__enter__ = lambda: Calling()  # type: ignore[attr-defined]
        return _Both(cursor, Calling())

    def commit(self) -> None:
        self.log.append(("commit", self.autoCommit))

    def rollback(self) -> None:
        self.log.append(("rollback", self.autoCommit))


class _Both:
    """A cursor for statements that is another one inside ``with``."""

    def __init__(self, plain: Any, calling: Any) -> None:
        self._plain, self._calling = plain, calling

    def __enter__(self) -> Any:
        return self._calling

    def __exit__(self, *_: object) -> None:
        return

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plain, name)


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Connection:
    made = Connection(lambda sql: [Set(("A",), [(1,)])] if sql.startswith("SELECT") else [Set(changed=1)])
    driver = SimpleNamespace(
        Error=DmError, connect=lambda **_: made, PG_UTF8=1, ISO_LEVEL_READ_COMMITTED=1, DSQL_MODE_READ_ONLY=1,
        DSQL_MODE_READ_WRITE=0,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "dmPython", driver)  # type: ignore[arg-type]
    return made


def test_a_session(connection: Connection) -> None:
    engine = DmEngine(SETTINGS)
    session = engine.open(read_only=False)
    assert session.run("SELECT A FROM T WHERE B = :b", {"b": 5}, max_rows=1).rows == [(1,)]
    session.begin()
    assert not connection.autoCommit
    session.run("UPDATE T SET A = 1", {}, max_rows=1)
    session.commit()
    session.begin()
    session.rollback()
    assert [entry for entry in connection.log if entry[0] in ("commit", "rollback")] == [
        ("commit", False), ("rollback", False)
    ]  # fmt: skip
    assert connection.autoCommit
    plan = ProcedurePlan(
        "HIS.P",
        (Parameter("a"), Parameter("c", ParameterKind.OUT, "int"), Parameter("m", ParameterKind.OUT, "varchar(9)")),
    )
    assert session.call(plan, {"a": 7}, max_rows=1).out == {"c": 0, "m": "好"}
    with pytest.raises(CallError):
        session.call(ProcedurePlan("P; DROP TABLE X", ()), {}, max_rows=1)
    session.close()
    reading = engine.open(read_only=True)
    with pytest.raises(ReadOnlyError):
        reading.run("DELETE FROM T", {}, max_rows=1)
    engine.dispose()


@pytest.mark.parametrize(
    ("code", "fault"),
    [(-6403, Fault.DEADLOCK), (-7067, Fault.DEADLOCK), (-7184, Fault.DEADLOCK), (-6407, Fault.LOCK_TIMEOUT),
     (-6602, Fault.CONSTRAINT), (-6609, Fault.CONSTRAINT), (-2106, Fault.SCHEMA), (-2111, Fault.SCHEMA),
     (-2119, Fault.SCHEMA), (-2207, Fault.SCHEMA), (-2007, Fault.SYNTAX), (-5504, Fault.RIGHTS), (-5515, Fault.RIGHTS),
     (-2501, Fault.CONNECT), (-70028, Fault.CONNECT), (-6010, Fault.LOST), (-70019, Fault.LOST), (-70022, Fault.LOST),
     (-70065, Fault.LOST), (-70118, Fault.LOST), (-70005, Fault.DATA), (-6108, Fault.DATA), (-6506, Fault.READ_ONLY),
     (-7049, Fault.TIMEOUT), (-6515, Fault.TIMEOUT), (-20001, Fault.CONSTRAINT), (-1, Fault.OTHER)],
)  # fmt: skip
def test_numbers(connection: Connection, code: int, fault: Fault) -> None:
    engine = DmEngine(SETTINGS)
    error = DmError(SimpleNamespace(code=code, message="张三"))
    assert engine.classify(error, sent=True) is fault
    assert engine.classify(error, sent=False) is Fault.CONNECT
    assert "张三" not in engine.describe(error)
    assert engine.sentence(error) == ("张三" if code == -20001 else "")


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dmPython", None)
    with pytest.raises(CallError, match="pip install dmPython"):
        DmEngine(SETTINGS)


def test_a_refused_login_of_dmpython_2_5_is_found_behind_its_system_error(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = DmEngine(SETTINGS)
    refusals: list[BaseException | None] = [DmError(SimpleNamespace(code=-2501, message="张三")), None]

    def connect(**_: Any) -> Any:
        error = SystemError("<class 'dmPython.Connection'> returned a result with an exception set")
        error.__context__ = refusals.pop(0)
        raise error

    monkeypatch.setattr(sys.modules["dmPython"], "connect", connect)
    with pytest.raises(DmError) as refused:
        engine.open(read_only=True)
    assert engine.classify(refused.value, sent=False) is Fault.CONNECT
    assert engine.describe(refused.value) == "CODE -2501 user name or password refused"
    with pytest.raises(CallError, match="does not say why"):
        engine.open(read_only=True)


def test_the_encryption_library_that_is_not_found_is_explained(connection: Connection) -> None:
    error = DmError(SimpleNamespace(code=-70089, message=""))
    assert "LD_LIBRARY_PATH" in DmEngine(SETTINGS).describe(error)


def test_the_real_driver_against_ports_that_do_not_answer() -> None:
    """dmPython itself, where it is installed (`pip install dmPython`): its arguments, its errors."""
    pytest.importorskip("dmPython")
    with socket.socket() as silent, socket.socket() as closed:
        for listener in (silent, closed):
            listener.bind(("127.0.0.1", 0))
        silent.listen()
        for port, code in ((closed.getsockname()[1], -70028), (silent.getsockname()[1], -70019)):
            engine = DmEngine(replace(SETTINGS, host="127.0.0.1", port=port, connect_timeout=timedelta(seconds=2)))
            with pytest.raises(engine.driver_errors) as refused:
                engine.open(read_only=True)
            assert f"CODE {code} " in engine.describe(refused.value)
            assert engine.classify(refused.value, sent=False) is Fault.CONNECT
            engine.dispose()
