"""What config.toml and a gateway's mapping both say of 医保: a difference stops ``his160 check``, the start and a reload."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.cli import run
from agent.config_money import InsuranceSettings
from agent.insurance_check import check_agreement
from agent.mapping_compiler import MappingCompiler
from his_db import registry
from his_db.document.problem import DocumentError
from his_db.mapping.load import load_mapping_set

SOURCES = {"insurance": "http", "mobile": "http"}
INSTITUTION = "H44030400001"
CONFIG = """\
[site]
code = "440305001"
[source.insurance]
engine = "http"
database = "http://127.0.0.1:1"
[source.mobile]
engine = "http"
database = "http://127.0.0.1:1"
[mapping]
path = "mappings"
[server]
enabled = true
insecure = true
[delivery]
sink = "pull"
[insurance]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The mappings that two simulators give out."""
    place = tmp_path / "mappings"
    place.mkdir()
    for name in SOURCES:
        made = registry.load(registry.SIMULATORS[name])().prepare(tmp_path / name, "http://127.0.0.1:1")
        (place / made.name).write_text(made.read_text(encoding="utf-8"), encoding="utf-8")
    return place


def add(folder: Path, name: str, line: str) -> None:
    """One more option: the tables of the file come last."""
    file = folder / name
    file.write_text(file.read_text(encoding="utf-8").replace("[options]\n", f"[options]\n{line}\n"), encoding="utf-8")


def found(folder: Path, insurance: InsuranceSettings) -> list[tuple[str, int, str]]:
    mappings = load_mapping_set(folder, sources=SOURCES, timezone="Asia/Shanghai")
    try:
        check_agreement(mappings, insurance)
    except DocumentError as error:
        return sorted((problem.place.file, problem.place.line, problem.code) for problem in error.problems)
    return []


def test_what_agrees_is_good(folder: Path) -> None:
    assert found(folder, InsuranceSettings()) == found(folder, InsuranceSettings(institution=INSTITUTION)) == []
    for name in ("insurance2.toml", "mobile_payment.toml"):
        add(folder, name, 'family_account = "beside"')
    assert found(folder, InsuranceSettings(family_apart=True)) == []


def test_every_gateway_that_says_otherwise_is_named_with_its_line(folder: Path) -> None:
    add(folder, "insurance2.toml", 'family_account = "beside"')
    add(folder, "mobile_payment.toml", 'family_account = "beside"')
    text = (folder / "insurance2.toml").read_text(encoding="utf-8").splitlines()
    at = text.index('family_account = "beside"') + 1
    problems = found(folder, InsuranceSettings(institution="H99999999999"))
    assert ("insurance2.toml", at, "H715") in problems
    assert [file for file, _, _ in problems] == ["insurance2.toml", "insurance2.toml", "mobile_payment.toml"]


def test_an_option_that_is_left_out_counts_with_its_default(folder: Path) -> None:
    assert [file for file, _, _ in found(folder, InsuranceSettings(family_apart=True))] == [
        "insurance2.toml",
        "mobile_payment.toml",
    ]


def test_the_check_says_so(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.toml"
    config.write_text(CONFIG + 'family_account = "in"\n', encoding="utf-8")
    assert run(["check", "--config", str(config)]) == 0
    config.write_text(CONFIG + 'family_account = "apart"\n', encoding="utf-8")
    assert run(["check", "--config", str(config)]) == 78
    told = capsys.readouterr().err
    assert told.count("H715") == 2
    assert "金额会对不上" in told


def test_a_reload_that_does_not_agree_is_refused(folder: Path) -> None:
    compiler = MappingCompiler(
        SOURCES, "Asia/Shanghai", agrees=lambda mappings: check_agreement(mappings, InsuranceSettings())
    )
    try:
        compiler(folder)
        add(folder, "insurance2.toml", 'family_account = "beside"')
        with pytest.raises(DocumentError):
            compiler(folder)
    finally:
        compiler.close()
