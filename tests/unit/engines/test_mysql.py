"""MySQL without a server: calls, what numbers mean, and servers older than the one at hand (scripted)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pymysql
import pytest

from his_db.engine import Fault, Parameter, ParameterKind, ProcedurePlan, SourceSettings
from his_db.engines import mysql
from his_db.mysql_call import call_for
from tests.unit.engines.golden import golden, parses

IN, OUT, INOUT, RETURN = ParameterKind.IN, ParameterKind.OUT, ParameterKind.INOUT, ParameterKind.RETURN
SETTINGS = SourceSettings(name="his", engine="mysql", database="phis")


def test_calls() -> None:
    plan = ProcedurePlan(
        "phis.usp_lock",
        (
            Parameter("a"),
            Parameter("b", INOUT, "int"),
            Parameter("c", OUT, "datetime"),
            Parameter("d", OUT, "decimal(10, 2)"),
        ),
    )
    call = call_for(plan)
    golden("mysql/call_procedure", ";\n".join([call.before, call.sql, call.after]))
    function = call_for(ProcedurePlan("f", (Parameter("a"), Parameter("r", RETURN)), function=True))
    golden("mysql/call_function", function.sql)
    for sql in (call.before, call.after, function.sql):
        assert parses(sql.replace("%(p0)s", "?").replace("%(p1)s", "?"), "mysql")


@pytest.mark.parametrize(
    ("number", "text", "fault", "described"),
    [
        (1205, "Lock wait timeout exceeded; try restarting transaction", Fault.LOCK_TIMEOUT, "1205"),
        (1213, "Deadlock found when trying to get lock", Fault.DEADLOCK, "1213"),
        (1062, "Duplicate entry '张三' for key 'patient.uk_name'", Fault.CONSTRAINT, "patient.uk_name"),
        (1452, "Cannot add or update a child row: a foreign key constraint fails (`h`.`s`, CONSTRAINT `fk` FOREIGN KEY)",
         Fault.CONSTRAINT, "fk"),
        (1146, "Table 'his.gh_x' doesn't exist", Fault.SCHEMA, "his.gh_x"),
        (1318, "Incorrect number of arguments for PROCEDURE his.p; expected 2, got 1", Fault.SCHEMA, "his.p"),
        (1064, "You have an error in your SQL syntax near '张三'", Fault.SYNTAX, "1064"),
        (1142, "SELECT command denied to user 'r'@'h' for table `his`.`t`", Fault.RIGHTS, "1142"),
        (1370, "execute command denied to user 'r'@'h' for routine 'his.p'", Fault.RIGHTS, "his.p"),
        (1040, "Too many connections", Fault.CONNECT, "Too many"),
        (2006, "MySQL server has gone away", Fault.LOST, "2006"),
        (2013, "Lost connection to MySQL server during query", Fault.LOST, "2013"),
        (3024, "Query execution was interrupted, maximum statement execution time exceeded", Fault.TIMEOUT, "3024"),
        (1969, "Query execution was interrupted (max_statement_time exceeded)", Fault.TIMEOUT, "1969"),
        (1290, "The MySQL server is running with the --read-only option", Fault.READ_ONLY, "1290"),
        (1366, "Incorrect integer value: '张三' for column `h`.`t`.`age` at row 1", Fault.DATA, "h.t.age"),
        (1292, "Incorrect datetime value: '张三'", Fault.DATA, "1292"),
    ],
)  # fmt: skip
def test_numbers(number: int, text: str, fault: Fault, described: str) -> None:
    engine = mysql.MysqlEngine(SETTINGS)
    error = pymysql.err.OperationalError(number, text)
    assert engine.classify(error, sent=True) is fault
    assert described in engine.describe(error)
    assert "张三" not in engine.describe(error)
    assert engine.sentence(error) == ""


def test_own_numbers_are_read_unsigned() -> None:
    engine = mysql.MysqlEngine(SETTINGS)
    error = pymysql.err.OperationalError(45001 - 65536, "张三不能退号")  # as PyMySQL reads MYSQL_ERRNO = 45001
    assert engine.classify(error, sent=True) is Fault.CONSTRAINT
    assert engine.sentence(error) == "张三不能退号"
    assert engine.classify(pymysql.err.InterfaceError(0, ""), sent=True) is Fault.CONNECT


class Cursor:
    """A server of an age: answers VERSION, refuses what it does not know."""

    def __init__(self, version: str, unknown: tuple[str, ...], row_format: str = "MIXED") -> None:
        self.version, self.unknown, self.row_format = version, unknown, row_format
        self.sent: list[str] = []

    def execute(self, sql: str, values: Any = None) -> None:
        if any(name in sql for name in self.unknown):
            if "READ ONLY" in sql:
                raise pymysql.err.ProgrammingError(1064, "syntax")
            raise pymysql.err.OperationalError(1298 if "time_zone" in sql and "%s" in sql else 1193, "unknown")
        self.sent.append(sql % tuple(repr(value) for value in values) if values else sql)

    def fetchone(self) -> tuple[Any, ...]:
        return (self.version, 42, "ANSI_QUOTES,NO_ENGINE_SUBSTITUTION", 1, self.row_format)


def set_up(cursor: Cursor, *, read_only: bool, **changes: Any) -> tuple[bool, list[str]]:
    engine = mysql.MysqlEngine(replace(SETTINGS, **changes))
    check, thread = engine._set_up(cursor, read_only, timedelta(milliseconds=1500))
    assert thread == 42
    return check, cursor.sent[1:]


def test_session_settings_by_version() -> None:
    for name, cursor in {
        "maria": Cursor("10.6.1-MariaDB", ()),
        "mysql_8": Cursor("8.0.33", ()),
        "mysql_56": Cursor("5.6.40-log", ("max_execution_time",), "STATEMENT"),
        "mysql_55": Cursor("5.5.62", ("max_execution_time", "READ ONLY"), "STATEMENT"),
    }.items():
        check, sent = set_up(cursor, read_only=True)
        golden(f"mysql/session_read_{name}", ";\n".join(sent))
        assert check is (name == "mysql_55")
    # MySQL 5.6 with a statement-based log refuses to write in READ COMMITTED (error 1665).
    _, sent = set_up(Cursor("5.6.40-log", ("max_execution_time",), "STATEMENT"), read_only=False)
    assert not any("ISOLATION" in sql for sql in sent)
    _, sent = set_up(Cursor("8.0.33", ()), read_only=False)
    assert any("READ COMMITTED" in sql for sql in sent)
    _, sent = set_up(Cursor("8.0.33", ()), read_only=False, options={"sql_mode": "server"})
    assert not any("sql_mode" in sql for sql in sent)
