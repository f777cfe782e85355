"""Every problem of a mapping file, each at its place: golden files in `broken/`, with what is expected at their end."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from his_db.document.problem import DocumentError, Severity
from his_db.mapping.finding import CODES
from his_db.mapping.load import load_mapping_set

BROKEN = Path(__file__).parent / "broken"
EXPECT = re.compile(r"^# expect (\d+:\d+ [HW]\d+)$", re.MULTILINE)
GET_APPOINTMENT = """
schema = 1
operation = "AppointmentService.GetAppointment"
kind = "query"
sql = "SELECT id, state FROM t WHERE id = :order_no"
[[result]]
fields = [ { to = "appointment.appointment_id", column = "id" }, { to = "appointment.state", column = "state" } ]
"""
PERIOD = """
schema = 1
codes = "period"
map = [ { his = "1", is = "MORNING" }, { his = "2", is = "MORNING" } ]
"""


def found_in(name: str, folder: Path) -> list[str]:
    """`line:column code` of every problem of the file; W for warnings."""
    text = (BROKEN / name).read_text(encoding="utf-8")
    (folder / name).write_text(text, encoding="utf-8")
    if 'operation = "AppointmentService.GetAppointment"' not in text:
        (folder / "zz_good.toml").write_text(GET_APPOINTMENT, encoding="utf-8")
    (folder / "zz_codes.toml").write_text(PERIOD, encoding="utf-8")
    with pytest.raises(DocumentError) as caught:
        load_mapping_set(folder, sources={"his": "sqlite", "pay": "http", "old": "access"}, timezone="Asia/Shanghai")
    found = []
    for problem in caught.value.problems:
        assert problem.message, problem
        assert problem.message_zh, problem
        assert not re.search(r"[\u4e00-\u9fff]", problem.message), problem
        assert problem.message.isprintable()
        if problem.place.file == name:
            letter = "W" if problem.severity is Severity.WARNING else "H"
            found.append(f"{problem.place.line}:{problem.place.column} {letter}{problem.code[1:]}")
    return found


@pytest.mark.parametrize("name", sorted(path.name for path in BROKEN.glob("*.toml")))
def test_broken(name: str, tmp_path: Path) -> None:
    expected = EXPECT.findall((BROKEN / name).read_text(encoding="utf-8"))
    assert expected, "write what is expected at the end of the file"
    assert found_in(name, tmp_path) == expected


def test_every_code_is_in_the_table_and_met() -> None:
    met = {
        f"H{code[-3:]}" for path in BROKEN.glob("*.toml") for code in EXPECT.findall(path.read_text(encoding="utf-8"))
    }
    own = {code for code in met if code[1] in "234"}
    assert own <= CODES.keys()
    assert (
        CODES.keys() - own
        <= {
            "H202",
            "H234",
            "H239",
            "H241",
            "H242",
        }
    )  # two files: below, test_language.py; a test that fails: test_trial.py; no operation: test_language.py; a set: gateways


def test_duplicates_name_both_places(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("a/one.toml", "two.toml"):
        (tmp_path / name).write_text(GET_APPOINTMENT, encoding="utf-8")
    for name in ("c1.toml", "c2.toml"):
        (tmp_path / name).write_text(PERIOD, encoding="utf-8")
    with pytest.raises(DocumentError) as caught:
        load_mapping_set(tmp_path, sources={"his": "sqlite"}, timezone="Asia/Shanghai")
    codes, operation = sorted(caught.value.problems, key=lambda problem: problem.place.file)
    assert (operation.code, operation.place.file, operation.place.line) == ("H202", "two.toml", 3)
    assert "a/one.toml:3:13" in operation.message
    assert "a/one.toml:3:13" in operation.message_zh
    assert codes.code == "H202"
    assert "c1.toml:3:9" in codes.message


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DocumentError) as caught:
        load_mapping_set(tmp_path / "nowhere", sources={}, timezone="Asia/Shanghai")
    assert caught.value.problems[0].code == "H100"
