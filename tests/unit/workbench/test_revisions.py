"""Publishing: one switch, a second person, a history that cannot be edited unseen, archives that cannot be changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from his_db.document.problem import DocumentError
from his_db.engine import SourceSettings
from his_db.workbench.revisions import RevisionRefused, Revisions
from his_db.workbench.site import Site

PACK = Path(__file__).resolve().parents[3] / "his_db" / "packs" / "zebone" / "mappings"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    shutil.copytree(PACK, tmp_path / "mappings")
    settings = SourceSettings("his", "sqlite", str(tmp_path / "his.db"))
    return Site(tmp_path / "mappings", {"his": settings}, state=tmp_path / "state")


@pytest.fixture
def revisions(site: Site) -> Revisions:
    assert site.state is not None
    return Revisions(site.state)


def edit(site: Site, words: str) -> None:
    with (site.folder / "codes" / "sex.toml").open("a", encoding="utf-8") as file:
        file.write(f"# {words}\n")


def test_publish_diff_rollback_history(site: Site, revisions: Revisions) -> None:
    assert revisions.live() == ""
    first = revisions.publish(site, author="张工", note="首次")
    assert revisions.live() == first.revision == site.load().revision
    assert revisions.diff(site.folder) == ()
    edit(site, "改动")
    (change,) = revisions.diff(site.folder)
    assert (change.file, change.what) == ("codes/sex.toml", "changed")
    assert "+# 改动" in change.lines
    second = revisions.publish(site, author="张工", note="第二版")
    assert second.previous == first.revision
    back = revisions.rollback(author="李工", note="回退")
    assert revisions.live() == back.revision == first.revision
    assert [entry.action for entry in revisions.history()] == ["publish", "publish", "rollback"]
    assert site.load(revisions.folder(first.revision)).revision == first.revision
    with pytest.raises(RevisionRefused):
        revisions.rollback(author="李工", note="再回退")  # nothing is before the first


def test_what_is_live_or_wrong_is_not_published(site: Site, revisions: Revisions) -> None:
    revisions.publish(site, author="a", note="n")
    with pytest.raises(RevisionRefused):
        revisions.publish(site, author="a", note="n")
    with pytest.raises(RevisionRefused):
        revisions.publish(site, author=" ", note="n")
    live = revisions.live()
    (site.folder / "catalog" / "list_doctors.toml").write_text("schema = 1\n", encoding="utf-8")
    with pytest.raises(DocumentError):
        revisions.publish(site, author="a", note="n")
    assert revisions.live() == live
    assert len(revisions.history()) == 1


def test_a_second_person_must_approve_what_was_submitted(site: Site, revisions: Revisions) -> None:
    with pytest.raises(RevisionRefused):
        revisions.publish(site, author="李工", note="好", approve=True)
    submitted = revisions.publish(site, author="张工", note="新", require_approval=True)
    assert revisions.live() == ""
    assert revisions.waiting() == submitted
    with pytest.raises(RevisionRefused):
        revisions.publish(site, author=" 张工 ", note="好", approve=True)
    edit(site, "偷偷改")
    with pytest.raises(RevisionRefused):
        revisions.publish(site, author="李工", note="好", approve=True)
    revisions.publish(site, author="张工", note="新", require_approval=True)
    entry = revisions.publish(site, author="李工", note="好", approve=True)
    assert (entry.author, entry.approver) == ("张工", "李工")
    assert revisions.live() == entry.revision


def test_an_edited_history_is_seen(site: Site, revisions: Revisions) -> None:
    revisions.publish(site, author="张工", note="一")
    edit(site, "x")
    revisions.publish(site, author="张工", note="二")
    path = revisions.root / "history.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    for damaged in (lines[0].replace("张工", "王工") + "\n" + lines[1], lines[1], "{"):
        path.write_text(damaged + "\n", encoding="utf-8")
        with pytest.raises(RevisionRefused):
            revisions.history()


def test_a_changed_archive_is_not_made_live(site: Site, revisions: Revisions) -> None:
    first = revisions.publish(site, author="a", note="n")
    edit(site, "x")
    revisions.publish(site, author="a", note="n2")
    with (revisions.folder(first.revision) / "codes" / "sex.toml").open("a", encoding="utf-8") as file:
        file.write("# tampered\n")
    with pytest.raises(RevisionRefused):
        revisions.rollback(author="b", note="back")
    with pytest.raises(RevisionRefused):
        revisions.rollback(author="b", note="back", revision="../../etc")


def test_a_damaged_pointer_is_said(site: Site, revisions: Revisions) -> None:
    revisions.publish(site, author="a", note="n")
    (revisions.root / "live.json").write_text("{", encoding="utf-8")
    with pytest.raises(RevisionRefused):
        revisions.live()
    assert json.loads((revisions.root / "history.jsonl").read_text(encoding="utf-8"))["action"] == "publish"
