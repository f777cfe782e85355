"""SQL Server without a server: batches, connection strings, what errors of three drivers mean, a scripted pyodbc."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pyodbc
import pytest

from his_db.engine import Fault, Parameter, ParameterKind, ProcedurePlan, SourceSettings
from his_db.engines import mssql
from his_db.held_connection import CallError, ReadOnlyError
from his_db.mssql_call import batch_for
from his_db.mssql_errors import fault_of, raised, told
from tests.unit.engines.golden import golden, parses
from tests.unit.engines.scripted import Answer, ScriptedConnection, Set

IN, OUT, INOUT, RETURN = ParameterKind.IN, ParameterKind.OUT, ParameterKind.INOUT, ParameterKind.RETURN
SETTINGS = SourceSettings(
    name="his",
    engine="mssql",
    database="THIS4",
    host="10.1.1.5",
    user="jk160",
    password="p}w;d={x",
    options={"driver": "libtdsodbc.so"},
)
PLANS = {
    "lock": ProcedurePlan(
        "dbo.usp_yy_lockno",
        (
            Parameter("@hyid", IN, "varchar(32)"),
            Parameter("ddh", IN, "varchar(32)"),
            Parameter("@xh", INOUT, "int"),
            Parameter("@rc", RETURN, "int"),
            Parameter("@msg", OUT, "nvarchar(200)"),
            Parameter("@je", OUT, "numeric(12, 2)"),
        ),
    ),
    "rows_only": ProcedurePlan("THIS4..usp_gh_ghdj", (Parameter("@ksdm"), Parameter("@ysdm"))),
    "by_order": ProcedurePlan("usp_gh", (Parameter("1"), Parameter("2", OUT, "varchar(max)"))),
    "no_arguments": ProcedurePlan("[dbo].[usp gh]", (Parameter("r", RETURN),)),
    "scalar_function": ProcedurePlan("dbo.fn_fee", (Parameter("@a"), Parameter("r", RETURN)), function=True),
    "table_function": ProcedurePlan("dbo.fn_slots", (Parameter("@a"), Parameter("@b")), function=True),
}


@pytest.mark.parametrize("name", PLANS)
def test_batches(name: str) -> None:
    batch = batch_for(PLANS[name])
    golden(f"mssql/call_{name}", batch.sql)
    assert batch.sql.count("?") == len(batch.arguments)
    assert parses(batch.sql, "tsql")


def test_session_settings() -> None:
    engine = mssql.MssqlEngine(SETTINGS)
    for read_only in (True, False):
        sql = engine._set_up(read_only).replace("; ", ";\n")
        golden(f"mssql/session_{'read' if read_only else 'write'}", sql)


@pytest.mark.parametrize(
    "plan",
    [
        ProcedurePlan("dbo.usp; DROP TABLE x", ()),
        ProcedurePlan("dbo.usp", (Parameter("@a int; DROP", IN),)),
        ProcedurePlan("dbo.usp", (Parameter("@a", OUT),)),
        ProcedurePlan("dbo.usp", (Parameter("@a", OUT, "int; DROP TABLE x"),)),
        ProcedurePlan("dbo.fn", (Parameter("@a", OUT, "int"),), function=True),
        ProcedurePlan("a.b.c.d.e", ()),
        ProcedurePlan("", ()),
    ],
)
def test_what_cannot_be_called(plan: ProcedurePlan) -> None:
    with pytest.raises(CallError):
        batch_for(plan)


def test_connection_strings() -> None:
    def made(driver: str, path: str = "x", **changes: Any) -> str:
        return mssql.connection_string(replace(SETTINGS, **changes), driver, path, read_only=True)

    named = {"host": "10.1.1.5\\HIS", "options": {"encrypt": "no", "application_intent": "ReadOnly"}}
    lines = [
        made("msodbcsql", "/opt/lib msodbcsql.so"),
        made("msodbcsql", "ODBC Driver 18 for SQL Server", **named),
        made("msodbcsql", "ODBC Driver 18 for SQL Server", host="10.1.1.5\\HIS", port=1444),
        made("msodbcsql", "ODBC Driver 18 for SQL Server", user=""),
        made("freetds", "FreeTDS"),
        made("freetds", "FreeTDS", **named),
        made("mssql-python"),
    ]
    golden("mssql/connection_strings", "\n".join(lines))
    assert all("PWD={p}}w;d={x}" in line for line in lines[:1])


MS = "[Microsoft][ODBC Driver 18 for SQL Server][SQL Server]"
TDS = "[FreeTDS][SQL Server]"


def ms(state: str, text: str, number: int, kind: type[Exception] = pyodbc.ProgrammingError) -> Exception:
    return kind(state, f"[{state}] {MS}{text} ({number}) (SQLExecDirectW)")


def tds(state: str, text: str, number: int, kind: type[Exception] = pyodbc.ProgrammingError) -> Exception:
    return kind(state, f"[{state}] {TDS}{text} ({number}) (SQLExecDirectW)")


def mp(state: str, text: str) -> Exception:
    from mssql_python.exceptions import sqlstate_to_exception

    made: Exception = sqlstate_to_exception(state, MS + text)
    return made


DEADLOCK = "Transaction (Process ID 52) was deadlocked on lock resources with another process and has been chosen as the deadlock victim. Rerun the transaction."
LOCK = "Lock request time out period exceeded."
KEY = "Violation of PRIMARY KEY constraint 'PK_slot'. Cannot insert duplicate key in object 'dbo.slot'. The duplicate key value is (张三)."
CASES: list[tuple[Callable[[], Exception], Fault, str]] = [
    (lambda: ms("40001", DEADLOCK, 1205, pyodbc.Error), Fault.DEADLOCK, ""),
    (lambda: tds("42000", DEADLOCK, 1205), Fault.DEADLOCK, ""),
    (lambda: mp("40001", DEADLOCK), Fault.DEADLOCK, ""),
    (lambda: ms("42000", LOCK, 1222, pyodbc.Error), Fault.LOCK_TIMEOUT, ""),
    (lambda: mp("42000", LOCK), Fault.LOCK_TIMEOUT, ""),
    (lambda: mp("42000", "已超过了锁请求超时时段。"), Fault.LOCK_TIMEOUT, ""),
    (lambda: ms("HYT00", "Query timeout expired", 0, pyodbc.OperationalError), Fault.TIMEOUT, ""),
    (lambda: mp("HYT00", "Query timeout expired"), Fault.TIMEOUT, ""),
    (lambda: ms("23000", KEY, 2627, pyodbc.IntegrityError), Fault.CONSTRAINT, "PK_slot"),
    (lambda: tds("23000", KEY, 2627, pyodbc.IntegrityError), Fault.CONSTRAINT, "PK_slot"),
    (lambda: mp("23000", KEY), Fault.CONSTRAINT, "PK_slot"),
    (lambda: ms("42S02", "Invalid object name 'gh_x'.", 208), Fault.SCHEMA, "gh_x"),
    (lambda: mp("42S02", "Invalid object name 'gh_x'."), Fault.SCHEMA, "gh_x"),
    (lambda: mp("42000", "对象名 'gh_x' 无效。"), Fault.SCHEMA, "gh_x"),
    (lambda: ms("42S22", "Invalid column name 'no_such'.", 207), Fault.SCHEMA, "no_such"),
    (lambda: ms("42000", "Could not find stored procedure 'usp_x'.", 2812), Fault.SCHEMA, "usp_x"),
    (
        lambda: ms("42000", "Procedure or function 'usp_x' expects parameter '@a', which was not supplied.", 201),
        Fault.SCHEMA,
        "usp_x",
    ),
    (lambda: ms("42000", "Procedure or function usp_x has too many arguments specified.", 8144), Fault.SCHEMA, ""),
    (lambda: ms("42000", "Transaction count after EXECUTE indicates a mismatching number", 266), Fault.SCHEMA, ""),
    (lambda: ms("42000", "Incorrect syntax near '张三'.", 102), Fault.SYNTAX, ""),
    (lambda: mp("42000", "Incorrect syntax near '张三'."), Fault.SYNTAX, ""),
    (lambda: mp("42000", "'张三' 附近有语法错误。"), Fault.SYNTAX, ""),
    (
        lambda: ms("42000", "The SELECT permission was denied on the object 'slot', database 'h', schema 'dbo'.", 229),
        Fault.RIGHTS,
        "slot",
    ),
    (
        lambda: ms("22018", "Conversion failed when converting the varchar value '张三' to data type int.", 245),
        Fault.DATA,
        "",
    ),
    (lambda: ms("22001", "String or binary data would be truncated.", 2628, pyodbc.DataError), Fault.DATA, ""),
    (lambda: ms("42000", "The COMMIT TRANSACTION request has no corresponding BEGIN TRANSACTION.", 3902), Fault.DATA, ""),
    (lambda: ms("08S01", "Communication link failure", 0, pyodbc.OperationalError), Fault.LOST, ""),
    (lambda: mp("08S01", "Communication link failure"), Fault.LOST, ""),
    (lambda: tds("08S01", "Write to the server failed", 20006, pyodbc.OperationalError), Fault.LOST, ""),
    (lambda: ms("28000", "Login failed for user 'jk160'.", 18456, pyodbc.InterfaceError), Fault.CONNECT, "jk160"),
    (lambda: ms("42000", 'Cannot open database "X" requested by the login.', 4060), Fault.CONNECT, ""),
    (lambda: ms("42000", "张三 已在黑名单", 50000), Fault.CONSTRAINT, ""),
    (lambda: tds("42000", "张三 已在黑名单", 50001), Fault.CONSTRAINT, ""),
    (lambda: mp("42000", "张三 已在黑名单"), Fault.CONSTRAINT, ""),
    (lambda: pyodbc.ProgrammingError("The SQL contains 1 parameter markers, but 2 parameters were supplied", "HY000"),
     Fault.SCHEMA, ""),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(CASES)))
def test_errors(case: int) -> None:
    make, fault, named = CASES[case]
    try:
        error = make()
    except ImportError:
        pytest.skip("mssql-python is not installed")
    driver = "mssql-python" if hasattr(error, "driver_error") else "libtdsodbc.so"
    engine = mssql.MssqlEngine(replace(SETTINGS, options={"driver": driver}))
    assert engine.classify(error, sent=True) is fault
    assert engine.classify(error, sent=False) is Fault.CONNECT
    assert named in engine.describe(error)
    assert "张三" not in engine.describe(error)
    assert engine.sentence(error) == ("张三 已在黑名单" if raised(told(error)) else "")


def test_several_messages_in_one_error() -> None:
    text = f"[42000] {MS}第一句 (50000) (SQLExecDirectW); [42000] {MS}第二句 (3621)"
    what = told(pyodbc.ProgrammingError("42000", text))
    assert (what.native, what.text, fault_of(what)) == (50000, "第一句", Fault.CONSTRAINT)


@pytest.mark.parametrize(
    ("sign", "remedy"),
    [
        ("SSL Provider: [error:0A000102:SSL routines::unsupported protocol]", "TLS 1.0"),
        (
            "SSL Provider: [error:0A000086:SSL routines::certificate verify failed:self-signed certificate]",
            "certificate",
        ),
    ],
)
def test_connect_failures_carry_their_remedy(sign: str, remedy: str) -> None:
    engine = mssql.MssqlEngine(SETTINGS)
    error = pyodbc.OperationalError(
        "08001", f"[08001] [Microsoft][ODBC Driver 18 for SQL Server]{sign} (-1) (SQLDriverConnect)"
    )
    assert remedy in engine.describe(error)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[mssql.MssqlEngine, ScriptedConnection, list[Any]]]:
    def make(answers: Callable[[str], Answer]) -> tuple[mssql.MssqlEngine, ScriptedConnection, list[Any]]:
        connection = ScriptedConnection(answers)
        connects: list[Any] = []

        def connect(*arguments: Any, **options: Any) -> ScriptedConnection:
            connects.append((arguments, options))
            return connection

        engine = mssql.MssqlEngine(SETTINGS)
        monkeypatch.setattr(engine._module, "connect", connect)
        return engine, connection, connects

    return make


def test_a_session_sends_what_it_should(scripted: Any) -> None:
    def answers(sql: str) -> Answer:
        if sql.startswith("SELECT"):
            return [Set(("a",), [(1,), (2,), (3,)])]
        return [Set(changed=2)]

    engine, connection, connects = scripted(answers)
    session = engine.open(read_only=False, statement_timeout=timedelta(milliseconds=1500))
    assert connects[0][1] == {"autocommit": True, "timeout": 5}
    assert connection.timeout == 2
    connection.log.clear()
    rows = session.run("SELECT a FROM t WHERE k = :k AND n = :n AND x = :x", {"k": "A1", "n": "张", "x": 5}, max_rows=1)
    assert (rows.columns, list(rows.rows)) == (("a",), [(1,), (2,)])
    assert connection.log == [
        ("sizes", [(pyodbc.SQL_VARCHAR, 40, 0), (pyodbc.SQL_WVARCHAR, 40, 0), None]),
        ("execute", "SELECT a FROM t WHERE k = ? AND n = ? AND x = ?", ["A1", "张", 5]),
        ("sizes", None),
    ]
    connection.log.clear()
    session.begin()
    assert session.run("UPDATE t SET a = 1", {}, max_rows=1).changed == 2
    session.commit()
    session.begin()
    session.rollback()
    assert [entry[1] for entry in connection.log] == [
        "BEGIN TRANSACTION", "UPDATE t SET a = 1", "COMMIT TRANSACTION", "BEGIN TRANSACTION",
        "IF @@TRANCOUNT > 0 ROLLBACK TRANSACTION",
    ]  # fmt: skip
    session.abort()
    assert connection.log[-1] == ("cancel",)
    assert not session.alive()
    session.close()
    session.close()
    assert connection.closed
    engine.dispose()


WAYS = {
    "freetds": (ms, {"autocommit": True, "timeout": 5}),
    "msodbcsql": (ms, {"autocommit": True, "timeout": 5}),
    "mssql-python": (lambda state, text, number: mp(state, text), {"autocommit": True, "timeout": 2}),
}


@pytest.mark.parametrize("driver", list(WAYS))
def test_the_same_is_sent_by_each_of_the_three_drivers(monkeypatch: pytest.MonkeyPatch, driver: str) -> None:
    """One batch for OUT and RETURN, every set drained, the same statements around it, the driver's own errors understood."""
    pytest.importorskip("mssql_python" if driver == "mssql-python" else "pyodbc")
    error, connects = WAYS[driver]
    names = tuple(f"his160_{name}" for name in ("2", "r", "4", "5"))
    sets = [
        Set(changed=1),
        Set(("F", "msg"), [("F", "号已满")]),
        Set(names, [(7, -1, "已被锁定", None)]),
        Set(changed=0),
    ]

    def answers(sql: str) -> Answer:
        if "EXEC" in sql:
            return sets
        return [error("40001", DEADLOCK, 1205)] if "UPDATE" in sql else [Set()]

    monkeypatch.setattr(mssql, "_installed", lambda: ["FreeTDS", "ODBC Driver 18 for SQL Server"])
    engine = mssql.MssqlEngine(replace(SETTINGS, options={"driver": driver}))
    connection = ScriptedConnection(answers)
    given: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def connect(*arguments: Any, **options: Any) -> ScriptedConnection:
        given.append((arguments, options))
        return connection

    monkeypatch.setattr(engine._module, "connect", connect)
    session = engine.open(read_only=False, statement_timeout=timedelta(milliseconds=1500))
    ((text,), options) = given[0]
    assert ("FreeTDS" in text, "ODBC Driver 18" in text) == (driver == "freetds", driver == "msodbcsql")
    assert {name: options[name] for name in connects} == connects
    assert options.get("attrs_before") == ({103: 5} if driver == "mssql-python" else None)
    connection.log.clear()
    session.begin()
    result = session.call(PLANS["lock"], {"@hyid": "S1", "ddh": "T1", "@xh": 6}, max_rows=5)
    assert result.out == {"@xh": 7, "@rc": -1, "@msg": "已被锁定", "@je": None}
    assert [rows.columns for rows in result.sets] == [("F", "msg")]
    with pytest.raises(engine.driver_errors) as caught:
        session.run("UPDATE t SET a = :a WHERE b = :b", {"a": "张三", "b": "B1"}, max_rows=1)
    assert engine.classify(caught.value, sent=True) is Fault.DEADLOCK
    session.rollback()
    sent = [entry[1:] for entry in connection.log if entry[0] == "execute"]
    assert sent[0][0] == "BEGIN TRANSACTION"
    assert sent[1][0] == batch_for(PLANS["lock"]).sql
    assert sent[2] == ("UPDATE t SET a = ? WHERE b = ?", ["张三", "B1"])
    assert sent[3][0] == "IF @@TRANCOUNT > 0 ROLLBACK TRANSACTION"
    session.close()
    assert connection.closed
    engine.dispose()


def test_stray_sets_are_skipped_by_shape(scripted: Any) -> None:
    """Counts without rows, a debugging SELECT, 卫宁's "F" row: only the columns tell which set is the batch's own."""
    final = Set(("his160_2", "his160_r", "his160_4", "his160_5"), [(7, -1, "已被锁定", None)])
    sets = [Set(changed=1), Set(("F", "msg"), [("F", "号已满")]), Set(), final, Set(changed=0)]
    engine, _, _ = scripted(lambda sql: sets if "EXEC" in sql else [Set()])
    session = engine.open(read_only=False)
    result = session.call(PLANS["lock"], {"@hyid": "S1", "ddh": "T1", "@xh": 6}, max_rows=5)
    assert result.out == {"@xh": 7, "@rc": -1, "@msg": "已被锁定", "@je": None}
    assert [rows.columns for rows in result.sets] == [("F", "msg")]
    sets.remove(final)
    with pytest.raises(CallError):
        session.call(PLANS["lock"], {"@hyid": "S1", "ddh": "T1", "@xh": 6}, max_rows=5)
    engine.dispose()


def test_an_error_behind_the_first_set_is_raised(scripted: Any) -> None:
    error = ms("42000", "张三 已在黑名单", 50000)
    engine, _, _ = scripted(lambda sql: [Set(("a",), [(1,)]), error] if "x" in sql else [Set()])
    session = engine.open(read_only=False)
    with pytest.raises(pyodbc.Error):
        session.run("SELECT x", {}, max_rows=1)
    assert session.alive()
    engine.dispose()


@pytest.mark.parametrize(
    "error",
    [
        ms("HYT00", "Query timeout expired", 0, pyodbc.OperationalError),
        ms("08S01", "Communication link failure", 0, pyodbc.OperationalError),
    ],
)
def test_after_a_timeout_the_connection_is_given_up(scripted: Any, error: Exception) -> None:
    engine, connection, _ = scripted(lambda sql: [error] if "UPDATE" in sql else [Set()])
    session = engine.open(read_only=False)
    session.begin()
    with pytest.raises(pyodbc.Error):
        session.run("UPDATE t SET a = 1", {}, max_rows=1)
    assert not session.alive()
    count = len(connection.log)
    session.rollback()
    assert len(connection.log) == count  # nothing more is sent over it
    engine.dispose()


def test_a_read_session_sends_no_write(scripted: Any) -> None:
    engine, connection, _ = scripted(lambda sql: [Set()])
    session = engine.open(read_only=True)
    connection.log.clear()
    with pytest.raises(ReadOnlyError) as caught:
        session.run("SELECT 1; DROP TABLE x", {}, max_rows=1)
    assert engine.classify(caught.value, sent=True) is Fault.READ_ONLY
    assert connection.log == []
    engine.dispose()


def test_choice_of_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(
        mssql, "_installed", lambda: ["FreeTDS", "ODBC Driver 17 for SQL Server", "ODBC Driver 18 for SQL Server"]
    )
    assert mssql._choose("auto") == ("msodbcsql", "ODBC Driver 18 for SQL Server")
    assert mssql._choose("freetds") == ("freetds", "FreeTDS")
    assert mssql._choose("/usr/lib/libtdsodbc.so") == ("freetds", "/usr/lib/libtdsodbc.so")
    assert mssql._choose("SQL Server") == ("msodbcsql", "SQL Server")
    assert mssql._choose("mssql-python") == ("mssql-python", "")
    monkeypatch.setattr(mssql, "_installed", list)
    monkeypatch.setattr(mssql, "find_spec", lambda name: None)
    with pytest.raises(CallError, match="pip install"):
        mssql._choose("auto")


def test_the_wheel_s_driver_is_found_by_path() -> None:
    pytest.importorskip("mssql_python_odbc")
    if any(name.startswith("ODBC Driver") for name in pyodbc.drivers()):
        pytest.skip("an installed driver comes first")
    kind, path = mssql._choose("msodbcsql")
    assert kind == "msodbcsql"
    assert Path(path).is_file()


@pytest.mark.parametrize("wheel", ["mssql_python_odbc", "mssql_python"])
def test_the_driver_lies_in_either_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wheel: str) -> None:
    """mssql-python brings Microsoft's driver in a wheel of its own; early ones carried it themselves."""
    system = "macos" if sys.platform == "darwin" else "linux/debian_ubuntu"
    library = tmp_path / "libs" / system / "x86_64" / "lib" / "libmsodbcsql-18.5.so.1.1"
    library.parent.mkdir(parents=True)
    library.touch()
    monkeypatch.setattr(mssql, "_installed", lambda: ["FreeTDS"])
    monkeypatch.setattr(mssql, "_machine", lambda: "x86_64")
    specs = {wheel: ModuleSpec(wheel, None, origin=str(tmp_path / "__init__.py"))}
    monkeypatch.setattr(mssql, "find_spec", specs.get)
    if not Path("/etc/debian_version").exists() and sys.platform == "linux":
        pytest.skip("the folders are named after the system")
    assert mssql._choose("auto") == ("msodbcsql", str(library))
    library.unlink()
    assert mssql._choose("auto") == ("freetds", "FreeTDS")
    monkeypatch.setattr(mssql, "_installed", list)
    if wheel == "mssql_python":
        assert mssql._choose("auto") == ("mssql-python", "")  # by itself, without ODBC
