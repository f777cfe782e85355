"""A folder of mapping files -> a checked mapping set, or every problem found in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class MappingSet:
    revision: str


def load_mapping_set(folder: Path, *, sources: Mapping[str, str], timezone: str) -> MappingSet:
    """`sources`: source name -> engine name. Raises DocumentError with all problems."""
    raise NotImplementedError
