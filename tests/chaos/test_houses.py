"""The short form of ``make chaos`` over several systems: HIS, payment house and 医保 keep a book each."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.chaos.campaign import Campaign, Extent
from tests.chaos.case import RETRY, Case, Kill
from tests.chaos.house_scenes import HOUSE_SCENES
from tests.chaos.site import SMALL, chaos_site
from tests.chaos.table import console
from tests.chaos.trap import Point

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform == "win32", reason="fork and Unix sockets"),
]
_EXTENTS = {"sqlite": 45, "postgresql": 60, "mysql": 90}


@pytest.mark.parametrize("engine", sorted(_EXTENTS))
def test_no_death_moves_money_twice_or_loses_it(engine: str, tmp_path: Path) -> None:
    with chaos_site(engine, tmp_path, size=SMALL, with_houses=True) as site:
        extent = Extent(every=_EXTENTS[engine], all_modes=False, twice=0)
        rows = Campaign(site, extent, seed=160, tell=print).run()
        print(console(rows))
        assert [str(finding) for row in rows for _, finding in row.findings] == []
        assert sum(row.unknown for row in rows) == 0
        assert sum(row.kills for row in rows) >= 5


def test_the_harness_sees_money_that_went_back_behind_everybody(tmp_path: Path) -> None:
    """The payment house gives the money back, the HIS keeps the registration: the books are read, so it is found."""
    confirm = next(scene for scene in HOUSE_SCENES if scene.step == "confirm")
    with chaos_site("sqlite", tmp_path, size=SMALL, with_houses=True) as site:

        def give_back() -> None:
            assert site.houses is not None
            book = site.houses.servers["wechat"].simulator.book
            with book.change():
                assert book.run("UPDATE trade SET transaction_id = ''") == 1

        outcome = Case(site, "BACK1", Kill(confirm, Point(1, "", ""), RETRY), give_back).play()
    assert {finding.invariant for finding in outcome.findings} == {"money_is_where_the_his_says"}
