"""Every call of every pack has its own `[[test]]`: a success, each answer that it names, and one that it does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from his_db.mapping.convert_in import code_text
from his_db.mapping.load import load_mapping_set
from his_db.mapping.model import MappingSet, OperationMapping
from his_db.mapping.trial import run_tests

PACKS = Path(__file__).resolve().parents[3] / "his_db" / "packs"
ENGINES = {
    "bsoft/mappings": "mysql",
    "neusoft/mappings": "oracle",
    "neusoft/mappings_postgresql": "postgresql",
    "winning/mappings": "postgresql",
    "winning_mssql/mappings": "mssql",
    "zebone/mappings": "sqlite",
}


@pytest.fixture(scope="module", params=sorted(ENGINES))
def pack(request: pytest.FixtureRequest) -> MappingSet:
    folder = PACKS / request.param
    return load_mapping_set(folder, sources={"his": ENGINES[request.param]}, timezone="Asia/Shanghai")


def test_all_folders_are_listed() -> None:
    found = {path.relative_to(PACKS).as_posix() for path in PACKS.glob("*/mappings*") if path.is_dir()}
    assert found == ENGINES.keys()


def test_they_pass(pack: MappingSet) -> None:
    failed = [f"{item.mapping} {item.name}: {item.problems}" for item in run_tests(pack) if not item.passed]
    assert failed == []


def test_every_call_has_a_success_and_every_answer(pack: MappingSet) -> None:
    missing = [
        f"{mapping.document.file}: {what}"
        for mapping in pack.operations.values()
        if not mapping.operation.is_read and mapping.kind in {"procedure", "steps"}
        for what in untested(mapping)
    ]
    assert missing == []


def untested(mapping: OperationMapping) -> Iterator[str]:
    """What the file says and no `[[test]]` of it shows."""
    expected = [test.values["expect"] for test in mapping.tests]
    if not any("reason" not in expect for expect in expected):
        yield "a success"
    if mapping.kind == "steps":
        for item in mapping.values["step"]:
            if "fails" in item and not any(expect.get("reason") == item["fails"] for expect in expected):
                yield f"step {item['name']} fails {item['fails']}"
        for at, item in enumerate(mapping.values["diagnosis"], 1):
            fits = (test.values.get("diagnosis") == at for test in mapping.tests)
            if not any(fits):
                yield f"diagnosis {at} {item['reason']}"
        return
    table = mapping.values["outcome"]
    answers = [(*answer_of(test.values, table), test.values["expect"].get("reason", "")) for test in mapping.tests]
    for line in table["errors"]:
        code = code_text(line["is"]) if "is" in line else None
        if not any(
            (code is None or code == given) and line.get("text", "") in sentence and reason == line["reason"]
            for given, sentence, reason in answers
        ):
            yield f"{line}"
    other = "OUTCOME_UNKNOWN" if table["otherwise"] == "unknown" else table["otherwise"]
    named = {code_text(line["is"]) for line in table["errors"] if "is" in line and "text" not in line}
    if not any(reason == other and given not in named for given, _, reason in answers):
        yield f"otherwise {other}"


def answer_of(test: Mapping[str, Any], table: Mapping[str, Any]) -> tuple[str, str]:
    """Code and sentence that the HIS of a test answers."""
    row = next(iter(test.get("rows", [])), {})
    found = {**row, **test.get("returns", {})}

    def text(source: Any) -> str:
        name = source["column"] if isinstance(source, Mapping) else source
        return code_text(found[name]) if name in found else ""

    return text(table["from"]), text(table.get("text", ""))
