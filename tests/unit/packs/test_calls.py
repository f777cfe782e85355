"""The statement that each procedure mapping of the two packs sends: compared with golden files, for no such server is here.

Write them anew: `python tests/unit/packs/test_calls.py`, and read the difference.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from his_db.engine import Parameter, ParameterKind, ProcedurePlan
from his_db.mapping.load import load_mapping_set
from his_db.mssql_call import batch_for
from his_db.oracle_call import call_for

PACKS = Path(__file__).resolve().parents[3] / "his_db" / "packs"
GOLDEN = Path(__file__).with_name("golden")


def plans(pack: str, engine: str) -> dict[str, ProcedurePlan]:
    mapping = load_mapping_set(PACKS / pack / "mappings", sources={"his": engine}, timezone="Asia/Shanghai")
    return {
        name: ProcedurePlan(
            object=operation.values["object"],
            parameters=tuple(
                Parameter(item.name, ParameterKind(item.direction), item.type) for item in operation.params
            ),
        )
        for name, operation in sorted(mapping.operations.items())
        if "object" in operation.values and "outcome" in operation.values
    }


def statements(pack: str, engine: str) -> str:
    found = []
    for name, plan in plans(pack, engine).items():
        sql = batch_for(plan).sql if engine == "mssql" else call_for(plan).sql
        found.append(f"-- {name}\n{sql}\n")
    return "\n".join(found)


@pytest.mark.parametrize(("pack", "engine"), [("neusoft", "oracle"), ("winning_mssql", "mssql")])
def test_calls_are_the_golden_ones(pack: str, engine: str) -> None:
    assert len(plans(pack, engine)) == {"neusoft": 10, "winning_mssql": 10}[pack]
    assert statements(pack, engine) == (GOLDEN / f"{pack}_{engine}.sql").read_text(encoding="utf-8")


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for pack, engine in (("neusoft", "oracle"), ("winning_mssql", "mssql")):
        (GOLDEN / f"{pack}_{engine}.sql").write_text(statements(pack, engine), encoding="utf-8")
