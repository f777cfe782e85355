"""Every recorded sample, replayed through every mapping set it is meant for: the same message, the same refusal."""

from __future__ import annotations

from pathlib import Path

import pytest

from his_db import contract
from his_db.generation import Generation, compile_generation
from his_db.mapping.load import load_mapping_set
from tests.unit.packs.recorded import Case, Replay, cases, replay, seen

PACKS = Path(__file__).resolve().parents[3] / "his_db" / "packs"
# Pack, mapping folder, engine, column names in upper case
SETS = (
    ("neusoft", "mappings", "oracle", True),
    ("neusoft", "mappings_postgresql", "postgresql", False),
    ("winning_mssql", "mappings", "mssql", False),
)


@pytest.fixture(scope="module", params=SETS, ids=lambda item: f"{item[0]}-{item[2]}")
def played(request: pytest.FixtureRequest) -> tuple[Generation, dict[str, list[Case]], bool]:
    pack, folder, engine, upper = request.param
    mapping = load_mapping_set(PACKS / pack / folder, sources={"his": engine}, timezone="Asia/Shanghai")
    return compile_generation(mapping), cases(PACKS / pack / "sample" / "recorded"), upper


def test_recorded_answers_become_the_recorded_messages(
    played: tuple[Generation, dict[str, list[Case]], bool],
) -> None:
    generation, recorded, upper = played
    for found in recorded.values():
        for case in found:
            if "watch" in case:
                session = Replay(case["exchanges"], upper)
                assert seen(generation.watches[case["watch"]], session) == case["messages"], case["watch"]
                continue
            expected = {key: value for key, value in case.items() if key != "operation"}
            assert replay(generation.operation(case["operation"]), case, upper=upper) == expected, case["operation"]


def test_every_mapped_operation_is_recorded_and_writes_with_a_refusal(
    played: tuple[Generation, dict[str, list[Case]], bool],
) -> None:
    generation, recorded, _ = played
    by_operation: dict[str, list[Case]] = {}
    for found in recorded.values():
        for case in (case for case in found if "operation" in case):
            by_operation.setdefault(case["operation"], []).append(case)
    assert set(by_operation) == set(generation.operations)
    for name, found in by_operation.items():
        assert any("response" in case for case in found), name
        if not contract.operation(name).is_read:
            assert any("refused" in case for case in found), name
    assert {case["watch"] for found in recorded.values() for case in found if "watch" in case} == set(
        generation.watches
    )
