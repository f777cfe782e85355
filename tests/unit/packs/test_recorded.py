"""Every recorded sample, replayed through every mapping set it is meant for: the same message, the same refusal."""

from __future__ import annotations

import copy
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from agent import cli
from his_db import contract
from his_db.generation import Generation, compile_generation
from his_db.mapping.load import MappingSet, load_mapping_set
from his_db.workbench.recorded import Case, cases, run_recordings

PACKS = Path(__file__).resolve().parents[3] / "his_db" / "packs"
# Pack, mapping folder, engine (Oracle tells column names in upper case)
SETS = (
    ("zebone", "mappings", "sqlite"),
    ("winning", "mappings", "postgresql"),
    ("bsoft", "mappings", "mysql"),
    ("neusoft", "mappings", "oracle"),
    ("neusoft", "mappings_postgresql", "postgresql"),
    ("winning_mssql", "mappings", "mssql"),
)
Played = tuple[MappingSet, Generation, Path]


def set_of(pack: str, folder: str, engine: str) -> Played:
    mapping = load_mapping_set(PACKS / pack / folder, sources={"his": engine}, timezone="Asia/Shanghai")
    return mapping, compile_generation(mapping), PACKS / pack / "sample" / "recorded"


@pytest.fixture(scope="module", params=SETS, ids=lambda item: f"{item[0]}-{item[2]}")
def played(request: pytest.FixtureRequest) -> Played:
    return set_of(*request.param)


def test_recorded_answers_become_the_recorded_messages(played: Played) -> None:
    mapping, generation, folder = played
    outcomes = run_recordings(folder, mapping, generation)
    assert [str(problem) for outcome in outcomes for problem in outcome.problems] == []
    assert len(outcomes) == sum(len(found) for found in cases(folder).values()) > 30


def test_every_mapped_operation_is_recorded_and_writes_with_a_refusal(played: Played) -> None:
    _, generation, folder = played
    recorded = cases(folder)
    by_operation: dict[str, list[Case]] = {}
    for found in recorded.values():
        for case in (case for case in found if "operation" in case):
            by_operation.setdefault(case["operation"], []).append(case)
    assert set(by_operation) == set(generation.operations)
    for name, found in by_operation.items():
        assert any("response" in case for case in found), name
        if (
            not contract.operation(name).is_read and name != "AppointmentService.UnlockSlot"
        ):  # it may have nothing to refuse
            assert any("refused" in case for case in found), name
    assert {case["watch"] for found in recorded.values() for case in found if "watch" in case} == set(
        generation.watches
    )


# --- what a recording finds, and what it does with files that are none ----------------------------------------------


@pytest.fixture(scope="module")
def zebone() -> Played:
    return set_of(*SETS[0])


def told(zebone: Played, folder: Path, *found: Any) -> list[list[str]]:
    """The problems of each of these cases."""
    (folder / "x.json").write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")
    mapping, generation, _ = zebone
    outcomes = run_recordings(folder, mapping, generation)
    assert {outcome.file for outcome in outcomes} == {"x.json"}
    for problem in (problem for outcome in outcomes for problem in outcome.problems):
        assert problem.code == "H239"
        assert problem.message != problem.message_zh
    return [[problem.message for problem in outcome.problems] for outcome in outcomes]


def one(zebone: Played, name: str, sort: str = "response") -> Case:
    return copy.deepcopy(next(case for case in cases(zebone[2])[name] if sort in case))


def test_what_comes_out_otherwise_is_told_with_its_place(zebone: Played, tmp_path: Path) -> None:
    departments, refusal = one(zebone, "ListDepartments"), one(zebone, "LockSlot", "refused")
    departments["response"]["departments"][1]["name"] = "别的科"
    refusal["refused"]["reason"] = "REASON_SLOT_TAKEN"
    first, second, whole = told(zebone, tmp_path, departments, refusal, one(zebone, "ListDoctors"))
    assert [line.split(" = ")[0] for line in first] == ["not as recorded: response.departments.1.name"]
    assert '"别的科" → ' in first[0]
    assert "refused.reason" in second[0]
    assert whole == []


def test_a_renamed_column_a_missing_row_and_a_new_code_are_seen(zebone: Played, tmp_path: Path) -> None:
    renamed, gone, code = (one(zebone, name) for name in ("ListDepartments", "ListDoctors", "ListSchedules"))
    found = renamed["exchanges"][0]["set"]
    found["columns"] = ["KSMC_2" if name.lower() == "dept_name" else name for name in found["columns"]]
    del gone["exchanges"][0]["set"]["rows"][-2:]  # the last one only says that there is another page
    columns = [name.lower() for name in code["exchanges"][0]["set"]["columns"]]
    code["exchanges"][0]["set"]["rows"][0][columns.index("dateslot")] = "0909"
    first, second, third = told(zebone, tmp_path, renamed, gone, code)
    assert first[0].startswith("the call failed: MAPPING_MISMATCH")
    assert "dept_name" in first[0].lower()
    assert "response.doctors.length = 3 → 2" in " ".join(second)
    assert third[0].startswith("the call failed: MAPPING_MISMATCH")
    assert "period" in third[0]


def test_other_statements_and_what_is_not_mapped_any_more(zebone: Played, tmp_path: Path) -> None:
    more, fewer, watch = one(zebone, "LockSlot"), one(zebone, "LockSlot"), one(zebone, "watch_orders", "messages")
    more["exchanges"].append(more["exchanges"][-1])
    fewer["exchanges"].pop()
    watch["messages"][0]["order_no"] = "T160"
    removed, away = one(zebone, "LockSlot"), one(zebone, "watch_orders", "messages")
    removed["operation"], away["watch"] = "PaymentService.CreatePayment", "nothing"
    called = one(zebone, "LockSlot")
    called["exchanges"][0] = {"called": "usp_x", "out": {}, "sets": []}
    lines = told(zebone, tmp_path, more, fewer, watch, removed, away, called)
    other = "the mapping sends other statements than were recorded: AppointmentService.LockSlot"
    assert [lines[0], lines[1], lines[5]] == [[other]] * 3
    assert "messages.0.order_no" in lines[2][0]
    assert lines[3] == ["not mapped any more: PaymentService.CreatePayment"]
    assert lines[4] == ["not mapped any more: nothing"]


def test_what_is_no_recording_is_told(zebone: Played, tmp_path: Path) -> None:
    no_request = one(zebone, "LockSlot")
    del no_request["request"]
    strange = one(zebone, "LockSlot")
    strange["request"]["no_such_field"] = 1
    odd = one(zebone, "ListDepartments")
    odd["exchanges"][0]["set"]["rows"][0] = [{"decimal": "x", "more": 1}]
    lines = told(zebone, tmp_path, {}, no_request, strange, odd)
    assert lines[0] == ["not mapped any more: ?"]
    assert [line[0].split(":")[0] for line in lines[1:]] == ["not a recorded case"] * 3
    (tmp_path / "x.json").write_text("[", encoding="utf-8")
    with pytest.raises(ValueError, match="Expecting"):
        run_recordings(tmp_path, zebone[0], zebone[1])


def run(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = cli.run(["mapping", "test", "--source-url", "sqlite:///nowhere.db", *arguments])
    said = capsys.readouterr()
    return code, said.out + said.err


def test_mapping_test_runs_the_recordings_of_a_pack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that lie beside the mappings by themselves; of another folder with --recorded."""
    code, said = run("--mapping", "pack:zebone", capsys=capsys)
    assert code == 0
    assert "录制 recorded 1" in said
    total = int(re.findall(r"共 (\d+) 项，失败 0", said)[0])
    shutil.copytree(PACKS / "zebone" / "mappings", tmp_path / "mine")
    code, said = run("--mapping", str(tmp_path / "mine"), capsys=capsys)
    alone = int(re.findall(r"共 (\d+) 项，失败 0", said)[0])
    recorded = PACKS / "zebone" / "sample" / "recorded"
    assert total == alone + sum(len(found) for found in cases(recorded).values())
    code, said = run("--mapping", str(tmp_path / "mine"), "--recorded", str(recorded), "--json", capsys=capsys)
    assert code == 0
    assert len(json.loads(said)["tests"]) == total
    column = tmp_path / "mine" / "catalog" / "list_departments.toml"
    text = column.read_text(encoding="utf-8")
    column.write_text(text.replace('to = "name", column = "dept_name"', 'to = "name", const = "科"'), encoding="utf-8")
    code, said = run("--mapping", str(tmp_path / "mine"), "--recorded", str(recorded), capsys=capsys)
    assert code == 1
    assert "ListDepartments.json:1:1: error H239" in said


def test_a_folder_of_recordings_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (tmp_path / "nowhere", tmp_path):
        code, said = run("--mapping", "pack:zebone", "--recorded", str(folder), capsys=capsys)
        assert code == 2
        assert str(folder) in said  # a folder without a recording proves nothing
    (tmp_path / "x.json").write_text("{", encoding="utf-8")
    assert run("--mapping", "pack:zebone", "--recorded", str(tmp_path), capsys=capsys)[0] == 2
