"""The short form of ``make chaos``: the agent's process dies at points of every command, on every engine that is here."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.chaos.campaign import SHORT, Campaign, Extent
from tests.chaos.case import RETRY, Case, Kill
from tests.chaos.scenes import SCENES
from tests.chaos.site import SMALL, chaos_site
from tests.chaos.table import console
from tests.chaos.trap import Point

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform == "win32", reason="fork and Unix sockets"),
]
_EXTENTS = {
    "sqlite": SHORT,
    "postgresql": SHORT,
    "mysql": Extent(every=24, all_modes=False, twice=0),  # its pack has three times the statements
}
_SETTLEMENT = (
    *(
        "PK_ORG",
        "PK_PI",
        "PK_PV",
        "CODE_ST",
        "RECEIPT_NO",
        "DT_STTYPE",
        "AMOUNT_ST",
        "AMOUNT_PI",
        "AMOUNT_INSU",
        "AMOUNT_DISC",
    ),
    *(
        "AMOUNT_REG",
        "AMOUNT_DIAG",
        "DATE_ST",
        "PK_EMP_ST",
        "NAME_EMP_ST",
        "FLAG_CC",
        "PK_CC",
        "FLAG_CANC",
        "REASON_CANC",
    ),
    *("PK_SETTLE_CANC", "PK_SETTLE_REV", "DEL_FLAG", "TS"),
)


@pytest.mark.parametrize("engine", sorted(_EXTENTS))
def test_no_death_loses_or_doubles_anything(engine: str, tmp_path: Path) -> None:
    with chaos_site(engine, tmp_path, size=SMALL) as site:
        rows = Campaign(site, _EXTENTS[engine], seed=160, tell=print).run()
        print(console(rows))
        assert [str(finding) for row in rows for _, finding in row.findings] == []
        assert sum(row.unknown for row in rows) == 0
        assert sum(row.kills for row in rows) >= 15


def test_a_double_death_is_met(tmp_path: Path) -> None:
    """Kills in the start that follows a kill, and in the repetition: both happen, at several points."""
    refund = next(scene for scene in SCENES if scene.step == "refund")
    with chaos_site("sqlite", tmp_path, size=SMALL) as site:
        extent = Extent(every=1000, all_modes=False, twice=10)
        row, _ = Campaign(site, extent, seed=160, scenes=(refund,), tell=print).run()
        assert not row.findings
        assert row.kills >= row.cases + 4  # four series end with one that is not reached


def test_the_harness_sees_a_double_charge(tmp_path: Path) -> None:
    """Somebody charges the order once more behind everybody's back: the books are read, so it is found."""
    pay = next(scene for scene in SCENES if scene.step == "pay")
    again = "INSERT INTO BL_SETTLE SELECT 'X' || substr(PK_SETTLE, 2), " + ", ".join(_SETTLEMENT) + " FROM BL_SETTLE "

    def charge_again() -> None:
        with closing(sqlite3.connect(tmp_path / "his.db")) as his:
            his.execute(f"{again} WHERE DT_STTYPE = '00' ORDER BY DATE_ST DESC, rowid DESC LIMIT 1")
            his.commit()

    with chaos_site("sqlite", tmp_path, size=SMALL) as site:
        outcome = Case(site, "TWICE1", Kill(pay, Point(1, "", ""), RETRY), charge_again).play()
    assert {"no_double_charge", "no_halves"} <= {finding.invariant for finding in outcome.findings}
