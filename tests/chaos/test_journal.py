"""A long chaos run that is ended keeps what it has shown, goes on where it stopped, and tells a failure of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.campaign import Campaign, Extent, Row, Stopped, rows_of
from tests.chaos.case import Case, Outcome
from tests.chaos.invariants import Kind
from tests.chaos.journal import CASE, DONE, Entry, Journal, read_journal
from tests.chaos.scenes import SCENES
from tests.chaos.site import SMALL, ChaosSite, chaos_site
from tests.chaos.table import facts, markdown

CASE_1 = Entry(CASE, "sqlite", "full", 160, "LockSlot", 21, "dies at 1", kills=1)
HARM = (("doubled", "no_oversell", "S1#5 is given to A, B"),)


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path, "abc1234").note(CASE_1)
    with path.open("a", encoding="utf-8") as file:
        file.write('{"what": "case", "engine": "sql')
    (entry,) = read_journal(path)
    assert (entry.plan, entry.kills, entry.commit) == ("dies at 1", 1, "abc1234")
    assert entry.day


def test_a_line_that_is_damaged_is_told(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"what": "case"\n', encoding="utf-8")
    with pytest.raises(json.JSONDecodeError):
        Journal(path)


def test_what_was_found_is_played_again_and_the_last_time_counts(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path, "old").note(replace(CASE_1, findings=HARM))
    assert Journal(path).known(CASE_1) is None
    (row,) = rows_of(read_journal(path))
    assert row.count(Kind.DOUBLED) == 1
    Journal(path, "new").note(CASE_1)
    assert Journal(path).known(CASE_1) is not None
    (row,) = rows_of(read_journal(path))
    assert (row.kills, row.findings) == (1, [])


def test_the_page_says_of_which_code_and_what_did_not_come_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    for commit, entry in (("c1", CASE_1), ("c2", replace(CASE_1, plan="dies at 2", kills=2, findings=HARM))):
        Journal(path, commit).note(entry)
    said = facts(read_journal(path))
    assert "code of commit c1, c2, seed 160" in said
    assert "**3 kills, 1 findings.**" in said
    page = markdown(read_journal(path), "# Preface", "Beside other work.")
    assert "| LockSlot (not to its end) | sqlite | full | 21 | 3 | 0 | 1 | 0 | 0 |" in page
    assert "Beside other work." in page
    Journal(path, "c2").note(replace(CASE_1, what=DONE, plan="", kills=0))
    assert "| LockSlot | sqlite | full | 21 | 3 |" in markdown(read_journal(path), "")


def stop_after(cases: int) -> Callable[[], None]:
    left = [cases]

    def check() -> None:
        if not left[0]:
            raise Stopped
        left[0] -= 1

    return check


@pytest.fixture
def site(tmp_path: Path) -> ChaosSite:
    """No hospital: what a campaign does around its cases."""

    class Nobody:
        def __getattr__(self, name: str) -> object:
            return Nobody()

        def __call__(self, *args: object, **options: object) -> object:
            return Nobody()

        def __iter__(self) -> object:
            return iter(())

    return ChaosSite("sqlite", "zebone", "", Nobody(), Nobody(), Nobody(), {}, tmp_path)  # type: ignore[arg-type]


def test_a_case_that_does_not_come_to_its_end_is_a_finding_and_the_next_is_played(
    site: ChaosSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.chaos.trap import Point

    played: list[str] = []

    def play(case: Case) -> Outcome:
        played.append(str(case._kill))
        if len(played) == 1:
            raise AssertionError("no answer to ('call',) within 40 s")
        return Outcome(kills=1)

    monkeypatch.setattr(Case, "__init__", lambda case, site, number, kill: setattr(case, "_kill", kill))
    monkeypatch.setattr(Case, "dry_run", lambda case: [Point(1, "BEGIN", "before"), Point(2, "BEGIN", "after")])
    monkeypatch.setattr(Case, "play", play)
    extent = Extent(all_modes=False, twice=0)
    rows = Campaign(site, extent, seed=1, scenes=SCENES[:1], tell=print).run()
    assert len(played) == 2
    assert [finding.invariant for _, finding in rows[0].findings] == ["plays_to_its_end"]
    assert rows[0].is_whole


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform == "win32", reason="fork and Unix sockets")
def test_a_run_that_was_ended_goes_on_where_it_stopped(tmp_path: Path) -> None:
    extent, path = Extent(every=8, all_modes=False, twice=0, name="few"), tmp_path / "journal.jsonl"

    def run(hospital: str, check: Callable[[], None]) -> Row:
        (tmp_path / hospital).mkdir()
        with chaos_site("sqlite", tmp_path / hospital, size=SMALL) as site:
            campaign = Campaign(
                site, extent, seed=160, scenes=SCENES[:1], tell=print, journal=Journal(path), check=check
            )
            rows = campaign.run()
        assert [str(finding) for row in rows for _, finding in row.findings] == []
        return rows[0]

    begun = run("first", stop_after(2))  # one look before the dry run, one before the case
    assert (begun.cases, begun.is_whole) == (1, False)
    first = [entry.plan for entry in read_journal(path) if entry.what == CASE]
    looks: list[int] = []
    ended = run("second", lambda: looks.append(1))
    assert (ended.cases, ended.is_whole) == (3, True)
    assert len(looks) == 3  # the dry run, and the two cases that had not been played
    plans = [entry.plan for entry in read_journal(path) if entry.what == CASE]
    assert plans[0] == first[0]
    assert len(set(plans)) == len(plans) == 3
