"""Whatever a DBA does to a good file, the check answers with problems or the set compiles; nothing else is raised."""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path

import pytest

from his_db.document.problem import DocumentError
from his_db.generation import compile_generation
from his_db.mapping.load import load_mapping_set

PACKS = Path(__file__).resolve().parents[3] / "his_db" / "packs"
JUNK = [
    '""',
    "0",
    "-1",
    "true",
    "[]",
    "{}",
    '"x"',
    "1.5",
    "2026-01-01",
    "nan",
    '"\\u0000"',
    '["a"]',
    "[{}]",
    '"$now"',
    '"a.b"',
]
ENGINES = {"zebone": "sqlite", "winning": "postgresql"}


def mutate(text: str, chance: random.Random) -> str:
    lines = text.split("\n")
    at = chance.randrange(len(lines))
    choice = chance.randrange(6)
    if choice == 0:
        del lines[at]
    elif choice == 1:
        lines.insert(at, chance.choice(lines))
    elif choice == 2:
        lines[at] = re.sub(r"= .*", lambda _: f"= {chance.choice(JUNK)}", lines[at], count=1)
    elif choice == 3:
        words = re.findall(r'"[^"]*"', lines[at])
        if words:
            lines[at] = lines[at].replace(chance.choice(words), chance.choice(JUNK), 1)
    elif choice == 4:
        cut = chance.randrange(len(lines[at]) + 1)
        lines[at] = lines[at][:cut] + chance.choice("\"'[]{}=:;,.x\0\u3000") + lines[at][cut:]
    else:
        names = re.findall(r"[a-z_]{3,}", lines[at])
        if names:
            lines[at] = lines[at].replace(chance.choice(names), chance.choice(names) + "x", 1)
    return "\n".join(lines)


@pytest.mark.parametrize("pack", sorted(ENGINES))
def test_mutations(pack: str, tmp_path: Path) -> None:
    chance = random.Random(pack)
    codes = tmp_path / "set"
    originals = sorted((PACKS / pack / "mappings").rglob("*.toml"))
    maps = [path for path in originals if path.parent.name == "codes"]
    for round_ in range(40):
        shutil.rmtree(codes, ignore_errors=True)
        codes.mkdir()
        # Two files at a time, beside the code maps: a whole pack for each round would take minutes.
        for number, path in enumerate({*maps, *chance.sample(originals, 2)}):
            text = path.read_text(encoding="utf-8")
            for _ in range(chance.randrange(3)):
                text = mutate(text, chance)
            (codes / f"{number}-{round_}.toml").write_text(text, encoding="utf-8")
        try:
            found = load_mapping_set(codes, sources={"his": ENGINES[pack]}, timezone="Asia/Shanghai")
        except DocumentError as error:
            assert error.problems
            str(error)
        else:
            compile_generation(found)


@pytest.mark.parametrize("pack", sorted(ENGINES))
def test_the_packs_have_no_problem(pack: str) -> None:
    found = load_mapping_set(PACKS / pack / "mappings", sources={"his": ENGINES[pack]}, timezone="Asia/Shanghai")
    assert compile_generation(found).operations
