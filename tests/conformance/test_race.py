"""Rungs of the ladder in the late-commit race on real servers, a naive poller beside them as control.

A few hundred transactions each; the long form with every rung beside the same writers is ``make race`` (``tests/race``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.late_commits import Race
from tests.race.beds import CASES, Bed, mysql_bed, postgresql_bed, sqlite_bed
from tests.race.heats import heats
from tests.race.readers import Naive, Rung, missed
from tests.servers import MariadbServer, PostgresqlServer

ROUNDS = 15
ROWS = 36


@pytest.fixture
def bed(request: pytest.FixtureRequest, engine: str, tmp_path: Path) -> Iterator[Bed]:
    if engine == "postgresql":
        postgresql: PostgresqlServer = request.getfixturevalue("postgresql_server")
        made = postgresql_bed(postgresql, ROWS)
    elif engine == "mysql":
        # The standard server of a machine writes no binary log.
        is_binlog = request.node.callspec.params.get("rung") == "binlog"
        mariadb: MariadbServer = (
            request.getfixturevalue("binlog_server").server if is_binlog else request.getfixturevalue("mariadb_server")
        )
        made = mysql_bed(mariadb, ROWS)
    else:
        made = sqlite_bed(tmp_path / "race.db", ROWS)
    with made as found:
        yield found


@pytest.mark.parametrize(("engine", "rung", "stamp"), list(CASES))
def test_no_final_state_is_missed(bed: Bed, engine: str, rung: str, stamp: str) -> None:
    reader = Rung(bed, CASES[engine, rung, stamp])
    try:
        race = Race(bed.connect, bed.dialects[stamp], rounds=ROUNDS, rows=ROWS)
        race.run(reader.look)
        final = bed.final()
        assert missed(reader.known, final) == 0, f"after {race.commits} transactions and {reader.looks} looks"
        assert race.commits == race.writers * ROUNDS
        assert reader.windows == 0
        assert reader.named > 0
        # Quiet again: a rung that names everything for ever would hide a miss.
        for _ in range(3):
            reader.look()
        if rung != "cursor":  # its margin goes by the clock
            before = reader.named
            reader.look()
            assert reader.named - before <= ROWS
    finally:
        reader.close()


@pytest.mark.parametrize(("engine", "stamp"), [("postgresql", "begin"), ("mysql", "begin")])
def test_the_naive_poller_beside_it_loses(bed: Bed, engine: str, stamp: str) -> None:
    """The race is one: who goes by the highest stamp loses final states."""
    naive = Naive(bed)
    try:
        lost = 0
        for seed in range(5):
            Race(bed.connect, bed.dialects[stamp], rounds=ROUNDS, rows=ROWS, seed=seed).run(naive.look)
            lost += missed(naive.known, bed.final())
            if lost:
                break
        assert lost > 0
    finally:
        naive.close()


def test_the_long_form_runs_every_rung_beside_the_same_writers(postgresql_server: PostgresqlServer) -> None:
    """One small heat of it: the counts of its table."""
    rungs = {rung: spec for (engine, rung, _), spec in CASES.items() if engine == "postgresql"}
    rows = heats(
        "PostgreSQL", lambda rows: postgresql_bed(postgresql_server, rows), rungs, stamp="begin", transactions=300,
        seed=3, heat=480,
    )  # fmt: skip
    assert {row.rung for row in rows} == {*rungs, "window"}
    assert {row.grade for row in rows} == {"A", "B", "C", "D"}
    for row in rows:
        assert row.transactions + row.rolled_back == 480
        assert row.transactions >= 300
        assert row.final > 0
        assert row.missed == 0, row.examples
        assert row.looks >= 2
