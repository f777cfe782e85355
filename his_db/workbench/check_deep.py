"""The deep stage: every statement is given to the live database to be understood and planned; none is executed.

SELECTs are described (no row is read), writing statements are prepared where the engine can. Values are what the
mapping's own binder makes of a made-up request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from his_db.document.finding import Words
from his_db.document.problem import Problems
from his_db.engine import Fault
from his_db.mapping.finding import Reporter, did_you_mean
from his_db.mapping.model import OperationMapping, ResultSpec, WatchMapping
from his_db.workbench.made_up import generated_statements, values_for
from his_db.workbench.site import Connection, Site, planning
from his_db.workbench.usage import StatementUse, Use


def check_deep(site: Site, connection: Connection, uses: Sequence[Use], problems: Problems) -> None:
    """Report what the database refuses, and columns that a SELECT does not give."""
    unprepared = 0
    for use in uses:
        report = Reporter(use.document, problems)
        for statement in use.statements:
            for sql, values in _texts(site, use, statement):
                unprepared += not _one(connection, use, statement, sql, values, report)
    if unprepared:
        message = Words(
            f"{unprepared} writing statements cannot be checked without running them: use rehearse",
            f"{unprepared} 条写语句无法在不执行的情况下检查，请用 rehearse 演练",
        )
        Reporter(uses[0].document, problems).warn("H602", (), message)


def _texts(site: Site, use: Use, statement: StatementUse) -> list[tuple[str, dict[str, Any]]]:
    if statement.sql:
        return [(statement.sql, values_for(site, use, statement.sql))]
    return generated_statements(site, use)


def _one(
    connection: Connection, use: Use, statement: StatementUse, sql: str, values: dict[str, Any], report: Reporter
) -> bool:
    engine, reader = connection.engine, connection.reader
    try:
        with planning(connection, is_select=statement.only_reads) as session:
            if not statement.only_reads:
                return reader.prepare(session, sql, values)
            columns = reader.describe(session, sql, values)
    except engine.driver_errors as error:
        if engine.classify(error, sent=True) in {Fault.CONNECT, Fault.LOST}:
            raise connection.failed(error) from None
        detail = engine.describe(error)
        message = Words(f"the database refuses the statement: {detail}", f"数据库不接受这条语句：{detail}")
        report.value("H600", statement.path, message)
        return True
    _check_columns(use, columns, report)
    return True


def _check_columns(use: Use, columns: tuple[str, ...], report: Reporter) -> None:
    """Only where one statement gives the result; steps choose theirs themselves."""
    mapping = use.mapping
    if isinstance(mapping, WatchMapping):
        results: tuple[ResultSpec, ...] = (mapping.result,)
    elif isinstance(mapping, OperationMapping) and mapping.kind == "query":
        results = mapping.results
    else:
        return
    known = {column.casefold() for column in columns}
    for result in results:
        for spec in result.fields:
            for key, name in (
                ("column", spec.column),
                ("date_column", spec.date_column),
                ("time_column", spec.time_column),
            ):
                if name and name.casefold() not in known:
                    message = Words(f"the statement gives no column {name}", f"语句没有返回列 {name}")
                    report.value("H601", (*spec.path, key), message, did_you_mean(name, columns))
