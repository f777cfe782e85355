"""The samples of the opt-in suite without their servers: what they send is recorded, read by sqlglot, and compared with the PostgreSQL port."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
import sqlglot

from his_db.bound_sql import bind_numbers, bind_places
from his_db.engine import ProcedurePlan, ProcedureResult, Rows
from his_db.registry import LIVE_SAMPLES, SAMPLES, load_sample
from his_db.sample import SMALL, CashierWindow, InsuredBill, SampleSummary, WindowRefusal
from his_db.samples import neusoft, neusoft_oracle, winning, winning_mssql
from his_db.samples.desk import Desk, DeskPool, Dialect, go_batches, slash_batches
from his_db.samples.population import build_world
from his_db.samples.tables import sql_file

TODAY = dt.date(2026, 3, 2)
OPTIONS = {"today": TODAY, "size": SMALL, "seed": 160, "clock": lambda: dt.datetime(2026, 3, 5, 9)}
MADE = re.compile(r"^CREATE (?:OR REPLACE )?[A-Z]+ (?!BODY\b|REPLACE\b)([\w.]+)", re.M)
INSERT = re.compile(r"INSERT INTO (\S+) \(([^)]*)\) VALUES")


@dataclass
class Script:
    """An engine, and the one session it opens: records all, answers with one wide row."""

    row: dict[str, Any] = field(default_factory=dict)
    out: dict[str, Any] = field(default_factory=dict)
    sent: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    calls: list[tuple[ProcedurePlan, dict[str, Any]]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    def open(self, *, read_only: bool, statement_timeout: object = None) -> Script:
        assert not read_only
        return self

    def run(self, sql: str, values: Mapping[str, Any], *, max_rows: int) -> Rows:
        self.sent.append((sql, dict(values)))
        self.events.append(sql.split()[0])
        names = tuple(name.upper() for name in self.row) if sql.lstrip().startswith(("SELECT", "INSERT")) else ()
        return Rows(names, [tuple(self.row.values())] if names else [], 1)

    def call(self, plan: ProcedurePlan, values: Mapping[str, Any], *, max_rows: int) -> ProcedureResult:
        self.calls.append((plan, dict(values)))
        return ProcedureResult(self.out, ())

    def begin(self) -> None:
        self.events.append("begin")

    def commit(self) -> None:
        self.events.append("commit")

    def rollback(self) -> None:
        self.events.append("rollback")

    def close(self) -> None:
        self.events.append("close")

    def dispose(self) -> None:
        self.events.append("dispose")


@dataclass(frozen=True)
class Case:
    dialect: Dialect
    reader: str
    scripts: tuple[tuple[str, str], ...]
    fill: Callable[..., SampleSummary]
    create: Callable[..., SampleSummary]


CASES = {
    "winning_mssql": Case(
        winning_mssql.TRANSACT_SQL,
        "tsql",
        (("winning_mssql", "schema.sql"), ("winning_mssql", "procedures.sql")),
        winning.fill,
        winning_mssql.create,
    ),
    "neusoft_oracle": Case(
        neusoft_oracle.PL_SQL,
        "oracle",
        (("neusoft", "oracle/schema.sql"), ("neusoft", "oracle/package.sql")),
        neusoft.fill,
        neusoft_oracle.create,
    ),
}
case_of = pytest.mark.parametrize("name", sorted(CASES))


def pool(script: Script, dialect: Dialect) -> DeskPool:
    engine: Any = script
    return DeskPool("", dialect, engine)


def created(name: str) -> tuple[Script, SampleSummary]:
    script = Script()
    return script, CASES[name].create(pool(script, CASES[name].dialect), **OPTIONS)


def made(name: str) -> set[str]:
    """Names of what the pack's scripts create, in lower case."""
    text = "".join(sql_file(*script) for script in CASES[name].scripts)
    return {found.lower() for found in MADE.findall(text)}


def parsed(statements: list[str], reader: str) -> None:
    for statement in statements:
        [tree] = sqlglot.parse(statement, read=reader)
        assert tree is not None
        assert not isinstance(tree, sqlglot.exp.Command), statement


def test_registered_apart() -> None:
    assert set(LIVE_SAMPLES) == set(CASES)
    assert not set(LIVE_SAMPLES) & set(SAMPLES)
    assert {load_sample(name).engine for name in LIVE_SAMPLES} == {"mssql", "oracle"}


def test_go_ends_a_batch() -> None:
    script = "-- GO nowhere\nSET A ON;\nGO\n\n go \nCREATE VIEW v AS SELECT 'GO' AS x;\nGO\n-- end\n"
    assert go_batches(script) == ["-- GO nowhere\nSET A ON;", "CREATE VIEW v AS SELECT 'GO' AS x;"]


def test_slash_ends_a_unit_and_a_semicolon_a_statement() -> None:
    script = """-- head; of the file
CREATE TABLE t (
  a NUMBER, -- not; here
  b VARCHAR2(9) DEFAULT 'x;
--' );   -- done
CREATE SEQUENCE s;
CREATE OR REPLACE PACKAGE BODY p AS
  PROCEDURE q IS BEGIN x := 1 / 2; END;
END p;
/
INSERT INTO t VALUES (1, ';')
"""
    assert slash_batches(script) == [
        "CREATE TABLE t (\n  a NUMBER, \n  b VARCHAR2(9) DEFAULT 'x;\n--' )",
        "CREATE SEQUENCE s",
        "CREATE OR REPLACE PACKAGE BODY p AS\n  PROCEDURE q IS BEGIN x := 1 / 2; END;\nEND p;",
        "INSERT INTO t VALUES (1, ';')",
    ]


@case_of
def test_scripts_of_the_pack_in_batches(name: str) -> None:
    """Every object of the scripts is made in exactly one batch; no batch holds a separator or something like a bind."""
    case = CASES[name]
    batches = [batch for script in case.scripts for batch in case.dialect.batches(sql_file(*script))]
    assert len(batches) == {"winning_mssql": 28, "neusoft_oracle": 45}[name]
    heads = Counter(found.lower() for b in batches for found in MADE.findall(b))
    assert set(heads) == made(name)
    bound = bind_places if name == "winning_mssql" else bind_numbers
    for batch in batches:
        assert not re.search(r"^\s*(GO|/)\s*$", batch, re.M)
        assert bound(batch, case.dialect.engine).names == ()
    if name == "winning_mssql":  # CREATE PROCEDURE, FUNCTION and VIEW must be alone in their batch
        for batch in batches:
            assert len(re.findall(r"^CREATE (?:PROCEDURE|FUNCTION|VIEW)", batch, re.M)) <= 1
    else:
        units = [b for b in batches if b.startswith("CREATE OR REPLACE PACKAGE")]
        assert [b.endswith("END PKG_160;") for b in units] == [True, True]
        parsed([b for b in batches if b not in units], "oracle")


@case_of
def test_creation_sends_the_rows_of_the_port(name: str) -> None:
    case = CASES[name]
    script, summary = created(name)
    port = Script()
    plain = Dialect("postgresql", (), lambda text: [text], lambda kind, object_: "", {})
    session: Any = port
    assert case.fill(Desk(session, plain), build_world(TODAY, SMALL, 160), -3) == summary

    at = script.events.index("begin")
    assert script.events.count("begin") == script.events.count("commit") == 1
    assert script.events[-3:] == ["commit", "close", "dispose"]
    assert not any(values for _, values in script.sent[: at - 1])  # DDL comes before the transaction and has no binds

    rows = [(sql, values) for sql, values in script.sent if INSERT.match(sql)]
    theirs = [(sql, values) for sql, values in port.sent if INSERT.match(sql)]
    assert [values for _, values in rows] == [values for _, values in theirs]
    assert [sql for sql, _ in rows] == [case.dialect.say(sql) for sql, _ in theirs]
    counts = Counter(INSERT.match(sql)[1].lower() for sql, _ in rows)  # type: ignore[index]
    assert set(counts) <= made(name)
    patients, schedules = {
        "winning_mssql": ("dbo.sf_brxxk", "dbo.gh_yy_pbzbmx"),
        "neusoft_oracle": ("com_patientinfo", "fin_opr_schema"),
    }[name]
    assert (counts[patients], counts[schedules]) == (summary.patients, summary.schedules)
    kinds = {type(value) for _, values in rows for value in values.values()}
    wanted = {str, int, Decimal, type(None)}
    assert kinds == (wanted if name == "winning_mssql" else wanted | {dt.datetime})
    parsed(sorted({sql for sql, _ in script.sent[at - 1 :] if not sql.startswith("SET IDENTITY_INSERT")}), case.reader)


def test_keys_of_ours_are_given_between_on_and_off() -> None:
    script, _ = created("winning_mssql")
    switches = [sql for sql, _ in script.sent if sql.startswith("SET IDENTITY_INSERT")]
    tables = ("dbo.sf_brxxk", "dbo.gh_ghyyk", "dbo.gh_ghzdk")
    assert switches == [f"SET IDENTITY_INSERT {table} {way}" for table in tables for way in ("ON", "OFF")]
    on = ""
    for sql, _ in script.sent:
        if sql.startswith("SET IDENTITY_INSERT"):
            on = sql.split()[2] if sql.endswith("ON") else ""
        elif insert := INSERT.match(sql):
            key = {"dbo.sf_brxxk": "patid", "dbo.gh_ghyyk": "xh", "dbo.gh_ghzdk": "xh"}.get(insert[1])
            assert (key in insert[2].split(", ")) == (on == insert[1]), sql


@case_of
def test_what_is_there_is_dropped_first(name: str) -> None:
    script, _ = created(name)
    drops = [sql for sql, _ in script.sent if "DROP " in sql]
    dropped = [found.lower() for sql in drops for found in re.findall(r"DROP [A-Z]+ ([\w.]+)", sql)]
    indexes = {found for found in made(name) if found.startswith("idx_")}
    assert set(dropped) == made(name) - indexes
    assert len(dropped) == len(set(dropped))
    assert [sql for sql, _ in script.sent][: len(drops)] == drops
    if name == "winning_mssql":
        assert dropped.index("dbo.gh_ghzdk") < dropped.index("dbo.ut_xh12")  # a type after the tables that use it
        parsed(drops, "tsql")


WINNING_ROW = {
    "his_id": Decimal(1), "order_no": "1", "state": "PAID", "sch": Decimal(7), "num": 3, "patient": Decimal(9),
    "total": Decimal("20.00"), "paid": Decimal(0), "refunded": Decimal(0), "operator": "0931", "id": "0931", "name": "张三",
    "jlzt": 0, "pbmxid": Decimal(7), "yyrq": "2026030209:00:00", "past": 0, "xh": Decimal(5), "jsbz": 0, "cfbz": 0,
    "je": Decimal("20.00"), "ybje": Decimal("0.00"), "rjxh": None, "after_close": "是", "jssjh": "1", "djje": Decimal("20.00"),
    "kfsdm": "160 ", "today": "20260302", "n": 1, "same": 1,
}  # fmt: skip
NEUSOFT_ROW = {
    "his_id": "1", "order_no": "1", "state": "PAID", "sch": "7", "num": 3, "patient": "9", "total": Decimal(20), "paid": Decimal(0),
    "refunded": Decimal(0), "operator": "0931", "net_right": "1", "order_state": "0", "past": 0, "schema_id": "7", "order_id": "T1",
    "visiting_num": "4", "clinic_code": "4", "valid_flag": "1", "ynsee": "0", "ynbook": "1", "paykind_code": "01", "pub_cost": 0,
    "triage_flag": "0", "reg_date": dt.datetime(2026, 3, 2), "early": 0, "empl_name": "李四", "serial_no": "8", "fee": Decimal(20), "n": 1,
    "clinic": "4", "invoice": "F1", "pub_flag": "1", "pay_cost": 0, "val": "1", "balance_no": "9", "recipes": 0, "closed": 1, "doct": "0101",
    **dict.fromkeys(("day", "noon", "dept", "dname", "ename", "levl", "lname", "bt", "et", "st", "ed"), "1"),
}  # fmt: skip


BILL = InsuredBill("S1", "D1", "P1", "310", 1000, 500, 500)


def rehearsed(window: CashierWindow) -> None:
    """Every action of the window; refusals do not matter here, statements do."""
    actions: list[Callable[[], object]] = [
        lambda: window.orders(channel_only=True, states=("PAID",), limit=3),
        lambda: window.cancel_booking("1", operator="0931"),
        lambda: window.refund("1", operator="0931"),
        lambda: window.suspend_schedule("7", operator="0931", reason="停诊"),
        lambda: window.resume_schedule("7", operator="0931"),
        lambda: window.replace_doctor("7", "0101", operator="0931"),
        lambda: window.walk_in("7", "9", operator="0931"),
        lambda: window.book_for_channel("7", "9", "T1", paid=True),
        lambda: window.register_insured("7", "9", BILL, operator="0931"),
        lambda: window.refund_insured("1", "S2", operator="0931"),
        lambda: window.refund_part("1", 100, operator="0931"),
        lambda: window.close_day(operator="0931"),
        lambda: window.reschedule("1", "8", operator="0931"),
        lambda: window.prescribe("1"),
        lambda: window.clear_holds(),
        lambda: window.night_job(),
        lambda: window.check_in("1"),
        lambda: window.visit("1"),
        lambda: window.half_written("7", "9"),
        lambda: window.raw("1"),
        lambda: window.raw_schedule("7"),
    ]
    for action in actions:
        with suppress(WindowRefusal, AttributeError):
            action()
    window.close()


def test_the_window_speaks_transact_sql() -> None:
    script = Script(row=WINNING_ROW, out={"@hx": 4, "@text": "", "@sjh": "1"})
    for insured, state in ((0, 0), (5, 0), (0, 1)):
        script.row |= {"ybje": Decimal(insured), "jlzt": state}
        rehearsed(winning_mssql.WinningMssqlWindow(pool(script, winning_mssql.TRANSACT_SQL)))
    statements = sorted({sql for sql, _ in script.sent})
    parsed(statements, "tsql")
    everything = "\n".join(statements)
    assert not re.search(
        r"\bhis\.|\|\||\bLIMIT\b|FOR UPDATE|RETURNING|nextval|strpos|LATERAL|to_char|GREATEST|::", everything
    )
    assert {found.lower() for found in re.findall(r"\bdbo\.\w+", everything)} <= made("winning_mssql")
    assert sum("UPDLOCK" in sql for sql in statements) == 5
    assert sum("OUTPUT inserted.xh" in sql for sql in statements) == 2
    assert {plan.object for plan, _ in script.calls} == {"dbo.usp_yy_qh", "dbo.usp_gh_hc"}
    for plan, values in script.calls:
        assert plan.object.lower() in made("winning_mssql")
        assert set(values) == {p.name for p in plan.parameters if p.kind.name == "IN"}
    assert script.events.count("begin") == script.events.count("commit") + script.events.count("rollback")


def test_the_window_speaks_oracle() -> None:
    results = Script(row={**NEUSOFT_ROW}, out={"o_code": 0, "o_msg": "成功", "invoice": "W1"})
    for state, book, insured in (("0", "1", 0), ("3", "1", 0), ("3", "0", 0), ("3", "1", 5)):
        results.row |= {"order_state": state, "ynbook": book, "pub_cost": insured}
        rehearsed(neusoft_oracle.NeusoftOracleWindow(pool(results, neusoft_oracle.PL_SQL)))
    statements = sorted({sql for sql, _ in results.sent})
    parsed(statements, "oracle")
    everything = "\n".join(statements)
    assert not re.search(r"\bneuhis\.|\bLIMIT\b|RETURNING|nextval\(|strpos|LATERAL|date_trunc|CAST\(|::", everything)
    named = {found.lower() for found in re.findall(r"(?:FROM|JOIN|INTO|UPDATE) ((?:fin|com|pkg)_\w+)", everything)}
    assert named <= made("neusoft_oracle")
    assert {found.lower() for found in re.findall(r"(\w+)\.NEXTVAL", everything)} <= made("neusoft_oracle")
    spec = sql_file("neusoft", "oracle/package.sql").partition("END PKG_160;")[0].lower()
    assert {plan.object for plan, _ in results.calls} == {"pkg_160.p_book", "pkg_160.p_pay", "pkg_160.f_reverse"}
    for plan, values in results.calls:
        declared = re.search(rf"\b{plan.object.partition('.')[2]}\((.*?)\)", spec, re.S)
        assert declared is not None
        names = re.findall(r"\b([po]_\w+)", declared[1])
        assert [p.name for p in plan.parameters if p.kind.name != "RETURN"] == names
        assert list(values) == [name for name in names if name.startswith("p_")]


@pytest.mark.parametrize(("engine", "rules"), [(n, c.dialect.rules) for n, c in CASES.items()])
def test_no_rule_is_idle(engine: str, rules: tuple[tuple[str, str], ...]) -> None:
    """Each rule rewrites something that the window sends."""
    case = CASES[engine]
    script = Script(
        row={**WINNING_ROW, **NEUSOFT_ROW, "xh": Decimal(5)},
        out={"@hx": 4, "@text": "", "@sjh": "1", "o_code": 0, "invoice": "W"},
    )
    seen: list[str] = []

    class Watching(Dialect):
        def say(self, sql: str) -> str:
            said = sql
            for number, (old, new) in enumerate(self.rules):
                after = re.sub(old, new, said, flags=re.DOTALL)
                if after != said:
                    seen.append(str(number))
                said = after
            return said

    d = case.dialect
    watching = Watching(d.engine, d.rules, d.batches, d.drop, d.counted)
    window = winning_mssql.WinningMssqlWindow if engine == "winning_mssql" else neusoft_oracle.NeusoftOracleWindow
    for state in ("0", "3"):
        script.row["order_state"] = state
        rehearsed(window(pool(script, watching)))
    assert set(seen) == {str(number) for number in range(len(rules))}
