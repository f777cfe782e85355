"""The winning sample on SQL Server: the pack `winning_mssql`'s own tables and procedures, the rows of `winning`."""

from __future__ import annotations

import datetime
from decimal import Decimal

from sqlalchemy import Connection

from his_db.engine import Parameter, ParameterKind, ProcedurePlan
from his_db.sample import FULL, CashierWindow, Clock, SampleSize, SampleSummary, WindowRefusal, hospital_now
from his_db.samples.desk import Desk, DeskPool, Dialect, go_batches
from his_db.samples.population import build_world
from his_db.samples.tables import sql_file
from his_db.samples.winning import fill
from his_db.samples.winning_window import WinningWindow

_DROPPED = {"TYPE": "TYPE_ID"}
_RULES = (
    # The receipt number, as the vendor's procedures make it here: from the key of the registration.
    (
        r"to_char\(his\.fn_dqsj\(\), 'YYMMDD'\) \|\| lpad\(CAST\(nextval\('his\.seq_sjh'\) AS text\), 8, '0'\)",
        "SUBSTRING(dbo.fn_rq16(dbo.fn_dqsj()), 3, 6) + RIGHT('000000000' + CONVERT(varchar(12), z.xh), 9)",
    ),
    (r"his\.fn_rq8\((his\.fn_dqsj\(\))\)", r"CONVERT(char(8), \1, 112)"),
    (r"\bhis\.(\w+)", r"dbo.\1"),
    (r"\bAS numeric\)", "AS numeric(12,0))"),
    (r"\bAS varchar\)", "AS varchar(64))"),  # without a length T-SQL cuts at 30
    (r"\btrim\((COALESCE\([^()]*\))\)", r"LTRIM(RTRIM(\1))"),
    (r"\bstrpos\(:states, ',' \|\| state \|\| ','\)", "CHARINDEX(',' + state + ',', :states)"),
    (r", LATERAL \(", " CROSS APPLY ("),
    (r"\A\s*SELECT (.*)\sLIMIT :limit\Z", r"SELECT TOP (:limit) \1"),
    (r"\A(SELECT .*?)( WHERE .*) FOR UPDATE\Z", r"\1 WITH (UPDLOCK, ROWLOCK)\2"),
    (r"\A(INSERT INTO \S+ \([^()]*\)) (SELECT .*) RETURNING (\w+)\Z", r"\1 OUTPUT inserted.\3 \2"),
)
_TAKE = ProcedurePlan(
    "dbo.usp_yy_qh",
    (
        Parameter("@pbmxid"),
        Parameter("@hx", ParameterKind.OUT, "int"),
        Parameter("@text", ParameterKind.OUT, "varchar(200)"),
    ),
)
_REVERSE = ProcedurePlan(
    "dbo.usp_gh_hc",
    (
        Parameter("@ghxh"),
        Parameter("@czyh"),
        Parameter("@tkdh"),
        Parameter("@yy"),
        Parameter("@sjh", ParameterKind.OUT, "varchar(32)"),
    ),
)


def _drop(kind: str, name: str) -> str:
    """SQL Server before 2016 has no DROP … IF EXISTS."""
    return f"IF {_DROPPED.get(kind, 'OBJECT_ID')}('{name}') IS NOT NULL DROP {kind} {name}"


TRANSACT_SQL = Dialect(
    engine="mssql",
    rules=_RULES,
    batches=go_batches,
    drop=_drop,
    counted={"his.sf_brxxk": "patid", "his.gh_ghyyk": "xh", "his.gh_ghzdk": "xh"},
)


class WinningMssqlSample:
    """Creates the tables and procedures of `dbo` and opens the window program. Needs a database of GBK collation."""

    name = "winning_mssql"
    mappings = "mappings"
    engine = "mssql"

    def create(
        self, url: str, *, today: datetime.date, size: SampleSize = FULL, seed: int = 160, clock: Clock = hospital_now
    ) -> SampleSummary:
        """Drops the sample's objects and makes them anew; the rows in one transaction."""
        return create(DeskPool(url, TRANSACT_SQL), today=today, size=size, seed=seed, clock=clock)

    def window(self, url: str, *, clock: Clock = hospital_now) -> CashierWindow:
        """The window program on that database. Its times are the server's own (`dbo.fn_dqsj`): `clock` is not used."""
        return WinningMssqlWindow(DeskPool(url, TRANSACT_SQL))


def create(pool: DeskPool, *, today: datetime.date, size: SampleSize, seed: int, clock: Clock) -> SampleSummary:
    """The sample on the pool's server; gives the pool back."""
    world = build_world(today, size, seed)
    try:
        pool.build([sql_file("winning_mssql", name) for name in ("schema.sql", "procedures.sql")])
        with pool.begin() as desk:
            return fill(desk, world, (today - clock().date()).days)
    finally:
        pool.dispose()


class WinningMssqlWindow(WinningWindow):
    """The window of `winning`; taking a number and 红冲 are procedures with OUTPUT parameters here."""

    def _reverse(self, connection: Connection | Desk, xh: object, operator: str) -> bool:
        assert isinstance(connection, Desk)
        values = {"@ghxh": xh, "@czyh": operator, "@tkdh": None, "@yy": "窗口退号"}
        return connection.call(_REVERSE, values)["@sjh"] is not None

    def _take(self, connection: Connection | Desk, schedule_id: str) -> int:
        assert isinstance(connection, Desk)
        out = connection.call(_TAKE, {"@pbmxid": Decimal(schedule_id)})
        if out["@text"]:
            raise WindowRefusal(str(out["@text"]))
        return int(out["@hx"])
