"""Oracle without a server: blocks, session statements, what codes mean, a scripted connection, one mode per process."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import oracledb
import pytest

from his_db.engine import Fault, Parameter, ParameterKind, ProcedurePlan, SourceSettings
from his_db.engines import oracle
from his_db.held_connection import CallError, ReadOnlyError
from his_db.oracle_call import call_for
from tests.unit.engines.golden import ParserGap, golden, parses

IN, OUT, INOUT, RETURN = ParameterKind.IN, ParameterKind.OUT, ParameterKind.INOUT, ParameterKind.RETURN
SETTINGS = SourceSettings(
    name="his", engine="oracle", database="orcl", host="10.1.1.6", user="jk160", password="x", schema="HIS"
)
PLANS = {
    "package": ProcedurePlan(
        "HIS.PKG_YY.P_LOCK",
        (
            Parameter("A_ID", IN, "VARCHAR2(32)"),
            Parameter("IO_NO", INOUT, "NUMBER(10)"),
            Parameter("O_CODE", OUT, "INTEGER"),
            Parameter("O_MSG", OUT, "VARCHAR2(200)"),
            Parameter("O_ROWS", OUT, "SYS_REFCURSOR"),
        ),
    ),
    "function": ProcedurePlan(
        "pkg_yy.f_fee",
        (Parameter("a_id"), Parameter("r", RETURN, "number"), Parameter("o", OUT, "date")),
        function=True,
    ),
    "by_order": ProcedurePlan("usp_x", (Parameter("1"), Parameter("2", OUT))),
    "no_arguments": ProcedurePlan('"His"."usp_y"', ()),
    "table_function": ProcedurePlan("his.f_slots", (Parameter("a"), Parameter("b")), function=True),
}


@pytest.mark.filterwarnings("ignore::tests.unit.engines.golden.ParserGap")
@pytest.mark.parametrize("name", PLANS)
def test_blocks(name: str) -> None:
    call = call_for(PLANS[name])
    golden(f"oracle/call_{name}", call.sql)
    parses(call.sql, "oracle")  # a gap warns (BEGIN pkg.p(..); END;), see below


def test_known_parser_gaps_warn() -> None:
    assert parses(call_for(PLANS["table_function"]).sql, "oracle")
    with pytest.warns(ParserGap):
        assert not parses("SELECT * FROM (", "oracle")


def test_session_statements() -> None:
    settings = replace(SETTINGS, options={"nls_date_format": "YYYY-MM-DD HH24:MI:SS"})
    golden("oracle/session", ";\n".join(oracle.session_statements(settings)))
    for changes in ({"schema": "HIS; DROP"}, {"timezone": "Asia'"}, {"options": {"nls_date_format": "'"}}):
        with pytest.raises(CallError):
            oracle.session_statements(replace(settings, **changes))


def test_connect_arguments() -> None:
    plain = oracle.connect_arguments(SETTINGS)
    assert (plain["service_name"], plain["port"], plain["tcp_connect_timeout"]) == ("orcl", 1521, 5.0)
    assert oracle.connect_arguments(replace(SETTINGS, options={"sid": "yes"}))["sid"] == "orcl"
    assert oracle.connect_arguments(replace(SETTINGS, database="(DESCRIPTION=…)"))["dsn"] == "(DESCRIPTION=…)"


@pytest.mark.parametrize(
    "plan",
    [
        ProcedurePlan("his.p; END; DROP TABLE x", ()),
        ProcedurePlan("his.p", (Parameter("a => 1", IN),)),
        ProcedurePlan("his.p", (Parameter("a", OUT, "his.t_record"),)),
        ProcedurePlan("his.p", (Parameter("r", RETURN, "number"),)),
        ProcedurePlan("his.f", (Parameter("o", OUT, "number"),), function=True),
        ProcedurePlan("a.b.c.d", ()),
    ],
)
def test_what_cannot_be_called(plan: ProcedurePlan) -> None:
    with pytest.raises(CallError):
        call_for(plan)


class Inner:
    """The shape of python-oracledb's own error record."""

    def __init__(self, message: str) -> None:
        self.message = message
        self.full_code = message.partition(":")[0]
        self.code = int(self.full_code.partition("-")[2]) if self.full_code.startswith("ORA") else 0
        self.isrecoverable = False
        self.offset = 0


def error(message: str, kind: type[Exception] = oracledb.DatabaseError) -> Exception:
    return kind(Inner(message))


@pytest.mark.parametrize(
    ("message", "fault", "named"),
    [
        ("ORA-00060: deadlock detected while waiting for resource", Fault.DEADLOCK, ""),
        ("ORA-08177: can't serialize access for this transaction", Fault.DEADLOCK, ""),
        ('ORA-04068: existing state of packages has been discarded\nORA-04061: existing state of package body '
         '"HIS.PKG_YY" has been invalidated\nORA-06508: PL/SQL: could not find program unit', Fault.DEADLOCK, "HIS.PKG_YY"),
        ("ORA-00054: resource busy and acquire with NOWAIT specified or timeout expired", Fault.LOCK_TIMEOUT, ""),
        ("ORA-30006: resource busy; acquire with WAIT timeout expired", Fault.LOCK_TIMEOUT, ""),
        ("ORA-01013: user requested cancel of current operation", Fault.TIMEOUT, ""),
        ("ORA-01555: snapshot too old: rollback segment number 9", Fault.TIMEOUT, ""),
        ("DPY-4024: call timeout of 10000 ms exceeded", Fault.TIMEOUT, ""),
        ("DPI-1067: call timeout of 10000 ms exceeded with ORA-3156", Fault.TIMEOUT, ""),
        ("ORA-00001: unique constraint (HIS.PK_SLOT) violated on table HIS.SLOT columns (NAME)\nORA-03301: (ORA-00001 "
         "details) row with column values (NAME:'张三') already exists", Fault.CONSTRAINT, "HIS.PK_SLOT"),
        ("ORA-02291: integrity constraint (HIS.FK_DEPT) violated - parent key not found", Fault.CONSTRAINT, "HIS.FK_DEPT"),
        ('ORA-01400: cannot insert NULL into ("HIS"."SLOT"."TAKEN")', Fault.CONSTRAINT, "HIS.SLOT.TAKEN"),
        ("ORA-02091: transaction rolled back\nORA-02291: integrity constraint (HIS.FK) violated", Fault.CONSTRAINT, "HIS.FK"),
        ("ORA-01031: insufficient privileges", Fault.RIGHTS, ""),
        ("ORA-00942: table or view does not exist", Fault.SCHEMA, ""),
        ('ORA-00942: table or view "HIS"."GH_X" does not exist', Fault.SCHEMA, "HIS.GH_X"),
        ('ORA-00904: "NO_SUCH": invalid identifier', Fault.SCHEMA, "NO_SUCH"),
        ("ORA-06550: line 1, column 7:\nPLS-00201: identifier 'HIS.PKG_X' must be declared", Fault.SCHEMA, "HIS.PKG_X"),
        ("ORA-06550: line 1, column 7:\nPLS-00306: wrong number or types of arguments in call to 'P_LOCK'",
         Fault.SCHEMA, "P_LOCK"),
        ('ORA-06550: line 1, column 7:\nPLS-00103: Encountered the symbol "张三"', Fault.SYNTAX, ""),
        ("ORA-00933: SQL command not properly ended", Fault.SYNTAX, ""),
        ("ORA-01722: invalid number", Fault.DATA, ""),
        ('ORA-12899: value too large for column "HIS"."T"."NAME" (actual: 42, maximum: 40)', Fault.DATA, "HIS.T.NAME"),
        ("ORA-06502: PL/SQL: numeric or value error\nORA-06512: at \"HIS.P\", line 3", Fault.DATA, ""),
        ("ORA-16000: database or pluggable database open for read-only access", Fault.READ_ONLY, ""),
        ("ORA-03113: end-of-file on communication channel", Fault.LOST, ""),
        ("ORA-03114: not connected to ORACLE", Fault.LOST, ""),
        ("ORA-03135: connection lost contact", Fault.LOST, ""),
        ("DPY-4011: the database or network closed the connection", Fault.LOST, ""),
        ("DPY-1001: not connected to database", Fault.CONNECT, ""),
        ("DPI-1010: not connected", Fault.CONNECT, ""),
        ("ORA-01017: invalid username/password; logon denied", Fault.CONNECT, "01017"),
        ("ORA-28001: the password has expired", Fault.CONNECT, "28001"),
        ("DPY-3010: connections to this database server version are not supported by python-oracledb in thin mode",
         Fault.CONNECT, "DPY-3010"),
        ("DPY-6005: cannot connect to database (CONNECTION_ID=x==).\nORA-12170: timed out", Fault.CONNECT, "12170"),
        ('DPY-4010: a bind variable replacement value for placeholder ":B0" was not provided', Fault.SCHEMA, ""),
    ],
)  # fmt: skip
def test_codes(message: str, fault: Fault, named: str) -> None:
    engine = oracle.OracleEngine(SETTINGS)
    made = error(message)
    assert engine.classify(made, sent=True) is fault
    assert engine.classify(made, sent=False) is Fault.CONNECT
    assert named in engine.describe(made)
    assert "张三" not in engine.describe(made)
    assert engine.sentence(made) == ""


def test_raise_application_error() -> None:
    engine = oracle.OracleEngine(SETTINGS)
    made = error('ORA-20001: 张三 已在黑名单\nORA-06512: at "HIS.PKG_YY", line 12\nORA-06512: at line 1')
    assert engine.classify(made, sent=True) is Fault.CONSTRAINT
    assert engine.sentence(made) == "张三 已在黑名单"
    assert "张三" not in engine.describe(made)


class Variable:
    def __init__(self, kind: Any, size: int, value: Any) -> None:
        self.kind, self.size, self.value, self.given = kind, size, value, None

    def setvalue(self, position: int, value: Any) -> None:
        self.given = value

    def getvalue(self) -> Any:
        return self.value


class Cursor:
    """A scripted cursor: the values of OUT binds in order, one result set, what was sent."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.description: Any = [("ID",), ("NAME",)]
        self.rowcount = 1
        self.made: list[Variable] = []

    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def var(self, kind: Any, size: int = 0, **_: Any) -> Variable:
        variable = Variable(kind, size, self.connection.outs[len(self.made)])
        self.made.append(variable)
        return variable

    def setinputsizes(self, **sizes: Any) -> None:
        self.connection.log.append(("sizes", sizes))

    def execute(self, sql: str, binds: Any = None) -> None:
        self.connection.log.append((sql, binds, self.connection.autocommit))
        if not sql.startswith("SELECT"):
            self.description = None

    def fetchmany(self, size: int) -> list[Any]:
        return [(n, "张三") for n in range(min(size, 3))]

    def getimplicitresults(self) -> list[Any]:
        return [Cursor(self.connection)]

    def close(self) -> None:
        return


class Connection:
    def __init__(self) -> None:
        self.log: list[Any] = []
        self.outs: list[Any] = []
        self.autocommit = False
        self.call_timeout = 0
        self.version = "19.3.0.0.0"
        self.healthy = True

    def cursor(self) -> Cursor:
        return Cursor(self)

    def commit(self) -> None:
        self.log.append("commit")

    def rollback(self) -> None:
        self.log.append("rollback")

    def is_healthy(self) -> bool:
        return self.healthy

    def cancel(self) -> None:
        self.log.append("cancel")

    def close(self) -> None:
        self.log.append("close")


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Connection:
    made = Connection()
    monkeypatch.setattr(oracledb, "connect", lambda **_: made)
    return made


def test_a_session_sends_what_it_should(connection: Connection) -> None:
    engine = oracle.OracleEngine(SETTINGS)
    session = engine.open(read_only=False, statement_timeout=timedelta(milliseconds=1500))
    assert connection.call_timeout == 1500
    assert connection.autocommit
    connection.log.clear()
    rows = session.run("SELECT id FROM t WHERE d > :date", {"date": datetime(2026, 1, 2)}, max_rows=1)
    assert (rows.columns, len(rows.rows)) == (("ID", "NAME"), 2)
    assert connection.log == [
        ("sizes", {"b0": oracledb.DB_TYPE_DATE}),
        ("SELECT id FROM t WHERE d > :b0", {"b0": datetime(2026, 1, 2)}, True),
    ]
    connection.log.clear()
    session.begin()
    session.run("UPDATE t SET d = :date", {"date": datetime(2026, 1, 2, 0, 0, 0, 5)}, max_rows=1)
    session.commit()
    session.begin()
    session.rollback()
    assert connection.log == [
        ("UPDATE t SET d = :b0", {"b0": datetime(2026, 1, 2, 0, 0, 0, 5)}, False), "commit", "rollback"
    ]  # fmt: skip
    assert connection.autocommit
    session.abort()
    assert not session.alive()
    session.close()
    session.close()
    assert connection.log[-2:] == ["cancel", "close"]


def test_out_binds_cursors_and_implicit_results(connection: Connection) -> None:
    session = oracle.OracleEngine(SETTINGS).open(read_only=False)
    connection.outs = [Decimal(7), 0, "好", Cursor(connection)]
    connection.log.clear()
    result = session.call(PLANS["package"], {"A_ID": "S1", "IO_NO": 6}, max_rows=1)
    assert result.out == {"IO_NO": Decimal(7), "O_CODE": 0, "O_MSG": "好"}
    assert [len(rows.rows) for rows in result.sets] == [2, 2]
    ((_, binds, _),) = connection.log
    assert binds["p0"] == "S1"
    assert (binds["p1"].kind, binds["p1"].given) == (Decimal, 6)
    assert (binds["p3"].kind, binds["p3"].size) == (oracledb.DB_TYPE_VARCHAR, 200)
    assert binds["p4"].kind is oracledb.DB_TYPE_CURSOR


def test_a_read_session_sends_no_write(connection: Connection) -> None:
    engine = oracle.OracleEngine(SETTINGS)
    session = engine.open(read_only=True)
    connection.log.clear()
    for sql in ("DELETE FROM t", "SELECT * FROM t FOR UPDATE", "BEGIN p; END;"):
        with pytest.raises(ReadOnlyError) as caught:
            session.run(sql, {}, max_rows=1)
        assert engine.classify(caught.value, sent=True) is Fault.READ_ONLY
    assert connection.log == []


def test_one_mode_per_process(tmp_path: Path) -> None:
    """In a process of its own: the mode is decided once, and cannot be taken back."""
    code = f"""
import oracledb, sys
sys.path[:0] = {sys.path!r}
from his_db.engine import SourceSettings
from his_db.engines.oracle import OracleEngine
from his_db.held_connection import CallError
def told(**options):
    settings = SourceSettings(name="h", engine="oracle", database="x", host="127.0.0.1", port=1, options=options)
    engine = OracleEngine(settings)
    try:
        engine.open(read_only=True)
    except engine.driver_errors as error:
        print(engine.describe(error).replace(chr(10), " "))
told(mode="fat")
told(mode="thick", client_dir={str(tmp_path)!r})
told()
told(mode="thick", client_dir={str(tmp_path)!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    wrong, missing, thin, late = done.stdout.splitlines()
    assert "thin or thick" in wrong
    assert "thick mode" in missing
    assert "DPI-1047" in missing
    assert "DPY-6005" in thin
    assert "runs Oracle's thin mode" in late
