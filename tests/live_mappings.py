"""The mappings of a pack, for a sample HIS whose tables lie elsewhere than the vendor's."""

from __future__ import annotations

import shutil
from pathlib import Path

from his_db.registry import load_sample

PACKS = Path(__file__).resolve().parents[1] / "his_db" / "packs"
# The opt-in Oracle sample lies in the schema of a user with a random name, beside which there is no NEUHIS.
_OWNERS = {"neusoft_oracle": "neuhis."}


def mappings_of(sample: str, folder: Path) -> Path:
    """The pack's own folder, or a copy in ``folder`` without the vendor's owner in front of the tables."""
    about = load_sample(sample)
    own = PACKS / about.name / about.mappings
    owner = _OWNERS.get(sample, "")
    if not owner:
        return own
    made = folder / "mappings"
    shutil.copytree(own, made)
    for path in made.rglob("*"):
        if path.suffix in (".toml", ".sql"):
            path.write_text(path.read_text(encoding="utf-8").replace(owner, ""), encoding="utf-8")
    return made
