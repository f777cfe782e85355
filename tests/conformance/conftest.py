"""The table engine × feature at the end of a run of the conformance suite; where state stores are."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sync.registry import STORES
from tests.servers import url_of

COLUMNS = ("sqlite", "postgresql", "mysql", "mssql", "oracle", "dm", "odbc/postgresql", "odbc/mariadb")
# Feature -> names of the tests that show it. Whatever engine a test ran on stands in its id, or in its module.
FEATURES = {
    "values there and back, Chinese": ("test_values_come_back_as_they_went", "test_types"),
    "binds, optional filters": ("test_optional_filter_with_text_and_null", "test_colons_that_are_no_binds"),
    "paging by key (kind table)": ("test_kind_table_pages_by_its_key",),
    "committed rows are seen at once": ("test_a_held_read_session_sees_what_was_committed",),
    "row limit": ("test_max_rows_fetches_one_more", "test_a_million_rows_cost_little"),
    "rows streamed with flat memory": (
        "test_a_stream_gives_every_row_in_pieces",
        "test_a_stream_that_is_left_leaves_the_session_usable",
    ),
    "read-only session": ("test_a_read_session_cannot_write",),
    "errors classified": ("test_statement_faults", "test_missing_bind_is_a_mapping_fault", "test_rights"),
    "no values in error texts": ("test_faults_name_objects_and_no_values",),
    "statement time-out": ("test_statement_timeout",),
    "lock time-out": ("test_lock_timeout",),
    "deadlock": ("test_deadlock_is_busy",),
    "transactions": ("test_rollback_undoes_and_commit_keeps", "test_failed_work_leaves_nothing"),
    "two compete for one slot": ("test_two_workers_compete_for_one_slot",),
    "abort of a running call": ("test_abort_breaks_a_running_call",),
    "connect failure, recovery": ("test_connect_failure_is_unavailable", "test_breaker_and_recovery"),
    "lost connection, lost at COMMIT": (
        "test_idle_connection_lost_is_not_noticed",
        "test_lost_in_mid_statement",
        "test_cut_at_commit_is_unknown",
        "test_cut_before_commit_is_nothing",
        "test_a_lost_connection_is_dead",
    ),
    "silent server": ("test_a_silent_server_is_broken_off",),
    "procedures: OUT, RETURN, sets": (
        "test_procedure_in_out_inout",
        "test_functions",
        "test_several_result_sets_are_drained",
        "test_result_sets_are_drained",
        "test_procedure",
    ),
    "HIS's own sentence": ("test_calls_that_fail", "test_sqlite_trigger_and_procedures", "test_the_his_says_no"),
}
_NO_SERVER = "no server can be had here"
NOT_APPLICABLE = {
    ("sqlite", "deadlock"): "one writer at a time",
    ("sqlite", "lost connection, lost at COMMIT"): "a file, no connection",
    ("sqlite", "silent server"): "a file, no server",
    ("sqlite", "procedures: OUT, RETURN, sets"): "SQLite has no procedures",
    ("odbc/postgresql", "*"): "the plumbing alone is proven here",
    ("odbc/mariadb", "*"): "the plumbing alone is proven here",
    ("dm", "*"): _NO_SERVER + ", connecting and the scripted driver alone",
}
_MODULES = {"test_engine_mysql": "mysql"}


@pytest.fixture(params=sorted(STORES))
def store_place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a new state store of each kind goes: a file, or the url of an empty database."""
    if request.param == "sqlite":
        return str(tmp_path / "state.db")
    return url_of(request.getfixturevalue("postgresql_database")())


def _engine_in(nodeid: str) -> str:
    module = re.search(r"(\w+)\.py::", nodeid)
    parameters = re.search(r"\[(.*)\]$", nodeid)
    name = parameters[1] if parameters else ""
    for column in sorted(COLUMNS, key=len, reverse=True):
        if name == column or name.startswith(f"{column}-"):
            return column
    stem = module[1] if module else ""
    if stem == "test_engines":
        return "sqlite" if "sqlite" in nodeid else "postgresql"
    return _MODULES.get(stem, "")


def _results(stats: dict[str, list[Any]]) -> Iterator[tuple[str, str, str]]:
    """(engine, test, outcome)"""
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in stats.get(outcome, ()):
            nodeid = getattr(report, "nodeid", "")
            if any(name in nodeid for name in ("test_engine", "test_odbc", "test_live")):
                test = re.search(r"::(\w+)", nodeid)
                yield _engine_in(nodeid), test[1] if test else "", outcome


def pytest_terminal_summary(terminalreporter: Any) -> None:
    seen: dict[tuple[str, str], set[str]] = defaultdict(set)
    feature_of = {test: feature for feature, tests in FEATURES.items() for test in tests}
    for engine, test, outcome in _results(terminalreporter.stats):
        if engine and test in feature_of:
            seen[engine, feature_of[test]].add(outcome)
    if not seen:
        return
    notes: dict[str, None] = {}
    write = terminalreporter.write_line
    terminalreporter.section("engines × features")
    write(" " * 34 + " ".join(f"{column:>15}" for column in COLUMNS))
    for feature in FEATURES:
        cells = []
        for column in COLUMNS:
            outcomes = seen.get((column, feature), set())
            reason = NOT_APPLICABLE.get((column, feature)) or NOT_APPLICABLE.get((column, "*"))
            if outcomes & {"failed", "error"}:
                cell = "FAILED"
            elif "passed" in outcomes:
                cell = "passed"
            elif column in ("mssql", "oracle") and not os.environ.get(f"HIS160_TEST_{column.upper()}_URL"):
                cell = "opt-in"
            elif reason:
                cell = "not applicable"
                notes[
                    f"{column}: {reason}"
                    if (column, feature) not in NOT_APPLICABLE
                    else f"{column}, {feature}: {reason}"
                ] = None
            else:
                cell = "not run"
            cells.append(f"{cell:>15}")
        write(f"{feature:<34}" + " ".join(cells))
    for note in notes:
        write(f"  not applicable: {note}")
    write("  opt-in: set HIS160_TEST_MSSQL_URL or HIS160_TEST_ORACLE_URL (docs/engines.md)")
