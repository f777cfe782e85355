"""Compiling after an edit: only what the edit concerns, and never less."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from his_db.document.problem import DocumentError
from his_db.generation import Former, Generation, compile_generation, former_of
from his_db.mapping.known_files import KnownFiles
from his_db.mapping.load import load_mapping_set
from his_db.mapping.model import MappingSet

PACK = Path(__file__).resolve().parents[3] / "his_db" / "packs" / "zebone" / "mappings"


class Set:
    """A pack that is edited and compiled again and again, as a reload does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(PACK, folder)
        self.known = KnownFiles()
        self.former: Former | None = None
        self.sources = {"his": "sqlite"}
        self.timezone = "Asia/Shanghai"

    def compiled(self) -> Generation:
        found = load_mapping_set(
            self.folder, sources=self.sources, timezone=self.timezone, known=self.known, is_checked=True
        )
        generation = compile_generation(found, self.former)
        self.former = former_of(found, generation)
        return generation

    def edit(self, name: str, change: Callable[[str], str]) -> None:
        path = self.folder / name
        before = path.read_text(encoding="utf-8")
        assert change(before) != before
        path.write_text(change(before), encoding="utf-8")


@pytest.fixture
def edited(tmp_path: Path) -> Set:
    return Set(tmp_path / "mappings")


def other(before: Generation, after: Generation) -> set[str]:
    """What was compiled anew."""
    found = {name for name, item in after.operations.items() if item is not before.operations.get(name)}
    return found | {name for name, item in after.watches.items() if item is not before.watches.get(name)}


def remark(text: str) -> str:
    return text + "\n# remark\n"


def test_an_unchanged_set_is_taken_over_whole(edited: Set) -> None:
    assert other(edited.compiled(), edited.compiled()) == set()


def test_one_file_one_operation(edited: Set) -> None:
    first = edited.compiled()
    edited.edit("catalog/list_departments.toml", remark)
    second = edited.compiled()
    assert other(first, second) == {"CatalogService.ListDepartments"}
    assert second.revision != first.revision


def test_a_read_takes_the_writes_along_that_answer_with_it(edited: Set) -> None:
    first = edited.compiled()
    using = {
        name
        for name, item in first.operations.items()
        for answer in item.answers
        if answer.read.name == "AppointmentService.GetAppointment"
    }
    assert using
    edited.edit("appointment/get_appointment.toml", remark)
    second = edited.compiled()
    assert other(first, second) == {"AppointmentService.GetAppointment", *using}
    for name in using:
        reads = {answer.read.name: answer.read for answer in second.operations[name].answers}
        assert all(read is second.operations[key] for key, read in reads.items())


@pytest.mark.parametrize("change", ["codes", "zone", "new code map"])
def test_what_is_shared_concerns_everything(edited: Set, change: str) -> None:
    first = edited.compiled()
    if change == "codes":
        edited.edit("codes/sex.toml", remark)
    elif change == "zone":
        edited.timezone = "Asia/Urumqi"
    else:
        (edited.folder / "codes/more.toml").write_text(
            'schema = 1\ncodes = "more"\nmap = [ { his = "1", is = "MALE" } ]\n', encoding="utf-8"
        )
    second = edited.compiled()
    assert other(first, second) == {*second.operations, *second.watches}


def test_a_watch_by_itself(edited: Set) -> None:
    first = edited.compiled()
    edited.edit("watch/orders.toml", remark)
    assert other(first, edited.compiled()) == {"orders"}


def test_what_is_gone_is_gone(edited: Set) -> None:
    edited.compiled()
    (edited.folder / "patient/find_patients.toml").unlink()
    (edited.folder / "watch/schedules.toml").unlink()
    second = edited.compiled()
    assert "PatientService.FindPatients" not in second.operations
    assert set(second.watches) == {"orders"}


def test_an_operation_that_moves_to_another_file(edited: Set) -> None:
    first = edited.compiled()
    path = edited.folder / "catalog/list_departments.toml"
    path.rename(path.with_name("departments.toml"))
    assert other(first, edited.compiled()) == set()  # its text decides, not where it stands


def test_values_that_are_equal_and_mean_two_things(edited: Set) -> None:
    """1 == true in Python, and not in a mapping."""
    first = edited.compiled()
    edited.edit("catalog/list_departments.toml", lambda text: text.replace("schema = 1", "schema = 1 "))
    assert other(first, edited.compiled()) == {"CatalogService.ListDepartments"}


def test_counts_of_unknown_codes_stay_with_their_file(edited: Set) -> None:
    first = edited.compiled()
    for name in ("CatalogService.ListSlots", "CatalogService.ListDoctors"):
        first.operations[name].tally.add(name, "state", "9")
    edited.edit("catalog/list_slots.toml", remark)
    assert edited.compiled().unknown_codes() == {("CatalogService.ListDoctors", "state", '"9"'): 1}


def test_what_was_wrong_before_hides_nothing_afterwards(edited: Set) -> None:
    """The .sql file is half copied (nothing can be said of it), then whole and wrong, then right: known files are
    looked at anew each time, damage of an earlier load stays with that load."""
    path = edited.folder / "catalog" / "list_departments.toml"
    head, sql, rest = path.read_text("utf-8").split('"""')
    path.write_text(head.replace("sql =", 'sql_file = "departments.sql"') + rest, "utf-8")
    script = edited.folder / "catalog" / "departments.sql"

    def loaded() -> MappingSet:
        return load_mapping_set(edited.folder, sources=edited.sources, timezone=edited.timezone, known=edited.known)

    for content, codes in (
        (b"\x81SELECT \xff\xff", {"H104"}),
        (sql.replace("d.NAME_DEPT AS dept_name, ", "").encode(), {"H309"}),
        (sql.replace("SELECT", "DELETE FROM BD_OU_DEPT; SELECT").encode(), {"H300", "H303"}),
    ):
        script.write_bytes(content)
        with pytest.raises(DocumentError) as caught:
            loaded()
        found = {problem.code for problem in caught.value.problems}
        assert codes <= found, (content, found)
    script.write_text(sql, "utf-8")
    assert "CatalogService.ListDepartments" in loaded().operations
